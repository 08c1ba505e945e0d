//! An HTTP/1.1 server on loopback that says whatever a test wants, byte by byte.
//!
//! Nothing of hyper: what is tested against it uses hyper, and a server built
//! on the same code would be too well-behaved.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A request as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) method: String,
    /// As it stands in the request line.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Which connection it came on, from 0.
    pub(crate) connection: usize,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut of_name = self.headers.iter().filter(|(key, _)| key == name);
        of_name.next().map(|(_, value)| value.as_str())
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A whole answer.
    Http {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// These bytes, then the connection is closed.
    Bytes(Vec<u8>),
    /// These bytes, then nothing more, on an open connection.
    Stall(Vec<u8>),
    /// These bytes, and then the chunk again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// These bytes, then a TCP reset.
    Reset(Vec<u8>),
    /// The answer after a while.
    Late(Duration, Box<Reply>),
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Http {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        if let Self::Http { headers, .. } = &mut self {
            headers.push((name, value.to_string()));
        }
        self
    }

    #[must_use]
    pub(crate) fn body(mut self, content: impl Into<Vec<u8>>) -> Self {
        if let Self::Http { body, .. } = &mut self {
            *body = content.into();
        }
        self
    }
}

/// A running server; it ends when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    secure: bool,
    received: Arc<Mutex<Vec<Received>>>,
    open: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Starts a server. `respond` is told the server's base URL.
    pub(crate) async fn start(
        tls: Option<TlsAcceptor>,
        respond: impl Fn(&str, &Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        let secure = tls.is_some();
        let received = Arc::new(Mutex::new(Vec::new()));
        let open = Arc::new(AtomicUsize::new(0));
        let shared = Arc::new(Shared {
            base: base(secure, address),
            respond: Box::new(respond),
            received: Arc::clone(&received),
            open: Arc::clone(&open),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                connections.spawn(connection(stream, tls.clone(), Arc::clone(&shared), number));
            }
        });
        Self {
            address,
            secure,
            received,
            open,
            _tasks: tasks,
        }
    }

    /// `http://127.0.0.1:PORT` or `https://…`.
    pub(crate) fn base(&self) -> String {
        base(self.secure, self.address)
    }

    /// Connections that the client has not closed.
    pub(crate) fn open_connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// All requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no panic while held").clone()
    }

    /// All requests so far as `METHOD target`.
    pub(crate) fn log(&self) -> Vec<String> {
        let line = |request: &Received| format!("{} {}", request.method, request.target);
        self.received().iter().map(line).collect()
    }
}

fn base(secure: bool, address: SocketAddr) -> String {
    format!("http{}://{address}", if secure { "s" } else { "" })
}

type Respond = dyn Fn(&str, &Received) -> Reply + Send + Sync;

struct Shared {
    base: String,
    respond: Box<Respond>,
    received: Arc<Mutex<Vec<Received>>>,
    open: Arc<AtomicUsize>,
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    number: usize,
) {
    shared.open.fetch_add(1, Ordering::SeqCst);
    // A zero linger time turns the close into a reset.
    let reset = stream.as_fd_clone();
    match tls {
        None => serve(stream, &shared, number, &reset).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, &shared, number, &reset).await;
            }
        }
    }
    shared.open.fetch_sub(1, Ordering::SeqCst);
}

trait AsFdClone {
    fn as_fd_clone(&self) -> std::os::fd::OwnedFd;
}

impl AsFdClone for TcpStream {
    fn as_fd_clone(&self) -> std::os::fd::OwnedFd {
        use std::os::fd::AsFd as _;
        self.as_fd().try_clone_to_owned().expect("a descriptor")
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    shared: &Shared,
    number: usize,
    socket: &std::os::fd::OwnedFd,
) {
    let mut buffer = Vec::new();
    while let Some(request) = receive(&mut stream, &mut buffer, number).await {
        let mut reply = (shared.respond)(&shared.base, &request);
        shared
            .received
            .lock()
            .expect("no panic while held")
            .push(request);
        if let Reply::Late(time, then) = reply {
            tokio::time::sleep(time).await;
            reply = *then;
        }
        if send(&mut stream, reply, socket).await.is_none() {
            return;
        }
    }
}

/// `None` when the connection is finished.
async fn send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    reply: Reply,
    socket: &std::os::fd::OwnedFd,
) -> Option<()> {
    match reply {
        Reply::Http {
            status,
            headers,
            body,
        } => {
            let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                head.push_str(&[name, ": ", &value, "\r\n"].concat());
            }
            head.push_str("\r\n");
            stream.write_all(head.as_bytes()).await.ok()?;
            stream.write_all(&body).await.ok()?;
            stream.flush().await.ok()
        }
        Reply::Bytes(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            stream.shutdown().await.ok()?;
            None
        }
        Reply::Stall(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            stream.flush().await.ok()?;
            std::future::pending().await
        }
        Reply::Endless(bytes, chunk) => {
            stream.write_all(&bytes).await.ok()?;
            loop {
                stream.write_all(&chunk).await.ok()?;
                stream.flush().await.ok()?;
            }
        }
        Reply::Reset(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            stream.flush().await.ok()?;
            // Give the bytes time to be read: a reset discards what is not.
            tokio::time::sleep(Duration::from_millis(30)).await;
            rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO)).ok()?;
            None
        }
        Reply::Late(..) => unreachable!("unpacked by the caller"),
    }
}

async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    connection: usize,
) -> Option<Received> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
        // What servers answer to whoever speaks TLS to them.
        if !buffer.starts_with(b"GET ") && !buffer.starts_with(b"POST ") {
            let bad = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(bad).await.ok()?;
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..end + 4).collect()).ok()?;
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = Received {
        method,
        target,
        headers,
        body: Vec::new(),
        connection,
    };
    let length: usize = match request.header("content-length") {
        Some(length) => length.parse().ok()?,
        None => 0,
    };
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    request.body = buffer.drain(..length).collect();
    Some(request)
}
