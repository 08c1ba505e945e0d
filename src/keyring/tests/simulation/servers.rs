//! The Keystone and Barbican of a simulation, and what they notice of their clients.
//!
//! They answer the real client's requests, without a network between.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::Instant;

use super::container::{Container, Health};
use super::history::{CREDENTIALS, Dice, KEYS, Secret, Weather};
use super::key_id;
use crate::key_id::KeyId;
use crate::keyring::FetchError;
use crate::openstack::{Problem, Servers};

/// No node sends more requests to Barbican than this in any minute, for each key.
pub(super) const REQUESTS_A_MINUTE: usize = 60;

/// How long a token lives.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// Both servers. Clones are the same ones.
#[derive(Clone)]
pub(super) struct Cloud(Arc<Mutex<State>>);

pub(super) struct State {
    pub(super) keystone: Weather,
    pub(super) barbican: Weather,
    pub(super) secrets: [Secret; KEYS],
    pub(super) container: Container,
    /// A secret that the container lists has been lost.
    pub(super) accident: bool,
    pub(super) credentials: [bool; CREDENTIALS],
    /// Tokens of earlier ones are worthless.
    pub(super) era: u64,
    pub(super) cut: Vec<bool>,
    /// When each node has asked Barbican for a payload lately.
    payloads: Vec<VecDeque<Instant>>,
    pub(super) most_payloads: usize,
    pub(super) requests: u64,
    refused_login: Option<Instant>,
    begin: Instant,
    dice: Dice,
    /// What a client has done that it must not.
    pub(super) complaint: Option<String>,
}

/// One client's way to the servers.
pub(super) struct Line {
    cloud: Cloud,
    node: usize,
    credential: usize,
    logins: Mutex<Logins>,
}

#[derive(Default)]
struct Logins {
    under_way: usize,
    /// Refusals in a row, as far as the client has heard of them.
    refusals: u32,
    refused: Option<Instant>,
}

/// What comes of a request.
enum Fate {
    Refused,
    Nothing,
    Reply(Duration, bool),
}

type Reply = Response<Full<Bytes>>;

impl Cloud {
    pub(super) fn new(seed: u64, nodes: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            keystone: Weather::Fine,
            barbican: Weather::Fine,
            secrets: [Secret::There; KEYS],
            container: Container::new(),
            accident: false,
            credentials: [true; CREDENTIALS],
            era: 0,
            cut: vec![false; nodes],
            payloads: vec![VecDeque::new(); nodes],
            most_payloads: 0,
            requests: 0,
            refused_login: None,
            begin: Instant::now(),
            dice: Dice::new(seed, 2),
            complaint: None,
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whatever ails the servers and the ways to them ends; whether a login was refused
    /// within the last half hour.
    pub(super) fn heal(&self) -> bool {
        let mut state = self.state();
        (state.keystone, state.barbican) = (Weather::Fine, Weather::Fine);
        state.secrets = [Secret::There; KEYS];
        state.container.health = Health::Fine;
        state.credentials = [true; CREDENTIALS];
        state.cut.fill(false);
        let refused = state.refused_login;
        refused.is_some_and(|at| at.elapsed() < Duration::from_secs(1800))
    }

    pub(super) fn complain(&self, text: String) {
        self.state().complaint.get_or_insert(text);
    }
}

impl State {
    fn fate(&mut self, node: usize, weather: Weather) -> Fate {
        let quick = Duration::from_millis(20 + self.dice.below(200));
        if self.cut[node] {
            return Fate::Nothing;
        }
        match weather {
            Weather::Refusing => Fate::Refused,
            Weather::Hanging => Fate::Nothing,
            Weather::Slow(seconds) => Fate::Reply(quick + Duration::from_secs(seconds), false),
            Weather::Losing => Fate::Reply(quick, self.dice.one_in(2)),
            _ => Fate::Reply(quick, false),
        }
    }

    fn count_payload(&mut self, node: usize) {
        let now = Instant::now();
        let lately = &mut self.payloads[node];
        lately.push_back(now);
        while lately
            .front()
            .is_some_and(|at| now - *at >= Duration::from_secs(60))
        {
            lately.pop_front();
        }
        self.most_payloads = self.most_payloads.max(lately.len());
        if lately.len() > REQUESTS_A_MINUTE * KEYS {
            let count = lately.len();
            let text = format!("rule 6: node {node} asks Barbican {count} times within a minute");
            self.complaint.get_or_insert(text);
        }
    }

    fn token(&self, credential: usize) -> String {
        let end = (self.begin.elapsed() + TOKEN_LIFE).as_millis();
        format!("{}-{credential}-{end}", self.era)
    }

    fn takes(&self, token: &str) -> bool {
        let mut parts = token.split('-').map(|part| part.parse::<u128>().ok());
        let (Some(Some(era)), Some(Some(credential)), Some(Some(end))) =
            (parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let credential = usize::try_from(credential).expect("a credential");
        era == u128::from(self.era)
            && self.credentials[credential]
            && self.begin.elapsed().as_millis() < end
    }

    /// Something befalls the secret of `key`.
    pub(super) fn change_secret(&mut self, key: usize, secret: Secret) {
        self.secrets[key] = secret;
        self.accident |= self.container.entry(key).listed && secret != Secret::There;
    }

    fn listing(&mut self, token: &str) -> Reply {
        if !self.takes(token) {
            return unauthorized();
        }
        let lagging = self.container.may_lag() && self.dice.one_in(2);
        match self.container.description(self.secrets, lagging) {
            Ok(text) => json(text),
            Err(code) => barbican_says(code, "Not Found"),
        }
    }

    fn payload(&self, token: &str, key: usize) -> Reply {
        if !self.takes(token) {
            return unauthorized();
        }
        match self.secrets[key] {
            Secret::Gone | Secret::Expired => barbican_says(404, "Not Found"),
            Secret::There => bytes(vec![key_byte(key); 32]),
            Secret::OtherBytes => bytes(vec![key_byte(key) ^ 0x80; 32]),
            Secret::NoKey => bytes(vec![key_byte(key); 31]),
        }
    }
}

impl Line {
    pub(super) fn new(cloud: &Cloud, node: usize, credential: usize) -> Self {
        Self {
            cloud: cloud.clone(),
            node,
            credential,
            logins: Mutex::default(),
        }
    }

    fn logins(&self) -> MutexGuard<'_, Logins> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How this client fares with a request that is at its server now.
    fn arrives(&self, login: bool) -> Fate {
        let mut state = self.cloud.state();
        state.requests += 1;
        let weather = if login {
            state.keystone
        } else {
            state.count_payload(self.node);
            state.barbican
        };
        state.fate(self.node, weather)
    }

    async fn login(&self) -> Result<Reply, Problem> {
        let _under_way = LoginUnderWay::begin(self);
        self.on_the_way(self.arrives(true)).await?;
        let mut state = self.cloud.state();
        let reply = upset(state.keystone, keystone_says).unwrap_or_else(|| {
            if state.credentials[self.credential] {
                session(&state.token(self.credential))
            } else {
                keystone_says(401, "The request you have made requires authentication.")
            }
        });
        let mut logins = self.logins();
        match reply.status().as_u16() {
            201 => {
                *logins = Logins {
                    under_way: logins.under_way,
                    ..Logins::default()
                }
            }
            401 | 403 => {
                logins.refusals += 1;
                logins.refused = Some(Instant::now());
                state.refused_login = logins.refused;
            }
            _ => {}
        }
        Ok(reply)
    }

    async fn read(&self, request: Request<Full<Bytes>>) -> Result<Reply, Problem> {
        self.on_the_way(self.arrives(false)).await?;
        let token = request.headers().get("x-auth-token");
        let token = token.and_then(|token| token.to_str().ok()).unwrap_or("");
        if request.uri().path().contains("/containers/") {
            let mut state = self.cloud.state();
            let upset = upset(state.barbican, barbican_says);
            return Ok(upset.unwrap_or_else(|| state.listing(token)));
        }
        let key = request.uri().path().rsplit('/').nth(1).and_then(number_of);
        let key = key.expect("of a key that there is");
        let state = self.cloud.state();
        Ok(upset(state.barbican, barbican_says).unwrap_or_else(|| state.payload(token, key)))
    }

    async fn on_the_way(&self, fate: Fate) -> Result<(), Problem> {
        match fate {
            Fate::Refused => Err(Problem::Connect("connection refused".to_owned())),
            Fate::Nothing => std::future::pending().await,
            Fate::Reply(after, lost) => {
                tokio::time::sleep(after).await;
                if lost || self.cloud.state().cut[self.node] {
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
        }
    }
}

impl Servers for Line {
    fn answer(&self, request: Request<Full<Bytes>>) -> BoxFuture<'_, Result<Reply, Problem>> {
        if request.uri().path().ends_with("/auth/tokens") {
            Box::pin(self.login())
        } else {
            Box::pin(self.read(request))
        }
    }
}

/// Ends when the client has its answer, or gives up.
struct LoginUnderWay<'a>(&'a Line);

impl<'a> LoginUnderWay<'a> {
    fn begin(line: &'a Line) -> Self {
        let mut logins = line.logins();
        logins.under_way += 1;
        if logins.under_way > 1 {
            let (node, count) = (line.node, logins.under_way);
            line.cloud
                .complain(format!("rule 6: node {node} has {count} logins under way"));
        }
        if let Some(refused) = logins.refused {
            let wanted = Duration::from_secs((30 << (logins.refusals - 1).min(5)).min(600));
            let pause = refused.elapsed();
            if pause < wanted {
                line.cloud.complain(format!(
                    "rule 6: node {} logs in {pause:?} after refusal {}, {wanted:?} are the least",
                    line.node, logins.refusals
                ));
            }
        }
        drop(logins);
        Self(line)
    }
}

impl Drop for LoginUnderWay<'_> {
    fn drop(&mut self) {
        self.0.logins().under_way -= 1;
    }
}

pub(super) fn key_byte(key: usize) -> u8 {
    u8::try_from(key + 1).expect("a few keys")
}

/// The number of the key with this id.
pub(super) fn number_of(uuid: &str) -> Option<usize> {
    let id: KeyId = uuid.parse().ok()?;
    (0..KEYS).find(|key| key_id(*key) == id)
}

/// What a server says that has its own troubles.
fn upset(weather: Weather, says: fn(u16, &str) -> Reply) -> Option<Reply> {
    Some(match weather {
        Weather::Busy(seconds) => {
            let mut reply = says(429, "Too Many Requests");
            reply.headers_mut().insert("retry-after", seconds.into());
            reply
        }
        Weather::Failing => says(503, "Service Unavailable"),
        Weather::Distrusting => unauthorized(),
        Weather::Forbidding => says(403, "Forbidden"),
        Weather::Page => status(200)
            .header("content-type", "text/html")
            .body(Full::from("<html>Please log in</html>"))
            .expect("a reply"),
        _ => return None,
    })
}

fn status(status: u16) -> http::response::Builder {
    Response::builder().status(status)
}

fn bytes(bytes: Vec<u8>) -> Reply {
    status(200).body(Full::from(bytes)).expect("a reply")
}

fn json(text: String) -> Reply {
    status(200)
        .header("content-type", "application/json")
        .body(Full::from(text))
        .expect("a reply")
}

fn barbican_says(code: u16, title: &str) -> Reply {
    let body = format!(r#"{{"code":{code},"title":"{title}","description":"{title}"}}"#);
    status(code).body(Full::from(body)).expect("a reply")
}

fn keystone_says(code: u16, title: &str) -> Reply {
    let body = format!(r#"{{"error":{{"code":{code},"title":"{title}","message":"no"}}}}"#);
    status(code).body(Full::from(body)).expect("a reply")
}

fn unauthorized() -> Reply {
    status(401)
        .header("www-authenticate", "Keystone uri=\"http://keystone.test\"")
        .body(Full::from("no"))
        .expect("a reply")
}

fn session(token: &str) -> Reply {
    const BODY: &str = r#"{"token":{"issued_at":"2026-01-01T00:00:00.000000Z",
        "expires_at":"2026-01-01T01:00:00.000000Z","user":{"id":"u","name":"u"},
        "project":{"id":"p","name":"p"},"catalog":[{"type":"key-manager","endpoints":
        [{"interface":"public","region":"R","url":"http://barbican.test"}]}]}}"#;
    status(201)
        .header("x-subject-token", token)
        .body(Full::from(BODY))
        .expect("a reply")
}

/// The outcome of a download in the words of a slot's problem.
pub(super) fn problem(error: &FetchError) -> crate::keyring::KeyProblem {
    error.problem()
}
