//! Real servers behind a proxy that spoils their answers: what the process makes of
//! each fault, and how it recovers.

use std::time::{Duration, Instant};

use tonic::Code;

use crate::support::client::{Client, SEED, refusal};
use crate::support::fault_proxy::{Fault, FaultProxy};
use crate::support::openstack::{self, OpenStack, text};
use crate::support::patience::at_once;
use crate::support::sidecar::{Place, Sidecar};

const UNREACHABLE: &str = "the key-encryption key is not loaded: OpenStack is unavailable";

/// A sidecar whose Barbican is behind a proxy. Each has a region of its own.
async fn behind_barbican(region: &str, more: &str) -> (FaultProxy, Place) {
    let cloud = openstack::plain();
    let proxy = FaultProxy::before(cloud.text("/barbican_url"), "/payload").await;
    cloud.ctl(&["endpoint-delete", "--region", region]).await;
    cloud
        .ctl(&[
            "endpoint-create",
            "--region",
            region,
            "--url",
            &proxy.base(),
        ])
        .await;
    let config = cloud.config("application_credential_narrow");
    let config = config.replace("RegionOne", region) + more;
    (proxy, Place::new(&config))
}

/// A sidecar whose Keystone is behind a proxy.
async fn behind_keystone() -> (FaultProxy, Place) {
    let cloud: &OpenStack = openstack::plain();
    let proxy = FaultProxy::before(cloud.text("/auth_url"), "/auth/tokens").await;
    let url = proxy.base() + "/v3";
    let config = cloud.config("application_credential_narrow");
    let config = config.replace(cloud.text("/auth_url"), &url);
    (proxy, Place::new(&config))
}

/// Faults that pass, as a name and what happens: the next try comes within two seconds. A 429 that names no time is
/// none of them: the sidecar then waits for 5 s, which is worth a message.
fn passing() -> Vec<(&'static str, Fault)> {
    vec![
        ("PassLate", Fault::Late(Duration::from_millis(1500))),
        ("PassReset", Fault::Reset),
        ("PassTruncated", Fault::Truncated),
        ("Pass429After", Fault::RetryAfter(429, 1)),
        ("Pass500", Fault::Status(500)),
        ("Pass503", Fault::Status(503)),
        ("Pass503After", Fault::RetryAfter(503, 0)),
    ]
}

#[tokio::test]
async fn a_fault_that_passes_is_not_noticed_but_at_debug() {
    at_once(passing().into_iter().map(|(region, fault)| async move {
        let (proxy, place) = behind_barbican(region, "").await;
        proxy.inject_times(fault, 1);
        let mut sidecar = place.start();
        sidecar.ready().await.round_trip().await;
        assert_eq!(proxy.happened(), 1, "{region}");
        let errors = sidecar.errors();
        assert!(
            !errors.contains("ERROR") && !errors.contains("WARN"),
            "{region}: {errors}"
        );
    }))
    .await;
}

#[tokio::test]
async fn a_fault_of_a_login_that_passes_is_not_noticed_but_at_debug() {
    at_once(passing().into_iter().map(|(name, fault)| async move {
        let (proxy, place) = behind_keystone().await;
        proxy.inject_times(fault, 1);
        let mut sidecar = place.start();
        sidecar.ready().await.round_trip().await;
        assert_eq!(proxy.happened(), 1, "{name}");
        let errors = sidecar.errors();
        assert!(!errors.contains("ERROR"), "{name}: {errors}");
    }))
    .await;
}

/// Unavailable with this cause in the log while the fault lasts, and serving soon after.
async fn unavailable_until_it_relents(proxy: &FaultProxy, place: &Place, cause: &str) {
    let mut sidecar = place.start();
    let client = sidecar.client().await;
    sidecar.unavailable(&client, UNREACHABLE).await;
    assert_refuses_in_time(&client, &sidecar).await;
    let event = sidecar.logged("key not loaded: ").await;
    assert_eq!(event["level"], "ERROR");
    let said = text(&event, "message");
    assert!(said.contains(cause), "{cause:?} is not in {said}");
    proxy.relent();
    sidecar
        .until("Encrypt works", async |_| client.encrypt(SEED).await.ok())
        .await;
    client.round_trip().await;
    sidecar.logged("key loaded").await;
}

async fn assert_refuses_in_time(client: &Client, sidecar: &Sidecar) {
    let begin = Instant::now();
    let answer = refusal(client.encrypt(SEED).await);
    assert_eq!(answer, (Code::Unavailable, UNREACHABLE.to_owned()));
    let took = begin.elapsed();
    // kube-apiserver gives up after 3 s.
    assert!(
        took < Duration::from_secs(3),
        "{took:?}: {}",
        sidecar.errors()
    );
}

#[tokio::test]
async fn a_fault_of_barbican_that_stays_is_named_and_ends_with_its_cause() {
    let lasting = vec![
        ("StayReset", Fault::Reset, "connection"),
        (
            "StayTruncated",
            Fault::Truncated,
            "end of file before message length reached",
        ),
        (
            "Stay404",
            Fault::Status(404),
            "this is not Barbican's answer",
        ),
        ("StayHtml", Fault::ContentType("text/html"), "text/html"),
        (
            "StayJson",
            Fault::ContentType("application/json"),
            "application/json",
        ),
        ("Stay429", Fault::Status(429), "429"),
        (
            "Stay500",
            Fault::Status(500),
            "500 Internal Server Error: the proxy's fault",
        ),
        ("Stay503", Fault::Status(503), "503"),
    ];
    at_once(
        lasting
            .into_iter()
            .map(|(region, fault, cause)| async move {
                let (proxy, place) = behind_barbican(region, "").await;
                proxy.inject(fault);
                unavailable_until_it_relents(&proxy, &place, cause).await;
            }),
    )
    .await;
}

#[tokio::test]
async fn a_fault_of_keystone_that_stays_is_named_and_ends_with_its_cause() {
    let lasting = vec![
        (Fault::Reset, "connection"),
        (
            Fault::Truncated,
            "end of file before message length reached",
        ),
        (Fault::Oversize(4 << 20), "longer than 4194304 bytes"),
        (Fault::ContentType("text/html"), "text/html"),
        (Fault::Status(429), "429"),
        (Fault::RetryAfter(503, 0), "503"),
        (Fault::Status(500), "500"),
    ];
    at_once(lasting.into_iter().map(|(fault, cause)| async move {
        let (proxy, place) = behind_keystone().await;
        proxy.inject(fault);
        unavailable_until_it_relents(&proxy, &place, cause).await;
    }))
    .await;
}

/// `fault` names half a minute, in which calls fail although the server has recovered, as
/// nothing is asked of it.
async fn left_alone(proxy: &FaultProxy, place: &Place, fault: Fault) {
    proxy.inject(fault);
    let mut sidecar = place.start();
    let client = sidecar.client().await;
    let event = sidecar.logged("key not loaded: ").await;
    let logged = Instant::now();
    // With up to a quarter on top, so that a fleet does not come at once.
    let wait = event["retry_seconds"].as_f64().expect("a number");
    assert!((30.0..=37.5).contains(&wait), "{event}");
    sidecar.unavailable(&client, UNREACHABLE).await;
    proxy.relent();
    while logged.elapsed() < Duration::from_secs(25) {
        assert_refuses_in_time(&client, &sidecar).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(proxy.happened(), 1);
    sidecar.ready().await.round_trip().await;
}

#[tokio::test]
async fn a_server_that_names_a_time_is_left_alone_however_many_calls_come() {
    let (barbican, place) = behind_barbican("Stay429After", "").await;
    let (keystone, other_place) = behind_keystone().await;
    tokio::join!(
        left_alone(&barbican, &place, Fault::RetryAfter(429, 30)),
        left_alone(&keystone, &other_place, Fault::RetryAfter(503, 30)),
    );
}

#[tokio::test]
async fn a_payload_that_is_too_long_is_no_key() {
    let longer = [
        ("StayOneMore", 1, "33 bytes"),
        ("StayOversize", 5000, "more than 4096 bytes"),
    ];
    at_once(longer.into_iter().map(|(region, more, length)| async move {
        let (proxy, place) = behind_barbican(region, "").await;
        proxy.inject(Fault::Oversize(more));
        let mut sidecar = place.start();
        let client = sidecar.client().await;
        sidecar
            .unavailable(&client, "the secret is not an AES key")
            .await;
        let said = text(&sidecar.logged("key not loaded").await, "message");
        assert!(said.contains(length), "{said}");
    }))
    .await;
}

#[tokio::test]
async fn no_fault_takes_a_held_key_away() {
    let faults = vec![
        ("HeldReset", Fault::Reset, "WARN"),
        ("HeldTruncated", Fault::Truncated, "WARN"),
        ("HeldHtml", Fault::ContentType("text/html"), "WARN"),
        ("Held429", Fault::Status(429), "WARN"),
        ("Held500", Fault::Status(500), "WARN"),
        ("Held503", Fault::RetryAfter(503, 30), "WARN"),
        // What stands in front of Barbican knows nothing about keys.
        ("Held401", Fault::Status(401), "WARN"),
        ("Held403", Fault::Status(403), "WARN"),
        ("Held404", Fault::Status(404), "WARN"),
        // These are not outages: somebody has to act.
        ("HeldDenied", Fault::OfBarbican(403), "ERROR"),
        ("HeldGone", Fault::OfBarbican(404), "ERROR"),
        ("HeldOversize", Fault::Oversize(5000), "ERROR"),
        ("HeldAltered", Fault::Altered, "ERROR"),
        ("HeldOneMore", Fault::Oversize(1), "ERROR"),
    ];
    at_once(faults.into_iter().map(|(region, fault, level)| async move {
        let (proxy, place) = behind_barbican(region, "revalidate-interval = 10s\n").await;
        let mut sidecar = place.start();
        let client = sidecar.ready().await;
        let wrapped = client.round_trip().await;
        proxy.inject(fault);
        let event = sidecar.logged("the held key stays in use").await;
        assert_eq!(event["level"], level, "{region}: {event}");
        assert_eq!(client.decrypt(&wrapped).await.expect(region), SEED);
        client.status().await.expect(region);
        proxy.relent();
        sidecar.logged("key confirmed again").await;
        assert_eq!(client.decrypt(&wrapped).await.expect(region), SEED);
    }))
    .await;
}
