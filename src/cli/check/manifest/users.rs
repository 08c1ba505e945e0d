//! Users: who reads the cloud-config, and who may connect to the socket.

use super::super::findings::{Findings, is_set};
use super::pod::{Container, Place};
use super::sidecar::Served;
use crate::cli::check::quoted;

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
    if user != 0 && !served.cloud_config.is_empty() {
        findings.warn(format!(
            "the sidecar runs as user {user}, group {group}: {} and the files that it names must \
             be readable for it, for example by `chown root:{group}` and `chmod 640`",
            quoted::path(&served.cloud_config)
        ));
    }
}

pub(super) fn kube_apiserver_can_read(server: Container<'_>, findings: &mut Findings) {
    let user = server.server_user();
    if user != 0 {
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
    // The kubelet gives an emptyDir to the fsGroup, and what is made in it.
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
