//! The same bytes read by others: Node's own parser, and nginx and HAProxy as proxies before a recording upstream. Where
//! we would forward what one of them refuses, or read another body, we are laxer: that list is empty.
//!
//! Ours is not the program here but the machines of its sessions, without sockets: so tens of thousands of requests can be
//! tried. That they and the program agree is held against every row of the table of requests.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use sanedge::fuzz::messages::forwarded;
use sanedge::fuzz::simulated_edge::{SimulatedEdge, route};
use sanedge::http::body::BodyReader;
use sanedge::http::head::{HeadLimits, HeadScanner, parse_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::requests::{Then, rows};
use super::{HOST, bytes};
use crate::support::node::{has, skip};
use crate::support::peers::{self, Peer};
use crate::support::upstream::{Connection, Upstream};

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 16 * 1024, fields_max: 100, target_bytes_max: 8 * 1024 };

/// With what the edge adds.
const ROOMY: HeadLimits =
    HeadLimits { head_bytes_max: 32 * 1024, fields_max: 120, target_bytes_max: 8 * 1024 };

/// A request as somebody read it.
#[derive(Clone, Debug)]
struct Read {
    method: String,
    target: String,
    body: Vec<u8>,
}

impl Read {
    /// Targets may be written anew, by proxies more than by us.
    fn is(&self, other: &Self) -> bool {
        (&self.method, &self.body) == (&other.method, &other.body)
    }
}

/// The session's own machines, with a route for others only.
fn simulated_edge() -> SimulatedEdge {
    let mut private = route("/private/");
    private.allow.extend("192.0.2.0/24".parse::<IpNet>());
    SimulatedEdge::new(HOST, vec![private, route("/")], LIMITS)
}

/// What we forward of the first request in `bytes`, once it is complete.
fn ours(bytes: &[u8], edge: &SimulatedEdge) -> Option<Read> {
    let sent = edge.forwards(bytes)?;
    let end = HeadScanner::request().scan(&sent, &ROOMY).unwrap().unwrap();
    let head = parse_request(&sent[..end], &ROOMY).unwrap();
    let (method, target) = (head.method.to_owned(), head.target.to_owned());
    Some(Read { method, target, body: body_of(&sent, &ROOMY).unwrap() })
}

/// The body of the first request in `bytes`, once it is complete.
fn body_of(bytes: &[u8], limits: &HeadLimits) -> Option<Vec<u8>> {
    let end = HeadScanner::request().scan(bytes, limits).ok()??;
    let mut reader = BodyReader::new(parse_request(&bytes[..end], limits).ok()?.framing);
    let (mut at, mut body) = (end, Vec::new());
    while !reader.is_done() {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let step = reader.step(rest).ok()?;
        body.extend_from_slice(&rest[step.data.clone()]);
        at += step.consumed;
    }
    Some(body)
}

#[test]
fn a_session_on_the_desk_decides_as_the_table_says_of_the_program() {
    let edge = simulated_edge();
    for row in rows() {
        let forwarded = ours(&bytes(&row.request), &edge).is_some();
        let expected = matches!(row.then, Then::Same | Then::Becomes(_) | Then::Last(_));
        assert_eq!(forwarded, expected, "{}", row.name);
    }
}

/// Every request that is tried: the table's, and each of a few with a byte put in, taken out or doubled at every place.
fn tried() -> Vec<Vec<u8>> {
    let bases = [
        "GET /a/b?c=d HTTP/1.1\r\nHost: HOST\r\nX-Y: z\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello",
        "POST /a HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "GET https://HOST:443/a HTTP/1.1\r\nHost: HOST:443\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: HOST\r\nConnection: keep-alive\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: HOST\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ];
    let inserted: Vec<u8> = (0..0x30)
        .chain(0x3a..0x41)
        .chain(0x5b..0x61)
        .chain(0x7b..0x82)
        .chain(*b"05Aaxz\xa0\xc2\xe9\xff")
        .collect();
    let mut all: Vec<Vec<u8>> = rows().iter().map(|row| bytes(&row.request)).collect();
    for base in bases.iter().map(|base| bytes(base)) {
        for at in 0..=base.len() {
            let (front, back) = base.split_at(at);
            all.extend(inserted.iter().map(|byte| [front, &[*byte], back].concat()));
            if let Some((byte, rest)) = back.split_first() {
                all.push([front, rest].concat());
                all.push([front, &[*byte, *byte], rest].concat());
                all.extend(inserted.iter().map(|other| [front, &[*other], rest].concat()));
            }
        }
    }
    all.extend(twice_changed(&bases.map(bytes), &inserted));
    all.sort();
    all.dedup();
    all
}

/// As many with two bytes changed at places that a fixed seed chooses.
fn twice_changed(bases: &[Vec<u8>], inserted: &[u8]) -> Vec<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % bound as u64).unwrap()
    };
    let mut change = |request: &mut Vec<u8>| {
        let (at, byte) = (below(request.len()), inserted[below(inserted.len())]);
        match below(4) {
            0 => request[at] = byte,
            1 => drop(request.remove(at)),
            2 => {
                let from = below(request.len());
                let piece = request[from..(from + below(12)).min(request.len())].to_vec();
                request.splice(at..at, piece);
            }
            _ => request.insert(at, byte),
        }
    };
    let mut changed = |at: usize| {
        let mut request = bases[at % bases.len()].clone();
        change(&mut request);
        change(&mut request);
        request
    };
    (0..100_000).map(&mut changed).collect()
}

/// A proxy before an upstream that keeps what it is asked.
struct Proxy {
    peer: Peer,
    asked: Arc<Mutex<Option<Read>>>,
    _upstream: Upstream,
}

impl Proxy {
    async fn start(peer: impl FnOnce(&str) -> Peer) -> Self {
        let asked = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&asked);
        let upstream = Upstream::scripted(move |mut connection: Connection| {
            let keep = Arc::clone(&keep);
            async move {
                let Some(request) = connection.request().await else { return };
                let mut words = request.head.split(' ').map(str::to_owned);
                let (method, target) = (words.next().unwrap(), words.next().unwrap());
                *keep.lock().unwrap() = Some(Read { method, target, body: request.body });
                connection.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
            }
        })
        .await;
        Self { peer: peer(&upstream.address), asked, _upstream: upstream }
    }

    async fn reads(&self, request: &[u8]) -> Option<Read> {
        *self.asked.lock().unwrap() = None;
        let mut stream = UnixStream::connect(self.peer.path("s")).await.unwrap();
        let mut said = Vec::new();
        let _ = timeout(Duration::from_millis(300), async {
            stream.write_all(request).await?;
            while !is_final(&said) && stream.read_buf(&mut said).await? > 0 {}
            std::io::Result::Ok(())
        })
        .await;
        self.asked.lock().unwrap().take()
    }

    async fn reads_all(self, requests: Arc<Vec<Vec<u8>>>) -> Vec<Option<Read>> {
        let mut all = Vec::with_capacity(requests.len());
        for request in requests.iter() {
            all.push(self.reads(request).await);
        }
        all
    }
}

/// A head that is not interim has come.
fn is_final(said: &[u8]) -> bool {
    let text = String::from_utf8_lossy(said);
    text.split_inclusive("\r\n\r\n").any(|head| head.ends_with("\r\n\r\n") && !head.starts_with("HTTP/1.1 1"))
}

fn nginx(upstream: &str) -> Peer {
    peers::nginx(
        &format!(
            "client_header_buffer_size 64k; large_client_header_buffers 4 64k; client_header_timeout 1s; client_body_timeout 1s;\n\
            server {{ listen unix:FOLDER/s; location / {{ proxy_http_version 1.1; proxy_pass http://{upstream}; }} }}"
        ),
        "s",
    )
}

fn haproxy(upstream: &str) -> Peer {
    peers::haproxy(
        &format!(
            "listen l\n  bind unix@FOLDER/s\n  timeout http-request 1s\n  http-reuse never\n  server u {upstream}"
        ),
        "s",
    )
}

fn node_reads(requests: &[Vec<u8>]) -> Vec<Option<Read>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/smuggling/reads.mjs");
    let mut child =
        Command::new("node").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let encoded: Vec<String> = requests.iter().map(|request| STANDARD.encode(request)).collect();
    let mut stdin = child.stdin.take().unwrap();
    serde_json::to_writer(&mut stdin, &encoded).unwrap();
    stdin.flush().unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let read: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let one = |value: &serde_json::Value| {
        let body = STANDARD.decode(value["body"].as_str()?).unwrap();
        let text = |key: &str| Some(value[key].as_str()?.to_owned());
        Some(Read { method: text("method")?, target: text("target")?, body })
    };
    read.iter().map(one).collect()
}

/// What goes upstream, read by llhttp: the same method, target and body, of the table and of the fuzz target's corpus.
#[test]
fn what_goes_upstream_is_the_same_request_to_node() {
    if !has("node", "--version") {
        return skip("what_goes_upstream_is_the_same_request_to_node", "it needs node");
    }
    let mut requests: Vec<Vec<u8>> = rows().iter().map(|row| bytes(&row.request)).collect();
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/http_forward");
    for file in std::fs::read_dir(corpus).unwrap() {
        requests.extend(
            std::fs::read(file.unwrap().path()).unwrap().split_first().map(|(_, rest)| rest.to_vec()),
        );
    }
    let sent: Vec<(Vec<u8>, Vec<u8>)> =
        requests.iter().filter_map(|request| Some((request.clone(), forwarded(request)?))).collect();
    assert!(sent.len() > 100, "{} are forwarded", sent.len());
    let read = node_reads(&sent.iter().map(|(_, sent)| sent.clone()).collect::<Vec<_>>());
    for ((request, sent), read) in sent.iter().zip(read) {
        let end = HeadScanner::request().scan(request, &LIMITS).unwrap().unwrap();
        let head = parse_request(&request[..end], &LIMITS).unwrap();
        let read = read.unwrap_or_else(|| panic!("not read: {}", sent.escape_ascii()));
        assert_eq!(read.method, head.method);
        let target = head.query.map_or(head.path.to_owned(), |query| format!("{}?{query}", head.path));
        assert_eq!(read.target, target, "{}", sent.escape_ascii());
        assert_eq!(Some(read.body), body_of(request, &LIMITS), "{}", sent.escape_ascii());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_server_is_stricter() {
    let test = "no_other_server_is_stricter";
    if !peers::both_installed(test) {
        return;
    }
    if !has("node", "--version") {
        return skip(test, "it needs node");
    }
    let (all, edge) = (tried(), simulated_edge());
    let forwarded: Vec<(Vec<u8>, Read)> =
        all.iter().filter_map(|request| Some((request.clone(), ours(request, &edge)?))).collect();
    let requests = Arc::new(forwarded.iter().map(|(request, _)| request.clone()).collect::<Vec<_>>());
    let node = tokio::task::spawn_blocking({
        let requests = Arc::clone(&requests);
        move || node_reads(&requests)
    });
    let nginx = tokio::spawn(Proxy::start(nginx).await.reads_all(Arc::clone(&requests)));
    let haproxy = tokio::spawn(Proxy::start(haproxy).await.reads_all(Arc::clone(&requests)));
    let readers =
        [("node", node.await.unwrap()), ("nginx", nginx.await.unwrap()), ("haproxy", haproxy.await.unwrap())];
    let mut laxer: BTreeMap<String, usize> = BTreeMap::new();
    for (reader, read) in &readers {
        assert_eq!(read.len(), requests.len(), "{reader}");
        let took = read.iter().flatten().count();
        assert!(took * 2 > requests.len(), "{reader} took {took} of {}: it does not work", requests.len());
        for ((request, ours), theirs) in forwarded.iter().zip(read) {
            if theirs.as_ref().is_some_and(|theirs| theirs.is(ours)) {
                continue;
            }
            let text: String = request.iter().map(|&byte| char::from(byte)).collect();
            let what = if theirs.is_none() { "refuses" } else { "reads otherwise" };
            *laxer.entry(format!("{reader} {what} {}", text.escape_debug())).or_default() += 1;
        }
    }
    println!("{} requests, {} of them forwarded", all.len(), requests.len());
    let shown: Vec<&str> = laxer.keys().map(String::as_str).collect();
    assert!(shown.is_empty(), "laxer in {} places:\n{}", shown.len(), shown.join("\n"));
}
