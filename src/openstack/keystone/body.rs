//! The JSON of a login, for every identity and scope.
//!
//! Used by `keystone`. Pure. Invariant: the secret is copied once, into the
//! locked memory that is returned.

use std::io;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::config::{Domain, Identity, Scope, User};
use crate::secret::LockedBytes;

/// `{"auth": {...}}`, in locked memory.
pub(super) fn login(identity: &Identity, scope: &Scope) -> LockedBytes {
    let request = Login {
        auth: Auth {
            identity: Proved::from(identity),
            scope: ScopeBody::of(scope),
        },
    };
    // Counted first, so that the buffer never grows and leaves no copy behind.
    let mut count = Count(0);
    let counted = serde_json::to_writer(&mut count, &request);
    let mut body = Zeroizing::new(Vec::with_capacity(count.0));
    let written = serde_json::to_writer(&mut *body, &request);
    debug_assert!(counted.is_ok() && written.is_ok(), "strings into memory");
    LockedBytes::copy_of(&body)
}

struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Serialize)]
struct Login<'a> {
    auth: Auth<'a>,
}

#[derive(Serialize)]
struct Auth<'a> {
    identity: Proved<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<ScopeBody<'a>>,
}

#[derive(Serialize)]
struct Proved<'a> {
    methods: [&'static str; 1],
    #[serde(flatten)]
    proof: Proof<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Proof<'a> {
    Password { user: UserBody<'a> },
    ApplicationCredential(CredentialBody<'a>),
    Token { id: &'a str },
}

#[derive(Default, Serialize)]
struct UserBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<DomainBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
}

#[derive(Serialize)]
struct CredentialBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserBody<'a>>,
    secret: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum DomainBody<'a> {
    Id(&'a str),
    Name(&'a str),
}

#[derive(Serialize)]
enum ScopeBody<'a> {
    #[serde(rename = "project")]
    Project {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        domain: Option<DomainBody<'a>>,
    },
    #[serde(rename = "domain")]
    Domain(DomainBody<'a>),
    #[serde(rename = "OS-TRUST:trust")]
    Trust { id: &'a str },
}

impl<'a> From<&'a Identity> for Proved<'a> {
    fn from(identity: &'a Identity) -> Self {
        let (method, proof) = match identity {
            Identity::Password { user, password } => (
                "password",
                Proof::Password {
                    user: UserBody {
                        password: Some(password.expose_text()),
                        ..user.into()
                    },
                },
            ),
            Identity::ApplicationCredentialId { id, secret } => (
                "application_credential",
                Proof::ApplicationCredential(CredentialBody {
                    id: Some(id),
                    name: None,
                    user: None,
                    secret: secret.expose_text(),
                }),
            ),
            Identity::ApplicationCredentialName { name, user, secret } => (
                "application_credential",
                Proof::ApplicationCredential(CredentialBody {
                    id: None,
                    name: Some(name),
                    user: Some(user.into()),
                    secret: secret.expose_text(),
                }),
            ),
            Identity::Token(token) => (
                "token",
                Proof::Token {
                    id: token.expose_text(),
                },
            ),
        };
        Self {
            methods: [method],
            proof,
        }
    }
}

impl<'a> From<&'a User> for UserBody<'a> {
    fn from(user: &'a User) -> Self {
        match user {
            User::Id(id) => Self {
                id: Some(id),
                ..Self::default()
            },
            User::Name { name, domain } => Self {
                name: Some(name),
                domain: Some(domain.into()),
                ..Self::default()
            },
        }
    }
}

impl<'a> From<&'a Domain> for DomainBody<'a> {
    fn from(domain: &'a Domain) -> Self {
        match domain {
            Domain::Id(id) => Self::Id(id),
            Domain::Name(name) => Self::Name(name),
        }
    }
}

impl<'a> ScopeBody<'a> {
    fn of(scope: &'a Scope) -> Option<Self> {
        match scope {
            Scope::Unscoped => None,
            Scope::ProjectId(id) => Some(Self::Project {
                id: Some(id),
                name: None,
                domain: None,
            }),
            Scope::ProjectName { name, domain } => Some(Self::Project {
                id: None,
                name: Some(name),
                domain: Some(domain.into()),
            }),
            Scope::Domain(domain) => Some(Self::Domain(domain.into())),
            Scope::Trust(id) => Some(Self::Trust { id }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::secret::{Password, Token};

    fn body(identity: &Identity, scope: &Scope) -> Value {
        serde_json::from_slice(login(identity, scope).expose()).expect("JSON")
    }

    fn secret() -> Password {
        Password::new("s\"\\e\u{e9}\n".to_owned())
    }

    fn by_name() -> User {
        User::Name {
            name: "u".to_owned(),
            domain: Domain::Name("D".to_owned()),
        }
    }

    #[test]
    fn every_identity_has_its_body() {
        let text = "s\"\\e\u{e9}\n";
        let cases = [
            (
                Identity::Password {
                    user: by_name(),
                    password: secret(),
                },
                json!({"methods": ["password"], "password": {"user":
                    {"name": "u", "domain": {"name": "D"}, "password": text}}}),
            ),
            (
                Identity::Password {
                    user: User::Id("i".to_owned()),
                    password: secret(),
                },
                json!({"methods": ["password"], "password": {"user":
                    {"id": "i", "password": text}}}),
            ),
            (
                Identity::ApplicationCredentialId {
                    id: "a".to_owned(),
                    secret: secret(),
                },
                json!({"methods": ["application_credential"],
                    "application_credential": {"id": "a", "secret": text}}),
            ),
            (
                Identity::ApplicationCredentialName {
                    name: "n".to_owned(),
                    user: by_name(),
                    secret: secret(),
                },
                json!({"methods": ["application_credential"], "application_credential":
                    {"name": "n", "secret": text, "user": {"name": "u", "domain": {"name": "D"}}}}),
            ),
            (
                Identity::ApplicationCredentialName {
                    name: "n".to_owned(),
                    user: User::Id("i".to_owned()),
                    secret: secret(),
                },
                json!({"methods": ["application_credential"], "application_credential":
                    {"name": "n", "secret": text, "user": {"id": "i"}}}),
            ),
            (
                Identity::Token(Token::new("t".to_owned())),
                json!({"methods": ["token"], "token": {"id": "t"}}),
            ),
        ];
        for (identity, expected) in cases {
            assert_eq!(
                body(&identity, &Scope::Unscoped),
                json!({"auth": {"identity": expected}})
            );
        }
    }

    #[test]
    fn every_scope_has_its_body() {
        let cases = [
            (
                Scope::ProjectId("p".to_owned()),
                json!({"project": {"id": "p"}}),
            ),
            (
                Scope::ProjectName {
                    name: "p".to_owned(),
                    domain: Domain::Id("d".to_owned()),
                },
                json!({"project": {"name": "p", "domain": {"id": "d"}}}),
            ),
            (
                Scope::Domain(Domain::Id("d".to_owned())),
                json!({"domain": {"id": "d"}}),
            ),
            (
                Scope::Domain(Domain::Name("d".to_owned())),
                json!({"domain": {"name": "d"}}),
            ),
            (
                Scope::Trust("t".to_owned()),
                json!({"OS-TRUST:trust": {"id": "t"}}),
            ),
        ];
        let identity = Identity::Token(Token::new("t".to_owned()));
        for (scope, expected) in cases {
            assert_eq!(body(&identity, &scope)["auth"]["scope"], expected);
        }
    }
}
