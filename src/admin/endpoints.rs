//! What the admin socket serves: one table of its endpoints, and the answers that they give.

use std::time::Duration;

use serde::Serialize;

use super::health::WORKER_TIME_S;
use super::{Health, ReloadReport, Status, page, text};
use crate::admin::exposition;
use crate::ops::meter::History;

/// A reload opens a file and checks a few signatures.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// One method of one path.
#[derive(Debug)]
pub struct Endpoint {
    /// GET reads, POST changes something.
    pub method: &'static str,
    /// The path.
    pub path: &'static str,
    /// What it answers, as docs/monitoring.md shows it.
    pub means: &'static str,
    /// For the whole of an answer.
    pub(super) time: Duration,
    pub(super) show: Show,
}

/// What an answer is made of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Show {
    Fixed(fn() -> Answer),
    Status(fn(&Status, Form) -> Answer),
    History(fn(&History) -> Answer),
    Health(fn(&Health, Form) -> Answer),
    /// Only for those who may reload.
    Reload(fn(&ReloadReport, Form) -> Answer),
}

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Text,
}

/// `sanedge status`.
pub static STATUS: Endpoint = get(
    "/status",
    "JSON; with `Accept: text/plain` the text of `sanedge status`",
    Show::Status(|status, form| match form {
        Form::Json => Answer::json(200, "OK", status),
        Form::Text => Answer::text(true, &text::status(status)),
    }),
);

/// `sanedge reload`.
pub static RELOAD: Endpoint = Endpoint {
    method: "POST",
    path: "/reload",
    means: "opens the bundle again; 409 if it is refused",
    time: ANSWER_TIME,
    show: Show::Reload(|report, form| match (report.ok, form) {
        (true, Form::Text) => Answer::text(true, &text::reload(report)),
        (true, Form::Json) => Answer::json(200, "OK", report),
        (false, _) => Answer::json(409, "Conflict", report),
    }),
};

/// `sanedge status --check`.
pub static CHECK: Endpoint = Endpoint {
    // The workers' time, and as much again for the way of the answer: a process that is stopped gives none.
    time: Duration::from_secs(2 * WORKER_TIME_S),
    ..get(
        "/check",
        "200 if every worker answers within a second and a host has a valid certificate; else 503 with the reason, as JSON",
        Show::Health(|health, form| match (health.verdict(), form) {
            (Ok(line), Form::Text) => Answer::text(true, &line),
            (Ok(message), Form::Json) => {
                Answer::json(200, "OK", &serde_json::json!({ "ok": true, "message": message }))
            }
            (Err((code, message)), _) => Answer::problem(503, "Service Unavailable", code, &message),
        }),
    )
};

/// Every endpoint.
pub static ENDPOINTS: [&Endpoint; 8] = [
    &get(
        "/",
        "the status page: one document without external resources",
        Show::Fixed(|| Answer::new(200, "OK", "text/html; charset=utf-8", page::HTML)),
    ),
    &STATUS,
    &get(
        "/history",
        "JSON: the last hour, one reading every 5 s, at most 8,640 bytes",
        Show::History(|history| Answer::json(200, "OK", history)),
    ),
    &get(
        "/metrics",
        "Prometheus text; labels have a fixed set of values: host, upstream, status class, close code, reason",
        Show::Status(|status, _| match exposition::text(status) {
            Ok(text) => Answer::new(200, "OK", exposition::CONTENT_TYPE, text),
            Err(error) => Answer::problem(500, "Internal Server Error", "internal", &error.to_string()),
        }),
    ),
    &get(
        "/healthz",
        "200, or 503 if a worker does not run its tasks",
        Show::Status(|status, _| health(status, status.is_live())),
    ),
    &get(
        "/readyz",
        "the same, and 503 during a drain",
        Show::Status(|status, _| health(status, status.is_ready())),
    ),
    &CHECK,
    &RELOAD,
];

const fn get(path: &'static str, means: &'static str, show: Show) -> Endpoint {
    Endpoint { method: "GET", path, means, time: ANSWER_TIME, show }
}

fn health(status: &Status, good: bool) -> Answer {
    let text = match (good, status.workers_stuck.as_slice()) {
        (true, _) => "ok".to_owned(),
        (false, []) => "draining".to_owned(),
        (false, stuck) => format!("workers do not run their tasks: {stuck:?}"),
    };
    Answer::text(good, &text)
}

/// For a path that is not there, or `there` with other methods only.
pub(super) fn none(there: &[&&Endpoint]) -> Answer {
    let of = |method| {
        let paths =
            ENDPOINTS.iter().filter(|endpoint| endpoint.method == method).map(|endpoint| endpoint.path);
        format!("{method} {}", paths.collect::<Vec<_>>().join(" "))
    };
    let all = [of("GET"), of("POST")].join(", ");
    let Some(other) = there.first() else { return Answer::problem(404, "Not Found", "not-found", &all) };
    let allow = format!("Allow: {}\r\n", other.method);
    Answer { fields: allow, ..Answer::problem(405, "Method Not Allowed", "method-not-allowed", &all) }
}

pub(super) fn reload_not_allowed() -> Answer {
    let message = "only root and the service's own user may reload, on the Unix socket";
    Answer::problem(403, "Forbidden", "reload-not-allowed", message)
}

pub(super) fn ending() -> Answer {
    Answer::problem(503, "Service Unavailable", "ending", "the edge is shutting down")
}

/// What goes back: a status with its reason, and a body with its type.
pub(super) struct Answer {
    status: u16,
    reason: &'static str,
    content_type: &'static str,
    /// More fields, each with its line end.
    fields: String,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, reason: &'static str, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, reason, content_type, fields: String::new(), body: body.into() }
    }

    pub(super) fn json(status: u16, reason: &'static str, value: &impl Serialize) -> Self {
        Self::new(status, reason, "application/json", serde_json::to_vec(value).unwrap_or_default())
    }

    /// In the shape of every command's `--json`.
    pub(super) fn problem(status: u16, reason: &'static str, code: &str, message: &str) -> Self {
        Self::json(status, reason, &serde_json::json!({ "ok": false, "code": code, "message": message }))
    }

    fn text(good: bool, body: &str) -> Self {
        let (status, reason) = if good { (200, "OK") } else { (503, "Service Unavailable") };
        Self::new(status, reason, "text/plain; charset=utf-8", format!("{}\n", body.trim_end()))
    }

    /// No field says that another origin may read this, so none may; and nothing here is to be kept or framed.
    pub(super) fn bytes(self) -> Vec<u8> {
        let head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin\r\n\
             Content-Security-Policy: {}\r\nConnection: close\r\n\r\n",
            self.status,
            self.reason,
            self.content_type,
            self.body.len(),
            self.fields,
            page::content_security_policy(),
        );
        [head.into_bytes(), self.body].concat()
    }
}
