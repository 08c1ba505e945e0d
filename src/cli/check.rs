//! The diagnosis for an operator: every step from the file to the key.
//!
//! Beside `serve` the only module that names several edges. It stops at the first step
//! that fails, and says what was found, how long it took, and what to do. It sends the
//! same requests as the sidecar itself, with three exceptions: it asks for a key's
//! metadata and for the ACL of a container, which the recommended credential cannot read,
//! so a refusal there is good news; and if there is no such secret, it asks for an order
//! of that id.

mod access_rules;
mod container;
mod credential;
mod encryption_config;
mod findings;
mod kubernetes;
mod manifest;
mod messages;
mod next_step;
mod quoted;
mod report;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use http::{StatusCode, Uri};
use jiff::Timestamp;

use crate::config::{self, Environment, Live, Loaded, Ring, files, redact};
use crate::key_id::KeyId;
use crate::log::error_chain::ErrorChain;
use crate::openstack::{Endpoint, Error, OpenStack, Session, Timing, authority_warnings};
use crate::secret::{self, ExposedKek, Protection};

use access_rules::Base;
use messages::{described, doubts, identity, of_order, place, printable_key, short_key};
use next_step::{next_step, of_settings};
use walk::{Failed, Walk};

pub use manifest::{Called, Served, Understand};
pub use report::{Outcome, Report, Step};

/// What to check.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The cloud-config, and from there everything up to the keys.
    pub cloud_config: Option<PathBuf>,
    /// kube-apiserver's EncryptionConfiguration.
    pub encryption_config: Option<PathBuf>,
    /// kube-apiserver's static pod.
    pub manifest: Option<PathBuf>,
    /// The parser for the sidecar's command lines in it; without it, they are not checked.
    pub understand: Option<Understand>,
}

/// Runs every step; `on_step` is called after each.
pub async fn check(files: &Files, on_step: &mut dyn FnMut(&Step)) -> Report {
    let mut walk = Walk::begin(on_step);
    walk.kubernetes(files);
    if let Some(cloud_config) = &files.cloud_config {
        // The step that fails has been recorded.
        let _ = walk.all(cloud_config).await;
    }
    walk.report
}

impl Walk<'_> {
    async fn all(&mut self, cloud_config: &Path) -> Result<(), Failed> {
        let live = self.configuration(cloud_config)?;
        self.memory();
        let client = OpenStack::new(&live.cloud, Timing::default());
        let fix = client.as_ref().err().map_or("", of_settings);
        let client = self.take("settings", client, fix)?;
        let keystone = client.keystone().clone();
        self.reach(&client, "keystone", &keystone).await?;
        let session = self.login(&client, &live).await?;
        let session = self.credential_end(&client, session).await?;
        let endpoint = self.catalog(&client, &session).await?;
        self.access_rules(&session, &endpoint, &live);
        match &live.ring.container {
            None => {
                for id in live.ring.ids() {
                    let role = if Some(id) == live.ring.write {
                        "key-id"
                    } else {
                        "decrypt-key-ids"
                    };
                    self.key(&client, &session, &endpoint, id, role).await?;
                }
                Ok(())
            }
            Some(container) => {
                let listed = self.container(&client, &session, &endpoint, container);
                let mut keys = listed.await?;
                for id in live.ring.ids() {
                    if keys.iter().all(|(known, _)| *known != id) {
                        keys.push((id, "decrypt-key-ids"));
                    }
                }
                // One that fails does not keep a sidecar from the others either.
                let mut outcome = Ok(());
                for (id, role) in keys {
                    let key = self.key(&client, &session, &endpoint, id, role).await;
                    outcome = outcome.and(key);
                }
                outcome
            }
        }
    }

    fn configuration(&mut self, path: &Path) -> Result<Arc<Live>, Failed> {
        let loaded = config::load(path, &Environment::from_process(), &files::read);
        let Loaded {
            live,
            warnings,
            files,
        } = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                let warnings = error.warnings.iter().map(ToString::to_string).collect();
                let text = ErrorChain(&error).to_string();
                return self.fail("configuration", text, None, warnings);
            }
        };
        let found = format!(
            "{}, {}, {}, {} file{}",
            redact::path(path),
            identity(&live.cloud.identity),
            keys_named(&live.ring),
            files.len(),
            plural(files.len()),
        );
        let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        #[expect(
            clippy::disallowed_methods,
            reason = "for a person, at this very moment"
        )]
        let date = SystemTime::now();
        warnings.extend(authority_warnings(&live.cloud.tls, date));
        self.pass("configuration", found, warnings);
        Ok(live)
    }

    fn memory(&mut self) {
        let (found, warning) = match secret::protection() {
            Protection::SecretMemory => ("memfd_secret: not even root can read the keys", None),
            Protection::Locked => (
                "mlock: not swapped, not dumped; root can read the keys",
                Some("the kernel has no memfd_secret for this process (Linux 5.14 and later)"),
            ),
            Protection::Unlocked => (
                "plain memory",
                Some("neither memfd_secret nor mlock works: raise RLIMIT_MEMLOCK to 8 MiB"),
            ),
        };
        let warnings = warning.map(str::to_owned).into_iter().collect();
        self.pass("key memory", found.to_owned(), warnings);
    }

    /// Name resolution, connection and TLS.
    async fn reach(&mut self, client: &OpenStack, who: &str, url: &Uri) -> Result<(), Failed> {
        let name = format!("{who} name");
        let addresses = client.resolve(url).await;
        let addresses = self.ask(&name, addresses)?;
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let via = client
            .proxy(url)
            .map(|proxy| format!(" (proxy {proxy})"))
            .unwrap_or_default();
        let host = redact::host(url.host().unwrap_or_default());
        self.pass(
            &name,
            format!("{host}{via} is {}", addresses.join(", ")),
            Vec::new(),
        );

        let name = format!("{who} connection");
        let peer = client.connect(url).await;
        let peer = self.ask(&name, peer)?;
        let mut warnings = Vec::new();
        let tls = peer.tls.unwrap_or_else(|| {
            warnings
                .push("plain HTTP: the token and the key cross the network in clear".to_owned());
            "no TLS".to_owned()
        });
        let address = peer
            .address
            .map(|address| address.to_string())
            .unwrap_or_default();
        self.pass(&name, format!("{address}, {tls}"), warnings);
        Ok(())
    }

    async fn catalog(&mut self, client: &OpenStack, session: &Session) -> Result<Endpoint, Failed> {
        let endpoint = client.endpoint(session);
        let endpoint = self.ask("catalog", endpoint)?;
        let found = place(&endpoint, client.endpoint_of_catalog(session).ok().as_ref());
        self.pass("catalog", found, Vec::new());
        self.endpoint = Some(endpoint.clone());
        let url = endpoint.url().clone();
        self.reach(client, "barbican", &url).await?;
        Ok(endpoint)
    }

    async fn key(
        &mut self,
        client: &OpenStack,
        session: &Session,
        endpoint: &Endpoint,
        id: KeyId,
        role: &str,
    ) -> Result<(), Failed> {
        let name = format!("{role} metadata");
        match client.metadata(session, endpoint, id).await {
            Ok(metadata) => {
                let warnings = doubts(&metadata, now());
                self.pass(&name, described(id, &metadata), warnings);
            }
            // Whatever the answer is, the payload decides.
            Err(Error::Denied { .. }) => self.skip(
                &name,
                format!("{id}: not readable with this credential, as recommended"),
            ),
            Err(error) => self.skip(&name, format!("{id}: {}", ErrorChain(&error))),
        }
        let name = format!("{role} payload");
        let payload = client.payload(session, endpoint, id).await;
        let rules = session.account().access_rules();
        let kek = match (payload, rules) {
            (Err(Error::Denied { refusal }), Some(rules))
                if refusal.problem.status() == Some(StatusCode::UNAUTHORIZED) =>
            {
                let fix = access_rules::refused(rules, &Base::of(endpoint.url()), id);
                self.take(&name, Err(Error::Denied { refusal }), &fix)?
            }
            (Err(error @ Error::NotFound(_)), _) => {
                let order = client.order(session, endpoint, id).await;
                let fix = order.map_or_else(
                    || next_step(&error, self.endpoint.as_ref()),
                    |order| of_order(id, &order),
                );
                self.take(&name, Err(error), &fix)?
            }
            (payload, _) => self.ask(&name, payload)?,
        };
        let (bits, mut warnings) = match kek.expose() {
            ExposedKek::Aes256(_) => (256, Vec::new()),
            ExposedKek::Aes192(_) => (192, vec![short_key(192)]),
            ExposedKek::Aes128(_) => (128, vec![short_key(128)]),
        };
        if kek.expose().looks_like_text() {
            warnings.push(printable_key());
        }
        self.pass(&name, format!("{id}: an AES key of {bits} bits"), warnings);
        Ok(())
    }
}

/// The keys by the file alone.
fn keys_named(ring: &Ring) -> String {
    let count = ring.ids().count();
    match &ring.container {
        None => format!("{count} key{}", plural(count)),
        Some(container) if count == 0 => format!("keys by the container {}", container.id),
        Some(container) => format!("keys by the container {}, {count} pinned", container.id),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "for a person, at this very moment"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
