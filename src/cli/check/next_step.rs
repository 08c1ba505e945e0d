//! The next thing to do about a failure, by its cause: one table.
//!
//! Used by `check`. Pure. What went wrong is said beside it. Invariant: every entry
//! names a setting, a file, a command, or whom to ask.

use http::StatusCode;

use crate::openstack::{
    Endpoint, EndpointError, Error, Excerpt, Problem, RequestError, SetupError,
};

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

/// For an operation; `endpoint` is Barbican's, where it was asked.
pub(super) fn next_step(error: &Error, endpoint: Option<&Endpoint>) -> String {
    match error {
        Error::Unavailable(error) => of_request(error, endpoint),
        Error::Login { refusal, .. } => of_login(refusal).to_owned(),
        Error::Endpoint(error) => of_catalog(error).to_owned(),
        Error::Denied { refusal } => match refusal.problem.status() {
            Some(StatusCode::FORBIDDEN) => {
                "give the user the role `member` in the secret's project, or let it read the \
                 secret: `openstack acl user add --user USER_ID SECRET_HREF`"
            }
            _ => {
                "create an application credential with an access rule for this path; if there is \
                 one, Barbican's operator must set service_type = key-manager in \
                 [keystone_authtoken]"
            }
        }
        .to_owned(),
        Error::NotFound(_) => "run `openstack secret get SECRET_HREF`; if another user can read \
                               it, or it is in another region, correct the credentials or region \
                               in [Global], otherwise key-id"
            .to_owned(),
        Error::NotAKey(_) | Error::NotBytes(_) => {
            "correct key-id in [KeyManager]: it names a secret that is not a key".to_owned()
        }
    }
}

fn of_request(error: &RequestError, endpoint: Option<&Endpoint>) -> String {
    let (server, url) = match endpoint {
        None => ("Keystone", "auth-url in [Global]"),
        Some(endpoint) if endpoint.is_of_setting() => {
            ("Barbican", "key-manager-endpoint in [KeyManager]")
        }
        Some(_) => (
            "Barbican",
            "Barbican's URL in the catalog (`openstack endpoint list --service key-manager`)",
        ),
    };
    match &error.problem {
        Problem::Name { .. } | Problem::NameTimeout { .. } => {
            "correct the host name in the URL, or the DNS servers of the host (/etc/resolv.conf)"
                .to_owned()
        }
        Problem::Connect(_) | Problem::ConnectTimeout { .. } => format!(
            "check that {} is right and that its port can be reached from this host (routes, \
             firewalls; HTTPS_PROXY if there is a proxy)",
            error.asked.url
        ),
        Problem::Proxy { .. } => {
            "correct HTTPS_PROXY, or allow this host in the proxy, or add the server to NO_PROXY"
                .to_owned()
        }
        Problem::Tls(problem) => problem.next_step().to_owned(),
        Problem::Timeout { .. } => format!("{server} is too slow: check its load and its log"),
        Problem::Broken(_) => format!("check scheme and port of {url}"),
        Problem::Status { status, .. } if status.is_server_error() => {
            format!(
                "{server} reports an internal error: its operator can find the cause in its log"
            )
        }
        Problem::Status { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => {
            format!("wait; if it continues, ask {server}'s operator to raise the rate limit")
        }
        Problem::Status { .. } => {
            format!(
                "correct {url}; if it is right, {server}'s operator can find the cause in its \
                     log"
            )
        }
        Problem::NotKeystone { .. } => {
            "correct auth-url in [Global], which must be Keystone's root or end in /v3; if it is \
             right, see the log of the load balancer in front of Keystone"
                .to_owned()
        }
        Problem::NotBarbican { .. } => format!(
            "see the log of the load balancer or ingress in front of Barbican; if it is right, \
             correct {url}"
        ),
        Problem::Redirect { location, .. } => of_redirect(location.as_ref(), endpoint),
        Problem::WrongPath { endpoint, .. } => endpoint_set(Some(endpoint), None),
        Problem::HeadTooLong { .. }
        | Problem::TooLong { .. }
        | Problem::Content { .. }
        | Problem::Reply(_) => format!(
            "find out what answers there (`curl -i {}`): a proxy or a login page, or {url} is wrong",
            error.asked.url
        ),
    }
}

fn of_redirect(location: Option<&Excerpt>, endpoint: Option<&Endpoint>) -> String {
    let location = location.map(ToString::to_string);
    match (endpoint, location) {
        (None, None) => "write Keystone's final URL into auth-url in [Global]".to_owned(),
        (None, Some(location)) => {
            // Of the URL that leads there, the login's own path is no part.
            let base = location.strip_suffix("/auth/tokens").unwrap_or(&location);
            format!("write the target of the redirect into auth-url in [Global]: {base}")
        }
        (Some(_), location) => {
            let base = location.as_deref().and_then(|location| {
                let (base, _) = location.split_once("/v1/secrets/")?;
                base.contains("://").then_some(base)
            });
            endpoint_set(endpoint, base)
        }
    }
}

/// Who must change Barbican's URL, and to what where that is known.
fn endpoint_set(endpoint: Option<&Endpoint>, new: Option<&str>) -> String {
    let url = new.map_or_else(
        || "Barbican's root, or end in /v1".to_owned(),
        |new| format!("{new}, the target of the redirect"),
    );
    if endpoint.is_some_and(Endpoint::is_of_setting) {
        return format!("correct key-manager-endpoint in [KeyManager]: it must be {url}");
    }
    let id = endpoint.and_then(Endpoint::id);
    let command = format!(
        "openstack endpoint set --url {} {}",
        new.unwrap_or("URL"),
        id.unwrap_or("ID")
    );
    let whose = if id.is_none() {
        " (`openstack endpoint list --service key-manager` shows the ID)"
    } else {
        ""
    };
    let old = endpoint.map_or_else(String::new, |endpoint| format!(" in place of {endpoint}"));
    format!(
        "ask the cloud's operator to run `{command}`{old}{whose}, or set key-manager-endpoint in \
         [KeyManager]; the URL must be {url}"
    )
}

fn of_login(refusal: &RequestError) -> &'static str {
    let Problem::Status { status, says, .. } = &refusal.problem else {
        return CREDENTIALS;
    };
    let says = says
        .as_ref()
        .map_or_else(String::new, |says| says.to_string().to_ascii_lowercase());
    if says.contains("could not find") {
        // A credential or a trust, by its id.
        CREDENTIALS
    } else if says.contains("locked") {
        "the account is locked: wait until Keystone unlocks it (lockout_duration), or ask the \
         administrator to unlock it; the credentials may be correct"
    } else if says.contains("disabled") {
        "the account is disabled: `openstack user set --enable USER`"
    } else if says.contains("expired") {
        "create a new password or application credential, and write it into [Global]"
    } else if says.contains("required_auth_methods") || says.contains("receipt") {
        "the user needs a second factor, which the sidecar cannot provide: use an application \
         credential"
    } else if *status == StatusCode::NOT_FOUND {
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
            "ask the cloud's operator to add Barbican to the catalog (`openstack service create \
             --name barbican key-manager`, `openstack endpoint create`), or set \
             key-manager-endpoint in [KeyManager]"
        }
        EndpointError::NoEndpoint { .. } => {
            "correct region or os-endpoint-type in [Global]: the message lists the existing \
             endpoints; or set key-manager-endpoint in [KeyManager]"
        }
        EndpointError::Url(_) => {
            "ask the cloud's operator to run `openstack endpoint set --url URL ID` (`openstack \
             endpoint list --service key-manager` shows the ID), or set key-manager-endpoint in \
             [KeyManager]"
        }
    }
}

/// Keystone does not tell these apart, lest it tells a stranger.
const CREDENTIALS: &str = "correct the credentials in [Global]: `openstack token issue` with the \
                           same ones must work; Keystone gives the same answer for a wrong name, \
                           domain or password, for a user that is disabled or locked after wrong \
                           passwords, and for a project that is disabled or in which the user has \
                           no role";

#[cfg(test)]
mod tests;
