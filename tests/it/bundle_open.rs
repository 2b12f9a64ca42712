//! What `open` takes and what it refuses: golden bytes, damage, foreign and newer files, owner and mode.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::support::program::install;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sanedge::bundle::file::{self, ReadError, WriteError};
use sanedge::bundle::open::OpenError;
use sanedge::bundle::wire::{self, Broken, EncodeError, FormatError, Payload};
use sanedge::bundle::{
    Admin, Bundle, Certificate, HostEntry, Listen, Origins, PendingHost, PostQuantum, Redirect, Route, Site,
    SiteHeader, SuiteOrder, Upstream,
};
use sanedge::excerpt::Excerpt;
use sanedge::limits::{Drain, Limits, Rules};
use sanedge::names::{Host, Origin, SanName};
use zeroize::Zeroizing;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(name)
}

fn private_key(name: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(&fs::read(golden(name)).unwrap()).unwrap()
}

fn certificate(label: &str, key: &PrivateKeyDer<'_>, names: Vec<SanName>) -> Certificate {
    let chain = vec![CertificateDer::from_pem_slice(&fs::read(golden(label)).unwrap()).unwrap()];
    let key = Arc::new(CertifiedKey::new(chain, sanedge::bundle::load_key(key).unwrap()));
    let source = std::array::from_fn(|at| u8::try_from(at).unwrap());
    Certificate {
        label: Excerpt::of(label),
        source,
        names,
        not_before: 1_795_404_959,
        not_after: 4_948_918_559,
        key,
    }
}

fn p256(key: &PrivateKeyDer<'_>) -> Certificate {
    let names = [
        SanName::parse_dns("recre.store"),
        SanName::parse_dns("*.recre.store"),
        SanName::parse_ip(&[192, 168, 0, 10]),
        SanName::parse_ip(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10]),
    ];
    certificate("p256.pem", key, names.into_iter().map(Result::unwrap).collect())
}

/// Every key at its default.
fn route(path: &str, upstream: Upstream) -> Route {
    Route {
        path: path.to_owned(),
        strip_prefix: false,
        upstreams: vec![upstream],
        origins: Origins::default(),
        allow: Vec::new(),
        rules: rules(),
    }
}

/// Written out, as the limits: golden bytes must not change with a default.
fn rules() -> Rules {
    Rules {
        require_origin: false,
        response_timeout: Duration::from_secs(60),
        idle_timeout: None,
        ping_interval: None,
        frame_bytes_max: None,
        message_bytes_max: None,
        body_bytes_max: None,
        check_utf8: false,
        send_proxy_protocol: None,
        access_log: false,
    }
}

fn limits() -> Limits {
    Limits {
        sessions_max: 4096,
        address_sessions_max: 512,
        handshakes_max: 1024,
        handshakes_per_s_max: 400,
        address_handshakes_per_s_max: 20,
        address_websockets_per_s_max: 0,
        workers: 4,
        head_bytes_max: 16_384,
        fields_max: 100,
        response_head_bytes_max: 32_768,
        response_fields_max: 200,
        target_bytes_max: 8192,
        handshake_timeout_ms: 10_000,
        head_timeout_ms: 10_000,
        keepalive_timeout_ms: 75_000,
        requests_max: 1_000_000,
        stall_timeout_ms: 60_000,
        body_bytes_per_s_min: 256,
        connect_timeout_ms: 4000,
        pool_idle_max: 32,
        socket_buffer_bytes: 0,
        tls_buffer_bytes: 65_536,
        scratch_bytes: 65_536,
    }
}

fn host(text: &str, site: u16, certificate: u16) -> HostEntry {
    HostEntry { host: Host::parse(text).unwrap(), site, certificate }
}

fn pending(text: &str, site: u16) -> PendingHost {
    PendingHost { host: Host::parse(text).unwrap(), site }
}

/// One host, one certificate, one route.
fn small() -> (Bundle, Vec<PrivateKeyDer<'static>>) {
    let key = private_key("p256.sec1.pem");
    let bundle = Bundle {
        board: Excerpt::of("rpi4"),
        listen: Listen {
            https: vec!["[::]:443".parse().unwrap()],
            http: Vec::new(),
            admin: None,
            default_host: None,
            public_https_port: 443,
            acme_dir: None,
            challenges: None,
            proxy_protocol_from: Vec::new(),
        },
        trusted_proxies: Vec::new(),
        exempt: Vec::new(),
        watch: false,
        drain: Drain { timeout: Duration::from_secs(60), spread: Duration::from_secs(10) },
        suite_order: SuiteOrder::Auto,
        post_quantum: PostQuantum::Auto,
        limits: limits(),
        certificates: vec![p256(&key)],
        sites: vec![Site {
            routes: vec![route("/", Upstream::Address("127.0.0.1:3002".parse().unwrap()))],
            ..Site::default()
        }],
        hosts: vec![host("socket.recre.store", 0, 0)],
        pending: Vec::new(),
        digest: [0; 32],
    };
    (bundle, vec![key])
}

/// Every field with something in it, and every variant.
fn full() -> (Bundle, Vec<PrivateKeyDer<'static>>) {
    let (mut bundle, mut keys) = small();
    keys.push(private_key("ed25519.key.pem"));
    let home = vec![SanName::parse_dns("home.arpa").unwrap()];
    bundle.certificates.push(certificate("ed25519.pem", &keys[1], home));
    bundle.listen = Listen {
        https: vec!["[::]:443".parse().unwrap(), "192.168.0.10:8443".parse().unwrap()],
        http: vec!["[::]:80".parse().unwrap()],
        admin: Some(Admin::Unix("/run/sanedge/admin.sock".into())),
        default_host: Some(4),
        public_https_port: 8443,
        acme_dir: Some("/var/lib/acme".into()),
        challenges: Some("/run/sanedge-acme/challenges".into()),
        proxy_protocol_from: vec!["10.0.0.0/8".parse().unwrap()],
    };
    bundle.trusted_proxies = vec!["192.168.0.1/32".parse().unwrap(), "fd00::/8".parse().unwrap()];
    bundle.exempt = vec!["127.0.0.0/8".parse().unwrap(), "::/0".parse().unwrap()];
    bundle.watch = true;
    bundle.suite_order = SuiteOrder::Chacha;
    bundle.post_quantum = PostQuantum::Off;
    bundle.hosts = vec![
        host("home.arpa", 1, 1),
        host("recre.store", 0, 0),
        host("socket.recre.store", 0, 0),
        host("www.recre.store", 2, 0),
        host("192.168.0.10", 1, 0),
        host("2001:db8::10", 1, 0),
    ];
    bundle.pending = vec![pending("new.recre.store", 0), pending("192.168.0.11", 1)];
    let busy = Route {
        upstreams: vec![
            Upstream::Unix("/run/app.sock".into()),
            Upstream::Name { host: "localhost".to_owned(), port: 3002 },
            Upstream::Address("[::1]:3002".parse().unwrap()),
            Upstream::Zoned { ip: "fe80::1".parse().unwrap(), zone: "eth0".to_owned(), port: 3003 },
        ],
        origins: Origins {
            own: true,
            any: false,
            null: true,
            list: ["https://recre.store", "http://[::1]:3000", "wss://recre.store", "capacitor://localhost"]
                .map(|text| Origin::parse(text).unwrap())
                .into(),
            of_site: 2,
        },
        allow: vec!["192.168.0.0/16".parse().unwrap()],
        rules: Rules {
            require_origin: true,
            response_timeout: Duration::from_millis(90_500),
            idle_timeout: Some(Duration::from_secs(3600)),
            ping_interval: Some(Duration::from_secs(20)),
            frame_bytes_max: Some(1 << 20),
            message_bytes_max: Some(1 << 30),
            body_bytes_max: Some(1 << 40),
            check_utf8: true,
            send_proxy_protocol: Some(2),
            access_log: true,
        },
        strip_prefix: true,
        ..route("/socket.io/", Upstream::Address("127.0.0.1:1".parse().unwrap()))
    };
    let plain = route("/", Upstream::Address("127.0.0.1:3000".parse().unwrap()));
    let open = Route { origins: Origins { any: true, ..Origins::default() }, ..plain.clone() };
    let header = |name: &str, value: Option<&str>| SiteHeader {
        name: name.to_owned(),
        value: value.map(str::to_owned),
    };
    bundle.sites = vec![
        Site {
            routes: vec![busy, plain],
            hsts_s: Some(31_536_000),
            record_bytes_max: Some(4_096),
            headers: vec![header("Server", None), header("X-Frame-Options", Some("DENY"))],
            redirect: None,
            access_log: false,
        },
        Site { routes: vec![open], headers: vec![header("Server", Some("home"))], ..Site::default() },
        Site {
            redirect: Some(Redirect {
                host: Host::parse("recre.store").unwrap(),
                port: 8443,
                path: "/shop".to_owned(),
            }),
            hsts_s: Some(0),
            access_log: true,
            ..Site::default()
        },
    ];
    (bundle, keys)
}

fn bytes((bundle, keys): &(Bundle, Vec<PrivateKeyDer<'_>>)) -> Zeroizing<Vec<u8>> {
    bundle.encode(keys).unwrap_or_else(|error| panic!("{error}"))
}

fn decode(bytes: &[u8]) -> Result<Bundle, FormatError> {
    Bundle::decode(Zeroizing::new(bytes.to_vec()))
}

fn same(found: &Bundle, wanted: &Bundle) {
    let shown = |bundle: &Bundle| {
        let mut shown = format!("{bundle:#?}");
        // The digest is that of the bytes, and rustls shows nothing of a key that could be compared.
        shown.truncate(shown.find("    digest: [").unwrap());
        shown
    };
    assert_eq!(shown(found), shown(wanted));
    assert_eq!(found.certificates.len(), wanted.certificates.len());
    for (found, wanted) in found.certificates.iter().zip(&wanted.certificates) {
        assert_eq!(found.key.cert, wanted.key.cert);
        assert_eq!(found.key.key.public_key(), wanted.key.key.public_key());
    }
}

#[test]
fn the_golden_file_is_what_we_write_and_opens() {
    let wanted = full();
    let written = bytes(&wanted);
    let kept = sanedge::fuzz::GOLDEN;
    assert_eq!(written.escape_ascii().to_string(), kept.escape_ascii().to_string());
    let opened = decode(kept).unwrap();
    same(&opened, &wanted.0);
    assert_eq!(opened.host(&Host::parse("RECRE.store.").unwrap()), Some(&wanted.0.hosts[1]));
    assert_eq!(opened.host(&Host::parse("::ffff:192.168.0.10").unwrap()), Some(&wanted.0.hosts[4]));
    assert_eq!(opened.host(&Host::parse("a.recre.store").unwrap()), None);
}

#[test]
#[ignore = "writes the golden file: only for a new format version"]
fn write_the_golden_file() {
    assert!(std::env::var_os("SANEDGE_WRITE_GOLDEN").is_some(), "set SANEDGE_WRITE_GOLDEN=1 to overwrite it");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("edge/tests/golden/format-1.bundle");
    fs::write(file, bytes(&full())).unwrap();
}

#[test]
fn the_header_is_as_documented() {
    let file = bytes(&small());
    assert_eq!(&file[..8], b"SANEDGE\0");
    assert_eq!(file[8..10], [1, 0]);
    assert_eq!(
        u32::from_le_bytes(file[10..14].try_into().unwrap()) as usize,
        file.len() - wire::HEADER_BYTES
    );
    let digest = ring::digest::digest(&ring::digest::SHA256, &file[wire::HEADER_BYTES..]);
    assert_eq!(&file[14..46], digest.as_ref());
    assert_eq!(decode(&file).unwrap().digest, digest.as_ref());
    assert_eq!(&file[46..51], b"\x04rpi4");
}

#[test]
fn every_truncation_is_refused() {
    let file = bytes(&small());
    for length in 0..file.len() {
        let error = decode(&file[..length]).unwrap_err();
        let expected = matches!(error, FormatError::Length { found, .. } if found == length)
            || (length == 0 && matches!(error, FormatError::Magic { .. }));
        assert!(expected, "{length}: {error}");
    }
    assert!(decode(&file).is_ok());
}

#[test]
fn every_flip_of_every_byte_is_refused() {
    let mut file = bytes(&small()).to_vec();
    let mut flips = 0;
    for at in 0..file.len() {
        for flip in 1..=255 {
            file[at] ^= flip;
            let error = Bundle::decode(Zeroizing::new(file.clone())).expect_err("flipped and still opened");
            match at {
                0..8 => assert!(matches!(error, FormatError::Magic { .. }), "{at}: {error}"),
                8..10 => {
                    assert!(matches!(error, FormatError::Newer { .. } | FormatError::Older { .. }), "{at}")
                }
                10..14 => assert!(matches!(error, FormatError::Length { .. }), "{at}: {error}"),
                _ => assert_eq!(error, FormatError::Digest, "{at}"),
            }
            file[at] ^= flip;
            flips += 1;
        }
    }
    assert_eq!(flips, file.len() * 255);
    assert!(decode(&file).is_ok());
}

/// A file whose digest is right whatever its payload is must not panic either.
#[test]
fn a_payload_with_any_byte_changed_or_missing_does_no_harm() {
    let file = bytes(&full());
    let payload = &file[wire::HEADER_BYTES..];
    for length in 0..payload.len() {
        sanedge::fuzz::parsers::fuzz_bundle_open(&payload[..length]);
    }
    for at in 0..payload.len() {
        for flip in [1, 0x80] {
            let mut changed = payload.to_vec();
            changed[at] ^= flip;
            sanedge::fuzz::parsers::fuzz_bundle_open(&changed);
        }
    }
}

#[test]
fn the_fuzz_corpus_does_no_harm() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/bundle_open");
    let mut seen = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        sanedge::fuzz::parsers::fuzz_bundle_open(&fs::read(entry.unwrap().path()).unwrap());
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} seeds in {}", folder.display());
}

#[test]
fn other_versions_are_distinguished() {
    let mut file = bytes(&small()).to_vec();
    for (version, sentence) in [
        (2_u16, "compiled by a newer sanedge"),
        (0xffff, "compiled by a newer sanedge"),
        (0, "compiled by an older sanedge"),
    ] {
        file[8..10].copy_from_slice(&version.to_le_bytes());
        let text = decode(&file).unwrap_err().to_string();
        assert!(
            text.contains(sentence) && text.contains(&format!("expected format 1, found {version}")),
            "{text}"
        );
        assert!(text.contains("again with"), "{text}");
        // A newer format may be laid out in any way behind its version.
        assert!(decode(&file[..10]).unwrap_err().to_string().contains(sentence));
    }
}

#[test]
fn foreign_files_are_refused_with_what_was_expected() {
    let pem = fs::read(golden("p256.pem")).unwrap();
    let text = decode(&pem).unwrap_err().to_string();
    assert!(
        text.contains("not a bundle") && text.contains("-----BEG") && text.contains("sanedge bundle"),
        "{text}"
    );
    assert_eq!(decode(b"").unwrap_err(), FormatError::Magic { found: Vec::new() });
}

#[test]
fn bytes_behind_the_payload_are_refused() {
    let mut file = bytes(&small()).to_vec();
    let length = file.len();
    file.push(0);
    assert_eq!(decode(&file).unwrap_err(), FormatError::Length { expected: length, found: length + 1 });
    // Also where header and digest count them in.
    let payload = [&file[wire::HEADER_BYTES..length], &[0, 0][..]].concat();
    assert_eq!(decode(&framed(&payload)).unwrap_err(), FormatError::Trailing { bytes: 2 });
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let mut file = wire::MAGIC.to_vec();
    file.extend(wire::VERSION.to_le_bytes());
    file.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
    file.extend(ring::digest::digest(&ring::digest::SHA256, payload).as_ref());
    file.extend(payload);
    file
}

#[test]
fn a_file_of_the_largest_size_is_looked_at_and_a_larger_one_is_not() {
    let largest = framed(&vec![0; wire::FILE_BYTES_MAX - wire::HEADER_BYTES]);
    assert!(matches!(
        decode(&largest),
        Err(FormatError::Encoding(_) | FormatError::Trailing { .. } | FormatError::Broken(_))
    ));
    let larger = framed(&vec![0; wire::FILE_BYTES_MAX - wire::HEADER_BYTES + 1]);
    assert_eq!(
        decode(&larger).unwrap_err(),
        FormatError::TooLarge { found: wire::FILE_BYTES_MAX as u64 + 1 }
    );
}

/// Breaks one rule of a full bundle and hands back which rule the reader names.
fn broken(change: impl FnOnce(&mut Bundle)) -> Broken {
    let (mut bundle, keys) = full();
    change(&mut bundle);
    match bundle.encode(&keys) {
        Err(EncodeError::Check(FormatError::Broken(broken))) => broken,
        other => panic!("expected a broken rule, found {other:?}"),
    }
}

/// As [`broken`], where only the payload can break it.
fn broken_payload(change: impl FnOnce(&mut Payload<'_>)) -> Broken {
    let (bundle, keys) = full();
    let mut payload = Payload::of(&bundle, &keys).unwrap();
    change(&mut payload);
    match wire::encode(&payload) {
        Err(EncodeError::Check(FormatError::Broken(broken))) => broken,
        other => panic!("expected a broken rule, found {other:?}"),
    }
}

#[test]
fn a_host_that_its_certificate_does_not_cover_is_refused() {
    let text = broken(|bundle| bundle.hosts[0].host = Host::parse("a.b.recre.store").unwrap()).to_string();
    assert_eq!(
        text,
        "host `a.b.recre.store` has the certificate `ed25519.pem`, which covers only `home.arpa`"
    );
}

#[test]
fn hosts_are_unique_and_sorted() {
    let twice = broken(|bundle| bundle.hosts[2] = bundle.hosts[1].clone());
    assert_eq!(twice, Broken::Order { table: "hosts", at: 2 });
    assert_eq!(broken(|bundle| bundle.hosts.swap(0, 1)), Broken::Order { table: "hosts", at: 1 });
    let none = |bundle: &mut Bundle| (bundle.hosts, bundle.pending) = (Vec::new(), Vec::new());
    assert_eq!(broken(none), Broken::Empty { table: "hosts" });
    let served = |bundle: &mut Bundle| bundle.pending[0].host = bundle.hosts[1].host.clone();
    assert_eq!(broken(served), Broken::Order { table: "pending", at: 0 });
    assert_eq!(broken(|bundle| bundle.pending.swap(0, 1)), Broken::Order { table: "pending", at: 1 });
}

#[test]
fn indexes_stay_in_their_tables() {
    assert_eq!(broken(|b| b.hosts[0].site = 3), Broken::Index { field: "hosts.site", index: 3, len: 3 });
    assert_eq!(
        broken(|b| b.hosts[0].certificate = 2),
        Broken::Index { field: "hosts.certificate", index: 2, len: 2 }
    );
    assert_eq!(
        broken(|b| b.listen.default_host = Some(6)),
        Broken::Index { field: "default_host", index: 6, len: 6 }
    );
    let index = |field, index, len| Broken::Index { field, index, len };
    assert_eq!(
        broken_payload(|p| p.names.last_mut().unwrap().certificate = 2),
        index("names.certificate", 2, 2)
    );
    assert_eq!(broken_payload(|p| p.routes.last_mut().unwrap().site = 3), index("routes.site", 3, 3));
    assert_eq!(broken_payload(|p| p.upstreams.last_mut().unwrap().route = 3), index("upstreams.route", 3, 3));
    assert_eq!(broken_payload(|p| p.origins.last_mut().unwrap().route = 3), index("origins.route", 3, 3));
    assert_eq!(broken_payload(|p| p.allow.last_mut().unwrap().route = 3), index("allow.route", 3, 3));
    assert_eq!(broken_payload(|p| p.upstreams[1].route = 2), Broken::Order { table: "upstreams", at: 2 });
    assert_eq!(broken_payload(|p| p.origins[0].of_site = false), Broken::Order { table: "origins", at: 1 });
    assert_eq!(broken_payload(|p| p.headers.last_mut().unwrap().site = 3), index("headers.site", 3, 3));
    let more = broken_payload(|p| {
        let another = p.sites[1];
        p.sites.push(another).unwrap();
    });
    assert_eq!(more, Broken::Unused { table: "sites", at: 3 });
}

#[test]
fn nothing_is_in_the_file_that_nothing_uses() {
    assert_eq!(broken(|b| drop(b.hosts.remove(0))), Broken::Unused { table: "certificates", at: 1 });
    let first = |b: &mut Bundle| {
        b.hosts.iter_mut().for_each(|host| host.site = 0);
        b.pending.iter_mut().for_each(|host| host.site = 0);
    };
    let site = broken(first);
    assert_eq!(site, Broken::Unused { table: "sites", at: 1 });
    assert_eq!(broken(|b| b.sites[1].routes.clear()), Broken::Unused { table: "sites", at: 1 });
}

#[test]
fn routes_keep_their_rules() {
    assert_eq!(broken(|b| b.sites[0].routes.swap(0, 1)), Broken::Order { table: "routes", at: 1 });
    let twice = |b: &mut Bundle| b.sites[1].routes = vec![b.sites[1].routes[0].clone(); 2];
    assert_eq!(broken(twice), Broken::Order { table: "routes", at: 3 });
    assert_eq!(broken(|b| b.sites[1].routes[0].upstreams.clear()), Broken::Empty { table: "upstreams" });
    let eight =
        |b: &mut Bundle, n: usize| b.sites[1].routes[0].upstreams = vec![Upstream::Unix("/run/a".into()); n];
    assert_eq!(broken(|b| eight(b, 9)), Broken::TooMany { table: "upstreams of a route", found: 9, max: 8 });
    let (mut bundle, keys) = full();
    eight(&mut bundle, 8);
    bundle.encode(&keys).unwrap();
    for path in ["", "socket.io/", "/a?b", "/a#b", "/a b", "/ü", "/a\n"] {
        let broken = broken(|b| b.sites[1].routes[0].path = path.to_owned());
        assert!(matches!(broken, Broken::Text { field: "routes.path", .. }), "{path}: {broken}");
    }
    for version in [0, 3] {
        let broken = broken(|b| b.sites[1].routes[0].rules.send_proxy_protocol = Some(version));
        assert!(matches!(broken, Broken::Limit(_)), "{broken}");
    }
}

#[test]
fn a_site_has_routes_or_redirects_and_never_to_itself() {
    let to = |text: &str, port, path: &str| {
        Some(Redirect { host: Host::parse(text).unwrap(), port, path: path.to_owned() })
    };
    let both = broken(|b| b.sites[0].redirect = to("other.example", 443, ""));
    assert_eq!(both, Broken::Unused { table: "sites", at: 0 });
    assert_eq!(broken(|b| b.sites[2].redirect = None), Broken::Unused { table: "sites", at: 2 });
    let looped = broken(|b| b.sites[2].redirect = to("www.recre.store", 8443, "/x"));
    assert_eq!(looped, Broken::RedirectLoop { site: 2 });
    let circle = broken(|b| {
        b.sites[0] = Site { redirect: to("home.arpa", 8443, ""), ..Site::default() };
        b.sites[1] = Site { redirect: to("www.recre.store", 8443, ""), ..Site::default() };
    });
    assert_eq!(circle, Broken::RedirectLoop { site: 0 });
    for (port, path) in [(0, ""), (443, "/"), (443, "/a/"), (443, "a"), (443, "/a?b"), (443, "/a\r\nb")] {
        broken(|b| b.sites[2].redirect = to("other.example", port, path));
    }
    let (mut bundle, keys) = full();
    bundle.sites[2].redirect = to("www.recre.store", 443, "");
    bundle.encode(&keys).unwrap_or_else(|error| panic!("another port is another server: {error}"));
}

#[test]
fn fields_and_hsts_of_a_site_keep_their_rules() {
    for seconds in [1, 299, 63_072_001, u32::MAX] {
        let found = broken(|b| b.sites[0].hsts_s = Some(seconds));
        assert!(matches!(found, Broken::Limit(_)), "{seconds}: {found}");
    }
    for seconds in [0, 300, 63_072_000] {
        let (mut bundle, keys) = full();
        bundle.sites[0].hsts_s = Some(seconds);
        bundle.encode(&keys).unwrap();
    }
    for bytes in [0, 511, 16_385, u16::MAX] {
        let found = broken(|b| b.sites[0].record_bytes_max = Some(bytes));
        assert!(matches!(found, Broken::Limit(_)), "{bytes}: {found}");
    }
    for bytes in [512, 16_384] {
        let (mut bundle, keys) = full();
        bundle.sites[0].record_bytes_max = Some(bytes);
        bundle.encode(&keys).unwrap();
    }
    let header =
        |name: &str, value: &str| SiteHeader { name: name.to_owned(), value: Some(value.to_owned()) };
    for (name, value) in [
        ("", "a"),
        ("a b", "a"),
        ("Connection", "close"),
        ("content-length", "1"),
        ("Sec-WebSocket-Accept", "a"),
        ("sanedge-error", "a"),
        ("strict-transport-security", "max-age=1"), // it has `hsts`
        ("X-A", ""),
        ("X-A", " a"),
        ("X-A", "a\r\nSet-Cookie: b"),
        ("X-A", "\u{e9}"),
    ] {
        let found = broken(|b| b.sites[0].headers = vec![header(name, value)]);
        assert!(matches!(found, Broken::Text { .. }), "{name}: {value:?}: {found}");
    }
    let twice = broken(|b| b.sites[0].headers = vec![header("a", "1"), header("A", "2")]);
    assert_eq!(twice, Broken::Order { table: "headers", at: 1 });
    assert_eq!(broken(|b| b.sites[0].headers.reverse()), Broken::Order { table: "headers", at: 1 });
    let many =
        |n: usize, value: usize| (0..n).map(|n| header(&format!("x-{n:03}"), &"v".repeat(value))).collect();
    let max = wire::SITE_HEADERS_MAX;
    let found = broken(|b| b.sites[1].headers = many(max + 1, 1));
    assert_eq!(found, Broken::TooMany { table: "headers of a site", found: max + 1, max });
    // `x-000: ` and CRLF have nine bytes.
    let bytes = 8 * 1024;
    let found = broken(|b| b.sites[1].headers = many(1, bytes - 9 + 1));
    assert_eq!(found, Broken::TooMany { table: "bytes of headers of a site", found: bytes + 1, max: bytes });
    for fits in [many(max, 1), many(1, bytes - 9)] {
        let (mut bundle, keys) = full();
        bundle.sites[1].headers = fits;
        bundle.encode(&keys).unwrap();
    }
}

#[test]
fn upstreams_and_listeners_keep_their_rules() {
    let set = |upstream: Upstream| move |b: &mut Bundle| b.sites[1].routes[0].upstreams = vec![upstream];
    let refused = [
        Upstream::Address("127.0.0.1:0".parse().unwrap()),
        Upstream::Name { host: "localhost".into(), port: 0 },
        Upstream::Name { host: "Localhost".into(), port: 1 },
        Upstream::Name { host: "127.0.0.1".into(), port: 1 },
        Upstream::Zoned { ip: "fe80::1".parse().unwrap(), zone: "eth0".into(), port: 0 },
        Upstream::Zoned { ip: "2001:db8::1".parse().unwrap(), zone: "eth0".into(), port: 1 },
        Upstream::Zoned { ip: "fe80::1".parse().unwrap(), zone: String::new(), port: 1 },
        Upstream::Zoned { ip: "fe80::1".parse().unwrap(), zone: "a".repeat(16), port: 1 },
        Upstream::Zoned { ip: "fe80::1".parse().unwrap(), zone: "a b".into(), port: 1 },
        Upstream::Unix("run/app.sock".into()),
        Upstream::Unix(format!("/{}", "a".repeat(107)).into()),
    ];
    for upstream in refused {
        broken(set(upstream));
    }
    let (mut bundle, keys) = full();
    set(Upstream::Unix(format!("/{}", "a".repeat(106)).into()))(&mut bundle);
    bundle.listen.admin = Some(Admin::Tcp("[::1]:9000".parse().unwrap()));
    bundle.encode(&keys).unwrap();
    broken(|b| b.listen.admin = Some(Admin::Tcp("192.168.0.1:9000".parse().unwrap())));
    broken(|b| b.listen.admin = Some(Admin::Unix("admin.sock".into())));
    broken(|b| b.listen.acme_dir = Some("acme".into()));
    broken(|b| b.listen.public_https_port = 0);
    assert_eq!(broken(|b| b.listen.https.clear()), Broken::Empty { table: "https" });
    assert_eq!(
        broken(|b| b.listen.http[0] = b.listen.https[0]),
        Broken::Order { table: "https and http", at: 2 }
    );
    broken(|b| b.trusted_proxies[0] = "0.0.0.0/0".parse().unwrap());
    broken(|b| b.trusted_proxies[0] = "10.0.0.1/8".parse().unwrap());
    broken(|b| b.exempt[0] = "10.0.0.1/8".parse().unwrap());
    broken_payload(|p| p.trusted_proxies[0].prefix = 33);
}

#[test]
fn limits_and_durations_stay_in_range() {
    assert!(matches!(broken(|b| b.limits.workers = 0), Broken::Limit(_)));
    assert!(matches!(broken(|b| b.limits.target_bytes_max = b.limits.head_bytes_max + 1), Broken::Limit(_)));
    assert!(matches!(broken(|b| b.drain.timeout = Duration::from_secs(86_401)), Broken::Limit(_)));
    assert!(matches!(broken(|b| b.drain.spread = Duration::from_secs(3601)), Broken::Limit(_)));
    let route = |change: fn(&mut Rules)| broken(|b| change(&mut b.sites[0].routes[0].rules));
    assert!(matches!(route(|r| r.response_timeout = Duration::from_millis(99)), Broken::Limit(_)));
    assert!(matches!(route(|r| r.ping_interval = Some(Duration::ZERO)), Broken::Limit(_)));
    assert!(matches!(route(|r| r.idle_timeout = Some(Duration::from_secs(604_801))), Broken::Limit(_)));
    assert!(matches!(route(|r| r.frame_bytes_max = Some(124)), Broken::Limit(_)));
    assert!(matches!(route(|r| r.message_bytes_max = Some((1 << 30) + 1)), Broken::Limit(_)));
    assert!(matches!(route(|r| r.body_bytes_max = Some(0)), Broken::Limit(_)));
}

#[test]
fn a_certificate_keeps_its_chain_its_key_and_its_names() {
    let mismatch = broken_payload(|p| p.certificates[0].key = p.certificates[1].key);
    assert!(matches!(mismatch, Broken::KeyMismatch { .. }), "{mismatch}");
    let key = broken_payload(|p| p.certificates[0].key = wire::Key::Pkcs8(b"no key"));
    assert!(key.to_string().contains("`p256.pem`") && key.to_string().contains("ECDSA P-256"), "{key}");
    let chain = broken_payload(|p| p.certificates[0].chain.clear());
    assert_eq!(chain, Broken::Empty { table: "certificates.chain" });
    let unreadable = broken_payload(|p| *p.certificates[0].chain.first_mut().unwrap() = b"no certificate");
    assert!(matches!(unreadable, Broken::KeyMismatch { .. }), "{unreadable}");
    let nameless = broken_payload(|p| {
        let _ = p.names.pop();
    });
    assert_eq!(nameless, Broken::Empty { table: "names" });
    broken(|b| b.certificates[0].not_after = b.certificates[0].not_before - 1);
    let mapped = "::ffff:192.168.0.10".parse().unwrap();
    broken_payload(|p| p.names[2].name = wire::SanName::Ip(mapped));
    broken_payload(|p| p.names[1].name = wire::SanName::Wildcard("store"));
    broken_payload(|p| p.hosts[0].host = wire::Host::Dns("HOME.arpa"));
    for text in ["null", "*", "", "https://recre.store", "recre.store", " file://"] {
        broken_payload(|p| p.origins[3].origin = wire::Origin::Other(text));
    }
}

#[test]
fn a_table_is_full_at_its_documented_bound() {
    let (mut bundle, keys) = small();
    let hosts = |n: usize| (0..n).map(|n| host(&format!("h{n:03}.recre.store"), 0, 0)).collect();
    bundle.hosts = hosts(wire::HOSTS_MAX);
    let room = wire::ORIGINS_MAX;
    bundle.sites[0].routes[0].origins.list = vec![Origin::parse("https://recre.store").unwrap(); room];
    bundle.sites[0].routes[0].allow = vec!["10.0.0.0/8".parse().unwrap(); wire::ALLOW_MAX];
    let plain = route("/", Upstream::Unix("/run/app.sock".into()));
    let paths =
        |n: usize| (0..n).map(|n| Route { path: format!("/{n:03}"), ..plain.clone() }).collect::<Vec<_>>();
    bundle.sites[0].routes.splice(0..0, paths(wire::ROUTES_MAX - 1));
    let opened = decode(&bundle.encode(&keys).unwrap()).unwrap();
    assert_eq!((opened.hosts.len(), opened.sites[0].routes.len()), (wire::HOSTS_MAX, wire::ROUTES_MAX));

    let too_many = |bundle: &Bundle, table, max| {
        let found = max + 1;
        assert_eq!(bundle.encode(&keys).unwrap_err(), EncodeError::TooMany { table, found, max });
    };
    bundle.sites[0].routes[0].allow.push("10.0.0.0/8".parse().unwrap());
    too_many(&bundle, "networks in allow", wire::ALLOW_MAX);
    bundle.sites[0].routes[0].origins.list.push(Origin::parse("https://recre.store").unwrap());
    too_many(&bundle, "origins", wire::ORIGINS_MAX);
    bundle.sites[0].routes.splice(0..0, paths(1));
    too_many(&bundle, "routes", wire::ROUTES_MAX);
    bundle.hosts = hosts(wire::HOSTS_MAX + 1);
    too_many(&bundle, "hosts", wire::HOSTS_MAX);
    bundle.listen.https = vec!["[::]:443".parse().unwrap(); wire::LISTENERS_MAX + 1];
    too_many(&bundle, "https listeners", wire::LISTENERS_MAX);
}

/// With chains of four RSA certificates and an RSA key each they take half of the file's bound.
#[test]
fn each_host_may_have_a_certificate_of_its_own_and_one_more_is_too_many() {
    let key = private_key("p256.sec1.pem");
    let many = |count: usize| {
        let (mut bundle, _) = small();
        bundle.certificates = (0..count).map(|_| p256(&key)).collect();
        let certificate = |n: usize| u16::try_from(n.min(count - 1)).unwrap();
        bundle.hosts =
            (0..wire::HOSTS_MAX).map(|n| host(&format!("h{n:03}.recre.store"), 0, certificate(n))).collect();
        let keys: Vec<_> = (0..count).map(|_| key.clone_key()).collect();
        bundle.encode(&keys)
    };
    let opened = decode(&many(wire::HOSTS_MAX).unwrap()).unwrap();
    assert_eq!(opened.certificates.len(), wire::HOSTS_MAX);
    let (found, max) = (wire::HOSTS_MAX + 1, wire::CERTIFICATES_MAX);
    assert_eq!(
        many(wire::HOSTS_MAX + 1).unwrap_err(),
        EncodeError::TooMany { table: "certificates", found, max }
    );
    let rsa_chain_and_key = 4 * 1_600 + 1_250;
    assert!(wire::CERTIFICATES_MAX * rsa_chain_and_key <= wire::FILE_BYTES_MAX / 2);
}

#[test]
fn what_has_no_form_in_the_file_is_not_written() {
    let (mut bundle, keys) = small();
    assert_eq!(bundle.encode(&[]).unwrap_err(), EncodeError::Keys { keys: 0, certificates: 1 });
    // More milliseconds than the file has room for, or less than one.
    for timeout in [Duration::from_secs(50 * 86_400), Duration::from_micros(1_000_001)] {
        bundle.drain.timeout = timeout;
        assert_eq!(bundle.encode(&keys).unwrap_err(), EncodeError::Differs);
    }
    let (mut bundle, keys) = small();
    bundle.listen.acme_dir = Some(PathBuf::from(OsString::from_vec(b"/\xff".to_vec())));
    assert!(matches!(bundle.encode(&keys), Err(EncodeError::Path { field: "acme_dir", .. })));
    let (mut bundle, keys) = small();
    bundle.listen.acme_dir = Some("a".repeat(wire::FILE_BYTES_MAX).into());
    assert_eq!(bundle.encode(&keys).unwrap_err(), EncodeError::TooLarge);
}

#[test]
fn debug_never_shows_a_key() {
    let (bundle, keys) = full();
    let payload = Payload::of(&bundle, &keys).unwrap();
    let wire::Key::Sec1(der) = payload.certificates[0].key else { panic!("not SEC 1") };
    let shown = format!("{payload:?} {:?} {bundle:?}", payload.certificates[0]);
    assert!(shown.contains("Sec1(121 secret bytes)"), "{shown}");
    // The private scalar is 32 bytes in (RFC 5915 §3): no run of it as numbers or as hex.
    let secret = &der[7..39];
    let decimal = secret[..4].iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let hex = secret[..4].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(!shown.contains(&decimal) && !shown.to_lowercase().contains(&hex));
}

struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A small bundle with this mode.
    fn bundle(&self, mode: u32) -> PathBuf {
        let path = self.path("sanedge.bundle");
        let _ = fs::remove_file(&path); // one without write permission is there in a second round
        fs::write(&path, bytes(&small()).as_slice()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether the test can run; says so loudly where it cannot, and fails where everything has to run.
fn needs_root(test: &str) -> bool {
    if !is_root() {
        eprintln!("SKIPPED: {test} needs root");
        assert!(std::env::var_os("SANEDGE_REQUIRE_ALL").is_none_or(|v| v != "1"), "{test} needs root");
    }
    is_root()
}

#[test]
fn a_file_for_its_owner_and_group_is_opened() {
    let folder = Folder::new();
    for mode in [0o600, 0o640, 0o400, 0o440, 0o700, 0o750] {
        Bundle::open(&folder.bundle(mode)).unwrap_or_else(|error| panic!("{mode:o}: {error}"));
    }
}

#[test]
fn a_file_that_others_can_use_or_the_group_can_write_is_refused() {
    let folder = Folder::new();
    for (mode, wanted) in [
        (0o644, 0o640),
        (0o620, 0o600),
        (0o604, 0o600),
        (0o602, 0o600),
        (0o660, 0o640),
        (0o666, 0o640),
        (0o777, 0o640),
    ] {
        let path = folder.bundle(mode);
        let error = Bundle::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::File(ReadError::Mode { found, .. }) if found == mode), "{error}");
        let command = format!("`chmod {wanted:04o} {}`", path.display());
        assert!(error.to_string().contains(&command), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(wanted)).unwrap();
        Bundle::open(&path).unwrap();
    }
}

#[test]
fn a_file_of_another_owner_is_refused() {
    if !needs_root("a_file_of_another_owner_is_refused") {
        return;
    }
    let folder = Folder::new();
    let path = folder.bundle(0o600);
    chown(&path, Some(65_534), None).unwrap();
    let error = Bundle::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("belongs to uid 65534") && error.contains(&format!("`chown root {}`", path.display())),
        "{error}"
    );
    chown(&path, Some(0), Some(65_534)).unwrap();
    Bundle::open(&path).unwrap();
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let folder = Folder::new();
    let fifo = folder.path("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let socket = folder.path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    for path in [fifo, socket, folder.folder.path().to_owned(), PathBuf::from("/dev/null")] {
        let error = Bundle::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::File(ReadError::Kind { .. })), "{error}");
    }
}

#[test]
fn a_missing_or_huge_file_says_so() {
    let folder = Folder::new();
    let error = Bundle::open(&folder.path("it's not here")).unwrap_err();
    assert!(matches!(error, OpenError::File(ReadError::Missing { .. })), "{error}");
    assert!(error.to_string().contains(r"/it'\''s not here'"), "a command to type is quoted: {error}");
    let path = folder.bundle(0o600);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(wire::FILE_BYTES_MAX as u64 + 1).unwrap();
    assert!(matches!(Bundle::open(&path), Err(OpenError::File(ReadError::TooLarge { .. }))));
    file.set_len(wire::FILE_BYTES_MAX as u64).unwrap();
    let error = Bundle::open(&path).unwrap_err();
    assert!(
        matches!(error, OpenError::Format { .. })
            && error.to_string().contains("sanedge.bundle is the wrong length"),
        "{error}"
    );
}

#[test]
fn a_symbolic_link_to_a_bundle_is_followed_when_reading() {
    let folder = Folder::new();
    symlink(folder.bundle(0o600), folder.path("current")).unwrap();
    Bundle::open(&folder.path("current")).unwrap();
}

#[test]
fn a_new_file_is_its_owners_alone_and_the_note_says_what_to_type() {
    let folder = Folder::new();
    let path = folder.path("new.bundle");
    let written = file::write_atomic(&path, &bytes(&small())).unwrap();
    assert_eq!((written.mode, mode(&path)), (0o600, 0o600));
    let note = written.note.unwrap();
    assert!(note.contains(&format!("chown root:sanedge {0} && chmod 0640 {0}", path.display())), "{note}");
    Bundle::open(&path).unwrap();
    assert_eq!(folder.names(), ["new.bundle"]);
}

#[test]
fn a_replaced_file_keeps_its_mode_but_for_what_open_refuses() {
    let folder = Folder::new();
    for (before, after) in [(0o600, 0o600), (0o640, 0o640), (0o400, 0o600), (0o644, 0o640), (0o666, 0o640)] {
        let path = folder.bundle(before);
        let old = fs::metadata(&path).unwrap().ino();
        let written = file::write_atomic(&path, &bytes(&full())).unwrap();
        assert_eq!((written.mode, mode(&path)), (after, after), "{before:o}");
        assert_eq!(written.note.is_some(), matches!(before, 0o644 | 0o666), "{before:o}");
        assert_ne!(fs::metadata(&path).unwrap().ino(), old, "the old file is replaced, not written into");
        assert_eq!(Bundle::open(&path).unwrap().hosts.len(), full().0.hosts.len());
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_replaced_file_keeps_its_owner_and_group() {
    if !needs_root("a_replaced_file_keeps_its_owner_and_group") {
        return;
    }
    let folder = Folder::new();
    let path = folder.bundle(0o640);
    chown(&path, Some(0), Some(65_534)).unwrap();
    let written = file::write_atomic(&path, &bytes(&full())).unwrap();
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.uid(), found.gid(), mode(&path)), (0, 65_534, 0o640));
    assert_eq!(written.note, None);
}

/// Runs one `#[ignore]`d test of this file as user and group 65534, with `path` as its argument.
fn as_nobody(test: &str, path: &Path) {
    // The build folder may be closed to others: run a copy.
    let folder = Folder::new();
    fs::set_permissions(folder.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path("test");
    install(std::env::current_exe().unwrap(), &program);
    let mut command = Command::new(program);
    command
        .args(["--exact", &format!("bundle_open::{test}"), "--ignored"])
        .env("BUNDLE", path)
        .current_dir("/")
        .uid(65_534)
        .gid(65_534);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn argument() -> PathBuf {
    PathBuf::from(std::env::var_os("BUNDLE").expect("started by another test"))
}

#[test]
fn what_chown_does_not_allow_is_said_and_the_key_stays_private() {
    if !needs_root("what_chown_does_not_allow_is_said_and_the_key_stays_private") {
        return;
    }
    let folder = Folder::new();
    chown(folder.folder.path(), Some(65_534), None).unwrap();
    as_nobody("another_user_does_not_replace_roots_file", &folder.bundle(0o640));
    let found = fs::metadata(folder.path("sanedge.bundle")).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o7777, found.len()), (65_534, 0o600, 3));
    assert_eq!(folder.names(), ["sanedge.bundle"]);
}

#[test]
#[ignore = "run by what_chown_does_not_allow_is_said_and_the_key_stays_private, as another user"]
fn another_user_does_not_replace_roots_file() {
    let path = argument();
    let note = file::write_atomic(&path, b"new").unwrap().note.unwrap();
    assert!(note.contains(&format!("`chown 0:0 {0} && chmod 0640 {0}`", path.display())), "{note}");
}

#[test]
fn a_file_that_we_may_not_read_says_what_to_type() {
    if !needs_root("a_file_that_we_may_not_read_says_what_to_type") {
        return;
    }
    let folder = Folder::new();
    fs::set_permissions(folder.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.bundle(0o640);
    as_nobody("nobody_is_denied", &path);
    chown(&path, None, Some(65_534)).unwrap();
    as_nobody("nobody_opens", &path);
    chown(&path, Some(65_534), None).unwrap();
    as_nobody("nobody_opens", &path);
}

#[test]
#[ignore = "run by a_file_that_we_may_not_read_says_what_to_type, as another user"]
fn nobody_is_denied() {
    let path = argument();
    let error = Bundle::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::File(ReadError::Denied { uid: 65_534, gid: 65_534, .. })), "{error}");
    let command = format!("`chown root:65534 {0} && chmod 0640 {0}`", path.display());
    assert!(error.to_string().contains(&command), "{error}");
}

#[test]
#[ignore = "run by a_file_that_we_may_not_read_says_what_to_type, as another user"]
fn nobody_opens() {
    Bundle::open(&argument()).unwrap();
}

#[test]
fn a_link_or_a_folder_is_not_replaced_and_nothing_is_left() {
    let folder = Folder::new();
    let target = folder.bundle(0o600);
    let before = fs::read(&target).unwrap();
    let link = folder.path("link");
    symlink(&target, &link).unwrap();
    let error = file::write_atomic(&link, b"new").unwrap_err();
    assert!(
        matches!(&error, WriteError::Link { target: found, .. } if *found == fs::canonicalize(&target).unwrap()),
        "{error}"
    );
    assert_eq!(fs::read(&target).unwrap(), before);
    symlink(folder.path("nowhere"), folder.path("dangling")).unwrap();
    assert!(matches!(file::write_atomic(&folder.path("dangling"), b"new"), Err(WriteError::Link { .. })));
    fs::create_dir(folder.path("folder")).unwrap();
    assert!(matches!(file::write_atomic(&folder.path("folder"), b"new"), Err(WriteError::Kind { .. })));
    assert!(matches!(file::write_atomic(&folder.path("none/x"), b"new"), Err(WriteError::Io { .. })));
    // A name of the greatest length leaves room for the temporary one, too.
    let longest = folder.path(&"n".repeat(255));
    file::write_atomic(&longest, b"new").unwrap();
    fs::remove_file(longest).unwrap();
    let mut names = folder.names();
    names.sort();
    assert_eq!(names, ["dangling", "folder", "link", "sanedge.bundle"]);
}

#[test]
fn a_temporary_file_left_by_a_killed_run_is_stepped_over() {
    let folder = Folder::new();
    let left = format!(".sanedge.{}.0.tmp", std::process::id());
    fs::write(folder.path(&left), b"half").unwrap();
    file::write_atomic(&folder.path("x.bundle"), b"whole").unwrap();
    assert_eq!(fs::read(folder.path("x.bundle")).unwrap(), b"whole");
    assert_eq!(fs::read(folder.path(&left)).unwrap(), b"half");
}
