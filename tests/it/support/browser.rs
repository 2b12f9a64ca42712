//! A headless Chromium that trusts one CA and knows where the names of a test are.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::node::{Interop, Program, skip};
use super::program;

/// What Chromium is called here and there.
const CHROMIUMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

impl Interop {
    /// Runs a scenario of `browser.mjs` to its end, which must be a success; `None` (said aloud) without Chromium or
    /// NSS's certutil. `ca` is the PEM file to trust; `parameters` go to the script.
    pub fn browse(&self, test: &str, ca: &Path, scenario: &str, parameters: &Value) -> Option<Vec<Value>> {
        let said = self.start_browser(test, ca, scenario, parameters)?.finish();
        assert_eq!(said.last().unwrap()["event"], "passed");
        Some(said)
    }

    /// The same, while it runs.
    pub fn start_browser(
        &self,
        test: &str,
        ca: &Path,
        scenario: &str,
        parameters: &Value,
    ) -> Option<Program> {
        let Some(chromium) = chromium() else {
            skip(test, "it needs Chromium");
            return None;
        };
        if program::on_path("certutil").is_none() {
            skip(test, "it needs certutil of NSS, so that Chromium trusts the CA");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        trust(home.path(), ca);
        let mut parameters = parameters.clone();
        parameters["profile"] = json!(home.path().join("profile"));
        parameters["chromium"] = json!(chromium);
        let mut node = Command::new("node");
        node.args(["browser.mjs", scenario, &parameters.to_string()]).env("HOME", home.path());
        Some(self.start(&mut node).with_folder(home))
    }
}

/// Where Chromium is, if it is there.
pub fn chromium() -> Option<PathBuf> {
    CHROMIUMS.into_iter().find_map(program::on_path)
}

/// Makes the NSS database that Chromium reads below its HOME, with one trusted CA.
fn trust(home: &Path, ca: &Path) {
    let database = home.join(".pki/nssdb");
    std::fs::create_dir_all(&database).unwrap();
    let database = format!("sql:{}", database.display());
    let run = |arguments: &[&str]| {
        let output = Command::new("certutil").args(["-d", &database]).args(arguments).output().unwrap();
        assert!(output.status.success(), "certutil {arguments:?}: {}", super::edge::text(&output));
    };
    run(&["-N", "--empty-password"]);
    run(&["-A", "-t", "C,,", "-n", "sanedge test CA", "-i", ca.to_str().unwrap()]);
}
