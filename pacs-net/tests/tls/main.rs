//! TLS under DICOM, HTTP and HL7: who comes in, who is called, and certificates that change while a server runs.

mod authority;
#[cfg(feature = "web")]
mod web;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use pacs_core::{AeTitle, ErrorKind, Options, Pacs, Result, Retry};
use pacs_net::dimse::Status;
use pacs_net::hl7::{self, Fault, Handler, Incoming, Message};
use pacs_net::scp::{AdmissionHook, Limits, ScpOptions, Server};
use pacs_net::scu::Remote;
use pacs_net::settings::{Protocol, Tls};
use pacs_net::tls::{Acceptor, Certificate, ClientCertificates, Connector, Credentials, Files};
use pacs_net::transport::{Admission, Admitted, Peer};
use pacs_net::ul::pdu::{AssociateRq, Rejection};
use pacs_store::{MemoryArchive, MemoryIndex};
use tokio::sync::oneshot;

use authority::{Authority, Wanted};

fn title(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

/// Remembers as whom peers have come.
#[derive(Default)]
struct Doorkeeper(Mutex<Vec<Option<Arc<Certificate>>>>);

impl Admission for Doorkeeper {
    fn admit<'a>(
        &'a self,
        _: &'a AssociateRq,
        peer: &'a Peer,
    ) -> BoxFuture<'a, std::result::Result<Admitted, Rejection>> {
        self.0.lock().unwrap().push(peer.certificate.clone());
        async { Ok(Admitted::default()) }.boxed()
    }
}

async fn pacs() -> Pacs {
    let (archive, index) = (
        Arc::new(MemoryArchive::default()),
        Arc::new(MemoryIndex::default()),
    );
    Pacs::open(archive, index, Options::default()).await.unwrap()
}

/// A DICOM server behind `acceptor`; it stops when dropped.
struct Running {
    address: SocketAddr,
    doorkeeper: Arc<Doorkeeper>,
    _stop: oneshot::Sender<()>,
}

impl Running {
    async fn behind(acceptor: Acceptor) -> Self {
        let doorkeeper = Arc::new(Doorkeeper::default());
        let options = ScpOptions {
            tls: Some(acceptor),
            admission: Some(AdmissionHook(doorkeeper.clone())),
            ..ScpOptions::new(title("PACS"))
        };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::bind(any, pacs().await, options, Limits::default()).await;
        let server = server.unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(server.run(stopped.map(drop), Duration::from_secs(5)));
        Self {
            address,
            doorkeeper,
            _stop: stop,
        }
    }

    /// Verification over TLS as `host`, or without TLS.
    async fn echo_as(&self, host: &str, connector: Option<Connector>) -> Result<Status> {
        let remote = Remote::new(host, self.address.port(), title("PACS"), title("TESTER"));
        remote.with_tls(connector).echo().await
    }

    async fn echo(&self, connector: &Connector) -> Result<Status> {
        self.echo_as("127.0.0.1", Some(connector.clone())).await
    }
}

/// What a side reads: its certificate by `own` of `authority`, and whom it believes.
fn credentials(
    folder: &Path,
    name: &str,
    own: Option<(&Authority, Wanted)>,
    believed: &Authority,
) -> Credentials {
    let path = |what: &str| folder.join(format!("{name}{what}.pem"));
    believed.write(&path("-ca"));
    let mut files = Files {
        authorities: Some(path("-ca")),
        ..Files::default()
    };
    if let Some((authority, wanted)) = own {
        authority.certify(name, wanted, &path(""), &path("-key"));
        files.certificate = Some(path(""));
        files.key = Some(path("-key"));
    }
    Credentials::read(files).unwrap()
}

/// Of a server whose clients are of the same authority.
fn of_server(folder: &Path, authority: &Authority) -> Credentials {
    let own = Some((authority, Wanted::default()));
    credentials(folder, "server", own, authority)
}

fn connector(folder: &Path, own: Option<(&Authority, Wanted)>, believed: &Authority) -> Connector {
    Connector::new(&credentials(folder, "client", own, believed)).unwrap()
}

#[tokio::test]
async fn an_association_over_tls_is_served_and_admission_knows_the_certificate() {
    let (room, authority) = (tempfile::tempdir().unwrap(), Authority::new("one"));
    let server = of_server(room.path(), &authority);
    let running = Running::behind(Acceptor::new(&server, ClientCertificates::Required).unwrap()).await;
    let client = connector(room.path(), Some((&authority, Wanted::default())), &authority);
    assert_eq!(running.echo(&client).await.unwrap(), Status::SUCCESS);
    let by_name = running.echo_as("localhost", Some(client)).await;
    assert_eq!(by_name.unwrap(), Status::SUCCESS);
    let seen = running.doorkeeper.0.lock().unwrap();
    assert_eq!(seen.len(), 2);
    let certificate = seen[0].as_ref().unwrap();
    assert_eq!(certificate.subject, "O=Hospital, CN=client");
    assert_eq!(certificate.common_name.as_deref(), Some("client"));
    assert_eq!(certificate.names, ["localhost"]);
}

#[tokio::test]
async fn who_shows_no_certificate_a_foreign_or_an_old_one_is_refused() {
    let (room, authority, foreign) = (
        tempfile::tempdir().unwrap(),
        Authority::new("one"),
        Authority::new("another"),
    );
    let server = of_server(room.path(), &authority);
    let required = Running::behind(Acceptor::new(&server, ClientCertificates::Required).unwrap()).await;
    let offered = Running::behind(Acceptor::new(&server, ClientCertificates::Offered).unwrap()).await;
    let old = Wanted {
        is_old: true,
        ..Wanted::default()
    };
    let of_a_server = Wanted {
        is_of_server: true,
        ..Wanted::default()
    };
    let none = connector(room.path(), None, &authority);
    assert!(required.echo(&none).await.is_err());
    assert_eq!(offered.echo(&none).await.unwrap(), Status::SUCCESS);
    for (from, wanted) in [
        (&foreign, Wanted::default()),
        (&authority, old),
        (&authority, of_a_server),
    ] {
        let bad = connector(room.path(), Some((from, wanted)), &authority);
        for running in [&required, &offered] {
            let error = running.echo(&bad).await.unwrap_err();
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::Refused | ErrorKind::Closed | ErrorKind::Io
                ),
                "{error}"
            );
        }
    }
    // Nobody of these came as far as to ask.
    assert!(required.doorkeeper.0.lock().unwrap().is_empty());
    assert_eq!(*offered.doorkeeper.0.lock().unwrap(), [None]);
    // And those who may come still do.
    let good = connector(room.path(), Some((&authority, Wanted::default())), &authority);
    assert_eq!(required.echo(&good).await.unwrap(), Status::SUCCESS);
}

#[tokio::test]
async fn a_server_is_believed_only_for_its_host_while_it_is_valid_and_from_a_known_authority() {
    let (authority, foreign) = (Authority::new("one"), Authority::new("another"));
    let elsewhere = Wanted {
        hosts: &["elsewhere.example"],
        ..Wanted::default()
    };
    let old = Wanted {
        is_old: true,
        ..Wanted::default()
    };
    let of_client = Wanted {
        is_of_client: true,
        ..Wanted::default()
    };
    for (from, wanted, is_believed) in [
        (&authority, Wanted::default(), true),
        (&authority, elsewhere, false),
        (&authority, old, false),
        (&authority, of_client, false),
        (&foreign, Wanted::default(), false),
    ] {
        let room = tempfile::tempdir().unwrap();
        let server = credentials(room.path(), "server", Some((from, wanted)), &authority);
        let running = Running::behind(Acceptor::new(&server, ClientCertificates::Ignored).unwrap()).await;
        let answer = running.echo(&connector(room.path(), None, &authority)).await;
        match answer {
            Ok(status) => assert!(is_believed && status == Status::SUCCESS),
            Err(error) => {
                assert!(!is_believed && error.kind() == ErrorKind::Refused, "{error}");
                // It isn't there, as far as anybody is concerned who has something for it.
                assert_eq!(
                    (error.operation(), error.retry()),
                    ("association.connect", Retry::Later)
                );
            }
        }
    }
}

#[tokio::test]
async fn without_tls_nobody_comes_in_unless_that_is_allowed_on_the_same_port() {
    let (room, authority) = (tempfile::tempdir().unwrap(), Authority::new("one"));
    let server = of_server(room.path(), &authority);
    let acceptor = Acceptor::new(&server, ClientCertificates::Required).unwrap();
    let strict = Running::behind(acceptor.clone()).await;
    assert!(strict.echo_as("127.0.0.1", None).await.is_err());
    assert!(strict.doorkeeper.0.lock().unwrap().is_empty());
    let lenient = Running::behind(acceptor.with_plain()).await;
    let plain = lenient.echo_as("127.0.0.1", None).await;
    assert_eq!(plain.unwrap(), Status::SUCCESS);
    let client = connector(room.path(), Some((&authority, Wanted::default())), &authority);
    assert_eq!(lenient.echo(&client).await.unwrap(), Status::SUCCESS);
    // One who may come without TLS, and comes with it, has to show who he is all the same.
    assert!(
        lenient
            .echo(&connector(room.path(), None, &authority))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn certificates_that_change_are_used_at_once_and_broken_ones_change_nothing() {
    let (room, before, after) = (
        tempfile::tempdir().unwrap(),
        Authority::new("before"),
        Authority::new("after"),
    );
    let server = credentials(room.path(), "server", Some((&before, Wanted::default())), &before);
    let running = Running::behind(Acceptor::new(&server, ClientCertificates::Ignored).unwrap()).await;
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (knows_before, knows_after) = (
        connector(old.path(), None, &before),
        connector(new.path(), None, &after),
    );
    assert!(running.echo(&knows_before).await.is_ok());
    assert!(running.echo(&knows_after).await.is_err());

    let (certificate, key) = (room.path().join("server.pem"), room.path().join("server-key.pem"));
    std::fs::write(&certificate, "no certificate any more").unwrap();
    assert!(running.echo(&knows_before).await.is_ok());
    // The new certificate is there, and its key not yet.
    let aside = room.path().join("aside.pem");
    after.certify("server", Wanted::default(), &certificate, &aside);
    assert!(running.echo(&knows_before).await.is_ok());
    std::fs::rename(&aside, &key).unwrap();
    assert!(running.echo(&knows_after).await.is_ok());
    assert!(running.echo(&knows_before).await.is_err());

    // So it is with whom a client believes.
    after.write(&old.path().join("client-ca.pem"));
    assert!(running.echo(&knows_before).await.is_ok());
}

#[tokio::test]
async fn one_that_says_nothing_or_nonsense_keeps_nobody_else_out() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (room, authority) = (tempfile::tempdir().unwrap(), Authority::new("one"));
    let server = of_server(room.path(), &authority);
    let running = Running::behind(Acceptor::new(&server, ClientCertificates::Ignored).unwrap()).await;
    let _silent = tokio::net::TcpStream::connect(running.address).await.unwrap();
    let mut nonsense = tokio::net::TcpStream::connect(running.address).await.unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    // It is told so in TLS, and let go.
    let _ = nonsense.read_to_end(&mut rest).await;
    let client = connector(room.path(), None, &authority);
    assert_eq!(running.echo(&client).await.unwrap(), Status::SUCCESS);
}

/// Takes every message.
struct Taking(Mutex<usize>);

impl Handler for Taking {
    fn handle(&self, incoming: Incoming) -> BoxFuture<'_, std::result::Result<(), Fault>> {
        async move {
            incoming.message?;
            *self.0.lock().unwrap() += 1;
            Ok(())
        }
        .boxed()
    }
}

#[tokio::test]
async fn hl7_goes_over_tls_between_those_who_believe_each_other() {
    let (room, authority) = (tempfile::tempdir().unwrap(), Authority::new("one"));
    let server = of_server(room.path(), &authority);
    let taking = Arc::new(Taking(Mutex::new(0)));
    let options = hl7::ServerOptions {
        tls: Some(Acceptor::new(&server, ClientCertificates::Required).unwrap()),
        ..hl7::ServerOptions::default()
    };
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listening = hl7::Server::bind(any, taking.clone(), options).await.unwrap();
    let port = listening.address().unwrap().port();
    let (_stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(listening.run(stopped.map(drop), Duration::ZERO));
    let message = Message::parse(b"MSH|^~\\&|A|B|C|D|20260101||ADT^A08|17|P|2.5\rPID|1\r").unwrap();
    let sender = || hl7::Sender::new("127.0.0.1", port, hl7::SenderOptions::default());
    let own = Some((&authority, Wanted::default()));
    let secure = sender().with_tls(Some(connector(room.path(), own, &authority)));
    for _ in 0..2 {
        secure.send(&message).await.unwrap();
    }
    assert!(sender().send(&message).await.is_err());
    let unknown = sender().with_tls(Some(connector(room.path(), None, &authority)));
    // In TLS 1.3 it is told so when the connection is open already: the message is not at fault.
    let error = unknown.send(&message).await.unwrap_err();
    assert_eq!(
        (error.operation(), error.retry()),
        ("hl7.connect", Retry::Later),
        "{error}"
    );
    assert_eq!(*taking.0.lock().unwrap(), 2);
}

#[test]
fn what_can_not_be_used_says_which_file_and_why() {
    let (room, authority) = (tempfile::tempdir().unwrap(), Authority::new("one"));
    let file = |name: &str| Some(room.path().join(name));
    authority.write(&room.path().join("ca.pem"));
    authority.certify(
        "one",
        Wanted::default(),
        &room.path().join("one.pem"),
        &room.path().join("one-key.pem"),
    );
    authority.certify(
        "two",
        Wanted::default(),
        &room.path().join("two.pem"),
        &room.path().join("two-key.pem"),
    );
    std::fs::write(room.path().join("empty.pem"), "").unwrap();
    let cases = [
        (file("one.pem"), None, None, "needs its key"),
        (None, file("one-key.pem"), None, "needs its key"),
        (
            file("none.pem"),
            file("one-key.pem"),
            None,
            "none.pem can't be read",
        ),
        (
            file("empty.pem"),
            file("one-key.pem"),
            None,
            "empty.pem: there is no certificate",
        ),
        (
            file("one.pem"),
            file("ca.pem"),
            None,
            "ca.pem: there is no private key",
        ),
        (
            file("one.pem"),
            file("two-key.pem"),
            None,
            "two-key.pem: it is not the certificate's key",
        ),
        (
            None,
            None,
            file("empty.pem"),
            "empty.pem: there is no certificate",
        ),
    ];
    for (certificate, key, authorities, why) in cases {
        let files = Files {
            certificate,
            key,
            authorities,
        };
        let error = Credentials::read(files).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    // By default devices must show a certificate, and nobody says of which authorities.
    let tls = Tls {
        certificate: file("one.pem"),
        key: file("one-key.pem"),
        ..Tls::default()
    };
    let credentials = tls.credentials().unwrap();
    let error = tls.acceptor(&credentials, Protocol::Dicom).unwrap_err();
    assert!(error.to_string().contains("authorities must be named"), "{error}");
    assert!(tls.acceptor(&credentials, Protocol::Http).unwrap().is_some());
    // Who says how clients come over TLS doesn't get a server without.
    for forgotten in [
        "client-certificates = [\"dicom\"]",
        "client-certificates = []",
        "plain = [\"http\"]",
    ] {
        let forgotten: Tls = toml::from_str(forgotten).unwrap();
        let error = forgotten
            .acceptor(&Credentials::default(), Protocol::Dicom)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    let nothing = Tls::default().acceptor(&Credentials::default(), Protocol::Dicom);
    assert!(nothing.unwrap().is_none());
    assert!(!format!("{tls:?}{credentials:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn a_session_is_not_taken_up_again_where_a_certificate_is_looked_at() {
    let (room, authority) = (tempfile::tempdir().unwrap(), Authority::new("one"));
    let server = of_server(room.path(), &authority);
    for (clients, expected) in [
        (ClientCertificates::Offered, rustls::HandshakeKind::Full),
        (ClientCertificates::Ignored, rustls::HandshakeKind::Resumed),
    ] {
        let running = Running::behind(Acceptor::new(&server, clients).unwrap()).await;
        let config = authority.client(&[&rustls::version::TLS12]);
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
            let name = "localhost".try_into().unwrap();
            let stream = connector.connect(name, stream).await.unwrap();
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        }
        assert_eq!(kinds, [rustls::HandshakeKind::Full, expected]);
    }
}
