//! Reloads that must not take effect, while serving; and what a reload asks of whom.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use super::{all_held, last_reload, reloads, replace, ring, state, tail, write};
use crate::support::client::Client;
use crate::support::hex;
use crate::support::openstack::{self, text};
use crate::support::sidecar::{BINARY, Place, Sidecar};
use crate::support::tap::Tap;
use rustix::process::Signal;

/// A sidecar with a good configuration to go back to.
struct Good {
    sidecar: Sidecar,
    client: Client,
    text: String,
    key_id: String,
    /// Dropped after the sidecar, whose log is in it.
    place: Place,
}

impl Good {
    async fn start(place: Place, arguments: &[&str]) -> Self {
        let sidecar = place.start_with(arguments);
        Self::of(place, sidecar).await
    }

    async fn of(place: Place, mut sidecar: Sidecar) -> Self {
        let client = sidecar.ready().await;
        let held = async |_: &Sidecar| all_held(&state(&place.socket()).await).then_some(());
        sidecar.until("every key is held", held).await;
        let key_id = client.status().await.expect("ready").key_id;
        Self {
            sidecar,
            client,
            text: crate::support::read_text(place.config()),
            key_id,
            place,
        }
    }

    /// Makes it worse, holds `status` and log against what must be there, and puts it
    /// right again.
    async fn refuses(&mut self, outcome: &str, reason: &str, act: impl FnOnce(&Path)) {
        let socket = self.place.socket();
        let text = "configuration not reloaded";
        let before = self.sidecar.errors().matches(text).count();
        act(self.place.config());
        let seen = async |_: &Sidecar| {
            let (found, message) = last_reload(&socket).await?;
            (found == outcome && message.contains(reason)).then_some(message)
        };
        let message = self.sidecar.until(reason, seen).await;
        assert!(!message.contains('\n'), "{message}");
        let event = self.sidecar.logged_times(text, before + 1).await;
        let event = event.to_string();
        assert!(
            event.contains("ERROR") && event.contains("the old one stays in use"),
            "{event}"
        );
        assert!(
            event.contains("next_try") || event.contains("retry_seconds"),
            "{event}"
        );
        // The old state stays.
        let wrapped = self.client.round_trip().await;
        assert_eq!(wrapped.key_id, self.key_id, "{reason}");
        assert_eq!(
            self.client.status().await.expect("ready").key_id,
            self.key_id
        );
        let before = reloads(&socket, "unchanged").await;
        replace(self.place.config(), &self.text);
        let back = async |_: &Sidecar| (reloads(&socket, "unchanged").await > before).then_some(());
        self.sidecar.until("it is put right", back).await;
        let (outcome, _) = last_reload(&socket).await.expect("there was one");
        assert_eq!(outcome, "unchanged");
    }
}

#[tokio::test]
async fn a_reload_that_cannot_work_changes_nothing_and_says_why() {
    let openstack = openstack::plain();
    let (a, b) = (openstack.key(0), openstack.key(1));
    let good = ring(openstack, a, &[b]);
    let password = openstack.text("/user/password");
    let auth_url = openstack.text("/auth_url");
    let mut scene = Good::start(Place::new(&good), &[]).await;

    let paste = format!(
        "missing from decrypt-key-ids; data that it has wrapped could not be read. \
                         Add it: decrypt-key-ids = {a}"
    );
    scene
        .refuses("refused", &paste, |path| {
            replace(path, &ring(openstack, b, &[]));
        })
        .await;
    let wrong = good.replace(password, "not-the-password");
    scene
        .refuses("failed", "Keystone refuses", |path| replace(path, &wrong))
        .await;
    let dead = good.replace(auth_url, "http://127.0.0.1:9/v3");
    scene
        .refuses("failed", "127.0.0.1:9", |path| replace(path, &dead))
        .await;
    let unknown = "00000000-0000-4000-8000-000000000000";
    let more = ring(openstack, a, &[b, unknown]);
    let reason = format!("key {unknown} not loaded: Barbican has no such key");
    scene
        .refuses("failed", &reason, |path| replace(path, &more))
        .await;
    let broken = good.replace("[KeyManager]", "[KeyManager");
    let line = 1 + broken
        .lines()
        .position(|line| line == "[KeyManager")
        .expect("there");
    let reason = format!("cloud.conf:{line}:");
    scene
        .refuses("invalid", &reason, |path| replace(path, &broken))
        .await;
    let oversize = format!("{good}\n{}", "# long\n".repeat(200_000));
    scene
        .refuses("invalid", "longer than", |path| replace(path, &oversize))
        .await;
    scene
        .refuses("invalid", "cloud.conf", |path| {
            fs::remove_file(path).expect("removed");
        })
        .await;
    scene
        .refuses("invalid", "director", |path| {
            // `refuses` then renames a file over it, which needs it to be none.
            fs::rename(path, path.with_extension("old")).expect("renamed");
            std::os::unix::fs::symlink(path.parent().expect("one"), path).expect("linked");
        })
        .await;
    scene
        .refuses("invalid", "FIFO", |path| {
            fs::remove_file(path).expect("removed");
            assert!(
                Command::new("mkfifo")
                    .arg(path)
                    .status()
                    .expect("mkfifo")
                    .success()
            );
        })
        .await;
    let logged = scene.sidecar.errors();
    for secret in [password, "not-the-password"] {
        assert!(!logged.contains(secret), "{logged}");
    }
}

#[tokio::test]
async fn a_toml_file_that_is_not_valid_changes_nothing_and_says_where() {
    let openstack = openstack::plain();
    let good = openstack.config("toml");
    let mut scene = Good::start(Place::with_file("cloud.toml", &good), &[]).await;
    let bad = |text: String| move |path: &Path| replace(path, &text);
    let unclosed = good.replace("[KeyManager]", "[KeyManager");
    scene.refuses("invalid", "cloud.toml:", bad(unclosed)).await;
    let misspelt = good.replace("key-id", "key-ids");
    scene.refuses("invalid", "key-ids", bad(misspelt)).await;
}

#[tokio::test]
async fn a_file_that_may_not_be_read_changes_nothing_and_says_so() {
    const NOBODY: u32 = 65534;
    let place = Place::new(&openstack::plain().config("password"));
    for path in [place.path(""), place.config().to_owned()] {
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("only root may give files away");
    }
    // Where everybody can execute it.
    let binary = place.path("barbican-kms");
    fs::copy(BINARY, &binary).expect("copied");
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&binary)
        .arg("serve")
        .arg("--socketpath")
        .arg(place.socket())
        .arg("--cloud-config")
        .arg(place.config())
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    let sidecar = place.spawn(command);
    let mut scene = Good::of(place, sidecar).await;
    let give = |path: &Path| chown(path, Some(NOBODY), Some(NOBODY)).expect("given");
    let socket = scene.place.socket();
    // Files of root that nobody else may read, as configuration management may leave them.
    let file = scene.place.config().to_owned();
    chown(&file, Some(0), Some(0)).expect("taken");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    let seen = async |_: &Sidecar| {
        let (outcome, message) = last_reload(&socket).await?;
        (outcome == "invalid" && message.contains("permission")).then_some(())
    };
    scene.sidecar.until("it says so", seen).await;
    scene.client.round_trip().await;
    // The ownership alone is a change.
    give(&file);
    let back = async |_: &Sidecar| {
        let (outcome, _) = last_reload(&socket).await?;
        (outcome == "unchanged").then_some(())
    };
    scene.sidecar.until("it is put right", back).await;
}

#[tokio::test]
async fn an_unchanged_file_asks_nobody_and_new_credentials_read_every_key() {
    let openstack = openstack::plain();
    let keystone = Tap::before(openstack.text("/auth_url")).await;
    let barbican = Tap::before_barbican(openstack, "TapRing").await;
    let keys: Vec<&str> = (0..3).map(|number| openstack.key(number)).collect();
    let tapped = |config: String| {
        config
            .replace(
                openstack.text("/auth_url"),
                &format!("{}/v3", keystone.url()),
            )
            .replace("RegionOne", "TapRing")
            + &tail(&keys[1..], "")
    };
    let place = Place::new(&tapped(openstack.config("password")));
    let mut scene = Good::start(place, &[]).await;
    let file = scene.place.config().to_owned();
    let asked = || {
        (
            keystone.asked("POST /v3/auth/tokens"),
            barbican.asked("/payload"),
        )
    };
    // Once, or twice where the server was silent for a second and a probe was answered.
    let once_or_again = |count: usize, expected: usize| (expected..=2 * expected).contains(&count);
    let (logins, reads) = asked();
    assert!(once_or_again(logins, 1), "one login, not {logins}");
    assert!(
        once_or_again(reads, 3),
        "each key once, not {reads} downloads"
    );

    // Touched, written with the same contents, with a remark more; SIGHUP.
    write(&file, &scene.text);
    replace(&file, &format!("# nothing new\n{}", scene.text));
    scene.sidecar.signal(Signal::HUP);
    scene.sidecar.logged("nothing to reload").await;
    assert_eq!(asked(), (logins, reads), "nobody is asked");

    // Credentials that may log in, and may not read keys.
    let mut reader = openstack.config("reader");
    reader = tapped(reader);
    scene
        .refuses("failed", "Barbican refuses access", |path| {
            replace(path, &reader);
        })
        .await;
    let (logins, reads) = asked();

    // Credentials that may.
    let other = openstack.ctl(&["appcred-create", "--narrow"]).await;
    let other = openstack.config_of_credential(&text(&other, "id"), &text(&other, "secret"));
    replace(&file, &tapped(other));
    scene.sidecar.logged("configuration reloaded").await;
    let (logins_now, reads_now) = asked();
    let (logins, reads) = (logins_now - logins, reads_now - reads);
    assert!(
        once_or_again(logins, 1),
        "one login proves them, not {logins}"
    );
    assert!(
        once_or_again(reads, 3),
        "each key is read, not {reads} downloads"
    );
    scene.client.round_trip().await;
}

#[tokio::test]
async fn a_payload_that_is_altered_on_the_way_is_never_taken() {
    let openstack = openstack::plain();
    let barbican = Tap::before_barbican(openstack, "TapAltered").await;
    let place = Place::new(&ring(openstack, openstack.key(0), &[openstack.key(1)]));
    let mut scene = Good::start(place, &[]).await;
    let old = scene.client.round_trip().await;
    let payload = hex::decode(&openstack.payload(openstack.key(1)).await);
    barbican.alter(&payload, &[7; 32]);
    let tapped = scene.text.replace("RegionOne", "TapAltered");
    let reason = "Barbican's payload differs from the key that is or was held";
    scene
        .refuses("failed", reason, |path| replace(path, &tapped))
        .await;
    scene.client.decrypt(&old).await.expect("still held");
}
