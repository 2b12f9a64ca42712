//! A clock that a trial moves: the program runs with `tests/acme/clock.c` before the C library.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};

const SECOND_NS: i64 = 1_000_000_000;
/// Where the two numbers of the file are.
const AHEAD: u64 = 0;
const SKIPPABLE: u64 = 8;

pub struct Clock {
    folder: tempfile::TempDir,
    file: File,
}

impl Clock {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/acme/clock.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O2", "-o"]).arg(folder.path().join("clock.so")).arg(source);
        assert!(compile.status().unwrap().success(), "cc");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(folder.path().join("clock"))
            .unwrap();
        file.write_all_at(&[0; 16], 0).unwrap();
        Self { folder, file }
    }

    /// Seconds since 1970, as the program sees it.
    pub fn now(&self) -> i64 {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let real = i64::try_from(real.as_nanos()).unwrap();
        (real + self.number(AHEAD)) / SECOND_NS
    }

    pub fn advance(&self, seconds: i64) {
        self.set(AHEAD, self.number(AHEAD) + seconds * SECOND_NS);
    }

    /// Not back: it stays where it is beyond `at`.
    pub fn advance_to(&self, at: i64) {
        self.advance((at - self.now()).max(0));
    }

    fn number(&self, at: u64) -> i64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at).unwrap();
        i64::from_le_bytes(bytes)
    }

    fn set(&self, at: u64, number: i64) {
        self.file.write_all_at(&number.to_le_bytes(), at).unwrap();
    }

    /// What a program needs to run by it.
    pub fn variables(&self) -> [(&'static str, PathBuf); 2] {
        let path = |name: &str| self.folder.path().join(name);
        [("LD_PRELOAD", path("clock.so")), ("SANEDGE_TEST_CLOCK", path("clock"))]
    }

    /// Runs `renew` to its end. The pauses that it announces take no time, and move the clock.
    pub fn run(&self, command: Command) -> (ExitStatus, String) {
        self.run_until(command, || false)
    }

    /// The same, and kills it as soon as something `is_reached`.
    pub fn run_until(
        &self,
        mut command: Command,
        is_reached: impl Fn() -> bool + Sync,
    ) -> (ExitStatus, String) {
        command.envs(self.variables()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (pid, stdout) = (Pid::from_child(&child), child.stdout.take().unwrap());
        let has_ended = AtomicBool::new(false);
        let said = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !has_ended.load(Ordering::SeqCst) {
                    if is_reached() {
                        kill_process(pid, Signal::KILL).unwrap();
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let said = self.follow(stdout);
            has_ended.store(true, Ordering::SeqCst);
            said
        });
        (child.wait().unwrap(), said)
    }

    fn follow(&self, stdout: impl Read) -> String {
        let mut said = String::new();
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let pause = line.strip_prefix("trying again in ").and_then(|rest| rest.split(' ').next());
            self.set(SKIPPABLE, pause.map_or(0, |seconds| seconds.parse::<i64>().unwrap() * SECOND_NS));
            said = said + &line + "\n";
        }
        said
    }
}
