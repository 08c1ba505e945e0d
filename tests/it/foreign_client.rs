//! A gRPC client that is not ours: Python's grpcio, generated from our `.proto`.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::openstack;
use crate::support::sidecar::Place;

#[tokio::test]
async fn grpcio_is_served_like_our_own_client() {
    let cloud = openstack::plain();
    let place = Place::new(&cloud.config("application_credential_narrow"));
    let mut sidecar = place.start();
    sidecar.ready().await;
    let made =
        tokio::process::Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grpc/run"))
            .arg(place.socket())
            .output()
            .await
            .expect("tests/grpc/run can be run");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}\n{}", sidecar.errors());
    let answers: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let damaged = "the ciphertext is damaged, or was not made with this key";
    assert_eq!(
        answers,
        json!({
            "status": {"version": "v2", "healthz": "ok", "key_id": cloud.key(0)},
            "round_trips": 200,
            "ciphertext_bytes": 64,
            "annotations": {"hmac-sha256.kms.barbican.openstack.org": 32},
            "key_id": cloud.key(0),
            "damaged": {"code": "INVALID_ARGUMENT", "text": damaged},
            "unknown": {"code": "FAILED_PRECONDITION", "text": "the key id 00000000-0000-4000-8000-000000000000 is not configured"},
            "long": {
                "code": "INVALID_ARGUMENT",
                "text": "the plaintext is longer than 1007 bytes",
            },
        })
    );
}
