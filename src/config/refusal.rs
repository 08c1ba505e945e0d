//! Why a setting is refused: what is wrong, the shape wanted, and the fix.

use super::certificates::CertificateError;
use super::duration::format_duration;
use super::key::Key;
use crate::key_id::KeyIdError;
use std::time::Duration;

/// Why a setting, or a combination of settings, is refused.
///
/// The place comes before it in a message, a value of a secret never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `auth-url` is missing.
    #[error(
        "auth-url is missing in [Global]; write Keystone's address, such as `auth-url = \
         \"https://keystone.example.com:5000/v3\"`"
    )]
    NoAuthUrl,
    /// `auth-url` is not such a URL.
    #[error("it is not a URL like https://keystone.example.com:5000/v3")]
    AuthUrl,
    /// `auth-url` is neither `http` nor `https`.
    #[error("it must begin with https:// (or http://)")]
    AuthUrlScheme,
    /// `auth-url` carries a user.
    #[error("it must not contain a user or password; use username and password")]
    AuthUrlUser,
    /// `auth-url` carries a query or a fragment.
    #[error("it must end with the path, without `?` or `#`")]
    AuthUrlQuery,
    /// `key-manager-endpoint` is not such a URL.
    #[error("it is not a URL like https://barbican.example.com:9311")]
    KeyManagerEndpoint,
    /// `key-manager-endpoint` carries a user.
    #[error("it must not contain a user or password: Barbican takes the token")]
    KeyManagerEndpointUser,
    /// Keystone's version 2.
    #[error("Keystone's API v2.0 no longer exists; write /v3 in its place")]
    AuthUrlVersion2,

    /// No way to log in is configured.
    #[error(
        "there is nothing to log in with in [Global]; set application-credential-id and \
         application-credential-secret, or username, password and user-domain-name"
    )]
    NoCredentials,
    /// A password without a user.
    #[error("a password needs a user; set username or user-id in [Global]")]
    NoUser,
    /// Both `username` and `user-id`.
    #[error("username and {} are both set; remove one of them", .0.name())]
    UserTwice(Key),
    /// A user's name without a domain.
    #[error(
        "a username needs its domain; set user-domain-name or user-domain-id in [Global] \
         (domain-name and domain-id count only beside tenant-id, tenant-name or an application \
         credential)"
    )]
    NoUserDomain,
    /// Both a name and an id of the user's domain.
    #[error(
        "the user's domain is given by id and by name; keep one of user-domain-id and \
         user-domain-name (domain-id and domain-name stand in for them)"
    )]
    UserDomainTwice,
    /// `user-id` with a domain.
    #[error(
        "a user-id takes no domain; remove user-domain-id and user-domain-name, and write \
         tenant-domain-id or tenant-domain-name in place of domain-id or domain-name"
    )]
    UserIdWithDomain,
    /// A project's name without a domain.
    #[error(
        "a tenant-name needs its domain; set tenant-domain-name or tenant-domain-id in [Global], \
         or domain-name for user and project"
    )]
    NoProjectDomain,
    /// A token without a scope.
    #[error("a token needs a scope; set tenant-id, or tenant-name with its domain, in [Global]")]
    TokenUnscoped,
    /// A token beside an application credential.
    #[error("a token and an application credential are both set; remove one of them")]
    TokenAndCredential,
    /// A token beside a trust.
    #[error("a trust takes no token; remove it, or set trustee-id and trustee-password")]
    TrustAndToken,
    /// An application credential as the trustee.
    #[error("a trust takes a password, no application credential; remove one of them")]
    TrustAndCredential,
    /// An application credential without its secret.
    #[error("the application credential needs application-credential-secret in [Global]")]
    NoCredentialSecret,
    /// The secret of no application credential.
    #[error(
        "the secret needs its application credential; set application-credential-id, or \
         application-credential-name with its user, in [Global]"
    )]
    NoCredentialName,
    /// A name of an application credential without its owner.
    #[error(
        "an application credential's name needs its owner; set user-id, or username and \
         user-domain-name, in [Global], or use application-credential-id"
    )]
    NoCredentialUser,

    /// Not an interface of the catalog.
    #[error("it must be public, internal or admin")]
    EndpointType,
    /// Certificates that cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),

    /// `key-id` is missing.
    #[error(
        "key-id is missing in [KeyManager]; write the UUID of the key-encryption key, which \
         `openstack secret list` shows at the end of the secret href"
    )]
    NoKeyId,
    /// Not a key id.
    #[error(transparent)]
    KeyId(#[from] KeyIdError),
    /// An element of a list that is not a key id.
    #[error("element {number}: {error}")]
    ListedKeyId {
        /// Which one, counted from 1.
        number: usize,
        /// Why not.
        error: KeyIdError,
    },
    /// A suffix in two places.
    #[error("key-id has a suffix already; remove one of the two")]
    SuffixTwice,
    /// Not a duration.
    #[error("it is not a duration; write a number and its unit, such as 90s, 5m or 1h30m")]
    Duration,
    /// Too short or too long.
    #[error("it must be {} to {}", format_duration(*.least), format_duration(*.most))]
    DurationRange {
        /// The shortest one.
        least: Duration,
        /// The longest one.
        most: Duration,
    },
    /// A maximum age that no revalidation can meet, or none that takes a moment.
    #[error(
        "it must be longer than revalidate-interval ({}), else keys are wiped before they are \
         confirmed; write at least twice as much, {}, or 0 for no limit",
        format_duration(*.0), format_duration(*.0 * 2)
    )]
    MaxCacheAge(Duration),
}
