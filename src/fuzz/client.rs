//! What the doctor reads: what holds for any bytes that a server sends it.

#![allow(clippy::panic)] // a fuzz entry has no other way to say no

use crate::doctor::{dns, packets as client};

/// Reads an answer; for fuzzing: it may not panic, whatever comes.
pub fn fuzz_dns(bytes: &[u8]) {
    let id = bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    for kind in [dns::A, dns::AAAA] {
        let found = dns::read(bytes, id, kind).unwrap_or_default();
        assert!(found.len() <= dns::RECORDS_MAX);
    }
}

/// Reads a handshake's body and a message; for fuzzing: neither may panic, whatever comes.
pub fn fuzz_engineio(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = client::Body::read(&text);
    let _ = client::joined(&text, "/");
    let _ = (client::error_in_words(&text), client::is_of_python(&text), client::looks_like_open(&text));
    for eio in [client::Eio::V3, client::Eio::V4] {
        assert!(client::packets(eio, &text).map(str::len).sum::<usize>() <= text.len());
    }
    if let Some(client::Joined::No(_)) = client::joined(&text, "/catch") {
        assert!(text.starts_with("44/catch"));
    }
}
