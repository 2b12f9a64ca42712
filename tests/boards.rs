//! The board profiles beside what compilers believe of these processors, and beside `docs/boards.md`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::Path;
use std::process::Command;

use sanedge::board::{self, Board};
use sanedge::limits::{Memory, Unit};
use support::node::skip;

const BEGIN: &str = "<!-- boards -->\n";
const END: &str = "<!-- /boards -->";
/// What rustc calls the ARMv8 Cryptographic Extension; `aes` has PMULL in it.
const CRYPTO: [&str; 4] = ["aes", "sha2", "sha3", "sm4"];

/// Features that the compiler may use without asking the processor; `None` without a compiler.
fn features(target: &str, cpu: &str) -> Option<Vec<String>> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "cfg", "--target", target, "-C", &format!("target-cpu={cpu}")])
        .output();
    let output = output.ok()?;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let quoted = |line: &str| Some(line.strip_prefix("target_feature=\"")?.trim_end_matches('"').to_owned());
    Some(text.lines().filter_map(quoted).collect())
}

fn crypto(target: &str, cpu: &str) -> Option<Vec<String>> {
    let features = features(target, cpu)?;
    Some(features.into_iter().filter(|feature| CRYPTO.contains(&feature.as_str())).collect())
}

#[test]
fn no_profile_turns_on_instructions_that_its_silicon_lacks() {
    // The known trap: were this not so, nothing below could fail.
    let Some(believed) = crypto("aarch64-unknown-linux-musl", "cortex-a72") else {
        return skip("no_profile_turns_on_instructions_that_its_silicon_lacks", "rustc is not on PATH");
    };
    assert!(believed.contains(&"aes".to_owned()), "{believed:?}");
    let mut seen = 0;
    for name in board::names() {
        let board = Board::find(name).unwrap();
        let on = crypto(&board.target, board.target_cpu.as_deref().unwrap_or("generic")).unwrap();
        assert!(board.aes_instructions || on.is_empty(), "{name}: {on:?} on a processor without them");
        seen += 1;
    }
    assert_eq!(seen, 13);
}

fn table() -> String {
    let mut table = "| board | what | target | `target-cpu` | memory | cores | AES | budget | `sessions_max` | `handshakes_max` | at worst | frame, message |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n".to_owned();
    for name in board::names() {
        let board = Board::find(name).unwrap();
        let (machine, limits) = (board.machine(), board.default_limits());
        let at_worst = Memory::of(&limits, &machine, 1).total_bytes();
        table += &format!(
            "| `{name}` | {} | `{}` | {} | {} MiB | {} | {} | {} MiB | {} | {} | {} MiB | {} |\n",
            board.description,
            board.target,
            board.target_cpu.as_deref().map_or("none".to_owned(), |cpu| format!("`{cpu}`")),
            machine.ram_bytes >> 20,
            machine.cores,
            if board.aes_instructions { "yes" } else { "no" },
            machine.budget_bytes >> 20,
            limits.sessions_max,
            limits.handshakes_max,
            at_worst.div_ceil(1 << 20),
            Unit::Bytes.show(board.websocket_bounds().message_bytes_max),
        );
    }
    table
}

#[test]
fn the_table_of_boards_is_the_programs_own() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/boards.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("docs/boards.md has the marker of the table");
    let (found, after) = rest.split_once(END).expect("docs/boards.md has the end marker of the table");
    if std::env::var_os("SANEDGE_WRITE_README").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
        return;
    }
    assert_eq!(found, table(), "run SANEDGE_WRITE_README=1 cargo test --test boards");
}
