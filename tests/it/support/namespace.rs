//! A test in a network of its own: nothing leaves this machine, and every address and port is free.

use std::path::Path;
use std::process::Command;

use super::edge::text;
use super::node::{has, skip};

/// Set in the process inside.
const INSIDE: &str = "SANEDGE_NAMESPACE";

/// Runs the ignored test `inside` (with its module) in a network and mount namespace of its own, if that is possible here.
///
/// # Panics
/// Where it fails.
pub fn run(test: &str, inside: &str) {
    if !has("ip", "-V") {
        return skip(test, "it needs ip (iproute2)");
    }
    let is_root = rustix::process::geteuid().is_root();
    let user: &[&str] = if is_root { &[] } else { &["--map-root-user"] };
    // Whatever is started inside ends with it.
    let namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let possible = Command::new("unshare").args(user).args(namespaces).arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        return skip(test, "it needs network namespaces (root, or unprivileged user namespaces)");
    }
    let mut command = Command::new("unshare");
    command.args(user).args(namespaces).arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", inside, "--nocapture"]).env(INSIDE, "1");
    let output = command.output().unwrap();
    assert!(output.status.success() && text(&output).contains("1 passed"), "{}", text(&output));
}

/// Begins the test inside: loopback is up, and names are asked of 127.0.0.1 alone.
///
/// # Panics
/// Outside.
pub fn enter(folder: &Path) {
    assert!(
        std::env::var_os(INSIDE).is_some(),
        "run without --ignored: this one must not touch the machine's own network"
    );
    command("ip link set lo up");
    for (file, content) in [
        ("/etc/hosts", "127.0.0.1 localhost\n"),
        ("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
        ("/etc/nsswitch.conf", "hosts: files dns\n"),
    ] {
        cover(folder, file, content);
    }
}

/// Lays a file of ours over one of the machine's, in this namespace only.
///
/// # Panics
/// Where that is not possible.
pub fn cover(folder: &Path, file: &str, content: &str) {
    let own = folder.join(file.replace('/', "_"));
    std::fs::write(&own, content).unwrap();
    if Path::new(file).exists() {
        let real = std::fs::canonicalize(file).unwrap();
        command(&format!("mount --bind {} {}", own.display(), real.display()));
    }
}

/// Runs a command that must succeed.
///
/// # Panics
/// Where it fails.
pub fn command(words: &str) {
    let mut parts = words.split_whitespace();
    let output = Command::new(parts.next().unwrap()).args(parts).output().unwrap();
    assert!(output.status.success(), "{words}: {}", text(&output));
}
