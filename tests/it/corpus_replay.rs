//! What fuzzing found or began with is run by every `cargo test`.

use std::fs;
use std::path::Path;

/// Runs `entry` with every seed of `target`, and with every prefix of it.
fn replay(target: &str, entry: fn(&[u8]), seeds_min: usize) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let mut seeds = 0;
    for file in fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display())) {
        let seed = fs::read(file.unwrap().path()).unwrap();
        entry(&seed);
        (0..seed.len().min(512)).for_each(|n| entry(&seed[..n]));
        seeds += 1;
    }
    assert!(seeds >= seeds_min, "{}: {seeds} seeds, at least {seeds_min} expected", corpus.display());
}

#[test]
fn http_head() {
    replay("http_head", sanedge::fuzz::messages::fuzz_http_head, 20);
}

#[test]
fn http_body() {
    replay("http_body", sanedge::fuzz::messages::fuzz_http_body, 10);
}

#[test]
fn ws_frame() {
    replay("ws_frame", sanedge::fuzz::ws::fuzz_ws_frame, 10);
}

#[test]
fn ws_sequence() {
    replay("ws_sequence", sanedge::fuzz::ws::fuzz_ws_sequence, 20);
}

#[test]
fn proxy_protocol() {
    replay("proxy_protocol", sanedge::fuzz::parsers::fuzz_proxy_protocol, 20);
}

#[test]
fn hybrid_share() {
    replay("hybrid_share", sanedge::fuzz::parsers::fuzz_hybrid_share, 16);
}

#[test]
fn tls_records() {
    replay("tls_records", sanedge::fuzz::records::fuzz_records, 40);
}

#[test]
fn pem() {
    replay("pem", sanedge::fuzz::commands::fuzz_pem, 30);
}

#[test]
fn nginx() {
    replay("nginx", sanedge::fuzz::commands::fuzz_nginx, 20);
}

#[test]
fn http_forward() {
    replay("http_forward", sanedge::fuzz::messages::fuzz_http_forward, 20);
}

#[test]
fn session() {
    replay("session", sanedge::fuzz::session::fuzz_session, 10);
}

#[test]
fn frozen() {
    replay("frozen", sanedge::fuzz::frozen::fuzz_frozen, 8);
    // After a change of the layout: another FORMAT, and new seeds.
    for kind in ["idle", "idle_connection", "poll", "sids"] {
        let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/frozen").join(kind);
        let is_same = sanedge::fuzz::frozen::round_trips(&fs::read(seed).unwrap());
        assert!(is_same, "the layout of records has changed: {kind}");
    }
}

#[test]
fn engineio_open() {
    replay("engineio_open", sanedge::fuzz::parsers::fuzz_engineio_open, 16);
}

#[test]
fn dns() {
    replay("dns", sanedge::fuzz::commands::fuzz_dns, 8);
}

#[test]
fn engineio() {
    replay("engineio", sanedge::fuzz::commands::fuzz_engineio, 10);
}

#[test]
fn acme_alpn() {
    replay("acme_alpn", sanedge::fuzz::parsers::fuzz_acme_alpn, 10);
}

#[test]
fn acme_status() {
    replay("acme_status", sanedge::fuzz::commands::fuzz_acme_status, 10);
}

#[test]
fn acme_plan() {
    replay("acme_plan", sanedge::fuzz::commands::fuzz_acme_plan, 10);
}

#[test]
fn parcels() {
    replay("parcels", sanedge::fuzz::commands::fuzz_parcels, 20);
}
