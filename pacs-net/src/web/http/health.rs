//! [`Health`]: whether the process is up, and whether it can serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::{HeaderValue, header};
use pacs_core::{Pacs, Uid};

use super::metrics::Metrics;
use super::problem::Problem;

/// How long the index may take for the lookup of `/readyz`, and its totals for `/metrics`.
const PATIENCE: Duration = Duration::from_secs(3);

/// No instance has it: it is the Verification SOP class.
const NO_INSTANCE: Uid = Uid::constant("1.2.840.10008.1.1");

/// What an orchestrator asks.
#[derive(Clone, Debug)]
pub struct Health {
    pacs: Pacs,
    draining: Arc<AtomicBool>,
}

impl Health {
    /// Of this engine.
    pub fn new(pacs: Pacs) -> Self {
        Self {
            pacs,
            draining: Arc::default(),
        }
    }

    /// From now on the server isn't ready: to be called before it stops.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the engine answers, in bounded time, and is not draining.
    ///
    /// # Errors
    /// 503 otherwise.
    pub async fn check(&self) -> Result<(), Problem> {
        if self.draining.load(Ordering::Acquire) {
            return Err(Problem::unavailable("the server is about to stop"));
        }
        match tokio::time::timeout(PATIENCE, self.pacs.lookup(&NO_INSTANCE)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                tracing::warn!(%error, "not ready: the index doesn't answer");
                Err(Problem::unavailable("the index doesn't answer"))
            }
            Err(_) => Err(Problem::unavailable("the index doesn't answer in time")),
        }
    }

    /// `/healthz`: the process is up. `/readyz`: see [`check`](Self::check).
    pub fn router(&self) -> Router {
        let health = self.clone();
        let ready = move || {
            let health = health.clone();
            async move { health.check().await.map(|()| "ready\n") }
        };
        Router::new()
            .route("/healthz", get(async || "up\n"))
            .route("/readyz", get(ready))
    }
}

/// `/metrics`: these, and how much the engine keeps, for Prometheus (text format 0.0.4).
pub fn metrics_router(metrics: Metrics, pacs: Pacs) -> Router {
    let scrape = move || {
        let (metrics, pacs) = (metrics.clone(), pacs.clone());
        async move {
            match tokio::time::timeout(PATIENCE, pacs.totals()).await {
                Ok(Ok(totals)) => metrics.set_totals(&totals),
                // The rest is worth having even so, and more so.
                Ok(Err(error)) => tracing::warn!(%error, "metrics without the engine's totals"),
                Err(_) => tracing::warn!("metrics without the engine's totals: they took too long"),
            }
            let text = metrics.to_text();
            let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            ([(header::CONTENT_TYPE, content_type)], text)
        }
    };
    Router::new().route("/metrics", get(scrape))
}
