//! Limits: the board's defaults, what is written over them, and whether the sum fits the board.

use super::context::Context;
use crate::board::{self, Board, BoardError, HOST};
use crate::bundle::finding::{Code, Finding};
use crate::bundle::source::{LimitValue, Source, out_of_bounds};
use crate::bundle::wire;
use crate::excerpt::Excerpt;
use crate::limits::{self, Limits, Machine, Memory, WebSocketBounds};

/// Limits that hold, and what they cost.
pub(super) struct Settled {
    pub(super) limits: Limits,
    pub(super) memory: Memory,
    /// What a WebSocket may carry where its site says nothing.
    pub(super) websocket: WebSocketBounds,
}

/// `None` where the board is unknown; the finding is in the context then.
pub(super) fn settle(context: &mut Context, source: &Source) -> Option<Settled> {
    let board = board(context, source)?;
    context.rsa_is_slow = board.rsa_is_slow;
    let machine = board.machine();
    let limits = written_over(context, source, &machine, board.default_limits());
    let upstreams = distinct_upstreams(source);
    let cost =
        |limits: &Limits| Memory::of(limits, &machine, upstreams).with_certificates(certificates(source));
    let memory = cost(&limits);
    if !memory.holds() {
        over_budget(context, source, &limits, &cost);
    }
    Some(Settled { limits, memory, websocket: board.websocket_bounds() })
}

/// As many as there can be: with `[acme]` each host may get its own.
fn certificates(source: &Source) -> u64 {
    let hosts: usize = source.sites.iter().map(|site| site.hosts.len()).sum();
    let managed = if source.acme.is_some() { hosts } else { 0 };
    (source.certificates.len() + managed).min(wire::CERTIFICATES_MAX) as u64
}

fn distinct_upstreams(source: &Source) -> u64 {
    let routes = source.sites.iter().flat_map(|site| &site.routes);
    let all: std::collections::HashSet<_> = routes.flat_map(|r| &r.upstreams).map(|u| &u.value).collect();
    all.len() as u64
}

fn written_over(context: &mut Context, source: &Source, machine: &Machine, mut limits: Limits) -> Limits {
    for setting in &source.limits {
        let (name, line) = (&setting.name.value, setting.name.line);
        if let Err(error) = limits.set(name, setting.value.borrowed()) {
            let found = match &setting.value {
                LimitValue::Number(number) => number.to_string(),
                LimitValue::Text(text) => format!("{:?}", Excerpt::of(text)),
            };
            context.push(line, out_of_bounds(name, &error, &found));
        }
    }
    // Not the handshakes: their number is the board's also where fewer or more sessions are written.
    limits
        .follow(machine, |key| key == "handshakes_max" || source.limits.iter().any(|s| s.name.value == key));
    if let Err(error) = limits.check() {
        contradiction(context, source, &error);
    }
    limits
}

/// Two limits that are fine alone; the first one that is written is the one to look at.
fn contradiction(context: &mut Context, source: &Source, error: &limits::LimitError) {
    let limits::LimitError::Above { key, found, bound, .. } = error else { return }; // each range was looked at
    let written = source.limits.iter().find(|s| s.name.value == *key || s.name.value == *bound);
    context.push(written.map_or(0, |s| s.name.line), out_of_bounds(key, error, &found.to_string()));
}

/// Says which is the largest `sessions_max` that fits, everything else being as it is.
fn over_budget(context: &mut Context, source: &Source, limits: &Limits, cost: &dyn Fn(&Limits) -> Memory) {
    let fits = |sessions_max: u32| {
        let handshakes_max = limits.handshakes_max.min(sessions_max);
        cost(&Limits { sessions_max, handshakes_max, ..limits.clone() }).holds()
    };
    let (mut below, mut above) = (0, limits.sessions_max);
    while above - below > 1 {
        let middle = below + (above - below) / 2;
        if fits(middle) { below = middle } else { above = middle }
    }
    let memory = cost(limits);
    let remedy = match below {
        0 => "No session fits: lower the buffers in [limits], or remove them for the board's defaults."
            .to_owned(),
        fitting => format!("Set sessions_max to at most {fitting}, or lower the buffers in [limits]."),
    };
    let line = source.limits.iter().find(|s| s.name.value == "sessions_max").or(source.limits.first());
    let finding = Finding::new(
        Code::MemoryOverBudget,
        format!("these limits exceed the memory of the board `{}`", context.board),
    )
    .expected(format!("at most {} MiB in the worst case", memory.budget_bytes >> 20))
    .found(format!(
        "{} MiB: {} sessions, {} handshakes",
        memory.total_bytes() >> 20,
        limits.sessions_max,
        limits.handshakes_max
    ))
    .remedy(remedy);
    context.push(line.map_or(0, |s| s.name.line), finding);
}

fn board(context: &mut Context, source: &Source) -> Option<Board> {
    let name = &source.board;
    if name.line == 0 {
        return None; // missing, or not a string: said by the reader
    }
    match Board::find(&name.value) {
        Ok(board) => Some(board),
        Err(error) => {
            context.push(name.line, unknown(&name.value, &error));
            None
        }
    }
}

fn unknown(name: &str, error: &BoardError) -> Finding {
    let name = Excerpt::of(name);
    let remedy = match error {
        BoardError::Unknown { suggestion: Some(near), .. } => format!("Did you mean `{near}`?"),
        BoardError::Unknown { suggestion: None, .. } => {
            "Write the nearest one in memory and CPU; \"host\" means the machine that compiles.".to_owned()
        }
        _ => error.to_string(),
    };
    Finding::new(Code::UnknownBoard, format!("there is no board `{name}`"))
        .expected(format!("`{HOST}`, or one of {}", board::names().collect::<Vec<_>>().join(", ")))
        .found(format!("`{name}`"))
        .remedy(remedy)
}
