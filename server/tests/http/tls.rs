//! HTTPS.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{exchange, parse};
use crate::rig::Rig;

pub(crate) fn write(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("the test folder can be written");
    path.display().to_string()
}

/// Lines of configuration with a certificate for `hall.example`, in files of this name, and a client that trusts it.
pub(crate) fn certified(file: &str) -> (String, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(vec!["hall.example".to_owned()]).expect("made");
    let certificate = write(&format!("{file}.cert.pem"), &made.cert.pem());
    let key = write(
        &format!("{file}.key.pem"),
        &made.signing_key.serialize_pem(),
    );
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let lines = format!("tls_cert = '{certificate}'\ntls_key = '{key}'");
    (lines, config)
}

#[tokio::test]
async fn https_is_served_with_the_certificate_that_was_given() {
    let (lines, config) = certified("tls");
    let rig = Rig::start(&lines).await;
    let stream = TcpStream::connect(rig.address)
        .await
        .expect("the server listens");
    let name = ServerName::try_from("hall.example").expect("a name");
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector
        .connect(name, stream)
        .await
        .expect("the certificate is the one given");
    let request = b"GET /health HTTP/1.1\r\nHost: hall.example\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("a clean end");
    assert_eq!(parse(&answer).expect("an answer").json()["status"], "ok");

    let plain = exchange(rig.address, b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert!(
        parse(&plain).is_none(),
        "plain HTTP gets no answer on this port"
    );
}

#[tokio::test]
async fn a_self_signed_certificate_is_made_at_start() {
    let rig = Rig::start("tls_self_signed = true").await;
    // The first byte of a TLS alert or handshake record; nothing of HTTP.
    let answer = exchange(rig.address, b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert!(
        answer.first().is_none_or(|byte| *byte == 0x15),
        "{answer:?}"
    );
}

#[test]
fn a_wrong_certificate_or_key_file_is_named() {
    use antiphon_server::config::TlsChoice;
    use antiphon_server::tls::{HTTP_1, acceptor};
    let empty = write("tls.empty.pem", "no PEM here");
    for (certificate, key, named) in [
        ("/no/such.pem", empty.as_str(), "tls_cert = /no/such.pem"),
        (&empty, &empty, "tls_cert"),
    ] {
        let choice = TlsChoice::Files {
            certificate: certificate.into(),
            key: key.into(),
        };
        let Err(error) = acceptor(&choice, &[], HTTP_1) else {
            panic!("{certificate} was taken")
        };
        assert!(error.to_string().contains(named), "{error}");
    }
}
