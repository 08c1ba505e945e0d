//! What kube-apiserver is told.

use std::path::Path;

use super::super::findings::{Findings, is_set, text};
use super::flags::{Flags, distance};
use super::pod::{Container, Place};
use crate::cli::check::quoted;

/// Where kube-apiserver is told of its EncryptionConfiguration.
pub(super) const ENCRYPTION: &str = "encryption-provider-config";

const RELOAD: &str = "encryption-provider-config-automatic-reload";

/// How many letters of a flag may be wrong before it is taken for another one.
const NEAR: usize = 4;

/// What Go's `strconv.ParseBool` takes.
const TRUE: [&str; 6] = ["1", "t", "T", "TRUE", "true", "True"];
const FALSE: [&str; 6] = ["0", "f", "F", "FALSE", "false", "False"];

/// The flags behind the word `kube-apiserver`; all when the image has it as entrypoint.
pub(super) fn flags_of(server: Container<'_>) -> Flags {
    let mut words = server.command();
    words.extend(server.args());
    let program = words
        .iter()
        .position(|word| word.rsplit('/').next() == Some("kube-apiserver"));
    Flags::read(
        words
            .get(program.map_or(0, |at| at + 1)..)
            .unwrap_or_default(),
    )
}

pub(super) fn each_word_is_one_flag(flags: &Flags, findings: &mut Findings) {
    for name in flags
        .names()
        .filter(|name| name.contains(char::is_whitespace))
    {
        findings.error(
            format!(
                "one word of kube-apiserver's command contains several flags: --{}",
                quoted::name(name.split_whitespace().next().unwrap_or_default())
            ),
            "write `--flag=value`, one per line",
        );
    }
    for word in &flags.stray {
        let kind = if word.starts_with('-') {
            "flags begin with two dashes"
        } else {
            "kube-apiserver accepts only flags"
        };
        findings.error(
            format!(
                "kube-apiserver refuses the word {} of its command: {kind}",
                quoted::word(word.split('=').next().unwrap_or_default())
            ),
            "write `--flag=value`, one per line",
        );
    }
}

/// A wrong name is an unknown flag, with which kube-apiserver does not start.
pub(super) fn encryption_flags_exist(flags: &Flags, findings: &mut Findings) {
    for name in flags
        .names()
        .filter(|name| ![ENCRYPTION, RELOAD].contains(name))
    {
        // What holds several words has been named.
        if name.contains(char::is_whitespace) {
            continue;
        }
        let meant = [ENCRYPTION, RELOAD]
            .into_iter()
            .min_by_key(|meant| distance(name, meant));
        let meant = meant.unwrap_or(ENCRYPTION);
        if name.contains("encryption-provider") || distance(name, meant) <= NEAR {
            findings.error(
                format!(
                    "kube-apiserver has no flag --{}, and does not start with it",
                    quoted::name(name)
                ),
                format!("write --{meant}"),
            );
        }
    }
}

pub(super) fn it_encrypts(flags: &Flags, findings: &mut Findings) {
    match flags.value(ENCRYPTION) {
        None => findings.error(
            format!("kube-apiserver has no --{ENCRYPTION}: it writes Secrets unencrypted"),
            format!("add --{ENCRYPTION}=/etc/kubernetes/encryption/encryption-config.yaml"),
        ),
        Some("") => findings.error(
            format!("--{ENCRYPTION} of kube-apiserver is empty: it writes Secrets unencrypted"),
            "name the file of the EncryptionConfiguration",
        ),
        Some(_) => match flags.value(RELOAD) {
            Some(value) if TRUE.contains(&value) => {}
            Some(value) if !FALSE.contains(&value) => findings.error(
                format!(
                    "kube-apiserver does not start: --{RELOAD} is {}",
                    quoted::word(value)
                ),
                "write true",
            ),
            _ => findings.warn(format!(
                "without --{RELOAD}=true each change of the EncryptionConfiguration needs a \
                 restart of kube-apiserver"
            )),
        },
    }
    let values: Vec<&str> = flags.values(ENCRYPTION).collect();
    if let Some((last, before)) = values.split_last()
        && before.iter().any(|one| one != last)
    {
        findings.warn(format!(
            "--{ENCRYPTION} is given {} times: the last value is used, {}",
            values.len(),
            quoted::path(last)
        ));
    }
}

/// One flag that names several files is being changed by hand: what follows from the one
/// that counts is then said as doubt.
pub(super) fn is_ambiguous(flags: &Flags) -> bool {
    let mut values = flags.values(ENCRYPTION);
    let first = values.next();
    values.any(|one| Some(one) != first)
}

/// The file that was checked must be the one that kube-apiserver reads. A copy may have
/// been checked, so another directory is no more than doubtful.
pub(super) fn it_reads_what_was_checked(
    server: Container<'_>,
    flags: &Flags,
    checked: &Path,
    findings: &mut Findings,
) {
    let Some(read) = flags.value(ENCRYPTION).filter(|read| !read.is_empty()) else {
        return;
    };
    let (shown, reads) = (checked.display(), quoted::path(read));
    if Path::new(read).file_name() != checked.file_name() {
        let what =
            format!("kube-apiserver reads {reads}, but the file that was checked is {shown}");
        let fix = format!(
            "name the file that kube-apiserver reads with --encryption-config, or correct \
             --{ENCRYPTION}"
        );
        if is_ambiguous(flags) {
            findings.warn(format!("{what}: {fix}"));
        } else {
            findings.error(what, fix);
        }
    } else if let Some(on_node) = server.on_node(read)
        && Path::new(&on_node) != checked
    {
        findings.warn(format!(
            "kube-apiserver reads {} of the node; {shown} was checked, which must have the same \
             content",
            quoted::path(&on_node)
        ));
    }
}

/// A file that a flag names: it must be mounted, by its directory, and be there.
pub(super) fn file_is_mounted(
    container: Container<'_>,
    flag: &str,
    path: &str,
    who: &str,
    findings: &mut Findings,
) {
    let shown = quoted::path(path);
    let has_quotes = path.starts_with(['"', '\'']) || path.ends_with(['"', '\'']);
    if has_quotes {
        findings.error(
            format!("--{flag} of {who} is {shown}: the quotes are part of the path"),
            "remove the quotes, or put them around the whole word",
        );
    } else if path.contains("$(") {
        findings.error(
            format!("--{flag} of {who} is {shown}, but no variable of `env` has that name"),
            "add it to `env`, before the variables that use it, or write the path itself",
        );
    } else if !path.starts_with('/') {
        findings.error(
            format!("--{flag} of {who} is {shown}, which is not an absolute path"),
            "write the full path",
        );
    } else if let Some((mount, rest)) = container.mount_over(path) {
        let volume = container.pod.volume(mount.volume);
        if rest.is_empty() {
            findings.error(
                format!(
                    "{who} mounts the single file {shown}: when it is replaced, the container \
                     still sees the old file"
                ),
                "mount its directory",
            );
        } else if volume.is_some_and(|volume| is_set(volume, "emptyDir")) {
            findings.error(
                format!(
                    "--{flag} of {who} is {shown}, which is in an emptyDir and so does not \
                         exist"
                ),
                "mount its directory of the node as hostPath",
            );
        } else if let Some(kind) = volume.and_then(|volume| text(volume.get("hostPath")?, "type"))
            && !["", "Directory", "DirectoryOrCreate"].contains(&kind)
        {
            findings.error(
                format!(
                    "volume {} is a hostPath of type {}, and {shown} is below it",
                    quoted::name(mount.volume),
                    quoted::name(kind)
                ),
                "write `type: Directory`",
            );
        }
    } else {
        findings.error(
            format!("--{flag} of {who} is {shown}, but nothing is mounted there"),
            "mount its directory",
        );
    }
}

/// The same for kube-apiserver's own.
pub(super) fn encryption_config_is_mounted(
    server: Container<'_>,
    flags: &Flags,
    findings: &mut Findings,
) -> Option<Place> {
    let path = flags.value(ENCRYPTION).filter(|path| !path.is_empty())?;
    let mut found = Findings::default();
    file_is_mounted(server, ENCRYPTION, path, "kube-apiserver", &mut found);
    if is_ambiguous(flags) {
        for wrong in found.errors {
            findings.warn(format!("{}: {}", wrong.what, wrong.fix));
        }
    } else {
        findings.errors.append(&mut found.errors);
    }
    server.place(path)
}
