//! What a start and a reload pay for the bundle: opening one with 16 hosts, each with a P-256 key and certificate of its own.
//!
//! `cargo bench --bench bundle_open`; in instructions `tests/instructions/run`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

#[allow(dead_code, unreachable_pub)] // the tests of `it` use all of it
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sanedge::bundle::{Bundle, file};
use support::edge::{Desk, Edge};
use zeroize::Zeroizing;

const HOSTS: usize = 16;

fn desk() -> Desk {
    let hosts: Vec<String> = (0..HOSTS).map(|n| format!("host{n}.recre.store")).collect();
    let edge =
        hosts[1..].iter().fold(Edge::certified_for(&[&hosts[0]]), |edge, host| edge.certificate(&[host]));
    let desk = hosts.iter().fold(edge, |edge, host| edge.site(&[host], "127.0.0.1:9")).write();
    desk.bundled();
    desk
}

fn open(c: &mut Criterion) {
    let desk = desk();
    let (path, bytes) = (desk.bundle_file(), file::read(&desk.bundle_file()).unwrap());
    let mut group = c.benchmark_group("bundle");
    group.bench_function("open, 16 hosts", |b| b.iter(|| Bundle::open(black_box(&path)).unwrap()));
    group.bench_function("decode, 16 hosts", |b| {
        b.iter(|| Bundle::decode(Zeroizing::new(black_box(&bytes).to_vec())).unwrap())
    });
    group.finish();
}

criterion_group!(benches, open);
criterion_main!(benches);
