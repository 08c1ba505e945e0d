//! The unix listener: takes the place of what is dead, never of what is alive.
//!
//! Called once by `serve`, before anything slow. Invariant: the path either leads to a
//! socket that listens with the right mode, or is left as it was.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use crate::config::redact;

/// What `connect(2)` takes: the size of `sun_path` less the final zero (unix(7)).
const PATH_MAX_BYTES: usize = 107;

/// Connections that wait to be accepted: a client that finds no room here is refused at
/// once, so a crowd should fit in.
const BACKLOG: u32 = 1024;

/// Where and for whom to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// The path of the socket.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Its group, as a number; `None` for the process's own.
    pub group: Option<u32>,
}

/// A listening socket that removes its file when it is dropped.
#[derive(Debug)]
pub struct Listener {
    inner: UnixListener,
    options: SocketOptions,
    /// Device and inode: a file that somebody else has put there since is not ours.
    identity: (u64, u64),
}

/// Why the socket cannot be bound. Each text names the path and the fix.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// `sun_path` is short.
    #[error(
        "{}: the path of a socket is limited to {PATH_MAX_BYTES} bytes, and this one (with room \
         for a temporary name) is longer; choose a shorter --socketpath",
        redact::path(path)
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// A path like `/` or `..`.
    #[error(
        "{}: this is not a file name; --socketpath must be the path of the socket itself",
        redact::path(path)
    )]
    NoFileName {
        /// The path.
        path: PathBuf,
    },
    /// The directory is missing or cannot be used.
    #[error(
        "{}: cannot be used for the socket; mount or create the directory first",
        redact::path(directory)
    )]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another process listens there.
    #[error(
        "{}: another process listens here; stop it first, or use another --socketpath",
        redact::path(path)
    )]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something else than a socket is there.
    #[error(
        "{}: this is {what}, not a socket; the sidecar does not replace it. Use another \
         --socketpath",
        redact::path(path)
    )]
    NotASocket {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Any other refusal of the system.
    #[error("{}: cannot listen here", redact::path(path))]
    Listen {
        /// The path.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl Listener {
    /// Binds and listens.
    ///
    /// The socket is made under a temporary name, gets its owner and mode, and is then
    /// renamed: a client that sees it can use it.
    ///
    /// # Errors
    /// When the path is taken, or cannot be used.
    pub async fn bind(options: &SocketOptions) -> Result<Self, SocketError> {
        let path = &options.path;
        let listen = |source| SocketError::Listen {
            path: path.clone(),
            source,
        };
        let (directory, temporary) = neighbours(path)?;
        // Held while we look and replace: of two processes that start at once, one
        // finds the other's live socket.
        let _lock = lock(&directory).await?;
        refuse_what_is_alive(path).await?;

        let _ = std::fs::remove_file(&temporary);
        let socket = UnixSocket::new_stream().map_err(listen)?;
        socket.bind(&temporary).map_err(listen)?;
        let made = Temporary(&temporary);
        if let Some(group) = options.group {
            std::os::unix::fs::chown(&temporary, None, Some(group)).map_err(listen)?;
        }
        let permissions = std::fs::Permissions::from_mode(options.mode);
        std::fs::set_permissions(&temporary, permissions).map_err(listen)?;
        let listener = socket.listen(BACKLOG).map_err(listen)?;
        std::fs::rename(&temporary, path).map_err(listen)?;
        made.keep();
        let metadata = std::fs::symlink_metadata(path).map_err(listen)?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self {
            inner: listener,
            options: options.clone(),
            identity,
        })
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.inner.accept().await.map(|(stream, _)| stream)
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.options.path
    }

    /// Whether its file has been deleted, so that nobody finds it any more. What
    /// somebody else has put in its place is left alone.
    pub fn is_lost(&self) -> bool {
        let found = std::fs::symlink_metadata(self.path());
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Binds and listens again, where the file has been deleted.
    ///
    /// # Errors
    /// As those of [`Listener::bind`]; this listener goes on as it was.
    pub async fn renew(&mut self) -> Result<(), SocketError> {
        let renewed = Self::bind(&self.options).await?;
        *self = renewed;
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(self.path())
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours {
            // Nothing can be done about a failure; the next start replaces the file.
            let _ = std::fs::remove_file(self.path());
        }
    }
}

/// Removes a half-made socket when something goes wrong.
struct Temporary<'a>(&'a Path);

impl Temporary<'_> {
    fn keep(self) {
        let _ = std::mem::ManuallyDrop::new(self);
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
    }
}

fn neighbours(path: &Path) -> Result<(PathBuf, PathBuf), SocketError> {
    let name = path.file_name().ok_or_else(|| SocketError::NoFileName {
        path: path.to_owned(),
    })?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    let temporary = directory.join(hidden);
    if temporary.as_os_str().len() > PATH_MAX_BYTES {
        return Err(SocketError::PathTooLong {
            path: path.to_owned(),
        });
    }
    Ok((directory, temporary))
}

async fn lock(directory: &Path) -> Result<std::fs::File, SocketError> {
    let refuse = |source| SocketError::Directory {
        directory: directory.to_owned(),
        source,
    };
    let file = std::fs::File::open(directory).map_err(refuse)?;
    if !file.metadata().map_err(refuse)?.is_dir() {
        return Err(refuse(io::ErrorKind::NotADirectory.into()));
    }
    // The holder needs milliseconds; a lock held for longer is not one of ours.
    for _ in 0..100 {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            // Not every file system has locks; the checks still stand without one.
            Ok(()) | Err(_) => return Ok(file),
        }
    }
    Ok(file)
}

async fn refuse_what_is_alive(path: &Path) -> Result<(), SocketError> {
    let listen = |source| SocketError::Listen {
        path: path.to_owned(),
        source,
    };
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(listen(error)),
    };
    let what = if kind.is_socket() {
        return match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            // Gone since: its owner has just removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // A full backlog, too, means that somebody lives there.
            Ok(_) => Err(SocketError::InUse {
                path: path.to_owned(),
            }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(SocketError::InUse {
                path: path.to_owned(),
            }),
            Err(error) => Err(listen(error)),
        };
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_file() {
        "a regular file"
    } else {
        "a special file"
    };
    Err(SocketError::NotASocket {
        path: path.to_owned(),
        what,
    })
}
