//! What the tracker costs a frame, small and large, as the relay hands it what it has read.
//!
//! `cargo bench --bench frame`
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sanedge::ws::frame::{close_frame, decode};
use sanedge::ws::tracker::{Direction, Extensions, Rules, Then, Tracker};

const RULES: Rules = Rules {
    frame_bytes_max: 1 << 20,
    message_bytes_max: 1 << 20,
    check_utf8: false,
    extensions: Extensions::Deflate,
};
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a relay reads at once.
const READ_BYTES: usize = 16_384;

fn text(payload_bytes: usize, direction: Direction) -> Vec<u8> {
    let masked = direction == Direction::FromClient;
    let bit = if masked { 0x80 } else { 0 };
    let mut frame = vec![0x81];
    match payload_bytes {
        0..126 => frame.push(bit | u8::try_from(payload_bytes).unwrap()),
        126..65_536 => {
            frame.push(bit | 126);
            frame.extend(u16::try_from(payload_bytes).unwrap().to_be_bytes());
        }
        _ => {
            frame.push(bit | 127);
            frame.extend(u64::try_from(payload_bytes).unwrap().to_be_bytes());
        }
    }
    let key = if masked { KEY } else { [0; 4] };
    frame.extend(KEY.into_iter().filter(|_| masked));
    frame.extend(key.iter().cycle().take(payload_bytes).map(|byte| b'x' ^ byte));
    frame
}

/// Tracks `bytes` as reads of [`READ_BYTES`].
fn track(tracker: &mut Tracker, bytes: &[u8]) -> usize {
    bytes
        .chunks(READ_BYTES)
        .map(|read| {
            let tracked = tracker.track(black_box(read));
            assert_eq!(tracked.then, Then::More);
            tracked.released.len() + tracked.pass
        })
        .sum()
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Elements(1));
    let header = text(1000, Direction::FromClient);
    group.bench_function("decode", |b| b.iter(|| decode(black_box(&header)).unwrap()));
    group.bench_function("close", |b| b.iter(|| close_frame(1001, black_box("going away"), Some(KEY))));
    group.finish();
}

fn sequences(c: &mut Criterion) {
    let mut group = c.benchmark_group("track");
    let utf8 = Rules { check_utf8: true, ..RULES };
    for (name, rules) in [("", RULES), (", UTF-8 checked", utf8)] {
        for direction in [Direction::FromClient, Direction::FromUpstream] {
            for (frames, payload_bytes) in [(1, 64), (100, 64), (1, 65_536)] {
                let bytes = text(payload_bytes, direction).repeat(frames);
                let mut tracker = Tracker::new(direction, rules);
                let id = BenchmarkId::new(
                    format!("{direction:?}{name}"),
                    format!("{frames} of {payload_bytes} bytes"),
                );
                group.throughput(Throughput::Elements(frames as u64));
                group.bench_function(id, |b| b.iter(|| track(&mut tracker, &bytes)));
            }
        }
    }
    group.finish();
}

criterion_group!(benches, frames, sequences);
criterion_main!(benches);
