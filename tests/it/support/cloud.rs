//! A Keystone and a Barbican that record what they are asked, in one server.

use std::sync::Mutex;
use std::time::Duration;

use barbican_kms::config::{Cloud, Identity, Interface, Proxy, Roots, Scope, Tls, User};
use barbican_kms::key_id::KeyId;
use barbican_kms::openstack::{Error, OpenStack, Timing};
use barbican_kms::secret::Password;
use serde_json::json;
use tokio_rustls::TlsAcceptor;

use super::server::{Received, Reply, Server};

/// The password of [`cloud`].
pub(crate) const PASSWORD: &str = "correct-horse-battery";
/// The key that the recorder gives out.
pub(crate) const KEY: [u8; 32] = [0xa7; 32];
/// The id of that key.
pub(crate) const KEY_ID: &str = "b5309dfb-b326-4148-b0ad-e9cd1ec223a8";

pub(crate) fn key_id() -> KeyId {
    KEY_ID.parse().expect("a UUID")
}

/// How the recorder answers; the last entry of a sequence repeats.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    /// To logins.
    pub(crate) auth: Vec<u16>,
    /// To reads of payloads.
    pub(crate) pay: Vec<u16>,
    /// To reads of an endpoint's root.
    pub(crate) disc: u16,
    /// Appended to the catalog's URLs.
    pub(crate) sfx: String,
    /// Barbican's service type.
    pub(crate) stype: String,
    /// How long tokens live, in seconds.
    pub(crate) lifetime: i64,
    /// The base of the catalog's URLs, where it is not the server's own.
    pub(crate) name: Option<String>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            auth: vec![201],
            pay: vec![200],
            disc: 200,
            sfx: String::new(),
            stype: "key-manager".to_owned(),
            lifetime: 3600,
            name: None,
        }
    }
}

impl Recorder {
    pub(crate) fn named(mut self, base: &str) -> Self {
        self.name = Some(base.to_owned());
        self
    }

    pub(crate) async fn start(self) -> Server {
        self.start_with(None, |_| None).await
    }

    /// `first` may answer in the recorder's place.
    pub(crate) async fn start_with(
        self,
        tls: Option<TlsAcceptor>,
        first: impl Fn(&Received) -> Option<Reply> + Send + Sync + 'static,
    ) -> Server {
        let counts = Mutex::new((0, 0));
        Server::start(tls, move |base, request| {
            if let Some(reply) = first(request) {
                return reply;
            }
            let mut counts = counts.lock().expect("no panic while held");
            if request.target.ends_with("/v3/auth/tokens") && request.method == "POST" {
                let status = nth(&self.auth, counts.0);
                counts.0 += 1;
                return self.login(status, base, counts.0);
            }
            if request.target.ends_with("/payload") && request.method == "GET" {
                let status = nth(&self.pay, counts.1);
                counts.1 += 1;
                return payload(status, base);
            }
            if request.target.ends_with('/') {
                let versions = json!({"versions": {"values": [{"id": "v1", "status": "stable",
                    "links": [{"rel": "self", "href": format!("{base}{}v1/", request.target)}]}]}});
                return Reply::status(self.disc).body(versions.to_string());
            }
            if request.target.contains("/secrets/") && request.method == "GET" {
                // What is recorded about it: there whenever the payload is.
                return match nth(&self.pay, counts.1) {
                    200 => metadata(),
                    status => payload(status, base),
                };
            }
            if request.target.contains("/orders/") {
                return refused(404);
            }
            Reply::status(404)
        })
        .await
    }

    fn login(&self, status: u16, base: &str, number: usize) -> Reply {
        if !matches!(status, 201 | 202) {
            let body = json!({"error": {"code": status, "message": "m", "title": "t"}});
            return Reply::status(status).body(body.to_string());
        }
        let base = self.name.as_deref().unwrap_or(base);
        let url = |path: &str| format!("{base}{path}{}", self.sfx);
        let endpoint = |interface: &str, region: &str, id: &str, path: &str| json!({"id": format!("4f0c{}", path.trim_start_matches('/')), "interface": interface, "region": region, "region_id": id, "url": url(path)});
        let now = jiff::Timestamp::now();
        let end = now + jiff::SignedDuration::from_secs(self.lifetime);
        let body = json!({"token": {
            "methods": ["password"],
            "issued_at": now.to_string(),
            "expires_at": end.to_string(),
            "user": {"id": "uid", "name": "kms", "domain": {"id": "default", "name": "Default"}},
            "project": {"id": "T", "name": "infra", "domain": {"id": "default", "name": "Default"}},
            "roles": [{"id": "1", "name": "member"}],
            "catalog": [
                {"type": "identity", "name": "keystone", "endpoints": [
                    {"interface": "public", "region": "R1", "region_id": "R1", "url": base}]},
                {"type": self.stype, "name": "barbican", "endpoints": [
                    endpoint("public", "R1", "R1", "/km"),
                    endpoint("internal", "R1", "R1", "/kmint"),
                    endpoint("admin", "R1", "R1", "/kmadm"),
                    endpoint("public", "R2", "R2id", "/kmr2"),
                ]},
            ],
        }});
        Reply::status(status)
            .header("X-Subject-Token", format!("token-{number}"))
            .header("Content-Type", "application/json")
            .body(body.to_string())
    }
}

fn metadata() -> Reply {
    let body = json!({"name": "kms", "status": "ACTIVE", "secret_type": "symmetric",
        "algorithm": "aes", "bit_length": 256, "mode": "cbc", "expiration": null,
        "content_types": {"default": "application/octet-stream"}});
    Reply::status(200)
        .header("Content-Type", "application/json")
        .body(body.to_string())
}

fn payload(status: u16, base: &str) -> Reply {
    match status {
        200 => Reply::status(200)
            .header("Content-Type", "application/octet-stream")
            .body(KEY),
        302 => Reply::status(302).header("Location", format!("{base}/km2/v1/secrets/x/payload")),
        status => refused(status),
    }
}

/// The id of the container in [`container_config`].
pub(crate) const CONTAINER_ID: &str = "7c2d3f1e-0000-4148-b0ad-e9cd1ec223a8";

/// A container of these references: a name and an href each.
pub(crate) fn container(references: &[(String, String)]) -> String {
    let references: Vec<serde_json::Value> = references
        .iter()
        .map(|(name, secret)| json!({"name": name, "secret_ref": secret}))
        .collect();
    let body = json!({"type": "generic", "name": "k8s-keys", "status": "ACTIVE",
        "secret_refs": references});
    body.to_string()
}

/// A cloud whose container is described by `body`, and has no ACL.
pub(crate) async fn with_container(body: String) -> Server {
    Recorder::default()
        .start_with(None, move |request| {
            let asked = request.target.contains("/containers/");
            let open = || r#"{"read": {"project-access": true}}"#.to_owned();
            let acl = request.target.ends_with("/acl");
            asked.then(|| {
                Reply::status(200)
                    .header("Content-Type", "application/json")
                    .body(if acl { open() } else { body.clone() })
            })
        })
        .await
}

/// A file for the recorder whose keys a container lists.
pub(crate) fn container_config(server: &Server) -> String {
    cloud_config(server).replace(
        &format!("key-id = {KEY_ID}"),
        &format!("key-container = {CONTAINER_ID}"),
    )
}

/// As Barbican refuses, and for 401 Keystone's middleware before it.
pub(crate) fn refused(status: u16) -> Reply {
    if status == 401 {
        let body = json!({"error": {"code": status, "title": "t", "message": "m"}});
        return Reply::status(status)
            .header("WWW-Authenticate", "Keystone uri=\"http://keystone\"")
            .body(body.to_string());
    }
    let (title, description) = match status {
        403 => (
            "Forbidden",
            "Secret payload retrieval attempt not allowed - please review your user/project privileges",
        ),
        404 => ("Not Found", "Secret not found."),
        _ => ("t", "d"),
    };
    let body = json!({"code": status, "title": title, "description": description});
    Reply::status(status)
        .header("Content-Type", "application/json")
        .body(body.to_string())
}

fn nth(sequence: &[u16], at: usize) -> u16 {
    let last = sequence.last().copied().unwrap_or(200);
    sequence.get(at).copied().unwrap_or(last)
}

/// Settings for a user named by id, without region.
pub(crate) fn cloud(base: &str) -> Cloud {
    Cloud {
        keystone: format!("{base}/v3").parse().expect("a URL"),
        identity: Identity::Password {
            user: User::Id("uid".to_owned()),
            password: Password::new(PASSWORD.to_owned()),
        },
        scope: Scope::ProjectId("T".to_owned()),
        region: None,
        interface: Interface::Public,
        barbican: None,
        tls: Tls {
            roots: Roots::Host,
            client: None,
            verify: true,
        },
        proxy: Proxy::default(),
    }
}

/// A file for the recorder.
pub(crate) fn cloud_config(server: &Server) -> String {
    let base = server.base();
    format!(
        "[Global]\nauth-url = {base}/v3\nuser-id = uid\npassword = {PASSWORD}\ntenant-id = T\n\
         [KeyManager]\nkey-id = {KEY_ID}\n"
    )
}

/// The real limits, but hardly any pause between tries.
pub(crate) fn quick() -> Timing {
    Timing {
        pause: Duration::from_millis(4),
        pause_max: Duration::from_millis(40),
        ..Timing::default()
    }
}

pub(crate) fn client(base: &str) -> OpenStack {
    OpenStack::new(&cloud(base), quick()).expect("valid settings")
}

/// A cloud whose logins work and whose payloads are answered by `reply`.
pub(crate) async fn payloads(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Server {
    let count = std::sync::atomic::AtomicUsize::new(0);
    Recorder::default()
        .start_with(None, move |request| {
            let read = request.target.ends_with("/payload");
            read.then(|| reply(count.fetch_add(1, std::sync::atomic::Ordering::SeqCst)))
        })
        .await
}

/// The answer with the key.
pub(crate) fn key() -> Reply {
    Reply::status(200).body(KEY)
}

/// How often a payload was asked for.
pub(crate) fn reads(server: &Server) -> usize {
    let read = |request: &&Received| request.target.ends_with("/payload");
    server.received().iter().filter(read).count()
}

/// The error's text, after it was seen to be [`Error::Unavailable`].
pub(crate) async fn unavailable(client: &OpenStack) -> String {
    match client.key(key_id()).await {
        Err(error @ Error::Unavailable(_)) => error.to_string(),
        other => panic!("unavailable, not {other:?}"),
    }
}
