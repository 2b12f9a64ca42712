//! The other end of `sanedge apply`'s preflight: a process that goes through the start of the edge beside the one that serves.
//!
//! systemd runs `ExecReload=` with the program, the user and the sandbox that a start would have. `sanedge reload --bundle X.bundle` is
//! this process if `apply` listens on `X.bundle.preflight`, and an ordinary reload otherwise. It gets a [`Trial`], and answers with
//! [`FINE`] or the reason why a process could not start.

use std::ffi::OsStr;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::control::serve_error::ServeError;
use crate::excerpt::Excerpt;

/// The answer if a process could start.
pub(crate) const FINE: &str = "a new process can start";
/// How a trial begins.
const BEGIN: &str = "preflight\0\0";
/// Longest message, in each direction.
pub(crate) const BYTES_MAX: u64 = 256 * 1024;
/// Limit for each read and write of this end: the other one answers at once.
const TIME: Duration = Duration::from_secs(5);

/// What only `apply` knows: it sees the running edge and systemd's sockets.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    /// Addresses that the new process will bind and the running one does not have.
    pub(crate) binds: Vec<SocketAddr>,
    /// Paths that the running edge does not need, and what they are.
    pub(crate) paths: Vec<(String, PathBuf)>,
    /// The new process makes its own admin socket.
    pub(crate) makes_admin: bool,
}

impl Trial {
    /// As text that is not empty: a path contains no NUL.
    pub(crate) fn written(&self) -> String {
        let binds = self.binds.iter().map(|address| format!("bind\0{address}\0"));
        let admin = self.makes_admin.then(|| "admin\0\0".to_owned());
        let paths =
            self.paths.iter().filter_map(|(what, path)| Some(format!("{what}\0{}\0", path.to_str()?)));
        [BEGIN.to_owned()].into_iter().chain(binds).chain(admin).chain(paths).collect()
    }

    /// `None` if it is not one.
    fn read(text: &str) -> Option<Self> {
        let mut trial = Self::default();
        let mut words = text.strip_prefix(BEGIN)?.split('\0');
        while let (Some(what), Some(value)) = (words.next(), words.next()) {
            match what {
                "bind" => trial.binds.extend(value.parse::<SocketAddr>()),
                "admin" => trial.makes_admin = true,
                _ => trial.paths.push((what.to_owned(), value.into())),
            }
        }
        Some(trial)
    }
}

/// Where `apply` listens during the preflight of the bundle at `path`.
pub(crate) fn socket_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(OsStr::new(".preflight"));
    name.into()
}

/// Runs `rehearse` with the bundle at `path` if `apply` asks this process for the result, and sends it there; `None` if it is to reload.
pub(crate) fn answered(
    path: &Path,
    rehearse: impl FnOnce(&Path, &Trial) -> Result<(), ServeError>,
) -> Option<Result<(), String>> {
    // systemd gives it to the processes of units. The same command typed by a person is a reload.
    std::env::var_os("INVOCATION_ID")?;
    let mut asker = match UnixStream::connect(socket_of(path)) {
        // The socket has the owner and the mode of the bundle.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let path = Excerpt::of_path(path);
            return Some(Err(format!(
                "{path} cannot be read by this user ({error}); give the service's user access"
            )));
        }
        asker => asker.ok()?,
    };
    asker.set_read_timeout(Some(TIME)).ok()?;
    asker.set_write_timeout(Some(TIME)).ok()?;
    let mut text = String::new();
    (&asker).take(BYTES_MAX).read_to_string(&mut text).ok()?;
    let trial = Trial::read(&text)?;
    // This process counts towards the unit's `MemoryMax=`. If memory is short, the kernel must end it, and not the running edge.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let result = rehearse(path, &trial).map_err(|error| error.to_string());
    let answer = result.as_ref().err().map_or(FINE, String::as_str);
    let _ = asker.write_all(answer.as_bytes());
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_is_read_as_it_was_written() {
        let trial = Trial {
            binds: vec!["[::]:443".parse().unwrap(), "127.0.0.1:80".parse().unwrap()],
            paths: vec![("upstream".to_owned(), "/run/a b\n.sock".into())],
            makes_admin: true,
        };
        assert_eq!(format!("{:?}", Trial::read(&trial.written())), format!("{:?}", Some(trial)));
        assert!(Trial::read(&Trial::default().written()).is_some());
        for text in ["", "\0", "bind\0[::]:443\0"] {
            assert!(Trial::read(text).is_none(), "{text:?}");
        }
        for text in ["", "bind", "bind\0nonsense\0", "\0"] {
            assert!(Trial::read(&format!("{BEGIN}{text}")).unwrap().binds.is_empty(), "{text:?}");
        }
    }
}
