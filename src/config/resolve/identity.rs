//! Who logs in, how, and for what: the rules of OpenStack's Go clients.
//!
//! The order of the cases is the Go plugin's. Where ours differs, a comment says so.

use crate::config::diagnostic::Diagnostic;
use crate::config::key::Key;
use crate::config::raw::{Raw, Text};
use crate::config::settings::{Domain, Identity, Scope, User};
use crate::secret::{Password, Token};

/// The identity and the scope of a login.
///
/// # Errors
/// When the settings are too few or contradict each other.
pub(super) fn resolve(
    raw: &mut Raw,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(Identity, Scope), Diagnostic> {
    let mut settings = Settings::take(raw);
    settings.apply_default_domains();
    if let Some(trust) = settings.trust_id.take() {
        let identity = settings.trustee(raw, warnings)?;
        return Ok((identity, Scope::Trust(trust.text)));
    }
    for setting in [&settings.trustee_id, &settings.trustee_password] {
        unused(setting.as_ref(), WITHOUT_TRUST, warnings);
    }
    if let Some(token) = settings.token.take() {
        if settings.has_credential() {
            return Err(token.diagnostic(TOKEN_AND_CREDENTIAL));
        }
        unused(settings.password.as_ref(), TOKEN_WINS, warnings);
        let scope = settings.scope()?;
        if scope == Scope::Unscoped {
            return Err(token.diagnostic(TOKEN_UNSCOPED));
        }
        return Ok((Identity::Token(Token::new(token.text)), scope));
    }
    if settings.has_credential() {
        // The Go plugin takes the password and yet sends no scope, which gives a
        // token that opens nothing.
        unused(settings.password.as_ref(), CREDENTIAL_WINS, warnings);
        return Ok((settings.credential(raw)?, Scope::Unscoped));
    }
    let scope = settings.scope();
    let (password, user) = settings.password_and_user(raw)?;
    Ok((Identity::Password { user, password }, scope?))
}

struct Settings {
    username: Option<Text>,
    user_id: Option<Text>,
    password: Option<Text>,
    tenant_id: Option<Text>,
    tenant_name: Option<Text>,
    domain_id: Option<Text>,
    domain_name: Option<Text>,
    tenant_domain_id: Option<Text>,
    tenant_domain_name: Option<Text>,
    user_domain_id: Option<Text>,
    user_domain_name: Option<Text>,
    default_domain: Option<Text>,
    trust_id: Option<Text>,
    trustee_id: Option<Text>,
    trustee_password: Option<Text>,
    credential_id: Option<Text>,
    credential_name: Option<Text>,
    credential_secret: Option<Text>,
    token: Option<Text>,
}

impl Settings {
    fn take(raw: &mut Raw) -> Self {
        let mut take = |key| raw.take_text(key);
        Self {
            username: take(Key::Username),
            user_id: take(Key::UserId),
            password: take(Key::Password),
            tenant_id: take(Key::TenantId),
            tenant_name: take(Key::TenantName),
            domain_id: take(Key::DomainId),
            domain_name: take(Key::DomainName),
            tenant_domain_id: take(Key::TenantDomainId),
            tenant_domain_name: take(Key::TenantDomainName),
            user_domain_id: take(Key::UserDomainId),
            user_domain_name: take(Key::UserDomainName),
            default_domain: take(Key::DefaultDomain),
            trust_id: take(Key::TrustId),
            trustee_id: take(Key::TrusteeId),
            trustee_password: take(Key::TrusteePassword),
            credential_id: take(Key::CredentialId),
            credential_name: take(Key::CredentialName),
            credential_secret: take(Key::CredentialSecret),
            token: take(Key::Token),
        }
    }

    /// Any of the three fields makes it an application credential.
    fn has_credential(&self) -> bool {
        self.credential_id.is_some()
            || self.credential_name.is_some()
            || self.credential_secret.is_some()
    }

    /// Lets `domain-*` stand in for the domains of user and project, if there is a
    /// project or an application credential; else it is the scope.
    fn apply_default_domains(&mut self) {
        let has_project = self.tenant_id.is_some() || self.tenant_name.is_some();
        if has_project || self.has_credential() {
            if let Some(id) = self.domain_id.take() {
                self.user_domain_id.get_or_insert_with(|| id.clone());
                self.tenant_domain_id.get_or_insert(id);
            }
            if let Some(name) = self.domain_name.take() {
                self.user_domain_name.get_or_insert_with(|| name.clone());
                self.tenant_domain_name.get_or_insert(name);
            }
        }
        // Ours, as openstacksdk has it: `default_domain` of clouds.yaml is an id.
        if let Some(id) = self.default_domain.take() {
            if self.username.is_some() && self.user_domain_name.is_none() {
                self.user_domain_id.get_or_insert_with(|| id.clone());
            }
            if self.tenant_domain_name.is_none() {
                self.tenant_domain_id.get_or_insert(id);
            }
        }
    }

    fn trustee(
        mut self,
        raw: &Raw,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Identity, Diagnostic> {
        if let Some(token) = self.token.take() {
            // In Go the token displaces the user and is then not used itself.
            if self.trustee_id.is_none() || self.trustee_password.is_none() {
                return Err(token.diagnostic(TRUST_AND_TOKEN));
            }
            self.username = None;
            self.user_domain_id = None;
            self.user_domain_name = None;
        }
        self.user_id = self.trustee_id.take().or(self.user_id);
        self.password = self.trustee_password.take().or(self.password);
        for field in [
            &self.credential_id,
            &self.credential_name,
            &self.credential_secret,
        ] {
            if let (Some(field), None) = (field, &self.password) {
                return Err(field.diagnostic(TRUST_AND_CREDENTIAL));
            }
            unused(field.as_ref(), TRUST_WINS, warnings);
        }
        let (password, user) = self.password_and_user(raw)?;
        Ok(Identity::Password { user, password })
    }

    fn credential(self, raw: &Raw) -> Result<Identity, Diagnostic> {
        let Some(name_or_id) = self
            .credential_id
            .as_ref()
            .or(self.credential_name.as_ref())
        else {
            return Err(match self.credential_secret {
                Some(secret) => secret.diagnostic(NO_CREDENTIAL_NAME),
                None => raw.missing(NO_CREDENTIAL_NAME),
            });
        };
        let Some(secret) = self.credential_secret else {
            return Err(name_or_id.diagnostic(NO_CREDENTIAL_SECRET));
        };
        let secret = Password::new(secret.text);
        if let Some(id) = self.credential_id {
            let id = id.text;
            return Ok(Identity::ApplicationCredentialId { id, secret });
        }
        let Some(name) = self.credential_name else {
            return Err(raw.missing(NO_CREDENTIAL_NAME));
        };
        // Unlike beside a password, an id is preferred here to a name.
        let domain = domain(self.user_domain_id, self.user_domain_name);
        let user = match (self.user_id, self.username, domain) {
            (Some(id), _, _) => User::Id(id.text),
            (None, Some(username), Some(domain)) => User::Name {
                name: username.text,
                domain,
            },
            (None, Some(username), None) => return Err(username.diagnostic(NO_USER_DOMAIN)),
            (None, None, _) => return Err(name.diagnostic(NO_CREDENTIAL_USER)),
        };
        Ok(Identity::ApplicationCredentialName {
            name: name.text,
            user,
            secret,
        })
    }

    fn password_and_user(self, raw: &Raw) -> Result<(Password, User), Diagnostic> {
        let Some(password) = self.password else {
            return Err(raw.missing(NO_CREDENTIALS));
        };
        let user = match (self.username, self.user_id) {
            (Some(_), Some(id)) => {
                let key = if id.location.field == Key::TrusteeId.to_string() {
                    Key::TrusteeId
                } else {
                    Key::UserId
                };
                let key = key.name();
                let message = format!("username and {key} are both set; remove one of them");
                return Err(id.diagnostic(message));
            }
            (None, None) => return Err(password.diagnostic(NO_USER)),
            (None, Some(id)) => {
                if let Some(domain) = self.user_domain_id.or(self.user_domain_name) {
                    return Err(domain.diagnostic(USER_ID_WITH_DOMAIN));
                }
                User::Id(id.text)
            }
            (Some(name), None) => {
                if let (Some(_), Some(domain)) = (&self.user_domain_id, &self.user_domain_name) {
                    return Err(domain.diagnostic(USER_DOMAIN_TWICE));
                }
                let Some(domain) = domain(self.user_domain_id, self.user_domain_name) else {
                    return Err(name.diagnostic(NO_USER_DOMAIN));
                };
                User::Name {
                    name: name.text,
                    domain,
                }
            }
        };
        Ok((Password::new(password.text), user))
    }

    /// An id is preferred to a name everywhere.
    fn scope(&mut self) -> Result<Scope, Diagnostic> {
        if let Some(id) = self.tenant_id.take() {
            return Ok(Scope::ProjectId(id.text));
        }
        if let Some(name) = self.tenant_name.take() {
            let domain = domain(self.tenant_domain_id.take(), self.tenant_domain_name.take());
            return match domain {
                Some(domain) => Ok(Scope::ProjectName {
                    name: name.text,
                    domain,
                }),
                None => Err(name.diagnostic(NO_PROJECT_DOMAIN)),
            };
        }
        let domain = domain(self.domain_id.take(), self.domain_name.take());
        Ok(domain.map_or(Scope::Unscoped, Scope::Domain))
    }
}

fn domain(id: Option<Text>, name: Option<Text>) -> Option<Domain> {
    id.map(|id| Domain::Id(id.text))
        .or_else(|| name.map(|name| Domain::Name(name.text)))
}

/// Warns that a setting, if it is set, has no effect.
fn unused(setting: Option<&Text>, message: &'static str, warnings: &mut Vec<Diagnostic>) {
    warnings.extend(setting.map(|setting| setting.diagnostic(message)));
}

const NO_CREDENTIALS: &str = "[Global] has no credentials; set \
     application-credential-id and application-credential-secret, or username, password and \
     user-domain-name";
const NO_USER: &str = "a password needs a user; set username or user-id in [Global]";
const NO_USER_DOMAIN: &str = "a username needs its domain; set user-domain-name or user-domain-id \
                              in [Global] (domain-name and domain-id apply to the user only with \
                              tenant-id, tenant-name or an application credential)";
const USER_DOMAIN_TWICE: &str = "the user's domain is given by id and by name; keep one of \
                                 user-domain-id and user-domain-name (domain-id and domain-name \
                                 are used instead of them)";
const USER_ID_WITH_DOMAIN: &str = "a user-id needs no domain; remove user-domain-id and \
                                   user-domain-name, and write tenant-domain-id or \
                                   tenant-domain-name instead of domain-id or domain-name";
const NO_PROJECT_DOMAIN: &str = "a tenant-name needs its domain; set tenant-domain-name or \
     tenant-domain-id in [Global], or domain-name for user and project";
const TOKEN_UNSCOPED: &str =
    "a token needs a scope; set tenant-id, or tenant-name with its domain, in [Global]";
const TOKEN_AND_CREDENTIAL: &str =
    "a token and an application credential are both set; remove one of them";
const TRUST_AND_TOKEN: &str =
    "a trust cannot be used with a token; remove it, or set trustee-id and trustee-password";
const TRUST_AND_CREDENTIAL: &str =
    "a trust needs a password, not an application credential; remove one of them";
const NO_CREDENTIAL_SECRET: &str =
    "the application credential needs application-credential-secret in [Global]";
const NO_CREDENTIAL_NAME: &str = "the secret needs its application credential; set \
     application-credential-id, or application-credential-name with its user, in [Global]";
const NO_CREDENTIAL_USER: &str = "an application credential's name needs its owner; set user-id, \
     or username and user-domain-name, in [Global], or use application-credential-id";

const CREDENTIAL_WINS: &str =
    "has no effect: the application credential is used; remove one of the two";
const TOKEN_WINS: &str = "has no effect: `token` is used; remove one of the two";
const TRUST_WINS: &str = "has no effect: a trust needs a password, not an application credential; \
                          remove one of the two";
const WITHOUT_TRUST: &str = "has no effect: it is used only together with `trust-id`";
