//! An ext4 file system in a file. A copy of the file at any moment is what the card holds if the power fails then: nothing that was
//! not synced.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::super::support::edge::PATIENCE;

pub struct Disk {
    image: PathBuf,
    at: PathBuf,
}

pub fn run(program: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> bool {
    let mut command = Command::new(program);
    arguments.iter().for_each(|argument| {
        command.arg(argument.as_ref());
    });
    command.stderr(std::process::Stdio::null()).status().unwrap().success()
}

fn copy(from: &Path, to: &Path) {
    // Another file each time: the loop device of the one before may have its blocks in memory still.
    let _ = std::fs::remove_file(to);
    assert!(run("cp", &[&"--sparse=always", &from, &to]));
}

impl Disk {
    /// An empty one.
    pub fn make(image: &Path, at: &Path) -> Self {
        assert!(run("truncate", &[&"-s", &"12M", &image]));
        // The kernel has nothing left to write of its own.
        let whole = "lazy_itable_init=0,lazy_journal_init=0";
        assert!(run("mkfs.ext4", &[&"-q", &"-m", &"0", &"-E", &whole, &image]));
        Self::mount(image, at)
    }

    /// What `base` holds.
    pub fn of(base: &Path, image: &Path, at: &Path) -> Self {
        copy(base, image);
        Self::mount(image, at)
    }

    fn mount(image: &Path, at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        assert!(
            run("mount", &[&"-o", &"loop,commit=900", &image, &at]),
            "mount {}: as root",
            image.display()
        );
        Self { image: image.to_owned(), at: at.to_owned() }
    }

    /// What the card holds at this moment, as a file.
    pub fn seized(&self, copied: &Path) {
        copy(&self.image, copied);
    }

    /// With all that was written, as a file.
    pub fn kept(self, copied: &Path) {
        let image = self.image.clone();
        // A container that another process makes meanwhile keeps it mounted.
        assert!(run("sync", &[&"-f", &self.at]));
        drop(self);
        copy(&image, copied);
    }

    /// Sectors written to it since it was mounted, with all that is still in memory.
    pub fn sectors(&self) -> u64 {
        assert!(run("sync", &[&"-f", &self.at]));
        let found = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(&self.at).output().unwrap();
        let device = String::from_utf8(found.stdout).unwrap();
        let device = device.trim().trim_start_matches("/dev/");
        let stat = std::fs::read_to_string(format!("/sys/block/{device}/stat")).unwrap();
        stat.split_whitespace().nth(6).unwrap().parse().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What was killed may not be gone yet.
        let until = Instant::now() + PATIENCE;
        while !run("umount", &[&self.at]) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
