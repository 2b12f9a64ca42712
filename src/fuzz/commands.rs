//! What the commands read: what holds for any bytes of a file, or that a server sends the doctor; and of a message with sessions.

#![allow(clippy::panic)] // a fuzz entry has no other way to say no

use crate::bundle::acme::{Plan, file_name, told};
use crate::bundle::pem;
use crate::doctor::{dns, packets as client};
use crate::system::parcels::{self, DESCRIPTORS_MAX, SESSION_DESCRIPTORS_MAX};

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

/// Reads `bytes`; for fuzzing: no input panics, and none loses a section.
pub fn fuzz_pem(bytes: &[u8]) {
    let begins = bytes.windows(10).filter(|window| window == b"-----BEGIN").count();
    match pem::read(bytes) {
        Ok(sections) => {
            assert!(sections.len() >= begins, "{} sections of {begins}", sections.len());
            assert!(sections.iter().all(|section| section.encrypted == section.der.is_empty()));
        }
        Err(error) => {
            let lines = 1 + bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
            assert!((1..=lines).contains(&error.line), "{error}");
            assert!(error.to_string().is_ascii());
        }
    }
}

/// Reads a file of nginx as `sanedge import npm` does; for fuzzing: it may not panic, whatever is in it.
pub fn fuzz_nginx(bytes: &[u8]) {
    crate::import::fuzz(bytes);
}

/// Reads what a run of `sanedge renew` left for the edge; for fuzzing: bounds hold, and what is read is read again as the same.
pub fn fuzz_acme_status(data: &[u8]) {
    let Some(found) = told::decode(data) else { return };
    assert!(found.failures.len() <= told::CODES_MAX);
    for name in found.certificates.iter().flat_map(|one| &one.names) {
        assert!(file_name(name).is_some(), "a name that no host has");
    }
    let again = serde_json::to_vec(&found).unwrap_or_default();
    assert_eq!(told::decode(&again), Some(found), "what was read is written as something else");
}

/// Reads an `x.acme`; for fuzzing: what is read is written as the same, and each of its names can be a file's.
pub fn fuzz_acme_plan(data: &[u8]) {
    match Plan::decode(data) {
        Ok(plan) => {
            let names = plan.certificates.iter().flat_map(|wanted| &wanted.names);
            assert!(names.clone().all(|name| file_name(name).is_some()), "a name that no host has");
            assert_eq!(Plan::decode(&plan.encode()), Ok(plan), "what was read is written as something else");
        }
        Err(error) => assert!(error.is_ascii() && error.len() < 200, "{error}"),
    }
}

/// Reads a message with sessions as if it had just been stored; for fuzzing. It does not panic, and each session has at most four descriptors.
/// A message without a damaged record is the same when it is written again.
pub fn fuzz_parcels(bytes: &[u8]) {
    let stored = bytes.get(10..).and_then(<[u8]>::first_chunk).map_or(0, |time| u64::from_le_bytes(*time));
    let now = std::time::Duration::from_nanos(stored);
    let head = parcels::Head::read(bytes, now);
    let Ok(sessions) = parcels::read(bytes, now) else { return };
    let descriptors: usize = sessions.iter().map(|session| session.descriptors).sum();
    assert!(descriptors <= DESCRIPTORS_MAX);
    assert_eq!(head, Ok(parcels::Head { sessions: sessions.len(), descriptors }));
    assert!(sessions.iter().all(|session| session.descriptors <= SESSION_DESCRIPTORS_MAX));
    let whole: Option<Vec<(usize, &[u8])>> =
        sessions.iter().map(|session| Some((session.descriptors, session.record?))).collect();
    if let Some(whole) = whole {
        assert!(*parcels::write(now, whole.into_iter()) == bytes, "read and written again, it is another");
    }
}
