//! An open connection, with or without TLS and a proxy.
//!
//! Made by `connect`, used by hyper through `http`. Invariant: bytes pass unchanged.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpInfo};
use hyper_util::rt::TokioIo;
use rustls::ProtocolVersion;
use tokio::net::TcpStream;

/// A connection to the server, or to a proxy on the way to it.
pub(in crate::openstack) struct Stream {
    pub(super) inner: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// Whether a proxy reads the requests, which then name the whole URL.
    pub(super) absolute: bool,
}

impl Stream {
    pub(super) fn direct(inner: MaybeHttpsStream<TokioIo<TcpStream>>) -> Self {
        Self {
            inner,
            absolute: false,
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.inner.connected().proxy(self.absolute)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// The other end of an open connection, for `check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address, or the proxy's.
    pub address: Option<SocketAddr>,
    /// The TLS version and cipher in use, if any, such as
    /// `TLS 1.3, TLS_AES_256_GCM_SHA384`.
    pub tls: Option<String>,
}

impl Peer {
    pub(in crate::openstack) fn of(stream: &MaybeHttpsStream<Stream>) -> Self {
        let mut extensions = http::Extensions::new();
        stream.connected().get_extras(&mut extensions);
        let tls = match stream {
            MaybeHttpsStream::Http(_) => None,
            MaybeHttpsStream::Https(stream) => {
                let (_, session) = stream.inner().get_ref();
                // The library speaks these two versions.
                let version = match session.protocol_version() {
                    Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
                    _ => "TLS 1.2",
                };
                let cipher = session.negotiated_cipher_suite();
                let cipher = cipher.and_then(|cipher| cipher.suite().as_str());
                // IANA's name; rustls tells those of TLS 1.3 by their beginning.
                let cipher = cipher.map(|name| name.replacen("TLS13_", "TLS_", 1));
                Some(match cipher {
                    Some(cipher) => format!("{version}, {cipher}"),
                    None => version.to_owned(),
                })
            }
        };
        Self {
            address: extensions.get::<HttpInfo>().map(HttpInfo::remote_addr),
            tls,
        }
    }
}
