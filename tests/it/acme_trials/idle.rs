//! Hours in which nothing is due: the card is not written.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::super::support::pebble::Act;
use super::cuts::Board;
use super::{needs, row};

const HOURS: usize = 25;

/// What tells that a file or folder was written or replaced, of all below a folder.
fn marks(folder: &Path) -> Vec<(String, u64, i64, i64)> {
    let mut marks = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let paths = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        for path in paths.chain([folder.clone()]) {
            let about = std::fs::symlink_metadata(&path).unwrap();
            marks.push((path.display().to_string(), about.ino(), about.ctime(), about.ctime_nsec()));
            if about.is_dir() && path != folder {
                folders.push(path);
            }
        }
    }
    marks.sort();
    marks
}

/// With the hourly run of the timer, and a CA without and with renewal information.
#[test]
#[ignore = "tests/acme/run idle"]
fn a_day_without_a_renewal_writes_no_sector() {
    needs(&[("pebble", "-help"), ("cc", "--version")]);
    row(&format!("{:<40} {:>5} {:>8} {:>8} {:>14}", "", "runs", "sectors", "requests", "files changed"));
    for has_information in [false, true] {
        let mut board = Board::new();
        board.start_edge();
        let (status, said) = board.renewed();
        assert!(status.success(), "{said}");
        let base = board.keep("idle");
        board.begin(&base);
        let stored = board.stored().unwrap();
        let information =
            format!("\"renewalInfo\": \"{}\", \"newOrder\"", board.front.directory().replace("/dir", "/ari"));
        let body =
            "{\"suggestedWindow\":{\"start\":\"2099-01-01T00:00:00Z\",\"end\":\"2099-01-02T00:00:00Z\"}}";
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nRetry-After: 21600\r\n";
        let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        board.front.faults(move |kind, _| match kind {
            "dir" if has_information => Act::Change("\"newOrder\"", information.clone()),
            "ari" => Act::Answer(answer.clone()),
            _ => Act::Pass,
        });
        // The first one learns when the CA wants to be asked again.
        let (status, said) = board.renewed();
        assert!(status.success() && said.contains("fine"), "{said}");
        // In this order: to list a folder sets its access time.
        let before = marks(&board.path(""));
        let sectors = board.disk().sectors();
        for _ in 0..HOURS {
            board.clock.advance(3_600);
            let (status, said) = board.renewed();
            assert!(status.success() && said.contains("fine"), "{said}");
        }
        assert_eq!(board.served().as_ref(), Ok(&stored));
        let (sectors, after) = (board.disk().sectors() - sectors, marks(&board.path("")));
        let changed = after.iter().filter(|mark| !before.contains(mark)).count();
        let asked = board.front.count("ari");
        let title = if has_information {
            "a CA that is asked every six hours"
        } else {
            "a CA without renewal information"
        };
        row(&format!("{title:<40} {HOURS:>5} {sectors:>8} {asked:>8} {changed:>14}"));
        assert_eq!(
            (sectors, changed),
            (0, 0),
            "{:?}",
            after.iter().filter(|mark| !before.contains(mark)).collect::<Vec<_>>()
        );
        assert!(!has_information || (4..=6).contains(&asked), "{asked}");
    }
}
