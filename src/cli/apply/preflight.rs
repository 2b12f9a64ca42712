//! Before a restart: systemd runs the new program in the unit's own sandbox, beside the process that serves (`ExecReload=`). It performs
//! its startup steps. If it fails, nothing is restarted.

use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::edge::{ANSWER_TIME, Edge, UNIT, systemctl};
use super::lock::{self, Lock};
use crate::bundle::{Admin, Bundle, Listen};
use crate::cli::failure::Failure;
use crate::control::paths;
use crate::control::preflight::{BYTES_MAX, FINE, Trial, socket_of};
use crate::setup::programs;
use crate::system::sockets;
use crate::system::started::Started;

/// The code if a new process could not start.
pub(super) const CANNOT_START: &str = "cannot-start";
/// The note if that is not known.
pub(super) const NOT_TRIED: &str = "a new process could not be tried before the restart: `systemctl cat sanedge.service` shows whether ExecReload= is that of the package";
/// Limit for the answer, once the process has begun. systemd ends it earlier (`TimeoutStartSec=`).
const TIME: Duration = Duration::from_secs(120);

/// Whether a process could start with the bundle at `path`, which is `new`; false if the unit cannot try it. `old` is the bundle in use.
///
/// # Errors
/// It could not, and why.
pub(super) fn passed(
    path: &Path,
    new: &Bundle,
    old: Option<&Bundle>,
    started: Option<&Started>,
) -> Result<bool, Failure> {
    let mut trial = Trial::default();
    let given = Given::find()?;
    given.agree(&new.listen)?;
    trial.makes_admin =
        given.of("admin").next().is_none() && matches!(new.listen.admin, Some(Admin::Unix(_)));
    if !given.serves() {
        trial.binds = started.map(|started| started.lacks(&new.listen)).unwrap_or_default();
    }
    let added = old.into_iter().flat_map(|old| paths::added(new, old));
    trial.paths = added.map(|(what, path)| (what.to_owned(), path.to_owned())).collect();

    let place = socket_of(path);
    let Ok(listener) = listening(&place, path) else { return Ok(false) };
    let before = reload_command()?;
    let asked = thread::spawn(move || answer(&listener, &trial.written()));
    let reloaded = systemctl("reload");
    // If no process has asked, the thread still waits.
    drop(UnixStream::connect(&place));
    let said = asked.join().unwrap_or_default();
    let _ = fs::remove_file(&place);
    match (said.as_str(), reloaded) {
        (FINE, _) => Ok(true),
        // The unit's command reloads only: it is of an earlier package, or an administrator's.
        ("", Ok(())) => Ok(false),
        ("", Err(_)) if !died(&before, &reload_command()?) => Ok(false),
        ("", Err(error)) => Err(cannot_start(&format!("it exited without an answer ({})", error.message))),
        (why, _) => Err(cannot_start(why)),
    }
}

/// The same for the bundle in place, before another command restarts the edge. Without a running edge it passes.
///
/// # Errors
/// As [`passed`], with [`CANNOT_START`]; other codes say that it was not tried.
pub(super) fn in_place(path: &Path) -> Result<bool, Failure> {
    lock::ours(path)?;
    let _lock = Lock::take(path, || ())?;
    let bundle = Bundle::open(path)?;
    match Edge::find(path, &[&bundle])? {
        Some(edge) if edge.has_unit => passed(path, &bundle, None, edge.started.as_ref()),
        _ => Ok(true),
    }
}

fn cannot_start(why: &str) -> Failure {
    Failure::new(CANNOT_START, format!("a new process could not start: {why}. The edge was not restarted"))
}

/// Listens, for processes that may read the bundle.
fn listening(place: &Path, bundle: &Path) -> io::Result<UnixListener> {
    let of_bundle = fs::metadata(bundle)?;
    // Left by a command that was killed.
    let _ = fs::remove_file(place);
    let listener = UnixListener::bind(place)?;
    let _ = std::os::unix::fs::lchown(place, Some(of_bundle.uid()), Some(of_bundle.gid()));
    // connect(2) needs write permission.
    fs::set_permissions(place, Permissions::from_mode((of_bundle.mode() & 0o444) >> 1))?;
    Ok(listener)
}

/// Says what to try, and returns the answer; empty if the process does not know the question, or has died.
fn answer(listener: &UnixListener, trial: &str) -> String {
    let mut text = String::new();
    let Ok((mut process, _)) = listener.accept() else { return text };
    let _ = process.set_read_timeout(Some(TIME));
    let _ = process.write_all(trial.as_bytes()).and_then(|()| process.shutdown(Shutdown::Write));
    let _ = process.take(BYTES_MAX).read_to_string(&mut text);
    text
}

/// The command of `ExecReload=`, with the time, the process and the status of its last run.
fn reload_command() -> Result<String, Failure> {
    shown(&["--property=ExecReload", UNIT])
}

/// Whether the process of `ExecReload=` did not begin, or was killed. An ordinary reload ends with 0 or 1. `before` and `after` are what
/// systemd said of the command before and after the reload; if that is the same, systemd did not run it.
fn died(before: &str, after: &str) -> bool {
    let status = |line: &str| {
        let rest = line.split_once("status=")?.1;
        rest.split(|byte: char| !byte.is_ascii_digit()).next()?.parse::<u8>().ok()
    };
    before != after
        && after.lines().any(|line| {
            line.contains("code=killed")
                || line.contains("code=dumped")
                || line.contains("code=exited") && status(line).is_some_and(|status| status > 1)
        })
}

/// The sockets that systemd hands to the service: unit, name, address.
struct Given(Vec<(String, String, String)>);

impl Given {
    fn find() -> Result<Self, Failure> {
        let said = shown(&["--property=TriggeredBy", UNIT])?;
        let units = said.trim().strip_prefix("TriggeredBy=").unwrap_or_default();
        let units: Vec<_> = units.split_whitespace().filter(|unit| unit.ends_with(".socket")).collect();
        if units.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let words = [&["--property=Id,ActiveState,FileDescriptorName,Listen"], units.as_slice()].concat();
        Ok(Self(shown(&words)?.split("\n\n").flat_map(Self::parsed).collect()))
    }

    /// The sockets of one unit.
    fn parsed(said: &str) -> Vec<(String, String, String)> {
        let property = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let (unit, name) = (property("Id").unwrap_or_default(), property("FileDescriptorName"));
        let listens = said.lines().filter_map(|line| line.strip_prefix("Listen=")?.strip_suffix(" (Stream)"));
        let listens = listens.filter(|_| property("ActiveState") == Some("active"));
        let name = name.unwrap_or_default();
        listens.map(|address| (unit.to_owned(), name.to_owned(), address.to_owned())).collect()
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &(String, String, String)> {
        self.0.iter().filter(move |socket| socket.1 == name)
    }

    /// Whether clients come in by these sockets.
    fn serves(&self) -> bool {
        self.of("https").chain(self.of("http")).next().is_some()
    }

    /// Checks that the new process will accept them.
    fn agree(&self, listen: &Listen) -> Result<(), Failure> {
        let sockets: Vec<_> =
            self.0.iter().map(|(_, name, address)| (name.as_str(), address.as_str())).collect();
        sockets::will_agree(listen, &sockets).map_err(|error| cannot_start(&error.to_string()))?;
        // systemd closes the socket of a unit that was edited, and opens it again only while the service is stopped.
        let is_closed = |address: &str| {
            let address = address.parse::<SocketAddr>().ok();
            address.is_some_and(|address| TcpListener::bind(address).is_ok())
        };
        match self.0.iter().find(|(.., address)| is_closed(address)) {
            None => Ok(()),
            Some((unit, _, address)) => Err(cannot_start(&format!(
                "{unit} is active but nothing listens on {address}, because the unit was changed. Type `sanedge bundle`, then `systemctl stop {UNIT} {unit}`, then `systemctl start {unit} {UNIT}`"
            ))),
        }
    }
}

fn shown(words: &[&str]) -> Result<String, Failure> {
    let said = programs::run("systemctl", &[&["show"], words].concat(), ANSWER_TIME);
    said.map(|said| said.text())
        .map_err(|error| Failure::new("systemd", format!("`systemctl show`: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_command_that_ran_has_died() {
        let ran =
            |pid: u32, end: &str| format!("ExecReload={{ path=/usr/bin/sanedge ; pid={pid} ; {end} }}\n");
        let killed = ran(7, "code=killed ; status=9/KILL");
        assert!(died(&ran(0, "code=(null) ; status=0/0"), &killed));
        assert!(
            !died(&killed, &killed),
            "systemd refused the reload, and says what it said of an earlier one"
        );
        for (end, expected) in [
            ("code=exited ; status=0", false),
            ("code=exited ; status=1", false),
            ("code=exited ; status=127", true),
            ("code=dumped ; status=11/SEGV", true),
        ] {
            assert_eq!(died(&killed, &ran(8, end)), expected, "{end}");
        }
    }

    #[test]
    fn active_units_give_their_sockets() {
        let said = "Id=a.socket\nListen=[::]:443 (Stream)\nListen=0.0.0.0:8443 (Stream)\nFileDescriptorName=https\nActiveState=active";
        let of = |said: &str| Given(Given::parsed(said));
        assert_eq!(of(said).0.len(), 2);
        assert_eq!(of(said).0[0], ("a.socket".to_owned(), "https".to_owned(), "[::]:443".to_owned()));
        assert!(of(said).serves());
        assert!(of(&said.replace("=active", "=inactive")).0.is_empty());
        assert!(!of(&said.replace("https", "admin")).serves());
    }
}
