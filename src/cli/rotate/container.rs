//! The steps of a rotation where a container in Barbican lists the keys.

use std::fmt;

use crate::key_id::{ContainerId, KeyId};

/// A plan that changes the container and no file.
#[derive(Debug)]
pub(super) struct ContainerPlan {
    container: String,
    next: String,
    next_hash: Option<String>,
    status: String,
}

impl ContainerPlan {
    pub(super) fn new(container: Option<ContainerId>, next: Option<KeyId>, status: String) -> Self {
        Self {
            container: container.map_or_else(|| "CONTAINER-ID".to_owned(), |id| id.to_string()),
            next: next.map_or_else(|| "NEW-KEY-ID".to_owned(), |id| id.to_string()),
            next_hash: next.map(|id| id.sha256_label()),
            status,
        }
    }

    /// A request that adds or removes a reference to the new key.
    fn change(&self, method: &str, name: &str, key: &str) -> String {
        format!(
            "curl -fsS -X {method} -H \"X-Auth-Token: $TOKEN\" -H 'Content-Type: application/json' \\\n         \
             -d \"{{\\\"name\\\":\\\"{name}\\\",\\\"secret_ref\\\":\\\"$BARBICAN/v1/secrets/{key}\\\"}}\" \\\n         \
             \"$BARBICAN/v1/containers/{}/secrets\"",
            self.container
        )
    }
}

impl fmt::Display for ContainerPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            container,
            next,
            status,
            ..
        } = self;
        let hash = self.next_hash.as_deref();
        let hash = hash.unwrap_or("sha256:... (printf %s NEW-KEY-ID | sha256sum)");
        writeln!(
            f,
            "The container {container} lists the keys. Every sidecar follows it,\n\
             and no file changes. `rotate-key` does all of this by one command, and waits where\n\
             there is something to wait for. By hand:\n"
        )?;
        writeln!(
            f,
            "0. Make the new key, unless you have it:\n       \
             openstack secret order create --name k8s_key --algorithm aes --mode cbc \\\n         \
             --bit-length 256 --payload-content-type=application/octet-stream key\n       \
             openstack secret order get ORDER-HREF      # NEW-KEY-ID ends the secret href\n   \
             Let the user that the sidecars log in as read it, where it has the role `reader`:\n       \
             openstack acl user add --user USER-ID SECRET-HREF\n   \
             For the following steps:\n       \
             TOKEN=$(openstack token issue -f value -c id)\n       \
             BARBICAN=ENDPOINT      # of `openstack catalog show key-manager`, without /v1\n"
        )?;
        writeln!(
            f,
            "1. Stage it, so that every sidecar loads it:\n       {}\n",
            self.change("POST", "staged $(date -u +%FT%TZ)", next),
        )?;
        writeln!(
            f,
            "2. Wait: on every control-plane node\n       {status}\n   \
             must show `decrypt  held` for {next}, after one revalidate-interval\n   \
             at the latest. Until now all of it can be taken back by removing the reference.\n"
        )?;
        writeln!(
            f,
            "3. Activate it: a time in UTC as the name makes it the write key from then on:\n       \
             {}\n   On each node {status}\n   must then show `write    held` for it.\n",
            self.change("POST", "$(date -u +%FT%TZ)", next),
        )?;
        writeln!(
            f,
            "4. Wait until every kube-apiserver writes with the new key: a minute or so after the\n   \
             last node. In its metrics\n       \
             apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds\n   has\n       \
             key_id_hash=\"{hash}\"\n   \
             Kubernetes asks to wait 5 more minutes. Then have everything written again, for each\n   \
             resource of the EncryptionConfiguration:\n       \
             kubectl get secrets --all-namespaces -o json | kubectl replace -f -\n   \
             (again after a conflict; or, from Kubernetes 1.35, a StorageVersionMigration)\n   \
             Then note it, which ends the alert of a rotation that does not go on:\n       {}\n",
            self.change("POST", "migrated $(date -u +%FT%TZ)", next),
        )?;
        write!(
            f,
            "5. Restart each kube-apiserver and read everything once. When `status` no longer shows\n   \
             that the old key unwraps anything, retire it: remove each of its references, with\n   \
             the name that `openstack secret container get CONTAINER-HREF` shows:\n       {}\n   \
             The sidecars drop it after two readings. Never delete the secret itself for as long\n   \
             as there are etcd backups that need it, and never remove the newest key.",
            self.change("DELETE", "NAME", "OLD-KEY-ID"),
        )
    }
}

/// How a rotation comes to need no change of a file.
pub(super) fn way_to_a_container(old: KeyId) -> String {
    let (secret, now) = (old.secret_uuid(), "2026-01-01T00:00:00Z");
    let suffix = if old.with_suffix(None) == Ok(old) {
        ""
    } else {
        "\n(Not with the present key: it has a suffix, and keys of a container have none. Rotate first.)"
    };
    format!(
        "The next rotation can do without a change of any file. Put the keys into a container,\n\
         the write key under a time that has passed, and keep others from adding to it:\n    \
         openstack secret container create --type generic --name k8s-keys \\\n      \
         --secret '{now}=SECRET-HREF'      # of {secret}\n    \
         openstack acl submit --user USER-ID --no-project-access CONTAINER-HREF\n\
         and in the cloud-config replace `key-id` by\n    \
         key-container = \"CONTAINER-ID\"{suffix}"
    )
}
