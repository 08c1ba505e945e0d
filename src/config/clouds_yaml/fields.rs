//! The keys of an entry of clouds.yaml that are read, and what they mean in a
//! cloud-config.

use crate::config::key::Key;

/// The keys at the level of `auth:`.
pub(super) const FIELDS: [(&str, Key); 6] = [
    ("region_name", Key::Region),
    ("endpoint_type", Key::EndpointType),
    ("verify", Key::TlsInsecure),
    ("cacert", Key::CaFile),
    ("cert", Key::CertFile),
    ("key", Key::KeyFile),
];

/// The keys below `auth:`.
pub(super) const AUTH_FIELDS: [(&str, Key); 20] = [
    ("auth_url", Key::AuthUrl),
    ("token", Key::Token),
    ("username", Key::Username),
    ("user_id", Key::UserId),
    ("password", Key::Password),
    ("application_credential_id", Key::CredentialId),
    ("application_credential_name", Key::CredentialName),
    ("application_credential_secret", Key::CredentialSecret),
    ("project_name", Key::TenantName),
    ("tenant_name", Key::TenantName),
    ("project_id", Key::TenantId),
    ("tenant_id", Key::TenantId),
    ("user_domain_name", Key::UserDomainName),
    ("user_domain_id", Key::UserDomainId),
    ("project_domain_name", Key::TenantDomainName),
    ("project_domain_id", Key::TenantDomainId),
    ("domain_name", Key::DomainName),
    ("domain_id", Key::DomainId),
    ("default_domain", Key::DefaultDomain),
    ("trust_id", Key::TrustId),
];
