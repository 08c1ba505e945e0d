//! `rotate`: the exact steps of a key rotation, made from the present configuration.
//!
//! Prints and changes nothing. Beside `serve` and `check` it may name the configuration
//! and its files; it asks nobody.

mod container;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{self, Environment, Identity, Live, LoadError, files, redact};
use crate::key_id::KeyId;

use self::container::{ContainerPlan, way_to_a_container};

/// A plan for one cluster.
#[derive(Debug)]
pub struct Plan(Kind);

#[derive(Debug)]
enum Kind {
    File(Box<FilePlan>),
    Container(ContainerPlan),
}

/// The file lists the keys.
#[derive(Debug)]
struct FilePlan {
    file: PathBuf,
    socket: PathBuf,
    live: Arc<Live>,
    old: KeyId,
    next: Option<KeyId>,
    toml: bool,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The configuration cannot be read or is not valid.
    #[error(transparent)]
    Config(LoadError),
    /// The new key is the present one.
    #[error(
        "{0} is already the write key; to go back to an earlier key, give it a new id with \
         key-id-suffix, because Kubernetes forbids reusing a key id"
    )]
    Present(KeyId),
}

/// A plan to make `next` the write key of the clusters that `file` configures.
///
/// # Errors
/// When the configuration cannot be used, or names `next` as the write key already.
pub fn plan(file: &Path, socket: &Path, next: Option<KeyId>) -> Result<Plan, PlanError> {
    let loaded = config::load(file, &Environment::from_process(), &files::read)
        .map_err(PlanError::Config)?;
    let live = loaded.live;
    let status = format!("barbican-kms status --socketpath {}", redact::path(socket));
    let Some(old) = live.ring.write else {
        let container = live.ring.container.as_ref().map(|container| container.id);
        let plan = ContainerPlan::new(container, next, status);
        return Ok(Plan(Kind::Container(plan)));
    };
    if let Some(next) = next
        && next == old
    {
        return Err(PlanError::Present(next));
    }
    Ok(Plan(Kind::File(Box::new(FilePlan {
        file: file.to_owned(),
        socket: socket.to_owned(),
        live,
        old,
        next,
        toml: config::is_toml(file),
    }))))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::File(plan) => plan.fmt(f),
            Kind::Container(plan) => plan.fmt(f),
        }
    }
}

impl FilePlan {
    fn next(&self) -> String {
        self.next
            .map_or_else(|| "NEW-KEY-ID".to_owned(), |id| id.to_string())
    }

    fn next_hash(&self) -> String {
        self.next.map_or_else(
            || "sha256:... (printf %s NEW-KEY-ID | sha256sum)".to_owned(),
            |id| id.sha256_label(),
        )
    }

    /// The `decrypt-key-ids` line with `more` beside what is there now, less `without`.
    fn decrypt_line(&self, more: Option<&str>, without: &str) -> String {
        let mut ids: Vec<String> = self
            .live
            .ring
            .decrypt
            .iter()
            .map(ToString::to_string)
            .filter(|id| id != without && Some(id.as_str()) != more)
            .collect();
        ids.extend(more.map(str::to_owned));
        if self.toml {
            let quoted: Vec<String> = ids.iter().map(|id| format!("\"{id}\"")).collect();
            format!("decrypt-key-ids = [{}]", quoted.join(", "))
        } else {
            format!("decrypt-key-ids = \"{}\"", ids.join(","))
        }
    }
}

impl FilePlan {
    /// Whether the new key has a payload of its own, rather than being an old key under
    /// a new suffix.
    fn is_another_secret(&self) -> bool {
        let old = self.old.secret_uuid().to_string();
        self.next
            .is_none_or(|next| next.secret_uuid().to_string() != old)
    }

    fn logs_in_with_credential(&self) -> bool {
        matches!(
            self.live.cloud.identity,
            Identity::ApplicationCredentialId { .. } | Identity::ApplicationCredentialName { .. }
        )
    }

    /// An access rule for the payload of each secret that step 1 has in the ring.
    fn access_rules(&self) -> String {
        let mut secrets: Vec<String> = Vec::new();
        let ring = self.live.ring.ids();
        let ring = ring.map(|id| id.secret_uuid().to_string());
        let next = self
            .next
            .map_or_else(|| self.next(), |id| id.secret_uuid().to_string());
        for secret in ring.chain([next]) {
            if !secrets.contains(&secret) {
                secrets.push(secret);
            }
        }
        let rules: Vec<String> = secrets
            .iter()
            .map(|secret| {
                format!(
                    "{{\"service\":\"key-manager\",\"method\":\"GET\",\n          \
                     \"path\":\"/v1/secrets/{secret}/payload\"}}"
                )
            })
            .collect();
        format!("[{}]", rules.join(",\n         "))
    }

    /// How the sidecars come to read the new key.
    fn access(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_another_secret() {
            return Ok(());
        }
        if !self.logs_in_with_credential() {
            return writeln!(
                f,
                "   The user that the sidecars log in as must be able to read it: by a role in\n   \
                 its project, or by `openstack acl user add --user USER-ID SECRET-HREF`.\n"
            );
        }
        writeln!(
            f,
            "   An application credential cannot be changed. If the one in use is limited to\n   \
             the present key, Barbican refuses the new one. Then make a new credential, as\n   \
             the same user, that reads the payloads of both:\n       \
             openstack application credential create barbican-kms-2 --role member \\\n       \
             --access-rules \\\n       \
             '{}'\n   \
             (where `check` shows Barbican below a prefix, such as /key-manager/v1,\n   \
             each path begins with it) and write its id and secret, in the change of\n   \
             step 1, into [Global] of\n       \
             {}\n   \
             Delete the old one when every node has passed step 1.\n",
            self.access_rules(),
            redact::path(&self.file),
        )
    }
}

impl fmt::Display for FilePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let old = self.old.to_string();
        let old_hash = self.old.sha256_label();
        let (next, next_hash) = (self.next(), self.next_hash());
        let file = redact::path(&self.file);
        let status = format!(
            "barbican-kms status --socketpath {}",
            redact::path(&self.socket)
        );
        writeln!(f, "Rotation from {old}\n           to {next}\n")?;
        if self.next.is_none() {
            writeln!(
                f,
                "0. Make the new key:\n   \
                 openstack secret order create --name k8s_key --algorithm aes --mode cbc \\\n     \
                 --bit-length 256 --payload-content-type=application/octet-stream key\n   \
                 openstack secret order get ORDER-HREF      # NEW-KEY-ID ends the secret href\n   \
                 Then run this command again with --new-key-id NEW-KEY-ID.\n"
            )?;
        } else if self.is_another_secret() {
            writeln!(f, "0. Let the sidecars read the new key.")?;
        }
        self.access(f)?;
        writeln!(
            f,
            "1. On every control-plane node, in section [KeyManager] of {file}:\n       {}\n       {}\n   \
             It is loaded within seconds, without a restart. On each node\n       {status}\n   \
             must show `decrypt  held` for {next}.\n   \
             Go on only when EVERY node shows it: from step 2 on any of them may meet\n   its data.\n",
            key_lines(&old),
            self.decrypt_line(Some(&next), ""),
        )?;
        writeln!(
            f,
            "2. On every control-plane node, one after the other:\n       {}\n       {}\n   \
             On each node\n       {status}\n   must show `write    held` for {next}.\n   \
             (A file without the old key is refused: it would make its data unreadable.)\n",
            key_lines(&next),
            self.decrypt_line(Some(&old), &next),
        )?;
        writeln!(
            f,
            "3. Wait until every kube-apiserver writes with the new key: a minute or so.\n   \
             In its metrics\n       \
             apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds\n   \
             has\n       \
             key_id_hash=\"{next_hash}\"\n   \
             Kubernetes asks to wait 5 more minutes before the migration.\n"
        )?;
        writeln!(
            f,
            "4. Have everything written again, for each resource of the\n   EncryptionConfiguration:\n       \
             kubectl get secrets --all-namespaces -o json | kubectl replace -f -\n   \
             (again after a conflict; or, from Kubernetes 1.35, a StorageVersionMigration)\n"
        )?;
        writeln!(
            f,
            "5. Restart each kube-apiserver and read everything once:\n       \
             kubectl get secrets --all-namespaces >/dev/null\n   \
             apiserver_envelope_encryption_key_id_hash_total must no longer count\n       \
             key_id_hash=\"{old_hash}\"\n"
        )?;
        writeln!(
            f,
            "6. On every node drop the old key:\n       {}\n   \
             Keep {old} in Barbican for as long as there\n   \
             are etcd backups from before step 4: without it they cannot be read.\n",
            self.decrypt_line(None, &next),
        )?;
        f.write_str(&way_to_a_container(self.old))
    }
}

/// The `key-id` lines for a key.
fn key_lines(id: &str) -> String {
    match id.split_once('_') {
        None => format!("key-id = \"{id}\"  # and no key-id-suffix"),
        Some((uuid, suffix)) => {
            format!("key-id = \"{uuid}\"\n       key-id-suffix = \"{suffix}\"")
        }
    }
}
