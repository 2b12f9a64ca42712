//! What a serving process has given up: capabilities, new privileges, core dumps, and the files and ports that its bundle does not name.
//!
//! `tests/deb/run` reads the same of the packaged unit, with its filter of system calls.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::support::HOST;
use crate::support::edge::{Edge, sanedge, text};
use crate::support::engineio::{Http, serve_default};
use crate::support::node::{has, skip};
use crate::support::raw::Raw;
use sanedge::bundle::Bundle;
use sanedge::system::sandbox::{Needs, Sandbox};

const NOBODY: u32 = 65_534;
const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// Whether this kernel restricts files, and ports as well; said aloud where it does not.
fn landlock(test: &str, edge: &Edge) -> (bool, bool) {
    let said = edge.status()["sandbox"].as_str().unwrap().to_owned();
    let (files, ports) = (said.contains("its own files"), said.contains("only its own files and ports"));
    if !ports {
        skip(test, &format!("it needs a kernel with Landlock of Linux 6.7 or later; here: {said}"));
    }
    (files, ports)
}

/// `/proc/PID/status` of every thread.
fn threads(pid: u32) -> Vec<BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let read = |task: io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let lines = status.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
    };
    tasks.map(read).collect()
}

/// A new bundle in place of the old one, less than `reload` asks for: the old one may stay.
fn rewritten(edge: &Edge, from: &str, to: &str) -> String {
    let toml = fs::read_to_string(edge.desk().toml()).unwrap();
    assert!(toml.contains(from), "{toml}");
    fs::write(edge.desk().toml(), toml.replace(from, to)).unwrap();
    edge.desk().bundled();
    fs::write(edge.desk().toml(), toml).unwrap();
    text(&edge.desk().ask(&["reload", "--json"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_thread_has_a_capability_or_can_gain_one() {
    let test = "no_thread_has_a_capability_or_can_gain_one";
    if !rustix::process::geteuid().is_root() {
        return skip(test, "root: only root has capabilities to give up");
    }
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], serve_default().await).write();
    desk.bundled();
    let mut command = sanedge();
    command.env_remove("SANEDGE_DUMPABLE");
    let edge = desk.serve_by(command);
    let found = threads(edge.pid());
    assert!(found.len() > 1, "workers as well");
    for thread in found {
        for set in SETS {
            assert_eq!(u64::from_str_radix(&thread[set], 16).unwrap(), 0, "{set}: {thread:?}");
        }
        assert_eq!(thread["NoNewPrivs"], "1");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", edge.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    edge.wait_for_log("running as root", crate::support::edge::PATIENCE);
    let line = edge.wait_for_log("msg=sandboxed", crate::support::edge::PATIENCE);
    assert!(line.contains("no core dumps, no capabilities, no new privileges"), "{line}");
    // What status tells of the process was opened before.
    let status = edge.status();
    assert!(status["process"]["resident_bytes"].as_u64().unwrap() > 1 << 20, "{status}");
    assert!(status["process"]["open_files"].as_u64().unwrap() > 5, "{status}");
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_of_its_user_cannot_look_into_it() {
    let test = "another_program_of_its_user_cannot_look_into_it";
    if !rustix::process::geteuid().is_root() {
        return skip(test, "root: it starts the edge as another user");
    }
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], serve_default().await).write();
    let edge = desk.serve_as(NOBODY, NOBODY);
    assert_eq!(threads(edge.pid())[0]["Uid"].split_whitespace().next(), Some("65534"));
    // proc(5): files of a process that is not dumpable are root's.
    assert_eq!(fs::metadata(format!("/proc/{}/mem", edge.pid())).unwrap().uid(), 0);
    assert!(!edge.log().contains("running as root"), "{}", edge.log());
    // It can look at itself still.
    let process = edge.status()["process"].clone();
    assert!(process["resident_bytes"].as_u64().unwrap() > 1 << 20, "{process}");
    assert!(process["open_files"].as_u64().unwrap() > 5, "{process}");
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_would_leave_the_sandbox_needs_a_restart() {
    let app = serve_default().await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], app).start();
    if landlock("a_reload_that_would_leave_the_sandbox_needs_a_restart", &edge) != (true, true) {
        return edge.stop().clear();
    }
    let app = app.to_string();
    let elsewhere = tempfile::tempdir().unwrap();
    let acme = format!("[listen]\nacme_dir = {:?}", elsewhere.path());
    for (from, to, says) in [
        (&*app, "127.0.0.1:9", "upstream: port 9 is not one of those"),
        (&*app, "app.internal:9", "upstream: port 9 is not one of those"),
        (&*app, &app.replace("127.0.0.1", "app.internal"), "looking up a name is outside"),
        ("[listen]", &*acme, "[listen] acme_dir"),
    ] {
        let said = rewritten(&edge, from, to);
        assert!(said.contains("needs a restart") && said.contains(says), "{to}: {said}");
    }
    // The same port elsewhere, and `localhost`, are within.
    for to in [app.replace("127.0.0.1", "127.0.0.2"), app.replace("127.0.0.1", "localhost")] {
        let said = rewritten(&edge, &app, &to);
        assert!(said.contains("is in use"), "{to}: {said}");
    }
    let mut client = Http::new(edge.tls(HOST).await);
    assert_eq!(client.exchange("GET", HOST, "/socket.io/?EIO=4&transport=polling", "").await.status, 200);
    // A good bundle, behind a link that leads out.
    let bundle = edge.desk().bundle_file();
    fs::copy(&bundle, elsewhere.path().join("sanedge.bundle")).unwrap();
    fs::remove_file(&bundle).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("sanedge.bundle"), &bundle).unwrap();
    let said = text(&edge.desk().ask(&["reload", "--json"]));
    assert!(said.contains("needs a restart: bundle: ") && said.contains("outside the folders"), "{said}");
    // The process that is started anew takes it.
    let edge = edge.restarted();
    assert!(edge.desk().ask(&["reload", "--json"]).status.success());
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_in_a_folder_that_was_replaced_needs_a_restart() {
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], serve_default().await).start();
    if !landlock("a_bundle_in_a_folder_that_was_replaced_needs_a_restart", &edge).0 {
        return edge.stop().clear();
    }
    let folder = edge.desk().bundle_file().parent().unwrap().to_owned();
    let copy = folder.with_extension("copy");
    assert!(Command::new("cp").arg("-a").args([&folder, &copy]).status().unwrap().success());
    let away = folder.with_extension("away");
    fs::rename(&folder, &away).unwrap();
    fs::rename(&copy, &folder).unwrap();
    // What it made in its folder is in the old one.
    let admin = format!("unix:{}", away.join("admin.sock").display());
    let said = text(&sanedge().args(["reload", "--admin", &admin]).output().unwrap());
    assert!(said.contains("the folder was replaced"), "{said}");
    assert!(said.contains("restart"), "{said}");
    fs::remove_dir_all(&away).unwrap();
    edge.stop();
}

/// As on a kernel that answers `landlock_create_ruleset` like that when it is first asked, which is for its version.
#[tokio::test(flavor = "multi_thread")]
async fn older_kernels_restrict_less_and_it_is_said() {
    let test = "older_kernels_restrict_less_and_it_is_said";
    if !has("strace", "--version") {
        return skip(test, "it needs strace");
    }
    let here = Edge::certified_for(&[HOST]).site(&[HOST], serve_default().await).start();
    if !landlock(test, &here).0 {
        return here.stop().clear();
    }
    here.stop();
    for (answer, says, leaves) in [
        ("error=ENOSYS", "no Landlock in this kernel: all files and ports of its user", true), // before 5.13
        ("error=EOPNOTSUPP", "no Landlock in this kernel: all files and ports of its user", true), // not at boot
        ("retval=1", "only its own files (Landlock; ports need Linux 6.7)", false),                // 5.13
        ("retval=3", "only its own files (Landlock; ports need Linux 6.7)", false),                // 6.2
    ] {
        let app = serve_default().await;
        let desk = Edge::certified_for(&[HOST]).site(&[HOST], app).write();
        desk.bundled();
        let mut traced = Command::new("strace");
        // -D: the edge is our child, and the tracer its grandchild.
        traced.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=landlock_create_ruleset", "-e"]);
        let first = if answer.starts_with("error") { "" } else { ":when=1" };
        traced.arg(format!("inject=landlock_create_ruleset:{answer}{first}")).arg(sanedge().get_program());
        let edge = desk.serve_by(traced);
        assert!(edge.status()["sandbox"].as_str().unwrap().ends_with(says), "{answer}: {}", edge.status());
        let mut client = Http::new(edge.tls(HOST).await);
        let polling = "/socket.io/?EIO=4&transport=polling";
        assert_eq!(client.exchange("GET", HOST, polling, "").await.status, 200, "{answer}");
        // Where nothing keeps it from another port, a reload may name one.
        let said = rewritten(&edge, &app.to_string(), "127.0.0.1:9");
        assert!(said.contains("is in use"), "{answer}: {said}");
        // And so for another folder where files are free.
        let elsewhere = tempfile::tempdir().unwrap();
        let said = rewritten(&edge, "[listen]", &format!("[listen]\nacme_dir = {:?}", elsewhere.path()));
        assert_eq!(said.contains("needs a restart"), !leaves, "{answer}: {said}");
        edge.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_found_in_a_folder_that_comes_and_goes() {
    let upstream = serve_default().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = elsewhere.path().join(".well-known/acme-challenge");
    let edge = Edge::certified_for(&[HOST])
        .with_http()
        .listen(&format!("acme_dir = {folder:?}"))
        .site(&[HOST], upstream)
        .start();
    // Started while a renewal goes on, too.
    fs::create_dir_all(&folder).unwrap();
    let edge = edge.restarted();
    for content in ["one", "two"] {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("token"), content).unwrap();
        let mut client = Raw::open_plain(edge.http.unwrap()).await;
        let answer = client.get(HOST, "/.well-known/acme-challenge/token", "").await;
        assert_eq!((answer.status, answer.text()), (200, content));
        fs::remove_dir_all(elsewhere.path().join(".well-known")).unwrap();
    }
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_looked_up_within_the_sandbox() {
    // Any that is this machine's own.
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let names =
        hosts.lines().map(|line| line.split('#').next().unwrap().split_whitespace().collect::<Vec<_>>());
    let mut local = names.filter(|words| words.len() > 1 && words[0] == "127.0.0.1");
    let name =
        local.find_map(|words| words[1..].iter().find(|name| **name != "localhost").map(|n| (*n).to_owned()));
    let Some(name) = name else {
        return skip(
            "a_name_is_looked_up_within_the_sandbox",
            "/etc/hosts has no name for 127.0.0.1 but localhost",
        );
    };
    let app = crate::support::upstream::Upstream::answering(crate::support::upstream::OK).await;
    let port = app.to_string().rsplit_once(':').unwrap().1.to_owned();
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], format!("{name}:{port}")).start();
    let answer = Raw::open(&edge, HOST).await.get(HOST, "/", "").await;
    answer.assert_apps(200, "ok");
    edge.stop();
}

/// In this process again, in a thread that enters the sandbox of a bundle for one upstream.
#[test]
fn inside_are_no_files_no_programs_and_no_other_ports() {
    let test = "inside_are_no_files_no_programs_and_no_other_ports";
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], upstream.local_addr().unwrap()).write();
    desk.bundled();
    let inside = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sandbox::probe", "--ignored", "--nocapture"])
        .env("PROBE_BUNDLE", desk.bundle_file())
        .env("PROBE_OTHER", other.local_addr().unwrap().to_string())
        .output()
        .unwrap();
    assert!(inside.status.success(), "{}", text(&inside));
    let said = text(&inside);
    assert!(said.contains("1 passed"), "{said}");
    if said.contains("HOLDS-NOT") {
        skip(test, "it needs a kernel with Landlock of Linux 6.7 or later");
    }
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn probe() {
    let path = std::env::var("PROBE_BUNDLE").expect("to be run by inside_are_no_files_…");
    let (path, other) =
        (Path::new(&path), std::env::var("PROBE_OTHER").unwrap().parse::<SocketAddr>().unwrap());
    let bundle = Bundle::open(path).unwrap();
    let upstream = bundle.sites[0].routes[0].upstreams[0].to_string().parse::<SocketAddr>().unwrap();
    // All of it is open before: the probe can see what it looks for.
    let denied = || {
        let denied = |result: io::Result<()>| {
            result.err().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        };
        let new = path.with_file_name("new");
        [
            ("/etc/passwd", denied(fs::read("/etc/passwd").map(drop))),
            ("/proc/self/maps", denied(fs::read("/proc/self/maps").map(drop))),
            ("a file of /tmp", denied(fs::write(std::env::temp_dir().join("sanedge-probe"), "").map(drop))),
            ("a folder", denied(fs::read_dir(path.parent().unwrap()).map(drop))),
            ("exec", denied(Command::new("/bin/true").status().map(drop))),
            ("another port", denied(TcpStream::connect(other).map(drop))),
            ("a new listener", denied(TcpListener::bind("127.0.0.1:0").map(drop))),
            ("the bundle", denied(fs::read(path).map(drop))),
            (
                "a file beside the admin socket",
                denied(fs::write(&new, "").and_then(|()| fs::remove_file(&new))),
            ),
            ("the upstream", denied(TcpStream::connect(upstream).map(drop))),
        ]
    };
    assert!(denied().iter().all(|(_, denied)| !denied), "{:?}", denied());
    let _ = fs::remove_file(std::env::temp_dir().join("sanedge-probe"));
    let sandbox = Sandbox::enter(&Needs::of(path, &bundle, path.parent().unwrap()));
    println!("{}", sandbox.summary);
    if !sandbox.summary.contains("only its own files and ports") {
        return println!("HOLDS-NOT");
    }
    let wanted = 7;
    for (at, (what, denied)) in denied().into_iter().enumerate() {
        assert_eq!(denied, at < wanted, "{what}");
    }
}
