//! The socket: one file, which the sidecar can make and kube-apiserver finds.

use super::super::findings::{Findings, is_set, text};
use super::pod::{Container, Place};
use super::sidecar::Served;
use crate::cli::check::quoted;

/// Kinds of volumes that are mounted read-only, whatever is asked for.
const READ_ONLY: [&str; 5] = ["secret", "configMap", "downwardAPI", "projected", "image"];

/// Where the sidecar makes it.
pub(super) fn the_sidecar_can_make_it(
    sidecar: Container<'_>,
    served: &Served,
    findings: &mut Findings,
) -> Option<Place> {
    let path = served.socketpath.as_str();
    if path.is_empty() {
        return None;
    }
    if path.contains("$(") {
        findings.error(
            format!(
                "--socketpath is {}, and no variable of `env` has that name",
                quoted::path(path)
            ),
            "add it to `env`, before the variables that use it, or write the path itself",
        );
        return None;
    }
    writable(sidecar, "--socketpath", path, findings)
}

/// The audit log must be writable too.
pub(super) fn the_audit_log_can_be_written(
    sidecar: Container<'_>,
    served: &Served,
    findings: &mut Findings,
) {
    if let Some(path) = &served.audit_log {
        writable(sidecar, "--audit-log", path, findings);
    }
}

fn writable(
    sidecar: Container<'_>,
    flag: &str,
    path: &str,
    findings: &mut Findings,
) -> Option<Place> {
    let shown = quoted::path(path);
    let Some((mount, rest)) = sidecar.mount_over(path) else {
        findings.error(
            format!("{flag} of the sidecar is {shown}, and no volume is mounted there"),
            "mount its directory: for the socket one emptyDir in both containers, for the log a \
             hostPath",
        );
        return None;
    };
    if rest.is_empty() {
        findings.error(
            format!(
                "the sidecar mounts the file {shown} itself, which then cannot be created again"
            ),
            "mount its directory",
        );
        return None;
    }
    let volume = sidecar.pod.volume(mount.volume);
    let kind = READ_ONLY
        .into_iter()
        .find(|kind| volume.is_some_and(|volume| is_set(volume, kind)));
    if mount.read_only || kind.is_some() {
        let why = kind.map_or("readOnly".to_owned(), |kind| format!("of a {kind}"));
        findings.error(
            format!(
                "the sidecar cannot create {shown}: the mount {} is {why}",
                quoted::path(mount.path)
            ),
            "remove readOnly from that mount; the volume must be an emptyDir or a hostPath",
        );
    }
    let kind = volume.and_then(|volume| text(volume.get("hostPath")?, "type"));
    match kind {
        Some(kind @ ("File" | "FileOrCreate" | "Socket" | "CharDevice" | "BlockDevice")) => {
            findings.error(
                format!(
                    "volume {} is a hostPath of type {kind}, and {shown} is below it",
                    quoted::name(mount.volume)
                ),
                "write `type: DirectoryOrCreate`",
            );
        }
        Some("Directory") => {
            let place = sidecar.place(path)?;
            if place.path.starts_with("/run/") || place.path.starts_with("/var/run/") {
                findings.warn(format!(
                    "volume {} is a hostPath of type Directory below /run, which is empty after a \
                     reboot, so that the pod is not started. Write DirectoryOrCreate",
                    quoted::name(mount.volume)
                ));
            }
        }
        _ => {}
    }
    sidecar.place(path)
}

/// Both must look at one file of one volume.
pub(super) fn kube_apiserver_finds_it(
    server: Container<'_>,
    sockets: &[String],
    listens: &str,
    made: &Place,
    findings: &mut Findings,
) {
    let listens = quoted::path(listens);
    let hint = "both must mount the same volume, and name the same file in it";
    if sockets.is_empty() {
        let reaches = server.mounts().any(|mount| {
            let inside = server.place(mount.path);
            inside.is_some_and(|place| {
                place.volume == made.volume && made.path.starts_with(&place.path)
            })
        });
        if !reaches {
            findings.error(
                format!(
                    "the sidecar listens on {listens}, whose volume kube-apiserver does not mount"
                ),
                hint,
            );
        }
        return;
    }
    let found = |path: &String| server.place(path).as_ref() == Some(made);
    let one_is_found = sockets.iter().any(found);
    for path in sockets {
        let shown = quoted::path(path);
        match server.mount_over(path) {
            None => findings.error(
                format!("kube-apiserver looks for {shown}, but no volume is mounted there"),
                hint,
            ),
            Some((_, rest)) if rest.is_empty() => findings.error(
                format!(
                    "kube-apiserver mounts the socket {shown} itself: after a restart of the \
                     sidecar it no longer works"
                ),
                "mount the directory",
            ),
            Some(_) if found(path) => {}
            Some(_) => {
                let what = format!(
                    "the sidecar listens on {listens}, which is not the file that kube-apiserver \
                     finds at {shown}"
                );
                if one_is_found {
                    findings.warn(format!("{what}: another program must serve it"));
                } else {
                    findings.error(what, hint);
                }
            }
        }
    }
}
