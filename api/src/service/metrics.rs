//! Counters and gauges, as Prometheus reads them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keyledger_projections::verification::Code;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::service::{ProjectionStatus, Service};

/// Counts what the service does. Counting costs one atomic addition.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    verifications: [AtomicU64; Code::ALL.len()],
    /// Requests by the first digit of their status.
    requests: [AtomicU64; 6],
    /// Requests refused because too much was going on.
    pub overloaded: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU64,
}

impl Metrics {
    /// Counts a verification.
    pub(crate) fn verified(&self, code: Code) {
        if let Some(counter) = self.verifications.get(code as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a request by its status.
    pub(crate) fn answered(&self, status: http::StatusCode) {
        if let Some(counter) = self.requests.get(usize::from(status.as_u16() / 100)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Everything that the service knows of itself, in the Prometheus text format.
///
/// # Errors
/// When it cannot be written; it is written to memory.
pub(crate) fn render(service: &Arc<Service>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("keyledger");
    registry.register_collector(Box::new(ServiceCollector(Arc::clone(service))));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

struct ServiceCollector(Arc<Service>);

impl fmt::Debug for ServiceCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceCollector")
    }
}

fn counters<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    rows: impl IntoIterator<Item = (&'a str, u64)>,
) -> fmt::Result {
    let mut family =
        encoder.encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Counter)?;
    for (value, count) in rows {
        ConstCounter::new(count).encode(family.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: f64,
) -> fmt::Result {
    let metric = ConstCounter::new(value);
    let descriptor =
        encoder.encode_descriptor(name, help, unit, prometheus_client::metrics::MetricType::Counter)?;
    metric.encode(descriptor)
}

fn gauges<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    rows: impl IntoIterator<Item = (&'a str, u64)>,
) -> fmt::Result {
    let mut family =
        encoder.encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Gauge)?;
    for (value, number) in rows {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        ConstGauge::new(number).encode(family.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    let descriptor =
        encoder.encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Gauge)?;
    metric.encode(descriptor)
}

impl Collector for ServiceCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let service = &self.0;
        let metrics = &service.metrics;
        let encoder = &mut encoder;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);

        let codes = Code::ALL.iter().zip(&metrics.verifications);
        let verifications = codes.map(|(code, counter)| (code.as_str(), load(counter)));
        counters(encoder, "verifications", "Verifications by code", "code", verifications)?;
        let classes = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(&metrics.requests).skip(2);
        let requests = classes.map(|(class, counter)| (class, load(counter)));
        counters(encoder, "http_requests", "HTTP requests by class of status", "status", requests)?;
        counter(
            encoder,
            "overloaded",
            "Requests refused for overload",
            None,
            load(&metrics.overloaded) as f64,
        )?;
        gauge(encoder, "http_connections", "Open connections", load(&metrics.connections))?;

        let writer = service.ledger.counters();
        counter(encoder, "log_commits", "Durable commits", None, load(&writer.groups) as f64)?;
        counter(encoder, "log_events", "Events appended since the start", None, load(&writer.events) as f64)?;
        counter(
            encoder,
            "command_rejections",
            "Commands refused by a rule",
            None,
            load(&writer.rejections) as f64,
        )?;
        let unknown = load(&writer.unknown_outcomes) as f64;
        counter(encoder, "log_unknown_outcomes", "Commits whose outcome was unknown", None, unknown)?;
        let seconds = load(&writer.append_nanos) as f64 / 1e9;
        counter(encoder, "log_append", "Time spent in appends", Some(&Unit::Seconds), seconds)?;
        gauge(encoder, "command_queue_length", "Commands that wait", service.ledger.queue_len() as u64)?;
        gauge(encoder, "log_position", "Position of the last event", service.ledger.head().get())?;
        let refused = u64::from(service.log_signer.refusal().is_some());
        gauge(encoder, "log_signing_refused", "1 while no checkpoint of the log is signed", refused)?;
        let witnesses = service.witnesses.statuses();
        let sizes = witnesses.iter().map(|it| (it.name.as_str(), it.cosigned.map_or(0, |(size, _)| size)));
        gauges(encoder, "log_cosigned_size", "Events that each witness has vouched for", "witness", sizes)?;

        let statuses = service.projection_statuses();
        let positions = statuses.iter().map(|status| (status.name, status.position.get()));
        gauges(encoder, "projection_position", "Position of each projection", "projection", positions)?;
        let poisoned = statuses.iter().map(|status| (status.name, u64::from(status.poisoned.is_some())));
        gauges(
            encoder,
            "projection_poisoned",
            "1 for a projection that has stopped",
            "projection",
            poisoned,
        )?;
        let running = statuses.iter().map(|status| (status.name, u64::from(status.rebuild.is_some())));
        gauges(
            encoder,
            "projection_rebuilding",
            "1 for a projection that is being made anew",
            "projection",
            running,
        )?;
        let rebuilt = |status: &ProjectionStatus| status.rebuild.map_or(0, |rebuild| rebuild.position.get());
        gauges(
            encoder,
            "projection_rebuild_position",
            "Position of the rows that are being made anew",
            "projection",
            statuses.iter().map(|status| (status.name, rebuilt(status))),
        )?;
        counters(
            encoder,
            "projection_rebuilds",
            "Projections made anew since the start",
            "projection",
            statuses.iter().map(|status| (status.name, status.rebuilds.0)),
        )?;
        counters(
            encoder,
            "projection_rebuild_failures",
            "Attempts to make a projection anew that failed",
            "projection",
            statuses.iter().map(|status| (status.name, status.rebuilds.1)),
        )?;

        let webhooks = &service.webhooks.counters;
        let attempts = [
            ("delivered", load(&webhooks.delivered)),
            ("failed", load(&webhooks.failed)),
            ("given_up", load(&webhooks.given_up)),
        ];
        counters(encoder, "webhook_deliveries", "Attempts to deliver to webhooks", "outcome", attempts)?;
        let waiting = service.webhooks.totals(&service.index, service.ledger.head());
        gauge(encoder, "webhook_pending", "Messages that wait for webhooks", waiting.pending)?;
        gauge(encoder, "webhook_dead_letters", "Messages that were given up", waiting.dead_letters)?;
        gauge(
            encoder,
            "webhook_lag_events",
            "Events that the last of the enabled webhooks is behind the log",
            waiting.lag,
        )?;

        let keys = service.index.key_counts();
        let keys = [
            ("active", keys.active),
            ("revoked", keys.revoked),
            ("expired", keys.expired),
            ("deleted", keys.deleted),
        ];
        gauges(encoder, "keys", "Keys by status as the log has it", "status", keys)?;
        gauge(
            encoder,
            "organizations",
            "Organizations, deleted ones too",
            service.index.organization_count() as u64,
        )
    }
}
