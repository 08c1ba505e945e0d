//! Users: which user reads the cloud-config, and which may connect to the socket.

use super::super::findings::{Findings, is_set};
use super::findings_at::whole;
use super::flags::Flags;
use super::pod::{Container, Place};
use super::server::ENCRYPTION;
use super::sidecar::Served;
use crate::cli::check::quoted;

/// Volumes that the kubelet fills.
const FILLED: [&str; 3] = ["secret", "configMap", "projected"];

/// The kubelet does not start a root container that must not be root.
pub(super) fn root_is_allowed(container: Container<'_>, user: i64, findings: &mut Findings) {
    if user == 0 && container.must_not_be_root() {
        findings.error(
            format!(
                "container {} runs as root and has `runAsNonRoot: true`: the kubelet does not \
                 start it",
                quoted::name(container.name())
            ),
            "remove runAsNonRoot, or set runAsUser",
        );
    }
}

pub(super) fn files_can_be_read(sidecar: Container<'_>, served: &Served, findings: &mut Findings) {
    let (user, group) = (sidecar.sidecar_user(), sidecar.sidecar_group());
    let path = served.cloud_config.as_str();
    if path.is_empty() {
        return;
    }
    if let Some(may_read) = filled_volume_lets(sidecar, path, user, group) {
        if !may_read {
            cannot_read("the sidecar", user, path, findings);
        }
    } else if user != 0 {
        findings.warn(format!(
            "the sidecar runs as user {user}, group {group}: {} and the files that it names must \
             be readable for it, for example by `chown root:{group}` and `chmod 640`",
            quoted::path(path)
        ));
    }
}

/// Whether a user may read a file of a volume that the kubelet fills from the API; none when
/// files of the node decide.
fn filled_volume_lets(container: Container<'_>, path: &str, user: i64, group: i64) -> Option<bool> {
    let (mount, _) = container.mount_over(path)?;
    let volume = container.pod.volume(mount.volume)?;
    let source = FILLED.into_iter().find_map(|kind| volume.get(kind))?;
    let mode = source.get("defaultMode").and_then(whole).unwrap_or(0o644);
    // With an fsGroup, the kubelet lets that group read; every container is in it.
    let by_group = container.pod.fs_group().is_some() || (group == 0 && mode & 0o040 != 0);
    Some(user == 0 || by_group || mode & 0o004 != 0)
}

fn cannot_read(who: &str, user: i64, path: &str, findings: &mut Findings) {
    findings.error(
        format!(
            "{who} runs as user {user} and cannot read {}: the volume's files are root's",
            quoted::path(path)
        ),
        "set an fsGroup in the securityContext of the pod, which may then read them",
    );
}

pub(super) fn kube_apiserver_can_read(
    server: Container<'_>,
    flags: &Flags,
    findings: &mut Findings,
) {
    let user = server.server_user();
    let path = flags.value(ENCRYPTION).unwrap_or_default();
    if let Some(may_read) = filled_volume_lets(server, path, user, server.server_group()) {
        if !may_read {
            cannot_read("kube-apiserver", user, path, findings);
        }
    } else if user != 0 {
        findings.warn(format!(
            "kube-apiserver runs as user {user}: the EncryptionConfiguration must be readable for \
             it"
        ));
    }
}

/// Connecting needs the right to write.
pub(super) fn kube_apiserver_can_connect(
    server: Container<'_>,
    sidecar: Container<'_>,
    told: &Served,
    made: &Place,
    findings: &mut Findings,
) {
    let (user, owner) = (server.server_user(), sidecar.sidecar_user());
    let volume = made
        .volume
        .as_ref()
        .and_then(|name| server.pod.volume(name));
    let is_empty_dir = volume.is_some_and(|volume| is_set(volume, "emptyDir"));
    // The kubelet gives an emptyDir, and the files created in it, to the fsGroup.
    let inherited = server.pod.fs_group().filter(|_| is_empty_dir);
    let group = told
        .socket_group
        .map(i64::from)
        .or(inherited)
        .unwrap_or(sidecar.sidecar_group());
    let mut groups = server.pod.groups();
    groups.push(server.server_group());
    let needed = if user == owner {
        0o200
    } else if groups.contains(&group) {
        0o020
    } else {
        0o002
    };
    let passes = user == 0 && !server.lacks_override();
    if !passes && told.socket_mode & needed == 0 {
        findings.error(
            format!(
                "kube-apiserver runs as user {user} and cannot connect: the socket is user \
                 {owner}'s and group {group}'s, with permissions {:04o}",
                told.socket_mode
            ),
            format!(
                "add --socket-mode=0660 and --socket-group={} to the sidecar's args, or an fsGroup \
                 as static-pod/kubeadm/options/rootless does",
                server.server_group()
            ),
        );
    }
    if owner != 0 && made.volume.is_none() {
        findings.warn(format!(
            "the socket's directory is {} of the node: user {owner} of the sidecar must be allowed \
             to write there",
            quoted::path(
                made.path
                    .rsplit_once('/')
                    .map_or("/", |(directory, _)| directory)
            )
        ));
    }
}
