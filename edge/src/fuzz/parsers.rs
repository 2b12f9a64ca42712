//! The small parsers: what holds for any bytes that they are given.

#![allow(clippy::panic)] // a fuzz entry has no other way to say no

use std::net::SocketAddr;

use crate::bundle::PostQuantum;
use crate::bundle::alpn;
use crate::bundle::wire;
use crate::engineio::{Asks, KEEP_MAX, LOOK_BYTES_MAX, Observed, OpenObserver, SID_BYTES_MAX};
use crate::hybrid::X25519MLKEM768;
use crate::hybrid::offer::Offer;
use crate::proxy_protocol::{Progress, V1_BYTES_MAX, V2_BYTES_MAX, header, parse};

/// Opens `data` as a file, and as a payload behind a header that fits it. Fuzz entry: nothing may panic.
pub fn fuzz_bundle_open(data: &[u8]) {
    let _ = wire::decode(data);
    let framed = [wire::header(data).as_slice(), data].concat();
    if let Ok(found) = wire::body(&framed).and_then(wire::read) {
        let _ = wire::assemble(&found, [0; 32]);
        let again =
            wire::write(&found).map(|file| wire::body(&file).and_then(wire::read).as_ref() == Ok(&found));
        assert_eq!(again, Ok(true), "what was read is written as something else");
    }
}

/// Entry of the fuzz target: any bytes, read in the steps that the edge reads them in.
pub fn fuzz_proxy_protocol(data: &[u8]) {
    let mut read = 0;
    let stepwise = loop {
        match parse(data.get(..read).unwrap_or_default()) {
            Ok(Progress::Wants(count)) => {
                assert!(count > 0, "no progress");
                if read + count > data.len() {
                    break None;
                }
                read += count;
            }
            outcome => break Some(outcome),
        }
    };
    assert!(read <= V2_BYTES_MAX.max(V1_BYTES_MAX));
    let whole = parse(data);
    match stepwise {
        None => assert!(!matches!(whole, Ok(Progress::Complete { .. })), "what was wanted was too much"),
        Some(outcome) => {
            assert_eq!(outcome, whole, "the header depends on where it is cut");
            if let Ok(Progress::Complete { bytes, client }) = outcome {
                assert_eq!(bytes, read, "read past the header");
                client.into_iter().for_each(assert_written_is_read);
            }
        }
    }
}

fn assert_written_is_read(client: SocketAddr) {
    for server in ["192.0.2.1:443", "[2001:db8::1]:443"].iter().filter_map(|text| text.parse().ok()) {
        for version in [1, 2] {
            let written = header(version, client, server);
            let complete = Progress::Complete { bytes: written.len(), client: Some(client) };
            assert_eq!(parse(&written), Ok(complete), "version {version}");
        }
    }
}

/// The entry of the fuzz target: whatever the cuts, the same is seen, and bounds hold.
pub fn fuzz_engineio_open(data: &[u8]) {
    for observer in [OpenObserver::body(), OpenObserver::frames()] {
        let whole = observer.clone().observe(data);
        let mut bytewise = observer.clone();
        let seen = data.chunks(1).map(|byte| bytewise.observe(byte)).find(|seen| *seen != Observed::More);
        let seen = seen.unwrap_or(Observed::More);
        // A number that is too large is refused as soon as it is, though its exponent may still be on the way.
        let refused_early = (&seen, &whole) == (&Observed::Else, &Observed::More);
        assert!(seen == whole || refused_early, "what is seen depends on the cuts: {seen:?}, {whole:?}");
        assert!(bytewise.held.len() <= LOOK_BYTES_MAX);
        if let Observed::Open(open) = whole {
            assert!((1..=SID_BYTES_MAX).contains(&open.sid.len()) && open.keep <= KEEP_MAX);
        }
    }
    let query = String::from_utf8_lossy(data);
    if let Asks::Session(sid) = Asks::by_query(&query) {
        // A byte that is no UTF-8 becomes a character of three.
        assert!((1..=3 * SID_BYTES_MAX).contains(&sid.len()));
    }
}

/// What a client sends of X25519MLKEM768. Fuzz entry: a share is answered or refused, and the hello that offers it is read as rustls reads it.
pub fn fuzz_hybrid_share(data: &[u8]) {
    match X25519MLKEM768.start_and_complete(data) {
        Ok(done) => {
            assert_eq!((data.len(), done.pub_key.len(), done.secret.secret_bytes().len()), (1216, 1120, 64));
        }
        Err(error) => assert_eq!(error, rustls::PeerMisbehaved::InvalidKeyShare.into()),
    }
    let offer = Offer::of(data);
    assert!(offer.is_taken(PostQuantum::Prefer) || !offer.is_taken(PostQuantum::Auto));
    assert!(!offer.is_taken(PostQuantum::Off));
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = data;
    while !rest.is_empty() && acceptor.read_tls(&mut rest).is_ok_and(|count| count > 0) {}
    if let Ok(Some(accepted)) = acceptor.accept() {
        let hello = accepted.client_hello();
        let group =
            hello.named_groups().is_some_and(|groups| groups.contains(&rustls::NamedGroup::X25519MLKEM768));
        assert_eq!(offer.group, group, "rustls reads other groups");
        // The same message in records of another size.
        if let [22, _, _, high, low, message @ ..] = data
            && let Some(message) = message.get(..usize::from(u16::from_be_bytes([*high, *low])))
        {
            let pieces =
                message.chunks(7).flat_map(|piece| [&[22, 3, 1, 0, piece.len() as u8], piece].concat());
            let cut: Vec<u8> = pieces.chain(data.iter().skip(5 + message.len()).copied()).collect();
            assert_eq!(Offer::of(&cut), offer, "the offer depends on where it is cut");
        }
    }
}

/// Reads a list of tls-alpn-01 challenges; for fuzzing: what is read is what is written, within its bounds.
pub fn fuzz_acme_alpn(data: &[u8]) {
    if let Some(proofs) = alpn::decode(data) {
        assert!(proofs.len() <= alpn::PROOFS_MAX && data.len() <= alpn::BYTES_MAX);
        assert_eq!(alpn::encode(&proofs).as_bytes(), data, "what was read is written as something else");
        for proof in &proofs {
            let name = alpn::server_name(&proof.host);
            assert!(!name.is_empty() && name.len() <= 253, "{name}");
        }
    }
}
