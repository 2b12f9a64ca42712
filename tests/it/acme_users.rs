//! `sanedge renew` under its users, as the packaged units run it: who can read and write what, and by which system calls.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::acme::{Desk, without_pebble};
use super::support::edge::{PATIENCE, sanedge, text};
use super::support::node::{has, skip};
use super::support::pebble::{Act, Pebble};
use super::unit_files::allowed;

const A: &str = "a.localhost";
/// `sanedge-acme`, `sanedge`, and a third user, by numbers that no package takes.
const ACME: u32 = 64_001;
const EDGE: u32 = 64_002;
const OTHER: u32 = 64_003;

fn as_user(program: impl AsRef<std::ffi::OsStr>, user: u32) -> Command {
    let mut command = Command::new(program);
    command.uid(user).gid(user).env_remove("SANEDGE_DUMPABLE").current_dir("/");
    command
}

/// The folders and owners of the package.
fn packaged() -> Desk {
    let desk = Desk::with(&[A], Pebble::start);
    let own = |name: &str, (user, group): (u32, u32), mode: u32| {
        chown(desk.path(name), Some(user), Some(group)).unwrap();
        fs::set_permissions(desk.path(name), Permissions::from_mode(mode)).unwrap();
    };
    for (name, owner, mode) in [("state", (ACME, ACME), 0o700), ("challenges", (ACME, EDGE), 0o750)] {
        fs::create_dir_all(desk.path(name)).unwrap();
        own(name, owner, mode);
    }
    own(".", (0, EDGE), 0o751);
    own("x.bundle", (0, EDGE), 0o640);
    own("trust.pem", (0, 0), 0o644);
    // The target folder may be closed to these users.
    fs::copy(env!("CARGO_BIN_EXE_sanedge"), desk.path("sanedge")).unwrap();
    desk
}

fn owner(path: &Path) -> (u32, u32, u32) {
    let about = fs::symlink_metadata(path).unwrap();
    (about.uid(), about.gid(), about.mode() & 0o777)
}

/// Everything below a folder.
fn below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let deeper = entries.iter().filter(|path| path.is_dir()).flat_map(|path| below(path)).collect::<Vec<_>>();
    entries.into_iter().filter(|path| !path.is_dir()).chain(deeper).collect()
}

fn can(user: u32, script: &str, path: &Path) -> bool {
    as_user("sh", user).args(["-c", script, "sh"]).arg(path).output().unwrap().status.success()
}

#[test]
fn a_challenge_folder_without_rights_is_told_with_the_command_that_gives_them() {
    const TEST: &str = "a_challenge_folder_without_rights_is_told_with_the_command_that_gives_them";
    if without_pebble(TEST) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skip(TEST, "root: it runs `renew` as another user");
    }
    let desk = packaged();
    let challenges = desk.path("challenges");
    let renew = || {
        let mut command = as_user(desk.path("sanedge"), ACME);
        let output =
            command.arg("renew").arg(desk.path("x.acme")).args(["--now", "--json"]).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", text(&output)))
    };
    chown(&challenges, Some(0), Some(0)).unwrap();
    for _ in 0..2 {
        let document = renew();
        let failure = &document["certificates"][0]["failure"];
        assert_eq!(failure["code"], "acme-challenge-folder", "{document:#}");
        let place = challenges.display().to_string();
        assert!(
            failure["found"].as_str().unwrap().contains(&format!("{place}: Permission denied")),
            "{failure}"
        );
        let command = format!("install -d -o sanedge-acme -g sanedge -m 0750 {place}");
        assert!(failure["remedy"].as_str().unwrap().contains(&command), "{failure}");
        assert_eq!(desk.front.total(), 0, "nothing is sent to the CA");
        // Nor where it is missing, and its parent is closed.
        let _ = fs::remove_dir_all(&challenges);
    }
    fs::create_dir(&challenges).unwrap();
    chown(&challenges, Some(ACME), Some(EDGE)).unwrap();
    assert!(renew()["ok"].as_bool().unwrap());
}

#[test]
fn each_user_reads_and_writes_its_own_files_and_no_others() {
    const TEST: &str = "each_user_reads_and_writes_its_own_files_and_no_others";
    if without_pebble(TEST) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skip(TEST, "root: it runs each part as its own user");
    }
    let desk = packaged();
    let (program, plan, bundle) = (desk.path("sanedge"), desk.path("x.acme"), desk.path("x.bundle"));
    let before = fs::read(&bundle).unwrap();
    let said = |output: Output| {
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    // As sanedge-renew.service: it stores, and leaves the mark that sanedge-deploy.path waits for.
    said(as_user(&program, ACME).arg("renew").arg(&plan).output().unwrap());
    assert!(desk.path("state/deploy").exists() && desk.is_clean());
    assert_eq!(fs::read(&bundle).unwrap(), before, "that user makes no bundle");
    // As sanedge-deploy.service.
    said(sanedge().args(["renew", "--deploy"]).arg(&plan).output().unwrap());
    assert!(desk.serves(A));
    for mark in ["state/deploy", "state/deploying"] {
        assert!(!desk.path(mark).exists(), "{mark}");
    }
    assert_eq!(owner(&bundle), (0, EDGE, 0o640), "it stays as it was");

    // Keys are in the state folder and in the bundle.
    let (read, write) = ("cat \"$1\" >/dev/null", ": >>\"$1\"");
    let files = below(&desk.path("state"));
    assert!(files.iter().any(|file| fs::read_to_string(file).is_ok_and(|text| text.contains("PRIVATE KEY"))));
    for file in &files {
        assert_eq!(owner(file), (ACME, ACME, 0o600), "{}", file.display());
        assert!(can(ACME, read, file) && !can(EDGE, read, file) && !can(OTHER, read, file));
    }
    assert!(can(EDGE, read, &bundle) && !can(ACME, read, &bundle) && !can(OTHER, read, &bundle));
    for user in [ACME, EDGE, OTHER] {
        assert!(can(user, read, &plan), "it holds no secret");
        for file in [&bundle, &plan, &desk.path("x.toml")] {
            assert!(!can(user, write, file), "{user}: {}", file.display());
            assert!(!can(user, "mv \"$1\" \"$1.moved\"", file), "{user}: {}", file.display());
        }
        let challenge = desk.path("challenges/token");
        assert_eq!(can(user, write, &challenge), user == ACME);
        fs::write(&challenge, "x").unwrap();
        assert_eq!(can(user, read, &challenge), user != OTHER);
        fs::remove_file(&challenge).unwrap();
    }

    // By hand, as root: the CA's part as the state folder's owner, then the deployment; one document for programs.
    let old = fs::read(&bundle).unwrap();
    let output = Command::new(&program).args(["renew", "--now", "--json"]).arg(&plan).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["ok"], &document["certificates"][0]["outcome"]), (&true.into(), &"issued".into()));
    assert!(document["deployed"].as_str().unwrap().contains("no edge is running"), "{document}");
    assert_ne!(fs::read(&bundle).unwrap(), old);
    assert_eq!(owner(&bundle), (0, EDGE, 0o640));
    assert!(below(&desk.path("state")).iter().all(|file| owner(file) == (ACME, ACME, 0o600)));
    // In a container there is one user.
    let container = Desk::with(&[A], Pebble::start);
    assert_eq!(container.json(&[]).0, 0);
    assert!(container.serves(A));
    assert_eq!(owner(&container.certificate(A)), (0, 0, 0o600));
}

/// The process of this user that runs a program of the folder.
fn process_of(user: u32, folder: &Path) -> Option<u32> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let is_it = entry.metadata().ok()?.uid() == user
            && fs::read_to_string(entry.path().join("cmdline")).ok()?.contains(folder.to_str()?);
        is_it.then(|| entry.file_name().to_str()?.parse().ok())?
    });
    processes.max()
}

fn waited_for<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match look() {
            Some(found) => return found,
            None => assert!(Instant::now() < until, "{what}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// On root's terminal it could insert commands, and read what is typed.
#[test]
fn the_part_that_talks_to_the_ca_has_no_terminal_and_ends_with_ctrl_c() {
    const TEST: &str = "the_part_that_talks_to_the_ca_has_no_terminal_and_ends_with_ctrl_c";
    if without_pebble(TEST) {
        return;
    }
    if !rustix::process::geteuid().is_root() || !has("script", "--version") {
        return skip(TEST, "root, and script of util-linux");
    }
    let desk = packaged();
    desk.front.faults(|kind, _| if kind == "dir" { Act::Pass } else { Act::Hold });
    let line = format!("{} renew {} --now", desk.path("sanedge").display(), desk.path("x.acme").display());
    let start = || {
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        waited_for("a request to the CA", || desk.front.is_holding().then_some(()));
        (child, process_of(ACME, &desk.path("")).unwrap())
    };
    for by_key in [true, false] {
        let (mut terminal, process) = start();
        let of = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).unwrap();
        let stat = of("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let (group, session, tty) = (fields[2], fields[3], fields[4]);
        assert_eq!((group, session, tty), (&*process.to_string(), &*process.to_string(), "0"), "{stat}");
        for descriptor in 0..3 {
            let file = fs::read_link(format!("/proc/{process}/fd/{descriptor}")).unwrap();
            assert!(!file.starts_with("/dev/pts"), "{descriptor} is {}", file.display());
        }
        assert!(of("status").lines().any(|line| line.split_whitespace().eq(["Groups:"])), "no other groups");
        if by_key {
            terminal.stdin.as_mut().unwrap().write_all(&[3]).unwrap();
        } else {
            let parent = fields[1].parse().ok().and_then(Pid::from_raw).unwrap();
            kill_process(parent, Signal::TERM).unwrap();
        }
        let output = terminal.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(if by_key { 130 } else { 143 }), "{}", text(&output));
        waited_for("its end", || (!Path::new(&format!("/proc/{process}/stat")).exists()).then_some(()));
    }
    // What it says reaches the terminal.
    desk.front.faults(|_, _| Act::Pass);
    let mut command = Command::new("script");
    let output = command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    for step in ["DNS: ", "ordered", "challenge ready", "the CA has validated", "issued", "proven"] {
        assert!(text(&output).contains(&format!("{A}: {step}")), "{step}: {}", text(&output));
    }
}

/// Without a deployment of its own, `renew` asks for one where the edge does not serve what is stored.
#[test]
fn a_deployment_that_was_missed_is_asked_for_again() {
    if without_pebble("a_deployment_that_was_missed_is_asked_for_again") {
        return;
    }
    let desk = Desk::with(&[A], Pebble::start);
    assert_eq!(desk.json(&[]).0, 0);
    assert!(!desk.path("state/deploy").exists());
    // Another user makes the bundle.
    fs::rename(desk.path("x.toml"), desk.path("y.toml")).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = free.local_addr().unwrap().port();
    drop(free);
    // The front has a certificate, and not this one.
    for (port, asks) in [(closed, false), (desk.front.port, true)] {
        let mut plan: serde_json::Value =
            serde_json::from_slice(&fs::read(desk.path("x.acme")).unwrap()).unwrap();
        plan["https"] = vec![format!("127.0.0.1:{port}")].into();
        fs::write(desk.path("x.acme"), plan.to_string()).unwrap();
        let output = desk.renew(&[]);
        assert!(output.status.success() && text(&output).contains("fine"), "{}", text(&output));
        assert_eq!(desk.path("state/deploy").exists(), asks);
    }
}

#[test]
fn the_units_filter_no_call_that_renew_makes() {
    const TEST: &str = "the_units_filter_no_call_that_renew_makes";
    if without_pebble(TEST) {
        return;
    }
    if !has("strace", "--version") || !has("systemd-analyze", "--version") {
        return skip(TEST, "it needs strace and systemd-analyze");
    }
    let desk = Desk::with(&[A], Pebble::start);
    let traced = |arguments: &[&str], unit: &str| {
        let trace = desk.path("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-o"]).arg(&trace).arg(env!("CARGO_BIN_EXE_sanedge")).arg("renew");
        let output = command.args(arguments).arg(desk.path("x.acme")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let trace = fs::read_to_string(trace).unwrap();
        let made = trace.lines().filter_map(|line| {
            let call = line.split_whitespace().nth(1)?.split_once('(')?.0;
            call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then(|| call.to_owned())
        });
        let made: BTreeSet<String> = made.collect();
        assert!(made.contains("connect") || made.contains("renameat"), "strace saw {made:?}");
        let filtered: Vec<_> = made.difference(&allowed(unit)).cloned().collect();
        assert!(filtered.is_empty(), "{unit} would refuse {filtered:?}");
    };
    // Without a sanedge.toml that it can read it leaves the deployment to another.
    fs::rename(desk.path("x.toml"), desk.path("y.toml")).unwrap();
    traced(&[], "sanedge-renew.service");
    fs::rename(desk.path("y.toml"), desk.path("x.toml")).unwrap();
    traced(&["--deploy"], "sanedge-deploy.service");
    assert!(desk.serves(A));
}
