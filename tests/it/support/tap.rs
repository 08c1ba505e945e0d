//! A proxy before a real server, on one connection after the other: notes what is
//! asked, and can put other bytes into the answers.

use std::sync::{Arc, Mutex, MutexGuard};

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::openstack::OpenStack;

/// Ends with its value.
#[derive(Debug)]
pub(crate) struct Tap {
    url: String,
    shared: Arc<Mutex<Shared>>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    asked: Vec<String>,
    /// What to look for in answers, and what to put there instead.
    other: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tap {
    /// Before the server of `url`, of which only host and port count.
    pub(crate) async fn before(url: &str) -> Self {
        let uri: http::Uri = url.parse().expect("a URL");
        let server = uri.authority().expect("a host").to_string();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let mut tasks = JoinSet::new();
        let notes = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("the server");
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                connections.spawn(ask(from_client, to_server, Arc::clone(&notes)));
                connections.spawn(answer(from_server, to_client, Arc::clone(&notes)));
            }
        });
        Self {
            url: format!("http://{address}"),
            shared,
            _tasks: tasks,
        }
    }

    /// Before Barbican, in a region of its own. Deployments outlive a run of the tests,
    /// so the last run's is removed.
    pub(crate) async fn before_barbican(openstack: &OpenStack, region: &str) -> Self {
        let tap = Self::before(openstack.text("/barbican_url")).await;
        openstack
            .ctl(&["endpoint-delete", "--region", region])
            .await;
        openstack
            .ctl(&["endpoint-create", "--region", region, "--url", tap.url()])
            .await;
        tap
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How many request lines contained `text` so far.
    pub(crate) fn asked(&self, text: &str) -> usize {
        let shared = lock(&self.shared);
        let lines = shared.asked.iter();
        lines.filter(|line| line.contains(text)).count()
    }

    /// From now on, `other` stands in answers where `bytes` would.
    pub(crate) fn alter(&self, bytes: &[u8], other: &[u8]) {
        assert_eq!(bytes.len(), other.len());
        lock(&self.shared).other = Some((bytes.to_vec(), other.to_vec()));
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().expect("not poisoned")
}

async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: Arc<Mutex<Shared>>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        for line in String::from_utf8_lossy(&buffer[..length]).lines() {
            if line.ends_with(" HTTP/1.1") {
                lock(&shared).asked.push(line.to_owned());
            }
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: Arc<Mutex<Shared>>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if let Some((bytes, other)) = &lock(&shared).other {
            let found: Vec<usize> = memmem::find_iter(&buffer[..length], bytes).collect();
            for at in found {
                buffer[at..at + other.len()].copy_from_slice(other);
            }
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
