//! As on a board: root owns and renews the bundle, the edge runs as somebody who can only read it. Needs root.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;

use crate::support::HOST;
use crate::support::edge::{Edge, PATIENCE, sanedge, text};
use crate::support::engineio::{Socket, serve_default};
use crate::support::node::skip;

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
