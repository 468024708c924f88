//! HTTP over TLS.

use axum::Router;
use axum::routing::get;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::TryStreamExt as _;
use pacs_core::Level;
use pacs_core::testkit::engine::instance;
use pacs_net::fetch::WebService;
use pacs_net::web::http::server::{HttpLimits, HttpServer, Secured};
use pacs_net::web::{self, WebOptions};

use super::*;

async fn listening(router: Router, acceptor: Acceptor) -> (u16, oneshot::Sender<()>) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = HttpServer::bind(any, router, HttpLimits::default())
        .await
        .unwrap();
    let server = server.with_tls(acceptor).unwrap();
    let port = server.address().unwrap().port();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(server.run(stopped.map(drop), Duration::ZERO));
    (port, stop)
}

#[tokio::test]
async fn a_study_is_fetched_over_https_and_urls_in_answers_say_so() {
    let (room, authority) = (tempfile::tempdir().unwrap(), Authority::new("one"));
    let server = of_server(room.path(), &authority);
    let (here, there) = (pacs().await, pacs().await);
    let (announced, bytes) = instance(1, 1, 1, 0);
    let mut receipt = there.receive(announced).await.unwrap();
    receipt.write(bytes).await.unwrap();
    let kept = receipt.commit().await.unwrap().record;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let services = web::services(&there, WebOptions::default(), web::WADO_URI, &[]).unwrap();
    let noted = Arc::clone(&seen);
    let router = services.layer(axum::middleware::from_fn(
        move |request: axum::extract::Request, next: axum::middleware::Next| {
            let secured = request.extensions().get::<Secured>().cloned();
            noted
                .lock()
                .unwrap()
                .push(secured.map(|secured| secured.certificate));
            next.run(request)
        },
    ));
    let acceptor = Acceptor::new(&server, ClientCertificates::Offered).unwrap();
    let (port, _stop) = listening(router, acceptor).await;
    let url = format!("https://localhost:{port}/dicom-web");

    let own = Some((&authority, Wanted::default()));
    let known = WebService::new(&url, &connector(room.path(), own, &authority)).unwrap();
    let source = pacs_net::fetch::Source::Web(known);
    source.reach().await.unwrap();
    let study = kept.key.study;
    let mut keys = pacs_core::DataSet::new();
    keys.put_text(tags::STUDY_INSTANCE_UID, VR::UI, study.as_str());
    let mut finder = source.finder(&pacs_core::audit::Audit::none());
    let found = finder.find(Level::Study, &keys, 10).await.unwrap();
    let found: Vec<_> = found.try_collect().await.unwrap();
    let retrieve = found[0].string(tags::RETRIEVE_URL).unwrap();
    assert!(retrieve.starts_with(&format!("{url}/studies/")), "{retrieve}");
    let fetched = source.fetch_study(&here, &study, true).await.unwrap();
    assert_eq!((fetched.instances, fetched.missing.len()), (1, 0));
    assert!(here.lookup(&kept.key.instance).await.unwrap().is_some());
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(!seen.is_empty());
    for certificate in &seen {
        let certificate = certificate.as_ref().expect("it came over TLS");
        assert_eq!(
            certificate.as_ref().unwrap().common_name.as_deref(),
            Some("client")
        );
    }
    // Who is not believed is not asked.
    let stranger = Authority::new("another");
    let unknown = WebService::new(&url, &connector(room.path(), None, &stranger)).unwrap();
    assert!(pacs_net::fetch::Source::Web(unknown).reach().await.is_err());
}

#[tokio::test]
async fn http_2_is_chosen_in_the_handshake() {
    let (room, authority) = (tempfile::tempdir().unwrap(), Authority::new("one"));
    let server = of_server(room.path(), &authority);
    let acceptor = Acceptor::new(&server, ClientCertificates::Ignored).unwrap();
    let router = Router::new().route(
        "/",
        get(async |request: axum::extract::Request| format!("{:?}", request.version())),
    );
    let (port, _stop) = listening(router, acceptor).await;
    for (offered, expected) in [
        (&[&b"h2"[..], b"http/1.1"][..], &b"h2"[..]),
        (&[b"http/1.1"], b"http/1.1"),
    ] {
        let mut config = authority.client(rustls::DEFAULT_VERSIONS);
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(expected));
    }
}
