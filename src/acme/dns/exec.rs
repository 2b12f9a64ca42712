//! `exec`: a program of the user's own, called as lego calls one: `PROGRAM present|cleanup FQDN VALUE`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::credentials::Checked;
use super::error::DnsError;
use crate::acme::state::TxtRecord;
use crate::bundle::file::word;
use crate::excerpt::Excerpt;

/// For one call.
const CALL_TIME: Duration = Duration::from_secs(120);
/// What it says on stderr that is read.
const SAID_BYTES_MAX: u64 = 4096;

/// The file of credentials.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    program: PathBuf,
}

impl Checked for Credentials {
    const EXAMPLE: &'static str = "program = \"/usr/local/bin/dns-hook\"";
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
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| failed(format!("cannot be run: {error}")))?;
        let said = child.stderr.take();
        let work = async {
            let mut bytes = Vec::new();
            if let Some(mut said) = said {
                let _ = (&mut said).take(SAID_BYTES_MAX).read_to_end(&mut bytes).await;
                // The rest is read, so that the program can end.
                let _ = tokio::io::copy(&mut said, &mut tokio::io::sink()).await;
            }
            (child.wait().await, bytes)
        };
        match timeout(time, work).await {
            Ok((Ok(status), _)) if status.success() => Ok(()),
            Ok((Ok(status), bytes)) => {
                let said = String::from_utf8_lossy(&bytes);
                let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
                Err(failed(format!("it ended with {status} and said {}", Excerpt::of(last.trim()))))
            }
            Ok((Err(error), _)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("it did not end within {} s", time.as_secs()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_program_that_does_not_end_is_ended_and_one_that_ends_in_time_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (hook, log) = (folder.path().join("hook"), folder.path().join("pid"));
        let script = format!("#!/bin/sh\necho $$ >{}\nexec sleep \"$3\"\n", log.display());
        std::fs::write(&hook, script).unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o700)).unwrap();
        let program = Program(hook);
        let record = |seconds: &str| TxtRecord { name: "a.test".to_owned(), value: seconds.to_owned() };
        let quick = program.run_for(Duration::from_secs(60), "present", &record("0")).await;
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
}
