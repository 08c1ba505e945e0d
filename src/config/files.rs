//! The impure edge of the configuration: files and the process's environment.
//!
//! The readers get [`read`] as an argument, and use nothing else of this module.
//! Invariant: no file is read without a bound, and nothing that is not a regular file
//! can make a read hang.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Content, Environment, FileError, Proxy};

/// The longest file that is read: four times the size of a bundle of all public
/// certificate authorities.
pub const FILE_MAX_BYTES: usize = 1 << 20;

/// Reads a regular file of at most [`FILE_MAX_BYTES`].
///
/// # Errors
/// When there is no such file, when it is not a regular one, or when it is longer.
pub fn read(path: &Path) -> Result<Content, FileError> {
    read_capped(path, FILE_MAX_BYTES)
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// When there is no such file, when it is not a regular one, or when it is longer.
pub fn read_capped(path: &Path, limit: usize) -> Result<Content, FileError> {
    // Without O_NONBLOCK, opening a FIFO waits for a writer.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if !kind.is_file() {
        return Err(if kind.is_dir() {
            FileError::Directory
        } else if kind.is_fifo() {
            FileError::NotRegular("a FIFO")
        } else if kind.is_char_device() || kind.is_block_device() {
            FileError::NotRegular("a device")
        } else {
            FileError::NotRegular("something else")
        });
    }
    if metadata.len() > limit as u64 {
        return Err(FileError::TooLong { limit });
    }
    Ok(Content {
        bytes: read_to_limit(file, limit)?,
        mode: metadata.permissions().mode() & 0o7777,
    })
}

fn read_to_limit(file: File, limit: usize) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the capped reader that the rule points to"
    )]
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(FileError::TooLong { limit });
    }
    Ok(bytes)
}

impl From<std::io::Error> for FileError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Self::Missing,
            ErrorKind::PermissionDenied => Self::Denied,
            ErrorKind::IsADirectory => Self::Directory,
            kind => Self::Io(kind),
        }
    }
}

impl Environment {
    /// The environment of the process.
    pub fn from_process() -> Self {
        let path = |name| {
            let value = std::env::var_os(name);
            value.filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        Self {
            cloud: variable("OS_CLOUD"),
            client_config_file: path("OS_CLIENT_CONFIG_FILE"),
            client_secure_file: path("OS_CLIENT_SECURE_FILE"),
            home: home_from_passwd().or_else(|| path("HOME")),
            working_directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            proxy: Proxy {
                http: any_variable("HTTP_PROXY", "http_proxy").into(),
                https: any_variable("HTTPS_PROXY", "https_proxy").into(),
                no_proxy: any_variable("NO_PROXY", "no_proxy"),
            },
        }
    }
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn any_variable(upper: &str, lower: &str) -> String {
    variable(upper)
        .or_else(|| variable(lower))
        .unwrap_or_default()
}

/// The home directory of this user in /etc/passwd, as the Go plugin has it; `HOME` is
/// often another one in a container.
fn home_from_passwd() -> Option<PathBuf> {
    let passwd = read(Path::new("/etc/passwd")).ok()?;
    let user = rustix::process::getuid().as_raw().to_string();
    home_of(&String::from_utf8_lossy(&passwd.bytes), &user)
}

fn home_of(passwd: &str, user_id: &str) -> Option<PathBuf> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let has_id = fields.nth(2) == Some(user_id);
        let home = fields.nth(2)?;
        (has_id && !home.is_empty()).then(|| PathBuf::from(home))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_with_its_mode() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cloud.conf");
        std::fs::write(&path, "[Global]\n").expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("set");
        let content = read(&path).expect("read");
        assert_eq!(content.bytes, b"[Global]\n");
        assert_eq!(content.mode, 0o640);
    }

    #[test]
    fn a_file_may_be_as_long_as_the_limit_and_no_longer() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, [b'x'; 10]).expect("written");
        assert_eq!(read_capped(&path, 10).expect("read").bytes.len(), 10);
        assert!(matches!(
            read_capped(&path, 9),
            Err(FileError::TooLong { limit: 9 })
        ));
    }

    #[test]
    fn a_file_that_claims_to_be_empty_is_bounded_too() {
        // Files of procfs have length 0 and contents nevertheless.
        assert!(matches!(
            read_capped(Path::new("/proc/self/status"), 10),
            Err(FileError::TooLong { limit: 10 })
        ));
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let directory = tempfile::tempdir().expect("a directory");
        let fifo = directory.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.expect("mkfifo runs").success());
        assert!(matches!(read(&fifo), Err(FileError::NotRegular(_))));
        assert!(matches!(
            read(Path::new("/dev/zero")),
            Err(FileError::NotRegular(_))
        ));
        assert!(matches!(read(directory.path()), Err(FileError::Directory)));
        assert!(matches!(
            read(&directory.path().join("none")),
            Err(FileError::Missing)
        ));
        assert!(matches!(read(&fifo.join("below")), Err(FileError::Missing)));
    }

    #[test]
    fn the_home_directory_is_the_one_of_the_users_line() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nkms:x:65532:65532::/home/kms:/sbin/nologin\n";
        assert_eq!(home_of(passwd, "65532"), Some(PathBuf::from("/home/kms")));
        assert_eq!(home_of(passwd, "0"), Some(PathBuf::from("/root")));
        assert_eq!(home_of(passwd, "1"), None);
        assert_eq!(home_of("broken\n::0\n", "0"), None);
    }
}
