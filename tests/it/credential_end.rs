//! That an application credential ends is known before it does.

use crate::support::openstack::{self, OpenStack, text};
use crate::support::sidecar::{Place, run};

const IDENTITY: &str = r#", {"service": "identity", "method": "GET", "path": "/v3/users/*/application_credentials/*"}"#;

async fn credential(cloud: &OpenStack, seconds: &str, more: &str) -> (String, String) {
    let rules = format!(
        r#"[{{"service": "key-manager", "method": "GET", "path": "/v1/secrets/*/payload"}}{more}]"#
    );
    let create = [
        "appcred-create",
        "--access-rules",
        &rules,
        "--expires-in",
        seconds,
    ];
    let made = cloud.ctl(&create).await;
    let end = text(&made, "expires_at");
    let end = end.split('.').next().expect("a time").to_owned();
    (
        cloud.config_of_credential(&text(&made, "id"), &text(&made, "secret")),
        end,
    )
}

#[tokio::test]
async fn two_tokens_tell_the_end_of_a_credential_within_a_tokens_life() {
    let (config, end) = credential(openstack::plain(), "1800", "").await;
    let said = Place::new(&config).check(&[]).await;
    assert!(said.output.contains(&format!("at {end}")), "{said:?}");
    assert!(said.output.contains("it ends in 29 minutes"), "{said:?}");
}

#[tokio::test]
async fn a_credential_that_may_not_ask_is_told_how_it_could() {
    let (config, end) = credential(openstack::plain(), "864000", "").await;
    let said = Place::new(&config).check(&[]).await;
    assert!(!said.output.contains(&end), "{said:?}");
    assert!(said.output.contains("\"service\":\"identity\""), "{said:?}");
}

#[tokio::test]
async fn a_credential_that_may_ask_knows_its_end_weeks_before() {
    let (config, end) = credential(openstack::plain(), "864000", IDENTITY).await;
    let place = Place::new(&config);
    let said = place.check(&[]).await;
    assert!(said.output.contains(&format!("at {end}")), "{said:?}");
    assert!(said.output.contains("it ends in 9 days"), "{said:?}");
    assert!(!said.output.contains("more than reading"), "{said:?}");

    let mut sidecar = place.start();
    sidecar.ready().await;
    let mut command = place.command("status");
    command.arg("--socketpath").arg(place.socket());
    let said = run(command).await;
    let line = format!("application credential ends at {end}");
    assert!(said.output.contains(&line), "{said:?}");
    sidecar
        .logged("the application credential expires in 9 days")
        .await;
}

#[tokio::test]
async fn a_credential_without_an_end_has_none() {
    let config = openstack::plain().config("application_credential");
    let said = Place::new(&config).check(&[]).await;
    let line = said
        .output
        .lines()
        .find(|line| line.contains("credential end"));
    assert!(line.expect("the step").ends_with("never"), "{said:?}");
}
