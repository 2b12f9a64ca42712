//! `exec`: a program of the user's, with the arguments of lego's provider `exec`: `PROGRAM present|cleanup FQDN VALUE`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout;

use super::credentials::Checked;
use super::error::DnsError;
use crate::acme::state::TxtRecord;
use crate::bundle::file::word;
use crate::excerpt::Excerpt;
use crate::toml_file::{Keys, Wrong};

/// Limit for one call.
const CALL_TIME: Duration = Duration::from_secs(120);
/// Pause between two checks whether it has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Longest part of its stderr that is kept.
const SAID_BYTES_MAX: usize = 4096;

/// The file of credentials.
pub(super) struct Credentials {
    program: PathBuf,
}

impl Checked for Credentials {
    const EXAMPLE: &'static str = "program = \"/usr/local/bin/dns-hook\"";

    fn of(keys: &mut Keys<'_>) -> Result<Self, Wrong> {
        Ok(Self { program: keys.text("program")?.into() })
    }
}

/// The program.
pub(super) struct Program(PathBuf);

impl Program {
    pub(super) fn new(read: (Credentials, &Path)) -> Result<Self, DnsError> {
        let (Credentials { program }, file) = read;
        match program.is_absolute() {
            true => Ok(Self(program)),
            false => Err(super::credentials::bad(file, "program", "an absolute path")),
        }
    }

    pub(super) async fn run(&self, what: &str, record: &TxtRecord) -> Result<(), DnsError> {
        self.run_for(CALL_TIME, what, record).await
    }

    async fn run_for(&self, time: Duration, what: &str, record: &TxtRecord) -> Result<(), DnsError> {
        let failed = |why: String| DnsError::Failed(format!("{} {what}: {why}", word(&self.0)));
        let mut command = Command::new(&self.0);
        command.arg(what).arg(format!("{}.", record.name)).arg(&record.value);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| failed(format!("cannot be run: {error}")))?;
        match timeout(time, Running(child).ended()).await {
            Ok(Ok((status, _))) if status.success() => Ok(()),
            Ok(Ok((status, bytes))) => {
                let said = String::from_utf8_lossy(&bytes);
                let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
                Err(failed(format!("it ended with {status} and wrote {}", Excerpt::of(last.trim()))))
            }
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("it did not end within {} s", time.as_secs()))),
        }
    }
}

/// A process that is killed when this is dropped. Not tokio's: its feature "process" checks for ended children whenever a worker of the
/// edge sleeps, which costs 3 % of an echo.
struct Running(Child);

impl Running {
    /// Waits until it has ended. Processes that it started may continue and keep its stderr open.
    async fn ended(mut self) -> io::Result<(ExitStatus, Vec<u8>)> {
        let mut stderr =
            self.0.stderr.take().map(|end| Receiver::from_owned_fd(OwnedFd::from(end))).transpose()?;
        let mut kept = Vec::new();
        loop {
            let read = async {
                match stderr.as_mut() {
                    Some(end) => read_some(end, &mut kept).await,
                    None => std::future::pending().await,
                }
            };
            match timeout(LOOK_INTERVAL, read).await {
                Ok(true) => continue,
                Ok(false) => stderr = None,
                Err(_) => {}
            }
            if let Some(status) = self.0.try_wait()? {
                return Ok((status, kept));
            }
        }
    }
}

/// Reads what is available, and keeps its beginning. False at the end.
async fn read_some(end: &mut Receiver, kept: &mut Vec<u8>) -> bool {
    let mut bytes = [0; 512];
    let count = end.read(&mut bytes).await.unwrap_or(0);
    let room = SAID_BYTES_MAX - kept.len();
    kept.extend(bytes.iter().take(count.min(room)));
    count > 0
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn ended(script: &str, within: Duration) -> Option<(Option<i32>, usize)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let child = Command::new("sh").args(["-c", script]).stderr(Stdio::piped()).spawn().unwrap();
            let (status, kept) = timeout(within, Running(child).ended()).await.ok()?.unwrap();
            Some((status.code(), kept.len()))
        })
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_ended_and_one_that_ends_in_time_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (hook, log) = (folder.path().join("hook"), folder.path().join("pid"));
        let script = format!("#!/bin/sh\necho $$ >{}\nexec sleep \"$3\"\n", log.display());
        std::fs::write(&hook, script).unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o700)).unwrap();
        let program = Program(hook);
        let record = |seconds: &str| TxtRecord { name: "a.test".to_owned(), value: seconds.to_owned() };
        // Another test may fork just while the script is open for writing.
        let quick = loop {
            let quick = program.run_for(Duration::from_secs(60), "present", &record("0")).await;
            if !quick.as_ref().is_err_and(|error| error.to_string().contains("Text file busy")) {
                break quick;
            }
        };
        assert_eq!(quick, Ok(()));
        std::fs::remove_file(&log).unwrap();
        let error = program.run_for(Duration::from_secs(1), "present", &record("600")).await.unwrap_err();
        assert!(error.to_string().contains("present: it did not end within 1 s"), "{error}");
        // Where the machine is so busy that the script has not begun, there is no process to look for.
        if let Ok(pid) = std::fs::read_to_string(&log) {
            let process = std::path::PathBuf::from(format!("/proc/{}/cmdline", pid.trim()));
            let is_there = || std::fs::read(&process).is_ok_and(|line| !line.is_empty());
            let begin = std::time::Instant::now();
            while is_there() {
                assert!(begin.elapsed() < Duration::from_secs(20), "it still runs");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    #[test]
    fn a_program_has_ended_although_what_it_started_goes_on_and_is_killed_when_it_has_not() {
        let long = Duration::from_secs(60);
        assert_eq!(ended("exit 0", long), Some((Some(0), 0)));
        assert_eq!(
            ended("sleep 600 & kept=$!; echo said >&2; (sleep 1; kill $kept) >&2 & exit 3", long),
            Some((Some(3), 5))
        );
        assert_eq!(ended("exec 2>&-; sleep 0.2; exit 4", long), Some((Some(4), 0)));
        let much = ended("head -c 300000 /dev/zero >&2; exit 5", long);
        assert_eq!(much, Some((Some(5), SAID_BYTES_MAX)));
        assert_eq!(ended("exec sleep 600", Duration::from_millis(200)), None);
    }
}
