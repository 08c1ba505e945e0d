//! The keys that a cloud-config may have: one table for both dialects.
//!
//! Used by the readers of both and by `resolve`, which checks the values.

use std::fmt;

/// A section of the cloud-config that is ours to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// How to reach OpenStack and as whom.
    Global,
    /// Which key to use.
    KeyManager,
}

impl Section {
    pub(super) const ALL: [Self; 2] = [Self::Global, Self::KeyManager];

    /// The name in the brackets.
    pub fn name(self) -> &'static str {
        match self {
            Self::Global => "Global",
            Self::KeyManager => "KeyManager",
        }
    }
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// One word; the Go plugin refuses a blank or an empty one at once.
    Word,
    /// True or false.
    Flag,
    /// A boolean in TOML; a text in gcfg, where only `true` is true.
    Switch,
    /// Several texts: an array in TOML, separated by commas in gcfg.
    List,
}

/// Defines [`Key`] and its table from one list, so that they cannot disagree.
macro_rules! keys {
    ($($variant:ident $section:ident $name:literal $kind:ident)*) => {
        /// A key of a section, or of an entry in clouds.yaml that has no
        /// counterpart there.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the names are documented in the README's table")]
        pub enum Key { $($variant,)* }

        impl Key {
            /// Every key.
            pub fn all() -> impl Iterator<Item = Self> {
                [$(Self::$variant,)*].into_iter()
            }

            /// The key as it is written in the file.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The section; none for what only clouds.yaml can say.
            pub fn section(self) -> Option<Section> {
                match self { $(Self::$variant => keys!(@section $section),)* }
            }

            pub(super) fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)* }
            }
        }
    };
    (@section CloudsYaml) => { None };
    (@section $section:ident) => { Some(Section::$section) };
}

keys! {
    AuthUrl Global "auth-url" Text
    Username Global "username" Text
    UserId Global "user-id" Text
    Password Global "password" Text
    TenantId Global "tenant-id" Text
    TenantName Global "tenant-name" Text
    DomainId Global "domain-id" Text
    DomainName Global "domain-name" Text
    TenantDomainId Global "tenant-domain-id" Text
    TenantDomainName Global "tenant-domain-name" Text
    UserDomainId Global "user-domain-id" Text
    UserDomainName Global "user-domain-name" Text
    TrustId Global "trust-id" Text
    TrusteeId Global "trustee-id" Text
    TrusteePassword Global "trustee-password" Text
    CredentialId Global "application-credential-id" Text
    CredentialName Global "application-credential-name" Text
    CredentialSecret Global "application-credential-secret" Text
    Token Global "token" Text
    Region Global "region" Text
    EndpointType Global "os-endpoint-type" Word
    CaFile Global "ca-file" Text
    CaFileContents Global "cafilecontents" Text
    CertFile Global "cert-file" Text
    KeyFile Global "key-file" Text
    TlsInsecure Global "tls-insecure" Switch
    UseClouds Global "use-clouds" Flag
    CloudsFile Global "clouds-file" Text
    Cloud Global "cloud" Text
    KeyId KeyManager "key-id" Text
    DecryptKeyIds KeyManager "decrypt-key-ids" List
    KeyIdSuffix KeyManager "key-id-suffix" Text
    KeyContainer KeyManager "key-container" Text
    KeyContainerOwner KeyManager "key-container-owner" Text
    RequireAuthentication KeyManager "require-authentication" Flag
    RevalidateInterval KeyManager "revalidate-interval" Text
    MaxCacheAge KeyManager "max-cache-age" Text
    KeyManagerEndpoint KeyManager "key-manager-endpoint" Text
    DefaultDomain CloudsYaml "default_domain" Text
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(section) = self.section() {
            write!(f, "[{}] ", section.name())?;
        }
        f.write_str(self.name())
    }
}

impl Key {
    /// Whether the value is a secret.
    pub(super) fn is_secret(self) -> bool {
        matches!(
            self,
            Self::Password | Self::TrusteePassword | Self::CredentialSecret | Self::Token
        )
    }

    /// The key that was probably meant by an unknown name, preferably of
    /// `section`.
    pub(super) fn nearest(section: Section, name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase().replace(['_', '.'], "-");
        if let Some((_, key)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
            return Some(*key);
        }
        let bare = |text: &str| text.replace('-', "");
        let here = |key: &Self| key.section() == Some(section);
        Self::all()
            .filter(|key| key.section().is_some())
            .map(|key| {
                let distance = distance(&bare(&name), &bare(key.name()));
                (distance, !here(&key), key)
            })
            .filter(|(distance, _, key)| *distance <= key.name().len() / 5)
            .min_by_key(|(distance, elsewhere, _)| (*distance, *elsewhere))
            .map(|(_, _, key)| key)
    }
}

impl Section {
    /// The section that was probably meant by an unknown name.
    pub(super) fn nearest(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase().replace(['-', '_'], "");
        Self::ALL
            .into_iter()
            .find(|section| distance(&name, &section.name().to_ascii_lowercase()) <= 1)
    }
}

/// Names that other OpenStack programs use, and those that people write.
const ALIASES: [(&str, Key); 24] = [
    ("project-id", Key::TenantId),
    ("project-name", Key::TenantName),
    ("project-domain-id", Key::TenantDomainId),
    ("project-domain-name", Key::TenantDomainName),
    ("user", Key::Username),
    ("region-name", Key::Region),
    ("interface", Key::EndpointType),
    ("endpoint-type", Key::EndpointType),
    ("cacert", Key::CaFile),
    ("ca-cert", Key::CaFile),
    ("cert", Key::CertFile),
    ("key", Key::KeyFile),
    ("insecure", Key::TlsInsecure),
    ("verify", Key::TlsInsecure),
    ("secret-id", Key::KeyId),
    ("kek-id", Key::KeyId),
    ("decrypt-key-id", Key::DecryptKeyIds),
    ("suffix", Key::KeyIdSuffix),
    ("container", Key::KeyContainer),
    ("container-id", Key::KeyContainer),
    ("clouds", Key::UseClouds),
    ("os-cloud", Key::Cloud),
    ("cache-age", Key::MaxCacheAge),
    ("auth-token", Key::Token),
];

/// The Levenshtein distance, for names: longer ones are all equally far away.
fn distance(left: &str, right: &str) -> usize {
    const LONGEST_BYTES: usize = 64;
    if left.len().max(right.len()) > LONGEST_BYTES {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, from) in left.bytes().enumerate() {
        let mut diagonal = line;
        let mut previous = line + 1;
        if let Some(first) = row.first_mut() {
            *first = previous;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(right.bytes()) {
            let replaced = diagonal + usize::from(from != to);
            diagonal = *cell;
            *cell = replaced.min(diagonal + 1).min(previous + 1);
            previous = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_the_one_that_was_meant() {
        for (section, name, meant) in [
            (Section::Global, "project-id", Some(Key::TenantId)),
            (Section::Global, "project_name", Some(Key::TenantName)),
            (Section::Global, "auth_url", Some(Key::AuthUrl)),
            (Section::Global, "AuthURL", Some(Key::AuthUrl)),
            (Section::Global, "passwort", Some(Key::Password)),
            (Section::Global, "user-name", Some(Key::Username)),
            (
                Section::Global,
                "ca-file-contents",
                Some(Key::CaFileContents),
            ),
            (Section::Global, "key-id", Some(Key::KeyId)),
            (Section::KeyManager, "keyid", Some(Key::KeyId)),
            (
                Section::KeyManager,
                "decrypt-key-id",
                Some(Key::DecryptKeyIds),
            ),
            (Section::Global, "frobnicate", None),
            (Section::Global, "monitor-delay", None),
            (Section::Global, "x", None),
        ] {
            assert_eq!(Key::nearest(section, name), meant, "{name}");
        }
    }

    #[test]
    fn the_nearest_section_is_the_one_that_was_meant() {
        assert_eq!(Section::nearest("key-manager"), Some(Section::KeyManager));
        assert_eq!(Section::nearest("Globals"), Some(Section::Global));
        assert_eq!(Section::nearest("LoadBalancer"), None);
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (left, right, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
        ] {
            assert_eq!(distance(left, right), expected);
            assert_eq!(distance(right, left), expected);
        }
    }
}
