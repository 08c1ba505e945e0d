//! A proxy in front of a real server that spoils what passes through, as it is told.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::server::{Received, Reply, Server};

/// What happens to the answers.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// They come late.
    Late(Duration),
    /// The connection is reset in the middle of the body.
    Reset,
    /// The connection is closed in the middle of the body.
    Truncated,
    /// So many bytes more come than the server has sent.
    Oversize(usize),
    /// They claim to be of another content type.
    ContentType(&'static str),
    /// The server is not asked; this status comes.
    Status(u16),
    /// The server is not asked; this status comes as Barbican would say it.
    OfBarbican(u16),
    /// This status, and `Retry-After` with so many seconds.
    RetryAfter(u16, u32),
    /// A bit of the body is another one.
    Altered,
}

/// Ends when it is dropped.
pub(crate) struct FaultProxy {
    server: Server,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    fault: Option<Fault>,
    /// How many more answers it happens to.
    times: usize,
    happened: usize,
}

impl FaultProxy {
    /// In front of the server at this URL, which is `http`. Only requests to a path
    /// that ends with `path` are spoilt.
    pub(crate) async fn before(url: &str, path: &'static str) -> Self {
        let authority = url.trim_start_matches("http://");
        let address = authority.split('/').next().unwrap_or_default().to_owned();
        let plan: Arc<Mutex<Plan>> = Arc::default();
        let shared = Arc::clone(&plan);
        let server = Server::start(None, move |_, request| {
            let spoilt = request.target.ends_with(path);
            match spoilt.then(|| take(&shared)).flatten() {
                Some(fault) => spoil(&fault, || fetch(&address, request)),
                None => Reply::Bytes(fetch(&address, request)),
            }
        })
        .await;
        Self { server, plan }
    }

    pub(crate) fn base(&self) -> String {
        self.server.base()
    }

    /// From now on this happens to every answer.
    pub(crate) fn inject(&self, fault: Fault) {
        self.inject_times(fault, usize::MAX);
    }

    /// This happens to the next `times` answers.
    pub(crate) fn inject_times(&self, fault: Fault, times: usize) {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.fault = Some(fault);
        plan.times = times;
    }

    /// Nothing happens any more.
    pub(crate) fn relent(&self) {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.fault = None;
    }

    /// To how many answers something has happened.
    pub(crate) fn happened(&self) -> usize {
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.happened
    }
}

fn take(plan: &Mutex<Plan>) -> Option<Fault> {
    let mut plan = plan.lock().unwrap_or_else(PoisonError::into_inner);
    let fault = plan.fault.clone().filter(|_| plan.times > 0)?;
    plan.times -= 1;
    plan.happened += 1;
    Some(fault)
}

fn spoil(fault: &Fault, real: impl FnOnce() -> Vec<u8>) -> Reply {
    match fault {
        Fault::Late(time) => Reply::Late(*time, Box::new(Reply::Bytes(real()))),
        Fault::Reset => Reply::Reset(half(&real())),
        Fault::Truncated => Reply::Bytes(half(&real())),
        Fault::Oversize(more) => {
            let (head, mut body) = parts(&real());
            let new = body.len() + more;
            let head = head.replace(&length(body.len()), &length(new));
            body.resize(new, b' ');
            Reply::Bytes([head.as_bytes(), &body].concat())
        }
        Fault::ContentType(kind) => {
            let (head, body) = parts(&real());
            let lines = head.lines().map(|line| {
                if line.to_ascii_lowercase().starts_with("content-type:") {
                    format!("Content-Type: {kind}\r\n")
                } else {
                    format!("{line}\r\n")
                }
            });
            let head: String = lines.collect();
            Reply::Bytes([head.as_bytes(), &body].concat())
        }
        Fault::Status(status) => Reply::status(*status).body("the proxy's fault"),
        Fault::OfBarbican(status) => {
            let body = serde_json::json!({"code": status, "title": "t", "description": "d"});
            Reply::status(*status).body(body.to_string())
        }
        Fault::RetryAfter(status, seconds) => Reply::status(*status).header("Retry-After", seconds),
        Fault::Altered => {
            let (head, mut body) = parts(&real());
            body[0] ^= 1;
            Reply::Bytes([head.as_bytes(), &body].concat())
        }
    }
}

fn length(bytes: usize) -> String {
    format!("Content-Length: {bytes}\r\n")
}

/// The head with its empty line, and the body.
fn parts(answer: &[u8]) -> (String, Vec<u8>) {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.expect("a head") + 4);
    let head = String::from_utf8(head.to_vec()).expect("text");
    assert!(head.contains(&length(body.len())), "{head}");
    (head, body.to_vec())
}

fn half(answer: &[u8]) -> Vec<u8> {
    let (head, body) = parts(answer);
    [head.as_bytes(), &body[..body.len() / 2]].concat()
}

/// The server's own answer, to the last byte. It blocks, as its caller cannot wait.
fn fetch(address: &str, request: &Received) -> Vec<u8> {
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        if name != "connection" {
            head.push_str(&[name, ": ", value, "\r\n"].concat());
        }
    }
    head.push_str("connection: close\r\n\r\n");
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(&request.body).expect("sent");
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..read]);
    }
    answer
}
