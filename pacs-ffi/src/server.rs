//! Servers inside the caller's process.

use std::ffi::c_char;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use pacs_core::{AeTitle, Result as CoreResult};
use pacs_net::scp::{AdmissionHook, Limits, ScpOptions, Server};
use pacs_net::settings::{Peer, Protocol, Tls, ae_title, at_least_one};
use pacs_net::tls::Connector;
use pacs_net::web::http::health::{Health, metrics_router};
use pacs_net::web::http::layers::with_problems;
use pacs_net::web::http::metrics::Metrics;
use pacs_net::web::http::server::{HttpLimits, HttpServer};
use pacs_net::web::{self, WebOptions};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::engine::{Engine, configuration, pacs_engine};
use crate::error::{Failure, pacs_status};
use crate::ffi;
use crate::guard::{call, call_last, may_change};
use crate::handle::{self, Object};

/// A server that runs. May be used from any thread.
pub struct pacs_server {
    _opaque: [u8; 0],
}

/// The object behind it.
struct Running {
    context: Arc<Context>,
    address: SocketAddr,
    /// How long what runs may go on after a stop, in milliseconds; nothing while it serves.
    stop: watch::Sender<Option<u32>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Object for Running {
    type Raw = pacs_server;
    const KIND: u8 = 10;
    const NAME: &'static str = "server";

    fn context(this: &Arc<Self>) -> Arc<Context> {
        Arc::clone(&this.context)
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct DicomSettings {
    #[serde(deserialize_with = "ae_title")]
    ae_title: AeTitle,
    listen: IpAddr,
    port: u16,
    #[serde(deserialize_with = "at_least_one")]
    associations: usize,
    #[serde(deserialize_with = "at_least_one")]
    operations: u16,
    #[serde(deserialize_with = "at_least_one")]
    idle_seconds: u32,
    #[serde(deserialize_with = "at_least_one")]
    patience_seconds: u32,
    any_sop_class: bool,
    tls: Tls,
    #[serde(rename = "peer")]
    peers: Vec<Peer>,
}

impl Default for DicomSettings {
    fn default() -> Self {
        Self {
            ae_title: AeTitle::parse("PACS").expect("PACS is an AE title"),
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 11112,
            associations: 1000,
            operations: 16,
            idle_seconds: 600,
            patience_seconds: 30,
            any_sop_class: false,
            tls: Tls::default(),
            peers: Vec::new(),
        }
    }
}

impl DicomSettings {
    fn options(&self, engine: &Engine) -> Result<ScpOptions, Failure> {
        if let Some(title) = Peer::twice(&self.peers) {
            let text = format!(
                "the configuration: two [[peer]] tables have the ae-title {:?}",
                title.as_str()
            );
            return Err(Failure::new(pacs_status::PACS_INVALID, text));
        }
        let mut options = ScpOptions::new(self.ae_title);
        options.any_sop_class = self.any_sop_class;
        options.operations_max = self.operations;
        options.timeouts.idle = Duration::from_secs(self.idle_seconds.into());
        options.patience = Duration::from_secs(self.patience_seconds.into());
        options.admission = engine.admission.clone().map(AdmissionHook);
        let credentials = self.tls.credentials()?;
        let connector = Connector::new(&credentials)?;
        options.tls = self.tls.acceptor(&credentials, Protocol::Dicom)?;
        let destinations = self.peers.iter().map(|peer| peer.destination(&connector));
        options.destinations = destinations.collect();
        Ok(options)
    }
}

/// A server that is bound, and serves until it is told to stop.
trait Bound: Sized + Send + 'static {
    fn address(&self) -> CoreResult<SocketAddr>;
    /// `stop` answers how long what runs may go on.
    fn run(self, stop: BoxFuture<'static, Duration>) -> BoxFuture<'static, ()>;
}

impl Bound for Server {
    fn address(&self) -> CoreResult<SocketAddr> {
        self.address()
    }

    fn run(self, stop: BoxFuture<'static, Duration>) -> BoxFuture<'static, ()> {
        self.run_until(stop).boxed()
    }
}

/// With what tells whether it is ready.
impl Bound for (HttpServer, Health) {
    fn address(&self) -> CoreResult<SocketAddr> {
        self.0.address()
    }

    fn run(self, stop: BoxFuture<'static, Duration>) -> BoxFuture<'static, ()> {
        let (server, health) = self;
        let drained = stop.inspect(move |_| health.drain());
        server.run_until(drained).boxed()
    }
}

/// Until somebody says stop: how long what runs may go on.
async fn stopped(mut stop: watch::Receiver<Option<u32>>) -> Duration {
    // Without a word means that the handle is gone: at once.
    let grace = stop.wait_for(Option::is_some).await.ok().and_then(|grace| *grace);
    Duration::from_millis(grace.unwrap_or_default().into())
}

fn start<B: Bound>(
    engine: &Engine,
    bind: impl Future<Output = CoreResult<B>> + Send + 'static,
) -> Result<*mut pacs_server, Failure> {
    let server = engine.context.run(bind)??;
    let address = server.address()?;
    let (stop, watch) = watch::channel(None);
    let task = engine.context.spawn(server.run(stopped(watch).boxed()))?;
    handle::insert(Running {
        context: Arc::clone(&engine.context),
        address,
        stop,
        task: Mutex::new(Some(task)),
    })
}

/// Starts a DICOM server on an engine: Verification, Storage, Query/Retrieve (FIND, MOVE, GET). To be stopped with
/// `pacs_server_stop`.
///
/// `configuration` is TOML, null for all defaults:
///
/// ```toml
/// ae-title = "PACS"             # what peers must call it
/// listen = "127.0.0.1"          # "0.0.0.0" serves every network
/// port = 11112                  # 0 lets the system choose: see pacs_server_port
/// associations = 1000           # at once
/// operations = 16               # that one association may have in flight
/// idle-seconds = 600            # that an association may be silent
/// patience-seconds = 30         # that an instance waits for its turn
/// any-sop-class = false         # true: also those that the Standard's dictionary doesn't know
///
/// [tls]                         # without it nothing is encrypted; PEM files, read again when they change
/// certificate = "pacs.pem"
/// key = "pacs-key.pem"
/// authorities = "ca.pem"        # that the certificates of the other side must come from
///
/// [[peer]]                      # a destination of C-MOVE
/// ae-title = "WORKSTATION"
/// host = "192.0.2.7"
/// port = 104
/// associations = 2
/// tls = false                   # true: it is called over TLS
/// ```
///
/// Blocks shortly. Errors: `PACS_INVALID` for the configuration, with the line; `PACS_IO` when the address can't be
/// had.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_dicom_start(
    engine: *mut pacs_engine,
    configuration: *const c_char,
    server: *mut *mut pacs_server,
) -> pacs_status {
    call(engine, |engine: &Engine| {
        let out = ffi::out(server)?;
        let settings: DicomSettings =
            self::configuration(ffi::optional_text(configuration)?.unwrap_or_default())?;
        let (options, pacs) = (settings.options(engine)?, engine.pacs.clone());
        let address = SocketAddr::new(settings.listen, settings.port);
        let limits = Limits {
            associations_max: settings.associations,
            ..Limits::default()
        };
        out.set(start(engine, Server::bind(address, pacs, options, limits))?);
        Ok(())
    })
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct WebSettings {
    listen: IpAddr,
    port: u16,
    origin: Option<String>,
    delete: bool,
    cors_origins: Vec<String>,
    any_sop_class: bool,
    spool: Option<PathBuf>,
    tls: Tls,
}

impl Default for WebSettings {
    fn default() -> Self {
        Self {
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8080,
            origin: None,
            delete: false,
            cors_origins: Vec::new(),
            any_sop_class: false,
            spool: None,
            tls: Tls::default(),
        }
    }
}

/// Starts an HTTP server on an engine: DICOMweb (PS3.18) below `/dicom-web`, WADO-URI at `/wado`, `/metrics`, `/healthz`
/// and `/readyz`. To be stopped with `pacs_server_stop`.
///
/// `configuration` is TOML, null for all defaults:
///
/// ```toml
/// listen = "127.0.0.1"          # "0.0.0.0" serves every network
/// port = 8080                   # 0 lets the system choose: see pacs_server_port
/// origin = "https://pacs.example"   # how clients reach it, where that is not what their Host field says
/// delete = false                # true: studies, series and instances may be deleted
/// cors-origins = []             # pages of these origins may use it
/// any-sop-class = false
/// spool = "/var/tmp"            # where bulk data waits that comes beside metadata
///
/// [tls]                         # without it nothing is encrypted; PEM files, read again when they change
/// certificate = "pacs.pem"
/// key = "pacs-key.pem"
/// ```
///
/// Blocks shortly. Errors: as `pacs_dicom_start`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_web_start(
    engine: *mut pacs_engine,
    configuration: *const c_char,
    server: *mut *mut pacs_server,
) -> pacs_status {
    call(engine, |engine: &Engine| {
        let out = ffi::out(server)?;
        let settings: WebSettings =
            self::configuration(ffi::optional_text(configuration)?.unwrap_or_default())?;
        let options = WebOptions {
            origin: settings.origin,
            delete: settings.delete,
            any_sop_class: settings.any_sop_class,
            spool: settings.spool.unwrap_or_else(std::env::temp_dir),
            ..WebOptions::default()
        };
        let (pacs, metrics) = (&engine.pacs, Metrics::new());
        let health = Health::new(pacs.clone());
        let services = web::services(pacs, options, web::WADO_URI, &settings.cors_origins)?;
        let router = services
            .merge(health.router())
            .merge(metrics_router(metrics.clone(), pacs.clone()));
        let address = SocketAddr::new(settings.listen, settings.port);
        let credentials = settings.tls.credentials()?;
        let tls = settings.tls.acceptor(&credentials, Protocol::Http)?;
        let tls = tls.map(|tls| tls.with_audit(pacs.audit().clone()));
        let bind = async move {
            let server = HttpServer::bind(address, with_problems(router), HttpLimits::default()).await?;
            let server = match tls {
                Some(tls) => server.with_tls(tls)?,
                None => server,
            };
            Ok((server.with_metrics(metrics), health))
        };
        out.set(start(engine, bind)?);
        Ok(())
    })
}

/// The TCP port that a server listens on.
///
/// Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_server_port(server: *const pacs_server, port: *mut u16) -> pacs_status {
    call(server, |server: &Running| {
        ffi::out(port)?.set(server.address.port());
        Ok(())
    })
}

/// Stops a server and ends the handle; null is nothing to do. No new association or connection is accepted; what runs
/// may go on for `grace_milliseconds`, and is broken off then.
///
/// Blocks until it has ended: no hook is called for it afterwards. Errors: `PACS_REFUSED` in a hook, and in a callback of
/// a polled context; the handle stays open then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_server_stop(server: *mut pacs_server, grace_milliseconds: u32) -> pacs_status {
    if server.is_null() {
        return pacs_status::PACS_OK;
    }
    // Its hook would wait for itself.
    if let refused @ pacs_status::PACS_REFUSED = call(server, |server: &Running| {
        may_change()?;
        server.context.may_run()
    }) {
        return refused;
    }
    call_last(server, |server: &Running| {
        server.stop.send_replace(Some(grace_milliseconds));
        let mut task = server.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            server.context.run(async move {
                // Its panics are contained, and there is nothing to tell of them here.
                let _ = task.await;
            })?;
        }
        Ok(())
    })
}
