//! Finds mounts through which changes can never be seen.
//!
//! A bind mount keeps the file or directory that it was created with. A single file that
//! is replaced by renaming, as every tool does, stays the old one in the container; a
//! directory that is deleted stays empty there, even if it is created again on the host.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::config::{files, redact};

/// The kernel's list of mounts can be longer than a configuration file.
const MOUNTINFO_MAX_BYTES: usize = 8 << 20;

/// Says so in the log.
pub(super) fn warn_about_single_files(watched: &[PathBuf]) {
    let Ok(mounts) = files::read_capped(Path::new("/proc/self/mountinfo"), MOUNTINFO_MAX_BYTES)
    else {
        return;
    };
    let mounts = String::from_utf8_lossy(&mounts.bytes).into_owned();
    for file in watched.iter().filter(|file| is_mount_point(&mounts, file)) {
        warn!(
            file = %redact::path(file),
            "this file is mounted by itself, so a replacement will not be detected before a \
             restart; mount its directory instead (no subPath)"
        );
    }
}

/// A directory without a link is one that has been deleted where it was mounted from.
pub(super) fn warn_about_removed_directories(watched: &[PathBuf]) {
    let removed = |directory: &&Path| fs::metadata(directory).is_ok_and(|found| found.nlink() == 0);
    for directory in watched
        .iter()
        .filter_map(|file| file.parent())
        .filter(removed)
    {
        warn!(
            directory = %redact::path(directory),
            "this directory has been deleted on the host, and a new one there will not be detected \
             before a restart: restart the pod, and change only the files inside the directory"
        );
    }
}

/// The fifth field of a line is the mount point, with blanks and the like as octal
/// escapes (see `proc_pid_mountinfo(5)`).
fn is_mount_point(mounts: &str, file: &Path) -> bool {
    // The kernel knows no links in the names of mount points.
    let Ok(path) = file.canonicalize() else {
        return false;
    };
    let path = path.to_string_lossy();
    let escaped: String = path
        .chars()
        .map(|character| match character {
            ' ' | '\t' | '\n' | '\\' => format!("\\{:03o}", u32::from(character)),
            other => other.to_string(),
        })
        .collect();
    file.is_file()
        && mounts
            .lines()
            .any(|line| line.split(' ').nth(4) == Some(&escaped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_file_is_told_from_a_mounted_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("cloud conf");
        std::fs::write(&file, "").expect("written");
        let line = |path: &str| format!("36 35 98:0 /mnt1 {path} rw,noatime - ext3 /dev/root rw");
        let escaped = file.to_string_lossy().replace(' ', "\\040");
        assert!(is_mount_point(&line(&escaped), &file));
        let symbolic = directory.path().join("link");
        std::os::unix::fs::symlink(&file, &symbolic).expect("linked");
        assert!(is_mount_point(&line(&escaped), &symbolic));
        assert!(!is_mount_point(&line("/elsewhere"), &file));
        let path = directory.path();
        assert!(!is_mount_point(&line(&path.to_string_lossy()), path));
    }
}
