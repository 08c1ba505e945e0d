//! From `key-id` to `key-container` and back, while the sidecar serves.

use super::*;
use crate::support::client::SEED;

/// Writes the cloud-config anew, until this is in force.
async fn adopt(sidecar: &mut Sidecar, place: &Place, config: &str, source: &str) {
    place.write("cloud.conf", config);
    let socket = place.socket();
    let look = async |_: &Sidecar| (state(&socket).await["ring"]["source"] == source).then_some(());
    sidecar.until("the reload", look).await;
}

#[tokio::test]
async fn a_live_reload_goes_from_a_key_to_the_container_and_back() {
    let openstack = openstack::plain();
    let [old, new] = new_keys(openstack, 74).await;
    let place = Place::new(&openstack.config_for("password", &old));
    let mut sidecar = place.start();
    let client = sidecar.ready().await;
    let first = client.round_trip().await;
    // Without the key in use it is refused, and the reason says what to do.
    let other = openstack.new_container(&[(PAST, &new)]).await;
    place.write(
        "cloud.conf",
        &openstack.config_of_container("password", &other),
    );
    let event = sidecar
        .logged("does not list the key in use until now")
        .await;
    assert!(event.to_string().contains(&old), "{event}");
    assert_eq!(client.round_trip().await.key_id, old);

    let container = openstack.new_container(&[(PAST, &old), ("", &new)]).await;
    let config = openstack.config_of_container("password", &container) + QUICK;
    adopt(&mut sidecar, &place, &config, "container").await;
    assert_eq!(client.round_trip().await.key_id, old);
    let socket = place.socket();
    let staged = async |_: &Sidecar| held(key(&socket, &new).await.as_ref()).then_some(());
    sidecar.until("the other key", staged).await;

    adopt(
        &mut sidecar,
        &place,
        &openstack.config_for("password", &old),
        "file",
    )
    .await;
    assert_eq!(client.round_trip().await.key_id, old);
    assert_eq!(client.decrypt(&first).await.expect("readable"), SEED);
    assert!(key(&place.socket(), &new).await.is_none());
}
