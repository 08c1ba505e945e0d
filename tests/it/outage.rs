//! Keystone and Barbican that stop answering: before the start, during it and after.

use std::time::{Duration, Instant};

use tonic::Code;

use crate::support::client::{Client, SEED, refusal};
use crate::support::openstack::{self, OpenStack};
use crate::support::sidecar::{Place, Sidecar};

/// What a call with a held key may take on a busy machine. It does no I/O.
const PROMPT: Duration = Duration::from_millis(500);

/// kube-apiserver gives up after 3 s; an answer must be there before.
const DEADLINE: Duration = Duration::from_secs(3);

const UNREACHABLE: &str = "the key-encryption key is not loaded: OpenStack is unavailable";
const PENDING: &str = "the key-encryption key is not loaded: it is being loaded";

fn place(cloud: &OpenStack, more: &str) -> Place {
    Place::new(&(cloud.config("application_credential_narrow") + more))
}

/// Calls with the held key for as long as `meanwhile` takes. Each one is served, within
/// the time that kube-apiserver gives it even on a machine that is busy; nearly all are
/// prompt, which no call could be that waits for OpenStack.
async fn served_during(client: &Client, meanwhile: impl Future<Output = ()>) {
    let (mut rounds, mut slow) = (0, 0);
    let calls = async {
        loop {
            let start = Instant::now();
            client.status().await.expect("Status is ok");
            let wrapped = client.encrypt(SEED).await.expect("Encrypt works");
            let seed = client.decrypt(&wrapped).await.expect("Decrypt works");
            assert_eq!(seed, SEED);
            let took = start.elapsed();
            assert!(took < DEADLINE * 3, "three calls took {took:?}");
            rounds += 1;
            slow += usize::from(took > PROMPT);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = meanwhile => {}
        never = calls => never,
    }
    assert!(rounds > 100, "{rounds} rounds of calls are too few");
    assert!(slow * 20 <= rounds, "{slow} of {rounds} rounds were slow");
}

#[tokio::test]
async fn calls_with_a_held_key_are_served_through_every_outage() {
    let cloud = openstack::breakable().await;
    let place = place(&cloud, "revalidate-interval = 10s\n");
    let mut sidecar = place.start();
    let client = sidecar.ready().await;
    served_during(&client, async {
        for (number, outage) in (1..).zip(["close", "freeze", "kill"]) {
            for server in ["barbican", "keystone"] {
                cloud.ctl(&[outage, server]).await;
            }
            // Until a revalidation has failed, and so has been noticed.
            let noticed = "the held key stays in use";
            let event = sidecar.logged_times(noticed, number).await;
            assert_eq!(event["level"], "WARN", "{event}");
            cloud.heal().await;
            sidecar.logged_times("key confirmed again", number).await;
        }
    })
    .await;
    assert_eq!(client.status().await.expect("ok").key_id, cloud.key(0));
}

/// Starts while `server` is out of order, and heals it.
async fn starts_without(outage: &str, server: &str) {
    let cloud = openstack::breakable().await;
    cloud.ctl(&[outage, server]).await;
    let place = place(&cloud, "");
    let begin = Instant::now();
    let mut sidecar = place.start();
    let client = sidecar.client().await;
    let listening = begin.elapsed();
    assert!(
        listening < PROMPT * 2,
        "the socket came after {listening:?}"
    );
    assert_unready(&client, &sidecar).await;
    assert_eq!(place.probe(&[]).await.code, 0, "alive all the same");
    cloud.heal().await;
    sidecar.ready().await.round_trip().await;
    sidecar.logged("key loaded").await;
}

/// Status at once; Encrypt and Decrypt within the time that kube-apiserver has.
async fn assert_unready(client: &Client, sidecar: &Sidecar) {
    let check = |(code, text): (Code, String)| {
        assert_eq!(code, Code::Unavailable, "{text}");
        assert!([UNREACHABLE, PENDING].contains(&text.as_str()), "{text}");
    };
    let begin = Instant::now();
    check(refusal(client.status().await));
    assert!(begin.elapsed() < PROMPT);
    let begin = Instant::now();
    check(refusal(client.encrypt(SEED).await));
    let took = begin.elapsed();
    assert!(took < DEADLINE, "{took:?}:\n{}", sidecar.errors());
}

#[tokio::test]
async fn it_starts_without_keystone_and_serves_when_that_is_back() {
    starts_without("close", "keystone").await;
}

#[tokio::test]
async fn it_starts_without_barbican_and_serves_when_that_is_back() {
    starts_without("close", "barbican").await;
}

#[tokio::test]
async fn it_starts_beside_a_frozen_keystone_and_serves_when_that_goes_on() {
    starts_without("freeze", "keystone").await;
}

#[tokio::test]
async fn it_starts_beside_a_frozen_barbican_and_serves_when_that_goes_on() {
    starts_without("freeze", "barbican").await;
}

#[tokio::test]
async fn it_starts_beside_a_killed_barbican_and_serves_when_that_is_back() {
    starts_without("kill", "barbican").await;
}

#[tokio::test]
async fn a_barbican_that_freezes_between_login_and_key_only_delays_the_start() {
    let cloud = openstack::breakable().await;
    cloud.ctl(&["freeze", "barbican"]).await;
    let place = place(&cloud, "");
    let mut sidecar = place.start_with(&["--log-level", "debug"]);
    let client = sidecar.client().await;
    // The login is over, the request for the key has no answer.
    sidecar
        .until("it has logged in", async |sidecar| {
            sidecar
                .log()
                .into_iter()
                .find(|event| event["status"] == 201)
        })
        .await;
    assert_unready(&client, &sidecar).await;
    cloud.ctl(&["thaw", "barbican"]).await;
    sidecar.ready().await.round_trip().await;
}

#[tokio::test]
async fn a_call_for_a_missing_key_is_what_loads_it_after_an_outage() {
    let cloud = openstack::breakable().await;
    cloud.ctl(&["close", "barbican"]).await;
    let place = place(&cloud, "");
    let mut sidecar = place.start();
    let client = sidecar.client().await;
    sidecar.unavailable(&client, UNREACHABLE).await;
    cloud.ctl(&["open", "barbican"]).await;
    // One call is enough: it waits for the attempt that it has asked for.
    let begin = Instant::now();
    sidecar
        .until("Encrypt works", async |_| client.encrypt(SEED).await.ok())
        .await;
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[tokio::test]
async fn a_sidecar_that_restarts_during_an_outage_has_no_key_and_says_so() {
    let cloud = openstack::breakable().await;
    let place = place(&cloud, "");
    let mut first = place.start();
    let wrapped = first.ready().await.round_trip().await;
    cloud.ctl(&["close", "keystone"]).await;
    first.kill().await;
    let mut second = place.start();
    let client = second.client().await;
    second.unavailable(&client, UNREACHABLE).await;
    let (code, _) = refusal(client.decrypt(&wrapped).await);
    assert_eq!(code, Code::Unavailable);
    cloud.heal().await;
    let client = second.ready().await;
    assert_eq!(client.decrypt(&wrapped).await.expect("as before"), SEED);
}
