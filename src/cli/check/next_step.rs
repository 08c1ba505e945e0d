//! The next thing to do about a failure, by its cause: one table.
//!
//! Used by `check`. Pure. What went wrong is said beside it. Invariant: every entry
//! names a setting, a file, a command, or whom to ask.

use http::{Method, StatusCode};

use crate::openstack::{EndpointError, Error, Problem, RequestError, SetupError};

/// For settings of which no client can be made.
pub(super) fn of_settings(error: &SetupError) -> &'static str {
    match error {
        SetupError::Tls(_) => "correct ca-file, cert-file and key-file in [Global]",
        SetupError::Proxy(_) => {
            "correct HTTP_PROXY, HTTPS_PROXY or NO_PROXY in the environment of the pod"
        }
        SetupError::Url => "correct auth-url in [Global]",
    }
}

/// For an operation.
pub(super) fn next_step(error: &Error) -> String {
    match error {
        Error::Unavailable(error) => of_request(error),
        Error::Login { refusal, .. } => of_login(refusal).to_owned(),
        Error::Endpoint(error) => of_catalog(error).to_owned(),
        Error::Denied { refusal } => match refusal.problem.status() {
            Some(StatusCode::FORBIDDEN) => {
                "give the user the role `member` in the secret's project, or let it read the \
                 secret: `openstack acl user add --user USER_ID SECRET_HREF`"
            }
            _ => {
                "make an application credential with an access rule for this path; if there is \
                 one, Barbican's operator must set service_type = key-manager in \
                 [keystone_authtoken]"
            }
        }
        .to_owned(),
        Error::NotFound(_) => "look at it with `openstack secret get SECRET_HREF`; if it is there \
             as another user, or in another region, correct the credentials or region in [Global], \
             else key-id"
            .to_owned(),
        Error::NotAKey(_) => {
            "correct key-id in [KeyManager]: it names a secret that is no key".to_owned()
        }
    }
}

fn of_request(error: &RequestError) -> String {
    let login = error.asked.method == Method::POST;
    let (server, url) = if login {
        ("Keystone", "auth-url in [Global]")
    } else {
        (
            "Barbican",
            "Barbican's URL in the catalog (`openstack endpoint list --service key-manager`)",
        )
    };
    match &error.problem {
        Problem::Name { .. } | Problem::NameTimeout { .. } => {
            "correct the host name in the URL, or the DNS servers of the host (/etc/resolv.conf)"
                .to_owned()
        }
        Problem::Connect(_) | Problem::ConnectTimeout { .. } => format!(
            "check that {} is right and that its port can be reached from this host (routes, \
             firewalls; HTTPS_PROXY where there is a proxy)",
            error.asked.url
        ),
        Problem::Proxy { .. } => {
            "correct HTTPS_PROXY, or have the proxy let this host through, or \
             name the server in NO_PROXY"
                .to_owned()
        }
        Problem::Tls(problem) => problem.next_step().to_owned(),
        Problem::Timeout { .. } => format!("{server} is too slow: see its load and its log"),
        Problem::Broken(_) => format!("check scheme and port of {url}"),
        Problem::Status { status, .. } if status.is_server_error() => {
            format!("nothing is wrong here: see {server}'s own log")
        }
        Problem::Status { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => {
            format!("wait; if it goes on, have {server}'s operator raise the rate limit")
        }
        Problem::Status { .. } => format!("correct {url}, or see {server}'s own log"),
        Problem::NotKeystone { .. } => {
            "correct auth-url in [Global], which must lead to Keystone's root or end in /v3; if it \
             is right, see the log of the load balancer in front of Keystone"
                .to_owned()
        }
        Problem::NotBarbican { .. } => format!(
            "see the log of the load balancer or ingress in front of Barbican; if it is right, \
             correct {url}"
        ),
        Problem::Redirect { location, .. } if login => location.as_ref().map_or_else(
            || "write Keystone's final URL into auth-url in [Global]".to_owned(),
            |location| {
                format!("write the URL that it leads to into auth-url in [Global]: {location}")
            },
        ),
        Problem::WrongPath { .. } | Problem::Redirect { .. } => ENDPOINT_SET.to_owned(),
        Problem::HeadTooLong { .. }
        | Problem::TooLong { .. }
        | Problem::Content { .. }
        | Problem::Reply(_) => format!(
            "find out who answers there (`curl -i {}`): a proxy or a login page does, or {url} is \
             wrong",
            error.asked.url
        ),
    }
}

fn of_login(refusal: &RequestError) -> &'static str {
    let Problem::Status { status, says, .. } = &refusal.problem else {
        return CREDENTIALS;
    };
    let says = says
        .as_ref()
        .map_or_else(String::new, |says| says.to_string().to_ascii_lowercase());
    if says.contains("locked") {
        "the account is locked: wait until Keystone unlocks it (lockout_duration), or have it \
         unlocked; the credentials need not be wrong now"
    } else if says.contains("disabled") {
        "the account is disabled: `openstack user set --enable USER`"
    } else if says.contains("expired") {
        "make a new password or application credential, and write it into [Global]"
    } else if says.contains("required_auth_methods") || says.contains("receipt") {
        "the user needs a second factor, which nobody can give here: use an application credential"
    } else if *status == StatusCode::NOT_FOUND && !says.contains("credential") {
        "correct auth-url in [Global]: it must be Keystone's root or end in /v3"
    } else {
        CREDENTIALS
    }
}

fn of_catalog(error: &EndpointError) -> &'static str {
    match error {
        EndpointError::NoCatalog => {
            "set tenant-id or tenant-name in [Global], or use an application credential"
        }
        EndpointError::NoService(_) => {
            "have the cloud's operator add Barbican to the catalog (`openstack service create \
             --name barbican key-manager`, `openstack endpoint create`)"
        }
        EndpointError::NoEndpoint { .. } => {
            "correct region or os-endpoint-type in [Global]: the endpoints that there are stand \
             beside"
        }
        EndpointError::Url(_) => ENDPOINT_SET,
    }
}

const CREDENTIALS: &str =
    "correct the credentials in [Global]: `openstack token issue` with the same ones must work";

const ENDPOINT_SET: &str = "have the cloud's operator run `openstack endpoint set --url URL ID` \
     with Barbican's final URL (`openstack endpoint list --service key-manager` shows the ID)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openstack::{RequestLine, TlsProblem};

    fn failed(method: Method, problem: Problem) -> String {
        of_request(&RequestError {
            asked: RequestLine {
                method,
                url: "https://cloud/x".to_owned(),
            },
            problem,
        })
    }

    #[test]
    fn the_next_step_follows_from_the_cause() {
        let status = StatusCode::NOT_FOUND;
        let endpoint = "https://cloud/km/v1".to_owned();
        let redirect = || Problem::Redirect {
            status: StatusCode::FOUND,
            location: None,
        };
        let answers = |status| Problem::Status {
            status,
            says: None,
            retry_after: None,
            keystones: false,
            barbicans: false,
        };
        let broken = || Problem::Broken("x".to_owned());
        for (method, problem, step) in [
            (Method::GET, redirect(), "openstack endpoint set --url"),
            (Method::POST, redirect(), "auth-url"),
            (
                Method::GET,
                Problem::WrongPath {
                    status,
                    endpoint: endpoint.clone(),
                },
                "openstack endpoint set --url",
            ),
            (
                Method::GET,
                Problem::NotBarbican {
                    status,
                    says: None,
                    endpoint,
                },
                "in front of Barbican",
            ),
            (
                Method::POST,
                Problem::NotKeystone { status, says: None },
                "end in /v3",
            ),
            (
                Method::POST,
                answers(StatusCode::BAD_GATEWAY),
                "Keystone's own log",
            ),
            (
                Method::GET,
                answers(StatusCode::BAD_GATEWAY),
                "Barbican's own log",
            ),
            (
                Method::GET,
                answers(StatusCode::TOO_MANY_REQUESTS),
                "rate limit",
            ),
            (Method::POST, broken(), "auth-url"),
            (Method::GET, broken(), "openstack endpoint list"),
            (
                Method::CONNECT,
                Problem::Connect("x".to_owned()),
                "firewalls",
            ),
            (
                Method::CONNECT,
                Problem::Tls(TlsProblem::UnknownIssuer("CN=x".to_owned())),
                "ca-file",
            ),
        ] {
            let shown = format!("{problem}");
            let said = failed(method, problem);
            assert!(said.contains(step), "{shown}: {said}");
        }
        let error = Error::Endpoint(EndpointError::NoCatalog);
        assert!(next_step(&error).contains("tenant-id"));
        assert!(of_settings(&SetupError::Url).contains("auth-url"));
    }
}
