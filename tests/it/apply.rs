//! `sanedge apply`: an edited sanedge.toml is in use afterwards, or everything is as it was before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::HOST;
use crate::support::activation::Sockets;
use crate::support::edge::{Desk, Edge, EdgeBuilder, json, sanedge, text};
use crate::support::engineio::{Socket, serve_default};
use crate::support::node::{has, skip};
use crate::support::peers::free_address;
use crate::support::program::script;

const NEW: &str = "game.recre.store";

fn builder() -> EdgeBuilder {
    Edge::certified_for(&[HOST, NEW]).site(&[HOST], "127.0.0.1:3002")
}

fn apply(desk: &Desk, words: &[&str]) -> Output {
    sanedge().arg("apply").arg(desk.toml()).args(words).stdin(Stdio::null()).output().unwrap()
}

fn edit(desk: &Desk, from: &str, to: &str) {
    let before = fs::read_to_string(desk.toml()).unwrap();
    assert!(before.contains(from), "{from} is not in {before}");
    fs::write(desk.toml(), before.replace(from, to)).unwrap();
}

/// Another site, and the edge of `desk` needs no new process for it.
fn add_site(desk: &Desk) {
    edit(
        desk,
        "[limits]",
        &format!("[[site]]\nhosts = [\"{NEW}\"]\nupstream = [\"127.0.0.1:3002\"]\n[limits]"),
    );
}

/// Everything in the folder, by name and content.
fn files(desk: &Desk) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(desk.path("")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

fn names(desk: &Desk) -> BTreeSet<String> {
    fs::read_dir(desk.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// The beginning of the digest of the bundle on the disk.
fn on_disk(desk: &Desk) -> String {
    let output = sanedge().args(["show", "--json"]).arg(desk.bundle_file()).output().unwrap();
    json(&output)["digest"].as_str().unwrap()[..16].to_owned()
}

fn in_use(edge: &Edge) -> String {
    edge.status()["bundle"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_takes_an_edit_into_use_and_says_what_changes() {
    let edge = builder().start();
    let (before, names_before) = (in_use(&edge), names(edge.desk()));
    add_site(edge.desk());
    edit(edge.desk(), "[limits]", "[limits]\nsessions_max = 77");
    let planned = apply(edge.desk(), &["--dry-run"]);
    let lines = [format!("+ {NEW} → 127.0.0.1:3002"), "~ limits.sessions_max ".to_owned()];
    for output in [planned, apply(edge.desk(), &[])] {
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        for line in &lines {
            assert!(text(&output).lines().any(|said| said.starts_with(line)), "{line}: {}", text(&output));
        }
        assert!(text(&output).contains(" → 77"), "{}", text(&output));
    }
    assert_ne!(in_use(&edge), before);
    assert_eq!(in_use(&edge), on_disk(edge.desk()));
    assert_eq!(names(edge.desk()), names_before, "nothing is left behind");
    edge.tls(NEW).await;
    // Once more: nothing to do.
    let again = apply(edge.desk(), &["--json"]);
    assert_eq!(
        (again.status.code(), &json(&again)["state"]),
        (Some(0), &"unchanged".into()),
        "{}",
        text(&again)
    );
    assert_eq!(json(&again)["changes"], Value::Array(Vec::new()));
    edge.stop();
}

#[test]
fn a_dry_run_changes_nothing_and_tells_programs_everything() {
    let edge = builder().start();
    let (used, log) = (in_use(&edge), edge.log_mark());
    add_site(edge.desk());
    let before = files(edge.desk());
    let output = apply(edge.desk(), &["--dry-run", "--json"]);
    let document = json(&output);
    assert_eq!(output.status.code(), Some(0), "{document:#}");
    assert_eq!((&document["ok"], &document["state"]), (&true.into(), &"planned".into()));
    assert_eq!(document["changes"][0]["line"], format!("+ {NEW} → 127.0.0.1:3002"));
    assert_eq!(document["restart"]["needed"], false);
    assert!(document["hosts"].as_array().is_some_and(|hosts| hosts.len() == 2), "{document:#}");
    assert_eq!((files(edge.desk()), in_use(&edge)), (before, used));
    assert!(!edge.log().lines().skip(log).any(|line| line.contains("reload")), "{}", edge.log());
    edge.stop();
}

#[test]
fn an_error_in_the_file_is_found_before_anything_is_written() {
    let edge = builder().start();
    let used = in_use(&edge);
    let good = fs::read_to_string(edge.desk().toml()).unwrap();
    for (text_of_file, code) in [
        (good.replace(HOST, "other.test"), "host-not-covered"),
        (good.replace("[listen]", "[listen"), "toml-syntax"),
        (String::new(), "config-unreadable"),
        (good.replace("0.pem", "missing.pem"), "file-missing"),
    ] {
        fs::write(edge.desk().toml(), &text_of_file).unwrap();
        let before = files(edge.desk());
        for words in [&[][..], &["--dry-run"], &["--restart"]] {
            let output = apply(edge.desk(), words);
            assert_eq!(output.status.code(), Some(1), "{code}: {}", text(&output));
            assert!(text(&output).contains("nothing was changed"), "{code}: {}", text(&output));
        }
        let document = json(&apply(edge.desk(), &["--json"]));
        assert_eq!((&document["ok"], &document["code"]), (&false.into(), &"findings".into()), "{document:#}");
        assert_eq!(document["findings"][0]["code"], code, "{document:#}");
        assert_eq!((files(edge.desk()), in_use(&edge)), (before, used.clone()), "{code}");
    }
    let missing = sanedge().args(["apply", "/nonexistent/sanedge.toml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1), "{}", text(&missing));
    edge.stop();
}

#[test]
fn without_an_edge_the_files_wait_for_its_next_start() {
    let desk = builder().write();
    let first = apply(&desk, &[]);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first));
    assert!(text(&first).contains(&format!("+ {HOST} → 127.0.0.1:3002")), "{}", text(&first));
    assert!(text(&first).contains("no edge is running"), "{}", text(&first));
    let edge = desk.serve_by(sanedge());
    let again = apply(edge.desk(), &["--json"]);
    assert_eq!(json(&again)["state"], "unchanged", "{}", text(&again));
    edge.stop();
}

#[test]
fn an_edge_that_serves_another_bundle_is_left_alone() {
    let edge = builder().start();
    let used = in_use(&edge);
    // Its sanedge.toml names the same admin socket.
    let other = edge.desk().path("trial.toml");
    let trial = fs::read_to_string(edge.desk().toml()).unwrap().replace("3002", "3003");
    fs::write(&other, trial).unwrap();
    let output = sanedge().args(["apply", "--json"]).arg(&other).output().unwrap();
    assert_eq!(
        (output.status.code(), &json(&output)["state"]),
        (Some(0), &"stored".into()),
        "{}",
        text(&output)
    );
    assert_eq!(in_use(&edge), used);
    edge.stop();
}

/// A `systemctl` that runs the edge of a desk as systemd would: `restart` ends the process by SIGUSR1 and starts another.
struct Systemd {
    folder: PathBuf,
}

impl Systemd {
    fn of(edge: &Edge) -> Self {
        let desk = edge.desk();
        let folder = desk.path("systemd");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("pid"), edge.pid().to_string()).unwrap();
        let program = sanedge();
        let program = program.get_program().to_str().unwrap().to_owned();
        let (bundle, admin) = (desk.bundle_file(), desk.path("admin.sock"));
        let (bundle, admin, here) =
            (bundle.to_str().unwrap(), admin.to_str().unwrap(), folder.to_str().unwrap());
        script(
            &folder.join("systemctl"),
            &format!(
                "echo \"$@\" >>{here}/calls\n\
                 case $* in\n\
                 *=ExecReload\\ *) echo \"ExecReload={{ pid=$(cat {here}/reloader) ; code=exited ; status=$(cat {here}/reloaded) }}\" ;;\n\
                 *=TriggeredBy\\ *) echo \"TriggeredBy=$(cat {here}/triggers 2>/dev/null)\" ;;\n\
                 *=Id,*) cat {here}/sockets ;;\n\
                 show*) echo 'LoadState=loaded'; echo 'ActiveState=active'; echo 'ExecStart={{ path=/usr/bin/sanedge ; argv[]=/usr/bin/sanedge serve {bundle} ; }}' ;;\n\
                 reload*)\n\
                   [ ! -e {here}/refuses ] || exit 1\n\
                   [ -e {here}/program ] || exit 0\n\
                   echo $$ >{here}/reloader\n\
                   INVOCATION_ID=0 {here}/program reload --bundle {bundle} >/dev/null 2>&1; echo $? >{here}/reloaded; exit $(cat {here}/reloaded) ;;\n\
                 restart*)\n\
                   old=$(cat {here}/pid); kill -USR1 $old\n\
                   while [ -e {admin} ]; do sleep 0.02; done\n\
                   setsid {program} serve {bundle} >/dev/null 2>>{here}/log </dev/null &\n\
                   echo $! >{here}/pid\n\
                   until {program} status --admin {admin} >/dev/null 2>&1; do kill -0 $! 2>/dev/null || exit 1; sleep 0.02; done ;;\n\
                 esac"
            ),
        );
        Self { folder }
    }

    /// With the `ExecReload=` of the package, and this as the program on the disk.
    fn reloading_by(self, program: impl AsRef<std::ffi::OsStr>) -> Self {
        let place = self.folder.join("program");
        let _ = fs::remove_file(&place);
        std::os::unix::fs::symlink(program.as_ref(), &place).unwrap();
        self
    }

    /// These socket units are active, on these addresses.
    fn with_sockets(self, sockets: &[(&str, &str)]) -> Self {
        let unit = |(name, address): &(&str, &str)| {
            format!(
                "Id={name}.socket\nActiveState=active\nFileDescriptorName={name}\nListen={address} (Stream)\n"
            )
        };
        let units: Vec<_> = sockets.iter().map(unit).collect();
        let names: String = sockets.iter().map(|(name, _)| format!("{name}.socket ")).collect();
        fs::write(self.folder.join("sockets"), units.join("\n")).unwrap();
        fs::write(self.folder.join("triggers"), names).unwrap();
        self
    }

    fn path(&self) -> String {
        format!("{}:{}", self.folder.display(), std::env::var("PATH").unwrap())
    }

    fn apply(&self, desk: &Desk, words: &[&str]) -> Output {
        let mut command = sanedge();
        command.arg("apply").arg(desk.toml()).args(words).env("PATH", self.path());
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn restarts(&self) -> usize {
        let calls = fs::read_to_string(self.folder.join("calls")).unwrap_or_default();
        calls.lines().filter(|line| line.starts_with("restart")).count()
    }

    fn pid(&self) -> Pid {
        let pid = fs::read_to_string(self.folder.join("pid")).unwrap();
        Pid::from_raw(pid.trim().parse().unwrap()).unwrap()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // The folder of an edge that was stopped is gone.
        if self.folder.exists() {
            let _ = kill_process(self.pid(), Signal::KILL);
        }
    }
}

/// Each change that a reload cannot make, with what is said of it.
const NEW_PROCESS: [(&str, &str, &str); 4] = [
    ("https = [\"127.0.0.1:0\"]", "https = [\"127.0.0.1:0\", \"[::1]:0\"]", "[listen] https was"),
    ("https = [", "http = [\"127.0.0.1:0\"]\nhttps = [", "[listen] http was none"),
    ("[limits]", "[limits]\nworkers = 3", "`workers` stays"),
    ("[limits]", "[limits]\nscratch_bytes = \"8KiB\"", "`scratch_bytes` stays"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_new_process_ends_no_websocket_unless_somebody_wants_it() {
    let app = serve_default().await;
    let mut edge = Edge::certified_for(&[HOST]).site(&[HOST], app).limits("workers = 2").start();
    let systemd = Systemd::of(&edge);
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let mut socket = Socket::open(&edge, HOST, "").await;
        socket.join("/").await;
        sockets.push(socket);
    }
    let (used, good) = (in_use(&edge), fs::read_to_string(edge.desk().toml()).unwrap());
    for (from, to, why) in NEW_PROCESS {
        let to = if from == "[limits]" { to.replace("[limits]\n", "") } else { to.to_owned() };
        let from = if from == "[limits]" { "workers = 2" } else { from };
        fs::write(edge.desk().toml(), good.replace(from, &to)).unwrap();
        let before = files(edge.desk());
        let output = systemd.apply(edge.desk(), &[]);
        assert_eq!(output.status.code(), Some(75), "{why}: {}", text(&output));
        assert!(
            text(&output).contains(why) && text(&output).contains("3 WebSockets are open"),
            "{why}: {}",
            text(&output)
        );
        let document = json(&systemd.apply(edge.desk(), &["--json"]));
        assert_eq!(
            (&document["code"], &document["restart"]["needed"]),
            (&"needs-restart".into(), &true.into())
        );
        assert_eq!(document["restart"]["websockets_closed"], 3, "{document:#}");
        let planned = systemd.apply(edge.desk(), &["--dry-run"]);
        assert!(planned.status.success() && text(&planned).contains(why), "{}", text(&planned));
        assert_eq!((files(edge.desk()), in_use(&edge)), (before, used.clone()), "{why}");
    }
    assert_eq!(systemd.restarts(), 0);
    for socket in &mut sockets {
        socket.send(r#"42["echo","still here"]"#).await;
        assert_eq!(socket.text().await, r#"42["echo","still here"]"#);
    }
    let restarted = systemd.apply(edge.desk(), &["--restart"]);
    assert_eq!(restarted.status.code(), Some(0), "{}", text(&restarted));
    assert_eq!(systemd.restarts(), 1);
    assert_eq!(in_use(&edge), on_disk(edge.desk()));
    assert_ne!(in_use(&edge), used);
    let again = systemd.apply(edge.desk(), &["--json"]);
    assert_eq!(json(&again)["state"], "unchanged", "the new process follows all of it: {}", text(&again));
    edge.wait_until_ended();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_it_asks_and_a_person_decides() {
    const TEST: &str = "on_a_terminal_it_asks_and_a_person_decides";
    if !has("script", "--version") {
        return skip(TEST, "script of util-linux");
    }
    let app = serve_default().await;
    let mut edge = Edge::certified_for(&[HOST]).site(&[HOST], app).limits("workers = 2").start();
    let systemd = Systemd::of(&edge);
    let mut socket = Socket::open(&edge, HOST, "").await;
    socket.join("/").await;
    edit(edge.desk(), "workers = 2", "workers = 3");
    let (before, used) = (files(edge.desk()), in_use(&edge));
    let answered = |answer: &str| {
        let line =
            format!("{} apply {}", sanedge().get_program().to_str().unwrap(), edge.desk().toml().display());
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).env("PATH", systemd.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(text(&output).contains("1 WebSocket is open"), "{}", text(&output));
        assert!(text(&output).contains("[y/N]"), "{}", text(&output));
        output.status.code()
    };
    for no in ["n\n", "\n", "yep\n", "\u{4}"] {
        assert_eq!(answered(no), Some(75), "{no:?}");
        assert_eq!(
            (files(edge.desk()), in_use(&edge), systemd.restarts()),
            (before.clone(), used.clone(), 0)
        );
    }
    assert_eq!(answered("y\n"), Some(0));
    assert_eq!(systemd.restarts(), 1);
    assert_eq!(in_use(&edge), on_disk(edge.desk()));
    edge.wait_until_ended();
}

#[test]
fn an_edge_that_systemd_does_not_run_is_not_restarted() {
    let edge = builder().limits("workers = 2").start();
    edit(edge.desk(), "workers = 2", "workers = 3");
    let (before, used) = (files(edge.desk()), in_use(&edge));
    for words in [&[][..], &["--restart"]] {
        let output = apply(edge.desk(), words);
        assert_eq!(output.status.code(), Some(75), "{}", text(&output));
        assert!(
            text(&output).contains("systemd does not run this edge as sanedge.service"),
            "{}",
            text(&output)
        );
        assert_eq!((files(edge.desk()), in_use(&edge)), (before.clone(), used.clone()));
    }
    edge.stop();
}

#[test]
fn a_new_process_that_does_not_start_brings_the_old_files_back() {
    let mut edge = builder().limits("workers = 2").start();
    let systemd = Systemd::of(&edge);
    // Proven, and taken by another program of this machine.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let used = in_use(&edge);
    edit(edge.desk(), "127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let before = files(edge.desk());
    let output = systemd.apply(edge.desk(), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("systemctl restart sanedge.service` failed"), "{}", text(&output));
    assert!(text(&output).contains("Files and edge are as before"), "{}", text(&output));
    assert_eq!(files(edge.desk()), before);
    assert_eq!((in_use(&edge), systemd.restarts()), (used, 2), "the old bundle is served by a new process");
    edge.wait_until_ended();
}

/// Edits that pass the checks of the file, and the part of a message that says why no process could start with them.
fn unstartable(edge: &Edge, taken: &TcpListener) -> Vec<(&'static str, String, String)> {
    let (desk, port) = (edge.desk(), taken.local_addr().unwrap().port());
    let gone = desk.path("gone/admin.sock");
    let admin = desk.path("admin.sock");
    let listen = "https = [\"127.0.0.1:0\"]";
    let mut edits = vec![(
        "a port of another program",
        format!("{listen}=>https = [\"127.0.0.1:0\", \"127.0.0.1:{port}\"]"),
        format!("cannot listen on 127.0.0.1:{port}"),
    )];
    edits.push((
        "no folder for the admin socket",
        format!("{}=>{}", admin.display(), gone.display()),
        format!("cannot listen on unix:{}", gone.display()),
    ));
    edits
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_could_not_start_is_found_before_the_restart() {
    let app = serve_default().await;
    let mut edge = Edge::certified_for(&[HOST]).site(&[HOST], app).limits("workers = 2").start();
    let systemd = Systemd::of(&edge).reloading_by(sanedge().get_program());
    let mut socket = Socket::open(&edge, HOST, "").await;
    socket.join("/").await;
    let (used, good) = (in_use(&edge), fs::read_to_string(edge.desk().toml()).unwrap());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let bundle = fs::read(edge.desk().bundle_file()).unwrap();
    let refused = |systemd: &Systemd, what: &str, why: &str| {
        let before = files(edge.desk());
        let output = systemd.apply(edge.desk(), &["--restart", "--json"]);
        let document = json(&output);
        assert_eq!(
            (output.status.code(), &document["code"]),
            (Some(1), &"cannot-start".into()),
            "{what}: {document:#}"
        );
        let message = document["message"].as_str().unwrap();
        assert!(
            message.contains(why) && message.contains("Files and edge are as before"),
            "{what}: {message}"
        );
        assert_eq!(
            (files(edge.desk()), in_use(&edge), systemd.restarts()),
            (before, used.clone(), 0),
            "{what}"
        );
        assert_eq!(fs::read(edge.desk().bundle_file()).unwrap(), bundle, "{what}");
    };
    for (what, edited, why) in unstartable(&edge, &taken) {
        let (from, to) = edited.split_once("=>").unwrap();
        assert!(good.contains(from), "{what}: {good}");
        fs::write(edge.desk().toml(), good.replace(from, to)).unwrap();
        refused(&systemd, what, &why);
    }
    fs::write(edge.desk().toml(), good.replace("workers = 2", "workers = 3")).unwrap();
    let damaged = edge.desk().path("systemd/damaged");
    script(&damaged, "exit 203");
    let systemd = systemd.reloading_by(&damaged);
    refused(&systemd, "a damaged program", "it exited without an answer");
    let systemd = systemd.reloading_by(sanedge().get_program()).with_sockets(&[("https", "127.0.0.1:1")]);
    refused(&systemd, "a socket that systemd has closed", "nothing listens on 127.0.0.1:1");
    let address = taken.local_addr().unwrap().to_string();
    let systemd = systemd.with_sockets(&[("https", &address), ("http", &address)]);
    refused(&systemd, "a socket unit that [listen] lacks", "systemctl disable --now sanedge-http.socket");
    socket.send(r#"42["echo","still here"]"#).await;
    assert_eq!(socket.text().await, r#"42["echo","still here"]"#);
    // The healthy twin.
    let systemd = systemd.with_sockets(&[]);
    let output = systemd.apply(edge.desk(), &["--restart"]);
    assert_eq!((output.status.code(), systemd.restarts()), (Some(0), 1), "{}", text(&output));
    assert!(!text(&output).contains("could not be tried"), "{}", text(&output));
    assert!(!names(edge.desk()).iter().any(|name| name.ends_with(".preflight")));
    edge.wait_until_ended();
}

#[test]
fn the_preflight_alone_restarts_nothing() {
    let edge = builder().start();
    let systemd = Systemd::of(&edge).reloading_by(sanedge().get_program());
    let (used, log) = (in_use(&edge), edge.log_mark());
    let output = systemd.apply(edge.desk(), &["--preflight"]);
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(0), ""));
    let good = fs::read(edge.desk().bundle_file()).unwrap();
    assert_eq!((in_use(&edge), systemd.restarts()), (used, 0));
    assert!(!edge.log().lines().skip(log).any(|line| line.contains("reload")), "{}", edge.log());
    // What a killed command left behind makes no reload a preflight.
    let mut place = edge.desk().bundle_file().into_os_string();
    place.push(".preflight");
    drop(UnixListener::bind(&place).unwrap());
    let reload = sanedge().args(["reload", "--bundle"]).arg(edge.desk().bundle_file()).output().unwrap();
    assert!(reload.status.success() && text(&reload).contains("already in use"), "{}", text(&reload));
    let damaged = edge.desk().path("systemd/damaged");
    script(&damaged, "exit 203");
    let systemd = systemd.reloading_by(&damaged);
    let output = systemd.apply(edge.desk(), &["--preflight"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(fs::read(edge.desk().bundle_file()).unwrap(), good);
    // systemd refuses the reload, and still shows the status of the one before.
    fs::write(systemd.folder.join("refuses"), "").unwrap();
    let output = systemd.apply(edge.desk(), &["--preflight"]);
    assert_eq!(output.status.code(), Some(75), "{}", text(&output));
    edge.stop();
}

#[test]
fn a_reload_that_a_person_types_during_a_preflight_is_a_reload() {
    let edge = builder().start();
    let both = edge.desk().path("both");
    let (program, typed) = (sanedge(), edge.desk().path("typed"));
    let (program, typed) = (program.get_program().to_str().unwrap(), typed.to_str().unwrap());
    script(
        &both,
        &format!(
            "env -u INVOCATION_ID {program} \"$@\" >{typed} 2>&1; echo $? >>{typed}; exec {program} \"$@\""
        ),
    );
    let systemd = Systemd::of(&edge).reloading_by(&both);
    let output = systemd.apply(edge.desk(), &["--preflight"]);
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(0), ""));
    let typed = fs::read_to_string(typed).unwrap();
    assert!(typed.contains("already in use") && typed.ends_with("\n0\n"), "{typed}");
    edge.stop();
}

/// What a stand-in of an edge does on a reload.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// It refuses.
    Refuse,
    /// It says that all is well and goes on with the old bundle.
    KeepOld,
    /// It says nothing more.
    HangUp,
    /// Its answer is not one.
    Nonsense,
    /// It has the bundle that is on the disk; who listens is another matter.
    TakeNew,
}

/// An admin socket without an edge behind it: its status names the bundle `digest`, whatever happens. It counts reloads.
fn stand_in(desk: &Desk, digest: &str, lie: Lie) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(desk.path("admin.sock")).unwrap();
    let (file, mut digest) = (desk.bundle_file(), digest.to_owned());
    let reloads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reloads);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let status = serde_json::json!({
                "bundle": digest, "bundle_file": file, "draining": false, "counters": { "websockets_open": 0 },
            });
            let (code, body) = if head.starts_with(b"GET /status") {
                (200, status.to_string())
            } else {
                counted.fetch_add(1, Ordering::SeqCst);
                match lie {
                    Lie::Refuse => {
                        (409, r#"{"ok":false,"code":"reload-refused","message":"not this one"}"#.to_owned())
                    }
                    Lie::KeepOld => (200, r#"{"ok":true,"notes":[]}"#.to_owned()),
                    Lie::HangUp => continue,
                    Lie::Nonsense => (200, "<html>".to_owned()),
                    Lie::TakeNew => {
                        let output = sanedge().args(["show", "--json"]).arg(&file).output().unwrap();
                        digest = json(&output)["digest"].as_str().unwrap()[..16].to_owned();
                        (200, r#"{"ok":true,"notes":[]}"#.to_owned())
                    }
                }
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    reloads
}

#[test]
fn what_the_edge_does_not_confirm_is_undone() {
    for lie in [Lie::Refuse, Lie::KeepOld, Lie::HangUp, Lie::Nonsense] {
        let desk = builder().write();
        assert!(apply(&desk, &[]).status.success());
        let reloads = stand_in(&desk, &on_disk(&desk), lie);
        add_site(&desk);
        let before = files(&desk);
        let output = apply(&desk, &["--json"]);
        assert_eq!(output.status.code(), Some(1), "{lie:?}: {}", text(&output));
        assert!(text(&output).contains("as before"), "{lie:?}: {}", text(&output));
        assert_eq!(json(&output)["ok"], false);
        assert_eq!(files(&desk), before, "{lie:?}");
        assert_eq!(
            reloads.load(Ordering::SeqCst),
            1,
            "{lie:?}: an edge that kept the old bundle is not asked again"
        );
    }
}

#[test]
fn another_program_on_the_port_is_no_confirmation() {
    let other = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:3002").start();
    let desk = builder().write();
    edit(&desk, "127.0.0.1:0", &other.https.to_string());
    assert!(apply(&desk, &[]).status.success());
    let reloads = stand_in(&desk, &on_disk(&desk), Lie::TakeNew);
    // A site needs no other certificate, so none is asked for.
    edit(&desk, "[limits]", "[limits]\nsessions_max = 77");
    assert!(apply(&desk, &[]).status.success());
    desk.write_certificate(0, &[HOST]);
    let before = files(&desk);
    let output = apply(&desk, &["--json"]);
    assert_eq!(
        (output.status.code(), &json(&output)["code"]),
        (Some(1), &"not-served".into()),
        "{}",
        text(&output)
    );
    assert!(text(&output).contains("does not serve the new certificate"), "{}", text(&output));
    assert_eq!(files(&desk), before);
    assert_eq!(reloads.load(Ordering::SeqCst), 3, "the edge has the old bundle again");
    other.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_asked_of_the_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let desk = builder().write();
    edit(&desk, "127.0.0.1:0", &listener.local_addr().unwrap().to_string());
    let edge = desk.serve_on(&Sockets::new().with("https", listener));
    edge.desk().write_certificate(0, &[HOST, NEW]);
    let handshakes = || edge.status()["counters"]["handshakes_total"].as_u64().unwrap();
    let before = handshakes();
    let output = apply(edge.desk(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains(&format!("~ {HOST} certificate 0.pem")), "{}", text(&output));
    assert_eq!(handshakes(), before + 1);
    edge.tls(HOST).await;
    edge.stop();
}

#[test]
fn one_lock_is_for_all_that_change_the_files() {
    let edge = builder().start();
    let held = fs::File::open(edge.desk().path("")).unwrap();
    rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
    add_site(edge.desk());
    let before = files(edge.desk());
    // Reading needs no lock.
    assert!(apply(edge.desk(), &["--dry-run"]).status.success());
    let mut child = sanedge().arg("apply").arg(edge.desk().toml()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 12];
    child.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"note waiting");
    assert_eq!(files(edge.desk()), before);
    drop(held);
    assert!(child.wait().unwrap().success());
    assert_eq!(in_use(&edge), on_disk(edge.desk()));
    edge.stop();
}

#[test]
fn two_at_once_end_as_one_after_the_other() {
    let edge = builder().start();
    for round in 0..5 {
        edit(edge.desk(), "[limits]", &format!("[limits] # {round}"));
        let at = 100 + round;
        let toml = fs::read_to_string(edge.desk().toml()).unwrap();
        let lines: Vec<_> = toml.lines().filter(|line| !line.starts_with("sessions_max")).collect();
        fs::write(edge.desk().toml(), lines.join("\n") + &format!("\nsessions_max = {at}\n")).unwrap();
        let start = || {
            sanedge()
                .arg("apply")
                .arg(edge.desk().toml())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let children: Vec<_> = (0..3).map(|_| start()).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", text(&output));
        }
        assert_eq!(edge.status()["sessions_max"], at);
    }
    assert!(names(edge.desk()).iter().all(|name| !name.starts_with('.')), "{:?}", names(edge.desk()));
    edge.stop();
}

fn settle(toml: &Path, words: &[&str]) -> Output {
    sanedge().arg("apply").arg(toml).arg("--settle").args(words).stdin(Stdio::null()).output().unwrap()
}

/// `renew` for the bundle of the desk.
fn deploy(desk: &Desk, words: &[&str]) -> Output {
    let plan = desk.toml().with_extension("acme");
    sanedge().args(["renew", "--deploy"]).arg(plan).args(words).stdin(Stdio::null()).output().unwrap()
}

/// An edge with a `sanedge.acme`: a host that no certificate covers is one for a CA.
fn managed() -> EdgeBuilder {
    Edge::certified_for(&[HOST])
        .site(&[HOST], "127.0.0.1:3002")
        .site(&["first.recre.store"], "127.0.0.1:3002")
        .limits("[acme]\nterms = \"agreed\"\nstate = \"state\"\nchallenges = \"challenges\"")
}

#[test]
fn without_an_interrupted_change_there_is_nothing_to_settle() {
    let desk = builder().write();
    let nowhere = desk.path("missing/sanedge.toml");
    for toml in [&desk.toml(), &nowhere] {
        let output = settle(toml, &[]);
        assert_eq!((output.status.code(), text(&output)), (Some(0), String::new()));
        let output = settle(toml, &["--json"]);
        assert_eq!((&json(&output)["ok"], &json(&output)["state"]), (&true.into(), &"unchanged".into()));
    }
    // What a command left that was killed before it changed a file.
    let left = desk.path(".sanedge-apply.tmp");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("0"), "a key").unwrap();
    let output = settle(&desk.toml(), &[]);
    assert_eq!((output.status.code(), text(&output)), (Some(0), String::new()));
    assert!(!left.exists());
    for words in [["--settle", "--dry-run"], ["--settle", "--restart"]] {
        assert_eq!(apply(&desk, &words).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn a_damaged_journal_is_named_and_nothing_is_changed() {
    let desk = builder().write();
    let left = desk.path(".sanedge-apply");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("files.json"), "{").unwrap();
    let before = files(&desk);
    let output = settle(&desk.toml(), &["--json"]);
    assert_eq!((output.status.code(), &json(&output)["code"]), (Some(1), &"not-written".into()));
    assert!(text(&output).contains(".sanedge-apply is damaged"), "{}", text(&output));
    assert!(left.exists());
    assert_eq!(files(&desk), before);
}

#[test]
fn a_deployment_that_the_edge_does_not_confirm_is_undone() {
    for lie in [Lie::Refuse, Lie::KeepOld, Lie::HangUp, Lie::Nonsense] {
        let desk = managed().write();
        assert!(apply(&desk, &[]).status.success());
        let reloads = stand_in(&desk, &on_disk(&desk), lie);
        desk.write_certificate(0, &[HOST]);
        let (before, names_before) = (files(&desk), names(&desk));
        let output = deploy(&desk, &["--json"]);
        assert_eq!(output.status.code(), Some(1), "{lie:?}: {}", text(&output));
        assert!(text(&output).contains("as before"), "{lie:?}: {}", text(&output));
        assert_eq!((files(&desk), names(&desk)), (before, names_before), "{lie:?}");
        assert_eq!(reloads.load(Ordering::SeqCst), 1, "{lie:?}");
    }
}

#[test]
fn a_question_to_systemd_has_a_limit() {
    let edge = builder().start();
    let folder = edge.desk().path("systemd");
    fs::create_dir(&folder).unwrap();
    script(&folder.join("systemctl"), "exec sleep 600");
    add_site(edge.desk());
    let before = files(edge.desk());
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut command = sanedge();
    command.arg("apply").arg(edge.desk().toml()).arg("--json");
    let output = command.env("PATH", path).stdin(Stdio::null()).output().unwrap();
    assert_eq!((output.status.code(), &json(&output)["code"]), (Some(1), &"systemd".into()));
    assert!(text(&output).contains("no answer within 10 s"), "{}", text(&output));
    assert_eq!(files(edge.desk()), before);
    edge.stop();
}

#[test]
fn an_edge_that_is_starting_is_waited_for() {
    let edge = builder().start();
    let (desk, folder) = (edge.desk(), edge.desk().path("systemd"));
    fs::create_dir(&folder).unwrap();
    let bundle = desk.bundle_file();
    let says = |state: &str| {
        format!(
            "echo ActiveState={state}; echo 'ExecStart={{ argv[]=sanedge serve {} ; }}'",
            bundle.display()
        )
    };
    let calls = folder.join("calls");
    let state = format!(
        "echo >>{0}; if [ $(wc -l <{0}) -lt 4 ]; then {1}; echo SubState=start; else {2}; fi",
        calls.display(),
        says("activating"),
        says("active")
    );
    script(&folder.join("systemctl"), &state);
    add_site(desk);
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let run = || {
        let mut command = sanedge();
        command.arg("apply").arg(desk.toml()).arg("--json").env("PATH", &path).stdin(Stdio::null());
        command.output().unwrap()
    };
    let output = run();
    assert_eq!(json(&output)["state"], "reloaded", "{}", text(&output));
    assert_eq!(fs::read_to_string(&calls).unwrap().lines().count(), 4);
    // Between two attempts of systemd no process runs, which must not keep the remedy out.
    script(&folder.join("systemctl"), &(says("activating") + "; echo SubState=auto-restart"));
    edit(desk, "[limits]", "[limits]\nsessions_max = 77");
    let output = run();
    assert_eq!(json(&output)["state"], "stored", "{}", text(&output));
    edge.stop();
}

#[test]
fn root_writes_to_no_folder_of_another_user() {
    const TEST: &str = "root_writes_to_no_folder_of_another_user";
    if !rustix::process::geteuid().is_root() {
        return skip(TEST, "root: it gives a folder away");
    }
    const OTHER: u32 = 64_003;
    let desk = managed().write();
    assert!(apply(&desk, &[]).status.success());
    desk.write_certificate(0, &[HOST]);
    let give = |user| std::os::unix::fs::chown(desk.path(""), Some(user), None).unwrap();
    let (before, plan) = (files(&desk), desk.toml().with_extension("acme"));
    let commands: [(&[&str], &Path); 3] = [
        (&["apply", "--json"], &desk.toml()),
        (&["renew", "--deploy", "--json"], &plan),
        (&["site", "remove", HOST, "--json", "--file"], &desk.toml()),
    ];
    let run = |words: &[&str], file: &Path, by_sudo: Option<u32>| {
        let mut command = sanedge();
        command.env_remove("SUDO_UID").args(words).arg(file).stdin(Stdio::null());
        command.envs(by_sudo.map(|uid| ("SUDO_UID", uid.to_string()))).output().unwrap()
    };
    give(OTHER);
    for (words, file) in commands {
        for by_sudo in [None, Some(OTHER + 1)] {
            let output = run(words, file, by_sudo);
            assert_eq!(
                (output.status.code(), &json(&output)["code"]),
                (Some(1), &"folder".into()),
                "{words:?}"
            );
            assert!(text(&output).contains(&format!("belongs to uid {OTHER}")), "{}", text(&output));
        }
    }
    assert_eq!(files(&desk), before);
    // Who types sudo has root's rights already.
    for (words, file) in commands {
        let output = run(words, file, Some(OTHER));
        assert!(output.status.success(), "{words:?}: {}", text(&output));
    }
    give(0);
}

/// The calls before which a process can be killed so that something differs afterwards.
const CALLS: &str = "mkdir,write,rename,renameat2,unlink,unlinkat,rmdir,fsync,fchmod,connect";

/// `sanedge` with these words under strace, which is given the others.
fn traced(options: &[&str], words: &[&str], file: &Path) -> Output {
    let program = sanedge();
    let mut command = Command::new("strace");
    command.arg("-qq").args(options).arg(program.get_program()).args(program.get_args());
    command.args(words).arg(file).stdin(Stdio::null()).output().unwrap()
}

/// Each of the [`CALLS`] that a run makes after it has the lock: its name, and which of that name it is.
fn steps(words: &[&str], file: &Path, desk: &Desk) -> Vec<(String, usize)> {
    let trace = desk.path("trace");
    let output = traced(&["-e", &format!("trace=flock,{CALLS}"), "-o", trace.to_str().unwrap()], words, file);
    assert!(output.status.success(), "{}", text(&output));
    let said = fs::read_to_string(&trace).unwrap();
    fs::remove_file(trace).unwrap();
    let (mut counts, mut steps, mut locked) = (BTreeMap::new(), Vec::new(), false);
    for name in said.lines().filter_map(|line| line.split_once('(')).map(|(name, _)| name.to_owned()) {
        let count = counts.entry(name.clone()).or_insert(0);
        *count += 1;
        if locked {
            steps.push((name.clone(), *count));
        }
        locked |= name == "flock";
    }
    steps
}

#[test]
fn killed_at_any_step_it_leaves_the_old_state_or_the_new_and_the_next_run_completes_it() {
    const TEST: &str = "killed_at_any_step_it_leaves_the_old_state_or_the_new_and_the_next_run_completes_it";
    if !has("strace", "-V") {
        return skip(TEST, "strace");
    }
    let edge = builder().start();
    let desk = edge.desk();
    let names_before = names(desk);
    let good = fs::read_to_string(desk.toml()).unwrap();
    let write = |sessions: u32| {
        fs::write(desk.toml(), good.replace("[limits]", &format!("[limits]\nsessions_max = {sessions}")))
            .unwrap();
    };
    let applied = |what: &str| {
        let output = apply(desk, &["--json"]);
        assert!(output.status.success(), "{what}: {}", text(&output));
        assert_eq!(in_use(&edge), on_disk(desk), "{what}");
        assert_eq!(names(desk), names_before, "{what}: left behind");
        on_disk(desk)
    };
    write(300);
    applied("at first");
    write(400);
    let steps = steps(&["apply"], &desk.toml(), desk);
    let mut outcomes = BTreeMap::new();
    for (name, count) in &steps {
        let what = format!("{name} {count}");
        write(300);
        let old = applied(&what);
        write(400);
        let kill = format!("inject={name}:signal=KILL:when={count}");
        let output = traced(
            &["-o", "/dev/null", "-e", &format!("trace={name}"), "-e", &kill],
            &["apply"],
            &desk.toml(),
        );
        assert!(!output.status.success(), "{what}: it ends before");
        let (disk, used) = (on_disk(desk), in_use(&edge));
        // What an edge that starts now would serve is one of both, and complete; what is in use is on the disk.
        assert!(used == old || disk == used, "{what}");
        *outcomes.entry((disk == old, used == old)).or_insert(0) += 1;
        applied(&what);
        assert_eq!(edge.status()["sessions_max"], 400, "{what}");
    }
    let of = |disk, used| outcomes.get(&(disk, used)).copied().unwrap_or(0);
    assert!(of(true, true) > 5 && of(false, true) > 2 && of(false, false) > 5, "{outcomes:?} of {steps:?}");
    edge.stop();
}

/// The files that change together.
fn set(toml: &Path) -> [Option<Vec<u8>>; 3] {
    ["toml", "acme", "bundle"].map(|end| fs::read(toml.with_extension(end)).ok())
}

/// A command that changes the files of an edge, to be cut short.
struct Cut<'a> {
    words: &'a [&'a str],
    file: PathBuf,
    /// Makes the old state.
    old: &'a dyn Fn(),
    /// What the user does before the command.
    prepare: &'a dyn Fn(),
}

impl Cut<'_> {
    /// Kills the command at each step. After `apply --settle` all files are old, or all are new: beside the running edge, and in a
    /// copy of the folder, which is what the next boot finds after a power cut.
    fn at_each_step(&self, edge: &Edge) {
        let desk = edge.desk();
        (self.old)();
        let (old, names_before) = (set(&desk.toml()), names(desk));
        (self.prepare)();
        let steps = steps(self.words, &self.file, desk);
        let new = set(&desk.toml());
        assert_ne!(old, new);
        let (mut outcomes, mut journals) = (BTreeMap::new(), 0);
        for (name, count) in &steps {
            let what = format!("{name} {count}");
            (self.old)();
            assert_eq!(set(&desk.toml()), old, "{what}");
            (self.prepare)();
            let kill = format!("inject={name}:signal=KILL:when={count}");
            let options = ["-o", "/dev/null", "-e", &format!("trace={name}"), "-e", &kill];
            assert!(!traced(&options, self.words, &self.file).status.success(), "{what}: it ends before");
            let is_cut = desk.path(".sanedge-apply").exists();
            journals += usize::from(is_cut);
            let place = tempfile::tempdir().unwrap();
            let copied = Command::new("cp").arg("-a").arg(desk.path("")).arg(place.path()).status().unwrap();
            assert!(copied.success(), "{what}");
            let name = desk.path("").file_name().unwrap().to_owned();
            let copy = place.path().join(name).join(desk.toml().file_name().unwrap());
            let [there, here] = [copy, desk.toml()].map(|toml| {
                let output = settle(&toml, &[]);
                assert_eq!(output.status.code(), Some(0), "{what}: {}", text(&output));
                assert_eq!(text(&output).contains("was interrupted"), is_cut, "{what}: {}", text(&output));
                let found = set(&toml);
                assert!(found == old || found == new, "{what}: a mix");
                let left: Vec<_> = fs::read_dir(toml.parent().unwrap())
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .filter(|name| name.starts_with(".sanedge"))
                    .collect();
                assert!(left.is_empty(), "{what}: {left:?}");
                assert_eq!(text(&settle(&toml, &[])), "", "{what}: once is enough");
                found == old
            });
            assert_eq!(in_use(edge), on_disk(desk), "{what}");
            assert!(there || !is_cut, "{what}: no edge has confirmed it");
            *outcomes.entry((there, here)).or_insert(0) += 1;
        }
        (self.old)();
        assert_eq!(names(desk), names_before);
        let of = |there, here| outcomes.get(&(there, here)).copied().unwrap_or(0);
        // Undone in both; undone without the edge, which uses it already; completed before.
        assert!(
            of(true, true) > 5 && of(true, false) > 1 && of(false, false) > 0,
            "{outcomes:?} of {steps:?}"
        );
        assert!(journals > 10, "{journals}");
    }
}

#[test]
fn after_a_power_cut_the_file_and_its_bundle_are_of_one_state() {
    const TEST: &str = "after_a_power_cut_the_file_and_its_bundle_are_of_one_state";
    if !has("strace", "-V") {
        return skip(TEST, "strace");
    }
    let edge = managed().start();
    let desk = edge.desk();
    let good = fs::read_to_string(desk.toml()).unwrap();
    let old = || {
        fs::write(desk.toml(), &good).unwrap();
        let output = apply(desk, &[]);
        assert!(output.status.success(), "{}", text(&output));
    };
    let words = ["site", "add", NEW, "--app", "3002", "--no-renew", "--file"];
    Cut { words: &words, file: desk.toml(), old: &old, prepare: &|| {} }.at_each_step(&edge);
    edge.stop();
}

#[test]
fn after_a_power_cut_a_deployment_is_complete_or_did_not_happen() {
    const TEST: &str = "after_a_power_cut_a_deployment_is_complete_or_did_not_happen";
    if !has("strace", "-V") {
        return skip(TEST, "strace");
    }
    let edge = managed().start();
    let desk = edge.desk();
    let pair = |_| ["0.pem", "0.key"].map(|name| fs::read(desk.path(name)).unwrap());
    let first = pair(());
    desk.write_certificate(0, &[HOST]);
    let second = pair(());
    let put = |pair: &[Vec<u8>; 2]| {
        fs::write(desk.path("0.pem"), &pair[0]).unwrap();
        fs::write(desk.path("0.key"), &pair[1]).unwrap();
    };
    let old = || {
        put(&first);
        let output = deploy(desk, &[]);
        assert!(output.status.success(), "{}", text(&output));
    };
    let file = desk.toml().with_extension("acme");
    Cut { words: &["renew", "--deploy"], file, old: &old, prepare: &|| put(&second) }.at_each_step(&edge);
    edge.stop();
}

/// A second power cut, while the first is settled.
#[test]
fn the_settling_may_be_cut_as_well() {
    const TEST: &str = "the_settling_may_be_cut_as_well";
    if !has("strace", "-V") {
        return skip(TEST, "strace");
    }
    let desk = managed().write();
    assert!(apply(&desk, &[]).status.success());
    let old = set(&desk.toml());
    let image = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        assert!(Command::new("cp").arg("-aT").args([from, to]).status().unwrap().success());
    };
    let clean = image.path().join("clean");
    copy(&desk.path(""), &clean);
    let name = desk.toml().file_name().unwrap().to_owned();
    let words = ["site", "add", NEW, "--app", "3002", "--no-renew", "--file"];
    let whole = image.path().join("whole");
    copy(&clean, &whole);
    let all = steps(&words, &whole.join(&name), &desk);
    // The last moment at which all files are new and the journal is there.
    let cut = image.path().join("cut");
    let found = all.iter().rev().find(|(call, count)| {
        let _ = fs::remove_dir_all(&cut);
        copy(&clean, &cut);
        let kill = format!("inject={call}:signal=KILL:when={count}");
        let options = ["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &kill];
        traced(&options, &words, &cut.join(&name));
        cut.join(".sanedge-apply").exists()
    });
    assert!(found.is_some() && set(&cut.join(&name)) != old, "{all:?}");
    let settles = ["apply", "--settle"];
    let once = image.path().join("once");
    copy(&cut, &once);
    let steps = steps(&settles, &once.join(&name), &desk);
    assert_eq!(set(&once.join(&name)), old);
    assert!(steps.len() > 10, "{steps:?}");
    for (call, count) in &steps {
        let what = format!("{call} {count}");
        let again = image.path().join("again");
        let _ = fs::remove_dir_all(&again);
        copy(&cut, &again);
        let toml = again.join(&name);
        let kill = format!("inject={call}:signal=KILL:when={count}");
        let options = ["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &kill];
        assert!(!traced(&options, &settles, &toml).status.success(), "{what}: it ends before");
        assert!(settle(&toml, &[]).status.success(), "{what}");
        assert_eq!(set(&toml), old, "{what}");
        assert!(
            !again.join(".sanedge-apply").exists() && !again.join(".sanedge-apply.tmp").exists(),
            "{what}"
        );
    }
}

#[test]
fn a_deployment_is_undone_if_another_program_has_the_port() {
    let other = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:3002").start();
    let local = "[acme]\nterms = \"agreed\"\nstate = \"state\"\nchallenges = \"challenges\"\n[local]";
    let desk = Edge::certified_for(&[HOST])
        .site(&[HOST], "127.0.0.1:3002")
        .site(&["socket.home.arpa"], "127.0.0.1:3002")
        .limits(local)
        .write();
    edit(&desk, "127.0.0.1:0", &other.https.to_string());
    assert!(apply(&desk, &[]).status.success());
    let renew = || {
        let mut command = sanedge();
        command.arg("renew").arg(desk.toml().with_extension("acme")).args(["--now", "--json"]);
        command.stdin(Stdio::null()).output().unwrap()
    };
    let first = renew();
    assert!(first.status.success(), "no edge is running: {}", text(&first));
    let reloads = stand_in(&desk, &on_disk(&desk), Lie::TakeNew);
    let before = set(&desk.toml());
    let output = renew();
    assert_eq!(
        (output.status.code(), &json(&output)["code"]),
        (Some(1), &"not-served".into()),
        "{}",
        text(&output)
    );
    assert!(text(&output).contains("as before"), "{}", text(&output));
    assert_eq!(set(&desk.toml()), before);
    assert_eq!(reloads.load(Ordering::SeqCst), 2, "the edge has the old bundle again");
    other.stop();
}

/// A unit that may connect to loopback alone, a firewall, or a limit for handshakes: the edge has confirmed the bundle, and undoing it would
/// end in an expired certificate.
#[test]
fn a_listener_that_sends_no_certificate_undoes_no_deployment() {
    undoes_no_deployment(&free_address().to_string(), "cannot connect to the edge at");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    undoes_no_deployment(&address, "does not serve the new certificate");
}

fn undoes_no_deployment(listener: &str, said: &str) {
    let local = "[acme]\nterms = \"agreed\"\nstate = \"state\"\nchallenges = \"challenges\"\n[local]";
    let desk = Edge::certified_for(&[HOST])
        .site(&[HOST], "127.0.0.1:3002")
        .site(&["socket.home.arpa"], "127.0.0.1:3002")
        .limits(local)
        .write();
    edit(&desk, "127.0.0.1:0", listener);
    assert!(apply(&desk, &[]).status.success());
    let mut renew = sanedge();
    renew.arg("renew").arg(desk.toml().with_extension("acme")).args(["--now", "--json"]).stdin(Stdio::null());
    assert!(renew.output().unwrap().status.success(), "no edge is running");
    stand_in(&desk, &on_disk(&desk), Lie::TakeNew);
    let before = set(&desk.toml());
    let output = renew.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains(said), "{}", text(&output));
    assert_ne!(set(&desk.toml()), before, "the new certificate is in use");
    // `apply` relies on the edge's word as well.
    desk.write_certificate(0, &[HOST]);
    assert!(apply(&desk, &[]).status.success());
}

/// Killed while it undoes: the edge may still have the new bundle, and the files are the old ones.
#[test]
fn a_running_edge_follows_what_is_undone() {
    let edge = managed().start();
    let desk = edge.desk();
    assert!(apply(desk, &[]).status.success());
    let old = set(&desk.toml());
    let used = in_use(&edge);
    let bundle = fs::read(desk.bundle_file()).unwrap();
    add_site(desk);
    assert!(apply(desk, &[]).status.success());
    assert_ne!(in_use(&edge), used);
    let new = set(&desk.toml());
    // As `roll_back` leaves it after its first file: the journal, the old bundle, and the new other files.
    let journal = desk.path(".sanedge-apply");
    fs::create_dir(&journal).unwrap();
    let digest = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map(|bytes| sanedge::bundle::report::hex(&sanedge::bundle::wire::sha256(bytes)))
    };
    let kinds = ["text", "public", "bundle"];
    let entries: Vec<_> = ["toml", "acme", "bundle"]
        .iter()
        .enumerate()
        .map(|(at, end)| {
            fs::write(journal.join(at.to_string()), old[at].as_ref().unwrap()).unwrap();
            let name = desk.toml().with_extension(end).file_name().unwrap().to_str().unwrap().to_owned();
            serde_json::json!({ "name": name, "kind": kinds[at], "old": digest(&old[at]), "new": digest(&new[at]) })
        })
        .collect();
    fs::write(journal.join("files.json"), serde_json::json!({ "version": 1, "files": entries }).to_string())
        .unwrap();
    fs::write(desk.bundle_file(), bundle).unwrap();
    let output = settle(&desk.toml(), &["--json"]);
    assert_eq!(
        (output.status.code(), &json(&output)["state"]),
        (Some(0), &"undone".into()),
        "{}",
        text(&output)
    );
    assert_eq!((set(&desk.toml()), in_use(&edge)), (old, used));
    edge.stop();
}
