//! Who logs in and for what, where ours goes beyond the Go plugin or warns.

use serde_json::{Value as Json, json};

use super::vectors::login_body;
use super::{Directory, KEY_ID};

/// The login body of a cloud.conf with these lines, and its warnings.
fn login(lines: &str) -> (Json, Vec<String>) {
    let directory = Directory::new();
    let text =
        format!("[Global]\nauth-url=http://keystone/v3\n{lines}\n[KeyManager]\nkey-id={KEY_ID}\n");
    let loaded = directory.load_text(&text).expect(&text);
    (login_body(&loaded.live.cloud), directory.warnings(&text))
}

/// What is said when a cloud.conf with these lines is refused.
fn refusal(lines: &str) -> String {
    let text =
        format!("[Global]\nauth-url=http://keystone/v3\n{lines}\n[KeyManager]\nkey-id={KEY_ID}\n");
    Directory::new().refusal(&text)
}

#[test]
fn an_application_credential_wins_over_a_password() {
    let (body, warnings) = login(
        "application-credential-id=id\napplication-credential-secret=secret\nusername=u\n\
         password=p\ntenant-id=T",
    );
    let credential = json!({"id": "id", "secret": "secret"});
    assert_eq!(
        body,
        json!({"identity": {
            "methods": ["application_credential"],
            "application_credential": credential,
        }})
    );
    assert_eq!(
        warnings,
        [
            "cloud.conf:6:10: [Global] password: has no effect: the application credential is \
             used; \
             remove one of the two"
        ]
    );
}

#[test]
fn the_id_of_an_application_credential_wins_over_its_name() {
    let (body, _) = login(
        "application-credential-id=id\napplication-credential-name=n\n\
         application-credential-secret=s",
    );
    let credential = &body["identity"]["application_credential"];
    assert_eq!(*credential, json!({"id": "id", "secret": "s"}));
}

#[test]
fn a_domain_alone_is_the_scope_and_not_the_users_domain() {
    let (body, _) = login("user-id=u\npassword=p\ndomain-id=D\ndomain-name=DN");
    assert_eq!(body["scope"], json!({"domain": {"id": "D"}}));
    assert_eq!(
        refusal("username=u\npassword=p\ndomain-name=D"),
        "cloud.conf:3:10: [Global] username: a username needs its domain; set user-domain-name or \
         user-domain-id in [Global] (domain-name and domain-id apply to the user only with \
         tenant-id, tenant-name or an application credential)"
    );
}

#[test]
fn a_trust_takes_the_trustee_before_the_user() {
    let (body, warnings) =
        login("user-id=u\npassword=p\ntrustee-id=t\ntrustee-password=tp\ntrust-id=tr\ntenant-id=T");
    assert_eq!(
        body,
        json!({
            "identity": {
                "methods": ["password"],
                "password": {"user": {"id": "t", "password": "tp"}},
            },
            "scope": {"OS-TRUST:trust": {"id": "tr"}},
        })
    );
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn a_trustee_without_a_trust_is_warned_about() {
    let (body, warnings) = login("user-id=u\npassword=p\ntrustee-id=t\ntenant-id=T");
    assert_eq!(body["identity"]["password"]["user"]["id"], "u");
    assert_eq!(
        warnings,
        [
            "cloud.conf:5:12: [Global] trustee-id: has no effect: it is used only together with \
             `trust-id`"
        ]
    );
}

#[test]
fn a_token_wins_over_a_password_as_in_go() {
    let (body, warnings) = login("user-id=u\npassword=p\ntoken=tok\ntenant-id=T");
    assert_eq!(
        body["identity"],
        json!({"methods": ["token"], "token": {"id": "tok"}})
    );
    assert_eq!(warnings.len(), 1);
}

#[test]
fn too_little_and_too_much_are_refused_with_what_to_do() {
    for (lines, expected) in [
        ("", "cloud.conf: [Global] has no credentials"),
        (
            "password=hunter2",
            "cloud.conf:3:10: [Global] password: a password needs a user",
        ),
        (
            "username=u\nuser-id=i\npassword=hunter2",
            "cloud.conf:4:9: [Global] user-id: username and user-id are both set",
        ),
        (
            "username=u\npassword=hunter2\nuser-domain-id=a\nuser-domain-name=b",
            "cloud.conf:6:18: [Global] user-domain-name: the user's domain is given by id and by \
             name",
        ),
        (
            "username=u\npassword=hunter2\ntenant-id=t\ndomain-id=a\ndomain-name=b",
            "cloud.conf:7:13: [Global] domain-name: the user's domain is given by id and by name",
        ),
        (
            "user-id=u\npassword=hunter2\ntenant-id=t\ndomain-id=a",
            "cloud.conf:6:11: [Global] domain-id: a user-id takes no domain",
        ),
        (
            "user-id=u\npassword=hunter2\ntenant-name=t",
            "cloud.conf:5:13: [Global] tenant-name: a tenant-name needs its domain",
        ),
        (
            "token=hunter2",
            "cloud.conf:3:7: [Global] token: a token needs a scope",
        ),
        (
            "token=hunter2\ntenant-id=t\napplication-credential-id=a",
            "cloud.conf:3:7: [Global] token: a token and an application credential are both set",
        ),
        (
            "token=hunter2\ntrust-id=t\nuser-id=u\npassword=hunter2",
            "cloud.conf:3:7: [Global] token: a trust takes no token",
        ),
        (
            "trust-id=t\napplication-credential-id=a\napplication-credential-secret=hunter2",
            "cloud.conf:4:27: [Global] application-credential-id: a trust takes a password",
        ),
        (
            "trust-id=t\nusername=u\ntrustee-id=i\ntrustee-password=hunter2",
            "cloud.conf:5:12: [Global] trustee-id: username and trustee-id are both set",
        ),
        (
            "application-credential-id=a",
            "cloud.conf:3:27: [Global] application-credential-id: the application credential needs",
        ),
        (
            "application-credential-secret=hunter2",
            "cloud.conf:3:31: [Global] application-credential-secret: the secret needs its",
        ),
        (
            "application-credential-name=n\napplication-credential-secret=hunter2",
            "cloud.conf:3:29: [Global] application-credential-name: an application credential's \
             name needs its owner",
        ),
        (
            "application-credential-name=n\napplication-credential-secret=hunter2\nusername=u",
            "cloud.conf:5:10: [Global] username: a username needs its domain",
        ),
    ] {
        let refusal = refusal(lines);
        assert!(
            refusal.starts_with(expected),
            "{refusal}\ninstead of\n{expected}"
        );
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
}
