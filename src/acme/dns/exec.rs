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
        match timeout(CALL_TIME, work).await {
            Ok((Ok(status), _)) if status.success() => Ok(()),
            Ok((Ok(status), bytes)) => {
                let said = String::from_utf8_lossy(&bytes);
                let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
                Err(failed(format!("it ended with {status} and said {}", Excerpt::of(last.trim()))))
            }
            Ok((Err(error), _)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("it did not end within {} s", CALL_TIME.as_secs()))),
        }
    }
}
