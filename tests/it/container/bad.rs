//! Containers that are of no use: the ring in force stays, and the reason is named.

use super::*;
use crate::support::cloud::{Recorder, container, container_config, refused, with_container};
use crate::support::server::{Reply, Server};

#[tokio::test]
async fn a_container_that_is_emptied_or_deleted_leaves_the_ring_in_force() {
    let openstack = openstack::plain();
    let [old] = new_keys(openstack, 76).await;
    let mut node = Following::start(&[(PAST, &old)]).await;
    node.remove(PAST, &old).await;
    node.until_ring("it is empty", "problem", "empty".into())
        .await;
    node.add("2026-13-01T00:00:00Z", &old).await;
    node.until_ring("no time has come", "problem", "no-active-key".into())
        .await;
    let shown = state(&node.place.socket()).await;
    let warnings = shown["ring"]["warnings"].to_string();
    assert!(warnings.contains("2026-13-01T00:00:00Z"), "{warnings}");
    assert_eq!(node.client.round_trip().await.key_id, old);
    openstack.ctl(&["container-delete", &node.container]).await;
    node.until_ring("it is gone", "problem", "not-found".into())
        .await;
    let written = node.client.round_trip().await;
    assert_eq!(written.key_id, old);
    assert_eq!(
        key(&node.place.socket(), &old).await.expect("kept")["held"],
        true
    );
    // A restart has nothing to go by, and says so.
    node.sidecar.kill().await;
    let mut again = node.place.start();
    let client = again.client().await;
    again
        .unavailable(&client, "Barbican has no such container")
        .await;
}

#[tokio::test]
async fn a_container_of_another_type_is_refused_with_the_reason() {
    let openstack = openstack::plain();
    let [one, other] = new_keys(openstack, 77).await;
    let certificate = format!("--reference=certificate={one}");
    let private = format!("--reference=private_key={one}");
    let public = format!("--reference=public_key={other}");
    for words in [
        &["container-create", "--type", "certificate", &certificate][..],
        &["container-create", "--type", "rsa", &private, &public][..],
    ] {
        let container = openstack::text(&openstack.ctl(words).await, "id");
        let config = openstack.config_of_container("password", &container);
        let place = Place::new(&config);
        let mut sidecar = place.start();
        let client = sidecar.client().await;
        sidecar
            .unavailable(&client, "it is not of type generic")
            .await;
        sidecar
            .logged("only the references of a generic one can be changed")
            .await;
    }
}

#[tokio::test]
async fn a_secret_that_is_no_key_is_named_and_never_becomes_the_write_key() {
    let openstack = openstack::plain();
    let [good, staged] = new_keys(openstack, 78).await;
    let made = openstack.ctl(&["secret-create", "--text", "no key"]).await;
    let text = openstack::text(&made, "id");
    let mut node = Following::start(&[(PAST, &good), ("no key", &text)]).await;
    let named = |key: Option<&Value>| key.is_some_and(|key| key["problem"] == "not-a-key");
    node.until_key("it is named", &text, named).await;
    node.add("2026-06-01T00:00:00Z", &text).await;
    node.add("staged", &staged).await;
    let due = |key: Option<&Value>| key.is_some_and(|key| key["active_from"].is_string());
    node.until_key("its time is known", &text, due).await;
    node.until_key("the rest is served", &staged, held).await;
    assert_eq!(node.client.round_trip().await.key_id, good);
}

/// A cloud with this container.
async fn cloud_of(body: String) -> (Server, Place) {
    let server = with_container(body).await;
    let place = Place::new(&container_config(&server));
    (server, place)
}

fn id(number: usize) -> String {
    format!("b5309dfb-b326-4148-b0ad-{number:012x}")
}

fn reference(host: &str, name: &str, number: usize) -> (String, String) {
    (name.to_owned(), format!("{host}/v1/secrets/{}", id(number)))
}

#[tokio::test]
async fn the_host_of_a_reference_is_never_asked_and_the_rest_is_served() {
    let stranger = Server::start(None, |_, _| Reply::status(200)).await;
    let host = stranger.base();
    let references = [
        reference(&host, PAST, 1),
        reference(&host, "staged", 2),
        ("order".to_owned(), format!("{host}/v1/orders/{}", id(3))),
        ("bare".to_owned(), id(4)),
        (
            "other".to_owned(),
            format!("{host}/v1/containers/{}", id(5)),
        ),
    ];
    let (server, place) = cloud_of(container(&references)).await;
    let mut sidecar = place.start();
    let client = sidecar.ready().await;
    assert_eq!(client.round_trip().await.key_id, id(1));
    let socket = place.socket();
    let second = async |_: &Sidecar| held(key(&socket, &id(2)).await.as_ref()).then_some(());
    sidecar.until("the second key", second).await;
    let shown = state(&socket).await;
    assert_eq!(shown["ring"]["warnings"].as_array().map(Vec::len), Some(3));
    assert_eq!(shown["keys"].as_array().map(Vec::len), Some(2));
    assert_eq!(stranger.received().len(), 0);
    drop(server);
}

#[tokio::test]
async fn fifty_keys_cost_one_request_each_and_one_for_the_container() {
    let references: Vec<_> = (0..50).map(|n| reference("http://b", "", n)).collect();
    let active = [reference("http://b", PAST, 49)];
    let body = container(&[&references[..], &active].concat());
    let (server, place) = cloud_of(body).await;
    let mut sidecar = place.start();
    sidecar.ready().await;
    let socket = place.socket();
    let all = async |_: &Sidecar| {
        let state = state(&socket).await;
        let keys = state["keys"].as_array().expect("a list");
        (keys.len() == 50 && keys.iter().all(|key| key["held"] == true)).then_some(())
    };
    sidecar.until("every key is held", all).await;
    let received = server.received();
    let asked = |part: &str| {
        received
            .iter()
            .filter(|one| one.target.contains(part))
            .count()
    };
    assert_eq!((asked("/containers/"), asked("/payload")), (1, 50));
    let first = received.iter().find(|one| one.target.contains("/payload"));
    let first = &first.expect("a payload").target;
    assert!(
        first.contains(&id(49)),
        "the write key comes first: {first}"
    );
}

#[tokio::test]
async fn a_container_without_measure_is_refused_and_many_references_are_served() {
    let many: Vec<_> = (0..500).map(|_| reference("http://b", "x", 7)).collect();
    let many = container(&[&many[..], &[reference("http://b", PAST, 7)]].concat());
    assert!(many.len() < 64 * 1024);
    let (_server, place) = cloud_of(many).await;
    let mut sidecar = place.start();
    assert_eq!(sidecar.ready().await.round_trip().await.key_id, id(7));

    for (body, reason) in [
        (
            container(&[reference("http://b", &"x".repeat(1 << 20), 1)]),
            "it is larger than 64 KiB",
        ),
        (
            "{\"type\":\"generic\"}".to_owned(),
            "not a container's description",
        ),
        ("[".repeat(60_000), "not a container's description"),
        (container(&[]), "it lists no key"),
    ] {
        let (_server, place) = cloud_of(body).await;
        let mut sidecar = place.start();
        let client = sidecar.client().await;
        sidecar.unavailable(&client, reason).await;
    }
}

#[tokio::test]
async fn only_barbicans_own_word_counts_for_a_container() {
    for (reply, reason) in [
        (refused(403), "Barbican refuses access to it"),
        (refused(404), "Barbican has no such container"),
        (
            Reply::status(404).body("<html>"),
            "OpenStack is unavailable",
        ),
        (Reply::status(503), "OpenStack is unavailable"),
    ] {
        let reply = std::sync::Mutex::new(reply);
        let server = Recorder::default()
            .start_with(None, move |request| {
                let asked = request.target.contains("/containers/");
                asked.then(|| reply.lock().expect("no panic while held").clone())
            })
            .await;
        let place = Place::new(&container_config(&server));
        let mut sidecar = place.start();
        let client = sidecar.client().await;
        sidecar.unavailable(&client, reason).await;
    }
}
