//! `serve`: receives, finds and hands out until a signal says stop.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures::FutureExt as _;
use pacs_core::route::Reloadable;
use pacs_net::hl7::{self, Receiver, ReceiverOptions};
use pacs_net::scp::{Limits, ScpOptions, Server};
use pacs_net::settings::Protocol;
use pacs_net::tls::Connector;
use pacs_net::web::http::health::Health;
use pacs_net::web::http::metrics::Metrics;
use pacs_store::embedded::Store;
use tokio::signal::unix::{SignalKind, signal};

use crate::audit::Trail;
use crate::backup;
use crate::config::Config;
use crate::routing::{self, Routing};
use crate::scrub;
use crate::web::{self, Rates};

/// Serves until SIGTERM or SIGINT; a second one ends the wait for running associations.
pub(crate) fn serve(
    config: &Config,
    store: &Store,
    rates: Arc<Rates>,
    routing: (Routing, Reloadable),
    trail: Trail,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("pacs-net")
        .build()
        .map_err(|error| format!("the runtime can't start: {error}"))?;
    thread::scope(|scope| {
        if store.attributes_changed() {
            thread::Builder::new()
                .name("pacs-reindex".to_owned())
                .spawn_scoped(scope, || reindex(store))
                .map_err(|error| format!("a thread can't start: {error}"))?;
        }
        let (metrics, numbers) = scrub::metrics(config);
        let numbers = Arc::new(numbers);
        let (stop_backup, backup_stopped) = futures::channel::oneshot::channel::<()>();
        // Also where there is no backup: SIGUSR1 would end the server.
        let asked = {
            let _inside = runtime.enter();
            signal(SignalKind::user_defined1()).map_err(|error| error.to_string())?
        };
        if let Some(backup) = &config.backup {
            let (handle, numbers) = (runtime.handle().clone(), Arc::clone(&numbers));
            thread::Builder::new()
                .name("pacs-backup".to_owned())
                .spawn_scoped(scope, move || {
                    if let Some(numbers) = &numbers.backup {
                        backup::keep_up(backup, store, &handle, numbers, (asked, backup_stopped));
                    }
                })
                .map_err(|error| format!("a thread can't start: {error}"))?;
        }
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        // A thread of its own: it computes for long without a pause.
        thread::Builder::new()
            .name("pacs-scrub".to_owned())
            .spawn_scoped(scope, move || {
                handle.block_on(async {
                    tokio::select! {
                        () = scrub::run(config, store, &numbers) => {}
                        // Also when nobody says it.
                        _ = stopped => {}
                    }
                });
            })
            .map_err(|error| format!("a thread can't start: {error}"))?;
        let serving = listen(config, store, (rates, metrics), routing);
        let served = runtime.block_on(trail.during(config, serving));
        drop((stop, stop_backup));
        // Ends a re-index that still runs: it begins again with the next start.
        let closed = store.pacs.close().map_err(|error| error.to_string());
        scrub::copy_ledger(store);
        served.and(closed)
    })
}

async fn listen(
    config: &Config,
    store: &Store,
    (rates, metrics): (Arc<Rates>, Metrics),
    (routing, router): (Routing, Reloadable),
) -> Result<(), String> {
    let failed = |error: pacs_core::Error| error.to_string();
    let address = SocketAddr::new(config.listen, config.dicom_port);
    let limits = limits(config);
    let (credentials, connector) = config.secure()?;
    let acceptor = |protocol| {
        let acceptor = config.tls.acceptor(&credentials, protocol).map_err(failed)?;
        let told = store.pacs.audit();
        Ok::<_, String>(acceptor.map(|acceptor| acceptor.with_audit(told.clone())))
    };
    warn_of_what_may_be_missing(config);
    let mut options = options(config, &connector);
    options.tls = acceptor(Protocol::Dicom)?;
    options.monitor = Some(Arc::new(metrics.clone()));
    let identities = config.identities(&connector)?;
    options.identities = identities.clone();
    let server = Server::bind(address, store.pacs.clone(), options, limits)
        .await
        .map_err(failed)?;
    let dicom = server.address().map_err(failed)?;
    let health = Health::new(store.pacs.clone());
    let (reached, deliveries) = tokio::sync::watch::channel(None);
    let http = match config.web.off {
        true => None,
        false => {
            let served = web::Served {
                pacs: store.pacs.clone(),
                metrics: metrics.clone(),
                health: health.clone(),
                dicom,
                rates,
                deliveries,
                identities,
            };
            let http = web::bind(config, served).await?;
            Some(match acceptor(Protocol::Http)? {
                Some(acceptor) => http.with_tls(acceptor).map_err(failed)?,
                None => http,
            })
        }
    };

    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let (stop, stopped) = tokio::sync::watch::channel(());
    // An end without a word would mean the same: stop.
    let until_stopped = |mut stopped: tokio::sync::watch::Receiver<()>| async move {
        let _ = stopped.changed().await;
    };
    let grace = config.stop_grace();

    let serving_hl7 = match config.hl7.port {
        Some(port) => {
            let receiver = Receiver::new(store.pacs.clone(), ReceiverOptions::default()).map_err(failed)?;
            let address = SocketAddr::new(config.listen, port);
            let options = hl7::ServerOptions {
                address_share: config.address_share(),
                tls: acceptor(Protocol::Hl7)?,
                ..hl7::ServerOptions::default()
            };
            let hl7 = hl7::Server::bind(address, Arc::new(receiver), options)
                .await
                .map_err(failed)?;
            let address = hl7.address().map_err(failed)?;
            say(&format!("pacs-server listens for HL7 on {address}\n"))?;
            hl7.run(until_stopped(stopped.clone()), grace).boxed()
        }
        None => futures::future::ready(()).boxed(),
    };
    say(&format!(
        "pacs-server {} listens for DICOM on {dicom} as {}; data in {}\n",
        env!("CARGO_PKG_VERSION"),
        config.ae_title,
        config.data.display()
    ))?;
    let serving_http = match http {
        Some(http) => {
            let address = http.address().map_err(failed)?;
            let scheme = config.tls.certificate.as_ref().map_or("http", |_| "https");
            say(&format!(
                "pacs-server listens for HTTP on {scheme}://{address}/\n"
            ))?;
            http.run(until_stopped(stopped.clone()), grace).boxed()
        }
        None => futures::future::ready(()).boxed(),
    };
    let until = until_stopped(stopped.clone());
    let delivering = routing::run(
        (config, &connector),
        &store.pacs,
        routing,
        &router,
        reached,
        until,
    );
    let serving = futures::future::join4(
        server.run(until_stopped(stopped), grace),
        serving_http,
        serving_hl7,
        delivering,
    );
    tokio::pin!(serving);
    let mut told = Some(stop);
    loop {
        tokio::select! {
            _ = &mut serving => return Ok(()),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        match told.take() {
            Some(stop) => {
                tracing::info!("stopping: running associations and requests may end");
                health.drain();
                // The servers are there, so somebody listens.
                let _ = stop.send(());
            }
            None => {
                tracing::warn!("stopping at once");
                return Ok(());
            }
        }
    }
}

/// What can be meant so, and may have been forgotten.
fn warn_of_what_may_be_missing(config: &Config) {
    if config.tls.certificate.is_none() && config.tls.authorities.is_some() {
        tracing::warn!(
            "[tls] has authorities and no certificate: connections to this server come without TLS"
        );
    }
    for (file, table, is_there) in [
        ("users", "[access]", config.access.is_some()),
        ("audit", "[audit]", config.audit.is_some()),
    ] {
        if !is_there && config.data.join(file).exists() {
            tracing::warn!(
                "the data directory has {file}, and the configuration no {table}: is it the right one?"
            );
        }
    }
}

/// How much is served at once.
pub(crate) fn limits(config: &Config) -> Limits {
    Limits {
        associations_max: config.limits.associations,
        address_share: config.address_share(),
    }
}

/// How requests are answered, and by what peers are called that are called over TLS.
pub(crate) fn options(config: &Config, connector: &Connector) -> ScpOptions {
    let mut options = ScpOptions::new(config.ae_title);
    options.any_sop_class = config.any_sop_class;
    options.operations_max = config.limits.operations;
    options.patience = Duration::from_secs(config.limits.patience_seconds.into());
    options.timeouts.idle = Duration::from_secs(config.limits.idle_seconds.into());
    options.steps_kept = Duration::from_secs(u64::from(config.limits.steps_kept_days) * 24 * 3600);
    options.destinations = config
        .peers
        .iter()
        .map(|peer| peer.destination(connector))
        .collect();
    options
}

/// Indexes what is stored by the attributes that are configured now.
fn reindex(store: &Store) {
    tracing::info!("other attributes are configured: what is stored is indexed again");
    match store.reindex() {
        Ok(made) => tracing::info!(instances = made, "indexed again"),
        Err(error) => {
            tracing::warn!(%error, "indexing again ended early; it begins again with the next start")
        }
    }
}

fn say(text: &str) -> Result<(), String> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| error.to_string())
}
