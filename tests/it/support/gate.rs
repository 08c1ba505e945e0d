//! A gate in front of a real server that opens and closes at a known moment.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::patience::PATIENCE;

/// What becomes of connections. Those that are open end when it changes, but for silent
/// ones, which stay so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// They reach the server.
    Open,
    /// The port is closed.
    Refused,
    /// They are taken, and nothing comes.
    Silent,
    /// A load balancer has no server behind it: 503.
    Empty,
}

/// Ends with its value.
#[derive(Debug)]
pub(crate) struct Gate {
    address: SocketAddr,
    state: watch::Sender<(State, u32)>,
    ready: watch::Receiver<u32>,
    _task: JoinSet<()>,
}

impl Gate {
    /// Before the server of `url`, of which only host and port count. Open.
    pub(crate) async fn before(url: &str) -> Self {
        let uri: http::Uri = url.parse().expect("a URL");
        let server = uri.authority().expect("a host").to_string();
        let address = address_of_its_own();
        let (state, changes) = watch::channel((State::Open, 0));
        let (report, ready) = watch::channel(u32::MAX);
        let mut task = JoinSet::new();
        task.spawn(run(address, server, changes, report));
        let gate = Self {
            address,
            state,
            ready,
            _task: task,
        };
        gate.settled(0).await;
        gate
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when it is so.
    pub(crate) async fn set(&self, state: State) {
        let number = self.state.borrow().1 + 1;
        self.state.send_replace((state, number));
        self.settled(number).await;
    }

    async fn settled(&self, number: u32) {
        let mut ready = self.ready.clone();
        ready
            .wait_for(|settled| *settled == number)
            .await
            .expect("the gate runs");
    }
}

/// Nobody else takes it while it is closed.
fn address_of_its_own() -> SocketAddr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let last = COUNT.fetch_add(1, Ordering::Relaxed);
    (Ipv4Addr::new(127, 64 | (high & 63), low, last), 8080).into()
}

/// A child that another test starts has the earlier listener until it executes its program.
async fn listen(address: SocketAddr) -> TcpListener {
    let end = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => panic!("the gate cannot listen on {address}: {error}"),
        }
    }
}

async fn run(
    address: SocketAddr,
    server: String,
    mut changes: watch::Receiver<(State, u32)>,
    ready: watch::Sender<u32>,
) {
    let mut silent = Vec::new();
    loop {
        let (state, number) = *changes.borrow_and_update();
        if state == State::Refused {
            ready.send_replace(number);
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        }
        let listener = listen(address).await;
        ready.send_replace(number);
        let mut connections = JoinSet::new();
        loop {
            let client = tokio::select! {
                news = changes.changed() => match news {
                    Ok(()) => break,
                    Err(_) => return,
                },
                accepted = listener.accept() => accepted.expect("a connection").0,
            };
            match state {
                State::Open => {
                    connections.spawn(pass(client, server.clone()));
                }
                State::Silent => silent.push(client),
                State::Refused | State::Empty => {
                    connections.spawn(no_server(client));
                }
            }
        }
    }
}

async fn pass(mut client: TcpStream, server: String) {
    let mut server = TcpStream::connect(server).await.expect("the server");
    // However it ends, both sides have been told.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

async fn no_server(mut client: TcpStream) {
    let mut request = [0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(10), client.read(&mut request));
    if matches!(read.await, Ok(Ok(1..))) {
        let answer =
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = client.write_all(answer).await;
        let _ = client.shutdown().await;
    }
}
