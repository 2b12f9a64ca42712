//! What `open` takes and what it refuses: golden bytes, damage, foreign and newer files, owner and mode.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sanedge::bundle::wire::{self, Broken, EncodeError, FormatError, Payload};
use sanedge::bundle::{
    Admin, Bundle, Certificate, HostEntry, Listen, Origins, Route, Site, SuiteOrder, Upstream,
};
use sanedge::limits::{Limits, Machine};
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
    Certificate { label: label.to_owned(), names, not_before: 1_795_404_959, not_after: 4_948_918_559, key }
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
        upstreams: vec![upstream],
        origins: Origins::default(),
        require_origin: false,
        allow: Vec::new(),
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
    Limits::default_for(&Machine { cores: 4, ram_bytes: 4 << 30, budget_bytes: 1 << 30 })
}

fn host(text: &str, site: u16, certificate: u16) -> HostEntry {
    HostEntry { host: Host::parse(text).unwrap(), site, certificate }
}

/// One host, one certificate, one route.
fn small() -> (Bundle, Vec<PrivateKeyDer<'static>>) {
    let key = private_key("p256.sec1.pem");
    let bundle = Bundle {
        board: "rpi4".to_owned(),
        listen: Listen {
            https: vec!["[::]:443".parse().unwrap()],
            http: Vec::new(),
            admin: None,
            default_host: None,
            public_https_port: 443,
            acme_dir: None,
            proxy_protocol_from: Vec::new(),
        },
        trusted_proxies: Vec::new(),
        watch: false,
        drain_timeout: Duration::from_secs(60),
        drain_spread: Duration::from_secs(10),
        suite_order: SuiteOrder::Auto,
        limits: limits(),
        certificates: vec![p256(&key)],
        sites: vec![Site { routes: vec![route("/", Upstream::Address("127.0.0.1:3002".parse().unwrap()))] }],
        hosts: vec![host("socket.recre.store", 0, 0)],
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
        default_host: Some(3),
        public_https_port: 8443,
        acme_dir: Some("/var/lib/acme".into()),
        proxy_protocol_from: vec!["10.0.0.0/8".parse().unwrap()],
    };
    bundle.trusted_proxies = vec!["192.168.0.1/32".parse().unwrap(), "fd00::/8".parse().unwrap()];
    bundle.watch = true;
    bundle.suite_order = SuiteOrder::Chacha;
    bundle.hosts = vec![
        host("home.arpa", 1, 1),
        host("recre.store", 0, 0),
        host("socket.recre.store", 0, 0),
        host("192.168.0.10", 1, 0),
        host("2001:db8::10", 1, 0),
    ];
    let busy = Route {
        upstreams: vec![
            Upstream::Unix("/run/app.sock".into()),
            Upstream::Name { host: "localhost".to_owned(), port: 3002 },
            Upstream::Address("[::1]:3002".parse().unwrap()),
        ],
        origins: Origins {
            any: false,
            null: true,
            list: vec![
                Origin::parse("https://recre.store").unwrap(),
                Origin::parse("http://[::1]:3000").unwrap(),
            ],
        },
        require_origin: true,
        allow: vec!["192.168.0.0/16".parse().unwrap()],
        response_timeout: Duration::from_millis(90_500),
        idle_timeout: Some(Duration::from_secs(3600)),
        ping_interval: Some(Duration::from_secs(20)),
        frame_bytes_max: Some(1 << 20),
        message_bytes_max: Some(1 << 30),
        body_bytes_max: Some(1 << 40),
        check_utf8: true,
        send_proxy_protocol: Some(2),
        access_log: true,
        ..route("/socket.io/", Upstream::Address("127.0.0.1:1".parse().unwrap()))
    };
    let plain = route("/", Upstream::Address("127.0.0.1:3000".parse().unwrap()));
    let open = Route { origins: Origins { any: true, ..Origins::default() }, ..plain.clone() };
    bundle.sites = vec![Site { routes: vec![busy, plain] }, Site { routes: vec![open] }];
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
    let kept = fs::read(golden("format-1.bundle")).unwrap();
    assert_eq!(written.escape_ascii().to_string(), kept.escape_ascii().to_string());
    let opened = decode(&kept).unwrap();
    same(&opened, &wanted.0);
    assert_eq!(opened.host(&Host::parse("RECRE.store.").unwrap()), Some(&wanted.0.hosts[1]));
    assert_eq!(opened.host(&Host::parse("::ffff:192.168.0.10").unwrap()), Some(&wanted.0.hosts[3]));
    assert_eq!(opened.host(&Host::parse("a.recre.store").unwrap()), None);
}

#[test]
#[ignore = "writes the golden file: only for a new format version"]
fn write_the_golden_file() {
    fs::write(golden("format-1.bundle"), bytes(&full())).unwrap();
}
