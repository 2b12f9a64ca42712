//! As on a board: root owns and renews the bundle, the edge runs as somebody who can only read it. Needs root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::HOST;
use crate::support::edge::{Edge, PATIENCE, sanedge, text};
use crate::support::engineio::{Socket, serve_default};
use crate::support::node::skip;

/// The service's user and group on a machine of the tests' own making.
const SERVICE: u32 = 64_002;

/// `sanedge` as root on a machine with the package's users: `/etc/passwd` and `/etc/group` are the test's own, for this process alone.
fn packaged(folder: &Path, words: &[&str]) -> Output {
    for table in ["passwd", "group"] {
        let there = fs::read_to_string(format!("/etc/{table}")).unwrap();
        let others: Vec<_> = there.lines().filter(|line| !line.starts_with("sanedge:")).collect();
        let own = match table {
            "passwd" => format!("sanedge:x:{SERVICE}:{SERVICE}::/:/bin/false"),
            _ => format!("sanedge:x:{SERVICE}:"),
        };
        fs::write(folder.join(table), format!("{}\n{own}\n", others.join("\n"))).unwrap();
    }
    let mount =
        "mount --bind \"$0/passwd\" /etc/passwd && mount --bind \"$0/group\" /etc/group && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", mount]).arg(folder).arg(sanedge().get_program());
    command.args(words).output().unwrap()
}

fn owner(path: &Path) -> (u32, u32, u32) {
    let about = fs::metadata(path).unwrap();
    (about.uid(), about.gid(), about.mode() & 0o777)
}

#[test]
fn root_writes_a_bundle_that_the_service_reads_into_a_folder_that_it_does_not_own() {
    const TEST: &str = "root_writes_a_bundle_that_the_service_reads_into_a_folder_that_it_does_not_own";
    if !rustix::process::geteuid().is_root() {
        return skip(TEST, "root: run it with `sudo -E cargo test --test it root_replaces_bundle::`");
    }
    let tables = tempfile::tempdir().unwrap();
    for command in ["bundle", "apply"] {
        let desk = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").write();
        let (folder, toml, bundle) = (desk.path(""), desk.toml(), desk.bundle_file());
        let run = || packaged(tables.path(), &[command, toml.to_str().unwrap()]);
        // The folder's group is another: as on a desk.
        let output = run();
        assert!(output.status.success() && text(&output).contains("chown root:sanedge"), "{}", text(&output));
        assert_eq!(owner(&bundle), (0, 0, 0o600), "{command}");
        fs::remove_file(&bundle).unwrap();
        chown(&folder, Some(0), Some(SERVICE)).unwrap();
        let output = run();
        assert!(output.status.success() && !text(&output).contains("chown"), "{}", text(&output));
        assert_eq!(owner(&bundle), (0, SERVICE, 0o640), "{command}");
        // What somebody has decided for the file in place stays.
        fs::set_permissions(&bundle, fs::Permissions::from_mode(0o600)).unwrap();
        desk.write_certificate(0, &[HOST]);
        assert!(run().status.success());
        assert_eq!(owner(&bundle), (0, SERVICE, 0o600), "{command}");
        let before = fs::read(&bundle).unwrap();
        // The service's own folder, and one below it.
        let below = folder.join("below");
        fs::create_dir(&below).unwrap();
        chown(&folder, Some(SERVICE), Some(SERVICE)).unwrap();
        desk.write_certificate(0, &[HOST]);
        let output = run();
        assert_eq!(output.status.code(), Some(1), "{command}: {}", text(&output));
        assert!(
            text(&output).contains("chown root:sanedge") && text(&output).contains("take"),
            "{}",
            text(&output)
        );
        assert_eq!(fs::read(&bundle).unwrap(), before, "{command}");
        if command == "bundle" {
            let deep = below.join("x.bundle");
            let output =
                packaged(tables.path(), &["bundle", toml.to_str().unwrap(), "-o", deep.to_str().unwrap()]);
            assert_eq!((output.status.code(), deep.exists()), (Some(1), false), "{}", text(&output));
        }
        chown(&folder, Some(0), Some(SERVICE)).unwrap();
        assert!(run().status.success(), "and the next time it works");
    }
}

/// `nobody` and `nogroup` of every Linux.
const NOBODY: u32 = 65_534;

#[tokio::test(flavor = "multi_thread")]
async fn root_renews_under_an_unprivileged_edge() {
    const TEST: &str = "root_renews_under_an_unprivileged_edge";
    if !rustix::process::geteuid().is_root() {
        return skip(TEST, "root: run it with `sudo -E cargo test --test it root_replaces_bundle::`");
    }
    let app = serve_default().await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], app).write().serve_as(NOBODY, NOBODY);
    let proc = std::fs::metadata(format!("/proc/{}", edge.pid())).unwrap();
    assert_eq!(proc.uid(), NOBODY, "the edge is not root");
    let mut socket = Socket::open(&edge, HOST, "").await;
    socket.join("/").await;

    // root renews: the new file keeps owner, group and mode, so the edge can read it, and takes it on SIGHUP.
    edge.desk().write_certificate(0, &[HOST, "new.recre.store"]);
    edge.reload();
    let file = std::fs::metadata(edge.desk().bundle_file()).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (0, NOBODY, 0o640));

    // ... and on `sanedge reload`, asked for by root.
    let admin = format!("unix:{}", edge.desk().path("admin.sock").display());
    let reloaded = sanedge().args(["reload", "--admin", &admin]).output().unwrap();
    assert!(reloaded.status.success(), "{}", text(&reloaded));

    // Another user of the socket's group may look, but not reload.
    let mut other = std::process::Command::new(edge.desk().path("sanedge"));
    let refused = other.args(["reload", "--admin", &admin]).uid(NOBODY - 1).gid(NOBODY).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("only root and the service's own user"), "{}", text(&refused));
    let mut other = std::process::Command::new(edge.desk().path("sanedge"));
    let status = other.args(["status", "--admin", &admin]).uid(NOBODY - 1).gid(NOBODY).output().unwrap();
    assert!(status.status.success(), "{}", text(&status));

    // A bundle that the edge may not read stays unused, with the command to type.
    std::os::unix::fs::chown(edge.desk().bundle_file(), Some(0), Some(0)).unwrap();
    let refused = sanedge().args(["reload", "--admin", &admin]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    edge.wait_for_log("reload refused", PATIENCE);

    socket.send(r#"42["echo","still here"]"#).await;
    assert_eq!(socket.text().await, r#"42["echo","still here"]"#);
    edge.stop();
}
