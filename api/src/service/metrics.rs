//! Counters and gauges in the Prometheus text format.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keyledger_projections::verification::Code;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::admission::refusal::Refusals;
use crate::service::Service;
use crate::service::projections::ProjectionStatus;

/// The counters of the service. Counting costs one atomic addition.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    verifications: [AtomicU64; Code::ALL.len()],
    /// Requests by the first digit of their status.
    requests: [AtomicU64; 6],
    /// Requests refused as `overloaded`.
    pub overloaded: AtomicU64,
    /// Open connections.
    pub connections: AtomicU64,
    /// What was refused so that no caller takes what all need.
    pub refusals: Refusals,
}

impl Metrics {
    /// Counts a verification by its code.
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

/// Returns all metrics in the Prometheus text format.
///
/// # Errors
/// When a metric cannot be encoded.
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
        let (service, encoder) = (&*self.0, &mut encoder);
        encode_requests(encoder, service)?;
        encode_log(encoder, service)?;
        encode_projections(encoder, service)?;
        encode_webhooks(encoder, service)?;
        encode_objects(encoder, service)
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn encode_requests(encoder: &mut DescriptorEncoder<'_>, service: &Service) -> fmt::Result {
    let metrics = &service.metrics;
    let codes = Code::ALL.iter().zip(&metrics.verifications);
    let verifications = codes.map(|(code, counter)| (code.as_str(), load(counter)));
    counters(encoder, "verifications", "Verifications by code", "code", verifications)?;
    let classes = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(&metrics.requests).skip(2);
    let requests = classes.map(|(class, counter)| (class, load(counter)));
    counters(encoder, "http_requests", "HTTP requests by class of status", "status", requests)?;
    counter(encoder, "overloaded", "Requests refused for overload", None, load(&metrics.overloaded) as f64)?;
    encode_authentications(encoder, service)?;
    let refusals = metrics.refusals.counts();
    counters(encoder, "refusals", "Connections and requests refused to protect others", "kind", refusals)?;
    let limited = service.rate_limits.refused();
    counters(encoder, "rate_limited", "Requests refused by each rate limit", "policy", limited)?;
    gauge(encoder, "disk_free_bytes", "Free disk space", service.disk_reserve.free())?;
    let reserve = service.disk_reserve.reserve();
    gauge(encoder, "disk_reserve_bytes", "Disk space that only removals may use", reserve)?;
    gauge(encoder, "http_connections", "Open connections", load(&metrics.connections))
}

fn encode_authentications(encoder: &mut DescriptorEncoder<'_>, service: &Service) -> fmt::Result {
    let counter = prometheus_client::metrics::MetricType::Counter;
    let help = "Authentications by kind of credential and outcome";
    let mut family = encoder.encode_descriptor("authentications", help, None, counter)?;
    for (kind, outcome, count) in service.security_log.authentications.counts() {
        let labels = [("kind", kind), ("outcome", outcome)];
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_log(encoder: &mut DescriptorEncoder<'_>, service: &Service) -> fmt::Result {
    let writer = service.ledger.counters();
    counter(encoder, "log_commits", "Durable commits", None, load(&writer.groups) as f64)?;
    counter(encoder, "log_events", "Events appended since the start", None, load(&writer.events) as f64)?;
    counter(
        encoder,
        "command_rejections",
        "Commands rejected by a rule",
        None,
        load(&writer.rejections) as f64,
    )?;
    let unknown = load(&writer.unknown_outcomes) as f64;
    counter(encoder, "log_unknown_outcomes", "Commits whose outcome was unknown", None, unknown)?;
    let seconds = load(&writer.append_nanos) as f64 / 1e9;
    counter(encoder, "log_append", "Time spent appending to the log", Some(&Unit::Seconds), seconds)?;
    gauge(
        encoder,
        "command_queue_length",
        "Commands waiting for the writer",
        service.ledger.queue_len() as u64,
    )?;
    gauge(encoder, "log_position", "Position of the last event", service.ledger.head().get())?;
    let refused = u64::from(service.log_signer.refusal().is_some());
    gauge(encoder, "log_signing_refused", "1 while checkpoints of the log cannot be signed", refused)?;
    let inconsistent = u64::from(service.inconsistency.reason().is_some());
    gauge(
        encoder,
        "log_inconsistent",
        "1 when the log is known to be an older copy or altered",
        inconsistent,
    )?;
    let witnesses = service.witnesses.statuses();
    let sizes = witnesses.iter().map(|it| (it.name.as_str(), it.cosigned.map_or(0, |(size, _)| size)));
    gauges(
        encoder,
        "log_cosigned_size",
        "Events in the last checkpoint that each witness cosigned",
        "witness",
        sizes,
    )
}

fn encode_projections(encoder: &mut DescriptorEncoder<'_>, service: &Service) -> fmt::Result {
    let statuses = service.projection_statuses();
    let positions = statuses.iter().map(|status| (status.name, status.position.get()));
    gauges(encoder, "projection_position", "Position of each projection", "projection", positions)?;
    let poisoned = statuses.iter().map(|status| (status.name, u64::from(status.poisoned.is_some())));
    gauges(encoder, "projection_poisoned", "1 for a projection that has stopped", "projection", poisoned)?;
    let running = statuses.iter().map(|status| (status.name, u64::from(status.rebuild.is_some())));
    gauges(
        encoder,
        "projection_rebuilding",
        "1 for a projection that is being rebuilt",
        "projection",
        running,
    )?;
    let rebuilt = |status: &ProjectionStatus| status.rebuild.map_or(0, |rebuild| rebuild.position.get());
    gauges(
        encoder,
        "projection_rebuild_position",
        "Position that a running rebuild has reached",
        "projection",
        statuses.iter().map(|status| (status.name, rebuilt(status))),
    )?;
    counters(
        encoder,
        "projection_rebuilds",
        "Rebuilds since the start",
        "projection",
        statuses.iter().map(|status| (status.name, status.rebuilds.0)),
    )?;
    counters(
        encoder,
        "projection_rebuild_failures",
        "Failed rebuilds since the start",
        "projection",
        statuses.iter().map(|status| (status.name, status.rebuilds.1)),
    )
}

fn encode_webhooks(encoder: &mut DescriptorEncoder<'_>, service: &Service) -> fmt::Result {
    let webhooks = &service.webhooks.counters;
    let attempts = [
        ("delivered", load(&webhooks.delivered)),
        ("failed", load(&webhooks.failed)),
        ("given_up", load(&webhooks.given_up)),
    ];
    counters(encoder, "webhook_deliveries", "Delivery attempts to webhooks by outcome", "outcome", attempts)?;
    let waiting = service.webhooks.totals(&service.index, service.ledger.head());
    gauge(encoder, "webhook_pending", "Messages pending for webhooks", waiting.pending)?;
    gauge(encoder, "webhook_dead_letters", "Messages that could not be delivered", waiting.dead_letters)?;
    gauge(
        encoder,
        "webhook_lag_events",
        "Events that the slowest enabled webhook is behind the log",
        waiting.lag,
    )
}

fn encode_objects(encoder: &mut DescriptorEncoder<'_>, service: &Service) -> fmt::Result {
    let keys = service.index.key_counts();
    let keys = [
        ("active", keys.active),
        ("revoked", keys.revoked),
        ("expired", keys.expired),
        ("deleted", keys.deleted),
    ];
    gauges(encoder, "keys", "Keys by recorded status", "status", keys)?;
    gauge(
        encoder,
        "organizations",
        "Organizations, including deleted ones",
        service.index.organization_count() as u64,
    )
}
