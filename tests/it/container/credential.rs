//! The credential that the guide recommends: it survives rotations and reads nothing else.

use serde_json::json;

use super::*;
use crate::support::openstack::text;

#[tokio::test]
async fn a_reader_with_acls_and_two_access_rules_reads_the_keys_and_no_other_secret() {
    let openstack = openstack::plain();
    let [old, new, foreign] = new_keys(openstack, 75).await;
    let container = openstack.new_container(&[(PAST, &old)]).await;
    let user = openstack.ctl(&["user-create", "--role", "reader"]).await;
    let (reader, password) = (text(&user, "id"), text(&user, "password"));
    let acl = [
        "container-acl",
        &container,
        "--private",
        "--reader",
        &reader,
    ];
    openstack.ctl(&acl).await;
    openstack
        .ctl(&["secret-acl", &old, "--reader", &reader])
        .await;
    let rules = json!([
        {"service": "key-manager", "method": "GET", "path": format!("/v1/containers/{container}")},
        {"service": "key-manager", "method": "GET", "path": "/v1/secrets/*/payload"},
    ]);
    let rules = rules.to_string();
    let made = ["appcred-create", "--user", &reader, "--password", &password];
    let made = [&made[..], &["--access-rules", &rules]].concat();
    let credential = openstack.ctl(&made).await;
    let config =
        openstack.config_of_credential(&text(&credential, "id"), &text(&credential, "secret"));
    let line = |line: &str| match line.strip_prefix("key-id = ") {
        Some(_) => format!("key-container = \"{container}\"\n"),
        None => format!("{line}\n"),
    };
    let config: String = config.lines().map(line).collect();
    let place = Place::new(&(config + QUICK));
    let mut sidecar = place.start();
    let client = sidecar.ready().await;
    assert_eq!(client.round_trip().await.key_id, old);

    // A rotation needs no new credential, only an ACL of the new key. A secret that has
    // none is refused, though the container lists it.
    openstack
        .ctl(&["secret-acl", &new, "--reader", &reader])
        .await;
    openstack
        .ctl(&["container-add", &container, "staged", &new])
        .await;
    openstack
        .ctl(&["container-add", &container, "staged", &foreign])
        .await;
    sidecar.signal(Signal::HUP);
    let socket = place.socket();
    let staged = async |_: &Sidecar| held(key(&socket, &new).await.as_ref()).then_some(());
    sidecar.until("the new key is held", staged).await;
    let refused = async |_: &Sidecar| {
        let shown = key(&socket, &foreign).await?;
        (shown["problem"] == "access-denied").then_some(shown)
    };
    let shown = sidecar.until("the other is refused", refused).await;
    assert_eq!(shown["held"], false);
    let other = openstack.new_container(&[(PAST, &old)]).await;
    let config = std::fs::read_to_string(place.config()).expect("text");
    place.write("cloud.conf", &config.replace(&container, &other));
    sidecar
        .logged("an application credential with access rules needs one for GET of this path")
        .await;
    assert_eq!(
        client.round_trip().await.key_id,
        old,
        "what is in force stays"
    );
}
