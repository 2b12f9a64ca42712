//! Runs programs of the system, each with a time limit.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Limit for `sanedge renew`: an order takes seconds, and a failed validation a minute or two.
pub(crate) const RENEW_TIME: Duration = Duration::from_secs(15 * 60);
/// How often the end of a program is looked for once it has closed its output.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Longest output that is kept, of each stream.
const OUTPUT_BYTES_MAX: u64 = 256 * 1024;

/// The output of a program.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) succeeded: bool,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Said {
    /// stdout as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The last line on stderr.
    pub(crate) fn complaint(&self) -> String {
        let said = String::from_utf8_lossy(&self.stderr);
        said.trim_end().lines().next_back().unwrap_or_default().to_owned()
    }
}

/// Runs a program with `LC_ALL=C`; an error if it does not exist or takes longer than `time`.
pub(crate) fn run(program: &str, arguments: &[&str], time: Duration) -> io::Result<Said> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C");
    ended(&mut command, &[], time)
}

/// `sanedge renew` for the certificate `name` of a plan, without the pause after a failure.
pub(crate) fn renewal(plan: &Path, name: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("renew").arg(plan).args(["--now", "--host", name]);
    command
}

/// Gives `input` to a command and waits for its end. A process that takes longer is killed.
pub(crate) fn ended(command: &mut Command, input: &[u8], time: Duration) -> io::Result<Said> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let until = Instant::now() + time;
    let (stdin, input) = (child.stdin.take(), input.to_owned());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // A program that does not read its input is not an error here.
        let writer =
            std::thread::spawn(move || stdin.map(|mut stdin| io::Write::write_all(&mut stdin, &input)));
        let rest = std::thread::spawn(move || err.map(bounded).unwrap_or_default());
        let out = out.map(bounded).unwrap_or_default();
        let _ = sender.send((out, rest.join().unwrap_or_default()));
        let _ = writer.join();
    });
    let received = receiver.recv_timeout(time);
    let (stdout, stderr) = received.map_err(|_| late(&mut child))?;
    // It may go on without its output.
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(Said { succeeded: status.success(), stdout, stderr }),
            None if Instant::now() >= until => return Err(late(&mut child)),
            None => std::thread::sleep(LOOK_INTERVAL),
        }
    }
}

fn bounded(stream: impl io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
    bytes
}

fn late(child: &mut Child) -> io::Error {
    let _ = child.kill();
    let _ = child.wait();
    io::Error::new(io::ErrorKind::TimedOut, "it did not end in time")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_program_is_given_its_input_and_ends() {
        let said = ended(Command::new("cat").env_clear(), b"abc", LONG).unwrap();
        assert_eq!((said.succeeded, said.text().as_str()), (true, "abc"));
        let said = run("sh", &["-c", "echo one >&2; echo two >&2; exit 3"], LONG).unwrap();
        assert_eq!((said.succeeded, said.complaint().as_str()), (false, "two"));
        assert_eq!(run("/nonexistent/program", &[], LONG).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn one_that_hangs_is_killed() {
        let error = run("sleep", &["600"], Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn one_that_hangs_without_its_output_or_input_is_killed() {
        let short = Duration::from_millis(500);
        let error = run("sh", &["-c", "exec sleep 600 >&- 2>&-"], short).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let input = vec![b'x'; 1 << 20];
        let error = ended(Command::new("sleep").arg("600"), &input, short).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn output_has_a_bound() {
        let script = format!("head -c {} /dev/zero; exec sleep 0", OUTPUT_BYTES_MAX + 4096);
        let said = run("sh", &["-c", &script], LONG).unwrap();
        assert_eq!(u64::try_from(said.stdout.len()).unwrap(), OUTPUT_BYTES_MAX);
    }
}
