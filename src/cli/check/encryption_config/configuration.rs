//! What an EncryptionConfiguration says, decoded.
//!
//! Made by `schema`, read by every rule.

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct Configuration {
    pub(super) entries: Vec<Entry>,
}

/// An element of `resources`.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: String,
    /// An element that is no text is `None`.
    pub(super) resources: Vec<Option<String>>,
    pub(super) providers: Vec<Provider>,
}

/// An element of `providers`.
#[derive(Debug)]
pub(super) struct Provider {
    /// The only kind in it; none if that is wrong.
    pub(super) kind: Option<&'static str>,
    pub(super) kms: Option<Kms>,
    pub(super) keys: Option<Keys>,
}

/// A KMS provider. A field of the wrong type is `None`.
#[derive(Debug)]
pub(super) struct Kms {
    pub(super) path: String,
    pub(super) api_version: Option<String>,
    pub(super) name: Option<String>,
    pub(super) endpoint: Option<String>,
    /// As it is written.
    pub(super) timeout: Option<String>,
    /// A number, if there is one.
    pub(super) cache_size: Option<i32>,
}

/// The keys of an `aescbc`, `aesgcm` or `secretbox` provider.
#[derive(Debug)]
pub(super) struct Keys {
    /// Of the list.
    pub(super) path: String,
    pub(super) kind: &'static str,
    /// `None` if it is no list.
    pub(super) list: Option<Vec<Key>>,
}

/// A key; without Debug output of its secret. A field of the wrong type is `None`.
pub(super) struct Key {
    pub(super) name: Option<String>,
    pub(super) secret: Option<String>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}
