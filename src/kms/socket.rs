//! The unix listener: replaces a dead socket, never a live one.
//!
//! Called by `serve` before anything slow, and again when the file has been deleted. Invariants:
//! the path either leads to a socket that listens with the right mode, or is left as it was; once
//! calls are served, the thread that serves them never waits for the file system.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::config::redact;

/// What `connect(2)` takes: the size of `sun_path` less the final zero (unix(7)).
const PATH_MAX_BYTES: usize = 107;

/// Connections that wait to be accepted: a client that finds no room here is refused at
/// once, so there should be enough room.
const BACKLOG: u32 = 1024;

/// The path, permissions and group of the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// The path of the socket.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Its group, as a number; `None` for the process's own.
    pub group: Option<u32>,
}

/// A listening socket that removes its file when it is closed or dropped.
#[derive(Debug)]
pub struct Listener {
    inner: UnixListener,
    options: SocketOptions,
    file: SocketFile,
}

/// The file of a listening socket, which is removed when this is dropped.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: a file that was created there later is not ours.
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
        Ok(Self {
            inner: listener,
            options: options.clone(),
            file: SocketFile {
                path: path.clone(),
                identity: (metadata.dev(), metadata.ino()),
            },
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

    /// How it was made.
    pub fn options(&self) -> &SocketOptions {
        &self.options
    }

    /// Binds and listens again where the file of the socket has been deleted, so that no client finds
    /// it; `None` where there is a file, also another one. On a thread of its own, as the disk may be
    /// slow or hang.
    ///
    /// # Errors
    /// As those of [`Listener::bind`].
    pub async fn bind_if_lost(options: &SocketOptions) -> Result<Option<Self>, SocketError> {
        let options = options.clone();
        let runtime = Handle::current();
        let bound = spawn_blocking(move || {
            let found = std::fs::symlink_metadata(&options.path);
            if !found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                return Ok(None);
            }
            runtime.block_on(Self::bind(&options)).map(Some)
        });
        // A panic has been logged; the next look may go well.
        bound.await.unwrap_or(Ok(None))
    }

    /// Refuses new clients from now on, and removes the file on a thread of its own.
    pub fn close(self) -> JoinHandle<()> {
        let Self { inner, file, .. } = self;
        drop(inner);
        spawn_blocking(move || drop(file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours {
            // Nothing can be done about a failure; the next start replaces the file.
            let _ = std::fs::remove_file(&self.path);
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
            // A full backlog also means that another process listens there.
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
