//! Where a provider's endpoint leads: a URL as Go parses it, of which kube-apiserver
//! takes the path and nothing else.

/// Linux takes no longer path of a socket.
const LONGEST_PATH: usize = 107;

/// Why an endpoint leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EndpointError {
    #[error("missing")]
    Missing,
    #[error("not a URL")]
    NotAUrl,
    #[error("its scheme is not unix, the only supported one")]
    Scheme,
    #[error("the path is relative; kube-apiserver would ignore its first part")]
    Relative,
    #[error("the path is that of a directory")]
    Directory,
    #[error("the path has more than 107 bytes, the limit for a socket")]
    TooLong,
}

/// The path of the socket, or `@` and an abstract name.
pub(super) fn socket(endpoint: &str) -> Result<String, EndpointError> {
    if endpoint.is_empty() {
        return Err(EndpointError::Missing);
    }
    let (text, fragment) = endpoint.split_once('#').unwrap_or((endpoint, ""));
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(EndpointError::NotAUrl);
    }
    let (scheme, rest) = text.split_once(':').ok_or(EndpointError::Scheme)?;
    if !scheme.eq_ignore_ascii_case("unix") {
        return Err(EndpointError::Scheme);
    }
    let rest = rest.split('?').next().unwrap_or_default();
    let path = match rest.strip_prefix("//") {
        Some(rest) => match rest
            .find('/')
            .and_then(|slash| rest.split_at_checked(slash))
        {
            // Whatever host there is, it is ignored.
            Some(("" | "localhost", path)) => path,
            _ => return Err(EndpointError::Relative),
        },
        None if rest.starts_with('/') => rest,
        None => return Err(EndpointError::Relative),
    };
    unescaped(fragment.as_bytes()).ok_or(EndpointError::NotAUrl)?;
    let path = unescaped(path.as_bytes()).ok_or(EndpointError::NotAUrl)?;
    if !stays_a_url(&path) {
        return Err(EndpointError::NotAUrl);
    }
    let path = String::from_utf8_lossy(&path);
    let path = match path.strip_prefix("/@") {
        Some(name) => return Ok(format!("@{name}")),
        None => path,
    };
    match path.rsplit('/').next() {
        Some("" | "." | "..") => Err(EndpointError::Directory),
        _ if path.len() > LONGEST_PATH => Err(EndpointError::TooLong),
        _ => Ok(path.into_owned()),
    }
}

/// Whether the path can be part of a URL: gRPC parses it once more, as such.
fn stays_a_url(path: &[u8]) -> bool {
    let mut parts = path.splitn(2, |byte| *byte == b'#');
    let text = parts.next().unwrap_or_default();
    let fragment = parts.next().unwrap_or_default();
    let bare = text.split(|byte| *byte == b'?').next().unwrap_or_default();
    !text.iter().any(u8::is_ascii_control)
        && unescaped(bare).is_some()
        && unescaped(fragment).is_some()
}

/// Without percent encoding, if that is right.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = text.iter();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if *byte == b'%' {
            let mut digit = || char::from(*bytes.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            out.push(u8::try_from(value).expect("two hex digits are a byte"));
        } else {
            out.push(*byte);
        }
    }
    Some(out)
}

/// What is unusual about a socket.
pub(super) fn doubt(socket: &str) -> Option<&'static str> {
    if socket.starts_with('@') {
        Some("an abstract socket, which every process in the network namespace can open")
    } else if socket.contains(char::is_whitespace) {
        Some("there is a blank in the path; the sidecar's --socketpath must have it too")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kube_apiserver_connects_to_the_path_of_the_url() {
        for (endpoint, path) in [
            ("unix:///run/k/kms.sock", "/run/k/kms.sock"),
            ("unix:/run/k/kms.sock", "/run/k/kms.sock"),
            ("UNIX:///run/kms.sock", "/run/kms.sock"),
            ("unix://localhost/run/kms.sock", "/run/kms.sock"),
            ("unix:////run/kms.sock", "//run/kms.sock"),
            ("unix:///run/k%2Dms.sock", "/run/k-ms.sock"),
            ("unix:///run/../run/kms.sock", "/run/../run/kms.sock"),
            ("unix:///run/kms.sock?a=b#c", "/run/kms.sock"),
            ("unix:///run/kms.sock ", "/run/kms.sock "),
            ("unix:///@kms", "@kms"),
        ] {
            assert_eq!(socket(endpoint).as_deref(), Ok(path), "{endpoint}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        let long = format!("unix:///{}", "k".repeat(107));
        for (endpoint, error) in [
            ("", EndpointError::Missing),
            ("/run/kms.sock", EndpointError::Scheme),
            ("tcp://127.0.0.1:80", EndpointError::Scheme),
            ("unix", EndpointError::Scheme),
            ("unix:", EndpointError::Relative),
            ("unix://", EndpointError::Relative),
            ("unix://rel", EndpointError::Relative),
            ("unix:rel.sock", EndpointError::Relative),
            ("unix://run/kms.sock", EndpointError::Relative),
            ("unix:///", EndpointError::Directory),
            ("unix:///run/kms.sock/", EndpointError::Directory),
            ("unix:///run/..", EndpointError::Directory),
            ("unix:///run/%zz", EndpointError::NotAUrl),
            ("unix:///run/k#%zz", EndpointError::NotAUrl),
            ("unix:///run/k\u{7f}", EndpointError::NotAUrl),
            ("unix:///run/%0a", EndpointError::NotAUrl),
            ("unix:///run/%25zz", EndpointError::NotAUrl),
            (long.as_str(), EndpointError::TooLong),
        ] {
            assert_eq!(socket(endpoint), Err(error), "{endpoint}");
        }
    }

    #[test]
    fn unusual_sockets_are_doubted() {
        assert_eq!(doubt("/run/kms.sock"), None);
        assert!(doubt("@kms").is_some_and(|doubt| doubt.contains("abstract")));
        assert!(doubt("/run/kms.sock ").is_some_and(|doubt| doubt.contains("blank")));
    }
}
