//! The board profiles beside what compilers believe of these processors, and beside `docs/boards.md`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::edge::text as text_of;
use crate::support::node::skip;
use crate::support::program::script;
use sanedge::board::{self, Board};
use sanedge::limits::{Memory, Unit};

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
fn boards_are_sorted_by_name() {
    let names: Vec<_> = board::names().collect();
    assert!(
        names.len() >= 10 && names.is_sorted() && names.contains(&"rpi4") && names.contains(&"generic-armv6"),
        "{names:?}"
    );
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
    assert_eq!(seen, board::names().count());
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
    if std::env::var_os("SANEDGE_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
        return;
    }
    assert_eq!(found, table(), "run SANEDGE_WRITE_DOCS=1 cargo test --test it boards::");
}

/// A function `name` with one instruction, assembled; `None` without Debian's assembler for aarch64.
fn assembled(folder: &Path, name: &str, instruction: &str) -> Option<PathBuf> {
    let (source, object) = (folder.join("one.s"), folder.join("one.o"));
    let text = format!(
        ".arch armv8.4-a+crypto\n.text\n.globl {name}\n.type {name}, %function\n{name}:\n    {instruction}\n    ret\n"
    );
    std::fs::write(&source, text).unwrap();
    let assembler = Command::new("aarch64-linux-gnu-as").arg(&source).arg("-o").arg(&object).output().ok()?;
    assert!(assembler.status.success(), "{}", text_of(&assembler));
    Some(object)
}

fn check_instructions(file: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cross/check-instructions");
    Command::new(script).arg(file).output().unwrap()
}

#[test]
fn aes_outside_of_rings_guarded_functions_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let guarded = "ring_core_0_17_14__aes_hw_encrypt_blocks";
    let rows = [
        ("innocent", "aese v0.16b, v1.16b", 1),
        ("innocent", "sha256h q0, q1, v2.4s", 1),
        ("innocent", "pmull v0.1q, v1.1d, v2.1d", 1),
        ("innocent", "pmull2 v0.1q, v1.2d, v2.2d", 1),
        ("ring_core_0_17_14__x25519_sc_reduce", "aese v0.16b, v1.16b", 1),
        ("aes_hw_encrypt_blocks", "aese v0.16b, v1.16b", 1),
        (guarded, "aese v0.16b, v1.16b", 0),
        ("innocent", "pmull v0.8h, v1.8b, v2.8b", 2), // older than the extension, so nothing was found
        ("innocent", "eor v0.16b, v1.16b, v2.16b", 2),
    ];
    for (name, instruction, expected) in rows {
        let Some(object) = assembled(folder.path(), name, instruction) else {
            return skip(
                "aes_outside_of_rings_guarded_functions_is_found",
                "binutils-aarch64-linux-gnu is missing",
            );
        };
        let output = check_instructions(&object);
        assert_eq!(output.status.code(), Some(expected), "{name}: {instruction}\n{}", text_of(&output));
    }
    // Without names nothing can be said, and nothing is.
    let object = assembled(folder.path(), guarded, "aese v0.16b, v1.16b").unwrap();
    assert!(
        Command::new("aarch64-linux-gnu-strip").arg("--strip-all").arg(&object).status().unwrap().success()
    );
    let output = check_instructions(&object);
    assert_eq!(output.status.code(), Some(2), "{}", text_of(&output));
}

#[test]
fn a_board_that_is_none_is_answered_with_those_that_are() {
    for script in ["cross/build.sh", "cross/test.sh"] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        let output = Command::new(&script).arg("rpi44").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text_of(&output).contains("no board `rpi44`") && text_of(&output).contains("rpi4"),
            "{}",
            text_of(&output)
        );
    }
}

/// What `cross/build.sh rpi4` would build with on a computer whose rustup has `components` and auto-installs or not. Its programs
/// are stand-ins: docker is there but nothing answers it, podman runs.
fn chosen(components: &str, auto_install: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let sources = folder.path().join("sysroot/lib/rustlib/src/rust/library");
    std::fs::create_dir_all(sources).unwrap();
    let chose = |what: &str| format!("echo {what} >>{at}/chosen; exit 1");
    let programs = [
        (
            "rustc",
            format!("case $* in *-vV) printf 'release: 1.0.0\\nhost: desk\\n';; *) echo {at}/sysroot;; esac"),
        ),
        (
            "rustup",
            format!("case $1 in toolchain) echo 1.0.0-desk;; component) printf '{components}';; esac"),
        ),
        ("docker", "exit 1".to_owned()),
        ("podman", "exit 0".to_owned()),
        ("zig", "exit 0".to_owned()),
        ("aarch64-linux-gnu-strip", "exit 0".to_owned()),
        ("cross", chose("cross by $CROSS_CONTAINER_ENGINE, $CARGO_UNSTABLE_BUILD_STD")),
        ("cargo-zigbuild", chose("zig")),
    ];
    for (name, body) in programs {
        script(&folder.path().join(name), &body);
    }
    let path = format!("{at}:{}", std::env::var("PATH").unwrap());
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("cross/build.sh"))
        .arg("rpi4")
        .env("PATH", path)
        .env("CARGO_TARGET_DIR", folder.path())
        .env("RUSTUP_AUTO_INSTALL", auto_install)
        .env_remove("CROSS_TOOLCHAIN")
        .env_remove("CROSS_CUSTOM_TOOLCHAIN")
        .env_remove("CROSS_CONTAINER_ENGINE")
        .output()
        .unwrap();
    std::fs::read_to_string(folder.path().join("chosen")).unwrap_or_else(|_| text_of(&output))
}

#[test]
fn cross_is_not_taken_where_it_would_download_what_rustup_may_not() {
    let all = "rust-src\\nrust-std-aarch64-unknown-linux-musl\\n";
    assert_eq!(chosen(all, "0"), "cross by podman, std,panic_unwind\n");
    assert_eq!(chosen("rust-src\\n", "0"), "zig\n");
    assert_eq!(chosen("rust-std-aarch64-unknown-linux-musl\\n", "0"), "zig\n");
    assert_eq!(chosen("", "1"), "cross by podman, std,panic_unwind\n");
}
