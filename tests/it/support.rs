//! What the tests share.

pub(crate) mod client;
pub(crate) mod cloud;
pub(crate) mod fault_proxy;
pub(crate) mod gate;
pub(crate) mod hex;
pub(crate) mod openstack;
pub(crate) mod patience;
pub(crate) mod pki;
pub(crate) mod random;
pub(crate) mod scan;
pub(crate) mod scrape;
pub(crate) mod secret_forms;
pub(crate) mod server;
pub(crate) mod sidecar;
pub(crate) mod tap;

/// A file of the tests' own making, as text.
pub(crate) fn read_text(path: &std::path::Path) -> String {
    String::from_utf8_lossy(&read_bytes(path)).into_owned()
}

/// A file of the tests' own making.
#[expect(
    clippy::disallowed_methods,
    reason = "files that the tests themselves have made"
)]
pub(crate) fn read_bytes(path: &std::path::Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
