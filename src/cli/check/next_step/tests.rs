//! A row for every cause. `tests/it/next_step.rs` tests the answers of real servers.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Uri};

use super::*;
use crate::openstack::{ReplyError, RequestLine, Responder, TlsProblem};
use crate::secret::KekLengthError;

/// Who was asked.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Keystone,
    /// As the catalog has it.
    Barbican,
    /// As `key-manager-endpoint` has it.
    Configured,
}

use Asked::{Barbican, Configured, Keystone};

fn endpoint(asked: Asked) -> Option<Endpoint> {
    match asked {
        Keystone => None,
        Barbican => Some(Endpoint::of_catalog("https://cloud/km", Some("4f0c"))),
        Configured => Some(Endpoint::of_setting(Uri::from_static("https://own/km/v1"))),
    }
}

fn request(problem: Problem) -> RequestError {
    RequestError {
        asked: RequestLine {
            method: Method::GET,
            url: "https://cloud/x".to_owned(),
        },
        problem,
    }
}

fn answer(status: u16, says: &str) -> Problem {
    Problem::Status {
        status: StatusCode::from_u16(status).expect("a status"),
        says: Excerpt::of_text(says),
        retry_after: None,
        keystones: true,
        responder: Responder::Barbican,
    }
}

fn redirect(location: &str) -> Problem {
    Problem::Redirect {
        status: StatusCode::FOUND,
        location: Excerpt::of_text(location),
    }
}

fn assert_step(asked: Asked, problem: Problem, step: &str) {
    let shown = format!("{asked:?}: {problem}");
    let error = Error::Unavailable(request(problem));
    let said = next_step(&error, endpoint(asked).as_ref());
    assert!(said.contains(step), "{shown}: {said}");
}

#[test]
fn the_next_step_of_a_request_follows_from_the_cause() {
    let status = StatusCode::NOT_FOUND;
    let of_barbican = |asked| Box::new(endpoint(asked).expect("Barbican's"));
    let payload = "https://new/km/v1/secrets/x/payload";
    for (asked, problem, step) in [
        (Keystone, redirect(""), "auth-url"),
        (
            Keystone,
            redirect("https://new/v3/auth/tokens"),
            "[Global]: https://new/v3",
        ),
        (
            Barbican,
            redirect(payload),
            "`openstack endpoint set --url https://new/km 4f0c`",
        ),
        (
            Barbican,
            redirect(payload),
            "in place of https://cloud/km/v1",
        ),
        (
            Barbican,
            redirect("/login"),
            "`openstack endpoint set --url URL 4f0c`",
        ),
        (
            Configured,
            redirect(payload),
            "key-manager-endpoint in [KeyManager]: it must be https://new/km,",
        ),
        (
            Barbican,
            Problem::WrongPath {
                status,
                endpoint: of_barbican(Barbican),
            },
            "`openstack endpoint set --url URL 4f0c`",
        ),
        (
            Configured,
            Problem::WrongPath {
                status,
                endpoint: of_barbican(Configured),
            },
            "correct key-manager-endpoint",
        ),
        (
            Barbican,
            Problem::NotBarbican {
                status,
                says: None,
                endpoint: of_barbican(Barbican),
            },
            "in front of Barbican",
        ),
        (
            Configured,
            Problem::NotBarbican {
                status,
                says: None,
                endpoint: of_barbican(Configured),
            },
            "correct key-manager-endpoint",
        ),
        (
            Keystone,
            Problem::NotKeystone { status, says: None },
            "end in /v3",
        ),
        (
            Keystone,
            answer(502, ""),
            "Keystone reports an internal error",
        ),
        (
            Barbican,
            answer(500, ""),
            "Barbican reports an internal error",
        ),
        (Barbican, answer(429, ""), "rate limit"),
        (Barbican, answer(418, ""), "openstack endpoint list"),
    ] {
        assert_step(asked, problem, step);
    }
}

#[test]
fn the_next_step_without_an_answer_follows_from_the_cause() {
    let limit = Duration::from_secs(1);
    let host = || "cloud".to_owned();
    for (asked, problem, step) in [
        (
            Keystone,
            Problem::Name {
                host: host(),
                cause: host(),
            },
            "/etc/resolv.conf",
        ),
        (
            Keystone,
            Problem::NameTimeout {
                host: host(),
                limit,
            },
            "/etc/resolv.conf",
        ),
        (Keystone, Problem::Connect(host()), "firewalls"),
        (Barbican, Problem::ConnectTimeout { limit }, "firewalls"),
        (
            Keystone,
            Problem::Proxy {
                proxy: host(),
                reason: host(),
            },
            "HTTPS_PROXY",
        ),
        (
            Keystone,
            Problem::Tls(TlsProblem::UnknownIssuer("CN=x".to_owned())),
            "ca-file",
        ),
        (Barbican, Problem::Timeout { limit }, "Barbican is too slow"),
        (Keystone, Problem::Broken(host()), "auth-url"),
        (Barbican, Problem::Broken(host()), "openstack endpoint list"),
        (Configured, Problem::Broken(host()), "key-manager-endpoint"),
        (Barbican, Problem::HeadTooLong { cap: 1 }, "curl -i"),
        (Barbican, Problem::TooLong { cap: 1 }, "curl -i"),
        (Keystone, Problem::Reply(ReplyError::NoToken), "auth-url"),
        (
            Barbican,
            Problem::Content {
                content: Excerpt::of_text("text/html").expect("text"),
                expected: "application/octet-stream",
            },
            "curl -i",
        ),
    ] {
        assert_step(asked, problem, step);
    }
}

#[test]
fn the_next_step_of_a_refusal_follows_from_the_cause() {
    let login = |status, says| Error::Login {
        refusal: Arc::new(request(answer(status, says))),
        again_in: Duration::from_secs(1),
    };
    let denied = |status| Error::Denied {
        refusal: request(answer(status, "")),
    };
    for (error, step) in [
        (
            login(401, "The request you have made requires authentication."),
            "openstack token issue",
        ),
        (
            login(401, "The account is locked for user: u"),
            "lockout_duration",
        ),
        (
            login(401, "The account is disabled for user: u"),
            "user set --enable",
        ),
        (
            login(
                401,
                "The password is expired and needs to be changed for user: u",
            ),
            "new password",
        ),
        (
            login(401, "{\"receipt\":{}, \"required_auth_methods\":[]}"),
            "second factor",
        ),
        (
            login(404, "Could not find Application Credential: x"),
            "correct the credentials",
        ),
        (login(404, "Not Found"), "end in /v3"),
        (denied(403), "the role `member`"),
        (denied(401), "access rule"),
        (
            Error::NotFound(request(answer(404, "d"))),
            "openstack secret get",
        ),
        (Error::NotAKey(KekLengthError::beyond(1)), "key-id"),
        (Error::NotBytes(request(answer(406, "d"))), "key-id"),
        (Error::Endpoint(EndpointError::NoCatalog), "tenant-id"),
    ] {
        let said = next_step(&error, None);
        assert!(said.contains(step), "{error}: {said}");
    }
}

#[test]
fn the_next_step_of_settings_names_the_setting() {
    assert!(of_settings(&SetupError::Url).contains("auth-url"));
}
