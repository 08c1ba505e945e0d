//! Server and client on one thread: the real server with a key that comes from no
//! Barbican, and a client that only copies bytes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use barbican_kms::chance::Chance;
use barbican_kms::config::{self, Environment};
use barbican_kms::instruments::Instruments;
use barbican_kms::key_id::KeyId;
use barbican_kms::keyring::{
    Cause, Clock, ConfigUpdate, FetchError, KeySource, Keyring, Refresher,
};
use barbican_kms::kms::socket::{Listener, SocketOptions};
use barbican_kms::kms::{Kms, server};
use barbican_kms::proto::v2;
use barbican_kms::secret::Kek;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::constant::SEED;
use crate::counting;
use crate::wire::{Event, Wire};

const CONFIG: &str = r#"
[Global]
auth-url = "http://127.0.0.1:1/v3"
application-credential-id = "id"
application-credential-secret = "secret"

[KeyManager]
key-id = "b5309dfb-b326-4148-b0ad-e9cd1ec223a8"
"#;

/// Calls before anything is counted: buffers grow to their sizes.
const WARM_UP: usize = 1000;

struct Fixed;

impl KeySource for Fixed {
    async fn fetch(&self, _: KeyId) -> Result<Kek, FetchError> {
        Ok(crate::kek())
    }
}

/// `count` calls of Decrypt to the real server.
pub(crate) fn decrypt(count: usize) {
    block_on(async |directory| {
        let socket = directory.join("kms.sock");
        with_server(&socket, async {
            let mut client = Client::open(&socket, "Decrypt").await;
            let request = sealed(&socket).await;
            client.calls(&request, count).await;
        })
        .await;
    });
}

/// `count` calls of Decrypt to a server that has nothing to do.
pub(crate) fn constant(count: usize) {
    block_on(async |directory| {
        let socket = directory.join("kms.sock");
        with_constant(&socket, async {
            let mut client = Client::open(&socket, "Decrypt").await;
            client.calls(&sealed(&socket).await, count).await;
        })
        .await;
    });
}

/// Prints one line of JSON with what each call allocates, then the places.
pub(crate) fn allocations() {
    block_on(async |directory| {
        let socket = directory.join("kms.sock");
        for method in ["Status", "Encrypt", "Decrypt"] {
            with_server(&socket, measured("barbican-kms", method, &socket)).await;
            with_constant(&socket, measured("constant", method, &socket)).await;
        }
    });
}

async fn measured(server: &str, method: &str, socket: &Path) {
    let request = request(method, socket).await;
    let mut client = Client::open(socket, method).await;
    client.calls(&request, WARM_UP).await;
    let before = counting::count();
    client.calls(&request, WARM_UP).await;
    let after = counting::count();
    counting::trace(true);
    client.calls(&request, 1).await;
    counting::trace(false);
    // Whole numbers: the few that are not made by each call are rounded away.
    let each = |before, after| (after - before + WARM_UP / 2) / WARM_UP;
    println!(
        "{{\"server\":\"{server}\",\"method\":\"{method}\",\"allocations\":{},\"bytes\":{}}}",
        each(before.0, after.0),
        each(before.1, after.1)
    );
    report(&counting::traces());
}

fn report(traces: &[(usize, String)]) {
    if std::env::var_os("WHERE").is_none() {
        return;
    }
    for (bytes, trace) in traces {
        println!("  {bytes} bytes");
        let frames = trace
            .lines()
            .filter(|line| !line.trim_start().starts_with("at "));
        let own = |line: &&str| !line.contains("inside::counting") && !line.contains("backtrace");
        for frame in frames.filter(own).take(14) {
            println!("      {}", frame.trim_start());
        }
    }
}

fn block_on(work: impl AsyncFnOnce(&Path)) {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(work(directory.path()));
}

/// Does `work` while the real server serves.
async fn with_server<T>(socket: &Path, work: impl Future<Output = T>) -> T {
    let options = SocketOptions {
        path: socket.to_owned(),
        mode: 0o600,
        group: None,
    };
    let listener = Listener::bind(&options).await.expect("a free socket");
    let read = |_: &Path| {
        Ok(config::Content {
            bytes: CONFIG.into(),
            mode: 0o600,
        })
    };
    let loaded = config::load(Path::new("/cloud.toml"), &Environment::default(), &read);
    let live = loaded.expect("a valid configuration").live;
    let (_proposals, proposed) = watch::channel(ConfigUpdate::Valid(Arc::clone(&live)));
    let connect = |_: &config::Cloud| Ok::<_, Cause>(Fixed);
    let (keyring, refresher) = Refresher::new(
        live,
        connect,
        proposed,
        Clock::system(),
        Chance::from_system(),
    )
    .expect("it connects");
    let never = std::future::pending();
    tokio::select! {
        () = server::serve(listener, kms(keyring.clone()), never, Duration::ZERO) => panic!("it ended"),
        () = refresher.run() => panic!("it ended"),
        done = work => done,
    }
}

fn kms(keyring: Keyring) -> Kms {
    Kms::new(keyring, Arc::new(Instruments::default()), None)
}

/// Does `work` while the constant server serves.
async fn with_constant<T>(socket: &Path, work: impl Future<Output = T>) -> T {
    let _ = std::fs::remove_file(socket);
    let done = tokio::select! {
        () = crate::constant::serve(socket) => panic!("it ended"),
        done = work => done,
    };
    std::fs::remove_file(socket).expect("its socket");
    done
}

async fn request(method: &str, socket: &Path) -> Vec<u8> {
    match method {
        "Status" => Vec::new(),
        "Encrypt" => encrypt(),
        _ => sealed(socket).await,
    }
}

fn encrypt() -> Vec<u8> {
    let request = v2::EncryptRequest {
        plaintext: SEED.to_vec(),
        uid: "6d0a3b02-2b60-4bb5-8f0f-2f5ad3b84f3a".to_owned(),
    };
    request.encode_to_vec()
}

/// A request for Decrypt.
async fn sealed(socket: &Path) -> Vec<u8> {
    let mut client = Client::open(socket, "Encrypt").await;
    let answer = client.calls(&encrypt(), 1).await;
    let answer = v2::EncryptResponse::decode(answer.as_slice()).expect("an answer to Encrypt");
    let request = v2::DecryptRequest {
        ciphertext: answer.ciphertext,
        uid: "6d0a3b02-2b60-4bb5-8f0f-2f5ad3b84f3a".to_owned(),
        key_id: answer.key_id,
        annotations: answer.annotations,
    };
    request.encode_to_vec()
}

struct Client {
    stream: UnixStream,
    wire: Wire,
    input: Vec<u8>,
}

impl Client {
    async fn open(socket: &Path, method: &str) -> Self {
        let path = match method {
            "Status" => "/v2.KeyManagementService/Status",
            "Encrypt" => "/v2.KeyManagementService/Encrypt",
            _ => "/v2.KeyManagementService/Decrypt",
        };
        let stream = loop {
            if let Ok(stream) = UnixStream::connect(socket).await {
                break stream;
            }
            tokio::task::yield_now().await;
        };
        Self {
            stream,
            wire: Wire::new(path),
            input: vec![0; 1 << 16],
        }
    }

    /// One call after the other; returns the last answer.
    async fn calls(&mut self, request: &[u8], count: usize) -> Vec<u8> {
        let mut answer = Vec::with_capacity(512);
        for _ in 0..count {
            self.wire.call(request);
            answer.clear();
            let mut filled = 0;
            let mut ended = false;
            while !ended {
                self.stream
                    .write_all(&self.wire.out)
                    .await
                    .expect("it reads");
                self.wire.out.clear();
                filled += self
                    .stream
                    .read(&mut self.input[filled..])
                    .await
                    .expect("it answers");
                let used = self
                    .wire
                    .receive(&self.input[..filled], |event| match event {
                        Event::Data(_, bytes) => answer.extend_from_slice(bytes),
                        Event::End(_) => ended = true,
                    });
                self.input.copy_within(used..filled, 0);
                filled -= used;
            }
            assert!(answer.len() > 5, "the call was refused");
        }
        answer.split_off(5)
    }
}
