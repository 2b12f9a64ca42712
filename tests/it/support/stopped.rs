//! Threads of the program that are made to hang.

use std::path::PathBuf;

use nix::sys::ptrace;

/// One thread of a child, stopped; it goes on when dropped.
pub struct StoppedThread(nix::unistd::Pid);

impl StoppedThread {
    /// `None`: this process may not trace.
    pub fn named(process: u32, name: &str) -> Option<Self> {
        let tasks =
            std::fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|entry| entry.unwrap().path());
        let is_it = |task: &PathBuf| std::fs::read_to_string(task.join("comm")).unwrap().trim() == name;
        let task = tasks.into_iter().find(is_it).expect("a thread of that name");
        let id: i32 = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let id = nix::unistd::Pid::from_raw(id);
        ptrace::seize(id, ptrace::Options::empty()).ok()?;
        ptrace::interrupt(id).unwrap();
        let stat = || std::fs::read_to_string(task.join("stat")).unwrap();
        while !stat().contains(") t ") {
            std::thread::yield_now();
        }
        Some(Self(id))
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        ptrace::detach(self.0, None).unwrap();
    }
}
