//! How soon the key is held after real servers have come back, by kind of outage.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::gate::{Gate, State};
use crate::support::openstack;
use crate::support::random::Random;
use crate::support::sidecar::{BINARY, Place};

/// At most between two tries while nobody answers.
const BETWEEN_TRIES: Duration = Duration::from_millis(1_100);

/// What the login and the download of a try may take, where the machine is not busier than that.
const TRY: Duration = Duration::from_millis(400);

/// In how many outages it is measured; the README's figures are those of 20.
fn outages() -> usize {
    let said = std::env::var("BARBICAN_KMS_OUTAGES").ok();
    said.map_or(3, |count| count.parse().expect("a number"))
}

/// Keystone and Barbican, each with a host name and behind a gate.
struct Cloud {
    keystone: Gate,
    barbican: Gate,
    place: Place,
    nsswitch: PathBuf,
    hosts: PathBuf,
}

impl Cloud {
    async fn new() -> Self {
        let real = openstack::plain();
        let keystone = Gate::before(real.text("/auth_url")).await;
        let barbican = Gate::before(real.text("/barbican_url")).await;
        let config = real.config("application_credential_narrow").replace(
            real.text("/auth_url"),
            &format!("http://keystone.test:{}/v3", keystone.address().port()),
        );
        let endpoint = format!(
            "key-manager-endpoint = http://barbican.test:{}\n",
            barbican.address().port()
        );
        let place = Place::new(&(config + &endpoint));
        let nsswitch = place.write("nsswitch.conf", "hosts: files\n");
        let hosts = place.write("hosts", "");
        let cloud = Self {
            keystone,
            barbican,
            place,
            nsswitch,
            hosts,
        };
        cloud.set_names(true);
        cloud
    }

    /// Whether the names have addresses.
    fn set_names(&self, known: bool) {
        let keystone = self.keystone.address().ip();
        let barbican = self.barbican.address().ip();
        let lines = format!("{keystone} keystone.test\n{barbican} barbican.test\n");
        // In place: the file is mounted.
        std::fs::write(&self.hosts, if known { &lines } else { "" }).expect("a file");
    }

    /// `serve`, in a world where the files here say what names there are.
    fn serve(&self) -> Command {
        let script = "mount --bind \"$1\" /etc/nsswitch.conf && mount --bind \"$2\" /etc/hosts && \
                      shift 2 && exec \"$@\"";
        let mut command = Command::new("unshare");
        command
            .args([
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                script,
                "sh",
            ])
            .arg(&self.nsswitch)
            .arg(&self.hosts)
            .args([BINARY, "serve", "--socketpath"])
            .arg(self.place.socket())
            .arg("--cloud-config")
            .arg(self.place.config())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }
}

#[derive(Clone, Copy, Debug)]
enum Outage {
    /// Of both servers.
    Both(State),
    /// Of Barbican: logins work.
    Barbican(State),
    Names,
}

impl Outage {
    async fn begin(self, cloud: &Cloud) {
        self.set(cloud, true).await;
    }

    async fn end(self, cloud: &Cloud) {
        self.set(cloud, false).await;
    }

    async fn set(self, cloud: &Cloud, out: bool) {
        let state = |state| if out { state } else { State::Open };
        match self {
            Self::Names => cloud.set_names(!out),
            Self::Barbican(outage) => cloud.barbican.set(state(outage)).await,
            Self::Both(outage) => {
                cloud.keystone.set(state(outage)).await;
                cloud.barbican.set(state(outage)).await;
            }
        }
    }
}

/// One outage and, right after it, what the machine takes for a start without one.
#[derive(Clone, Copy, Debug)]
struct Recovery {
    took: Duration,
    start: Duration,
}

impl Recovery {
    /// What the tries themselves took is not the outage's fault.
    fn beyond_a_try(self) -> Duration {
        self.took.saturating_sub(self.start.max(TRY))
    }
}

/// How long each of the outages took to be over.
async fn recoveries(outage: Outage, seed: u64) -> Vec<Recovery> {
    let cloud = Cloud::new().await;
    // The servers have to be warm.
    cloud.place.spawn(cloud.serve()).ready().await;
    let mut random = Random::new(seed);
    let mut all = Vec::new();
    for _ in 0..outages() {
        outage.begin(&cloud).await;
        let mut sidecar = cloud.place.spawn(cloud.serve());
        sidecar.client().await;
        // Long enough for several tries, and over at any moment of one.
        let phase = u64::try_from(random.below(3_000)).expect("small");
        tokio::time::sleep(Duration::from_millis(4_000 + phase)).await;
        assert!(!sidecar.errors().contains("key loaded"), "{outage:?}");
        outage.end(&cloud).await;
        let back = Instant::now();
        sidecar.logged("key loaded").await;
        let took = back.elapsed();
        sidecar.stop().await;
        let begin = Instant::now();
        let mut sidecar = cloud.place.spawn(cloud.serve());
        sidecar.logged("key loaded").await;
        let start = begin.elapsed();
        sidecar.stop().await;
        all.push(Recovery { took, start });
    }
    all
}

/// From the moment when Keystone and Barbican answer until the key is held: at most the time
/// between two tries, and that of a try. By the median, as other work of the machine may be in
/// the way of one.
async fn assert_bound(outage: Outage, seed: u64) {
    let mut all = recoveries(outage, seed).await;
    all.sort_unstable_by_key(|one| one.beyond_a_try());
    println!("{outage:?}: {all:.2?}");
    let median = all[all.len() / 2].beyond_a_try();
    assert!(median <= BETWEEN_TRIES, "{outage:?}: {all:?}");
}

#[tokio::test]
async fn after_refused_connections() {
    assert_bound(Outage::Both(State::Refused), 1).await;
    assert_bound(Outage::Barbican(State::Refused), 2).await;
}

#[tokio::test]
async fn after_silence() {
    assert_bound(Outage::Both(State::Silent), 3).await;
    assert_bound(Outage::Barbican(State::Silent), 4).await;
}

#[tokio::test]
async fn after_a_load_balancer_without_servers() {
    assert_bound(Outage::Both(State::Empty), 5).await;
    assert_bound(Outage::Barbican(State::Empty), 6).await;
}

#[tokio::test]
async fn after_a_name_without_address() {
    assert_bound(Outage::Names, 7).await;
}
