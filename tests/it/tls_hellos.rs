//! Hellos and records that no honest client sends: what each gets, and that nobody else notices.

use std::time::Duration;

use crate::support::HOST;
use crate::support::edge::{Edge, PATIENCE, client_config};
use crate::support::engineio::Socket;
use crate::support::raw::Raw;
use crate::support::upstream::{Connection, Upstream};
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The first that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// A handshake record: the hello was taken.
    Hello,
    /// A fatal alert with this description (RFC 8446 §6).
    Alert(u8),
    /// The end, without a word.
    End,
}
use Answer::{Alert, End, Hello as Taken};

const UNEXPECTED_MESSAGE: Answer = Alert(10);
const RECORD_OVERFLOW: Answer = Alert(22);
const HANDSHAKE_FAILURE: Answer = Alert(40);
const ILLEGAL_PARAMETER: Answer = Alert(47);
const DECODE_ERROR: Answer = Alert(50);
const PROTOCOL_VERSION: Answer = Alert(70);
const INAPPROPRIATE_FALLBACK: Answer = Alert(86);
const UNRECOGNIZED_NAME: Answer = Alert(112);

/// A ClientHello in its parts (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2).
#[derive(Clone)]
struct Parts {
    version: [u8; 2],
    suites: Vec<u16>,
    compressions: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
    /// Behind the last extension, within the message.
    behind: Vec<u8>,
}

fn vector<const N: usize>(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_be_bytes();
    [&length[8 - N..], bytes].concat()
}

fn names(names: &[&[u8]]) -> Vec<u8> {
    let entries: Vec<u8> = names.iter().flat_map(|name| [vec![0], vector::<2>(name)].concat()).collect();
    vector::<2>(&entries)
}

impl Parts {
    /// One that is answered with TLS 1.2.
    fn tls12() -> Self {
        Self {
            version: [3, 3],
            suites: vec![0xc02b, 0xc02f],
            compressions: vec![0],
            extensions: vec![
                (0, names(&[HOST.as_bytes()])),
                (10, vec![0, 2, 0, 29]),
                (11, vec![1, 0]),
                (13, vec![0, 4, 4, 3, 8, 4]),
            ],
            behind: Vec::new(),
        }
    }

    /// One that is answered with TLS 1.3.
    fn tls13() -> Self {
        let mut parts = Self::tls12().with(43, vec![2, 3, 4]);
        parts.suites = vec![0x1301, 0x1303];
        // The base point of X25519: a share that somebody could have.
        let share = [&[0, 29, 0, 32, 9][..], &[0; 31]].concat();
        parts.with(51, vector::<2>(&share))
    }

    /// One with these shares, whose groups are in the same order.
    fn sharing(shares: &[(u16, &[u8])]) -> Self {
        let groups: Vec<u8> = shares.iter().flat_map(|(group, _)| group.to_be_bytes()).collect();
        let entry = |(group, share): &(u16, &[u8])| [&group.to_be_bytes()[..], &vector::<2>(share)].concat();
        let entries: Vec<u8> = shares.iter().flat_map(entry).collect();
        let parts = Self::tls13().without(10).without(51);
        parts.with(10, vector::<2>(&groups)).with(51, vector::<2>(&entries))
    }

    fn with(mut self, kind: u16, body: Vec<u8>) -> Self {
        self.extensions.push((kind, body));
        self
    }

    fn without(mut self, kind: u16) -> Self {
        self.extensions.retain(|(found, _)| *found != kind);
        self
    }

    fn named(self, body: Vec<u8>) -> Self {
        self.without(0).with(0, body)
    }

    fn change(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The handshake message.
    fn message(&self) -> Vec<u8> {
        let suites: Vec<u8> = self.suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|(kind, body)| [&kind.to_be_bytes()[..], &vector::<2>(body)].concat())
            .collect();
        let body = [
            &self.version[..],
            &[7; 32],
            &vector::<1>(&[9; 32]),
            &vector::<2>(&suites),
            &vector::<1>(&self.compressions),
            &vector::<2>(&extensions),
            &self.behind,
        ]
        .concat();
        [vec![1], vector::<3>(&body)].concat()
    }

    /// In one record.
    fn record(&self) -> Vec<u8> {
        record(22, [3, 1], &self.message())
    }

    /// In records of `size` bytes of it.
    fn records(&self, size: usize) -> Vec<u8> {
        self.message().chunks(size).flat_map(|piece| record(22, [3, 1], piece)).collect()
    }
}

fn record(kind: u8, version: [u8; 2], body: &[u8]) -> Vec<u8> {
    [&[kind][..], &version, &vector::<2>(body)].concat()
}

/// A hello with shares but without `supported_versions`: a client that is not understood so can still have TLS 1.2.
fn sharing_in_tls12(hybrid: &[u8], point: &[u8]) -> Vec<u8> {
    let parts = Parts::sharing(&[(0x11ec, hybrid), (29, point)]).without(43);
    parts.change(|parts| parts.suites = vec![0xc02b]).record()
}

/// What the edge answers to `bytes`; after an alert comes the end, and nothing but it.
async fn answer(edge: &Edge, bytes: &[u8], end: bool) -> Answer {
    let mut client = TcpStream::connect(edge.https).await.unwrap();
    client.set_nodelay(true).unwrap();
    // Refused half way, it may not take the rest.
    let _ = client.write_all(bytes).await;
    if end {
        let _ = client.shutdown().await;
    }
    let mut said = [0; 7];
    let read = timeout(PATIENCE, client.read_exact(&mut said)).await.expect("an answer or an end");
    match (read, said) {
        (Ok(_), [22, 3, ..]) => Taken,
        (Ok(_), [21, 3, _, 0, 2, 2, description]) => {
            let mut more = Vec::new();
            let _ = timeout(PATIENCE, client.read_to_end(&mut more)).await.expect("an end behind an alert");
            assert!(more.is_empty(), "{more:?}");
            Alert(description)
        }
        (Ok(_), other) => panic!("{other:?}"),
        (Err(_), _) => End,
    }
}

async fn edge() -> (Edge, Upstream) {
    let upstream = Upstream::scripted(async |mut connection: Connection| {
        while let Some(request) = connection.request().await {
            if request.head.contains("/slow") {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    (Edge::certified_for(&[HOST]).site(&[HOST], &upstream).start(), upstream)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_odd_hello_gets_its_alert() {
    let (edge, _upstream) = edge().await;
    let (v12, v13) = (Parts::tls12, Parts::tls13);
    let name = |bytes: &[u8]| v13().named(names(&[bytes])).record();
    let suites = |some: &[u16]| v12().change(|parts| parts.suites = some.to_vec()).record();
    let sslv2 = [&[0x80, 0x2e, 1, 3, 3, 0, 3, 0, 0, 0, 32, 0, 0xc0, 0x2b][..], &[7; 32]].concat();
    // X25519MLKEM768, 0x11ec: an encapsulation key whose coefficients are all 0, and the base point.
    let point = [&[9][..], &[0; 31]].concat();
    let hybrid = [&[0; 1184][..], &point].concat();
    let sharing = |share: &[u8]| Parts::sharing(&[(0x11ec, share), (29, &*point)]).record();
    let rows: Vec<(&str, Vec<u8>, Answer)> = vec![
        ("TLS 1.2", v12().record(), Taken),
        ("TLS 1.3", v13().record(), Taken),
        ("a byte a record", v13().records(1), Taken),
        ("seven bytes a record", v12().records(7), Taken),
        ("a record of TLS 1.0", record(22, [3, 1], &v13().message()), Taken),
        ("a record of TLS 1.2", record(22, [3, 3], &v13().message()), Taken),
        ("a record of a version to come", record(22, [3, 9], &v13().message()), Taken),
        ("a record of no TLS", record(22, [9, 9], &v13().message()), DECODE_ERROR),
        ("an empty record first", [record(22, [3, 1], b""), v13().record()].concat(), DECODE_ERROR),
        ("empty records alone", record(22, [3, 1], b"").repeat(1000), DECODE_ERROR),
        ("SSLv2", sslv2, DECODE_ERROR),
        ("a record of 64 KiB", [&[22, 3, 1, 0xff, 0xff][..], &[1; 4000]].concat(), RECORD_OVERFLOW),
        (
            "a hello of 64 KiB in records",
            record(22, [3, 1], &[&[1, 0, 0xff, 0xff][..], &[0; 4087]].concat()).repeat(4),
            DECODE_ERROR,
        ),
        ("TLS 1.2 after something newer failed", suites(&[0xc02b, 0x5600]), INAPPROPRIATE_FALLBACK),
        ("TLS 1.3 and the mark of that", v13().change(|parts| parts.suites.push(0x5600)).record(), Taken),
        (
            "a signature that the key has not",
            v12().without(13).with(13, vec![0, 2, 5, 3]).record(),
            HANDSHAKE_FAILURE,
        ),
        (
            "a hello of 16 MiB",
            record(22, [3, 1], &[&[1, 0xff, 0xff, 0xff][..], &[0; 4000]].concat()),
            DECODE_ERROR,
        ),
        (
            "a Finished first",
            record(22, [3, 3], &[&[20, 0, 0, 12][..], &[0; 12]].concat()),
            UNEXPECTED_MESSAGE,
        ),
        ("a ServerHello first", record(22, [3, 1], &[2, 0, 0, 0]), UNEXPECTED_MESSAGE),
        ("a HelloRequest first", record(22, [3, 1], &[0, 0, 0, 0]), UNEXPECTED_MESSAGE),
        ("a message of no kind first", record(22, [3, 1], &[99, 0, 0, 0]), UNEXPECTED_MESSAGE),
        (
            "a message_hash first",
            record(22, [3, 4], &[&[254, 0, 0, 32][..], &[0; 32]].concat()),
            UNEXPECTED_MESSAGE,
        ),
        ("another message, and its first byte alone", record(22, [3, 3], &[20]), UNEXPECTED_MESSAGE),
        (
            "another message, a record without its end",
            record(22, [3, 3], &[20; 100])[..6].to_vec(),
            UNEXPECTED_MESSAGE,
        ),
        (
            "another message, a byte a record",
            [20, 0, 0, 12].iter().flat_map(|byte| record(22, [3, 3], &[*byte])).collect(),
            UNEXPECTED_MESSAGE,
        ),
        (
            "another message of 16 MiB",
            record(22, [3, 3], &[&[11, 0xff, 0xff, 0xff][..], &[0; 4000]].concat()),
            UNEXPECTED_MESSAGE,
        ),
        (
            "another message and a hello",
            record(22, [3, 3], &[&[20, 0, 0, 0][..], &v13().message()].concat()),
            UNEXPECTED_MESSAGE,
        ),
        (
            "an empty record and another message",
            [record(22, [3, 1], b""), record(22, [3, 1], &[20, 0, 0, 0])].concat(),
            DECODE_ERROR,
        ),
        (
            "another message in a record too long",
            [&[22, 3, 3, 0x40, 1][..], &[20; 100]].concat(),
            RECORD_OVERFLOW,
        ),
        ("a record of 16 KiB and a byte", [&[22, 3, 1, 0x40, 1][..], &[1; 100]].concat(), RECORD_OVERFLOW),
        ("a heartbeat first", record(24, [3, 3], &[1, 0, 4, 0, 0, 0, 0]), UNEXPECTED_MESSAGE),
        ("application data first", record(23, [3, 3], b"GET / HTTP/1.1"), UNEXPECTED_MESSAGE),
        ("change_cipher_spec first", [record(20, [3, 3], &[1]), v13().record()].concat(), UNEXPECTED_MESSAGE),
        ("an alert first", record(21, [3, 3], &[2, 40]), End),
        ("a record of no kind", record(99, [3, 3], b"x"), UNEXPECTED_MESSAGE),
        ("a record of kind 0", record(0, [3, 3], b"x"), UNEXPECTED_MESSAGE),
        ("TLS 1.1", v12().change(|parts| parts.version = [3, 2]).record(), PROTOCOL_VERSION),
        ("TLS 1.0", v12().change(|parts| parts.version = [3, 1]).record(), PROTOCOL_VERSION),
        ("SSL 3", v12().change(|parts| parts.version = [3, 0]).record(), PROTOCOL_VERSION),
        ("only versions to come", v13().without(43).with(43, vec![2, 3, 5]).record(), PROTOCOL_VERSION),
        ("no versions at all", v13().without(43).with(43, vec![0]).record(), DECODE_ERROR),
        ("no suite in common", suites(&[0x1305, 0xc0ff]), HANDSHAKE_FAILURE),
        ("no suites", suites(&[]), DECODE_ERROR),
        ("RSA key exchange", suites(&[0x009c, 0x002f]), HANDSHAKE_FAILURE),
        ("DHE", suites(&[0x009e, 0x0033]), HANDSHAKE_FAILURE),
        ("CBC", suites(&[0xc009, 0xc013, 0xc023]), HANDSHAKE_FAILURE),
        ("RC4, 3DES, NULL, anonymous", suites(&[0xc011, 0xc012, 0xc010, 0xc018]), HANDSHAKE_FAILURE),
        ("no group in common", v12().without(10).with(10, vec![0, 2, 0, 1]).record(), HANDSHAKE_FAILURE),
        ("compression offered", v12().change(|parts| parts.compressions = vec![1, 0]).record(), Taken),
        ("compression alone", v12().change(|parts| parts.compressions = vec![1]).record(), ILLEGAL_PARAMETER),
        (
            "compression in TLS 1.3",
            v13().change(|parts| parts.compressions = vec![1, 0]).record(),
            ILLEGAL_PARAMETER,
        ),
        ("an extension twice", v13().with(10, vec![0, 2, 0, 29]).record(), DECODE_ERROR),
        ("the name twice", v13().with(0, names(&[HOST.as_bytes()])).record(), DECODE_ERROR),
        ("an extension that is not there", v13().with(43, vec![9]).record(), DECODE_ERROR),
        (
            "bytes behind the extensions",
            v13().change(|parts| parts.behind = vec![0; 9]).record(),
            DECODE_ERROR,
        ),
        ("an extension nobody knows", v13().with(0xfafa, vec![1, 2, 3]).record(), Taken),
        (
            "an invalid share",
            v13().without(51).with(51, vector::<2>(&[0, 29, 0, 2, 1, 2])).record(),
            ILLEGAL_PARAMETER,
        ),
        ("a hybrid share", sharing(&hybrid), Taken),
        ("a hybrid share alone", Parts::sharing(&[(0x11ec, &*hybrid)]).record(), Taken),
        ("a hybrid share, a byte a record", Parts::sharing(&[(0x11ec, &*hybrid)]).records(1), Taken),
        ("an empty hybrid share", sharing(b""), DECODE_ERROR),
        ("a hybrid share without its last byte", sharing(&hybrid[..1215]), ILLEGAL_PARAMETER),
        ("a hybrid share and a byte", sharing(&[&*hybrid, &[0]].concat()), ILLEGAL_PARAMETER),
        (
            "a hybrid share whose last coefficient is the modulus",
            // 3329 in the upper 12 bits of the last two of 1,152 bytes (FIPS 203 §4.2.1).
            sharing(&[&hybrid[..1150], &[0x10, 0xd0], &hybrid[1152..]].concat()),
            ILLEGAL_PARAMETER,
        ),
        (
            "a hybrid share whose last coefficient is one less",
            sharing(&[&hybrid[..1150], &[0x00, 0xd0], &hybrid[1152..]].concat()),
            Taken,
        ),
        ("a hybrid share with point 0", sharing(&[0; 1216]), ILLEGAL_PARAMETER),
        ("a hybrid share twice", Parts::sharing(&[(0x11ec, &*hybrid); 2]).record(), ILLEGAL_PARAMETER),
        (
            "a hybrid share without its group",
            Parts::sharing(&[(0x11ec, &*hybrid), (29, &*point)])
                .without(10)
                .with(10, vec![0, 2, 0, 29])
                .record(),
            Taken,
        ),
        ("a hybrid share and TLS 1.2 alone", sharing_in_tls12(&hybrid, &point), Taken),
        ("two names", v13().named(names(&[HOST.as_bytes(), b"other.test"])).record(), DECODE_ERROR),
        ("an empty list of names", v13().named(vec![0, 0]).record(), DECODE_ERROR),
        ("an empty name", name(b""), DECODE_ERROR),
        ("a name in capitals", name(b"RECRE.Store"), Taken),
        ("a name with a dot behind", name(b"recre.store."), Taken),
        ("a name with NUL", name(b"recre.store\0.evil.test"), ILLEGAL_PARAMETER),
        ("a name of 300 bytes", name(&[b'a'; 300]), ILLEGAL_PARAMETER),
        ("an address as name", name(b"127.0.0.1"), UNRECOGNIZED_NAME),
        ("an IPv6 address as name", name(b"::1"), UNRECOGNIZED_NAME),
        ("a wildcard as name", name(b"*.store"), ILLEGAL_PARAMETER),
        ("a name that is ours and more", name(b"recre.store.evil.test"), UNRECOGNIZED_NAME),
        ("a name of UTF-8", name("recré.store".as_bytes()), ILLEGAL_PARAMETER),
        ("no name", v13().without(0).record(), UNRECOGNIZED_NAME),
    ];
    let mut open = Raw::open(&edge, HOST).await;
    let mut wrong = Vec::new();
    for (what, bytes, wanted) in &rows {
        let found = answer(&edge, bytes, false).await;
        if found != *wanted {
            wrong.push(format!("{what}: expected {wanted:?}, found {found:?}"));
        }
        open.get(HOST, "/", "").await.assert_apps(200, "ok");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(rows.len(), 82);
    drop(open);
    edge.stop();
}

/// The group in the ServerHello: of two shares the edge takes the hybrid one, wherever it stands.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_shares_does_not_matter() {
    let (edge, _upstream) = edge().await;
    let point = [&[9][..], &[0; 31]].concat();
    let hybrid = [&[0; 1184][..], &point].concat();
    for (shares, group) in [
        (&[(0x11ec, &*hybrid), (29, &*point)][..], [0x11, 0xec]),
        (&[(29, &*point), (0x11ec, &*hybrid)], [0x11, 0xec]),
        (&[(29, &*point)], [0, 29]),
    ] {
        let mut client = TcpStream::connect(edge.https).await.unwrap();
        client.write_all(&Parts::sharing(shares).record()).await.unwrap();
        let mut header = [0; 5];
        client.read_exact(&mut header).await.unwrap();
        let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        client.read_exact(&mut hello).await.unwrap();
        // `key_share` with the group and a share of its length (RFC 8446 §4.2.8).
        let length: u16 = if group == [0, 29] { 32 } else { 1120 };
        let [high, low] = length.to_be_bytes();
        let wanted = [&[0, 51][..], &(length + 4).to_be_bytes(), &group, &[high, low]].concat();
        assert!(hello.windows(wanted.len()).any(|bytes| bytes == wanted), "{group:?}: {hello:?}");
    }
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_is_cut_anywhere_ends_without_waiting() {
    let (edge, _upstream) = edge().await;
    let whole = Parts::tls13().record();
    let started = std::time::Instant::now();
    for cut in (0..whole.len()).step_by(7) {
        assert_eq!(answer(&edge, &whole[..cut], true).await, End, "{cut} of {} bytes", whole.len());
    }
    assert!(started.elapsed() < PATIENCE, "none of them waited for handshake_timeout");
    assert_eq!(answer(&edge, &whole, true).await, Taken, "who has said it all is answered");
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_hello_is_no_way_to_negotiate_again() {
    let (edge, _upstream) = edge().await;
    for parts in [Parts::tls12(), Parts::tls13()] {
        let mut client = TcpStream::connect(edge.https).await.unwrap();
        client.write_all(&parts.record()).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), 22);
        client.write_all(&parts.record()).await.unwrap();
        let mut said = Vec::new();
        let _ = timeout(PATIENCE, client.read_to_end(&mut said)).await.expect("an end");
        // In TLS 1.3 the alert is sealed.
        assert!(said.len() > 7, "{said:?}");
    }
    edge.stop();
}

/// A session of TLS 1.3 that can send what its client would not.
async fn opened(edge: &Edge) -> Raw {
    let mut client = Raw::open(edge, HOST).await;
    client.get(HOST, "/", "").await.assert_apps(200, "ok");
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_say_nothing_are_bounded() {
    let (edge, _upstream) = edge().await;
    let mut witness = Raw::open(&edge, HOST).await;
    // Some are as the standard has it (RFC 8446 §4.6.3, §5.1, appendix D.4): 32 are fine.
    let mut client = opened(&edge).await;
    for _ in 0..32 {
        client.stream.get_mut().1.refresh_traffic_keys().unwrap();
    }
    client.get(HOST, "/", "").await.assert_apps(200, "ok");
    for many in [100, 10_000] {
        // Key updates.
        let mut client = opened(&edge).await;
        for _ in 0..many {
            client.stream.get_mut().1.refresh_traffic_keys().unwrap();
        }
        let _ = client.try_send(b"GET / HTTP/1.1\r\nHost: recre.store\r\n\r\n").await;
        assert!(client.until_ended().await.is_empty(), "{many} key updates are no request");
        // What TLS 1.3 has for old middleboxes, after the handshake; and empty records of data in the clear.
        for said in [record(20, [3, 3], &[1]), record(23, [3, 3], b""), record(21, [3, 3], &[1, 0])] {
            let mut client = opened(&edge).await;
            let _ = client.stream.get_mut().0.write_all(&said.repeat(many)).await;
            assert!(client.until_ended().await.is_empty(), "{many} of {said:?}");
        }
        // The same before the handshake is complete.
        for said in [record(20, [3, 3], &[1]), record(21, [3, 3], &[1, 90])] {
            let flight = [Parts::tls13().record(), said.repeat(many)].concat();
            let mut client = TcpStream::connect(edge.https).await.unwrap();
            let _ = client.write_all(&flight).await;
            let mut answer = Vec::new();
            let _ = timeout(PATIENCE, client.read_to_end(&mut answer)).await.expect("an end");
        }
        witness.get(HOST, "/", "").await.assert_apps(200, "ok");
    }
    drop((client, witness));
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn close_notify_is_answered_and_nothing_behind_it_is_read() {
    let (edge, upstream) = edge().await;
    let mut client = opened(&edge).await;
    // With a request in the same breath, and one behind the end.
    client.stream.get_mut().1.send_close_notify();
    let _ = client.stream.flush().await;
    let _ = client.stream.get_mut().0.write_all(&[23, 3, 3, 0, 20].repeat(50)).await;
    client.until_ended().await;
    // Said by itself it closes one direction: the client may wait for its answer.
    for path in ["/", "/slow"] {
        let mut client = opened(&edge).await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: recre.store\r\n\r\n")).await;
        client.stream.get_mut().1.send_close_notify();
        client.stream.flush().await.unwrap();
        client.response().await.assert_apps(200, "ok");
        client.closed().await;
    }
    // One that has asked and then ends the connection as well is gone, as for nginx: it may hear the answer, and waits for nothing.
    for proper in [true, false] {
        let mut client = opened(&edge).await;
        client.send("GET / HTTP/1.1\r\nHost: recre.store\r\nConnection: close\r\n\r\n").await;
        if proper {
            client.stream.get_mut().1.send_close_notify();
            client.stream.flush().await.unwrap();
        }
        client.stream.get_mut().0.shutdown().await.unwrap();
        let answer = client.until_ended().await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    }
    assert!(upstream.count("GET") >= 5);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_head_may_come_a_byte_a_record() {
    let (edge, _upstream) = edge().await;
    let mut client = Raw::open(&edge, HOST).await;
    let head = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Long: {}\r\n\r\n", "x".repeat(15_000));
    for byte in head.as_bytes().chunks(1) {
        client.stream.write_all(byte).await.unwrap();
    }
    client.stream.flush().await.unwrap();
    client.response().await.assert_apps(200, "ok");
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn hellos_without_end_hold_up_no_open_session() {
    // Each of them costs a signature; nobody reads the answers.
    let app = crate::support::engineio::serve_default().await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], app).limits("workers = 1").start();
    let mut socket = Socket::open(&edge, HOST, "").await;
    socket.join("/").await;
    let hello = Parts::tls13().record();
    let mut waiting = Vec::new();
    for round in 0..20 {
        for _ in 0..10 {
            let mut client = TcpStream::connect(edge.https).await.unwrap();
            client.write_all(&hello).await.unwrap();
            waiting.push(client);
        }
        socket.send(&format!(r#"42["echo",{round}]"#)).await;
        let answer = timeout(Duration::from_secs(10), socket.text()).await.expect("an echo");
        assert_eq!(answer, format!(r#"42["echo",{round}]"#));
    }
    for client in &mut waiting {
        assert_eq!(timeout(PATIENCE, client.read_u8()).await.expect("an answer").unwrap(), 22);
    }
    drop(waiting);
    assert!(
        client_config(&edge.desk().ca.pem)
            .crypto_provider()
            .cipher_suites
            .iter()
            .any(|s| s.version() == &TLS13)
    );
    edge.stop();
}
