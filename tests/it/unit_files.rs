//! The units: systemd takes them without a word, they agree with the program's defaults, and their sandbox lets it live.
//!
//! `tests/deb/run` runs them for real, under a systemd of their own.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::SOCKET_HOST as HOST;
use crate::support::activation::Sockets;
use crate::support::edge::{Edge, PATIENCE, sanedge, text};
use crate::support::engineio::{Poller, Socket, serve_default};
use crate::support::node::{has, skip};
use crate::support::peers::free_address;
use rustix::process::Signal;
use sanedge::admin;
use sanedge::bundle::acme;
use sanedge::limits::{Preset, bounded};

const UNITS: [&str; 9] = [
    "sanedge.service",
    "sanedge-settle.service",
    "sanedge-https.socket",
    "sanedge-http.socket",
    "sanedge-admin.socket",
    "sanedge-renew.service",
    "sanedge-renew.timer",
    "sanedge-deploy.service",
    "sanedge-deploy.path",
];
/// Tenths, as `--threshold` wants them: those that talk to strangers, and those that are root.
const EXPOSURE_MAX: &str = "15";
const EXPOSURE_OF_ROOT_MAX: &str = "20";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

fn unit(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

/// The values of a key, in order.
fn values(unit: &str, key: &str) -> Vec<String> {
    let lines = unit.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .filter(|(k, _)| *k == key)
        .map(|(_, v)| v.to_owned())
        .collect()
}

/// The units with the program where this build has it, and drop-ins, in a folder of their own.
fn installed(drop_ins: &[(&str, &str)]) -> tempfile::TempDir {
    let there = tempfile::tempdir().unwrap();
    for name in UNITS {
        let here = unit(name).replace("/usr/bin/sanedge", env!("CARGO_BIN_EXE_sanedge"));
        fs::write(there.path().join(name), here).unwrap();
    }
    for (unit, drop_in) in drop_ins {
        let folder = there.path().join(format!("{unit}.d"));
        fs::create_dir_all(&folder).unwrap();
        let here = self::unit(&format!("examples/{drop_in}"))
            .replace("/usr/bin/sanedge", env!("CARGO_BIN_EXE_sanedge"));
        fs::write(folder.join(drop_in), here).unwrap();
    }
    there
}

fn analyze(units: &Path, arguments: &[&str]) -> Output {
    let path = format!("{}:", units.display());
    Command::new("systemd-analyze").args(arguments).env("SYSTEMD_UNIT_PATH", path).output().unwrap()
}

fn without_systemd(test: &str) -> bool {
    let missing = !has("systemd-analyze", "--version");
    if missing {
        skip(test, "it needs systemd-analyze (Debian: systemd)");
    }
    missing
}

#[test]
fn systemd_takes_the_units_and_every_drop_in_without_a_word() {
    if without_systemd("systemd_takes_the_units_and_every_drop_in_without_a_word") {
        return;
    }
    let examples = fs::read_dir(folder().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let examples =
        examples.filter(|path| path.extension().is_some_and(|extension| extension == "conf")).count();
    let drop_ins: [&[(&str, &str)]; 4] = [
        &[],
        &[("sanedge-renew.service", "dns-exec.conf")],
        &[("sanedge.service", "without-sockets.conf")],
        &[("sanedge.service", "credential.conf"), ("sanedge-.socket", "credential-sockets.conf")],
    ];
    assert_eq!(drop_ins.iter().map(|some| some.len()).sum::<usize>(), examples, "every example is tried");
    for some in drop_ins {
        let there = installed(some);
        let output = analyze(there.path(), &[&["verify"], &UNITS[..]].concat());
        assert!(output.status.success() && text(&output).is_empty(), "{some:?}: {}", text(&output));
    }
}

/// Whatever `[listen] admin` says: a drop-in for each place would be forgotten.
#[test]
fn a_reload_by_the_unit_finds_the_edge_wherever_its_admin_socket_is() {
    let line = &values(&unit("sanedge.service"), "ExecReload")[0];
    let serve = &values(&unit("sanedge.service"), "ExecStart")[0];
    let port = free_address().port();
    let here = || Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1");
    let edges = [here().start(), here().admin(&format!("127.0.0.1:{port}")).start()];
    for edge in edges {
        let desk = edge.desk();
        let file = serve.split(' ').next_back().unwrap();
        let reload = || {
            let words = line.split(' ').skip(1).map(|word| match word {
                word if word == file => desk.bundle_file().display().to_string(),
                word => word.to_owned(),
            });
            sanedge().args(words).env("MAINPID", edge.pid().to_string()).output().unwrap()
        };
        let mark = edge.log_mark();
        desk.write_certificate(0, &[HOST]);
        desk.bundled();
        let output = reload();
        assert!(output.status.success(), "{}", text(&output));
        edge.wait_for_log_after(mark, "msg=reloaded", PATIENCE);
        let toml = fs::read_to_string(desk.toml()).unwrap();
        fs::write(desk.toml(), toml.replace("127.0.0.1:0", "127.0.0.1:2")).unwrap();
        desk.bundled();
        let output = reload();
        assert_eq!(output.status.code(), Some(1), "refused: {}", text(&output));
        edge.stop();
    }
}

#[test]
fn its_exposure_is_small() {
    if without_systemd("its_exposure_is_small") {
        return;
    }
    let credential = [("sanedge.service", "credential.conf")];
    for (unit, most, some) in [
        ("sanedge.service", EXPOSURE_MAX, &[][..]),
        ("sanedge.service", EXPOSURE_MAX, &credential),
        ("sanedge-renew.service", EXPOSURE_MAX, &[]),
        ("sanedge-deploy.service", EXPOSURE_OF_ROOT_MAX, &[]),
        ("sanedge-settle.service", EXPOSURE_OF_ROOT_MAX, &[]),
    ] {
        let there = installed(some);
        let threshold = format!("--threshold={most}");
        let output = analyze(there.path(), &["security", "--offline=true", &threshold, unit]);
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("Overall exposure level"), "{}", text(&output));
    }
}

#[test]
fn units_and_program_have_the_same_defaults() {
    for (name, listens) in [("https", "443"), ("http", "80"), ("admin", admin::DEFAULT_PATH)] {
        let unit = unit(&format!("sanedge-{name}.socket"));
        assert_eq!(values(&unit, "FileDescriptorName"), [name]);
        assert_eq!(values(&unit, "ListenStream"), [listens]);
        assert_eq!(values(&unit, "Service"), ["sanedge.service"]);
        assert_eq!(values(&unit, "ConditionPathExists"), ["/etc/sanedge/sanedge.bundle"]);
        if name != "admin" {
            assert_eq!(values(&unit, "BindIPv6Only"), ["both"], "[::] is IPv4 as well");
        }
    }
    let service = unit("sanedge.service");
    assert_eq!(values(&service, "ExecStart"), ["/usr/bin/sanedge serve /etc/sanedge/sanedge.bundle"]);
    assert_eq!(values(&service, "RestartKillSignal"), ["SIGUSR1"]);
    // Its store takes descriptors from the edge alone.
    assert_eq!(values(&service, "FileDescriptorStoreMax"), ["256"]);
    assert_eq!(values(&service, "NotifyAccess"), ["main"]);
    let stop = values(&service, "TimeoutStopSec");
    let stop: u64 = stop[0].strip_suffix('s').unwrap().parse().unwrap();
    let drain = bounded("drain_timeout").unwrap();
    let (_, Preset::Fixed(drain_ms)) = drain else { panic!("{drain:?}") };
    assert!(stop * 1000 > *drain_ms, "systemd would kill after {stop} s what may drain for {drain_ms} ms");
}

/// At a boot, and before the edge; a restart of the edge must not wait for it, because a change restarts the edge itself.
#[test]
fn an_interrupted_change_ends_before_the_edge_starts() {
    let settle = unit("sanedge-settle.service");
    assert_eq!(values(&settle, "ExecStart"), ["/usr/bin/sanedge apply --settle /etc/sanedge/sanedge.toml"]);
    assert_eq!(values(&settle, "ConditionPathExistsGlob"), ["/etc/sanedge/.sanedge-apply*"]);
    assert_eq!(values(&settle, "Before"), ["sanedge.service"]);
    assert_eq!(values(&settle, "WantedBy"), ["multi-user.target"]);
    let edge = unit("sanedge.service");
    for key in ["Wants", "Requires", "BindsTo"] {
        assert!(values(&edge, key).is_empty(), "{key}");
    }
}

/// The users, folders and files of the units that obtain certificates are those of the program.
#[test]
fn the_units_of_renew_have_the_programs_folders() {
    let (renew, deploy) = (unit("sanedge-renew.service"), unit("sanedge-deploy.service"));
    for (unit, line) in [(&renew, "renew"), (&deploy, "renew --deploy")] {
        let plan = "/etc/sanedge/sanedge.acme";
        assert_eq!(values(unit, "ExecStart"), [format!("/usr/bin/sanedge {line} {plan}")]);
        assert_eq!(values(unit, "ConditionPathExists"), [plan]);
    }
    assert_eq!(values(&renew, "User"), ["sanedge-acme"]);
    assert_eq!(values(&renew, "SuccessExitStatus"), ["75"]);
    assert_eq!(values(&renew, "ReadWritePaths"), [format!("-{} -{}", acme::STATE, acme::CHALLENGES)]);
    assert_eq!(values(&deploy, "User"), [""; 0], "root");
    assert_eq!(values(&deploy, "IPAddressDeny"), ["any"]);
    let paths = values(&unit("sanedge-deploy.path"), "PathExists");
    assert_eq!(paths, ["deploy", "deploying"].map(|name| format!("{}/{name}", acme::STATE)));
    assert_eq!(acme::stored::MARK, "deploy");
    let timer = unit("sanedge-renew.timer");
    assert_eq!(
        (values(&timer, "OnBootSec"), values(&timer, "Persistent")),
        (vec!["1min".to_owned()], vec![])
    );
    let folders = unit("tmpfiles.conf");
    for line in [
        format!("d {} 0700 sanedge-acme sanedge-acme -", acme::STATE),
        format!("d {} 0750 sanedge-acme sanedge -", acme::CHALLENGES),
    ] {
        assert!(folders.lines().any(|found| found == line), "{line}");
    }
    assert!(unit("sysusers.conf").lines().any(|line| line.starts_with("u sanedge-acme ")));
}

#[test]
fn the_example_is_good_once_it_has_certificates() {
    let desk =
        Edge::certified_for(&["example.org", "socket.example.org"]).site(&["a.test"], "127.0.0.1:9").write();
    let example = fs::read_to_string(folder().join("../packaging/sanedge.toml")).unwrap();
    let letsencrypt = "/etc/letsencrypt/live/example.org";
    assert!(example.contains(&format!("{letsencrypt}/fullchain.pem")));
    let example = example
        .replace(&format!("{letsencrypt}/fullchain.pem"), "0.pem")
        .replace(&format!("{letsencrypt}/privkey.pem"), "0.key")
        .replace("board = \"host\"", "board = \"host\"\ntrust = \"ca.pem\"");
    fs::write(desk.toml(), example).unwrap();
    let output = desk.bundle();
    assert!(output.status.success(), "{}", text(&output));
}

/// What systemd calls by this name, sets within it included.
fn calls(set: &str) -> BTreeSet<String> {
    let output = Command::new("systemd-analyze").args(["syscall-filter", set]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    let lines = said.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .flat_map(|line| if line.starts_with('@') { calls(line) } else { BTreeSet::from([line.to_owned()]) })
        .collect()
}

/// The filter of a unit: what it allows, less what it takes away.
pub(crate) fn allowed(name: &str) -> BTreeSet<String> {
    let mut allowed = calls("@default"); // always there (systemd.exec(5))
    for line in values(&unit(name), "SystemCallFilter") {
        let (takes, words) = line.strip_prefix('~').map_or((false, line.as_str()), |words| (true, words));
        for word in words.split_whitespace() {
            let set = if word.starts_with('@') { calls(word) } else { BTreeSet::from([word.to_owned()]) };
            if takes {
                allowed = &allowed - &set;
            } else {
                allowed.extend(set);
            }
        }
    }
    allowed.extend(["execve".to_owned()]); // systemd's own, to start it
    allowed
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_that_it_makes_is_filtered() {
    let test = "no_call_that_it_makes_is_filtered";
    if without_systemd(test) {
        return;
    }
    if !has("strace", "--version") {
        return skip(test, "it needs strace");
    }
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], serve_default().await).write();
    let (trace, admin) = (desk.path("trace"), desk.path("admin.sock"));
    let sockets = Sockets::new()
        .with("https", TcpListener::bind("127.0.0.1:0").unwrap())
        .with("admin", UnixListener::bind(&admin).unwrap())
        .traced(&trace);
    // A life: polling, an upgrade, a WebSocket, a reload, a drain.
    let mut edge = desk.serve_on(&sockets);
    let mut poller = Poller::open(&edge, HOST).await;
    poller.send("40").await;
    assert!(poller.events().await[0].starts_with("40"));
    let mut upgraded = Socket::upgrade(&edge, HOST, &poller.sid).await;
    upgraded.send("42[\"echo\",1]").await;
    assert_eq!(upgraded.text().await, "42[\"echo\",1]");
    let reload = sanedge().args(["reload", "--admin"]).arg(&admin).output().unwrap();
    assert!(reload.status.success(), "{}", text(&reload));
    edge.reload();
    edge.signal(Signal::TERM);
    edge.wait_for_log("msg=draining", PATIENCE);
    assert_eq!(upgraded.closed().await, Some(1001));
    edge.wait_until_ended();

    let trace = fs::read_to_string(trace).unwrap();
    let made = trace.lines().filter_map(|line| {
        let call = line.split_whitespace().nth(1)?.split_once('(')?.0;
        call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then(|| call.to_owned())
    });
    let made: BTreeSet<String> = made.collect();
    assert!(made.contains("accept4") && made.contains("epoll_wait"), "strace saw {made:?}");
    let allowed = allowed("sanedge.service");
    let filtered: Vec<_> = made.difference(&allowed).collect();
    assert!(filtered.is_empty(), "the unit would refuse {filtered:?}");
    assert!(
        !allowed.contains("io_uring_setup") && !allowed.contains("chroot") && !allowed.contains("keyctl")
    );
}
