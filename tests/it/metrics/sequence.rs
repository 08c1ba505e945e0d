//! The life of a sidecar, scraped at each step: start without Barbican, recovery, load,
//! bad reload, good reload, rotation, outage, revocation, stop.

use std::time::{SystemTime, UNIX_EPOCH};

use barbican_kms::key_id::KeyId;
use rustix::process::Signal;
use tonic::Code;

use crate::support::client::{Client, SEED, refusal, request};
use crate::support::openstack::{self, text};
use crate::support::scrape::{Scrape, Target};
use crate::support::sidecar::{Place, Sidecar};

/// What one sidecar is watched by.
struct Watch {
    sidecar: Sidecar,
    target: Target,
}

impl Watch {
    /// Scrapes until `seen` likes what it sees.
    async fn until(&mut self, what: &str, seen: impl Fn(&Scrape) -> bool) -> Scrape {
        let target = self.target.clone();
        self.sidecar
            .until(what, async |_| {
                Some(target.scrape().await).filter(|scrape| seen(scrape))
            })
            .await
    }
}

fn of_key(family: &str, id: &str) -> String {
    let id: KeyId = id.parse().expect("a key id");
    format!("{family}{{key_id_hash=\"{}\"}}", id.sha256_label())
}

fn problem(id: &str, problem: &str) -> String {
    let labels = of_key("key_problem", id);
    labels.replace('}', &format!(",problem=\"{problem}\"}}"))
}

fn requests(method: &str, code: &str) -> String {
    format!("requests_total{{method=\"{method}\",code=\"{code}\"}}")
}

fn upstream(operation: &str, outcome: &str) -> String {
    let service = if operation == "login" {
        "keystone"
    } else {
        "barbican"
    };
    format!(
        "openstack_requests_total{{service=\"{service}\",operation=\"{operation}\",outcome=\"{outcome}\"}}"
    )
}

fn reloads(outcome: &str) -> String {
    format!("config_reloads_total{{outcome=\"{outcome}\"}}")
}

fn config_hash(scrape: &Scrape) -> String {
    let mut names = scrape.names();
    let name = names.find(|name| name.starts_with("barbican_kms_config_info"));
    name.expect("a configuration").to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs() as f64
}

#[tokio::test]
async fn metrics_tell_what_happens_from_the_start_to_the_end() {
    let cloud = openstack::breakable().await;
    let made = cloud.ctl(&["appcred-create", "--narrow"]).await;
    let (credential, secret) = (text(&made, "id"), text(&made, "secret"));
    let config = cloud.config_of_credential(&credential, &secret) + "revalidate-interval = 10s\n";
    let (old, new) = (cloud.key(0).to_owned(), cloud.key(1).to_owned());
    let rotated = config.replace(&old, &new);

    cloud.ctl(&["close", "barbican"]).await;
    let place = Place::new(&config);
    let mut sidecar = place.start_with(&["--metrics-address", "localhost:0"]);
    let target = Target::of(&mut sidecar).await;
    let client = sidecar.client().await;
    let mut watch = Watch { sidecar, target };
    starts_without_barbican(&mut watch, &old).await;

    cloud.ctl(&["open", "barbican"]).await;
    recovers(&mut watch, &old).await;
    let wrapped = counts_calls(&mut watch, &client, &old).await;

    place.write("cloud.conf", "[Global]\n");
    let before = watch.target.scrape().await;
    let bad = watch
        .until("a bad reload", |now| now.count(&reloads("invalid")) == 1)
        .await;
    assert_eq!(bad.count("config_last_reload_successful"), 0);
    assert_eq!(config_hash(&bad), config_hash(&before));
    assert_eq!(bad.count("ready"), 1, "what is in force stays in force");

    place.write("cloud.conf", &format!("{config}decrypt-key-ids = {new}\n"));
    let good = watch
        .until("a good reload", |now| now.count(&reloads("applied")) == 1)
        .await;
    assert_eq!(good.count("config_last_reload_successful"), 1);
    assert_ne!(config_hash(&good), config_hash(&before));
    assert!(good.value("config_last_success_timestamp_seconds") > now() - 60.0);
    assert_eq!(good.count("revalidate_interval_seconds"), 10);
    assert_eq!(good.count(&of_key("key_held", &new)), 1);
    assert_eq!(good.count(&of_key("key_write", &new)), 0);

    place.write("cloud.conf", &format!("{rotated}decrypt-key-ids = {old}\n"));
    let turned = watch
        .until("a rotation", |now| now.count(&reloads("applied")) == 2)
        .await;
    assert_eq!(turned.count(&of_key("key_write", &new)), 1);
    assert_eq!(turned.count(&of_key("key_write", &old)), 0);
    assert_eq!(turned.count(&of_key("key_held", &old)), 1);
    assert_eq!(client.round_trip().await.key_id, new);
    assert_eq!(client.decrypt(&wrapped).await.expect("held"), SEED);

    for server in ["keystone", "barbican"] {
        cloud.ctl(&["close", server]).await;
    }
    survives_an_outage(&mut watch, &client, &new).await;
    cloud.heal().await;
    let healed = watch
        .until("the end of the outage", |now| {
            now.count("consecutive_failures") == 0 && now.count(&problem(&new, "unavailable")) == 0
        })
        .await;
    assert_eq!(healed.count("ready"), 1);

    // Only now, when nothing else has to be done within it.
    let bounded = format!("{rotated}decrypt-key-ids = {old}\nmax-cache-age = 45s\n");
    place.write("cloud.conf", &bounded);
    assert_eq!(
        healed.find(&of_key("key_expiry_timestamp_seconds", &new)),
        None
    );
    let aged = watch
        .until("an age", |now| now.count(&reloads("applied")) == 3)
        .await;
    let left = aged.value(&of_key("key_expiry_timestamp_seconds", &new)) - now();
    assert!((0.0..=46.0).contains(&left), "{left} s until it is wiped");
    cloud.ctl(&["appcred-delete", &credential]).await;
    is_revoked(&mut watch, &client, &new).await;

    watch.sidecar.signal(Signal::TERM);
    assert_eq!(watch.sidecar.ended().await.code, 0);
    let refused = tokio::net::TcpStream::connect(watch.target.address()).await;
    assert!(refused.is_err(), "nobody serves metrics any more");
}

async fn starts_without_barbican(watch: &mut Watch, id: &str) {
    let scrape = watch
        .until("a first failure", |now| {
            now.count("consecutive_failures") > 0
        })
        .await;
    assert_eq!(scrape.count("ready"), 0);
    assert_eq!(scrape.count(&of_key("key_held", id)), 0);
    assert_eq!(scrape.count(&of_key("key_write", id)), 1);
    assert_eq!(scrape.count(&problem(id, "unavailable")), 1);
    assert_eq!(scrape.find(&of_key("key_confirmed_age_seconds", id)), None);
    assert_eq!(scrape.find("last_contact_timestamp_seconds"), None);
    assert_eq!(scrape.count(&upstream("login", "ok")), 1);
    assert!(scrape.count(&upstream("payload", "unreachable")) > 0);
    assert!(scrape.value("token_expiry_timestamp_seconds") > now() + 60.0);
    assert_eq!(watch.target.get("/livez").await.status, 200);
    let page = watch.target.get("/readyz").await;
    assert_eq!(page.status, 503);
    assert!(page.body.contains("OpenStack is unavailable"), "{page:?}");
}

async fn recovers(watch: &mut Watch, id: &str) {
    let scrape = watch.until("recovery", |now| now.count("ready") == 1).await;
    assert_eq!(scrape.count(&of_key("key_held", id)), 1);
    assert_eq!(scrape.count(&problem(id, "unavailable")), 0);
    assert_eq!(scrape.count("consecutive_failures"), 0);
    assert!(scrape.value(&of_key("key_confirmed_age_seconds", id)) < 10.0);
    assert!(scrape.value("last_contact_timestamp_seconds") > now() - 10.0);
    assert!(scrape.value("next_fetch_timestamp_seconds") > now() - 1.0);
    assert_eq!(scrape.count(&upstream("payload", "ok")), 1);
    assert_eq!(watch.target.get("/readyz").await.status, 200);
}

/// Every call is counted once, under what it was.
async fn counts_calls(
    watch: &mut Watch,
    client: &Client,
    id: &str,
) -> barbican_kms::proto::v2::EncryptResponse {
    let before = watch.target.scrape().await;
    let wrapped = client.round_trip().await;
    for _ in 1..40 {
        client.round_trip().await;
    }
    let send = async |change: &dyn Fn(&mut barbican_kms::proto::v2::DecryptRequest)| {
        let mut sent = request(&wrapped);
        change(&mut sent);
        client.send(sent).await
    };
    for _ in 0..7 {
        let legacy = send(&|sent| sent.annotations.clear()).await;
        assert_eq!(legacy.expect("accepted"), SEED);
    }
    for _ in 0..2 {
        let (code, _) = refusal(send(&|sent| sent.key_id = "no key id".to_owned()).await);
        assert_eq!(code, Code::InvalidArgument);
    }
    for _ in 0..3 {
        let strange = "00000000-0000-4000-8000-000000000000";
        let (code, _) = refusal(send(&|sent| sent.key_id = strange.to_owned()).await);
        assert_eq!(code, Code::FailedPrecondition);
    }
    for _ in 0..4 {
        let (code, _) = refusal(send(&|sent| sent.ciphertext[20] ^= 1).await);
        assert_eq!(code, Code::InvalidArgument);
    }
    for _ in 0..5 {
        client.status().await.expect("ready");
    }
    let after = watch.target.scrape().await;
    let grown = |sample: &str| after.count(sample) - before.count(sample);
    let operations = |operation, format| {
        format!("key_operations_total{{operation=\"{operation}\",format=\"{format}\"}}")
    };
    let refused = |reason| format!("refused_decrypts_total{{reason=\"{reason}\"}}");
    assert_eq!(grown(&requests("Status", "OK")), 5);
    assert_eq!(grown(&requests("Encrypt", "OK")), 40);
    assert_eq!(grown(&requests("Decrypt", "OK")), 47);
    assert_eq!(grown(&requests("Decrypt", "INVALID_ARGUMENT")), 6);
    assert_eq!(grown(&requests("Decrypt", "FAILED_PRECONDITION")), 3);
    assert_eq!(grown(&operations("encrypt", "tagged")), 40);
    assert_eq!(grown(&operations("decrypt", "tagged")), 40);
    assert_eq!(grown(&operations("decrypt", "legacy")), 7);
    assert_eq!(grown(&refused("malformed_key_id")), 2);
    assert_eq!(grown(&refused("not_in_ring")), 3);
    assert_eq!(grown(&refused("damaged")), 4);
    let decrypts = "request_duration_seconds_count{method=\"Decrypt\"}";
    assert_eq!(grown(decrypts), 56);
    let all = "request_duration_seconds_bucket{le=\"+Inf\",method=\"Decrypt\"}";
    assert_eq!(after.count(all), after.count(decrypts));
    assert_eq!(after.count("connections"), 1);
    assert!(after.sum("requests_in_flight") < 0.5);
    assert_eq!(wrapped.key_id, id);
    wrapped
}

async fn survives_an_outage(watch: &mut Watch, client: &Client, id: &str) {
    let before = watch.target.scrape().await;
    let during = watch
        .until("an outage", |now| {
            now.count(&problem(id, "unavailable")) == 1 && now.count("consecutive_failures") > 0
        })
        .await;
    assert_eq!(during.count("ready"), 1);
    assert_eq!(during.count(&of_key("key_held", id)), 1);
    let unreachable = upstream("payload", "unreachable");
    assert!(during.count(&unreachable) > before.count(&unreachable));
    assert!(during.value("next_fetch_timestamp_seconds") > now() - 1.0);
    for _ in 0..20 {
        client.round_trip().await;
    }
    let after = watch.target.scrape().await;
    let decrypts = requests("Decrypt", "OK");
    assert_eq!(after.count(&decrypts) - during.count(&decrypts), 20);
    assert_eq!(after.count(&requests("Decrypt", "UNAVAILABLE")), 0);
}

/// Refused first, then wiped when `max-cache-age` is over; what refuses is still said.
async fn is_revoked(watch: &mut Watch, client: &Client, id: &str) {
    let wrapped = client.round_trip().await;
    watch
        .until("a refused login", |now| {
            now.count(&problem(id, "login-refused")) == 1
        })
        .await;
    let wiped = watch
        .until("a wiped key", |now| now.count(&of_key("key_held", id)) == 0)
        .await;
    assert_eq!(wiped.count("ready"), 0);
    assert_eq!(
        wiped.find(&of_key("key_expiry_timestamp_seconds", id)),
        None
    );
    assert_eq!(wiped.count(&problem(id, "login-refused")), 1);
    assert_eq!(wiped.count(&problem(id, "unconfirmed")), 0);
    let refused = wiped.count(&upstream("login", "not_found"));
    assert!(refused > 0, "Keystone does not know the credential");
    let (code, _) = refusal(client.decrypt(&wrapped).await);
    assert_eq!(code, Code::Unavailable);
    let after = watch.target.scrape().await;
    assert_eq!(
        after.count("refused_decrypts_total{reason=\"not_loaded\"}"),
        1
    );
    assert_eq!(after.count(&requests("Decrypt", "UNAVAILABLE")), 1);
    assert_eq!(watch.target.get("/readyz").await.status, 503);
}
