//! Keys that Barbican takes away: seen at the next revalidation, wiped at max-cache-age.

use std::time::{Duration, Instant};

use serde_json::Value;
use tonic::Code;

use super::{all_held, ring, state};
use crate::support::client::{SEED, refusal};
use crate::support::hex;
use crate::support::openstack::{self, text};
use crate::support::random::Random;
use crate::support::sidecar::{Place, Sidecar};
use crate::support::tap::Tap;

/// The least that the configuration allows.
const INTERVAL: Duration = Duration::from_secs(10);

const MAX_AGE: Duration = Duration::from_secs(20);

const SLACK: Duration = Duration::from_secs(10);

#[tokio::test]
async fn keys_that_barbican_takes_away_are_noticed_at_the_interval_and_wiped_at_the_age() {
    let openstack = openstack::plain();
    let barbican = Tap::before_barbican(openstack, "TapLifetime").await;
    let mut random = Random::new(9);
    let bytes = random.bytes(32);
    let altered = openstack.new_key(&hex::encode(&bytes)).await;
    let deleted = openstack.new_key(&hex::encode(&random.bytes(32))).await;
    let denied = openstack.new_key(&hex::encode(&random.bytes(32))).await;
    let expired = openstack.new_key(&hex::encode(&random.bytes(32))).await;
    let user = openstack.ctl(&["user-create"]).await;
    let gone = [
        (&altered, "altered"),
        (&deleted, "not-found"),
        (&denied, "access-denied"),
        (&expired, "not-found"),
    ];
    let ids: Vec<&str> = gone.iter().map(|(id, _)| id.as_str()).collect();
    let text_of_ring = ring(openstack, openstack.key(0), &ids)
        .replace(openstack.text("/user/username"), &text(&user, "username"))
        .replace(openstack.text("/user/password"), &text(&user, "password"))
        .replace("RegionOne", "TapLifetime");
    let settings = "revalidate-interval = 10s\nmax-cache-age = 20s\n";
    let place = Place::new(&(text_of_ring + settings));
    let mut sidecar = place.start();
    let client = sidecar.ready().await;
    let held = async |_: &Sidecar| all_held(&state(&place.socket()).await).then_some(());
    sidecar.until("every key is held", held).await;
    let began = Instant::now();

    openstack.ctl(&["secret-delete", &deleted]).await;
    openstack.ctl(&["secret-expire", &expired]).await;
    openstack.ctl(&["secret-acl", &denied, "--private"]).await;
    barbican.alter(&bytes, &[7; 32]);

    // Noticed at the next confirmation; what is held stays in use.
    for (id, word) in gone {
        let noticed = async |_: &Sidecar| {
            let key = key(&state(&place.socket()).await, id);
            (problem(&key) == Some(word)).then_some(key)
        };
        let key = sidecar.until(&format!("{word}: {id}"), noticed).await;
        assert_eq!(key.get("held"), Some(&Value::Bool(true)), "{key}");
    }
    let noticed = began.elapsed();
    println!("all noticed after {noticed:?}");
    assert!(noticed < 2 * INTERVAL + SLACK, "{noticed:?}");

    // Wiped at max-cache-age; the write key goes on.
    for (id, _) in gone {
        let wiped = async |_: &Sidecar| {
            let key = key(&state(&place.socket()).await, id);
            (key.get("held") == Some(&Value::Bool(false))).then_some(())
        };
        sidecar.until(&format!("wiped: {id}"), wiped).await;
        let logged = async |sidecar: &Sidecar| {
            let mut log = sidecar.log().into_iter();
            log.find(|event| {
                event["key_id"] == id.as_str() && event.to_string().contains("key wiped")
            })
        };
        sidecar.until(&format!("logged: {id}"), logged).await;
        let mut wrapped = client.encrypt(SEED).await.expect("the write key is held");
        wrapped.key_id.clone_from(id);
        let (code, _) = refusal(client.decrypt(&wrapped).await);
        assert_eq!(code, Code::Unavailable, "{id}");
    }
    let wiped = began.elapsed();
    println!("all wiped after {wiped:?}");
    assert!(wiped < INTERVAL + MAX_AGE + SLACK, "{wiped:?}");
    client.round_trip().await;
}

fn key(state: &Value, id: &str) -> Value {
    let keys = state.get("keys").and_then(Value::as_array).expect("keys");
    let found = keys
        .iter()
        .find(|key| key.get("id").and_then(Value::as_str) == Some(id));
    found.expect("of the ring").clone()
}

fn problem(key: &Value) -> Option<&str> {
    key.get("problem").and_then(Value::as_str)
}
