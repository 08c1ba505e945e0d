//! The plugin outside of kube-apiserver's pod: in a static pod of its own, or a service of the
//! host. The two meet at a socket of the node.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::super::findings::Findings;
use super::directory::pods_beside;
use super::pod::{Container, Place};
use super::shape::Shape;
use super::sidecar::{self, Served};
use crate::cli::check::quoted;

/// Where sockets of the node are.
const RUN: [&str; 2] = ["/run", "/var/run"];

/// kube-apiserver without a sidecar: a mount of the node must hold the socket.
pub(super) fn kube_apiserver_finds_the_plugin(
    shape: Shape<'_>,
    server: Container<'_>,
    sockets: &[String],
    findings: &mut Findings,
) {
    let is_on_node = match sockets {
        [] => server
            .mounts()
            .filter_map(|mount| server.on_node(mount.path))
            .any(|path| RUN.iter().any(|run| Path::new(&path).starts_with(run))),
        sockets => sockets.iter().any(|path| server.on_node(path).is_some()),
    };
    if !shape.is_static {
        findings.error(
            "there is no barbican-kms container in it",
            "add it with the kustomize component in static-pod/hosted",
        );
    } else if !is_on_node {
        findings.error(
            "there is no barbican-kms container in it",
            "add it with the patch in static-pod/kubeadm/patches; after `kubeadm upgrade` without \
             --patches it is gone",
        );
    }
    for path in sockets {
        if server
            .mount_over(path)
            .is_some_and(|(_, rest)| rest.is_empty())
        {
            findings.error(
                format!(
                    "kube-apiserver mounts the socket {} itself: after a restart of the plugin it \
                     holds a dead one",
                    quoted::path(path)
                ),
                "mount the directory",
            );
        }
    }
}

/// A pod of the plugin alone: the socket must be where another pod can look for it.
pub(super) fn the_plugin_can_be_found(
    told: &Served,
    made: &Place,
    sockets: &[String],
    findings: &mut Findings,
) {
    let listens = quoted::path(&told.socketpath);
    if made.volume.is_some() {
        findings.error(
            format!(
                "the plugin listens on {listens}, in a volume of this pod alone: kube-apiserver \
                 is in another one"
            ),
            "make that volume a hostPath of type DirectoryOrCreate, which both pods mount",
        );
    } else if !sockets.is_empty() && !sockets.contains(&made.path) {
        findings.warn(format!(
            "the plugin's socket is {} of the node, which no provider names: kube-apiserver must \
             mount its directory under the name that it knows",
            quoted::path(&made.path)
        ));
    }
    if told.socket_mode & 0o066 == 0 {
        return;
    }
    findings.warn(format!(
        "--socket-mode is {:04o}, and the socket is on the node: whoever may write to it can use \
         the key",
        told.socket_mode
    ));
}

/// Whether somebody serves the sockets of a kube-apiserver without a sidecar: a pod beside
/// its manifest, or who listens there now.
pub(in super::super) fn somebody_serves(
    manifest: &Path,
    shape: Shape<'_>,
    sockets: &[String],
    findings: &mut Findings,
) {
    let Some(server) = shape.server().filter(|_| !shape.has_sidecar()) else {
        return;
    };
    if sockets.is_empty() {
        findings.warn(
            "the plugin is not in this pod: with --encryption-config it is looked for where \
             kube-apiserver does",
        );
    }
    let wanted = sockets.iter().filter_map(|path| server.on_node(path));
    for path in wanted {
        let is_there = || std::fs::metadata(&path).is_ok_and(|file| file.file_type().is_socket());
        let is_served = || pods_beside(manifest).iter().any(|pod| serves(pod, &path));
        if !is_there() && !is_served() {
            findings.warn(format!(
                "nobody listens on {} of the node now, and no pod beside this one does: see \
                 static-pod/separate and static-pod/systemd",
                quoted::path(&path)
            ));
        }
    }
}

fn serves(manifest: &serde_json::Value, path: &str) -> bool {
    let Some(shape) = Shape::of(manifest).filter(|shape| shape.is_static) else {
        return false;
    };
    let Some(plugin) = sidecar::find(shape.spec(), &mut Findings::default()) else {
        return false;
    };
    let told = sidecar::it_can_be_started(plugin, None, &mut Findings::default());
    plugin.on_node(&told.socketpath).as_deref() == Some(path)
}
