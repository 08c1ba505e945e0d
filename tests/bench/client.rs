//! The load client. It blocks, on one thread, and keeps a fixed number of calls in
//! flight on one connection, as kube-apiserver does: an answer starts the next call.
//!
//! Commands, one a line; each is answered by one line of JSON:
//!
//! ```text
//! open NAME SOCKET                   names a server; `echo` is the floor without gRPC
//! run NAME METHOD CALLERS ms N       calls for N ms; the answer has every latency, in ns
//! run NAME METHOD CALLERS calls N    N calls; the answer has only their time
//! cold NAME CALLERS N                N distinct seeds, each unwrapped once
//! seal FROM TO                       TO is to unwrap what FROM has wrapped
//! start SOCKET PROGRAM ARGUMENT...   from exec until it listens and until Status is ok,
//!                                    in ns; the program is killed then
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use barbican_kms::proto::v2;
use prost::Message as _;

use crate::constant::SEED;
use crate::echo::PING_BYTES;
use crate::wire::{Event, Wire};

const UID: &str = "6d0a3b02-2b60-4bb5-8f0f-2f5ad3b84f3a";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Method {
    Status,
    Encrypt,
    Decrypt,
}

impl Method {
    fn path(self) -> &'static str {
        match self {
            Self::Status => "/v2.KeyManagementService/Status",
            Self::Encrypt => "/v2.KeyManagementService/Encrypt",
            Self::Decrypt => "/v2.KeyManagementService/Decrypt",
        }
    }
}

/// A server by its socket, with a connection for each method that was called.
struct Server {
    socket: String,
    connections: BTreeMap<Method, Connection>,
    echo: Option<UnixStream>,
    sealed: Option<Vec<u8>>,
}

struct Connection {
    stream: UnixStream,
    wire: Wire,
    input: Vec<u8>,
    filled: usize,
    calls: Vec<Call>,
}

/// A call in flight, at the place that its stream's number gives it.
#[derive(Clone)]
struct Call {
    stream: u32,
    index: usize,
    begun: Instant,
    answer: Vec<u8>,
}

/// More than were ever in flight at once, even if one is late.
const PLACES: usize = 1 << 14;

/// Between two looks at a server that starts: less than what is measured, and enough
/// not to get in its way.
const POLL: Duration = Duration::from_micros(50);

enum Until {
    Time(Instant),
    Calls(usize),
}

/// What a run has come to.
#[derive(Default)]
struct Outcome {
    latencies: Vec<u32>,
    calls: usize,
    wrong: usize,
    elapsed: Duration,
}

/// Reads commands until there are no more.
pub(crate) fn main() {
    let mut servers = BTreeMap::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("text");
        let words: Vec<&str> = line.split_whitespace().collect();
        println!("{}", command(&mut servers, &words));
    }
}

fn command(servers: &mut BTreeMap<String, Server>, words: &[&str]) -> String {
    match *words {
        ["open", name, socket] => {
            servers.insert(name.to_owned(), Server::new(socket));
            "{}".to_owned()
        }
        ["run", name, "echo", _, "ms", ms] => {
            let deadline = Instant::now() + Duration::from_millis(number(ms) as u64);
            named(servers, name).ping(deadline).json(true)
        }
        ["run", name, method, callers, unit, amount] => {
            let until = match unit {
                "ms" => Until::Time(Instant::now() + Duration::from_millis(number(amount) as u64)),
                _ => Until::Calls(number(amount)),
            };
            let server = named(servers, name);
            let method = match method {
                "status" => Method::Status,
                "encrypt" => Method::Encrypt,
                _ => Method::Decrypt,
            };
            let outcome = server.run(method, number(callers), &until);
            outcome.json(unit == "ms")
        }
        ["cold", name, callers, count] => named(servers, name)
            .cold(number(callers), number(count))
            .json(true),
        ["seal", from, to] => {
            let sealed = named(servers, from).sealed();
            named(servers, to).sealed = Some(sealed);
            "{}".to_owned()
        }
        ["start", socket, program, ref arguments @ ..] => start(socket, program, arguments),
        _ => panic!("no such command: {words:?}"),
    }
}

fn start(socket: &str, program: &str, arguments: &[&str]) -> String {
    let begun = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    while UnixStream::connect(socket).is_err() {
        assert!(
            child.try_wait().expect("our child").is_none(),
            "{program} has ended"
        );
        std::thread::sleep(POLL);
    }
    let listening = begun.elapsed();
    let mut connection = Connection::open(socket, Method::Status);
    let status = &[Vec::new()];
    let is_answer = |_, answer: &[u8]| !answer.is_empty();
    while connection.run(status, 1, &Until::Calls(1), is_answer).wrong > 0 {
        std::thread::sleep(POLL);
    }
    let ready = begun.elapsed();
    child.kill().expect("our child");
    child.wait().expect("our child");
    // It had no chance to do so itself.
    std::fs::remove_file(socket).expect("its socket");
    let (listening, ready) = (listening.as_nanos(), ready.as_nanos());
    format!("{{\"listening\":{listening},\"ready\":{ready}}}")
}

fn named<'a>(servers: &'a mut BTreeMap<String, Server>, name: &str) -> &'a mut Server {
    servers
        .get_mut(name)
        .unwrap_or_else(|| panic!("no server {name}"))
}

fn number(text: &str) -> usize {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no number"))
}

impl Server {
    fn new(socket: &str) -> Self {
        Self {
            socket: socket.to_owned(),
            connections: BTreeMap::new(),
            echo: None,
            sealed: None,
        }
    }

    fn connection(&mut self, method: Method) -> &mut Connection {
        let socket = &self.socket;
        self.connections
            .entry(method)
            .or_insert_with(|| Connection::open(socket, method))
    }

    /// A wrapped seed, as the request that unwraps it.
    fn sealed(&mut self) -> Vec<u8> {
        if let Some(sealed) = &self.sealed {
            return sealed.clone();
        }
        let mut sealed = Vec::new();
        self.connection(Method::Encrypt)
            .run(&[encrypt(SEED)], 1, &Until::Calls(1), |_, answer| {
                sealed = decrypt(answer);
                true
            });
        self.sealed = Some(sealed.clone());
        sealed
    }

    fn run(&mut self, method: Method, callers: usize, until: &Until) -> Outcome {
        let request = match method {
            Method::Status => Vec::new(),
            Method::Encrypt => encrypt(SEED),
            Method::Decrypt => self.sealed(),
        };
        let plaintext = opened(SEED);
        let mut first = None;
        self.connection(method)
            .run(&[request], callers, until, |_, answer| match method {
                Method::Decrypt => answer == plaintext,
                Method::Status => first.get_or_insert_with(|| answer.to_vec()) == answer,
                Method::Encrypt => answer.len() > SEED.len(),
            })
    }

    fn cold(&mut self, callers: usize, count: usize) -> Outcome {
        let seeds: Vec<[u8; 32]> = (0..count)
            .map(|number| {
                let mut seed = *SEED;
                seed[..8].copy_from_slice(&number.to_be_bytes());
                seed
            })
            .collect();
        let requests: Vec<Vec<u8>> = seeds.iter().map(|seed| encrypt(seed)).collect();
        let mut sealed = vec![Vec::new(); count];
        self.connection(Method::Encrypt).run(
            &requests,
            callers,
            &Until::Calls(count),
            |index, answer| {
                sealed[index] = decrypt(answer);
                true
            },
        );
        self.connection(Method::Decrypt).run(
            &sealed,
            callers,
            &Until::Calls(count),
            |index, answer| answer == opened(&seeds[index]),
        )
    }

    fn ping(&mut self, deadline: Instant) -> Outcome {
        let stream = self
            .echo
            .get_or_insert_with(|| UnixStream::connect(&self.socket).expect("it listens"));
        let mut message = [7; PING_BYTES];
        let start = Instant::now();
        let mut outcome = Outcome::default();
        let mut begun = start;
        while begun < deadline {
            stream.write_all(&message).expect("it reads");
            stream.read_exact(&mut message).expect("it answers");
            let now = Instant::now();
            outcome.note(now - begun);
            begun = now;
        }
        outcome.elapsed = start.elapsed();
        outcome
    }
}

impl Connection {
    fn open(socket: &str, method: Method) -> Self {
        let idle = Call {
            stream: 0,
            index: 0,
            begun: Instant::now(),
            answer: Vec::with_capacity(256),
        };
        Self {
            stream: UnixStream::connect(socket).expect("it listens"),
            wire: Wire::new(method.path()),
            input: vec![0; 1 << 18],
            filled: 0,
            calls: vec![idle; PLACES],
        }
    }

    /// Makes the requests in turn, again and again. `right` looks at each answer.
    fn run(
        &mut self,
        requests: &[Vec<u8>],
        callers: usize,
        until: &Until,
        mut right: impl FnMut(usize, &[u8]) -> bool,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut sent = 0;
        let mut in_flight = 0;
        let start = Instant::now();
        let mut now = start;
        loop {
            while in_flight < callers && until.wants_more(sent, now) {
                let index = sent % requests.len();
                self.call(index, &requests[index], now);
                sent += 1;
                in_flight += 1;
            }
            if in_flight == 0 {
                break;
            }
            self.stream.write_all(&self.wire.out).expect("it reads");
            self.wire.out.clear();
            let read = self
                .stream
                .read(&mut self.input[self.filled..])
                .expect("it answers");
            assert!(read > 0, "the server has closed the connection");
            self.filled += read;
            now = Instant::now();
            let calls = &mut self.calls;
            let used = self
                .wire
                .receive(&self.input[..self.filled], |event| match event {
                    Event::Data(stream, bytes) => {
                        let call = &mut calls[place(stream)];
                        assert_eq!(call.stream, stream, "an answer to no call");
                        call.answer.extend_from_slice(bytes);
                    }
                    Event::End(stream) => {
                        let call = &mut calls[place(stream)];
                        assert_eq!(call.stream, stream, "an answer to no call");
                        call.stream = 0;
                        in_flight -= 1;
                        let is_right = call
                            .answer
                            .get(5..)
                            .is_some_and(|answer| right(call.index, answer));
                        outcome.wrong += usize::from(!is_right);
                        outcome.note(now - call.begun);
                    }
                });
            self.input.copy_within(used..self.filled, 0);
            self.filled -= used;
        }
        outcome.elapsed = start.elapsed();
        outcome
    }

    fn call(&mut self, index: usize, request: &[u8], now: Instant) {
        let stream = self.wire.call(request);
        let call = &mut self.calls[place(stream)];
        assert_eq!(call.stream, 0, "a call is very late");
        call.stream = stream;
        call.index = index;
        call.begun = now;
        call.answer.clear();
    }
}

impl Until {
    fn wants_more(&self, sent: usize, now: Instant) -> bool {
        match self {
            Self::Time(deadline) => now < *deadline,
            Self::Calls(count) => sent < *count,
        }
    }
}

impl Outcome {
    fn note(&mut self, latency: Duration) {
        self.calls += 1;
        self.latencies
            .push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
    }

    fn json(&self, with_latencies: bool) -> String {
        let latencies: &[u32] = if with_latencies { &self.latencies } else { &[] };
        format!(
            "{{\"calls\":{},\"wrong\":{},\"seconds\":{},\"ns\":{latencies:?}}}",
            self.calls,
            self.wrong,
            self.elapsed.as_secs_f64()
        )
    }
}

fn place(stream: u32) -> usize {
    stream as usize / 2 % PLACES
}

fn encrypt(seed: &[u8]) -> Vec<u8> {
    let request = v2::EncryptRequest {
        plaintext: seed.to_vec(),
        uid: UID.to_owned(),
    };
    request.encode_to_vec()
}

/// The request that unwraps what this answer has wrapped.
fn decrypt(answer: &[u8]) -> Vec<u8> {
    let answer = v2::EncryptResponse::decode(answer).expect("an answer to Encrypt");
    let request = v2::DecryptRequest {
        ciphertext: answer.ciphertext,
        uid: UID.to_owned(),
        key_id: answer.key_id,
        annotations: answer.annotations,
    };
    request.encode_to_vec()
}

fn opened(seed: &[u8]) -> Vec<u8> {
    let answer = v2::DecryptResponse {
        plaintext: seed.to_vec(),
    };
    answer.encode_to_vec()
}
