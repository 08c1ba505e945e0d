//! Which requests go through a proxy: the rules of Go's net/http, without I/O.
//!
//! Used by `connect`. Invariant: loopback is never proxied, and a proxy's user
//! name and password leave this module in one header value only.
//!
//! hyper-util has a matcher for the same variables, but without the ports and
//! the `*.` of Go's `NO_PROXY`, and without its rule about loopback.

mod exceptions;

use std::fmt;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use zeroize::Zeroizing;

use self::exceptions::Exceptions;
use crate::config::{self, redact};
use crate::secret::LockedBytes;

/// Why a proxy variable cannot be used. The value is not repeated: it may
/// contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Not a URL or `HOST:PORT`.
    #[error("{0} is not the URL of a proxy: write http://HOST:PORT, or unset it")]
    Malformed(&'static str),
    /// A kind of proxy that is not supported, such as SOCKS.
    #[error("{0} names a proxy that is neither http nor https: use an HTTP proxy, or unset it")]
    Scheme(&'static str),
}

/// The proxies of one client, checked.
#[derive(Debug)]
pub(super) struct Proxies {
    http: Option<ProxyServer>,
    https: Option<ProxyServer>,
    except: Exceptions,
}

/// One proxy.
pub(super) struct ProxyServer {
    /// Scheme, host and port.
    pub(super) url: Uri,
    /// A ready `Basic` value: secret.
    basic: Option<LockedBytes>,
    shown: String,
}

impl ProxyServer {
    /// Host and port.
    pub(super) fn address(&self) -> &str {
        self.url.authority().map_or("", Authority::as_str)
    }

    /// Host and port, for messages.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// The `Proxy-Authorization` header.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_bytes(self.basic.as_ref()?.expose()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What must never be shown: the header's value, without the scheme's name.
    pub(super) fn secret(&self) -> Option<&str> {
        let basic = std::str::from_utf8(self.basic.as_ref()?.expose()).ok()?;
        basic.strip_prefix(BASIC)
    }
}

impl fmt::Debug for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyServer({})", self.shown())
    }
}

const BASIC: &str = "Basic ";

impl Proxies {
    pub(super) fn new(config: &config::Proxy) -> Result<Self, ProxyError> {
        Ok(Self {
            http: server("HTTP_PROXY", config.http.expose_text())?,
            https: server("HTTPS_PROXY", config.https.expose_text())?,
            except: Exceptions::new(&config.no_proxy),
        })
    }

    /// The proxy for `url`, if any.
    pub(super) fn for_url(&self, url: &Uri) -> Option<&ProxyServer> {
        let secure = url.scheme() == Some(&Scheme::HTTPS);
        let server = if secure { &self.https } else { &self.http };
        let host = url.host()?;
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        server.as_ref().filter(|_| !self.except.hold(host, port))
    }

    /// Every secret of the proxies.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        let both = self.http.iter().chain(&self.https);
        both.filter_map(ProxyServer::secret)
    }
}

fn server(variable: &'static str, value: &str) -> Result<Option<ProxyServer>, ProxyError> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(None);
    }
    let malformed = ProxyError::Malformed(variable);
    let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => "http",
        "https" => "https",
        _ => return Err(ProxyError::Scheme(variable)),
    };
    let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = match rest.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, rest),
    };
    let authority: Authority = host.parse().map_err(|_| malformed)?;
    if authority.host().is_empty() {
        return Err(malformed);
    }
    let authority = match authority.port() {
        Some(_) => authority,
        // Go's defaults: the ports of the schemes themselves.
        None => format!("{authority}:{}", if scheme == "https" { 443 } else { 80 })
            .parse()
            .map_err(|_| malformed)?,
    };
    let url = Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query("/")
        .build()
        .map_err(|_| malformed)?;
    let basic = match user {
        Some(user) => Some(basic(user).ok_or(malformed)?),
        None => None,
    };
    let shown = redact::host(url.authority().map_or("", Authority::as_str)).to_string();
    Ok(Some(ProxyServer { url, basic, shown }))
}

/// `Basic ` and the base64 of the percent-decoded `user:password`.
fn basic(user: &str) -> Option<LockedBytes> {
    let mut clear = Zeroizing::new(Vec::with_capacity(user.len() + 1));
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    percent_decode(name, &mut clear)?;
    clear.push(b':');
    percent_decode(password, &mut clear)?;

    let mut value = Zeroizing::new(Vec::with_capacity(
        BASIC.len() + clear.len().div_ceil(3) * 4,
    ));
    value.extend_from_slice(BASIC.as_bytes());
    for group in clear.chunks(3) {
        let bits = group
            .iter()
            .chain(std::iter::repeat(&0))
            .take(3)
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        for at in 0..4_usize {
            let sextet = usize::try_from(bits >> (18 - 6 * at) & 63).unwrap_or_default();
            let digit = BASE64.get(sextet).copied().unwrap_or(b'=');
            value.push(if at > group.len() { b'=' } else { digit });
        }
    }
    Some(LockedBytes::copy_of(&value))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn percent_decode(text: &str, into: &mut Vec<u8>) -> Option<()> {
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            into.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            into.push(*first);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxies(http: &str, https: &str, no_proxy: &str) -> Result<Proxies, ProxyError> {
        Proxies::new(&config::Proxy {
            http: http.to_owned().into(),
            https: https.to_owned().into(),
            no_proxy: no_proxy.to_owned(),
        })
    }

    fn proxied(no_proxy: &str, url: &str) -> bool {
        let proxies = proxies("http://proxy:3128", "http://proxy:3128", no_proxy).expect("valid");
        proxies.for_url(&url.parse().expect("a URL")).is_some()
    }

    #[test]
    fn the_scheme_of_the_request_chooses_the_proxy() {
        let proxies = proxies("plain", "https://secure:8443/x", "").expect("valid");
        let shown = |url: &str| {
            proxies
                .for_url(&url.parse().expect("a URL"))
                .map(|server| server.url.to_string())
        };
        assert_eq!(shown("http://a/").as_deref(), Some("http://plain:80/"));
        assert_eq!(shown("https://a/").as_deref(), Some("https://secure:8443/"));
    }

    #[test]
    fn loopback_is_never_proxied() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1",
            "127.9.9.9:5000",
            "[::1]:5000",
        ] {
            assert!(!proxied("", &format!("http://{host}/")), "{host}");
        }
        assert!(proxied("", "http://localhost.example/"));
    }

    #[test]
    fn a_password_becomes_a_basic_header_and_nothing_else() {
        // printf 'user:p@ss' | base64
        let proxies = proxies("http://user:p%40ss@proxy:3128", "", "").expect("valid");
        let server = proxies.http.as_ref().expect("a proxy");
        let header = server.authorization().expect("a header");
        assert_eq!(header, "Basic dXNlcjpwQHNz");
        assert!(header.is_sensitive());
        assert_eq!(server.shown(), "proxy:3128");
        assert!(!format!("{proxies:?}").contains("ss@"));
        let of = |user: &str| basic(user).map(|value| value.expose().to_vec());
        assert_eq!(of("u"), Some(b"Basic dTo=".to_vec()));
        assert_eq!(of("us:"), Some(b"Basic dXM6".to_vec()));
        assert_eq!(of("us:e"), Some(b"Basic dXM6ZQ==".to_vec()));
        assert_eq!(of("%4"), None);
    }

    #[test]
    fn a_value_that_is_no_proxy_is_refused_without_repeating_it() {
        for value in ["socks5://u:hunter22@p:1", "ftp://u:hunter22@p"] {
            let error = proxies("", value, "").expect_err("no HTTP proxy");
            assert_eq!(error, ProxyError::Scheme("HTTPS_PROXY"), "{value}");
        }
        for value in [
            "http://",
            "http://u:hunter22@",
            "a b",
            "http://u:hunter22@h:x y",
        ] {
            let error = proxies(value, "", "").expect_err("no URL");
            assert_eq!(error, ProxyError::Malformed("HTTP_PROXY"), "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_variable_makes_us_panic(value in "\\PC{0,40}", no_proxy in "[a-z0-9.:*/,\\[\\]]{0,40}") {
            let _ = proxies(&value, &value, &no_proxy);
            let _ = proxied(&no_proxy, "http://10.0.0.1:80/");
        }
    }
}
