//! Servers of OpenSSL, weak and wrong ones among them: what is accepted, and the exact
//! words and next step where one is not.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime};

use barbican_kms::config::{Cloud, Roots};
use barbican_kms::openstack::{Error, OpenStack, Problem, authority_warnings};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;

use crate::support::cloud::{Recorder, cloud, cloud_config, key_id, quick};
use crate::support::pki::{Authority, Pair, acceptor, elsewhere, expired, future, params};
use crate::support::read_text;
use crate::support::sidecar::Place;

const RSA: &str = "rsa:2048";
const SHORT_RSA: &str = "rsa:1024";
const P521: &str = "ec -pkeyopt ec_paramgen_curve:P-521";
const EC: &str = "ec -pkeyopt ec_paramgen_curve:P-256";

/// Sections for `openssl req` and `openssl x509`.
const SECTIONS: &str = "[req]\ndistinguished_name = dn\n[dn]\n\
    [ca]\nbasicConstraints = critical,CA:TRUE\n\
    [server]\nbasicConstraints = CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";

/// Certificates and servers of the `openssl` command, in a directory of their own.
struct OpenSsl(TempDir);

impl OpenSsl {
    fn new() -> Self {
        let made = Self(tempfile::tempdir().expect("a directory"));
        made.write("sections", SECTIONS);
        made
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).expect("written");
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace());
        command.current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &str) {
        let output = self.command(arguments).output();
        let output = output.expect("the command openssl: apt-get install openssl");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {said}");
    }

    /// A certificate that signs itself.
    fn self_signed(&self, name: &str, key: &str, section: &str) {
        self.run(&format!(
            "req -x509 -config sections -extensions {section} -newkey {key} -nodes -sha256 \
             -keyout {name}.key -out {name}.pem -subj /CN={name} -days 3650"
        ));
    }

    /// A certificate of `issuer`.
    fn issue(&self, name: &str, key: &str, issuer: &str, more: &str) {
        self.request(name, key);
        self.run(&format!(
            "x509 -req -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -set_serial 7 \
             -days 3650 -out {name}.pem -extfile sections -extensions {more}"
        ));
    }

    fn request(&self, name: &str, key: &str) {
        self.run(&format!(
            "req -new -config sections -newkey {key} -nodes -keyout {name}.key -out {name}.csr \
             -subj /CN={name}"
        ));
    }

    fn put(&self, name: &str, pair: &Pair) {
        self.write(&format!("{name}.pem"), &pair.chain_pem);
        self.write(&format!("{name}.key"), &pair.key_pem);
    }

    fn der(&self, name: &str) -> Vec<u8> {
        let pem = read_text(&self.0.path().join(format!("{name}.pem")));
        CertificateDer::from_pem_slice(pem.as_bytes())
            .expect("a certificate")
            .to_vec()
    }

    /// A server with the certificate `name`.
    fn serve(&self, name: &str, more: &str) -> OpenSslServer {
        let mut command = self.command(&format!(
            "s_server -accept 127.0.0.1:0 -www -cert {name}.pem -key {name}.key {more}"
        ));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command openssl");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        let port = loop {
            line.clear();
            if output.read_line(&mut line).expect("text") == 0 {
                let ended = child.wait_with_output().expect("ended");
                let said = String::from_utf8_lossy(&ended.stderr);
                panic!("openssl s_server {more}: {said}");
            }
            if let Some(port) = line.trim().strip_prefix("ACCEPT 127.0.0.1:") {
                break port.to_owned();
            }
        };
        OpenSslServer {
            child,
            port,
            _output: output,
        }
    }
}

struct OpenSslServer {
    child: Child,
    port: String,
    /// Open, so that the server can write to it.
    _output: BufReader<ChildStdout>,
}

impl OpenSslServer {
    fn cloud(&self, trusted: Vec<Vec<u8>>) -> Cloud {
        let mut cloud = cloud(&format!("https://127.0.0.1:{}", self.port));
        cloud.tls.roots = Roots::Only(trusted);
        cloud
    }

    /// The message and the next step.
    async fn refusal(&self, trusted: Vec<Vec<u8>>) -> (String, String) {
        refusal(&self.cloud(trusted)).await
    }

    async fn assert_refused(&self, trusted: Vec<Vec<u8>>, message: &str, step: &str) {
        let (said, next) = self.refusal(trusted).await;
        assert_eq!((said.as_str(), next.as_str()), (message, step));
    }

    async fn assert_accepted(&self, trusted: Vec<Vec<u8>>) {
        let client = OpenStack::new(&self.cloud(trusted), quick()).expect("valid settings");
        let peer = client.connect(client.keystone()).await.expect("accepted");
        assert!(peer.tls.is_some());
    }
}

impl Drop for OpenSslServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn refusal(cloud: &Cloud) -> (String, String) {
    let client = OpenStack::new(cloud, quick()).expect("valid settings");
    match client.key(key_id()).await {
        Err(Error::Unavailable(error)) => match error.problem {
            Problem::Tls(problem) => (problem.to_string(), problem.next_step().to_owned()),
            other => panic!("a TLS problem, not {other}"),
        },
        Err(other) => panic!("a TLS problem, not {other}"),
        Ok(_) => panic!("a key from s_server"),
    }
}

#[tokio::test]
async fn a_signature_with_sha_1_is_named() {
    let openssl = OpenSsl::new();
    openssl.self_signed("root", RSA, "ca");
    openssl.issue("leaf", RSA, "root", "server -sha1");
    let server = openssl.serve("leaf", "-cipher ALL:@SECLEVEL=0");
    let message = "the server's certificate is signed with SHA-1, which is not accepted";
    let step = "issue that certificate again, signed with SHA-256 or better";
    let root = openssl.der("root");
    server.assert_refused(vec![root], message, step).await;
    // In ca-file itself, nobody has to vouch for it.
    server.assert_accepted(vec![openssl.der("leaf")]).await;
}

#[tokio::test]
async fn a_short_rsa_key_is_named_with_its_length() {
    let openssl = OpenSsl::new();
    openssl.self_signed("root", RSA, "ca");
    openssl.issue("leaf", SHORT_RSA, "root", "server -sha256");
    let step = "create a new key there, RSA of 2048 bits or more or ECDSA on P-256, and issue the \
                certificates again with it";
    let message = "the RSA key of the server's certificate has 1024 bits; fewer than 2048 are \
                   not accepted";
    for version in ["-tls1_2", "-tls1_3"] {
        let options = format!("{version} -cipher ALL:@SECLEVEL=0");
        let server = openssl.serve("leaf", &options);
        for trusted in ["root", "leaf"] {
            let trusted = vec![openssl.der(trusted)];
            server.assert_refused(trusted, message, step).await;
        }
    }

    openssl.self_signed("short", SHORT_RSA, "ca");
    openssl.issue("of-short", EC, "short", "server -sha256");
    let server = openssl.serve("of-short", "-cipher ALL:@SECLEVEL=0");
    let message = "the RSA key of the authority CN=short has 1024 bits; fewer than 2048 are not \
                   accepted";
    let short = openssl.der("short");
    server.assert_refused(vec![short], message, step).await;
}

#[tokio::test]
async fn another_authority_of_the_same_name_is_told_from_a_weak_one() {
    let openssl = OpenSsl::new();
    openssl.self_signed("root", EC, "ca");
    let before = openssl.der("root");
    openssl.self_signed("root", EC, "ca");
    openssl.issue("leaf", EC, "root", "server -sha256");
    let message = "the server's certificate is not signed by a trusted authority: its issuer CN=root has the name of a trusted authority, but another key";
    let step = "put the authority's current certificate into ca-file: the one there was replaced \
                by another of the same name, or belongs to another cloud";
    let server = openssl.serve("leaf", "");
    server.assert_refused(vec![before], message, step).await;
}

#[tokio::test]
async fn a_missing_intermediate_certificate_is_named() {
    let openssl = OpenSsl::new();
    openssl.self_signed("root", EC, "ca");
    openssl.issue("first", EC, "root", "ca -sha256");
    openssl.issue("second", EC, "first", "ca -sha256");
    openssl.issue("leaf", EC, "second", "server -sha256");
    let step = "if that issuer is the cloud's authority, put its certificate into ca-file; if it \
                is an intermediate authority, configure the server to send its certificate too: \
                `openssl s_client -connect HOST:PORT -showcerts` shows what it sends";
    for (options, missing) in [("", "second"), ("-cert_chain second.pem", "first")] {
        let message = format!(
            "the server's certificate is not signed by a trusted authority: the certificate of \
             its issuer CN={missing} is neither among the trusted ones nor sent by the server"
        );
        let server = openssl.serve("leaf", options);
        let root = openssl.der("root");
        server.assert_refused(vec![root], &message, step).await;
        server.assert_accepted(vec![openssl.der("leaf")]).await;
    }
    openssl.self_signed("alone", EC, "server");
    let server = openssl.serve("alone", "");
    let message = "the server's certificate is not signed by a trusted authority: it is \
                   self-signed, and not itself in ca-file";
    let step = "put the server's certificate itself into ca-file";
    let root = openssl.der("root");
    server.assert_refused(vec![root], message, step).await;
    server.assert_accepted(vec![openssl.der("alone")]).await;
}

#[tokio::test]
async fn old_versions_and_ciphers_are_refused_with_those_that_would_do() {
    let openssl = OpenSsl::new();
    openssl.self_signed("root", RSA, "ca");
    openssl.issue("leaf", RSA, "root", "server -sha256");
    openssl.issue("p521", P521, "root", "server -sha256");
    let step = "enable TLS 1.3, or TLS 1.2 with ECDHE and AES-GCM, on the server, and use an RSA \
                key, or an ECDSA key on P-256 or P-384";
    for (name, options, alert) in [
        ("p521", "", "handshake failure"),
        (
            "leaf",
            "-tls1_1 -cipher ALL:@SECLEVEL=0",
            "protocol version",
        ),
        (
            "leaf",
            "-tls1_2 -cipher ECDHE-RSA-AES128-SHA:@SECLEVEL=0",
            "handshake failure",
        ),
        (
            "leaf",
            "-tls1_2 -cipher AES128-GCM-SHA256:@SECLEVEL=0",
            "handshake failure",
        ),
    ] {
        let message = format!(
            "the server offers none of TLS 1.3, or TLS 1.2 with ECDHE and AES-GCM or ChaCha20 \
             ({alert})"
        );
        let server = openssl.serve(name, options);
        let root = openssl.der("root");
        server.assert_refused(vec![root], &message, step).await;
    }
}

#[tokio::test]
async fn dates_and_names_are_said_as_such() {
    let openssl = OpenSsl::new();
    let authority = Authority::new("cloud CA");
    let dates = "renew the certificate; if its dates are right, set this machine's clock";
    for (params, begin, end, step) in [
        (
            expired(),
            "the server's certificate is not valid now (it expired at 2021-01-01T00:00:00Z, and it is now 2",
            "Z): renew it, or set the clock",
            dates,
        ),
        (
            future(),
            "the server's certificate is not valid now (it begins at 3000-01-01T00:00:00Z, and it is now 2",
            "Z): renew it, or set the clock",
            dates,
        ),
        (
            elsewhere(),
            "the server's certificate is for another name (it is for keystone.example): the \
             URL's host must be among the certificate's subject alternative names",
            "",
            "use one of the certificate's names in the URL, or issue a certificate for the host of \
             the URL",
        ),
    ] {
        let pair = authority.issue(&params);
        openssl.put("leaf", &pair);
        let server = openssl.serve("leaf", "");
        for trusted in [authority.der(), pair.der] {
            let (said, next) = server.refusal(vec![trusted]).await;
            assert!(said.starts_with(begin) && said.ends_with(end), "{said}");
            assert_eq!(next, step);
        }
    }
}

#[tokio::test]
async fn a_certificate_of_version_1_serves_not_even_from_the_ca_file() {
    let openssl = OpenSsl::new();
    openssl.request("old", EC);
    openssl.run("x509 -req -in old.csr -signkey old.key -sha256 -days 3650 -out old.pem");
    let server = openssl.serve("old", "");
    let message = "the server's certificate is not accepted: it is not an X.509 version 3 \
                   certificate";
    let step = "issue a certificate without this problem";
    let old = openssl.der("old");
    server
        .assert_refused(vec![old.clone()], message, step)
        .await;
    // An authority may be one.
    openssl.issue("leaf", EC, "old", "server -sha256");
    let server = openssl.serve("leaf", "");
    server.assert_accepted(vec![old]).await;
}

#[tokio::test]
async fn a_client_certificate_that_is_demanded_and_not_given_is_named() {
    let openssl = OpenSsl::new();
    openssl.self_signed("root", EC, "ca");
    openssl.issue("leaf", EC, "root", "server -sha256");
    let step = "set cert-file and key-file to a certificate that the server's authority has issued";
    let server = openssl.serve("leaf", "-tls1_3 -Verify 1");
    let message = "the server ended the TLS handshake: certificate required; it expects another \
                   client certificate: check cert-file and key-file";
    let root = openssl.der("root");
    server.assert_refused(vec![root], message, step).await;
}

#[tokio::test]
async fn plain_http_on_the_port_is_named() {
    let server = Recorder::default().start().await;
    let cloud = cloud(&server.base().replace("http:", "https:"));
    let (said, next) = refusal(&cloud).await;
    let message = "the server does not speak TLS on this port: is the URL http instead of https?";
    assert_eq!(said, message);
    let step = "write http instead of https into the URL, or use the port that has TLS";
    assert_eq!(next, step);
}

#[tokio::test]
async fn an_expired_authority_of_ca_file_is_warned_about() {
    let openssl = OpenSsl::new();
    let authority = Authority::with("old CA", expired());
    openssl.put("leaf", &authority.issue(&params()));
    let server = openssl.serve("leaf", "");
    server.assert_accepted(vec![authority.der()]).await;

    let young = Authority::with("young CA", future());
    let cloud = server.cloud(vec![sound(), authority.der(), young.der()]);
    // 2024, with which the clock has nothing to do.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_067_200);
    let rest = "put its successor into ca-file; until then, its servers are still accepted";
    let warnings = [
        format!(
            "certificate number 2 of ca-file (CN=old CA) ended at 2021-01-01T00:00:00Z: {rest}"
        ),
        format!(
            "certificate number 3 of ca-file (CN=young CA) begins at 3000-01-01T00:00:00Z: {rest}"
        ),
    ];
    assert_eq!(authority_warnings(&cloud.tls, now), warnings);
    let mut unverified = cloud;
    unverified.tls.verify = false;
    assert!(authority_warnings(&unverified.tls, now).is_empty());
}

fn sound() -> Vec<u8> {
    Authority::new("cloud CA").der()
}

#[tokio::test]
async fn check_and_the_log_warn_of_an_expired_authority() {
    let authority = Authority::with("old CA", expired());
    let tls = acceptor(&authority.issue(&params()), None);
    let server = Recorder::default().start_with(Some(tls), |_| None).await;
    let config = cloud_config(&server).replace("tenant-id", "ca-file = config/ca.pem\ntenant-id");
    let place = Place::new(&config);
    place.write("ca.pem", &authority.pem());

    let warning = "certificate number 1 of ca-file (CN=old CA) ended at 2021-01-01T00:00:00Z";
    let said = place.check(&[]).await;
    assert!(said.output.contains(warning), "{said:?}");
    assert!(said.output.contains("TLS 1.3, TLS_AES_256_GCM_SHA384"));
    let mut sidecar = place.start();
    let entry = sidecar.logged(warning).await;
    assert_eq!(entry["level"], "WARN", "{entry}");
    sidecar.ready().await;
    sidecar.stop().await;
}
