//! How long the records of application data are: what `record_bytes_max` bounds, short records where a connection begins, and clients
//! with small buffers (mbedTLS, BearSSL, `openssl s_client -maxfraglen`). Records after a pause: `edge/src/edge/net/tls.rs`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::support::HOST;
use crate::support::edge::{Edge, PATIENCE, sanedge, text};
use crate::support::node::{has, skip};
use crate::support::upstream::{Connection, Upstream};

/// Plaintext of a record that fits one TCP segment, and how much goes in such records first.
const SHORT_BYTES: usize = 1_300;
const SHORT_TOTAL_BYTES: usize = 32 * 1024;

/// An app that answers with as many bytes as the path says.
async fn app() -> Upstream {
    Upstream::scripted(async |mut connection: Connection| {
        while let Some(request) = connection.request().await {
            let path = request.head.split(' ').nth(1).unwrap();
            let bytes: usize = path[1..].parse().unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
            connection.send([head.into_bytes(), body(bytes)].concat()).await;
        }
    })
    .await
}

fn body(bytes: usize) -> Vec<u8> {
    b"0123456789abcdef ".iter().copied().cycle().take(bytes).collect()
}

/// A client that sees each record.
struct Client {
    tls: ClientConnection,
    stream: TcpStream,
    /// Bytes of the longest record of the handshake.
    handshake_bytes: usize,
}

impl Client {
    fn connect(edge: &Edge, host: &str, version: &'static SupportedProtocolVersion) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(edge.desk().ca.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let stream = TcpStream::connect(edge.https).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut client = Self { tls, stream, handshake_bytes: 0 };
        while client.tls.is_handshaking() {
            client.send();
            if client.tls.is_handshaking() {
                let (bytes, _) = client.record();
                client.handshake_bytes = client.handshake_bytes.max(bytes);
            }
        }
        client
    }

    fn send(&mut self) {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.stream).unwrap();
        }
    }

    /// Reads a record: its bytes behind the header, and of its plaintext if that is application data.
    fn record(&mut self) -> (usize, usize) {
        let mut record = vec![0; 5];
        self.stream.read_exact(&mut record).unwrap();
        let bytes = usize::from(u16::from_be_bytes([record[3], record[4]]));
        record.resize(5 + bytes, 0);
        self.stream.read_exact(&mut record[5..]).unwrap();
        let mut rest = &record[..];
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest).unwrap();
        }
        let state = self.tls.process_new_packets().unwrap();
        (bytes, state.plaintext_bytes_to_read())
    }

    /// Lengths of the records of the response to a GET.
    fn get(&mut self, host: &str, bytes: usize) -> Vec<usize> {
        write!(self.tls.writer(), "GET /{bytes} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        self.send();
        let (mut lengths, mut response) = (Vec::new(), Vec::new());
        while !response.ends_with(&body(bytes)) {
            let (_, length) = self.record();
            let mut piece = vec![0; length];
            self.tls.reader().read_exact(&mut piece).unwrap();
            response.extend(piece);
            lengths.extend((length > 0).then_some(length)); // no tickets
        }
        lengths
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_begin_short_and_then_are_full() {
    let app = app().await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &app).start();
    for version in [&TLS12, &TLS13] {
        let mut client = Client::connect(&edge, HOST, version);
        let lengths = client.get(HOST, 1_000_000);
        let mut total = 0;
        for length in &lengths {
            assert!(*length <= SHORT_BYTES || total >= SHORT_TOTAL_BYTES, "{version:?}: {lengths:?}");
            total += length;
        }
        assert!(lengths.contains(&SHORT_BYTES), "{lengths:?}");
        assert_eq!(lengths.iter().max(), Some(&16_384), "{version:?}: {lengths:?}");
        // Without a pause they stay long; a small response is one record, or two.
        assert_eq!(client.get(HOST, 1_000_000).iter().max(), Some(&16_384));
        assert!(client.get(HOST, 1_000).len() <= 2);
    }
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_application_record_exceeds_the_bound_of_its_site_and_the_handshake_is_not_split() {
    let app = app().await;
    let bounds =
        [("a.recre.store", 512), ("b.recre.store", 513), ("c.recre.store", 4_096), ("d.recre.store", 16_384)];
    // A limit far below a record of 16 KiB, and one far above: a write takes as much as it bounds.
    for buffer in ["4KiB", "1MiB"] {
        let names: Vec<_> = bounds.iter().map(|(host, _)| *host).collect();
        let mut edge = Edge::certified_for(&names)
            .limits(&format!("sessions_max = 64\ntls_buffer_bytes = \"{buffer}\""));
        for (host, bytes) in bounds {
            edge = edge.site_with(&[host], &app, &format!("record_bytes_max = {bytes}"));
        }
        let edge = edge.start();
        for version in [&TLS12, &TLS13] {
            for (host, bound) in bounds {
                let mut client = Client::connect(&edge, host, version);
                let lengths = client.get(host, 150_000);
                // Of 4 KiB each piece has less than a full record.
                let wanted = if buffer == "4KiB" { bound.min(4_096) } else { bound };
                assert!(*lengths.iter().max().unwrap() <= wanted, "{host}, {version:?}: {lengths:?}");
                if bound < 4_096 || buffer == "1MiB" {
                    assert!(lengths.contains(&wanted), "{host}, {version:?}: {lengths:?}");
                }
                assert!(client.handshake_bytes > 513, "{host}, {version:?}: {}", client.handshake_bytes);
            }
        }
        edge.stop();
    }
}

/// Names that make a certificate of so many bytes and a little more.
fn names(bytes: usize) -> Vec<String> {
    let long = format!("{}.recre.store", "x".repeat(50));
    let more = (0..bytes / (long.len() + 4)).map(|n| format!("n{n:02}{long}"));
    std::iter::once(HOST.to_owned()).chain(more).collect()
}

/// What `sanedge bundle` says of the longest record of the handshake: at most, and of that the Certificate message.
fn warned(edge: &Edge) -> Option<(usize, usize)> {
    let output = sanedge().args(["bundle", "--json"]).arg(edge.desk().toml()).output().unwrap();
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let finding = said["findings"].as_array().unwrap().iter().find(|f| f["code"] == "handshake-record")?;
    let found = finding["found"].as_str().unwrap();
    let numbers: Vec<usize> = found.split(' ').filter_map(|word| word.parse().ok()).collect();
    Some((numbers[0], numbers[1]))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_warning_knows_the_longest_record_of_the_handshake() {
    let app = app().await;
    let names = names(5_000);
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let edge = Edge::certified_for(&names).site_with(&[HOST], &app, "record_bytes_max = 512").start();
    let (at_most, certificate) = warned(&edge).unwrap();
    for version in [&TLS12, &TLS13] {
        let record = Client::connect(&edge, HOST, version).handshake_bytes;
        assert!(record <= at_most && record > certificate, "{version:?}: {certificate}, {record}, {at_most}");
        assert!(at_most - record < 250, "{version:?}: {record}, {at_most}");
    }
    edge.stop();
}

/// A client of `tests/records/`, and the folder that it is in.
fn built(name: &str, sources: &[PathBuf], arguments: &[String]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(name);
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/records").join(format!("{name}.c"));
    let output = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-o"])
        .arg(&program)
        .arg(client)
        .args(sources)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    (folder, program)
}

/// mbedTLS with buffers of 4 KiB: its source is in a crate, and the library is compiled once. `Err`: why the crate is not there.
fn mbedtls() -> Result<(tempfile::TempDir, PathBuf), String> {
    const CRATE: &str = "mbedtls-sys-auto";
    const VERSION: &str = "2.28.15";
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("records").join(VERSION);
    let manifest = folder.join("Cargo.toml");
    std::fs::create_dir_all(folder.join("src")).unwrap();
    std::fs::write(folder.join("src/lib.rs"), "").unwrap();
    let content = format!(
        "[package]\nname = \"source\"\nedition = \"2021\"\n[workspace]\n[dependencies]\n{CRATE} = \"={VERSION}\"\n"
    );
    std::fs::write(&manifest, content).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--manifest-path"])
        .arg(&manifest)
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(text(&output));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let package = metadata["packages"].as_array().unwrap().iter().find(|package| package["name"] == CRATE);
    let vendor = Path::new(package.unwrap()["manifest_path"].as_str().unwrap()).with_file_name("vendor");
    let include = format!("-I{}", vendor.join("include").display());
    let small =
        ["-DMBEDTLS_SSL_IN_CONTENT_LEN=4096".to_owned(), "-DMBEDTLS_SSL_OUT_CONTENT_LEN=2048".to_owned()];
    let library = folder.join("mbedtls.o");
    if !library.exists() {
        let sources = std::fs::read_dir(vendor.join("library")).unwrap().map(|entry| entry.unwrap().path());
        let sources: Vec<_> = sources.filter(|path| path.extension().is_some_and(|end| end == "c")).collect();
        assert!(sources.len() > 50, "{sources:?}");
        let objects = tempfile::tempdir_in(&folder).unwrap();
        let run = |command: &mut Command| {
            let output = command.current_dir(objects.path()).output().unwrap();
            assert!(output.status.success(), "{}", text(&output));
        };
        run(Command::new("cc").args(["-c", "-O0", &include]).args(&small).args(&sources));
        run(Command::new("sh").args(["-c", "ld -r -o all.o *.o && mv all.o ../mbedtls.o"]));
    }
    Ok(built("mbedtls", &[library], &[&small[..], &[include]].concat()))
}

/// What a client got, without the head.
fn got(program: &Path, edge: &Edge, bytes: usize, more: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new(program)
        .args([&edge.https.port().to_string(), HOST])
        .arg(edge.desk().ca_file())
        .arg(format!("/{bytes}"))
        .args(more)
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let at = output.stdout.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    Ok(output.stdout[at + 4..].to_vec())
}

/// Edges whose records are 4 KiB, 512 bytes and unbounded, and one whose certificate has a Certificate message above 4 KiB.
async fn edges() -> (Upstream, [Edge; 4]) {
    let app = app().await;
    let edge = |names: &[String], keys: &str| {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        Edge::certified_for(&names).site_with(&[HOST], &app, keys).start()
    };
    let edges = [
        edge(&names(0), "record_bytes_max = 4096"),
        edge(&names(0), "record_bytes_max = 512"),
        edge(&names(0), ""),
        edge(&names(5_000), "record_bytes_max = 4096"),
    ];
    (app, edges)
}

#[tokio::test(flavor = "multi_thread")]
async fn mbedtls_with_buffers_of_4_kib() {
    let test = "mbedtls_with_buffers_of_4_kib";
    if !has("cc", "--version") {
        return skip(test, "it needs a C compiler");
    }
    let Ok((_folder, program)) = mbedtls().inspect_err(|error| eprintln!("{error}")) else {
        return skip(test, "it needs the source of mbedTLS from crates.io");
    };
    let (_app, [large, small, unbounded, long_chain]) = edges().await;
    for edge in [&large, &small] {
        assert_eq!(got(&program, edge, 300_000, &[]).unwrap(), body(300_000));
    }
    // Without the bound it reads what is short, and no more: MBEDTLS_ERR_SSL_BAD_INPUT_DATA.
    assert_eq!(got(&program, &unbounded, 20_000, &[]).unwrap(), body(20_000));
    assert_eq!(got(&program, &unbounded, 300_000, &[]).unwrap_err(), "read: -0x7100\n");
    let refused = got(&program, &long_chain, 10, &[]).unwrap_err();
    assert!(refused.starts_with("handshake: ") && warned(&long_chain).is_some(), "{refused}");
    assert_eq!(warned(&large), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn bearssl_with_buffers_of_4_kib() {
    let test = "bearssl_with_buffers_of_4_kib";
    let header =
        Path::new("/usr/include/bearssl.h").exists() || Path::new("/usr/include/bearssl/bearssl.h").exists();
    if !has("cc", "--version") || !header {
        return skip(test, "it needs a C compiler and libbearssl-dev");
    }
    let (_folder, program) = built("bearssl", &[], &["-lbearssl".to_owned()]);
    let (_app, [large, small, unbounded, long_chain]) = edges().await;
    for edge in [&large, &small] {
        assert_eq!(got(&program, edge, 300_000, &["4096"]).unwrap(), body(300_000));
    }
    assert_eq!(got(&program, &unbounded, 20_000, &["4096"]).unwrap(), body(20_000));
    // BR_ERR_TOO_LARGE
    assert_eq!(got(&program, &unbounded, 300_000, &["4096"]).unwrap_err(), "error 6\n");
    assert_eq!(got(&program, &unbounded, 300_000, &["16384"]).unwrap(), body(300_000));
    // What is not encrypted it reads in pieces, however long the record is.
    assert_eq!(got(&program, &long_chain, 10, &["4096"]).unwrap(), body(10));
}

/// It asks for fragments of 512 bytes (RFC 6066 §4), which the edge does not negotiate, and reads what the site bounds.
#[tokio::test(flavor = "multi_thread")]
async fn openssl_that_asks_for_fragments() {
    let test = "openssl_that_asks_for_fragments";
    if !has("openssl", "version") {
        return skip(test, "it needs openssl");
    }
    let (_app, [_large, small, ..]) = edges().await;
    for version in ["-tls1_2", "-tls1_3"] {
        let output = s_client(&small, &["-maxfraglen", "512", version]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", text(&output));
        assert!(said.contains(&*String::from_utf8_lossy(&body(100_000))), "{version}: {}", said.len());
    }
}

fn s_client(edge: &Edge, options: &[&str]) -> Output {
    let mut child = Command::new("openssl")
        .args(["s_client", "-quiet", "-ign_eof", "-verify_return_error", "-servername", HOST, "-connect"])
        .arg(edge.https.to_string())
        .arg("-CAfile")
        .arg(edge.desk().ca_file())
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let request = format!("GET /100000 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}
