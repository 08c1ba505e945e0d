//! What `check` tells people to do, after what real servers answer.

use serde_json::{Value, json};

use crate::support::cloud::KEY;
use crate::support::openstack::{self, OpenStack, text};
use crate::support::server::{Reply, Server};
use crate::support::sidecar::Place;

/// Every step of a `check`.
async fn steps(config: &str, code: i32) -> Vec<Value> {
    let said = Place::new(config).check(&["--json"]).await;
    assert_eq!(said.code, code, "{said:?}");
    let document: Value = serde_json::from_str(&said.output).expect("one JSON document");
    document["steps"].as_array().expect("steps").clone()
}

fn step<'a>(steps: &'a [Value], name: &str) -> &'a Value {
    let found = steps.iter().find(|step| step["name"] == name);
    found.unwrap_or_else(|| panic!("no step {name} in {steps:#?}"))
}

/// The step that fails is this one, and what it finds and says contains these texts.
async fn fails(config: &str, name: &str, found: &str, fix: &str) {
    let steps = steps(config, 1).await;
    let last = steps.last().expect("a step");
    assert_eq!(last["name"], name, "{last:#}");
    assert!(text(last, "found").contains(found), "{found}: {last:#}");
    assert!(text(last, "fix").contains(fix), "{fix}: {last:#}");
}

/// A user of its own with this done to it, and a cloud-config for it.
async fn user(cloud: &OpenStack, change: &[&str], settings: Value) -> String {
    let user = cloud.ctl(&["user-create"]).await;
    let id = text(&user, "id");
    if !change.is_empty() {
        cloud.ctl(&[change, &[&id]].concat()).await;
    }
    if !settings.is_null() {
        let path = format!("/users/{id}");
        let body = json!({"user": settings}).to_string();
        let request = ["request", "--as", "admin", "keystone", "PATCH", &path];
        let reply = cloud
            .ctl(&[&request[..], &["--body", &body]].concat())
            .await;
        assert_eq!(reply["status"], 200, "{reply:#}");
    }
    cloud.config_of_user(&text(&user, "username"), &text(&user, "password"))
}

#[tokio::test]
async fn a_login_that_keystone_refuses_is_answered_by_its_cause() {
    let cloud = openstack::plain();
    // Keystone does not tell a stranger that there is such a user.
    let locked = user(cloud, &["user-lock"], Value::Null).await;
    fails(&locked, "login", "401", "locked after wrong passwords").await;
    let expired = user(cloud, &["password-expire"], Value::Null).await;
    fails(&expired, "login", "expired", "create a new password").await;
    let disabled = user(cloud, &[], json!({"enabled": false})).await;
    fails(&disabled, "login", "401", "for a user that is disabled").await;
    let options = json!({"options": {"multi_factor_auth_enabled": true,
        "multi_factor_auth_rules": [["password", "totp"]]}});
    let two = user(cloud, &[], options).await;
    fails(&two, "login", "401", "second factor").await;
    let wrong = cloud.config_of_user(cloud.text("/user/username"), "wrong-password");
    fails(&wrong, "login", "401", "openstack token issue").await;
    let credential = cloud.config_of_credential(&"0".repeat(32), "wrong-secret");
    fails(&credential, "login", "404", "correct the credentials").await;
}

#[tokio::test]
async fn a_path_that_is_not_keystones_is_the_urls_fault() {
    let cloud = openstack::plain();
    let url = cloud.text("/auth_url");
    let root = url.strip_suffix("/v3").expect("the version");
    for wrong in ["/dashboard", "/V3"] {
        let config = cloud
            .config("password")
            .replace(url, &format!("{root}{wrong}"));
        fails(&config, "login", "not Keystone's answer", "end in /v3").await;
    }
}

#[tokio::test]
async fn a_token_for_no_project_needs_a_project() {
    let cloud = openstack::plain();
    let config = cloud
        .config("password")
        .replace("domain-name", "user-domain-name");
    let lines = config.lines().filter(|line| !line.starts_with("tenant"));
    let unscoped: String = lines.map(|line| line.to_owned() + "\n").collect();
    fails(&unscoped, "catalog", "not scoped to a project", "tenant-id").await;
    let named = format!(
        "{unscoped}key-manager-endpoint = {}\n",
        cloud.text("/barbican_url")
    );
    fails(&named, "catalog", "not scoped to a project", "tenant-id").await;
}

/// A region whose Barbican is at `url`; returns the cloud-config and the endpoint's ID.
async fn region(cloud: &OpenStack, region: &str, url: &str) -> (String, String) {
    cloud.ctl(&["endpoint-delete", "--region", region]).await;
    let create = ["endpoint-create", "--region", region, "--url", url];
    let made = cloud.ctl(&create).await;
    let config = cloud.config("password").replace("RegionOne", region);
    let id = made["endpoints"]["public"].as_str().expect("an ID");
    (config, id.to_owned())
}

#[tokio::test]
async fn a_path_that_barbican_does_not_know_names_the_endpoint_to_change() {
    let cloud = openstack::plain();
    let barbican = cloud.text("/barbican_url");
    for (name, path) in [
        ("NextProject", format!("/v1/{}", cloud.text("/project/id"))),
        ("NextVersion", "/v2".to_owned()),
    ] {
        let url = format!("{barbican}{path}");
        let (config, id) = region(cloud, name, &url).await;
        let found = format!("the catalog's URL for key-manager is {url}/v1; it must be Barbican's");
        let fix = format!("`openstack endpoint set --url URL {id}` in place of {url}/v1");
        fails(&config, "key-id payload", &found, &fix).await;
        // The setting stands in for the catalog, and works at once.
        let own = format!("{config}key-manager-endpoint = {barbican}\n");
        let steps = steps(&own, 0).await;
        let catalog = text(step(&steps, "catalog"), "found");
        let said = format!("at {barbican}/v1, from key-manager-endpoint");
        assert!(catalog.contains(&said), "{catalog}");
        assert!(catalog.contains(&format!("{url}/v1")), "{catalog}");
        let wrong = format!("{config}key-manager-endpoint = {url}\n");
        let found = format!("key-manager-endpoint in [KeyManager] is {url}/v1; it must be");
        fails(
            &wrong,
            "key-id payload",
            &found,
            "correct key-manager-endpoint",
        )
        .await;
    }
}

#[tokio::test]
async fn a_redirect_says_who_must_write_which_url() {
    let cloud = openstack::plain();
    let barbican = cloud.text("/barbican_url");
    let to = barbican.to_owned();
    let server = Server::start(None, move |_, request| {
        Reply::status(302).header("Location", format!("{to}{}", request.target))
    })
    .await;
    let (config, id) = region(cloud, "NextRedirect", &server.base()).await;
    let fix = format!("`openstack endpoint set --url {barbican} {id}` in place of http://");
    fails(&config, "key-id payload", "a redirect to", &fix).await;
}

#[tokio::test]
async fn the_setting_takes_the_place_of_a_catalog_without_barbican() {
    let cloud = openstack::plain();
    let config = cloud.config("password").replace("RegionOne", "RegionNine");
    let own = format!(
        "key-manager-endpoint = {}/v1/\n",
        cloud.text("/barbican_url")
    );
    let steps = steps(&(config + &own), 0).await;
    let catalog = text(step(&steps, "catalog"), "found");
    assert!(
        catalog.contains("not used from the catalog: no matching endpoint"),
        "{catalog}"
    );
}

#[tokio::test]
async fn the_setting_is_taken_over_while_serving_once_it_is_proved() {
    let cloud = openstack::plain();
    let config = cloud.config("password").replace("RegionOne", "RegionNine");
    let place = Place::new(&config);
    let mut sidecar = place.start();
    let client = sidecar.client().await;
    sidecar
        .unavailable(&client, "OpenStack is unavailable")
        .await;
    let own = |url: &str| format!("{config}key-manager-endpoint = {url}\n");
    place.write("cloud.conf", &own(cloud.text("/barbican_url")));
    let client = sidecar.ready().await;
    client.round_trip().await;
    // Nobody listens there: what is in force stays.
    place.write("cloud.conf", &own("http://127.0.0.1:1"));
    sidecar.logged("configuration not reloaded").await;
    client.round_trip().await;
}

#[tokio::test]
async fn an_orders_id_is_answered_with_the_secrets() {
    let cloud = openstack::plain();
    let made = cloud.ctl(&["order-create"]).await;
    let order = text(&made, "order_ref");
    let order = order.rsplit('/').next().expect("an id");
    let fix = format!(
        "{order} is an order's id; the secret's is {}",
        text(&made, "id")
    );
    let config = cloud.config_for("password", order);
    fails(&config, "key-id payload", "Secret not found", &fix).await;
    // This credential may not ask, and so nothing is said.
    let narrow = cloud.config_for("application_credential_narrow", order);
    fails(&narrow, "key-id payload", "404", "openstack secret get").await;
}

#[tokio::test]
async fn a_password_in_place_of_a_key_is_doubted() {
    let cloud = openstack::plain();
    let password = "correct-horse-battery-staple-42!";
    assert_eq!(password.len(), KEY.len());
    let body = json!({"name": "p", "secret_type": "passphrase", "payload": password,
        "payload_content_type": "text/plain"})
    .to_string();
    let request = [
        "request",
        "barbican",
        "POST",
        "/v1/secrets",
        "--body",
        &body,
    ];
    let made = cloud.ctl(&request).await;
    assert_eq!(made["status"], 201, "{made:#}");
    let made: Value = serde_json::from_str(&text(&made, "body")).expect("JSON");
    let href = text(&made, "secret_ref");
    let id = href.rsplit('/').next().expect("an id");
    let config = cloud.config_for("password", id);
    let steps = steps(&config, 0).await;
    let metadata = step(&steps, "key-id metadata")["warnings"].to_string();
    assert!(metadata.contains("of type passphrase"), "{metadata}");
    let payload = step(&steps, "key-id payload")["warnings"].to_string();
    assert!(payload.contains("printable characters"), "{payload}");
    assert!(!payload.contains(password), "{payload}");

    let place =
        Place::new(&config.replace("[KeyManager]", "[KeyManager]\nrevalidate-interval = 10s"));
    let mut sidecar = place.start_with(&["--log-level", "debug"]);
    sidecar.ready().await;
    sidecar.logged("key confirmed").await;
    let log = sidecar.log();
    let said = |event: &&Value| text(event, "message").contains("printable characters");
    let said: Vec<&Value> = log.iter().filter(said).collect();
    assert_eq!(said.len(), 1, "{log:#?}");
    assert_eq!(said[0]["level"], "WARN", "{said:#?}");
    assert!(!sidecar.errors().contains(password), "not shown");
}
