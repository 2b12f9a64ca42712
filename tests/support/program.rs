//! The command under test.

use std::process::Command;

/// The command under test: cargo's build, or `SANEDGE_PROGRAM` (`qemu-aarch64-static …/sanedge` runs an ARM build).
/// `SANEDGE_RUNNER` is what runs cargo's build where that is for another processor, as the tests themselves.
pub fn sanedge() -> Command {
    let set = |name| std::env::var(name).ok();
    let built = || format!("{} {}", set("SANEDGE_RUNNER").unwrap_or_default(), env!("CARGO_BIN_EXE_sanedge"));
    let program = set("SANEDGE_PROGRAM").unwrap_or_else(built);
    let mut words = program.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

/// Whether this is a build for another processor, which an emulator runs.
pub fn is_emulated() -> bool {
    std::env::var_os("SANEDGE_RUNNER").is_some()
}
