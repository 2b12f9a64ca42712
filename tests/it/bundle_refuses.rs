//! Everything that `sanedge bundle` proves: for each finding an input that is just bad enough, and its good twin.
#![allow(dropping_references)] // the rows' closures end a builder's chain

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::certs::{Ca, Issued, ca_params, leaf_params};
use crate::support::odd_certs;
use crate::support::odd_certs::{
    Folder, NOW, ca_for, ca_issuers, ca_without_cas_below, data, der, dns, self_signed,
};
use rcgen::{ExtendedKeyUsagePurpose as Eku, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd};
use sanedge::bundle::compile::{Outcome, compile};
use sanedge::bundle::finding::{Code, Finding, Severity};
use sanedge::bundle::{Bundle, Origins};

pub(crate) type Change = fn(&mut Folder);
type ChangeParams = fn(&mut rcgen::CertificateParams);

/// A finding, and how to bring it about in a folder that is good; and how to come as near to it without.
pub(crate) struct Row {
    pub(crate) code: Code,
    pub(crate) what: &'static str,
    pub(crate) bad: Change,
    good: Change,
}

fn row(code: Code, what: &'static str, bad: Change, good: Change) -> Row {
    Row { code, what, bad, good }
}

fn as_is(_: &mut Folder) {}

/// An extension of so many bytes.
fn padding(bytes: usize) -> rcgen::CustomExtension {
    rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0; bytes])
}

fn run(change: impl FnOnce(&mut Folder)) -> Outcome {
    let mut folder = Folder::good();
    change(&mut folder);
    compile(&folder.sanedge_toml(), folder.now)
}

fn codes(outcome: &Outcome, severity: Severity) -> BTreeSet<Code> {
    outcome.findings.iter().filter(|f| f.severity() == severity).map(|f| f.code).collect()
}

fn texts(outcome: &Outcome) -> String {
    sanedge::bundle::report::findings(&outcome.findings, false)
}

fn of(outcome: &Outcome, code: Code) -> &Finding {
    let found = outcome.findings.iter().find(|f| f.code == code);
    found.unwrap_or_else(|| panic!("no {code:?} in\n{}", texts(outcome)))
}

/// The bundle, if there is one: read back as serve does.
fn opened(outcome: &mut Outcome) -> Option<Bundle> {
    outcome.bundle.take().map(|bytes| Bundle::decode(bytes).unwrap())
}

pub(crate) fn rows() -> Vec<Row> {
    [source_rows(), network_rows(), file_rows(), key_rows(), chain_rows(), client_rows(), name_rows()]
        .into_iter()
        .flatten()
        .collect()
}

fn source_rows() -> Vec<Row> {
    vec![
        row(Code::ConfigUnreadable, "an empty sanedge.toml", |f| f.source.clear(), as_is),
        row(
            Code::ConfigUnreadable,
            "a sanedge.toml over 1 MiB",
            |f| f.source.push_str(&"#".repeat((1 << 20) + 1 - f.source.len())),
            |f| f.source.push_str(&"#".repeat((1 << 20) - f.source.len())),
        ),
        row(Code::TomlSyntax, "a quote too few", |f| drop(f.change("\"rpi4\"", "\"rpi4")), as_is),
        row(Code::TomlSyntax, "a key twice", |f| drop(f.change("board", "board = \"rpi4\"\nboard")), as_is),
        row(
            Code::TomlSyntax,
            "a lone carriage return",
            |f| drop(f.change("\"rpi4\"\n", "\"rpi4\"\r")),
            |f| f.source = f.source.replace('\n', "\r\n"),
        ),
        row(Code::UnknownKey, "a slip in a key", |f| drop(f.append("upsteam = []\n")), as_is),
        row(
            Code::UnknownKey,
            "a key of [listen] at the top",
            |f| drop(f.change("[listen]", "acme_dir = \"/tmp\"\n[listen]\nhttp = [\"[::]:80\"]")),
            |f| drop(f.change("[listen]", "[listen]\nacme_dir = \"/tmp\"\nhttp = [\"[::]:80\"]")),
        ),
        row(
            Code::UnknownKey,
            "an unknown limit",
            |f| drop(f.append("[limits]\nmax_sessions = 10\n")),
            |f| drop(f.append("[limits]\nsessions_max = 10\n")),
        ),
        row(Code::MissingKey, "no board", |f| drop(f.change("board = \"rpi4\"\n", "")), as_is),
        row(Code::MissingKey, "no key", |f| drop(f.change("key = \"key.pem\"\n", "")), as_is),
        row(Code::MissingKey, "no hosts", |f| drop(f.change("hosts = [\"recre.store\"]\n", "")), as_is),
        row(Code::MissingKey, "an empty list of hosts", |f| drop(f.change("[\"recre.store\"]", "[]")), as_is),
        row(
            Code::MissingKey,
            "no path in a route",
            |f| drop(f.append("[[site.route]]\nupstream = [\"127.0.0.1:1\"]\n")),
            |f| drop(f.append("[[site.route]]\npath = \"/a\"\n")),
        ),
        row(
            Code::MissingKey,
            "no site at all",
            |f| f.source.truncate(f.source.find("[[site]]").unwrap()),
            as_is,
        ),
        row(
            Code::WrongType,
            "a string for a list",
            |f| drop(f.change("[\"recre.store\"]", "\"recre.store\"")),
            as_is,
        ),
        row(Code::WrongType, "a number for a string", |f| drop(f.change("\"rpi4\"", "4")), as_is),
        row(Code::WrongType, "a table for a list of tables", |f| drop(f.change("[[site]]", "[site]")), as_is),
        row(
            Code::WrongType,
            "a string for a boolean",
            |f| drop(f.change("trust", "watch = \"yes\"\ntrust")),
            |f| {
                f.change("trust", "watch = true\ntrust");
            },
        ),
        row(
            Code::BadValue,
            "an upstream with a scheme",
            |f| drop(f.change("127.0.0.1:3000", "http://127.0.0.1:3000")),
            as_is,
        ),
        row(
            Code::BadValue,
            "an upstream without a port",
            |f| drop(f.change("127.0.0.1:3000", "127.0.0.1")),
            as_is,
        ),
        row(
            Code::BadValue,
            "an upstream of port 0",
            |f| drop(f.change(":3000", ":0")),
            |f| drop(f.change(":3000", ":1")),
        ),
        row(Code::BadValue, "an upstream to listen on", |f| drop(f.change("127.0.0.1", "0.0.0.0")), as_is),
        row(
            Code::BadValue,
            "a socket path of 108 bytes",
            |f| drop(f.change("127.0.0.1:3000", &format!("unix:/{}", "s".repeat(107)))),
            |f| drop(f.change("127.0.0.1:3000", &format!("unix:/{}", "s".repeat(106)))),
        ),
        row(Code::BadValue, "a listener without address", |f| drop(f.change("[::]:443", ":443")), as_is),
        row(Code::BadValue, "no listener", |f| drop(f.change("[\"[::]:443\"]", "[]")), as_is),
        row(
            Code::BadValue,
            "a network with bits behind its length",
            |f| drop(f.append("allow = [\"192.168.1.0/16\"]\n")),
            |f| drop(f.append("allow = [\"192.168.0.0/16\"]\n")),
        ),
        row(
            Code::BadValue,
            "an origin with a path",
            |f| drop(f.append("origins = [\"https://recre.store/app\"]\n")),
            |f| drop(f.append("origins = [\"https://recre.store\", \"null\", \"*\"]\n")),
        ),
        row(
            Code::BadValue,
            "an origin without its scheme",
            |f| drop(f.append("origins = [\"app.recre.store\"]\n")),
            |f| drop(f.append("origins = [\"file://\", \"capacitor://localhost\", \"wss://app.test\"]\n")),
        ),
        row(
            Code::BadValue,
            "a pattern of origins",
            |f| drop(f.append("origins = [\"https://*.recre.store\"]\n")),
            |f| drop(f.append("origins = [\"https://app.recre.store\"]\norigins_default = false\n")),
        ),
        row(
            Code::BadValue,
            "a path without a slash",
            |f| drop(f.append("path = \"socket.io\"\n")),
            |f| drop(f.append("path = \"/socket.io\"\n")),
        ),
        row(
            Code::BadValue,
            "a duration without a unit",
            |f| drop(f.append("response_timeout = 30\n")),
            |f| drop(f.append("response_timeout = \"30s\"\n")),
        ),
        row(
            Code::BadValue,
            "a suite order that is none",
            |f| drop(f.change("trust", "suite_order = \"AES\"\ntrust")),
            |f| drop(f.change("trust", "suite_order = \"aes\"\ntrust")),
        ),
        row(
            Code::BadValue,
            "a choice of key exchange that does not exist",
            |f| drop(f.change("trust", "post_quantum = \"on\"\ntrust")),
            |f| drop(f.change("trust", "post_quantum = \"prefer\"\ntrust")),
        ),
        row(
            Code::BadValue,
            "port 65536",
            |f| drop(f.change("[listen]", "[listen]\npublic_https_port = 65536")),
            |f| drop(f.change("[listen]", "[listen]\npublic_https_port = 65535")),
        ),
        row(
            Code::OutOfRange,
            "version 3 of the PROXY protocol",
            |f| drop(f.append("send_proxy_protocol = 3\n")),
            |f| drop(f.append("send_proxy_protocol = 2\n")),
        ),
        row(
            Code::BadValue,
            "a control character in a path",
            |f| drop(f.change("\"ca.pem\"", r#""ca\u0007.pem""#)),
            as_is,
        ),
        row(
            Code::BadHost,
            "a URL for a host",
            |f| drop(f.change("\"recre.store\"", "\"https://recre.store\"")),
            as_is,
        ),
        row(
            Code::BadHost,
            "a wildcard for a host",
            |f| {
                f.issue(&["*.recre.store"]);
                f.change("\"recre.store\"", "\"*.recre.store\"");
            },
            |f| {
                f.issue(&["*.recre.store"]);
                f.change("\"recre.store\"", "\"a.recre.store\"");
            },
        ),
        row(
            Code::BadHost,
            "a U-label",
            |f| drop(f.change("\"recre.store\"", "\"리크리.store\"")),
            |f| {
                f.issue(&["xn--2e0bx4xnsg.store"]);
                f.change("\"recre.store\"", "\"xn--2e0bx4xnsg.store\"");
            },
        ),
        row(
            Code::OutOfRange,
            "a limit over its bound",
            |f| drop(f.append("[limits]\nfields_max = 129\n")),
            |f| drop(f.append("[limits]\nfields_max = 128\nresponse_fields_max = 256\n")),
        ),
        row(
            Code::OutOfRange,
            "more fields of a response than the parser takes",
            |f| drop(f.append("[limits]\nresponse_fields_max = 257\n")),
            |f| drop(f.append("[limits]\nresponse_fields_max = 16\nresponse_head_bytes_max = \"63KiB\"\n")),
        ),
        row(
            Code::OutOfRange,
            "a duration under its bound",
            |f| drop(f.append("response_timeout = \"99ms\"\n")),
            |f| drop(f.append("response_timeout = \"100ms\"\n")),
        ),
        row(
            Code::OutOfRange,
            "a target longer than its head",
            |f| drop(f.append("[limits]\nhead_bytes_max = 4096\ntarget_bytes_max = 4097\n")),
            |f| drop(f.append("[limits]\nhead_bytes_max = 4096\ntarget_bytes_max = 4096\n")),
        ),
        row(
            Code::TooMany,
            "nine upstreams of a route",
            |f| drop(f.change("[\"127.0.0.1:3000\"]", &format!("[{}]", "\"127.0.0.1:3000\", ".repeat(9)))),
            |f| drop(f.change("[\"127.0.0.1:3000\"]", &format!("[{}]", "\"127.0.0.1:3000\", ".repeat(8)))),
        ),
        row(Code::TooMany, "257 hosts in all", |f| many_hosts(f, 257), |f| many_hosts(f, 256)),
        row(
            Code::UnknownBoard,
            "a board that is none",
            |f| drop(f.change("rpi4", "rpi-4")),
            |f| {
                f.change("rpi4", "host");
            },
        ),
    ]
}

/// `count` hosts in two sites, all under one wildcard.
fn many_hosts(f: &mut Folder, count: usize) {
    f.issue(&["recre.store", "*.recre.store"]);
    let hosts =
        |range: std::ops::Range<usize>| range.map(|n| format!("\"h{n}.recre.store\", ")).collect::<String>();
    let site = format!("[[site]]\nupstream = [\"127.0.0.1:1\"]\nhosts = [{}]\n", hosts(0..100));
    f.append(&site);
    let rest = hosts(100..count - 1);
    f.append(&format!("[[site]]\nupstream = [\"127.0.0.1:1\"]\nhosts = [{rest}]\n"));
}

fn network_rows() -> Vec<Row> {
    vec![
        row(
            Code::DuplicateHost,
            "a host twice in one site",
            |f| drop(f.change("[\"recre.store\"]", "[\"recre.store\", \"RECRE.store.\"]")),
            as_is,
        ),
        row(
            Code::DuplicateHost,
            "a host in two sites",
            |f| drop(f.append("[[site]]\nhosts = [\"recre.store\"]\nupstream = [\"127.0.0.1:1\"]\n")),
            |f| {
                f.issue(&["recre.store", "www.recre.store"]);
                f.append("[[site]]\nhosts = [\"www.recre.store\"]\nupstream = [\"127.0.0.1:1\"]\n");
            },
        ),
        row(
            Code::DuplicatePath,
            "the site's own path as a route",
            |f| drop(f.append("[[site.route]]\npath = \"/\"\n")),
            |f| drop(f.append("[[site.route]]\npath = \"/a\"\n")),
        ),
        row(
            Code::NoUpstream,
            "a site without one",
            |f| drop(f.change("upstream = [\"127.0.0.1:3000\"]\n", "")),
            as_is,
        ),
        row(Code::NoUpstream, "an empty list", |f| drop(f.change("[\"127.0.0.1:3000\"]", "[]")), as_is),
        row(
            Code::NoUpstream,
            "a route without one, nor its site",
            |f| drop(f.change("upstream = [\"127.0.0.1:3000\"]", "[[site.route]]\npath = \"/\"")),
            |f| drop(f.change("upstream", "[[site.route]]\npath = \"/\"\nupstream")),
        ),
        row(
            Code::RedirectWithApp,
            "a redirect and an upstream",
            |f| drop(f.change("upstream", "redirect = \"https://other.example\"\nupstream")),
            |f| {
                drop(f.change(
                    "upstream = [\"127.0.0.1:3000\"]",
                    "redirect = \"https://other.example\"\nhsts = \"5m\"\n[site.headers]\nX-A = \"1\"",
                ))
            },
        ),
        row(
            Code::RedirectLoop,
            "a redirect to itself",
            |f| drop(f.change("upstream = [\"127.0.0.1:3000\"]", "redirect = \"https://recre.store/\"")),
            |f| drop(f.change("upstream = [\"127.0.0.1:3000\"]", "redirect = \"https://recre.store:8443/\"")),
        ),
        row(
            Code::FieldReserved,
            "a field of the connection",
            |f| drop(f.append("[site.headers]\nKeep-Alive = \"timeout=5\"\n")),
            |f| drop(f.append("[site.headers]\nKeep-Alives = \"timeout=5\"\n")),
        ),
        row(
            Code::DuplicateField,
            "a field in two cases",
            |f| drop(f.append("[site.headers]\nserver = \"a\"\nServer = false\n")),
            |f| drop(f.append("[site.headers]\nserver = \"a\"\nServers = false\n")),
        ),
        row(
            Code::DuplicateField,
            "hsts and its field",
            |f| drop(f.append("hsts = \"1h\"\n[site.headers]\nstrict-transport-security = \"max-age=1\"\n")),
            |f| drop(f.append("[site.headers]\nstrict-transport-security = \"max-age=1\"\n")),
        ),
        row(
            Code::HstsAddress,
            "hsts of an address",
            |f| {
                f.issue(&["192.168.0.10"]);
                f.change("\"recre.store\"", "\"192.168.0.10\"")
                    .change("https =", "default_host = \"192.168.0.10\"\nhttps =")
                    .append("hsts = \"1h\"\n");
            },
            |f| {
                f.issue(&["recre.store", "192.168.0.10"]);
                f.change("[\"recre.store\"", "[\"recre.store\", \"192.168.0.10\"")
                    .change("https =", "default_host = \"192.168.0.10\"\nhttps =")
                    .append("hsts = \"1h\"\n");
            },
        ),
        row(
            Code::HstsPort,
            "hsts beside another port",
            |f| drop(f.change("https =", "public_https_port = 8443\nhttps =").append("hsts = \"5m\"\n")),
            |f| drop(f.change("https =", "public_https_port = 8443\nhttps =").append("hsts = \"0s\"\n")),
        ),
        row(
            Code::HandshakeRecord,
            "small records, and a chain of 4 KiB",
            |f| {
                f.issue_with(|params| params.custom_extensions.push(padding(3_500)));
                f.append("record_bytes_max = 4096\n");
            },
            |f| {
                f.issue_with(|params| params.custom_extensions.push(padding(3_500)));
                f.append("record_bytes_max = 4097\n");
            },
        ),
        row(
            Code::HandshakeRecord,
            "the smallest records, and a chain of 4 KiB",
            |f| {
                f.issue_with(|params| params.custom_extensions.push(padding(3_500)));
                f.append("record_bytes_max = 512\n");
            },
            |f| {
                f.issue_with(|params| params.custom_extensions.push(padding(1_000)));
                f.append("record_bytes_max = 512\n");
            },
        ),
        row(
            Code::ListenConflict,
            "IPv4 beside dual stack",
            |f| drop(f.change("[\"[::]:443\"]", "[\"[::]:443\", \"0.0.0.0:443\"]")),
            |f| drop(f.change("[\"[::]:443\"]", "[\"[::1]:443\", \"0.0.0.0:443\"]")),
        ),
        row(
            Code::ListenConflict,
            "http and https on one port",
            |f| {
                drop(
                    f.append("[listen.x]\n")
                        .change("[listen.x]\n", "")
                        .change("https =", "http = [\"[::]:443\"]\nhttps ="),
                )
            },
            |f| drop(f.change("https =", "http = [\"[::]:80\"]\nhttps =")),
        ),
        row(
            Code::AdminNotLoopback,
            "admin for everybody",
            |f| drop(f.change("[listen]", "[listen]\nadmin = \"0.0.0.0:9000\"")),
            |f| drop(f.change("[listen]", "[listen]\nadmin = \"127.255.0.1:9000\"")),
        ),
        row(
            Code::DefaultHostUnknown,
            "a default host of another",
            |f| drop(f.change("[listen]", "[listen]\ndefault_host = \"www.recre.store\"")),
            |f| drop(f.change("[listen]", "[listen]\ndefault_host = \"recre.store\"")),
        ),
        row(
            Code::IpHostNeedsDefault,
            "an address and no default",
            |f| {
                f.issue(&["recre.store", "192.168.1.2"]);
                f.change("[\"recre.store\"]", "[\"recre.store\", \"192.168.1.2\"]");
            },
            |f| {
                f.issue(&["recre.store", "192.168.1.2"]);
                f.change("[\"recre.store\"]", "[\"recre.store\", \"192.168.1.2\"]");
                f.change("[listen]", "[listen]\ndefault_host = \"recre.store\"");
            },
        ),
        row(
            Code::IpHostNeedsDefault,
            "a default whose certificate lacks the address",
            |f| two_certificates_for_address(f, "recre.store"),
            |f| two_certificates_for_address(f, "192.168.1.2"),
        ),
        row(
            Code::TrustedEverybody,
            "/0",
            |f| drop(f.change("trust", "trusted_proxies = [\"0.0.0.0/0\"]\ntrust")),
            |f| drop(f.change("trust", "trusted_proxies = [\"0.0.0.0/1\"]\ntrust")),
        ),
        row(
            Code::TrustedEverybody,
            "::/0 for the PROXY protocol",
            |f| drop(f.change("[listen]", "[listen]\nproxy_protocol_from = [\"::/0\"]")),
            |f| drop(f.change("[listen]", "[listen]\nproxy_protocol_from = [\"::/1\"]")),
        ),
        row(
            Code::AcmeWithoutHttp,
            "no plain listener",
            |f| drop(f.change("[listen]", "[listen]\nacme_dir = \"acme\"")),
            |f| drop(f.change("[listen]", "[listen]\nacme_dir = \"acme\"\nhttp = [\"[::]:80\"]")),
        ),
        row(
            Code::AcmeWithoutListener,
            "http-01 without a plain listener",
            |f| acme_with(f, "challenge = \"http-01\"", ""),
            |f| acme_with(f, "challenge = \"http-01\"", "http = [\"[::]:80\"]"),
        ),
        row(
            Code::AcmeWithoutListener,
            "the same, where port 443 is enough",
            |f| acme_with(f, "challenge = \"http-01\"", ""),
            |f| acme_with(f, "challenge = \"tls-alpn-01\"", ""),
        ),
        row(
            Code::AcmeWithoutListener,
            "the same, where the edge chooses",
            |f| acme_with(f, "challenge = \"http-01\"", ""),
            |f| acme_with(f, "", ""),
        ),
        row(
            Code::BadValue,
            "a challenge that is not built",
            |f| acme_with(f, "challenge = \"dns-01\"", ""),
            |f| acme_with(f, "challenge = \"auto\"", ""),
        ),
        row(
            Code::BadValue,
            "a challenge in the CA's spelling",
            |f| acme_with(f, "challenge = \"TLS-ALPN-01\"", ""),
            |f| acme_with(f, "challenge = \"tls-alpn-01\"", ""),
        ),
        row(
            Code::AcmePrivateName,
            "a name of private networks from a public CA",
            |f| {
                drop(f.change(
                    "[listen]",
                    "[acme]\nterms = \"agreed\"\n[[acme.certificate]]\nnames = [\"board.lan\"]\n[listen]\nhttp = [\"[::]:80\"]",
                ));
            },
            |f| {
                drop(f.change(
                    "[listen]",
                    "[acme]\nterms = \"agreed\"\n[[acme.certificate]]\nnames = [\"board.example.org\"]\n[listen]\nhttp = [\"[::]:80\"]",
                ));
            },
        ),
        row(
            Code::AcmeDirMissing,
            "a folder that is not here",
            |f| drop(f.change("[listen]", "[listen]\nacme_dir = \"nope\"\nhttp = [\"[::]:80\"]")),
            |f| drop(f.change("[listen]", "[listen]\nacme_dir = \".\"\nhttp = [\"[::]:80\"]")),
        ),
        row(
            Code::AdminFolderMissing,
            "a socket in a folder that is not here",
            |f| drop(f.change("[listen]", "[listen]\nadmin = \"unix:nope/admin.sock\"")),
            |f| drop(f.change("[listen]", "[listen]\nadmin = \"unix:admin.sock\"")),
        ),
        row(
            Code::PublicPortFollows,
            "listeners on one other port",
            |f| drop(f.change("[\"[::]:443\"]", "[\"127.0.0.1:18443\", \"[::1]:18443\"]")),
            |f| drop(f.change("[\"[::]:443\"]", "[\"127.0.0.1:18443\"]\npublic_https_port = 443")),
        ),
        row(
            Code::SendsProxyProtocol,
            "an app that must speak it",
            |f| drop(f.append("send_proxy_protocol = 2\n")),
            as_is,
        ),
        row(
            Code::MdnsUpstream,
            "board.local",
            |f| drop(f.change("127.0.0.1", "board.local")),
            |f| drop(f.change("127.0.0.1", "board.lan")),
        ),
        row(
            Code::PublicUpstream,
            "8.8.8.8",
            |f| drop(f.change("127.0.0.1", "8.8.8.8")),
            |f| {
                f.change("127.0.0.1", "8.8.8.8").append("allow_public_upstream = true\n");
            },
        ),
        row(
            Code::PublicUpstream,
            "behind 172.16.0.0/12",
            |f| drop(f.change("127.0.0.1", "172.32.0.1")),
            |f| drop(f.change("127.0.0.1", "172.31.255.255")),
        ),
        row(
            Code::PublicUpstream,
            "a public IPv6 address",
            |f| drop(f.change("127.0.0.1:3000", "[2001:db8::1]:3000")),
            |f| drop(f.change("127.0.0.1:3000", "[fd00::1]:3000")),
        ),
        row(
            Code::PublicUpstream,
            "a public address as mapped IPv6",
            |f| drop(f.change("127.0.0.1:3000", "[::ffff:8.8.8.8]:3000")),
            |f| drop(f.change("127.0.0.1:3000", "[::ffff:10.0.0.1]:3000")),
        ),
        row(
            Code::UpstreamIsOurselves,
            "our own listener",
            |f| drop(f.change("127.0.0.1:3000", "127.0.0.1:443")),
            |f| drop(f.change("127.0.0.1:3000", "127.0.0.1:444")),
        ),
        row(
            Code::UpstreamIsOurselves,
            "our own listener as localhost",
            |f| drop(f.change("127.0.0.1:3000", "localhost:443")),
            |f| drop(f.change("127.0.0.1:3000", "app:443")),
        ),
        row(
            Code::UpstreamIsOurselves,
            "our own listener by a served name",
            |f| drop(f.change("127.0.0.1:3000", "recre.store:443")),
            |f| drop(f.change("127.0.0.1:3000", "recre.store:3000")),
        ),
        row(
            Code::UpstreamIsOurselves,
            "our own listener on one address",
            |f| drop(f.change("[::]:443", "192.168.1.2:443").change("127.0.0.1:3000", "192.168.1.2:443")),
            |f| drop(f.change("[::]:443", "192.168.1.2:443").change("127.0.0.1:3000", "192.168.1.3:443")),
        ),
        row(
            Code::UpstreamIsOurselves,
            "the default admin socket",
            |f| drop(f.change("127.0.0.1:3000", "unix:/run/sanedge/admin.sock")),
            |f| drop(f.change("127.0.0.1:3000", "unix:/run/sanedge/app.sock")),
        ),
        row(
            Code::UpstreamIsOurselves,
            "the admin address",
            |f| drop(f.change("[listen]", "[listen]\nadmin = \"127.0.0.1:3000\"")),
            |f| drop(f.change("[listen]", "[listen]\nadmin = \"127.0.0.1:3001\"")),
        ),
        row(
            Code::MemoryOverBudget,
            "more sessions than memory",
            |f| drop(f.append("[limits]\nsessions_max = 60000\n")),
            |f| drop(f.append("[limits]\nsessions_max = 4096\n")),
        ),
    ]
}

fn acme_with(f: &mut Folder, acme: &str, listen: &str) {
    let names = "[[acme.certificate]]\nnames = [\"a.example.org\"]";
    f.change("[listen]", &format!("[acme]\nterms = \"agreed\"\n{acme}\n{names}\n[listen]\n{listen}"));
}

fn two_certificates_for_address(f: &mut Folder, default_host: &str) {
    let address = f.ca.issue(&["192.168.1.2"]);
    f.change("[\"recre.store\"]", "[\"recre.store\", \"192.168.1.2\"]");
    f.change("[listen]", &format!("[listen]\ndefault_host = \"{default_host}\""));
    f.certificate("address", &address);
}

fn file_rows() -> Vec<Row> {
    vec![
        row(Code::FileMissing, "no chain", |f| drop(f.change("cert.pem", "certs/cert.pem")), as_is),
        row(Code::FileMissing, "no key", |f| drop(f.change("key.pem", "privkey.pem")), as_is),
        row(Code::FileMissing, "no trust", |f| drop(f.change("ca.pem", "root.pem")), as_is),
        row(Code::FileNotRegular, "a folder", |f| drop(f.change("cert.pem", ".")), as_is),
        row(Code::FileNotRegular, "a device", |f| drop(f.change("\"key.pem\"", "\"/dev/zero\"")), as_is),
        row(Code::FileUnreadable, "a file that cannot be read", unreadable, as_is),
        row(Code::FileEmpty, "an empty chain", |f| f.write("cert.pem", ""), as_is),
        row(Code::FileEmpty, "an empty key", |f| f.write("key.pem", ""), as_is),
        row(Code::FileTooLarge, "10 MB", |f| f.write("cert.pem", vec![b'\n'; 10_000_000]), as_is),
        row(Code::FileTooLarge, "one byte over 1 MiB", |f| padded(f, (1 << 20) + 1), |f| padded(f, 1 << 20)),
        row(Code::PemIsDer, "a certificate in DER", |f| f.write("cert.pem", der(pem(f, "cert.pem"))), as_is),
        row(Code::PemIsDer, "a key in DER", |f| f.write("key.pem", der(pem(f, "key.pem"))), as_is),
        row(Code::PemIsDer, "PKCS #7 in DER", |f| f.write("cert.pem", data("invalid/rsa2048.p7b")), as_is),
        row(
            Code::PemIsPkcs12,
            "a .p12",
            |f| f.write("cert.pem", data("invalid/rsa2048.p12")),
            |f| {
                f.fixture("valid/rsa2048.pem", "valid/rsa2048.key");
            },
        ),
        row(
            Code::PemMalformed,
            "a chain that was cut off",
            |f| f.write("cert.pem", &pem(f, "cert.pem")[..200]),
            as_is,
        ),
        row(
            Code::PemMalformed,
            "junk within the base64",
            |f| f.write("cert.pem", pem(f, "cert.pem").replace("\nMII", "\n!MII")),
            |f| f.write("cert.pem", format!("subject=CN=x\n!\n{}!\n", pem(f, "cert.pem"))),
        ),
        row(
            Code::NoCertificateInFile,
            "a text",
            |f| f.write("cert.pem", "hello\n"),
            |f| f.write("cert.pem", format!("\u{feff}{}", pem(f, "cert.pem")).replace('\n', "\r\n")),
        ),
        row(
            Code::NoCertificateInFile,
            "a request",
            |f| f.write("cert.pem", data("invalid/rsa2048.csr")),
            as_is,
        ),
        row(
            Code::NoCertificateInFile,
            "PKCS #7",
            |f| f.write("cert.pem", data("invalid/rsa2048.p7b.pem")),
            as_is,
        ),
        row(
            Code::KeyAsCertificate,
            "swapped",
            |f| f.write("cert.pem", pem(f, "key.pem")),
            |f| f.write("cert.pem", pem(f, "cert.pem") + &pem(f, "key.pem")),
        ),
        row(
            Code::CertificateAsKey,
            "swapped",
            |f| f.write("key.pem", pem(f, "cert.pem")),
            |f| f.write("key.pem", pem(f, "cert.pem") + &pem(f, "key.pem")),
        ),
        row(
            Code::NoKeyInFile,
            "a text",
            |f| f.write("key.pem", "hello\n"),
            |f| {
                f.write("key.pem", pem(f, "key.pem").replace('\n', "\r\n"));
            },
        ),
        row(
            Code::NoKeyInFile,
            "an SSH key",
            |f| {
                f.write(
                    "key.pem",
                    "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
                )
            },
            as_is,
        ),
        row(
            Code::SeveralKeys,
            "two keys",
            |f| f.write("key.pem", pem(f, "key.pem").repeat(2)),
            |f| {
                f.write(
                    "key.pem",
                    format!(
                        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{}",
                        pem(f, "key.pem")
                    ),
                )
            },
        ),
        row(
            Code::EncryptedKey,
            "PKCS #8",
            |f| f.fixture("valid/rsa2048.pem", "invalid/encrypted.key"),
            |f| f.fixture("valid/rsa2048.pem", "valid/rsa2048.key"),
        ),
        row(
            Code::EncryptedKey,
            "the traditional form",
            |f| f.fixture("valid/rsa2048.pem", "invalid/encrypted.pkcs1.key"),
            |f| f.fixture("valid/rsa2048.pem", "valid/rsa2048.pkcs1.key"),
        ),
        row(
            Code::ChainTooLong,
            "200 certificates",
            |f| f.write("cert.pem", pem(f, "cert.pem").repeat(200)),
            as_is,
        ),
        row(
            Code::ChainTooLong,
            "513 certificates to trust",
            |f| f.write("ca.pem", pem(f, "ca.pem").repeat(513)),
            |f| f.write("ca.pem", pem(f, "ca.pem").repeat(512)),
        ),
        row(
            Code::CertificateMalformed,
            "not X.509",
            |f| f.write("cert.pem", "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"),
            as_is,
        ),
    ]
}

fn pem(f: &Folder, name: &str) -> String {
    std::fs::read_to_string(f.path(name)).unwrap()
}

/// cert.pem followed by blank lines up to this size.
fn padded(f: &mut Folder, size: usize) {
    let mut chain = pem(f, "cert.pem");
    chain.push_str(&"\n".repeat(size - chain.len()));
    f.write("cert.pem", chain);
}

/// Mode 0, or, for root who may read that as well, a file whose reads fail.
fn unreadable(f: &mut Folder) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(f.path("key.pem"), std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(f.path("key.pem")).is_ok() {
        f.change("\"key.pem\"", "\"/proc/self/mem\"");
    }
}

fn key_rows() -> Vec<Row> {
    vec![
        row(
            Code::KeyUnsupported,
            "P-521",
            |f| f.fixture("invalid/p521.pem", "invalid/p521.key"),
            |f| {
                f.install(&f.ca.issue_with(
                    leaf_params(&["recre.store"]),
                    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
                ))
            },
        ),
        row(
            Code::KeyUnsupported,
            "secp256k1",
            |f| f.fixture("invalid/secp256k1.pem", "invalid/secp256k1.key"),
            as_is,
        ),
        row(
            Code::KeyUnsupported,
            "a key of another kind that ring does not take",
            |f| f.write("key.pem", data("invalid/p521.key")),
            as_is,
        ),
        row(
            Code::RsaSize,
            "2040 bits",
            |f| f.fixture("invalid/rsa2040.pem", "invalid/rsa2040.key"),
            |f| f.fixture("valid/rsa2048.pem", "valid/rsa2048.key"),
        ),
        row(Code::RsaSize, "1024 bits", |f| f.fixture("invalid/rsa1024.pem", "invalid/rsa1024.key"), as_is),
        row(
            Code::RsaSize,
            "4104 bits",
            |f| f.fixture("invalid/rsa4104.pem", "invalid/rsa4104.key"),
            |f| f.fixture("valid/rsa4096.pem", "valid/rsa4096.key"),
        ),
        row(
            Code::RsaSize,
            "a CA of 1024 bits",
            |f| {
                f.fixture("invalid/leaf-of-short-ca.pem", "invalid/leaf.key");
                f.write(
                    "cert.pem",
                    pem(f, "cert.pem") + &String::from_utf8(data("invalid/short-ca.pem")).unwrap(),
                );
            },
            |f| f.fixture("invalid/leaf-sha256.pem", "invalid/leaf.key"),
        ),
        row(
            Code::KeyMismatch,
            "another key of the same kind",
            |f| f.write("key.pem", KeyPair::generate().unwrap().serialize_pem()),
            as_is,
        ),
        row(
            Code::KeyMismatch,
            "a key of another kind",
            |f| f.write("key.pem", data("valid/rsa2048.key")),
            as_is,
        ),
        row(
            Code::Ed25519,
            "browsers refuse it",
            |f| {
                f.install(&f.ca.issue_with(
                    leaf_params(&["recre.store"]),
                    KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
                ))
            },
            as_is,
        ),
        row(
            Code::RsaSlow,
            "RSA on a 32-bit board",
            |f| {
                f.fixture("valid/rsa2048.pem", "valid/rsa2048.key");
                f.change("rpi4", "rpi2");
            },
            |f| f.fixture("valid/rsa2048.pem", "valid/rsa2048.key"),
        ),
    ]
}

fn chain_rows() -> Vec<Row> {
    vec![
        row(Code::KeyReadable, "for others", |f| key_mode(f, 0o604), |f| key_mode(f, 0o640)),
        row(
            Code::Expired,
            "a second too late",
            |f| {
                f.issue_with(|p| p.not_after = date_time_ymd(2027, 2, 1));
                f.now = NOW + 1;
            },
            |f| f.issue_with(|p| p.not_after = date_time_ymd(2027, 2, 1)),
        ),
        row(
            Code::Expired,
            "an intermediate",
            |f| through(f, |p| p.not_after = date_time_ymd(2027, 1, 31)),
            |f| through(f, |p| p.not_after = date_time_ymd(2027, 2, 2)),
        ),
        row(
            Code::NotYetValid,
            "a second too early",
            |f| {
                f.issue_with(|p| p.not_before = date_time_ymd(2027, 2, 1));
                f.now = NOW - 1;
            },
            |f| f.issue_with(|p| p.not_before = date_time_ymd(2027, 2, 1)),
        ),
        row(
            Code::ExpiresSoon,
            "a second past thirty days before the end of a year",
            |f| {
                f.issue_with(year_that_ends_in_30_days);
                f.now = NOW + 1;
            },
            |f| f.issue_with(year_that_ends_in_30_days),
        ),
        row(
            Code::CaAsEndEntity,
            "CA:TRUE",
            |f| f.issue_with(|p| p.is_ca = ca_params("x").is_ca),
            |f| {
                f.issue_with(|p| p.is_ca = IsCa::ExplicitNoCa);
            },
        ),
        row(
            Code::NoServerAuth,
            "clientAuth only",
            |f| f.issue_with(|p| p.extended_key_usages = vec![Eku::ClientAuth]),
            |f| f.issue_with(|p| p.extended_key_usages = vec![Eku::ClientAuth, Eku::ServerAuth]),
        ),
        row(Code::NoServerAuth, "no extension", |f| f.issue_with(|p| p.extended_key_usages.clear()), as_is),
        row(
            Code::NoDigitalSignature,
            "keyAgreement only",
            |f| f.issue_with(|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
            |f| f.issue_with(|p| p.key_usages.clear()),
        ),
        row(
            Code::ChainOrder,
            "the intermediate first",
            |f| {
                through(f, |_| {});
                let chain = pem(f, "cert.pem");
                let second = chain.rfind("-----BEGIN").unwrap();
                f.write("cert.pem", [&chain[second..], &chain[..second]].concat());
            },
            |f| through(f, |_| {}),
        ),
        row(
            Code::ChainForeign,
            "the same twice",
            |f| f.write("cert.pem", pem(f, "cert.pem").repeat(2)),
            as_is,
        ),
        row(
            Code::ChainForeign,
            "another CA behind",
            |f| f.install(&f.ca.issue(&["recre.store"]).and(&Ca::new("Other CA").pem)),
            |f| f.install(&f.ca.issue(&["recre.store"]).and(&f.ca.pem)),
        ),
        row(
            Code::ChainSignature,
            "another key under the same name",
            |f| {
                let (used, sent) = (f.ca.subordinate("Intermediate"), f.ca.subordinate("Intermediate"));
                f.install(&used.issue(&["recre.store"]).and(&sent.pem));
            },
            |f| {
                let used = f.ca.subordinate("Intermediate");
                f.install(&used.issue(&["recre.store"]).and(&used.pem));
            },
        ),
        row(
            Code::WeakSignature,
            "SHA-1",
            |f| f.fixture("invalid/leaf-sha1.pem", "invalid/leaf.key"),
            |f| f.fixture("invalid/leaf-sha256.pem", "invalid/leaf.key"),
        ),
        row(
            Code::WeakSignature,
            "SHA-1 below a root of SHA-1, whose own signature does not count",
            |f| with_sha1_root(f, "invalid/leaf-sha1.pem"),
            |f| with_sha1_root(f, "invalid/leaf-sha256.pem"),
        ),
        row(
            Code::MissingIntermediate,
            "a lone leaf with caIssuers",
            |f| lone_leaf(f, Some("http://r11.i.example.org/"), false),
            |f| lone_leaf(f, Some("http://r11.i.example.org/"), true),
        ),
        row(
            Code::NameConstraints,
            "a host outside",
            |f| constrained(f, "other.store"),
            |f| constrained(f, "recre.store"),
        ),
        row(
            Code::NameConstraints,
            "a host outside, under a root that nobody knows",
            |f| {
                constrained(f, "other.store");
                f.change("trust = \"ca.pem\"\n", "");
            },
            |f| {
                constrained(f, "recre.store");
                f.change("trust = \"ca.pem\"\n", "");
            },
        ),
        row(
            Code::ChainRefused,
            "a CA below one that permits none",
            |f| below(f, ca_without_cas_below("Outer")),
            |f| below(f, ca_params("Outer")),
        ),
        row(
            Code::ChainRefused,
            "a chain signed by one that is no CA",
            |f| {
                let mut params = leaf_params(&["intermediate"]);
                params.is_ca = IsCa::ExplicitNoCa;
                let intermediate = f.ca.subordinate_with(params);
                f.install(&intermediate.issue(&["recre.store"]).and(&intermediate.pem));
            },
            |f| through(f, |_| {}),
        ),
        row(
            Code::ChainRefused,
            "an intermediate without keyCertSign",
            |f| through(f, |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
            |f| through(f, |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
        ),
        row(
            Code::ChainRefused,
            "a root without keyCertSign",
            |f| under(f, |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]),
            |f| under(f, |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
        ),
        row(
            Code::ChainRefused,
            "a root that permits no CA below",
            |f| {
                under(f, |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0)));
                through(f, |_| {});
            },
            |f| {
                under(f, |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(1)));
                through(f, |_| {});
            },
        ),
        row(
            Code::ChainRefused,
            "a critical extension that nobody knows, and the right key",
            |f| f.issue_with(|params| params.custom_extensions = vec![unknown_extension(true)]),
            |f| f.issue_with(|params| params.custom_extensions = vec![unknown_extension(false)]),
        ),
        row(
            Code::ChainRefused,
            "a root in trust that has expired",
            |f| drop(roots_of_one_key(f)),
            |f| {
                let (old, new) = roots_of_one_key(f);
                f.write("ca.pem", old + &new);
            },
        ),
        row(
            Code::SelfSigned,
            "by itself",
            |f| f.install(&self_signed(leaf_params(&["recre.store"]))),
            |f| {
                f.install(&self_signed(leaf_params(&["recre.store"])));
                f.write("ca.pem", pem(f, "cert.pem"));
            },
        ),
        row(Code::UnknownCa, "no trust", |f| drop(f.change("trust = \"ca.pem\"\n", "")), as_is),
        row(
            Code::NotInTrust,
            "an intermediate of the trusted CA is missing",
            |f| lone_leaf(f, None, false),
            |f| lone_leaf(f, None, true),
        ),
        row(
            Code::NotInTrust,
            "trust names another CA",
            |f| f.write("ca.pem", Ca::new("Other CA").pem),
            |f| f.write("ca.pem", [Ca::new("Other CA").pem, f.ca.pem.clone()].concat()),
        ),
        row(
            Code::RootIncluded,
            "the root behind",
            |f| f.install(&f.ca.issue(&["recre.store"]).and(&f.ca.pem)),
            as_is,
        ),
    ]
}

/// What some client family refuses, and webpki does not.
fn client_rows() -> Vec<Row> {
    vec![
        row(Code::LifetimeTooLong, "a day more than Apple's 825", |f| valid(f, 826), |f| valid(f, 825)),
        row(
            Code::MustStaple,
            "status_request",
            |f| f.issue_with(|p| p.custom_extensions.push(tls_feature(5))),
            |f| f.issue_with(|p| p.custom_extensions.push(tls_feature(6))),
        ),
        row(
            Code::MustStaple,
            "status_request_v2",
            |f| f.issue_with(|p| p.custom_extensions.push(tls_feature(17))),
            as_is,
        ),
        row(Code::SerialNumber, "21 octets", |f| serial(f, &[0x7f; 21]), |f| serial(f, &[0x7f; 20])),
        row(Code::SerialNumber, "zero", |f| serial(f, &[0]), |f| serial(f, &[1])),
        row(Code::StrictClients, "no authorityKeyIdentifier", without_key_identifier, as_is),
        row(
            Code::StrictClients,
            "a trusted root without keyUsage",
            |f| {
                let mut params = ca_params("Home CA");
                params.key_usages.clear();
                f.ca = Ca::root_with(params);
                f.write("ca.pem", f.ca.pem.clone());
                f.issue(&["recre.store"]);
            },
            as_is,
        ),
        row(
            Code::NoTimestamps,
            "by the name of a public CA",
            |f| {
                named_like_a_public_ca(f);
                f.change("trust = \"ca.pem\"\n", "");
            },
            // In `trust` it is a CA of one's own.
            named_like_a_public_ca,
        ),
        row(
            Code::ChainUnverified,
            "P-256 with SHA-512",
            |f| of_a_curve(f, "P-256"),
            |f| f.fixture("invalid/leaf-sha256.pem", "invalid/leaf.key"),
        ),
        row(Code::ChainUnverified, "a CA with a P-521 key", |f| of_a_curve(f, "P-521"), as_is),
    ]
}

fn valid(f: &mut Folder, days: i64) {
    f.issue_with(|p| {
        p.not_before = date_time_ymd(2026, 6, 1);
        p.not_after = p.not_before + time::Duration::days(days);
    });
}

fn serial(f: &mut Folder, bytes: &[u8]) {
    f.issue_with(|p| p.serial_number = Some(rcgen::SerialNumber::from_slice(bytes)));
}

fn without_key_identifier(f: &mut Folder) {
    f.issue_with(|p| p.use_authority_key_identifier_extension = false);
}

/// A TLS feature extension (RFC 7633) with one feature.
fn tls_feature(number: u8) -> rcgen::CustomExtension {
    rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], vec![0x30, 3, 2, 1, number])
}

/// The CA has the name of ISRG Root X1 and a key of its own.
fn named_like_a_public_ca(f: &mut Folder) {
    use rcgen::{DnType, DnValue::PrintableString};
    let mut params = ca_params("");
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, text) in [
        (DnType::CountryName, "US"),
        (DnType::OrganizationName, "Internet Security Research Group"),
        (DnType::CommonName, "ISRG Root X1"),
    ] {
        params.distinguished_name.push(kind, PrintableString(text.try_into().unwrap()));
    }
    f.ca = Ca::root_with(params);
    f.write("ca.pem", f.ca.pem.clone());
    f.issue(&["recre.store"]);
}

/// Signed with SHA-512 by a CA on this curve, which is trusted.
fn of_a_curve(f: &mut Folder, curve: &str) {
    f.write("cert.pem", data(&format!("invalid/leaf-of-{curve}.pem")));
    f.write("key.pem", data("invalid/leaf.key"));
    f.write("ca.pem", data(&format!("invalid/{curve}-ca.pem")));
}

fn key_mode(f: &mut Folder, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(f.path("key.pem"), std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Seconds as in the rule: 365 days that end thirty days after [`NOW`].
fn year_that_ends_in_30_days(params: &mut rcgen::CertificateParams) {
    params.not_before = date_time_ymd(2026, 3, 3);
    params.not_after = date_time_ymd(2027, 3, 3);
}

/// leaf <- intermediate <- the trusted CA.
fn through(f: &mut Folder, change: impl FnOnce(&mut rcgen::CertificateParams)) {
    let mut params = ca_params("Intermediate");
    change(&mut params);
    let intermediate = f.ca.subordinate_with(params);
    f.install(&intermediate.issue(&["recre.store"]).and(&intermediate.pem));
}

/// Makes the CA again, with these parameters.
fn under(f: &mut Folder, change: impl FnOnce(&mut rcgen::CertificateParams)) {
    let mut params = ca_params("Home CA");
    change(&mut params);
    f.ca = Ca::root_with(params);
    f.write("ca.pem", &f.ca.pem);
    f.issue(&["recre.store"]);
}

fn unknown_extension(critical: bool) -> rcgen::CustomExtension {
    let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0x05, 0x00]);
    extension.set_criticality(critical);
    extension
}

/// Trusts a root that has expired; it comes back with the one that was made of the same key and name afterwards.
fn roots_of_one_key(f: &mut Folder) -> (String, String) {
    let (key, new) = (KeyPair::generate().unwrap(), ca_params("Home CA"));
    let mut old = new.clone();
    old.not_after = date_time_ymd(2027, 1, 1);
    let (old, pem) = (old.self_signed(&key).unwrap().pem(), new.self_signed(&key).unwrap().pem());
    f.ca = Ca { issuer: rcgen::Issuer::new(new, key), pem: pem.clone() };
    f.write("ca.pem", &old);
    f.issue(&["recre.store"]);
    (old, pem)
}

fn with_sha1_root(f: &mut Folder, leaf: &str) {
    f.fixture(leaf, "invalid/leaf.key");
    f.write("cert.pem", [data(leaf), data("invalid/sha1-root.pem")].concat());
}

fn lone_leaf(f: &mut Folder, issuer_url: Option<&str>, whole: bool) {
    let intermediate = f.ca.subordinate("Intermediate");
    let mut params = leaf_params(&["recre.store"]);
    params.custom_extensions.extend(issuer_url.map(ca_issuers));
    let issued = intermediate.issue_with(params, KeyPair::generate().unwrap());
    f.install(&if whole { issued.and(&intermediate.pem) } else { issued });
}

fn constrained(f: &mut Folder, domain: &str) {
    let intermediate = f.ca.subordinate_with(ca_for("Intermediate", domain));
    f.install(&intermediate.issue(&["recre.store"]).and(&intermediate.pem));
}

/// leaf <- inner <- outer, which is as given <- the trusted CA.
fn below(f: &mut Folder, outer: rcgen::CertificateParams) {
    let outer = f.ca.subordinate_with(outer);
    let inner = outer.subordinate("Inner");
    f.install(&inner.issue(&["recre.store"]).and(&inner.pem).and(&outer.pem));
}

fn name_rows() -> Vec<Row> {
    vec![
        row(
            Code::HostNotCovered,
            "a subdomain",
            |f| drop(f.change("[\"recre.store\"]", "[\"recre.store\", \"socket.recre.store\"]")),
            |f| {
                f.change("[\"recre.store\"]", "[\"recre.store\", \"socket.recre.store\"]");
                f.issue(&["recre.store", "socket.recre.store"]);
            },
        ),
        row(
            Code::HostNotCovered,
            "the domain below a wildcard",
            |f| f.issue(&["*.recre.store"]),
            |f| {
                f.issue(&["*.recre.store"]);
                f.change("\"recre.store\"", "\"a.recre.store\"");
            },
        ),
        row(
            Code::HostNotCovered,
            "two labels under a wildcard",
            |f| {
                f.issue(&["recre.store", "*.recre.store"]);
                f.change("[\"recre.store\"]", "[\"recre.store\", \"a.b.recre.store\"]");
            },
            |f| {
                f.issue(&["recre.store", "*.b.recre.store"]);
                f.change("[\"recre.store\"]", "[\"recre.store\", \"a.b.recre.store\"]");
            },
        ),
        row(
            Code::HostNotCovered,
            "a suffix without a label boundary",
            |f| drop(f.change("\"recre.store\"", "\"evilrecre.store\"")),
            as_is,
        ),
        row(
            Code::HostNotCovered,
            "an address as a dNSName",
            |f| {
                f.issue_with(|p| p.subject_alt_names = vec![dns("192.168.1.2"), dns("recre.store")]);
                address_host(f);
            },
            |f| {
                f.issue(&["192.168.1.2", "recre.store"]);
                address_host(f);
            },
        ),
        row(
            Code::UnusableSan,
            "a partial wildcard",
            |f| f.issue_with(|p| p.subject_alt_names.push(dns("s*.recre.store"))),
            |f| f.issue_with(|p| p.subject_alt_names.push(dns("*.recre.store"))),
        ),
        row(
            Code::UnusableSan,
            "a star alone",
            |f| f.issue_with(|p| p.subject_alt_names.push(dns("*"))),
            as_is,
        ),
        row(
            Code::UnusableSan,
            "a wildcard over a whole top-level domain",
            |f| f.issue_with(|p| p.subject_alt_names.push(dns("*.store"))),
            as_is,
        ),
        row(
            Code::UnusableSan,
            "a NUL within",
            |f| f.issue_with(|p| p.subject_alt_names.push(dns("recre.store\0.evil.test"))),
            |f| f.issue_with(|p| p.subject_alt_names.push(dns("recre.store.evil.test"))),
        ),
        row(Code::NoSan, "a common name only", |f| f.issue_with(|p| p.subject_alt_names.clear()), as_is),
        row(
            Code::UnusedCertificate,
            "a certificate for nobody",
            |f| {
                let other = f.ca.issue(&["other.store"]);
                f.certificate("other", &other);
            },
            |f| {
                let other = f.ca.issue(&["other.store"]);
                f.certificate("other", &other);
                f.append("[[site]]\nhosts = [\"other.store\"]\nupstream = [\"127.0.0.1:1\"]\n");
            },
        ),
        row(
            Code::CertificateChosen,
            "two for one host",
            |f| {
                let other = f.ca.issue(&["*.recre.store", "recre.store"]);
                f.certificate("other", &other);
            },
            |f| {
                let other = f.ca.issue(&["www.recre.store"]);
                f.certificate("other", &other);
                f.append("[[site]]\nhosts = [\"www.recre.store\"]\nupstream = [\"127.0.0.1:1\"]\n");
            },
        ),
    ]
}

fn address_host(f: &mut Folder) {
    f.change("[\"recre.store\"]", "[\"recre.store\", \"192.168.1.2\"]");
    f.change("[listen]", "[listen]\ndefault_host = \"recre.store\"");
}

/// Codes that come along with another, because what is wrong is wrong in both ways.
fn companions(code: Code) -> &'static [Code] {
    match code {
        // A certificate without usable names covers no host.
        Code::NoSan => &[Code::HostNotCovered],
        // Nobody has the key of a public CA: the chain cannot be valid.
        Code::NoTimestamps => &[Code::ChainRefused],
        _ => &[],
    }
}

#[test]
fn each_finding_has_an_input_just_bad_enough_and_a_good_twin() {
    let rows = rows();
    assert!(rows.len() > 100, "only {} rows", rows.len());
    let wrong: Vec<String> = rows.iter().filter_map(|row| check(row).err()).collect();
    assert!(wrong.is_empty(), "{} of {} rows:\n\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

fn check(row: &Row) -> Result<(), String> {
    let mut bad = run(row.bad);
    let says = |ok: bool, outcome: &Outcome, what: &str| {
        if ok { Ok(()) } else { Err(format!("{:?}, {}: {what}\n{}", row.code, row.what, texts(outcome))) }
    };
    let finding = bad.findings.iter().find(|f| f.code == row.code);
    says(finding.is_some(), &bad, "not found")?;
    let errors = codes(&bad, Severity::Error);
    let alone = errors.iter().all(|c| *c == row.code || companions(row.code).contains(c));
    says(alone, &bad, "something else is wrong as well")?;
    let said = finding.is_some_and(|f| {
        let fields = [&f.message, &f.expected, &f.found, &f.remedy];
        fields.iter().all(|field| !field.is_empty()) && f.place.file.is_some()
    });
    says(said, &bad, "a field is empty")?;
    let written = opened(&mut bad).is_some();
    says(written == errors.is_empty(), &bad, "a bundle in spite of errors, or none without")?;

    let mut good = run(row.good);
    says(!good.findings.iter().any(|f| f.code == row.code), &good, "the good twin has it too")?;
    says(codes(&good, Severity::Error).is_empty(), &good, "the good twin is wrong")?;
    let written = opened(&mut good).is_some();
    says(written, &good, "the good twin makes no bundle")
}

#[test]
fn every_code_has_a_row() {
    // No input brings a mistake of ours about: `compile::encode` has a test of its own for it. What is not written is
    // the command's business: `an_output_that_cannot_be_written_is_said` in bundle_command.rs.
    // Carrying over needs a bundle in place: tests/carry_over.rs.
    let mut seen: BTreeSet<Code> = rows().iter().map(|row| row.code).collect();
    seen.extend(crate::leaks_findings::NO_ROW.iter().map(|(code, _)| *code));
    let missing: Vec<_> = Code::ALL.iter().filter(|code| !seen.contains(code)).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    assert_eq!(seen.len(), Code::ALL.len());
}

#[test]
fn a_damaged_certificate_is_reported_in_words() {
    for base64 in ["MAMCAQE=", "AAAA", "MIIBAAEC", "////MIIB"] {
        let text = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
        let outcome = run(|f| f.write("cert.pem", text));
        let found = outcome.findings.iter().find(|f| f.code == Code::CertificateMalformed).unwrap();
        assert!(!found.found.contains(['(', '{', ':']), "{}", texts(&outcome));
    }
}

#[test]
fn a_misspelled_key_is_reported_before_what_follows_from_it() {
    let outcome = run(|f| drop(f.change("hosts = ", "hostz = ").change("board = \"rpi4\"\n", "")));
    let told: Vec<Code> = outcome.findings.iter().map(|f| f.code).take(2).collect();
    assert_eq!(told, [Code::UnknownKey, Code::MissingKey], "{}", texts(&outcome));
    assert!(outcome.findings[0].remedy.contains("`hosts`"), "{}", texts(&outcome));
    for (word, ours) in [("servr", "upstream"), ("servers", "upstream"), ("proxy_pass", "upstream")] {
        let mut folder = Folder::good();
        folder.change("upstream = ", &format!("{word} = "));
        let outcome = compile(&folder.sanedge_toml(), NOW);
        let first = &outcome.findings[0];
        assert_eq!(
            (first.code, first.remedy.as_str()),
            (Code::UnknownKey, format!("Did you mean `{ours}`?").as_str())
        );
    }
}

#[test]
fn a_top_level_key_below_a_table_is_reported_with_its_place_and_not_as_missing() {
    for (table, change) in [
        ("[limits]", (|f| drop(f.change("board = ", "[limits]\nboard = "))) as Change),
        ("[[certificate]]", |f| {
            f.change("board = \"rpi4\"\n", "").change("key = ", "board = \"rpi4\"\nkey = ");
        }),
    ] {
        let outcome = run(change);
        let finding = outcome.findings.iter().find(|f| f.message.contains("`board`")).unwrap();
        assert_eq!(finding.code, Code::UnknownKey, "{}", texts(&outcome));
        assert!(finding.remedy.contains("above the first [table]"), "{finding:?}");
        assert!(finding.remedy.contains(table), "{finding:?}");
        let missing = outcome.findings.iter().any(|f| f.code == Code::MissingKey);
        assert!(!missing, "{}", texts(&outcome));
    }
}

#[test]
fn a_missing_file_is_reported_with_where_it_should_be() {
    let remedy = |chain: &str| {
        let outcome = run(|f| drop(f.change("chain = \"cert.pem\"", &format!("chain = \"{chain}\""))));
        of(&outcome, Code::FileMissing).remedy.clone()
    };
    let certbot = remedy("/etc/letsencrypt/live/no-such.store/fullchain.pem");
    for said in [
        "sudo certbot certonly --standalone --cert-name no-such.store -d recre.store",
        "--webroot -w /var/lib/sanedge/acme",
        "acme_dir",
    ] {
        assert!(certbot.contains(said), "{said} in {certbot}");
    }
    for absolute in ["/nowhere/at/all.pem", "/etc/no-such.pem"] {
        let said = remedy(absolute);
        assert!(!said.contains("Relative paths") && !said.contains("certbot"), "{said}");
    }
    for relative in ["nowhere/at-all.pem", "no-such.pem"] {
        assert!(remedy(relative).contains("Relative paths begin at"), "{}", remedy(relative));
    }
}

#[test]
fn a_good_folder_has_nothing_to_say() {
    let mut outcome = run(as_is);
    assert!(outcome.findings.is_empty(), "{}", texts(&outcome));
    let bundle = opened(&mut outcome).unwrap();
    assert_eq!(bundle.hosts.len(), 1);
    assert_eq!(bundle.certificates[0].label, "cert.pem");
}

#[test]
fn the_public_port_is_that_of_the_listeners_where_they_agree() {
    let rows: [(&str, u16, &str); 5] = [
        ("[\"127.0.0.1:18443\"]", 18443, "https://recre.store:18443"),
        ("[\"127.0.0.1:18443\", \"[::1]:18443\"]", 18443, "https://recre.store:18443"),
        ("[\"127.0.0.1:18443\", \"[::1]:8443\"]", 443, "https://recre.store"),
        ("[\"127.0.0.1:0\"]", 443, "https://recre.store"),
        ("[\"127.0.0.1:18443\"]\npublic_https_port = 8443", 8443, "https://recre.store:8443"),
    ];
    for (https, port, origin) in rows {
        let mut folder = Folder::good();
        folder.change("[\"[::]:443\"]", https);
        let mut outcome = compile(&folder.sanedge_toml(), NOW);
        let noted = outcome.findings.iter().any(|f| f.code == Code::PublicPortFollows);
        assert_eq!(noted, port == 18443, "{https}");
        let bundle = opened(&mut outcome).unwrap();
        assert_eq!(bundle.listen.public_https_port, port, "{https}");
        assert_eq!(bundle.own_pages(0)[0].to_string(), origin, "{https}");
    }
}

#[test]
fn a_chain_that_misses_the_trusted_ca_is_reported_with_both_ends_and_both_causes() {
    let outcome = run(|f| lone_leaf(f, None, false));
    let finding = of(&outcome, Code::NotInTrust);
    assert!(finding.found.contains("Intermediate") && finding.found.contains("Home CA"), "{finding:?}");
    assert!(
        finding.remedy.contains("missing from `chain`") && finding.remedy.contains("another"),
        "{finding:?}"
    );
}

#[test]
fn a_certificate_of_a_staging_ca_is_told_from_one_of_a_private_ca() {
    let remedy = |name: &'static str| {
        let outcome = run(|f| {
            let ca = Ca::new(name);
            let intermediate = ca.subordinate(name);
            f.install(&intermediate.issue(&["recre.store"]).and(&intermediate.pem));
            f.change("trust = \"ca.pem\"\n", "");
        });
        of(&outcome, Code::UnknownCa).remedy.clone()
    };
    let trial = remedy("(STAGING) Pretend Pear X1");
    assert!(trial.contains("renew --now") && trial.contains("--test-cert"), "{trial}");
    let private = remedy("Home CA");
    assert!(private.contains("trust = ") && !private.contains("trials"), "{private}");
}

#[test]
fn a_remedy_carries_the_value_that_was_found() {
    let rows: [(&str, &str, &str); 7] = [
        ("[\"127.0.0.1:3000\"]", "\"127.0.0.1:3002\"", "Write upstream = [\"127.0.0.1:3002\"]."),
        ("[\"127.0.0.1:3000\"]", "3002", "Write upstream = [\"127.0.0.1:3002\"]."),
        ("[\"recre.store\"]", "\"www.recre.store\"", "Write hosts = [\"www.recre.store\"]."),
        ("[\"[::]:443\"]", "8443", "Write https = [\"[::]:8443\"]."),
        ("[\"[::]:443\"]", "[\"[::]:443\"]\nadmin = 9000", "Write admin = \"127.0.0.1:9000\"."),
        ("[\"[::]:443\"]", "70000", "Write https = [\"[::]:443\"]."),
        ("\"rpi4\"", "[\"rpi5\"]", "Write board = \"rpi5\"."),
    ];
    for (from, to, remedy) in rows {
        let mut folder = Folder::good();
        folder.change(from, to);
        let outcome = compile(&folder.sanedge_toml(), NOW);
        assert_eq!(of(&outcome, Code::WrongType).remedy, remedy, "{to}");
    }
    let outcome = run(|f| drop(f.change("\"recre.store\"", "\"https://recre.store:8443/app\"")));
    let finding = of(&outcome, Code::BadHost);
    assert!(finding.remedy.contains("Write \"recre.store\"") && finding.found.contains("URL"), "{finding:?}");
}

#[test]
fn one_mistake_in_toml_is_one_finding_that_says_what_to_type() {
    let one = |change: Change| {
        let outcome = run(change);
        assert_eq!(outcome.findings.len(), 1, "{}", texts(&outcome));
        outcome.findings[0].clone()
    };
    let unquoted = one(|f| drop(f.change("\"rpi4\"", "rpi4")));
    assert_eq!((unquoted.code, unquoted.place.line), (Code::TomlSyntax, Some(1)));
    assert!(unquoted.found.contains("board = rpi4"), "{unquoted:?}");
    assert!(unquoted.remedy.ends_with("board = \"rpi4\""), "{unquoted:?}");
    let pem = one(|f| f.source = pem(f, "key.pem"));
    assert!(pem.message.contains("PEM file"), "{pem:?}");
    let sites = one(|f| drop(f.change("[[site]]", "[[sites]]")));
    assert_eq!((sites.code, sites.remedy.as_str()), (Code::UnknownKey, "Did you mean `site`?"));
    let strange = one(|f| drop(f.append("qqqqqq = 1\n")));
    assert!(strange.expected.contains("send_proxy_protocol, access_log"), "{strange:?}");
    let twice = one(|f| drop(f.change("[\"recre.store\"]", "[\"recre.store\", \"recre.store\"]")));
    assert_eq!(twice.found, "it appears twice on this line");
    let home = one(|f| drop(f.change("\"key.pem\"", "\"~/key.pem\"")));
    assert!(home.remedy.contains("`~`"), "{home:?}");
    let trust = one(|f| drop(f.change("\"ca.pem\"", "\"key.pem\"")));
    assert_eq!(trust.code, Code::KeyAsCertificate);
    assert!(!trust.remedy.contains("swapped"), "{trust:?}");
}

#[test]
fn a_command_to_convert_writes_to_a_new_file() {
    let mut folder = Folder::good();
    folder.change("\"cert.pem\"", "\"good.der\"");
    folder.write("good.der", der(pem(&folder, "cert.pem")));
    for wanted in ["good.pem", "good.converted.pem", "good.2.converted.pem"] {
        let remedy = of(&compile(&folder.sanedge_toml(), NOW), Code::PemIsDer).remedy.clone();
        assert!(remedy.ends_with(&format!("-out {}", folder.path(wanted).display())), "{remedy}");
        folder.write(wanted, "something else");
    }
}

#[test]
fn two_certificates_that_end_on_one_day_do_not_contradict_themselves() {
    let mut folder = Folder::good();
    let mut params = leaf_params(&["recre.store"]);
    params.not_after = date_time_ymd(2027, 4, 1);
    folder.install(&folder.ca.issue_with(params.clone(), KeyPair::generate().unwrap()));
    params.not_after += Duration::from_secs(60);
    let longer = folder.ca.issue_with(params, KeyPair::generate().unwrap());
    folder.certificate("longer", &longer);
    let outcome = compile(&folder.sanedge_toml(), NOW);
    let chosen = &of(&outcome, Code::CertificateChosen).message;
    assert!(chosen.contains("60 seconds"), "{chosen}");
    let unused = of(&outcome, Code::UnusedCertificate);
    assert_eq!(unused.expected, "one certificate for each host");
}

#[test]
fn a_certificate_made_by_hand_has_one_finding_with_one_command_for_all_hosts() {
    let changes: [(Code, ChangeParams); 4] = [
        (Code::CaAsEndEntity, |p| *p = ca_params("My Home CA")),
        (Code::NoSan, |p| {
            p.subject_alt_names.clear();
            p.extended_key_usages.clear();
        }),
        (Code::NoServerAuth, |p| p.extended_key_usages.clear()),
        (Code::NoDigitalSignature, |p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
    ];
    for (code, change) in changes {
        let mut folder = Folder::good();
        let mut params = leaf_params(&["recre.store", "192.168.1.2"]);
        change(&mut params);
        folder.install(&self_signed(params));
        address_host(&mut folder);
        let outcome = compile(&folder.sanedge_toml(), NOW);
        assert_eq!(outcome.findings.len(), 1, "{}", texts(&outcome));
        let remedy = &of(&outcome, code).remedy;
        assert!(remedy.contains("subjectAltName=DNS:recre.store,IP:192.168.1.2 "), "{remedy}");
        assert!(remedy.contains("openssl req -x509") && !remedy.contains("My Home CA"), "{remedy}");
    }
}

#[test]
fn a_chain_shaped_like_lets_encrypts_has_no_finding() {
    let mut outcome = run(|f| {
        let intermediate = f.ca.subordinate("R11");
        let mut params = leaf_params(&["recre.store"]);
        params.custom_extensions.push(ca_issuers("http://r11.i.example.org/"));
        params.not_after = date_time_ymd(2027, 4, 1);
        let params = odd_certs::no_subject(params);
        f.install(&intermediate.issue_with(params, KeyPair::generate().unwrap()).and(&intermediate.pem));
    });
    assert!(outcome.findings.is_empty(), "{}", texts(&outcome));
    assert_eq!(opened(&mut outcome).unwrap().certificates[0].key.cert.len(), 2);
}

/// The evening of the story: one certificate for one name, and a second name in front of the Socket.IO port.
#[test]
fn the_story_is_refused_with_both_names_and_a_command_for_both() {
    let add_site: Change =
        |f| drop(f.append("[[site]]\nhosts = [\"socket.recre.store\"]\nupstream = [\"127.0.0.1:3002\"]\n"));
    let outcome = run(add_site);
    assert!(outcome.bundle.is_none());
    let finding = of(&outcome, Code::HostNotCovered);
    assert_eq!(finding.place.host.as_deref(), Some("socket.recre.store"));
    assert_eq!(finding.found, "`cert.pem` covers only `recre.store`");
    assert!(
        finding.remedy.contains("\n  certbot certonly --expand -d recre.store -d socket.recre.store\n"),
        "{finding:?}"
    );

    let mut outcome = run(|f| {
        f.append("[[site]]\nhosts = [\"socket.recre.store\"]\nupstream = [\"127.0.0.1:3002\"]\n");
        f.issue(&["recre.store", "socket.recre.store"]);
    });
    assert!(outcome.findings.is_empty(), "{}", texts(&outcome));
    let bundle = opened(&mut outcome).unwrap();
    let origins: Vec<_> = bundle.own_pages(1).iter().map(ToString::to_string).collect();
    assert_eq!(origins, ["https://socket.recre.store", "https://recre.store"], "the parent host may connect");
}

#[test]
fn the_command_to_reissue_has_the_full_list_of_names() {
    let remedy = |change: Change| of(&run(change), Code::HostNotCovered).remedy.clone();
    let two = remedy(|f| {
        f.issue(&["recre.store", "www.recre.store"]);
        f.change("[\"recre.store\"]", "[\"recre.store\", \"a.recre.store\", \"b.recre.store\"]");
    });
    assert!(
        two.contains("--expand -d recre.store -d www.recre.store -d a.recre.store -d b.recre.store\n"),
        "{two}"
    );
    let wildcard = remedy(|f| f.issue(&["*.recre.store"]));
    assert!(
        wildcard.contains("--preferred-challenges dns --expand -d '*.recre.store' -d recre.store"),
        "{wildcard}"
    );
    let private = remedy(|f| drop(f.change("[\"recre.store\"]", "[\"recre.store\", \"pi.local\"]")));
    assert!(private.contains("mkcert recre.store pi.local") && !private.contains("certbot"), "{private}");
    let stranger = remedy(|f| {
        let other = f.ca.issue(&["other.test.org"]);
        f.certificate("other", &other);
        f.change("[\"recre.store\"]", "[\"recre.store\", \"example.net\"]");
        f.append("[[site]]\nhosts = [\"other.test.org\"]\nupstream = [\"127.0.0.1:1\"]\n");
    });
    assert!(stranger.contains("certbot certonly -d example.net\n"), "{stranger}");
}

#[test]
fn the_certificate_nearest_in_name_is_the_one_to_reissue() {
    let outcome = run(|f| {
        let other = f.ca.issue(&["other.test.org"]);
        f.certificate("other", &other);
        f.change("[\"recre.store\"]", "[\"recre.store\", \"socket.recre.store\"]");
        f.append("[[site]]\nhosts = [\"other.test.org\"]\nupstream = [\"127.0.0.1:1\"]\n");
    });
    let finding = of(&outcome, Code::HostNotCovered);
    assert!(finding.remedy.contains("-d recre.store -d socket.recre.store"), "{finding:?}");
    assert!(finding.found.contains("`other.pem` covers only `other.test.org`"), "each certificate is listed");
    assert_eq!(finding.place.certificate.as_deref(), Some("cert.pem"));
}

#[test]
fn all_problems_are_reported_in_one_run_in_the_order_of_severity() {
    let outcome = run(|f| {
        f.change("rpi4", "rpi99")
            .change("127.0.0.1:3000", "8.8.8.8:80")
            .change("[\"recre.store\"]", "[\"x.recre.store\"]");
        f.write("key.pem", "");
        f.append("nonsense = 1\n");
    });
    let errors = codes(&outcome, Severity::Error);
    let expected =
        [Code::UnknownKey, Code::UnknownBoard, Code::PublicUpstream, Code::FileEmpty, Code::HostNotCovered];
    assert_eq!(errors, BTreeSet::from(expected), "{}", texts(&outcome));
    assert!(outcome.findings.is_sorted_by_key(|f| f.severity()));
}

#[test]
fn findings_name_their_line() {
    for (newline, mark) in [("\n", ""), ("\r\n", "\u{feff}")] {
        let mut folder = Folder::good();
        folder.append("upsteam = []\n");
        folder.source = format!("{mark}{}", folder.source.replace('\n', newline));
        let outcome = compile(&folder.sanedge_toml(), NOW);
        let finding = of(&outcome, Code::UnknownKey);
        assert_eq!(finding.place.line, Some(14), "{finding:?}");
        assert_eq!(finding.remedy, "Did you mean `upstream`?");
        assert_eq!(codes(&outcome, Severity::Error).len(), 1, "{}", texts(&outcome));
    }
}

#[test]
fn a_key_in_the_wrong_table_is_reported_with_its_place() {
    let outcome = run(|f| drop(f.append("sessions_max = 5\ntrusted_proxies = []\n")));
    let remedies: Vec<_> = outcome.findings.iter().map(|f| f.remedy.as_str()).collect();
    assert!(remedies.iter().any(|r| r.contains("belongs in [limits]")), "{remedies:?}");
    let outcome = run(|f| drop(f.change("trust", "sesions_max = 5\ntrust")));
    assert_eq!(of(&outcome, Code::UnknownKey).remedy, "Did you mean `sessions_max` in [limits]?");
    assert!(
        remedies.iter().any(|r| r.contains("`trusted_proxies` belongs at the top of the file")),
        "{remedies:?}"
    );
}

#[test]
fn commands_to_convert_are_printed() {
    let remedy = |code, change: Change| of(&run(change), code).remedy.clone();
    let certificate = remedy(Code::PemIsDer, |f| f.write("cert.pem", der(pem(f, "cert.pem"))));
    assert!(certificate.contains("openssl x509 -inform DER -in "), "{certificate}");
    let key = remedy(Code::PemIsDer, |f| f.write("key.pem", der(pem(f, "key.pem"))));
    assert!(key.contains("openssl pkey -inform DER -in "), "{key}");
    let encrypted = remedy(Code::EncryptedKey, |f| f.write("key.pem", data("invalid/encrypted.key")));
    assert!(encrypted.contains("openssl pkey -in "), "{encrypted}");
    let archive = remedy(Code::PemIsPkcs12, |f| f.write("key.pem", data("invalid/rsa2048.p12")));
    assert!(archive.contains("openssl pkcs12 -in ") && archive.contains("-nocerts"), "{archive}");
    let missing =
        remedy(Code::MissingIntermediate, |f| lone_leaf(f, Some("http://r11.i.example.org/"), false));
    assert!(missing.contains("curl -s http://r11.i.example.org/ | openssl x509"), "{missing}");
}

#[test]
fn the_choice_among_several_certificates_is_that_of_the_design() {
    let chosen = |change: Change| {
        let mut outcome = run(change);
        let note = of(&outcome, Code::CertificateChosen).message.clone();
        let bundle = opened(&mut outcome).unwrap();
        assert_eq!(bundle.certificates.len(), 1, "one that no host uses does not go to the board");
        (bundle.certificates[0].label.clone(), note)
    };
    let (label, note) = chosen(|f| {
        f.issue(&["*.recre.store"]);
        f.change("\"recre.store\"", "\"a.recre.store\"");
        f.write("other.pem", data("valid/rsa2048.pem"));
        let rsa = KeyPair::from_pem(&String::from_utf8(data("valid/rsa2048.key")).unwrap()).unwrap();
        let exact = f.ca.issue_with(leaf_params(&["a.recre.store"]), rsa);
        f.certificate("other", &exact);
    });
    assert!(label == "other.pem" && note.contains("exactly"), "{label}: {note}");
    let (label, note) = chosen(|f| {
        let kind = |alg| KeyPair::generate_for(alg).unwrap();
        let ed25519 = f.ca.issue_with(leaf_params(&["recre.store"]), kind(&rcgen::PKCS_ED25519));
        let p384 = f.ca.issue_with(leaf_params(&["recre.store"]), kind(&rcgen::PKCS_ECDSA_P384_SHA384));
        f.install(&ed25519);
        f.certificate("other", &p384);
    });
    assert!(
        label == "other.pem" && note.contains("ECDSA P-384") && note.contains("Ed25519"),
        "{label}: {note}"
    );
    let (label, note) = chosen(|f| {
        let rsa = KeyPair::from_pem(&String::from_utf8(data("valid/rsa2048.key")).unwrap()).unwrap();
        f.install(&f.ca.issue_with(leaf_params(&["recre.store"]), rsa));
        let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let ed25519 = f.ca.issue_with(leaf_params(&["recre.store"]), ed25519);
        f.certificate("other", &ed25519);
    });
    assert!(label == "other.pem" && note.contains("RSA 2048"), "{label}: {note}");
    let (label, note) = chosen(|f| {
        f.issue_with(|p| p.not_after = date_time_ymd(2027, 5, 1));
        let mut params = leaf_params(&["recre.store"]);
        params.not_after = date_time_ymd(2027, 5, 2);
        let longer = f.ca.issue_with(params, KeyPair::generate().unwrap());
        f.certificate("other", &longer);
    });
    assert!(
        label == "other.pem" && note.contains("until 2027-05-02 instead of 2027-05-01"),
        "{label}: {note}"
    );
}

#[test]
fn the_largest_number_of_sessions_that_fits_is_reported_and_fits() {
    let outcome =
        run(|f| drop(f.append("[limits]\nsessions_max = 60000\nsocket_buffer_bytes = \"32KiB\"\n")));
    let remedy = &of(&outcome, Code::MemoryOverBudget).remedy;
    let digits: String =
        remedy.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    let fits: u32 = digits.parse().unwrap();
    let holds = |sessions: u32| {
        let mut folder = Folder::good();
        folder.append(&format!("[limits]\nsessions_max = {sessions}\nsocket_buffer_bytes = \"32KiB\"\n"));
        let outcome = compile(&folder.sanedge_toml(), NOW);
        codes(&outcome, Severity::Error).is_empty()
    };
    assert!(holds(fits), "{fits} does not fit");
    assert!(!holds(fits + 1), "{} fits as well", fits + 1);
}

#[test]
fn keys_of_every_kind_are_taken() {
    let site = "upstream = [\"127.0.0.1:3000\"]";
    let mut folder = Folder::good();
    let keys = "frame_bytes_max = \"1MiB\"\nmessage_bytes_max = \"2MiB\"\nping_interval = \"20s\"\ncheck_utf8 = true\n\
        send_proxy_protocol = 2";
    folder.change(site, &format!("{site}\n{keys}"));
    folder.change("trust = \"ca.pem\"", "trust = \"ca.pem\"\ndrain_spread = \"5s\"");
    let mut outcome = compile(&folder.sanedge_toml(), NOW);
    let told: Vec<_> = outcome.findings.iter().map(|f| f.code).collect();
    assert_eq!(told, [Code::SendsProxyProtocol], "{}", texts(&outcome));
    let bundle = opened(&mut outcome).unwrap();
    let route = &bundle.sites[0].routes[0];
    assert_eq!((route.frame_bytes_max, route.message_bytes_max), (Some(1 << 20), Some(2 << 20)));
    assert_eq!((route.ping_interval, route.check_utf8), (Some(Duration::from_secs(20)), true));
    assert_eq!(bundle.drain.spread, Duration::from_secs(5));
}

#[test]
fn the_designs_sanedge_toml_compiles() {
    let mut folder = Folder::good();
    folder.source = String::from_utf8(data("valid/design.toml")).unwrap();
    let issued = folder.ca.issue(&["recre.store", "www.recre.store", "socket.recre.store"]);
    certs_folder(&folder, &issued);
    let mut outcome = compile(&folder.sanedge_toml(), NOW);
    assert_eq!(codes(&outcome, Severity::Error), BTreeSet::new(), "{}", texts(&outcome));
    let bundle = opened(&mut outcome).unwrap();
    assert_eq!(bundle.limits.sessions_max, 4096);
    assert_eq!(bundle.limits.workers, 4);
    let paths: Vec<_> = bundle.sites[1].routes.iter().map(|route| route.path.as_str()).collect();
    assert_eq!(paths, ["/socket.io/", "/"], "the longest first");
    let hosts: Vec<_> = bundle.hosts.iter().map(|entry| entry.host.to_string()).collect();
    assert_eq!(hosts, ["recre.store", "socket.recre.store", "www.recre.store"]);
}

fn certs_folder(folder: &Folder, issued: &Issued) {
    folder.write("certs/fullchain.pem", &issued.chain_pem);
    folder.write("certs/privkey.pem", &issued.key_pem);
    folder.write("certs/ca.pem", &folder.ca.pem);
}

#[test]
fn loopback_is_exempt_unless_something_else_is_written() {
    let exempt = |line: &str| {
        let mut outcome = run(|f| drop(f.change("trust", &format!("{line}trust"))));
        opened(&mut outcome).unwrap().exempt.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(exempt(""), ["127.0.0.0/8", "::1/128"]);
    assert_eq!(exempt("exempt = []\n"), Vec::<String>::new());
    assert_eq!(exempt("exempt = [\"0.0.0.0/0\", \"::/0\"]\n"), ["0.0.0.0/0", "::/0"]);
}

#[test]
fn limits_by_address_follow_what_is_written_of_all() {
    let of = |lines: &str| {
        let mut outcome = run(|f| drop(f.append(&format!("[limits]\n{lines}\n"))));
        let limits = opened(&mut outcome).unwrap().limits;
        (limits.address_sessions_max, limits.handshakes_per_s_max)
    };
    assert_eq!(of("sessions_max = 100\nworkers = 3"), (75, 300));
    assert_eq!(of("sessions_max = 100\naddress_sessions_max = 90\nhandshakes_per_s_max = 0"), (90, 0));
}

#[test]
fn every_key_there_is_reaches_the_bundle() {
    use sanedge::bundle::{Admin, PostQuantum, SuiteOrder, Upstream};
    use std::time::Duration;
    let mut folder = Folder::good();
    folder.source = String::from_utf8(data("valid/every_key.toml")).unwrap();
    let issued = folder.ca.issue(&["recre.store", "www.recre.store", "socket.recre.store"]);
    certs_folder(&folder, &issued);
    let mut outcome = compile(&folder.sanedge_toml(), NOW);
    assert_eq!(codes(&outcome, Severity::Error), BTreeSet::new(), "{}", texts(&outcome));
    let bundle = opened(&mut outcome).unwrap();
    assert!(bundle.watch);
    assert_eq!(bundle.trusted_proxies.len(), 2);
    assert_eq!(
        (bundle.drain.timeout, bundle.drain.spread),
        (Duration::from_secs(90), Duration::from_secs(5))
    );
    assert_eq!(bundle.suite_order, SuiteOrder::Chacha);
    assert_eq!(bundle.post_quantum, PostQuantum::Prefer);
    assert_eq!(bundle.listen.https.len(), 2);
    assert_eq!(bundle.listen.admin, Some(Admin::Tcp("127.0.0.1:9000".parse().unwrap())));
    assert_eq!(
        bundle.hosts[usize::from(bundle.listen.default_host.unwrap())].host.to_string(),
        "recre.store"
    );
    assert_eq!(bundle.listen.public_https_port, 8443);
    assert_eq!(bundle.listen.acme_dir.as_deref(), Some("/var/lib/acme".as_ref()));
    assert_eq!(bundle.listen.proxy_protocol_from.len(), 1);
    let [inner, outer] = bundle.sites[0].routes.as_slice() else { panic!("{:?}", bundle.sites) };
    assert_eq!((inner.path.as_str(), outer.path.as_str()), ("/socket.io/", "/"));
    assert_eq!(outer.upstreams.len(), 5);
    assert_eq!(outer.upstreams[2], Upstream::Name { host: "localhost".to_owned(), port: 3001 });
    for origins in [&outer.origins, &inner.origins] {
        assert!(origins.any && origins.null, "a route adds to its site");
    }
    let listed = |origins: &Origins| origins.list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        listed(&outer.origins),
        ["https://app.test", "http://localhost:5173", "capacitor://localhost"]
    );
    assert_eq!(inner.origins.list[..3], outer.origins.list);
    assert_eq!(listed(&inner.origins)[3..], ["file://"], "and names nothing twice");
    assert_eq!((inner.origins.of_site, outer.origins.of_site), (3, 3));
    assert_eq!((inner.origins.own, outer.origins.own), (true, false));
    assert_eq!((inner.require_origin, outer.require_origin), (false, true));
    assert_eq!((inner.allow.len(), outer.allow.len()), (0, 2), "an empty list is not inherited over");
    assert_eq!(
        (inner.response_timeout, outer.response_timeout),
        (Duration::from_secs(120), Duration::from_secs(30))
    );
    assert_eq!(outer.idle_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(outer.ping_interval, Some(Duration::from_secs(20)));
    assert_eq!((inner.frame_bytes_max, outer.frame_bytes_max), (Some(65_536), Some(1 << 20)));
    assert_eq!((inner.message_bytes_max, outer.message_bytes_max), (Some(1 << 20), Some(4 << 20)));
    assert_eq!((inner.body_bytes_max, outer.body_bytes_max), (Some(1_000_000), Some(100 << 20)));
    assert_eq!((inner.check_utf8, outer.check_utf8), (false, true));
    assert_eq!((inner.send_proxy_protocol, outer.send_proxy_protocol), (Some(1), Some(2)));
    assert_eq!((inner.access_log, outer.access_log), (false, true));
    assert_eq!((inner.strip_prefix, outer.strip_prefix), (true, false));
    assert_eq!((bundle.limits.sessions_max, bundle.limits.handshakes_max), (1000, 100));
    assert_eq!(bundle.limits.stall_timeout_ms, 60_000);
    assert_eq!(
        bundle.exempt.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["192.168.0.0/16", "127.0.0.0/8"]
    );
    let limits = &bundle.limits;
    assert_eq!((limits.address_sessions_max, limits.handshakes_per_s_max), (200, 300));
    assert_eq!((limits.address_handshakes_per_s_max, limits.address_websockets_per_s_max), (30, 0));
    assert_eq!((limits.requests_max, limits.body_bytes_per_s_min), (1000, 1024));
}

#[test]
fn a_route_inherits_what_it_does_not_say() {
    let mut outcome = run(|f| {
        f.append("require_origin = true\nresponse_timeout = \"5s\"\norigins = [\"https://a.test\"]\n");
        f.append("[[site.route]]\npath = \"/socket.io/\"\nresponse_timeout = \"7s\"\n");
    });
    let bundle = opened(&mut outcome).unwrap_or_else(|| panic!("{}", texts(&outcome)));
    let [inner, outer] = bundle.sites[0].routes.as_slice() else { panic!("{:?}", bundle.sites) };
    assert_eq!(inner.upstreams, outer.upstreams);
    assert!(inner.require_origin);
    assert_eq!(inner.origins, outer.origins);
    assert_eq!(inner.response_timeout.as_secs(), 7);
}

/// What nginx, Docker, Go, Node, Caddy and browsers take, and what to write here.
#[test]
fn values_of_other_programs_are_answered_with_what_to_write() {
    let remedy = |change: &dyn Fn(&mut Folder)| {
        let mut folder = Folder::good();
        change(&mut folder);
        let outcome = compile(&folder.sanedge_toml(), folder.now);
        outcome.findings.first().map(|finding| finding.remedy.clone()).unwrap_or_default()
    };
    for (upstream, wanted) in [
        ("3000", "Write \"127.0.0.1:3000\"."),
        (":3000", "Write \"127.0.0.1:3000\"."),
        ("*:3000", "Write \"127.0.0.1:3000\"."),
        ("3000/tcp", "Write \"127.0.0.1:3000\"."),
        ("/run/app.sock", "Write \"unix:/run/app.sock\"."),
        ("./app.sock", "Write \"unix:./app.sock\"."),
        ("fe80::1:3000", "Write \"[fe80::1%eth0]:3000\"."),
        ("2001:db8::1:3000", "Write \"[2001:db8::1]:3000\"."),
        ("::1", "Add brackets and the port: \"[::1]:3000\"."),
        ("localhost", "Add the port: \"localhost:3000\"."),
        ("localhost: 3000", "Write \"localhost:3000\"."),
        ("http:127.0.0.1:3000", "Write \"127.0.0.1:3000\"."),
        ("localhost:3000/socket.io/", "Write \"localhost:3000\"; a path belongs in a [[site.route]]."),
        ("localhost:http", "Write the port as a number: \"127.0.0.1:3000\"."),
        ("70000", "Write a port from 1 to 65535: \"127.0.0.1:3000\"."),
        ("", "Write the app's address and port: \"127.0.0.1:3000\"."),
        ("a b:3000", "Correct the name: "),
    ] {
        let said = remedy(&|folder| drop(folder.change("127.0.0.1:3000", upstream)));
        assert!(said.starts_with(wanted), "{upstream}: {said}");
    }
    let key = |line: &'static str| move |folder: &mut Folder| drop(folder.append(line));
    for (line, wanted) in [
        ("origins = [\"capacitor://localhost/path\"]\n", "Write \"capacitor://localhost\"."),
        ("origins = [\"app://user@x\"]\n", "Write \"app://x\"."),
        ("origins = [\"app://x?y\"]\n", "Write \"app://x\"."),
        ("origins = [\"capacitor:/localhost\"]\n", "Write \"capacitor://localhost\"."),
        ("origins = [\"recre.store:8443/\"]\n", "Write \"https://recre.store:8443\"."),
        ("allow = [\"10.0.0.1/33\"]\n", "Write a prefix length from 0 to 32: \"10.0.0.1/32\""),
        ("allow = [\"2001:db8::1/129\"]\n", "Write a prefix length from 0 to 128: \"2001:db8::1/128\""),
        ("tls = \"internal\"\n", "Remove it: every site has TLS"),
        ("ssl_certificate = \"a.pem\"\n", "Remove it: every site has TLS"),
    ] {
        let said = remedy(&key(line));
        assert!(said.starts_with(wanted), "{line}: {said}");
    }
    // The twins: what clients send is listed as it is.
    for origin in ["capacitor://localhost/", "Capacitor://localhost", "capacitor://localhost", "file:///"] {
        let mut folder = Folder::good();
        folder.append(&format!("origins = [\"{origin}\"]\n"));
        let outcome = compile(&folder.sanedge_toml(), folder.now);
        assert!(outcome.bundle.is_some(), "{origin}: {}", texts(&outcome));
        let listed = sanedge::bundle::report::websockets(&outcome.websockets);
        let plain = origin.trim_end_matches("t/").to_ascii_lowercase();
        assert!(listed.contains(plain.trim_end_matches("//")), "{listed}");
        assert!(!listed.contains("localhost/ ") && !listed.contains("///"), "{listed}");
    }
}

/// Files as Traefik, Kubernetes, Java and others keep them.
#[test]
fn a_file_that_holds_the_pem_in_something_else_is_named() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let good = Folder::good();
    let (chain, key) = (pem(&good, "cert.pem"), pem(&good, "key.pem"));
    let body = |pem: &str| pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let (chain64, key64) = (STANDARD.encode(&chain), STANDARD.encode(&key));
    let acme = format!(
        "{{\"le\":{{\"Certificates\":[{{\"domain\":{{\"main\":\"recre.store\"}},\"certificate\":\"{chain64}\",\"key\":\"{key64}\"}}]}}}}"
    );
    let secret = format!("kind: Secret\ndata:\n  tls.crt: {chain64}\n  tls.key: {key64}\n");
    let jks = [&[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2][..], key.as_bytes()].concat();
    for (content, found, command) in [
        (acme.as_bytes(), "Traefik", "jq "),
        (secret.as_bytes(), "Kubernetes", "kubectl "),
        (&jks, "JKS", "keytool "),
        (chain64.as_bytes(), "base64 once more", "base64 -d "),
        (body(&chain).as_bytes(), "without its BEGIN", "openssl "),
        (b"\x1f\x8b\x08\0", "gzip", "gunzip "),
        (b"PuTTY-User-Key-File-3: x", "SSH", ""),
        (b"<!DOCTYPE html>", "web page", ""),
    ] {
        for (name, code) in [("cert.pem", Code::NoCertificateInFile), ("key.pem", Code::NoKeyInFile)] {
            let outcome = run(|folder| folder.write(name, content));
            let finding = of(&outcome, code);
            assert!(finding.found.contains(found) && finding.remedy.contains(command), "{}", texts(&outcome));
            let said = texts(&outcome);
            assert!(!said.contains(&key64[40..60]) && !said.contains(&body(&key)[40..60]), "{said}");
        }
    }
    // The twin: text around real PEM is read, whatever it says.
    let outcome =
        run(|folder| folder.write("cert.pem", format!("tls.crt and tls.key\n{}", pem(folder, "cert.pem"))));
    assert!(outcome.bundle.is_some(), "{}", texts(&outcome));
    let outcome = run(|folder| {
        std::fs::create_dir(folder.path("live")).unwrap();
        folder.write("live/fullchain.pem", pem(folder, "cert.pem"));
        folder.change("cert.pem", "live");
    });
    assert!(of(&outcome, Code::FileNotRegular).remedy.ends_with("live/fullchain.pem"), "{}", texts(&outcome));
}

#[test]
fn no_finding_ever_shows_a_key() {
    let folder = Folder::good();
    let key = pem(&folder, "key.pem");
    let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    folder.write("cert.pem", &key);
    folder.write("key.pem", key.replace("\nM", "\n!M"));
    let outcome = compile(&folder.sanedge_toml(), NOW);
    let json = sanedge::bundle::report::outcome_json(&outcome, None).to_string();
    assert!(!outcome.findings.is_empty());
    for at in 0..body.len() - 12 {
        assert!(!json.contains(&body[at..at + 12]), "{json}");
    }
}

#[test]
fn a_chain_as_people_make_it_keeps_its_intermediate() {
    let mut folder = Folder::good();
    let below = folder.ca.subordinate("Intermediate");
    let issued = below.issue(&["recre.store"]);
    let (own, above, key) = (issued.chain_pem.trim_end(), below.pem.trim_end(), issued.key_pem.trim_end());
    folder.write("key.pem", key);
    let chain_of = |folder: &Folder, chain: &[u8], key: &[u8]| {
        folder.write("cert.pem", chain);
        folder.write("key.pem", key);
        let mut outcome = compile(&folder.sanedge_toml(), NOW);
        let bundle = opened(&mut outcome);
        bundle.map(|bundle| bundle.certificates[0].key.cert.len()).ok_or_else(|| texts(&outcome))
    };
    let joined = format!("{own}{above}");
    for chain in [
        format!("{own}\n{above}\n"),
        joined.clone(),
        format!("{own}\n\u{feff}{above}"),
        joined.replace('\n', "\\n"),
        joined.replace('\n', " "),
        joined.replace('\n', ""),
        joined.replace('\n', "\r"),
        format!("Bag Attributes\n  friendlyName: a\n  {own}\nsubject=CN=b\n\t{above} # the CA"),
        format!("{own}\n{}", above.replace("CERTIFICATE", "X509 CERTIFICATE")),
        format!("{own}\n{}", above.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
    ] {
        assert_eq!(chain_of(&folder, chain.as_bytes(), key.as_bytes()), Ok(2), "{chain}");
    }
    for key in [
        key.replace('\n', "\\n"),
        key.replace('\n', " "),
        key.replace('\n', ""),
        format!("\u{feff}\"{key}\""),
    ] {
        assert_eq!(chain_of(&folder, joined.as_bytes(), key.as_bytes()), Ok(2));
    }
    let wide: Vec<u8> = format!("\u{feff}{joined}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(chain_of(&folder, &wide, key.as_bytes()), Ok(2));
    // Without `trust` nothing else would notice that a certificate is missing: it is never dropped without a word.
    folder.change("trust = \"ca.pem\"\n", "");
    for (chain, line) in [
        (joined.replace("BEGIN CERTIFICATE-----\n", "BEGIN CERTFICATE-----\n"), "line 1:"),
        (format!("{own}\n{}", above.replace("-----", "")), "without its dashes"),
        (format!("{own}\n{}", above.replace("-----END CERTIFICATE-----", "")), "without its END line"),
        (format!("{own}\n{}", above.replace("-----BEGIN CERTIFICATE-----", "")), "without its BEGIN line"),
        (format!("{own}\n{}", above.replace("CERTIFICATE", "PKCS7")), "PKCS7"),
    ] {
        let said = chain_of(&folder, chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(said.contains(line), "{chain}\n{said}");
    }
}

#[test]
fn no_damage_to_a_certificate_goes_unnoticed() {
    use base64::Engine as _;
    let folder = Folder::good();
    let good = der(pem(&folder, "cert.pem"));
    let toml = folder.sanedge_toml();
    let compiled = |bytes: &[u8]| {
        let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
        folder
            .write("cert.pem", format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n"));
        compile(&toml, NOW)
    };
    assert!(compiled(&good).findings.is_empty());
    assert!(good.len() > 300);
    let mut unknown = 0;
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let outcome = compiled(&bytes);
        // With another issuer in its name it is a certificate of an unknown CA, and that is a warning only.
        let warned = outcome.findings.iter().any(|f| f.code == Code::UnknownCa);
        unknown += usize::from(warned);
        assert!(outcome.bundle.is_none() || warned, "a flip in byte {at} was accepted");
    }
    assert!(unknown < 40, "{unknown} flips changed the issuer's name");
    for at in (0..good.len()).step_by(7) {
        assert!(compiled(&good[..at]).bundle.is_none(), "{at} bytes were accepted");
    }
}

#[test]
fn no_text_makes_the_reader_panic() {
    let whole = String::from_utf8(data("valid/every_key.toml")).unwrap();
    let path = std::path::Path::new("/etc/sanedge/sanedge.toml");
    let (_, fine) = sanedge::bundle::source::parse(path, &whole);
    assert!(fine.is_empty(), "{fine:?}");
    assert!(whole.is_ascii() && whole.len() > 1000);
    let read = |text: &str| {
        let (source, findings) = sanedge::bundle::source::parse(path, text);
        assert!(source.is_some() || !findings.is_empty(), "nothing comes of {text:?}");
    };
    let odd = ["\"", "[", "]", "=", "\n", "\0", "9", "-", "é", "{", "'", "#", "\u{feff}"];
    for (at, odd) in (0..whole.len()).zip(odd.iter().cycle()) {
        read(&whole[..at]);
        read(&[&whole[..at], odd, &whole[at..]].concat());
    }
}
