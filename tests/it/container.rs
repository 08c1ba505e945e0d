//! A container in Barbican lists the keys, and the sidecar follows it.

mod bad;
mod credential;
mod reload;

use std::path::Path;
use std::time::Duration;

use barbican_kms::cli::status::status;
use rustix::process::Signal;
use serde_json::Value;
use tonic::Code;

use crate::support::client::{Client, SEED, refusal};
use crate::support::hex;
use crate::support::openstack::{self, OpenStack};
use crate::support::random::Random;
use crate::support::sidecar::{Place, Sidecar};

/// A time that has passed.
const PAST: &str = "2026-01-01T00:00:00Z";

/// As short as can be set.
const QUICK: &str = "revalidate-interval = 10s\n";

/// What `status` shows.
async fn state(socket: &Path) -> Value {
    let state = status(socket, Duration::from_secs(10)).await;
    state.expect("status is answered").to_json()
}

/// What `status` shows of one key.
async fn key(socket: &Path, id: &str) -> Option<Value> {
    let state = state(socket).await;
    let keys = state["keys"].as_array().expect("a list");
    keys.iter().find(|key| key["id"] == id).cloned()
}

async fn new_keys<const N: usize>(openstack: &OpenStack, seed: u64) -> [String; N] {
    let mut random = Random::new(seed);
    let mut keys = [const { String::new() }; N];
    for key in &mut keys {
        *key = openstack.new_key(&hex::encode(&random.bytes(32))).await;
    }
    keys
}

/// A sidecar that follows a container.
struct Following {
    openstack: &'static OpenStack,
    container: String,
    sidecar: Sidecar,
    client: Client,
    /// Dropped after the sidecar, whose log is in it.
    place: Place,
}

impl Following {
    async fn start(references: &[(&str, &str)]) -> Self {
        let openstack = openstack::plain();
        let container = openstack.new_container(references).await;
        let config = openstack.config_of_container("password", &container) + QUICK;
        let place = Place::new(&config);
        let mut sidecar = place.start();
        let client = sidecar.ready().await;
        Self {
            openstack,
            container,
            sidecar,
            client,
            place,
        }
    }

    async fn add(&self, name: &str, key: &str) {
        let words = ["container-add", &self.container, name, key];
        self.openstack.ctl(&words).await;
    }

    async fn remove(&self, name: &str, key: &str) {
        let words = ["container-remove", &self.container, name, key];
        self.openstack.ctl(&words).await;
    }

    /// Has the container read now, until what `status` shows of a key is so.
    async fn until_key(&mut self, what: &str, id: &str, so: impl Fn(Option<&Value>) -> bool) {
        self.sidecar.signal(Signal::HUP);
        let socket = self.place.socket();
        let look = async |_: &Sidecar| so(key(&socket, id).await.as_ref()).then_some(());
        self.sidecar.until(what, look).await;
    }

    async fn until_ring(&mut self, what: &str, field: &str, value: Value) {
        self.sidecar.signal(Signal::HUP);
        let socket = self.place.socket();
        let look = async |_: &Sidecar| (state(&socket).await["ring"][field] == value).then_some(());
        self.sidecar.until(what, look).await;
    }
}

fn held(key: Option<&Value>) -> bool {
    key.is_some_and(|key| key["held"] == true)
}

fn is_write(key: Option<&Value>) -> bool {
    held(key) && key.is_some_and(|key| key["write"] == true)
}

#[tokio::test]
async fn a_rotation_through_a_container_touches_no_file() {
    let openstack = openstack::plain();
    let [old, new] = new_keys(openstack, 71).await;
    let mut node = Following::start(&[(PAST, &old)]).await;
    let first = node.client.round_trip().await;
    assert_eq!(first.key_id, old);
    node.add("staged 2026-11-26T10:50:00Z", &new).await;
    node.until_key("it is staged", &new, held).await;
    assert_eq!(node.client.round_trip().await.key_id, old);
    let now = jiff::Timestamp::now();
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    node.add(&now, &new).await;
    node.until_key("it is the write key", &new, is_write).await;
    // A probe's calls are not kube-apiserver's, after which `rotate-key` asks.
    assert_eq!(node.place.probe(&["--deep"]).await.code, 0);
    let shown = state(&node.place.socket()).await;
    assert_eq!(shown["keys"][0]["last_wrapped_seconds_ago"], Value::Null);
    let second = node.client.round_trip().await;
    assert_eq!(second.key_id, new);
    assert_eq!(node.client.decrypt(&first).await.expect("readable"), SEED);
    let shown = state(&node.place.socket()).await;
    assert_eq!(shown["ring"]["source"], "container");
    assert_eq!(shown["ring"]["container_id"], node.container.as_str());
    assert_eq!(shown["ring"]["problem"], Value::Null);
    assert_eq!(shown["keys"][0]["active_from"], now.as_str());
    assert!(shown["keys"][0]["last_wrapped_seconds_ago"].is_u64());
    node.remove(PAST, &old).await;
    node.until_key("it is retired", &old, |key| key.is_none())
        .await;
    let (code, text) = refusal(node.client.decrypt(&first).await);
    assert_eq!(code, Code::FailedPrecondition, "{text}");
    assert_eq!(node.client.decrypt(&second).await.expect("readable"), SEED);
}

#[tokio::test]
async fn a_key_whose_secret_is_deleted_by_accident_is_kept_and_said_to_be() {
    let openstack = openstack::plain();
    let [old, new] = new_keys(openstack, 72).await;
    let references = [("2025-01-01T00:00:00Z", &*old), (PAST, &new)];
    let mut node = Following::start(&references).await;
    node.until_key("the old one is there", &old, held).await;
    openstack.ctl(&["secret-delete", &old]).await;
    let gone = |key: Option<&Value>| key.is_some_and(|key| key["secret_gone"] == true);
    node.until_key("it is missed", &old, gone).await;
    // Many readings later it is there all the same.
    for _ in 0..3 {
        let again = "reading the configuration again: SIGHUP";
        let said = node.sidecar.errors().matches(again).count();
        node.sidecar.signal(Signal::HUP);
        node.sidecar.logged_times(again, said + 1).await;
    }
    let shown = key(&node.place.socket(), &old).await.expect("kept");
    assert_eq!(
        (&shown["held"], &shown["listed"]),
        (&true.into(), &false.into())
    );
    assert_eq!(shown["problem"], "not-found");
    let event = node.sidecar.logged("is gone from Barbican").await;
    assert_eq!(event["level"], "ERROR");
    assert_eq!(event["key_id"], old.as_str());
}

#[tokio::test]
async fn data_of_a_key_that_was_not_staged_is_read_after_one_reading() {
    let openstack = openstack::plain();
    let [old, new] = new_keys(openstack, 73).await;
    let one = Following::start(&[(PAST, &old)]).await;
    let container = &one.container;
    let config = openstack.config_of_container("password", container);
    // Activated at once, and a node that comes later writes with it.
    one.add("2026-06-01T00:00:00Z", &new).await;
    let place = Place::new(&config);
    let mut other = place.start();
    let written = other.ready().await.round_trip().await;
    assert_eq!(written.key_id, new);
    let read = one.client.decrypt(&written).await;
    assert_eq!(read.expect("it reads the container"), SEED);
}
