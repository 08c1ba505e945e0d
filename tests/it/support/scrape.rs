//! What a Prometheus would see: one scrape, and single samples of it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::sidecar::Sidecar;

/// Where metrics are served.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    address: String,
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// All samples of one scrape, by name and labels as they are written.
#[derive(Debug)]
pub(crate) struct Scrape(BTreeMap<String, f64>);

impl Target {
    /// As the log says.
    pub(crate) async fn of(sidecar: &mut Sidecar) -> Self {
        let event = sidecar.logged("serving metrics").await;
        let address = event["address"].as_str().expect("an address").to_owned();
        Self { address }
    }

    pub(crate) fn at(address: &str) -> Self {
        let address = address.to_owned();
        Self { address }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) async fn get(&self, path: &str) -> Page {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
            .await
    }

    /// Sends these bytes and reads until the server closes.
    pub(crate) async fn send(&self, request: &str) -> Page {
        let exchange = async {
            let mut stream = TcpStream::connect(&self.address).await.expect("it listens");
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = Vec::new();
            let mut part = [0; 4096];
            loop {
                // A reset after the answer is an end as well.
                match stream.read(&mut part).await {
                    Ok(0) | Err(_) => break,
                    Ok(length) => answer.extend_from_slice(&part[..length]),
                }
            }
            String::from_utf8(answer).expect("text")
        };
        let answer = tokio::time::timeout(Duration::from_secs(20), exchange)
            .await
            .expect("an answer in time");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Page {
            status: status.unwrap_or_default(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    pub(crate) async fn scrape(&self) -> Scrape {
        let page = self.get("/metrics").await;
        assert_eq!(page.status, 200, "{}", page.head);
        Scrape::of(&page.body)
    }
}

impl Scrape {
    pub(crate) fn of(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a sample");
            (name.to_owned(), value.parse().expect("a number"))
        });
        Self(samples.collect())
    }

    /// The sample without `barbican_kms_`; `None` when it is not there.
    pub(crate) fn find(&self, sample: &str) -> Option<f64> {
        let name = format!("barbican_kms_{sample}");
        self.0.get(&name).or_else(|| self.0.get(sample)).copied()
    }

    pub(crate) fn value(&self, sample: &str) -> f64 {
        self.find(sample)
            .unwrap_or_else(|| panic!("no sample {sample} in {:#?}", self.0))
    }

    /// The value as a count.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "counts of a test are small whole numbers"
    )]
    pub(crate) fn count(&self, sample: &str) -> i64 {
        self.value(sample) as i64
    }

    /// All samples of a family together.
    pub(crate) fn sum(&self, family: &str) -> f64 {
        let prefix = format!("barbican_kms_{family}{{");
        let of_family = self.0.iter().filter(|(name, _)| name.starts_with(&prefix));
        of_family.map(|(_, value)| value).sum()
    }

    /// The names of all samples with their labels.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
