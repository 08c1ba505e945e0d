//! `NO_PROXY`: which hosts are reached directly.
//!
//! Used by `proxy`. Pure. Invariant: loopback is always among them.

use std::net::IpAddr;

use ipnet::IpNet;

/// What `NO_PROXY` says (golang.org/x/net/http/httpproxy): names and their
/// subdomains, `.name` and `*.name` for the subdomains alone, addresses, each
/// with an optional port; CIDR blocks; `*` for everything.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Exceptions {
    all: bool,
    blocks: Vec<IpNet>,
    addresses: Vec<(IpAddr, Option<u16>)>,
    names: Vec<Name>,
}

#[derive(Debug, PartialEq, Eq)]
struct Name {
    /// With a dot in front.
    suffix: String,
    /// Whether the name itself is meant as well.
    itself: bool,
    port: Option<u16>,
}

impl Exceptions {
    pub(super) fn new(list: &str) -> Self {
        let mut these = Self::default();
        for entry in list.split(',') {
            let entry = entry.trim().to_ascii_lowercase();
            if entry == "*" {
                these.all = true;
            } else if let Ok(block) = entry.parse() {
                these.blocks.push(block);
            } else {
                let (host, port) = split_port(&entry);
                if let Some(address) = parse_address(host) {
                    these.addresses.push((address, port));
                } else if !host.is_empty() {
                    let host = host
                        .strip_prefix('*')
                        .filter(|rest| rest.starts_with('.'))
                        .unwrap_or(host);
                    let itself = !host.starts_with('.');
                    these.names.push(Name {
                        suffix: if itself {
                            format!(".{host}")
                        } else {
                            host.to_owned()
                        },
                        itself,
                        port,
                    });
                }
            }
        }
        these
    }

    pub(super) fn hold(&self, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        let fits = |expected: Option<u16>| expected.is_none_or(|expected| expected == port);
        if host == "localhost" || self.all {
            return true;
        }
        if let Some(address) = parse_address(&host) {
            return address.is_loopback()
                || self.blocks.iter().any(|block| block.contains(&address))
                || self
                    .addresses
                    .iter()
                    .any(|(one, port)| *one == address && fits(*port));
        }
        self.names.iter().any(|name| {
            let exact = name.itself && name.suffix.strip_prefix('.') == Some(host.as_str());
            (exact || host.ends_with(&name.suffix)) && fits(name.port)
        })
    }
}

/// Without the brackets of a URL; an IPv4 address in IPv6 clothes is the former.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

/// `host:port` or `[v6]:port`; a bare IPv6 address has no port.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.starts_with('[') => port
            .parse()
            .map_or((entry, None), |port| (host, Some(port))),
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;

    fn proxied(no_proxy: &str, url: &str) -> bool {
        let url: Uri = url.parse().expect("a URL");
        let default = if url.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        let port = url.port_u16().unwrap_or(default);
        !Exceptions::new(no_proxy).hold(url.host().expect("a host"), port)
    }

    #[test]
    fn no_proxy_is_read_by_gos_rules() {
        for (no_proxy, url, expected) in [
            ("*", "http://a/", false),
            ("example.com", "http://example.com/", false),
            ("example.com", "http://EXAMPLE.com:99/", false),
            ("EXAMPLE.com", "http://sub.example.com/", false),
            ("example.com", "http://badexample.com/", true),
            (".example.com", "http://example.com/", true),
            (".example.com", "http://sub.example.com/", false),
            ("*.example.com", "http://example.com/", true),
            ("*.example.com", "http://a.b.example.com/", false),
            ("example.com:5000", "http://example.com:5000/", false),
            ("example.com:5000", "http://example.com/", true),
            ("example.com:443", "https://example.com/", false),
            ("a, example.com ,b", "http://example.com/", false),
            ("10.0.0.0/8", "http://10.1.2.3/", false),
            ("10.0.0.0/8", "http://11.1.2.3/", true),
            ("0.0.0.0/0", "http://11.1.2.3/", false),
            ("10.0.0.0/8", "http://name/", true),
            ("10.1.2.3", "http://10.1.2.3:5000/", false),
            ("10.1.2.3:5000", "http://10.1.2.3:5000/", false),
            ("10.1.2.3:5000", "http://10.1.2.3:5001/", true),
            ("fd00::/8", "http://[fd12::1]:9311/", false),
            ("fd00::/8", "http://[fe80::1]/", true),
            ("fd12::1", "http://[fd12::1]:9311/", false),
            ("[fd12::1]:9311", "http://[fd12::1]:9311/", false),
            ("[fd12::1]:9311", "http://[fd12::1]/", true),
            ("10.0.0.0/33", "http://10.1.2.3/", true),
            (":80", "http://a/", true),
            ("", "http://a/", true),
        ] {
            assert_eq!(proxied(no_proxy, url), expected, "{no_proxy} for {url}");
        }
    }
}
