//! A head from its bytes to the slices that go upstream, and a chunked body: what every exchange pays in our own code.
//!
//! `cargo bench --bench head`
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::hint::black_box;
use std::io::IoSlice;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sanedge::http::body::{BodyReader, Framing};
use sanedge::http::forward::{ForwardContext, Plan, ResponseForm, request_plan, response_head};
use sanedge::http::head::{HeadLimits, HeadScanner, Version, parse_request, parse_response};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 16_384, fields_max: 64, target_bytes_max: 8192 };

/// A poll as Chromium sends it.
const POLL: &[u8] = b"GET /socket.io/?EIO=4&transport=polling&t=P8xQ2aZ&sid=Zb0c1pVZ0kJQm3bGAAAC HTTP/1.1\r\n\
Host: socket.recre.store\r\nConnection: keep-alive\r\nsec-ch-ua-platform: \"Linux\"\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
Accept: */*\r\nsec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n\
Origin: https://recre.store\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n\
Referer: https://recre.store/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: de-DE,de;q=0.9\r\n\
Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n";

/// A poll's answer as Node sends it.
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: 118\r\n\
cache-control: no-store\r\nAccess-Control-Allow-Origin: https://recre.store\r\nVary: Origin\r\n\
Access-Control-Allow-Credentials: true\r\nDate: Mon, 23 Nov 2026 03:14:15 GMT\r\nConnection: keep-alive\r\n\
Keep-Alive: timeout=5\r\n\r\n";

const FORM: ResponseForm<'static> = ResponseForm {
    client_version: Version::Http11,
    keep_alive: true,
    framing_out: Framing::Length(118),
    websocket: false,
    changes: None,
};

fn plan(head: &[u8]) -> Plan {
    let request = parse_request(head, &LIMITS).unwrap();
    let peer = "192.168.0.9".parse().unwrap();
    let context = ForwardContext {
        peer,
        trusted_proxies: &[],
        public_https_port: 443,
        websocket: false,
        extensions: true,
        strip_bytes: 0,
    };
    request_plan(&request, &context).unwrap()
}

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("head");
    group.throughput(Throughput::Bytes(POLL.len() as u64));
    group.bench_function("scan", |b| {
        b.iter(|| HeadScanner::request().scan(black_box(POLL), &LIMITS).unwrap())
    });
    group.bench_function("scan and parse", |b| {
        b.iter(|| parse_request(black_box(POLL), &LIMITS).unwrap().framing)
    });
    group.bench_function("parse and plan", |b| {
        b.iter(|| {
            let plan = plan(black_box(POLL));
            let mut slices: heapless::Vec<IoSlice<'_>, 16> = heapless::Vec::new();
            plan.slices(POLL, 0, &mut slices);
            slices.len()
        });
    });
    let mut out = Vec::with_capacity(4096);
    group.bench_function("response", |b| {
        b.iter(|| {
            out.clear();
            response_head(&parse_response(black_box(ANSWER), false, &LIMITS).unwrap(), &FORM, &mut out);
            out.len()
        });
    });
    group.finish();
}

fn bodies(c: &mut Criterion) {
    let chunk = [b"1000\r\n".as_slice(), &[b'x'; 4096], b"\r\n"].concat();
    let body = [chunk.repeat(16), b"0\r\n\r\n".to_vec()].concat();
    let mut group = c.benchmark_group("body");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("chunked 64 KiB", |b| {
        b.iter(|| {
            let mut reader = BodyReader::new(Framing::Chunked);
            let mut rest = black_box(body.as_slice());
            let mut data_bytes = 0;
            while !reader.is_done() {
                let step = reader.step(rest).unwrap();
                data_bytes += step.data.len();
                rest = rest.split_at(step.consumed).1;
            }
            data_bytes
        });
    });
    group.finish();
}

criterion_group!(benches, heads, bodies);
criterion_main!(benches);
