//! URLs as people write them.

use std::fmt::Write as _;

/// Keystone's base with `/v3` at its end, whatever version the file names.
///
/// Where the file names no version, the Go plugin asks Keystone and follows the links
/// of its answer, which are wrong behind many TLS proxies.
pub(super) fn keystone(text: &str) -> Result<http::Uri, &'static str> {
    let uri = base(text)?;
    let path = uri.path().trim_end_matches('/');
    if path.ends_with("/v2.0") {
        return Err(VERSION_2);
    }
    let base = match path.strip_suffix("/v3") {
        Some(base) => base.to_owned(),
        None => path
            .split('/')
            .take_while(|element| !is_version(element))
            .collect::<Vec<_>>()
            .join("/"),
    };
    with_path(uri, &format!("{base}/v3")).ok_or(NOT_A_URL)
}

/// Barbican's base with `/v1` at its end.
pub(super) fn barbican(text: &str) -> Result<http::Uri, &'static str> {
    let uri = base(text).map_err(|refusal| match refusal {
        NOT_A_URL => NOT_AN_ENDPOINT,
        USER => ENDPOINT_USER,
        other => other,
    })?;
    let path = uri.path().trim_end_matches('/');
    let base = path.strip_suffix("/v1").unwrap_or(path).to_owned();
    with_path(uri, &format!("{base}/v1")).ok_or(NOT_AN_ENDPOINT)
}

fn with_path(uri: http::Uri, path: &str) -> Option<http::Uri> {
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    http::Uri::from_parts(parts).ok()
}

/// An `http` or `https` URL with a host, and without user and query.
fn base(text: &str) -> Result<http::Uri, &'static str> {
    let text = text.trim();
    if !["http://", "https://"].iter().any(|scheme| {
        text.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    }) {
        return Err(SCHEME);
    }
    if text.contains(['?', '#']) {
        return Err(QUERY);
    }
    let uri: http::Uri = escaped_url(text).parse().map_err(|_| NOT_A_URL)?;
    let Some(authority) = uri.authority() else {
        return Err(NOT_A_URL);
    };
    if authority.as_str().contains('@') {
        return Err(USER);
    }
    if authority.host().is_empty() {
        return Err(NOT_A_URL);
    }
    Ok(uri)
}

fn is_version(element: &str) -> bool {
    element.strip_prefix('v').is_some_and(|number| {
        !number.is_empty()
            && number
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
    })
}

const NOT_A_URL: &str = "it is not a URL like https://keystone.example.com:5000/v3";
const SCHEME: &str = "it must begin with https:// (or http://)";
const USER: &str = "it must not contain a user or password; use username and password";
const QUERY: &str = "it must end with the path, without `?` or `#`";
const NOT_AN_ENDPOINT: &str = "it is not a URL like https://barbican.example.com:9311";
const ENDPOINT_USER: &str = "it must not contain a user or password: Barbican uses the token";
const VERSION_2: &str = "Keystone's API v2.0 no longer exists; write /v3 instead";

/// Percent-encodes everything that a URL must not contain: bytes beyond ASCII, spaces,
/// and what Go's `URL.EscapedPath` encodes too. Percent signs are taken for part of an
/// encoding.
pub(crate) fn escaped_url(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let stays = byte.is_ascii_graphic() && !br#""<>\^`{|}"#.contains(&byte);
        if stays {
            out.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_may_not_hold_is_encoded_once() {
        assert_eq!(
            escaped_url("http://h/\u{e9} {b}"),
            "http://h/%C3%A9%20%7Bb%7D"
        );
        assert_eq!(escaped_url("http://h/%C3%A9"), "http://h/%C3%A9");
        let plain = "https://[::1]:5000/~u/a-b_c.d;e=f,(g)!*'$&+@:";
        assert_eq!(escaped_url(plain), plain);
    }
}
