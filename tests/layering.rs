//! The core never uses sockets, tokio, `edge` or `ops` (docs/architecture.md, "Layers").
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

const CORE: [&str; 11] = [
    "bundle",
    "excerpt.rs",
    "http",
    "ws",
    "engineio.rs",
    "fuzz_session.rs",
    "proxy_protocol.rs",
    "route.rs",
    "names.rs",
    "limits.rs",
    "board.rs",
];
const FORBIDDEN: [&str; 8] = [
    "crate::edge",
    "crate::ops",
    "crate::cli",
    "tokio",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
];

fn rust_files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            rust_files(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|e| e == "rs") {
        found.push(path.to_owned());
    }
}

#[test]
fn the_core_knows_no_sockets_and_no_tasks() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for part in CORE {
        let before = files.len();
        rust_files(&source.join(part), &mut files);
        assert!(files.len() > before, "no source file under src/{part}: the layering test looks at nothing");
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in FORBIDDEN {
                assert!(
                    !code.contains(word),
                    "{}:{}: the core may not use `{word}`",
                    file.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn the_head_of_http_knows_no_bundle() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source.join("http"), &mut files);
    assert!(!files.is_empty());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("crate::bundle") && !text.contains("crate::route"), "{}", file.display());
    }
}
