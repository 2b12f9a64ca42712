//! A [`Status`] in the text format of Prometheus. Labels are from bounded sets: hosts and upstreams of the bundle, classes
//! of status, close codes, reasons.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{TEXT_FORMAT, TextEncoder};

use super::{HostStatus, Status};

/// What the text is.
pub(super) const CONTENT_TYPE: &str = TEXT_FORMAT;

/// Every metric of `status`.
///
/// # Errors
/// Of the encoder, for names that are none: a defect.
pub(super) fn text(status: &Status) -> Result<String, prometheus::Error> {
    let mut families = Families::default();
    about_the_process(status, &mut families);
    about_sessions(status, &mut families);
    about_hosts(status, &mut families);
    about_renewals(status, &mut families);
    about_upstreams(status, &mut families);
    about_trouble(status, &mut families);
    TextEncoder::new().encode_to_string(&families.0)
}

fn about_the_process(status: &Status, families: &mut Families) {
    let process = &status.process;
    let build = [("version", status.version.as_str()), ("board", status.board.as_str())];
    families.gauge("sanedge_build_info", "Version and board profile; always 1.", [sample(&build, 1)]);
    families.gauge("sanedge_uptime_seconds", "Time since the start.", [plain(status.uptime_s as f64)]);
    families.gauge("sanedge_draining", "1 once a drain has begun.", [plain(u8::from(status.draining))]);
    let believable = u8::from(status.clock_believable);
    families.gauge(
        "sanedge_clock_believable",
        "0 while the system clock is earlier than a certificate's notBefore.",
        [plain(believable)],
    );
    families.gauge("sanedge_workers", "Worker threads.", [plain(status.workers as f64)]);
    let stuck = status.workers_stuck.len() as f64;
    families.gauge("sanedge_workers_stuck", "Workers that do not run their tasks.", [plain(stuck)]);
    let budget = process.budget_bytes as f64;
    families.gauge(
        "sanedge_memory_budget_bytes",
        "Worst-case memory under the configured limits, without the kernel's buffers.",
        [plain(budget)],
    );
    families.gauge("process_resident_memory_bytes", "Memory in use.", [plain(process.resident_bytes as f64)]);
    families.counter("process_cpu_seconds_total", "CPU time, user and system.", [plain(process.cpu_s)]);
    families.gauge("process_open_fds", "Open descriptors.", [plain(process.open_files as f64)]);
    families.gauge(
        "process_max_fds",
        "Limit of open file descriptors.",
        [plain(process.open_files_max as f64)],
    );
}

fn about_sessions(status: &Status, families: &mut Families) {
    let counted = |name: &str| [plain(status.counters.get(name).copied().unwrap_or(0) as f64)];
    families.gauge("sanedge_sessions_open", "Client connections.", [plain(status.sessions)]);
    families.gauge(
        "sanedge_sessions_peak",
        "Most client connections at once since the start.",
        [plain(status.sessions_peak as f64)],
    );
    families.gauge(
        "sanedge_sessions_limit",
        "Limit of open client connections (sessions_max).",
        [plain(status.sessions_max)],
    );
    families.counter(
        "sanedge_sessions_accepted_total",
        "Client connections accepted.",
        counted("sessions_total"),
    );
    families.gauge(
        "sanedge_tls_handshakes_open",
        "Connections in their TLS handshake.",
        [plain(status.handshakes)],
    );
    families.counter(
        "sanedge_tls_handshakes_total",
        "TLS handshakes completed, by version, key exchange and whether a session was resumed.",
        status.tls_handshakes.iter().map(|(kind, count)| {
            let mut words = kind.split(' ');
            let mut word = || words.next().unwrap_or_default();
            let (version, group, resumed) = (word(), word(), word() == "resumed");
            let resumed = if resumed { "true" } else { "false" };
            sample(&[("version", version), ("group", group), ("resumed", resumed)], *count as f64)
        }),
    );
    families.counter(
        "sanedge_http_requests_total",
        "Requests whose head was read.",
        counted("exchanges_total"),
    );
    let traffic = &status.traffic;
    let both = |received: u64, sent: u64| {
        [("received", received), ("sent", sent)]
            .map(|(way, count)| sample(&[("direction", way)], count as f64))
    };
    families.counter(
        "sanedge_websocket_messages_total",
        "WebSocket messages, received from clients and sent to them.",
        both(traffic.received_messages, traffic.sent_messages),
    );
    families.counter(
        "sanedge_client_bytes_total",
        "HTTP and WebSocket bytes, without TLS, received from clients and sent to them.",
        both(traffic.received_bytes, traffic.sent_bytes),
    );
    let closes = status.websocket_closes.iter().map(|(code, count)| sample(&[("code", code)], *count as f64));
    families.counter(
        "sanedge_websocket_closes_total",
        "WebSockets ended, by close code; 1006 if there was none.",
        closes,
    );
}

fn moment(of: &HostStatus, seconds: i64) -> Sample {
    sample(&[("host", &of.host), ("certificate", &of.certificate)], seconds as f64)
}

fn about_hosts(status: &Status, families: &mut Families) {
    let hosts = || status.hosts.iter();
    families.gauge(
        "sanedge_certificate_expiry_timestamp_seconds",
        "When the host's certificate expires.",
        hosts().map(|h| moment(h, h.not_after)),
    );
    families.gauge(
        "sanedge_certificate_renewal_due_timestamp_seconds",
        "When the host's certificate is due for renewal: after two thirds of its lifetime, or half if that is below ten days.",
        hosts().map(|h| moment(h, h.renewal_due)),
    );
    families.gauge(
        "sanedge_certificate_renewal_overdue_timestamp_seconds",
        "When its renewal counts as overdue (a warning).",
        hosts().map(|h| moment(h, h.renewal_overdue_after)),
    );
    families.gauge(
        "sanedge_certificate_ends_soon_timestamp_seconds",
        "When it counts as ending soon (an error).",
        hosts().map(|h| moment(h, h.ends_soon_after)),
    );
    families.gauge(
        "sanedge_hosts_pending",
        "Hosts that wait for their first certificate.",
        [plain(status.pending.len() as f64)],
    );
    families.gauge(
        "sanedge_websockets_open",
        "Open WebSockets.",
        hosts().map(|h| sample(&[("host", &h.host)], h.websockets_open as f64)),
    );
    families.counter(
        "sanedge_websockets_opened_total",
        "WebSockets opened.",
        hosts().map(|h| sample(&[("host", &h.host)], h.websockets_total as f64)),
    );
    families.counter(
        "sanedge_http_responses_total",
        "Responses to requests sent to an upstream, by status class.",
        hosts().flat_map(|h| {
            h.responses
                .iter()
                .map(|(class, count)| sample(&[("host", &h.host), ("code", class)], *count as f64))
        }),
    );
}

fn about_renewals(status: &Status, families: &mut Families) {
    let Some(told) = &status.acme else { return };
    families.counter(
        "sanedge_acme_failures_total",
        "Certificates that a run of `sanedge renew` could not obtain, by the code of the failure, since the boot.",
        told.failures.iter().map(|(code, count)| sample(&[("code", code)], *count as f64)),
    );
    let next = told.certificates.iter().flat_map(|renewal| {
        renewal.names.iter().filter_map(|name| Some(sample(&[("host", name)], renewal.next? as f64)))
    });
    families.gauge(
        "sanedge_acme_next_attempt_timestamp_seconds",
        "When `sanedge renew` renews the host's certificate, or tries again.",
        next,
    );
}

fn about_upstreams(status: &Status, families: &mut Families) {
    families.gauge(
        "sanedge_upstream_up",
        "0 after a failed connection attempt.",
        status.upstreams().map(|u| sample(&[("upstream", &u.upstream)], u8::from(u.state != "down"))),
    );
    families.counter(
        "sanedge_upstream_connect_failures_total",
        "Failed connection attempts.",
        status.upstreams().map(|u| sample(&[("upstream", &u.upstream)], u.connect_failures as f64)),
    );
}

fn about_trouble(status: &Status, families: &mut Families) {
    let counted = |name: &str| status.counters.get(name).copied().unwrap_or(0) as f64;
    families.counter(
        "sanedge_refused_total",
        "Connections and requests refused.",
        status.refused.iter().map(|(reason, count)| sample(&[("reason", reason)], *count as f64)),
    );
    families.counter(
        "sanedge_upstream_failures_total",
        "Requests that no upstream could answer.",
        [plain(counted("upstream_failures_total"))],
    );
    let reloads = [("ok", "reloads_total"), ("refused", "reloads_refused_total")];
    families.counter(
        "sanedge_reloads_total",
        "Reloads, by result.",
        reloads.map(|(result, name)| sample(&[("result", result)], counted(name))),
    );
    families.counter(
        "sanedge_panics_total",
        "Panics caught; each is a bug.",
        [plain(counted("panics_total"))],
    );
}

/// A value with its labels.
struct Sample(Vec<LabelPair>, f64);

fn plain(value: impl Into<f64>) -> Sample {
    sample(&[], value)
}

fn sample(labels: &[(&str, &str)], value: impl Into<f64>) -> Sample {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Sample(labels.iter().map(pair).collect(), value.into())
}

#[derive(Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    fn gauge(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        self.add(name, help, MetricType::GAUGE, samples);
    }

    fn counter(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        self.add(name, help, MetricType::COUNTER, samples);
    }

    /// A family without a sample is left out: the encoder takes none.
    fn add(&mut self, name: &str, help: &str, kind: MetricType, samples: impl IntoIterator<Item = Sample>) {
        let metric = |Sample(labels, value): Sample| {
            let mut metric = Metric::from_label(labels);
            match kind {
                MetricType::COUNTER => {
                    let mut counter = Counter::default();
                    counter.set_value(value);
                    metric.set_counter(counter);
                }
                _ => {
                    let mut gauge = Gauge::default();
                    gauge.set_value(value);
                    metric.set_gauge(gauge);
                }
            }
            metric
        };
        let metrics: Vec<Metric> = samples.into_iter().map(metric).collect();
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }
}
