//! The edge as `curl` and `openssl s_client` see it: versions, ALPN, SNI, resumption.
//!
//! A tool that is missing is said aloud; CONTRIBUTING.md tells how to run these.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::{Edge, text};
use crate::support::node::{has, skip};

/// The number of TLS's alert `unrecognized_name` (RFC 6066 §3).
const UNRECOGNIZED_NAME: &str = "alert number 112";

/// An edge whose upstream answers every request with the word `here`; `None` (said aloud) without the tool.
fn edge(test: &str, tool: &str, argument: &str) -> Option<Edge> {
    if !has(tool, argument) {
        skip(test, &format!("it needs {tool}"));
        return None;
    }
    Some(Edge::certified_for(&["recre.store", HOST]).site(&["recre.store", HOST], upstream()).start())
}

/// Answers on a thread for as long as the test process lives.
fn upstream() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhere";
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || read_head(&stream).and_then(|()| (&stream).write_all(answer)));
        }
    });
    address
}

fn read_head(stream: &std::net::TcpStream) -> std::io::Result<()> {
    use std::io::BufRead;
    let lines = std::io::BufReader::new(stream).lines();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    Ok(())
}

/// `curl` at `https://host`, which is the edge; trusts the test's CA.
fn curl(edge: &Edge, host: &str, more: &[&str]) -> Output {
    let port = edge.https.port();
    let resolve = format!("{host}:{port}:127.0.0.1");
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "30", "--resolve", &resolve, "--cacert"]);
    command.arg(edge.desk().ca_file()).args(more).arg(edge.url(host)).output().unwrap()
}

/// `openssl s_client`, which closes after the handshake.
fn s_client(edge: &Edge, more: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &edge.https.to_string(), "-verify_return_error", "-CAfile"]);
    text(&command.arg(edge.desk().ca_file()).args(more).stdin(Stdio::null()).output().unwrap())
}

/// Did the handshake end well, with a certificate that the client trusts for the name it asked for?
fn is_verified(said: &str) -> bool {
    said.contains("Verify return code: 0 (ok)") && !said.contains("Cipher is (NONE)")
}

#[test]
fn curl_is_content_with_tls_1_2_and_1_3() {
    let Some(edge) = edge("curl_is_content_with_tls_1_2_and_1_3", "curl", "--version") else { return };
    for versions in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
        for host in [HOST, "recre.store"] {
            let output = curl(&edge, host, &versions);
            assert!(output.status.success(), "{versions:?} {host}: {}", text(&output));
            assert_eq!(output.stdout, b"here");
        }
    }
    edge.stop();
}

#[test]
fn curl_gets_http_1_1_where_it_offers_2() {
    let Some(edge) = edge("curl_gets_http_1_1_where_it_offers_2", "curl", "--version") else { return };
    let output = curl(&edge, HOST, &["--http2", "--write-out", " %{http_version}"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "here 1.1", "{}", text(&output));
    edge.stop();
}

#[test]
fn curl_refuses_a_name_that_the_edge_does_not_serve() {
    let test = "curl_refuses_a_name_that_the_edge_does_not_serve";
    let Some(edge) = edge(test, "curl", "--version") else { return };
    let output = curl(&edge, "other.recre.store", &[]);
    assert_eq!(output.status.code(), Some(35), "a TLS alert, not a wrong certificate: {}", text(&output));
    edge.stop();
}

#[test]
fn versions_older_than_1_2_are_refused() {
    let Some(edge) = edge("versions_older_than_1_2_are_refused", "openssl", "version") else { return };
    // Debian's security level forbids even asking.
    let lenient = ["-cipher", "DEFAULT:@SECLEVEL=0", "-servername", HOST];
    for (version, accepted) in [("-tls1", false), ("-tls1_1", false), ("-tls1_2", true)] {
        let said = s_client(&edge, &[&[version], &lenient[..]].concat());
        assert_eq!(is_verified(&said), accepted, "{version}: {said}");
        assert_eq!(said.contains("SSL alert number"), !accepted, "{version}: {said}");
    }
    let said = s_client(&edge, &["-tls1_3", "-servername", HOST]);
    assert!(is_verified(&said), "{said}");
    edge.stop();
}

#[test]
fn no_renegotiation_no_compression_no_early_data() {
    let Some(edge) = edge("no_renegotiation_no_compression_no_early_data", "openssl", "version") else {
        return;
    };
    // s_client asks for a new handshake at a line of `R`.
    let mut command = Command::new("openssl");
    command.args([
        "s_client",
        "-connect",
        &edge.https.to_string(),
        "-tls1_2",
        "-servername",
        HOST,
        "-CAfile",
    ]);
    command.arg(edge.desk().ca_file()).args(["-comp", "-msg"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"R\n").unwrap();
    let said = text(&child.wait_with_output().unwrap());
    assert!(
        said.contains("Secure Renegotiation IS supported") && said.contains("Compression: NONE"),
        "{said}"
    );
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert_eq!(said.matches(", ServerHello\n").count(), 1, "one handshake and no other: {said}");
    // A ticket that allows none.
    let session = first_session(&edge, "-tls1_3");
    let shown =
        Command::new("openssl").args(["sess_id", "-noout", "-text", "-in", &session]).output().unwrap();
    assert!(text(&shown).contains("Max Early Data: 0"), "{}", text(&shown));
    edge.stop();
}

#[test]
fn alpn_is_http_1_1_or_nothing() {
    let Some(edge) = edge("alpn_is_http_1_1_or_nothing", "openssl", "version") else { return };
    let offered = |protocols| s_client(&edge, &["-servername", HOST, "-alpn", protocols]);
    assert!(offered("http/1.1").contains("ALPN protocol: http/1.1"));
    assert!(offered("h2,http/1.1").contains("ALPN protocol: http/1.1"));
    let said = offered("h2");
    assert!(said.contains("alert no application protocol"), "RFC 7301 section 3.2: {said}");
    assert!(s_client(&edge, &["-servername", HOST]).contains("No ALPN negotiated"));
    edge.stop();
}

#[test]
fn the_right_sni_gets_its_certificate() {
    let Some(edge) = edge("the_right_sni_gets_its_certificate", "openssl", "version") else { return };
    for name in [HOST, "recre.store", "SOCKET.recre.store"] {
        let said = s_client(&edge, &["-servername", name, "-verify_hostname", name]);
        assert!(is_verified(&said), "{name}: {said}");
    }
    edge.stop();
}

#[test]
fn a_wrong_or_absent_sni_gets_an_alert_and_no_certificate() {
    let test = "a_wrong_or_absent_sni_gets_an_alert_and_no_certificate";
    let Some(edge) = edge(test, "openssl", "version") else { return };
    for version in ["-tls1_2", "-tls1_3"] {
        for sni in [&["-servername", "evilrecre.store"][..], &["-noservername"]] {
            let said = s_client(&edge, &[&[version], sni].concat());
            assert!(said.contains(UNRECOGNIZED_NAME), "{version} {sni:?}: {said}");
            assert!(said.contains("no peer certificate available"), "{version} {sni:?}: {said}");
        }
    }
    edge.stop();
}

#[test]
fn without_sni_the_default_host_answers() {
    let test = "without_sni_the_default_host_answers";
    if !has("openssl", "version") {
        return skip(test, "it needs openssl");
    }
    let hosts = ["recre.store", HOST];
    let listen = "default_host = \"recre.store\"";
    let edge = Edge::certified_for(&hosts).site(&hosts, upstream()).listen(listen).start();
    let said = s_client(&edge, &["-noservername", "-verify_hostname", "recre.store"]);
    assert!(is_verified(&said), "{said}");
    edge.stop();
}

#[test]
fn a_session_resumes_for_its_own_name_only() {
    let Some(edge) = edge("a_session_resumes_for_its_own_name_only", "openssl", "version") else { return };
    for version in ["-tls1_2", "-tls1_3"] {
        // A new session for each try: a server may take a ticket once.
        let resumed = |name| {
            let ticket = first_session(&edge, version);
            let said = s_client(&edge, &[version, "-servername", name, "-sess_in", &ticket]);
            assert!(is_verified(&said), "{version} {name}: {said}");
            said.contains("Reused, ")
        };
        assert!(!resumed("recre.store"), "{version}: a session of {HOST} must not resume under another name");
        assert!(resumed(HOST), "{version}: a session must resume under its own name");
    }
    edge.stop();
}

/// A session's file. TLS 1.3 sends tickets after the handshake, so the client stays for one exchange.
fn first_session(edge: &Edge, version: &str) -> String {
    let file = edge.desk().path(&format!("session{version}.pem")).display().to_string();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &edge.https.to_string(), version, "-servername", HOST, "-ign_eof"]);
    command.args(["-sess_out", &file, "-CAfile"]).arg(edge.desk().ca_file());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    let said = text(&child.wait_with_output().unwrap());
    assert!(said.contains("New, ") && said.contains("here"), "{version}: {said}");
    file
}
