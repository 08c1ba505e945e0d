//! Rotation on three control-plane nodes, with nobody noticing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use barbican_kms::proto::v2::EncryptResponse;
use tokio::sync::RwLock;
use tokio::task::JoinSet;

use super::{all_held, reloads, replace, ring, state};
use crate::support::client::{Client, SEED};
use crate::support::hex;
use crate::support::openstack::{self, OpenStack};
use crate::support::random::Random;
use crate::support::sidecar::{Place, Sidecar};

/// Every order of three nodes.
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

const CALLERS: usize = 6;

struct Node {
    sidecar: Sidecar,
    client: Client,
    applied: u64,
    /// Dropped after the sidecar, whose log is in it.
    place: Place,
}

/// What kube-apiservers would have in etcd.
#[derive(Default)]
struct Store {
    written: RwLock<Vec<EncryptResponse>>,
    /// Writers hold it from Encrypt until that is stored.
    writing: RwLock<()>,
}

impl Node {
    async fn start(config: &str) -> Self {
        let place = Place::new(config);
        let mut sidecar = place.start();
        let client = sidecar.ready().await;
        let held = async |_: &Sidecar| all_held(&state(&place.socket()).await).then_some(());
        sidecar.until("every key is held", held).await;
        Self {
            sidecar,
            client,
            applied: 0,
            place,
        }
    }

    /// Gives it a new configuration, and waits until that is in force.
    async fn adopt(&mut self, config: &str) {
        replace(self.place.config(), config);
        self.applied += 1;
        let (socket, applied) = (self.place.socket(), self.applied);
        let there =
            async |_: &Sidecar| (reloads(&socket, "applied").await == applied).then_some(());
        self.sidecar.until("the reload", there).await;
    }
}

#[tokio::test]
async fn rotations_on_three_nodes_fail_no_call_in_whatever_order_the_nodes_come() {
    let openstack = openstack::plain();
    let mut random = Random::new(1);
    let mut keys = Vec::new();
    for _ in 0..=ORDERS.len() {
        keys.push(openstack.new_key(&hex::encode(&random.bytes(32))).await);
    }
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::start(&ring(openstack, &keys[0], &[])).await);
    }
    let store = Arc::new(Store::default());
    let stop = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let mut clients = Vec::new();
        for node in &nodes {
            clients.push(
                Client::open(node.sidecar.socket())
                    .await
                    .expect("it listens"),
            );
        }
        callers.spawn(call(
            number,
            clients,
            Arc::clone(&store),
            Arc::clone(&stop),
            Arc::clone(&calls),
        ));
    }
    for (turn, pair) in keys.windows(2).enumerate() {
        rotate(openstack, &mut nodes, &store, &pair[0], &pair[1], turn).await;
        if let Some(ended) = callers.try_join_next() {
            ended.expect("no call fails");
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.expect("no call fails");
    }
    println!(
        "{} rotations, {} calls",
        keys.len() - 1,
        calls.load(Ordering::Relaxed)
    );
}

async fn rotate(
    openstack: &OpenStack,
    nodes: &mut [Node],
    store: &Store,
    old: &str,
    new: &str,
    turn: usize,
) {
    let steps = [
        ring(openstack, old, &[new]),
        ring(openstack, new, &[old]),
        ring(openstack, new, &[]),
    ];
    for (step, config) in steps.iter().enumerate() {
        if step == 2 {
            migrate(nodes, store, new).await;
        }
        // Each step meets each order once in six rotations.
        for number in ORDERS[(turn + 2 * step) % ORDERS.len()] {
            nodes[number].adopt(config).await;
            everything_is_readable_everywhere(nodes, store).await;
        }
    }
    for node in nodes.iter() {
        let status = node.client.status().await.expect("ready");
        assert_eq!(status.key_id, new);
    }
}

async fn everything_is_readable_everywhere(nodes: &[Node], store: &Store) {
    let stored = store.written.read().await;
    for node in nodes {
        for wrapped in stored.iter() {
            let seed = node.client.decrypt(wrapped).await;
            assert_eq!(seed.expect("of a ring"), SEED);
        }
    }
}

/// Rewrites all that is stored, as the storage migration of Kubernetes does.
async fn migrate(nodes: &[Node], store: &Store, new: &str) {
    let _nobody_writes = store.writing.write().await;
    let mut stored = store.written.write().await;
    for (number, wrapped) in stored.iter_mut().enumerate() {
        let seed = nodes[number % 3]
            .client
            .decrypt(wrapped)
            .await
            .expect("of the ring");
        let again = nodes[(number + 1) % 3].client.encrypt(&seed).await;
        *wrapped = again.expect("Encrypt never fails");
        assert_eq!(wrapped.key_id, new);
    }
}

async fn call(
    number: usize,
    clients: Vec<Client>,
    store: Arc<Store>,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
) {
    let mut random = Random::new(number as u64 + 2);
    while !stop.load(Ordering::Relaxed) {
        {
            // Held for as long as the call takes: what migrates takes it away only then.
            let stored = store.written.read().await;
            if !stored.is_empty() {
                let wrapped = &stored[random.below(stored.len())];
                let seed = clients[random.below(3)].decrypt(wrapped).await;
                assert_eq!(seed.expect("no call fails"), SEED);
            }
        }
        if number.is_multiple_of(2) {
            let _writing = store.writing.read().await;
            let wrapped = clients[random.below(3)]
                .encrypt(SEED)
                .await
                .expect("no call fails");
            let mut stored = store.written.write().await;
            // Every node must be able to read it at this moment.
            let seed = clients[random.below(3)].decrypt(&wrapped).await;
            assert_eq!(seed.expect("no call fails"), SEED);
            if stored.len() < 60 {
                stored.push(wrapped);
            } else {
                let at = random.below(60);
                stored[at] = wrapped;
            }
            calls.fetch_add(2, Ordering::Relaxed);
        }
        calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
