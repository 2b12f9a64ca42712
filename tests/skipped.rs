//! Lists the tests that `cargo test` skipped. Not a test: cargo runs test programs by name, this one last, and each notes what it
//! skips in a file that is named by the process id of cargo (`it/support/node.rs`).
#![allow(missing_docs, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn main() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped");
    let noted = std::fs::read_to_string(folder.join(std::os::unix::process::parent_id().to_string()));
    // Runs of parts of the tests leave theirs here.
    let _ = std::fs::remove_dir_all(&folder);
    let noted = noted.unwrap_or_default();
    let mut by_need: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (test, need) in noted.lines().filter_map(|line| line.split_once(": ")) {
        by_need.entry(need).or_default().insert(test);
    }
    if by_need.is_empty() {
        return;
    }
    println!("\nskipped:");
    for (need, tests) in by_need {
        println!("  {need}:");
        tests.iter().for_each(|test| println!("    {test}"));
    }
    println!(
        "To run them, install what they need (CONTRIBUTING.md, \"Tests\", has one line for Debian), then: cargo test --test it NAME"
    );
}
