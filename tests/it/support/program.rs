//! The command under test.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The command under test: cargo's build, or `SANEDGE_PROGRAM` (`qemu-aarch64-static …/sanedge` runs an ARM build).
/// `SANEDGE_RUNNER` is what runs cargo's build where that is for another processor, as the tests themselves.
pub fn sanedge() -> Command {
    let set = |name| std::env::var(name).ok();
    let built = || format!("{} {}", set("SANEDGE_RUNNER").unwrap_or_default(), env!("CARGO_BIN_EXE_sanedge"));
    let program = set("SANEDGE_PROGRAM").unwrap_or_else(built);
    let mut words = program.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    // Else a test that runs under systemd would look for its descriptor store.
    command.args(words).env_remove("INVOCATION_ID");
    command
}

/// Whether this is a build for another processor, which an emulator runs.
pub fn is_emulated() -> bool {
    std::env::var_os("SANEDGE_RUNNER").is_some()
}

/// Copies a program to where it is run. By another process: a child that another thread of this one starts meanwhile would hold the
/// copy open for writing for a moment, and until then it cannot be run (ETXTBSY).
pub fn install(from: impl AsRef<Path>, to: &Path) {
    let status = Command::new("install").args(["-m", "755"]).arg(from.as_ref()).arg(to).status().unwrap();
    assert!(status.success(), "install to {}", to.display());
}

/// Writes a shell script that is run, in the same way.
pub fn script(path: &Path, text: &str) {
    let source = path.with_extension("source");
    std::fs::write(&source, format!("#!/bin/sh\n{text}\n")).unwrap();
    install(&source, path);
    std::fs::remove_file(source).unwrap();
}

/// Where `PATH` has a command.
pub fn on_path(command: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(command)).find(|file| file.is_file())
}
