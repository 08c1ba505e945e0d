//! Whom the client trusts, held against the Go plugin's rules.

use barbican_kms::config::{ClientCertificate, Cloud, Roots};
use barbican_kms::openstack::{Error, OpenStack, Problem, SetupError, TlsProblem, Trust};
use barbican_kms::secret::PrivateKeyPem;

use crate::support::cloud::{Recorder, client, cloud, cloud_config, key_id, quick};
use crate::support::pki::{
    Authority, Pair, acceptor, elsewhere, expired, impostor, params, self_signed,
};
use crate::support::server::Server;
use crate::support::sidecar::{Place, run};

async fn server(pair: &Pair) -> Server {
    let tls = acceptor(pair, None);
    Recorder::default().start_with(Some(tls), |_| None).await
}

fn trusting(server: &Server, roots: Vec<Vec<u8>>) -> Cloud {
    let mut cloud = cloud(&server.base());
    cloud.tls.roots = Roots::Only(roots);
    cloud
}

/// `Ok` when a key arrives, else what TLS says.
async fn outcome(cloud: &Cloud) -> Result<(), TlsProblem> {
    let client = OpenStack::new(cloud, quick()).expect("valid settings");
    match client.key(key_id()).await {
        Ok(_) => Ok(()),
        Err(Error::Unavailable(error)) => match error.problem {
            Problem::Tls(problem) => Err(problem),
            other => panic!("a TLS problem, not {other}"),
        },
        Err(other) => panic!("a TLS problem, not {other}"),
    }
}

#[tokio::test]
async fn the_authority_of_ca_file_is_trusted() {
    let authority = Authority::new("cloud CA");
    let server = server(&authority.issue(&params())).await;
    let other = Authority::new("other CA");
    let cloud = trusting(&server, vec![other.der(), authority.der()]);
    assert_eq!(outcome(&cloud).await, Ok(()));
    let client = OpenStack::new(&cloud, quick()).expect("valid");
    assert_eq!(client.trust(), Trust::CaFile(2));
    let peer = client
        .connect(client.keystone())
        .await
        .expect("a connection");
    assert_eq!(peer.tls.as_deref(), Some("TLS 1.3, TLS_AES_256_GCM_SHA384"));
    assert_eq!(
        server.received()[0].connection,
        server.received()[1].connection
    );
}

#[tokio::test]
async fn another_authority_is_not_trusted_and_nothing_is_sent() {
    let server = server(&Authority::new("cloud CA").issue(&params())).await;
    let other = Authority::new("other CA");
    let refused = outcome(&trusting(&server, vec![other.der()])).await;
    let unknown = TlsProblem::UnknownIssuer("CN=cloud CA".to_owned());
    assert_eq!(refused, Err(unknown.clone()));
    let refused = outcome(&cloud(&server.base())).await;
    assert_eq!(refused, Err(unknown), "nor by the host's store");
    assert!(server.log().is_empty());
}

#[tokio::test]
async fn the_hosts_store_is_trusted_without_ca_file() {
    let authority = Authority::new("the host's CA");
    let server = server(&authority.issue(&params())).await;
    let place = Place::new(&cloud_config(&server));
    let store = place.write("store.pem", &authority.pem());
    let mut command = place.command("check");
    command.arg("--cloud-config").arg(place.config());
    command.env("SSL_CERT_FILE", store);
    let said = run(command).await;
    assert!(said.output.contains("an AES key of 256 bits"), "{said:?}");

    let said = place.check(&[]).await;
    assert!(said.output.contains("not signed by a trusted"), "{said:?}");
}

#[tokio::test]
async fn dates_and_names_must_fit() {
    let authority = Authority::new("cloud CA");
    let old = server(&authority.issue(&expired())).await;
    let refused = outcome(&trusting(&old, vec![authority.der()])).await;
    assert!(matches!(refused, Err(TlsProblem::Dates(_))), "{refused:?}");
    let misnamed = server(&authority.issue(&elsewhere())).await;
    let refused = outcome(&trusting(&misnamed, vec![authority.der()])).await;
    assert!(
        matches!(&refused, Err(TlsProblem::Name(text)) if text.contains("keystone.example")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_self_signed_server_is_trusted_when_it_is_the_ca_file_itself() {
    let pair = self_signed(params());
    let server = server(&pair).await;
    assert_eq!(outcome(&trusting(&server, vec![pair.der])).await, Ok(()));
}

#[tokio::test]
async fn a_self_signed_server_in_the_ca_file_still_needs_its_dates_and_name() {
    let pair = self_signed(expired());
    let old = server(&pair).await;
    let refused = outcome(&trusting(&old, vec![pair.der])).await;
    assert!(matches!(refused, Err(TlsProblem::Dates(_))), "{refused:?}");

    let pair = self_signed(elsewhere());
    let misnamed = server(&pair).await;
    let refused = outcome(&trusting(&misnamed, vec![pair.der])).await;
    assert!(matches!(refused, Err(TlsProblem::Name(_))), "{refused:?}");
}

#[tokio::test]
async fn a_server_signed_by_an_authority_is_trusted_when_it_is_the_ca_file_itself() {
    let authority = Authority::new("cloud CA");
    let pair = authority.issue(&params());
    let trusted = server(&pair).await;
    assert_eq!(outcome(&trusting(&trusted, vec![pair.der])).await, Ok(()));

    for (params, kind) in [(expired(), "Dates"), (elsewhere(), "Name")] {
        let pair = authority.issue(&params);
        let refusing = server(&pair).await;
        let refused = outcome(&trusting(&refusing, vec![pair.der])).await;
        let refused = format!("{:?}", refused.expect_err(kind));
        assert!(refused.starts_with(kind), "{refused}");
    }
}

#[tokio::test]
async fn a_self_signed_server_outside_the_ca_file_is_refused() {
    let server = server(&self_signed(params())).await;
    let twin = self_signed(params());
    let refused = outcome(&trusting(&server, vec![twin.der])).await;
    assert!(refused.is_err(), "same name, other key");
    let refused = outcome(&cloud(&server.base())).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn an_authority_that_serves_under_another_one_is_refused() {
    // Signed by the trusted authority, marked as an authority, not itself in
    // ca-file: the exception is for the bytes of ca-file alone.
    let authority = Authority::new("cloud CA");
    let mut marked = params();
    marked.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let server = server(&authority.issue(&marked)).await;
    let refused = outcome(&trusting(&server, vec![authority.der()])).await;
    assert!(
        matches!(refused, Err(TlsProblem::Certificate(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_certificate_is_of_no_use_to_a_server_without_its_key() {
    let authority = Authority::new("cloud CA");
    let other = authority.issue(&params());
    for shown in [authority.issue(&params()), self_signed(params())] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let tls = impostor(&shown, &other, version);
            let server = Recorder::default().start_with(Some(tls), |_| None).await;
            let pinned = trusting(&server, vec![shown.der.clone()]);
            assert_eq!(outcome(&pinned).await, Err(TlsProblem::OtherKey));
            let mut unverified = cloud(&server.base());
            unverified.tls.verify = false;
            assert_eq!(outcome(&unverified).await, Err(TlsProblem::OtherKey));
            assert!(server.log().is_empty());
        }
    }
}

#[tokio::test]
async fn verification_can_be_turned_off() {
    let server = server(&self_signed(expired())).await;
    let mut cloud = trusting(&server, vec![Authority::new("other CA").der()]);
    cloud.tls.verify = false;
    assert_eq!(outcome(&cloud).await, Ok(()));
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_wanted() {
    let authority = Authority::new("cloud CA");
    let clients = Authority::new("client CA");
    let tls = acceptor(&authority.issue(&params()), Some(&clients));
    let server = Recorder::default().start_with(Some(tls), |_| None).await;
    let mut cloud = trusting(&server, vec![authority.der()]);

    let refused = outcome(&cloud).await;
    assert!(
        matches!(refused, Err(TlsProblem::ClientCertificate(_))),
        "{refused:?}"
    );

    let with = |pair: Pair| {
        Some(ClientCertificate {
            chain_pem: pair.chain_pem.into_bytes(),
            key_pem: PrivateKeyPem::new(pair.key_pem),
        })
    };
    cloud.tls.client = with(Authority::new("other CA").issue(&params()));
    let refused = outcome(&cloud).await;
    assert!(refused.is_err(), "{refused:?}");

    cloud.tls.client = with(clients.issue(&params()));
    assert_eq!(outcome(&cloud).await, Ok(()));
}

#[tokio::test]
async fn a_client_certificate_that_cannot_work_is_refused_at_once() {
    let mut cloud = cloud("https://127.0.0.1:1");
    let one = self_signed(params());
    let other = self_signed(params());
    for (chain, key, hint) in [
        ("", one.key_pem.as_str(), "cert-file contains no"),
        (&one.chain_pem, "", "key-file contains no"),
        (&one.chain_pem, &other.key_pem, "cannot be used"),
    ] {
        cloud.tls.client = Some(ClientCertificate {
            chain_pem: chain.as_bytes().to_vec(),
            key_pem: PrivateKeyPem::new(key.to_owned()),
        });
        let error = OpenStack::new(&cloud, quick()).expect_err("unusable");
        assert!(matches!(error, SetupError::Tls(_)), "{error}");
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[tokio::test]
async fn https_to_an_http_server_is_told_so() {
    let server = Recorder::default().start().await;
    let url = server.base().replace("http:", "https:");
    assert_eq!(outcome(&cloud(&url)).await, Err(TlsProblem::NotTls));
}

#[tokio::test]
async fn http_to_an_https_server_is_told_so() {
    let server = server(&self_signed(params())).await;
    let url = server.base().replace("https:", "http:");
    let error = client(&url).key(key_id()).await.expect_err("no HTTP there");
    let text = error.to_string();
    assert!(text.contains("the URL must be https"), "{text}");
}
