//! `sanedge site`: a host more or less in the file, in use at once; nothing else in the file changes.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::HOST;
use crate::support::edge::{Desk, Edge, EdgeBuilder, json, sanedge, text};

const NEW: &str = "game.recre.store";

fn builder() -> EdgeBuilder {
    Edge::certified_for(&[HOST, NEW, "two.recre.store"]).site(&[HOST], "127.0.0.1:3002")
}

fn site(desk: &Desk, words: &[&str]) -> Output {
    sanedge().arg("site").args(words).arg("--file").arg(desk.toml()).stdin(Stdio::null()).output().unwrap()
}

fn read(desk: &Desk) -> String {
    fs::read_to_string(desk.toml()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_added_and_removed_by_one_command_each_and_the_file_keeps_its_form() {
    let edge = builder().start();
    let desk = edge.desk();
    let before = format!("# the board of the house\n{}\n# the end\n", read(desk));
    fs::write(desk.toml(), &before).unwrap();
    fs::set_permissions(desk.toml(), fs::Permissions::from_mode(0o664)).unwrap();
    let planned = site(desk, &["add", NEW, "--app", "3002", "--dry-run"]);
    assert!(planned.status.success(), "{}", text(&planned));
    assert_eq!(read(desk), before);
    let added = site(desk, &["add", NEW, "--app", "3002"]);
    assert_eq!(added.status.code(), Some(0), "{}", text(&added));
    for output in [&planned, &added] {
        for line in
            ["  + [[site]]", "  + hosts = [\"game.recre.store\"]", "+ game.recre.store → 127.0.0.1:3002"]
        {
            assert!(text(output).lines().any(|said| said == line), "{line}: {}", text(output));
        }
    }
    edge.tls(NEW).await;
    let after = read(desk);
    assert!(before.lines().all(|line| after.lines().any(|other| other == line)), "{after}");
    assert_eq!(fs::metadata(desk.toml()).unwrap().mode() & 0o777, 0o664, "the mode of the file");
    let listed = site(desk, &["list", "--json"]);
    assert_eq!(json(&listed)["sites"][1]["hosts"][0], NEW, "{}", text(&listed));
    let again = site(desk, &["add", NEW, "--app", "127.0.0.1:3002", "--json"]);
    assert_eq!(
        (again.status.code(), &json(&again)["state"]),
        (Some(0), &"unchanged".into()),
        "{}",
        text(&again)
    );
    let removed = site(desk, &["remove", NEW, "--json"]);
    assert_eq!(removed.status.code(), Some(0), "{}", text(&removed));
    assert_eq!(json(&removed)["changes"][0]["line"], format!("- {NEW} → 127.0.0.1:3002"));
    assert!(json(&removed)["edit"].as_array().unwrap().contains(&"- [[site]]".into()), "{}", text(&removed));
    assert_eq!(read(desk), before);
    assert!(edge.try_tls(NEW).await.is_err(), "it is served no more");
    edge.stop();
}

#[test]
fn a_path_leads_to_another_app() {
    let desk = builder().write();
    for (words, routes) in [
        (
            &["add", NEW, "--app", "3005", "--path", "/socket.io/"][..],
            vec![("/socket.io/", "127.0.0.1:3005")],
        ),
        (
            &["add", HOST, "--app", "3006", "--path", "/api/"],
            vec![("/api/", "127.0.0.1:3006"), ("/", "127.0.0.1:3002")],
        ),
    ] {
        let output = site(&desk, words);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let host = words[1];
        let shown = sanedge().args(["show", "--json"]).arg(desk.bundle_file()).output().unwrap();
        let shown = json(&shown);
        let at = shown["hosts"].as_array().unwrap().iter().find(|one| one["host"] == host).unwrap()["site"]
            .as_u64()
            .unwrap();
        let found: Vec<(String, String)> = shown["sites"][usize::try_from(at).unwrap()]["routes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|route| {
                (
                    route["path"].as_str().unwrap().to_owned(),
                    route["upstream"][0].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        let wanted: Vec<_> =
            routes.iter().map(|(path, app)| ((*path).to_owned(), (*app).to_owned())).collect();
        assert_eq!(found, wanted, "{host}");
    }
}

/// What is refused, with its code and exit code; the file stays as it is.
#[test]
fn what_cannot_be_done_is_said_and_nothing_is_lost() {
    let edge = builder().site(&[NEW, "two.recre.store"], "127.0.0.1:3002").start();
    let desk = edge.desk();
    let used = edge.status()["bundle"].clone();
    let good = read(desk);
    let stays = |file: &str, words: &[&str], code: &str, exit: i32| {
        fs::write(desk.toml(), file).unwrap();
        let output = site(desk, &[words, &["--json"]].concat());
        let document = json(&output);
        assert_eq!(
            (output.status.code(), &document["code"]),
            (Some(exit), &code.into()),
            "{words:?}: {document:#}"
        );
        assert_eq!(document["ok"], false);
        assert_eq!(read(desk), file, "{words:?}");
        let said = site(desk, words);
        assert_eq!(said.status.code(), Some(exit), "{words:?}: {}", text(&said));
        assert_eq!((read(desk), &edge.status()["bundle"]), (file.to_owned(), &used), "{words:?}");
        text(&said)
    };
    let said = stays(&good, &["add", NEW, "--app", "3007"], "host-exists", 1);
    assert!(said.contains("127.0.0.1:3002"), "{said}");
    let said = stays(&good, &["add", NEW, "--app", "3007", "--path", "/x/"], "host-shared", 1);
    assert!(said.contains("two.recre.store"), "{said}");
    stays(&good, &["remove", "other.test"], "host-missing", 1);
    stays(&good, &["add", "https://x.test/", "--app", "3007"], "usage", 2);
    stays(&good, &["remove", "*.recre.store"], "usage", 2);
    // The proof's to say: no certificate covers it; no such upstream; the last site.
    let said = stays(&good, &["add", "other.test", "--app", "3007"], "findings", 1);
    assert!(said.contains("host-not-covered"), "{said}");
    for app in ["0", "65536", "example.com", "http://127.0.0.1:1", "8.8.8.8:80"] {
        stays(&good, &["add", "x.recre.store", "--app", app], "findings", 1);
    }
    stays(&good, &["add", "x.recre.store", "--app", "3007", "--path", "socket.io"], "findings", 1);
    let said =
        stays(&good.replace("[listen]", "[listen"), &["add", "x.recre.store", "--app", "1"], "findings", 1);
    assert!(said.contains("sanedge.toml:5: this is not TOML"), "{said}");
    stays("", &["remove", NEW], "findings", 1);
    let one = builder().write();
    let before = read(&one);
    let last = site(&one, &["remove", HOST]);
    assert_eq!((last.status.code(), read(&one)), (Some(1), before), "{}", text(&last));
    fs::write(desk.toml(), &good).unwrap();
    // One of several goes alone.
    let output = site(desk, &["remove", NEW]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(read(desk), good.replace(&format!("\"{NEW}\", "), ""));
    edge.stop();
}

#[test]
fn a_link_a_read_only_file_and_a_missing_one_are_not_written() {
    let desk = builder().write();
    let good = read(&desk);
    let refused = |says: &str| {
        let output = site(&desk, &["add", NEW, "--app", "3002"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(says), "{says}: {}", text(&output));
        assert!(!desk.bundle_file().exists(), "{says}");
    };
    fs::set_permissions(desk.toml(), fs::Permissions::from_mode(0o444)).unwrap();
    refused("is read-only (mode 0444)");
    assert_eq!((read(&desk), fs::metadata(desk.toml()).unwrap().mode() & 0o777), (good.clone(), 0o444));
    fs::remove_file(desk.toml()).unwrap();
    refused("does not exist");
    fs::write(desk.path("real.toml"), &good).unwrap();
    symlink("real.toml", desk.toml()).unwrap();
    refused("is a symbolic link");
    assert!(fs::symlink_metadata(desk.toml()).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(desk.path("real.toml")).unwrap(), good);
    // `apply` writes no file there, so it reads one.
    let output = sanedge().arg("apply").arg(desk.toml()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn file_and_bundle_go_back_together_where_the_edge_refuses() {
    let edge = builder().limits("workers = 2").start();
    let desk = edge.desk();
    let (before, used, bundle) =
        (read(desk), edge.status()["bundle"].clone(), fs::read(desk.bundle_file()).unwrap());
    // Its sandbox has no such port, and nobody can start a new process.
    let restricted = edge.status()["sandbox"].as_str().unwrap().contains("files and ports");
    let output = site(desk, &["add", NEW, "--app", "3999", "--json"]);
    if restricted {
        assert_eq!(
            (output.status.code(), &json(&output)["code"]),
            (Some(75), &"needs-restart".into()),
            "{}",
            text(&output)
        );
        assert_eq!((read(desk), &edge.status()["bundle"]), (before, &used));
        assert_eq!(fs::read(desk.bundle_file()).unwrap(), bundle);
    }
    // A folder that the edge may not read is known to the edge alone.
    let document: Value = json(&output);
    assert!(document["restart"]["needed"].as_bool() == Some(restricted), "{document:#}");
    edge.stop();
}

#[test]
fn several_at_once_lose_nothing() {
    let edge = builder().start();
    let desk = edge.desk();
    let start = |words: &[&str]| {
        let mut command = sanedge();
        command
            .arg("site")
            .args(words)
            .arg("--file")
            .arg(desk.toml())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    for _ in 0..5 {
        let children = [NEW, "two.recre.store"].map(|host| start(&["add", host, "--app", "3002"]));
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", text(&output));
        }
        assert_eq!(edge.status()["hosts"].as_array().unwrap().len(), 3);
        let children = [NEW, "two.recre.store"].map(|host| start(&["remove", host]));
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", text(&output));
        }
        assert_eq!(edge.status()["hosts"].as_array().unwrap().len(), 1);
    }
    edge.stop();
}
