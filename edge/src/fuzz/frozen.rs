//! What must hold for the record of a session, whatever its bytes are.

use std::time::Duration;

use serde::Serialize;

use crate::bundle::Upstream;
use crate::edge::net::tls::SavedTls;
use crate::edge::session::https;
use crate::edge::session::machine::Step;
use crate::edge::session::pace::Pace;
use crate::edge::session::relay::frozen::read_record;
use crate::edge::shared::handover::{Frozen, Kind};
use crate::edge::shared::sticky::{self, Sids};
use crate::edge::shared::upstreams::Upstreams;
use crate::fuzz::link::{epoch, link};
use crate::fuzz::simulated_edge::World;
use crate::record::{Ciphers, MESSAGE_BYTES_MAX};
use crate::ws::tracker::{Extensions, Rules};

const RULES: Rules =
    Rules { frame_bytes_max: 1000, message_bytes_max: 2000, check_utf8: true, extensions: Extensions::None };
const TIMES: (Option<Duration>, Option<Duration>) =
    (Some(Duration::from_secs(90)), Some(Duration::from_secs(25)));

/// Whether this version reads the record at the front of a seed, and writes the same.
pub fn round_trips(seed: &[u8]) -> bool {
    fn writes(read: Result<impl Serialize, &'static str>, record: &[u8]) -> bool {
        read.is_ok_and(|read| postcard::to_stdvec(&read).is_ok_and(|written| written == record))
    }
    let Some((record, _)) = split(seed) else { return false };
    match kind(record) {
        Some(Kind::Http) => writes(https::frozen::read_record(record), record),
        Some(Kind::Sids) => writes(sticky::read_record(record), record),
        _ => writes(read_record(record), record),
    }
}

/// A seed's record, whose length is in two bytes before it, and what follows.
fn split(seed: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, data) = seed.split_first_chunk::<2>()?;
    data.split_at_checked(u16::from_le_bytes(*length).into())
}

fn kind(record: &[u8]) -> Option<Kind> {
    Frozen { record: record.to_vec().into(), descriptors: Vec::new() }.kind()
}

/// Decryption and the layer's own messages succeed or fail, without a panic.
fn exercise(tls: &mut SavedTls, said: &[u8]) {
    let (mut ciphers, mut bytes) = (Ciphers::default(), said.to_vec());
    let _ = tls.layer().open(&mut ciphers, &mut bytes);
    let _ = tls.layer().rekey(&mut ciphers, &mut [0; MESSAGE_BYTES_MAX]);
    let _ = tls.layer().close(&mut [0; MESSAGE_BYTES_MAX]);
}

/// A resumed table can be frozen and resumed again.
fn resume_sids(record: &[u8]) {
    let (upstreams, sids) = (Upstreams::default(), Sids::new(epoch()));
    let state = upstreams.state(&Upstream::Address(([127, 0, 0, 1], 3002).into()));
    if sids.resume(record, [&state].into_iter(), epoch()).is_ok() {
        for again in sids.freeze([&state].into_iter(), epoch()) {
            assert!(Sids::new(epoch()).resume(&again.record, [&state].into_iter(), epoch()).is_ok());
        }
    }
}

/// A record, its length in two bytes before it, and what client and upstream send then: nothing panics, and it comes to an end.
pub fn fuzz_frozen(data: &[u8]) {
    let Some((record, said)) = split(data) else { return };
    match kind(record) {
        Some(Kind::WebSocket) => {}
        Some(Kind::Http) => {
            if let Ok((_, mut tls)) = https::frozen::read_record(record) {
                exercise(&mut tls, said);
            }
            return;
        }
        Some(Kind::Sids) => return resume_sids(record),
        Some(Kind::Silent | Kind::SilentPort80) | None => return,
    }
    let Ok((_, mut tls, machine, remaining)) = read_record(record) else { return };
    exercise(&mut tls, said);

    let mut now = epoch();
    let Ok(mut machine) = machine.resume(now, &RULES, TIMES, remaining) else { return };
    let world = World::new(Pace::new(Duration::from_secs(60), 256));
    let delay = Duration::from_millis(1);
    let ((client, mut client_end), (app, mut app_end)) = (link(now, delay), link(now, delay));
    let (up, down) = said.split_at(said.len() / 2);
    [(&client, up), (&app, down)]
        .into_iter()
        .filter(|(_, said)| !said.is_empty())
        .for_each(|(peer, said)| peer.say(said));
    let mut scratch = vec![0; 4096];
    for _ in 0..10_000 {
        [&client, &app].into_iter().for_each(|peer| peer.set_now(now));
        let step = machine.step(&now.into(), &mut client_end, &mut app_end, &mut scratch, &world);
        let Step::Wait(deadline, more) = step else { return };
        let arrives = [client.next(), app.next()].into_iter().flatten().filter(|at| *at > now);
        let next = deadline.into_iter().chain(arrives).min();
        now = match next {
            _ if more => now,
            Some(next) => next,
            None => return,
        };
    }
    unreachable!("nobody answers a Ping: it ends")
}
