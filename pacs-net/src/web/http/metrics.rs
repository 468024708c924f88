//! [`Metrics`]: what a server did, for Prometheus.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pacs_core::Totals;
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::dimse::{Category, CommandField, Status};
use crate::scp::Monitor;

/// Bounds of the histograms' buckets, in seconds: from a lookup to a study over a slow line.
const BUCKETS_SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0,
];

/// What HTTP and DIMSE did, and how much is kept. A clone records in the same.
///
/// | name | labels | what |
/// | --- | --- | --- |
/// | `pacs_http_request_duration_seconds` | `method`, `path` (template of the route), `status` (`2xx`) | to the end of the response |
/// | `pacs_http_requests_in_flight` | | requests that are being served |
/// | `pacs_http_received_bytes_total`, `pacs_http_sent_bytes_total` | | bodies, before content coding is undone |
/// | `pacs_dimse_operation_duration_seconds` | `service` (`C-STORE`), `status` (`success`) | to the final response |
/// | `pacs_associations_open` | | associations |
/// | `pacs_associations_accepted_total`, `pacs_associations_rejected_total` | | associations |
/// | `pacs_patients`, `pacs_studies`, `pacs_series`, `pacs_instances`, `pacs_stored_bytes` | | what is kept |
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

/// A number that a program shows beside the others. A clone is the same number.
#[derive(Clone, Debug)]
pub struct OwnNumber(Gauge);

impl OwnNumber {
    /// What it is now.
    pub fn set(&self, value: u64) {
        self.0.set(value.try_into().unwrap_or(i64::MAX));
    }
}

#[derive(Default)]
struct Inner {
    registry: Registry,
    http_duration: Durations<HttpLabels>,
    http_in_flight: Gauge,
    http_received: Counter,
    http_sent: Counter,
    dimse_duration: Durations<DimseLabels>,
    associations_open: Gauge,
    associations_accepted: Counter,
    associations_rejected: Counter,
    patients: Gauge,
    studies: Gauge,
    series: Gauge,
    instances: Gauge,
    stored: Gauge,
}

#[derive(Clone)]
struct Durations<L>(Family<L, Histogram, fn() -> Histogram>);

impl<L: Clone + std::hash::Hash + Eq> Default for Durations<L> {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(BUCKETS_SECONDS)))
    }
}

/// No label holds what a client chose.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    method: &'static str,
    path: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DimseLabels {
    service: String,
    status: &'static str,
}

impl Metrics {
    /// With nothing recorded.
    pub fn new() -> Self {
        Self::with_own(Vec::new()).0
    }

    /// What is recorded here, and where it is registered.
    fn registered() -> (Inner, Registry) {
        let inner = Inner::default();
        let mut registry = Registry::with_prefix("pacs");
        let durations = [
            "Time from the header of a request to the end of its response",
            "Time from the command set of a request to its final response",
        ];
        registry.register_with_unit(
            "http_request_duration",
            durations[0],
            Unit::Seconds,
            inner.http_duration.0.clone(),
        );
        registry.register_with_unit(
            "dimse_operation_duration",
            durations[1],
            Unit::Seconds,
            inner.dimse_duration.0.clone(),
        );
        let counters = [
            (
                "http_received_bytes",
                "Bytes of request bodies",
                &inner.http_received,
            ),
            ("http_sent_bytes", "Bytes of response bodies", &inner.http_sent),
            (
                "associations_accepted",
                "Associations that were accepted",
                &inner.associations_accepted,
            ),
            (
                "associations_rejected",
                "Associations that were rejected",
                &inner.associations_rejected,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let gauges = [
            (
                "http_requests_in_flight",
                "Requests that are being served",
                &inner.http_in_flight,
            ),
            (
                "associations_open",
                "Associations that are open",
                &inner.associations_open,
            ),
            ("patients", "Patients that are kept", &inner.patients),
            ("studies", "Studies that are kept", &inner.studies),
            ("series", "Series that are kept", &inner.series),
            ("instances", "Instances that are kept", &inner.instances),
            (
                "stored_bytes",
                "Bytes of the instances that are kept",
                &inner.stored,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        (inner, registry)
    }

    /// The same, and numbers of the program's own, each of a name (`pacs_` is put before it) and a meaning.
    pub fn with_own(own: Vec<(&'static str, &'static str)>) -> (Self, Vec<OwnNumber>) {
        let (mut inner, mut registry) = Self::registered();
        let mut numbers = Vec::with_capacity(own.len());
        for (name, help) in own {
            let number = OwnNumber(Gauge::default());
            registry.register(name, help, number.0.clone());
            numbers.push(number);
        }
        inner.registry = registry;
        (Self(Arc::new(inner)), numbers)
    }

    /// In the text format of Prometheus, version 0.0.4.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail; what was written until then is still sound.
        if prometheus_text::encode(&mut text, &self.0.registry).is_err() {
            tracing::error!("metrics could not be written");
        }
        text
    }

    /// How much is kept.
    pub fn set_totals(&self, totals: &Totals) {
        let gauges = [
            (&self.0.patients, totals.patients),
            (&self.0.studies, totals.studies),
            (&self.0.series, totals.series),
            (&self.0.instances, totals.instances),
            (&self.0.stored, totals.bytes),
        ];
        for (gauge, value) in gauges {
            gauge.set(value.try_into().unwrap_or(i64::MAX));
        }
    }

    /// Associations that are open now.
    pub fn associations_open(&self) -> u64 {
        self.0.associations_open.get().try_into().unwrap_or(0)
    }

    pub(super) fn request_begins(&self) {
        self.0.http_in_flight.inc();
    }

    pub(super) fn request_ends(
        &self,
        method: &'static str,
        path: &str,
        status: u16,
        took: Duration,
        (received, sent): (u64, u64),
    ) {
        const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let class = usize::from(status / 100)
            .checked_sub(1)
            .and_then(|class| CLASSES.get(class));
        let labels = HttpLabels {
            method,
            path: path.to_owned(),
            status: class.unwrap_or(&"other"),
        };
        self.0.http_in_flight.dec();
        self.0.http_received.inc_by(received);
        self.0.http_sent.inc_by(sent);
        self.0
            .http_duration
            .0
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }
}

impl Monitor for Metrics {
    fn association_accepted(&self) {
        self.0.associations_accepted.inc();
        self.0.associations_open.inc();
    }

    fn association_rejected(&self) {
        self.0.associations_rejected.inc();
    }

    fn association_ended(&self) {
        self.0.associations_open.dec();
    }

    fn operation_ended(&self, command: CommandField, status: Status, took: Duration) {
        let name = command.to_string();
        let labels = DimseLabels {
            // A command field that nobody knows is the peer's to choose.
            service: match name.strip_suffix("-RQ") {
                Some(service) if service.contains('-') => service.to_owned(),
                _ => "other".to_owned(),
            },
            status: match status.category() {
                Category::Success => "success",
                Category::Pending => "pending",
                Category::Cancel => "cancel",
                Category::Warning => "warning",
                Category::Failure => "failure",
            },
        };
        self.0
            .dimse_duration
            .0
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_written() {
        let metrics = Metrics::new();
        metrics.request_begins();
        metrics.request_begins();
        metrics.request_ends("GET", "/studies/{study}", 206, Duration::from_millis(3), (1, 20));
        metrics.association_accepted();
        metrics.operation_ended(CommandField::C_STORE, Status::COERCED, Duration::from_millis(30));
        metrics.operation_ended(
            CommandField(0x0999),
            Status::UNRECOGNIZED_OPERATION,
            Duration::ZERO,
        );
        metrics.set_totals(&Totals {
            instances: 7,
            bytes: u64::MAX,
            ..Totals::default()
        });
        let text = metrics.to_text();
        for line in [
            "# TYPE pacs_http_request_duration_seconds histogram",
            "pacs_http_request_duration_seconds_bucket{method=\"GET\",path=\"/studies/{study}\",status=\"2xx\",le=\"0.005\"} 1",
            "pacs_http_requests_in_flight 1",
            "pacs_http_received_bytes_total 1",
            "pacs_http_sent_bytes_total 20",
            "pacs_dimse_operation_duration_seconds_count{service=\"C-STORE\",status=\"warning\"} 1",
            "pacs_dimse_operation_duration_seconds_count{service=\"other\",status=\"failure\"} 1",
            "pacs_associations_open 1",
            "pacs_associations_accepted_total 1",
            "pacs_associations_rejected_total 0",
            "pacs_instances 7",
            "pacs_stored_bytes 9223372036854775807",
        ] {
            assert!(
                text.lines().any(|written| written == line),
                "{line} is missing in\n{text}"
            );
        }
        assert_eq!(metrics.associations_open(), 1);
    }
}
