//! The demo as a person meets it: started, opened in a browser, stopped with Ctrl-C.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::node::Interop;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// The running demo; killed when dropped.
struct Demo {
    child: Child,
    url: String,
    ca: PathBuf,
}

impl Demo {
    /// Builds the example (cargo has done so already unless this test runs alone) and starts it on a free port.
    fn start() -> Self {
        build();
        let mut command = Command::new(program());
        command.args(["--port", "0"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut word_after = |label: &str| {
            let line = lines.find(|line| line.trim_start().starts_with(label));
            let line = line.unwrap_or_else(|| panic!("the demo ended before it said `{label}`"));
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        let (url, ca) = (word_after("open"), word_after("trust").into());
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url, ca }
    }

    /// Ctrl-C: it must end with 0 and take its files along.
    fn stop(mut self) {
        kill_process(Pid::from_raw(self.child.id().try_into().unwrap()).unwrap(), Signal::INT).unwrap();
        assert!(self.child.wait().unwrap().success());
        assert!(!self.ca.exists(), "{} is left behind", self.ca.display());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_sanedge")).with_file_name("examples").join("demo")
}

/// Without the variables that cargo sets for a test: to other crates' build scripts they would be news.
fn build() {
    let programs = Path::new(env!("CARGO_BIN_EXE_sanedge")).parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    let ours = |name: &str| {
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|p| name.starts_with(p))
    };
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| ours(name))
    {
        build.env_remove(name);
    }
    build.args(["build", "--quiet", "--example", "demo", "--manifest-path"]);
    build.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    build.arg("--target-dir").arg(programs.parent().unwrap());
    if programs.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "{build:?}");
}

#[test]
fn the_page_connects_sends_hears_and_shows_round_trips() {
    let test = "the_page_connects_sends_hears_and_shows_round_trips";
    let Some(interop) = Interop::ready(test) else { return };
    let demo = Demo::start();
    let Some(said) = interop.browse(test, &demo.ca, "demo", &json!({ "url": demo.url })) else { return };
    println!("{}", said[0]);
    assert_eq!(said[0]["group"], "X25519MLKEM768", "Chromium offers it since version 131");
    demo.stop();
}

#[test]
fn the_demo_starts_and_stops_cleanly() {
    let demo = Demo::start();
    assert!(std::fs::read_to_string(&demo.ca).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    demo.stop();
}

#[test]
fn a_taken_port_is_reported_with_its_remedy() {
    let demo = Demo::start();
    let port = demo.url.trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
    let output = Command::new(program()).args(["--port", &port]).output().unwrap();
    let said = crate::support::edge::text(&output);
    assert!(!output.status.success() && said.contains(&port) && said.contains("--port"), "{said}");
    demo.stop();
}
