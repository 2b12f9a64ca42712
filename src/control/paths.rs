//! Paths that a bundle names and a process must reach: folders of ACME tokens, and sockets of apps.

use std::io;
use std::path::Path;

use crate::bundle::{Bundle, Upstream};
use crate::excerpt::Excerpt;

/// What the socket of an app is called.
const UPSTREAM: &str = "upstream";

/// Paths of `new` that `old` does not name, and what they are.
pub(crate) fn added<'a>(new: &'a Bundle, old: &'a Bundle) -> impl Iterator<Item = (&'static str, &'a Path)> {
    let (now, before) = (&new.listen, &old.listen);
    let folders = [
        ("[listen] acme_dir", &now.acme_dir, &before.acme_dir),
        ("[acme] challenges", &now.challenges, &before.challenges),
    ];
    let folders = folders.into_iter().filter(|(_, now, before)| now != before);
    let folders = folders.filter_map(|(what, now, _)| Some((what, now.as_deref()?)));
    let sockets = unix_upstreams(new).filter(|path| unix_upstreams(old).all(|old| old != *path));
    folders.chain(sockets.map(|path| (UPSTREAM, path)))
}

/// Checks that this process reaches the path. One that is not there yet is no error if it may come: an app that is not up, or the folder of
/// challenges, which `sanedge renew` makes.
///
/// # Errors
/// What is out of reach, why, and what to do.
pub(crate) fn check(what: &str, path: &Path) -> Result<(), String> {
    let found = match what {
        UPSTREAM => std::fs::metadata(path).map(drop),
        // Search permission suffices to open a token by name.
        _ => rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(io::Error::from),
    };
    let may_come = |error: &io::Error| match what {
        UPSTREAM => error.kind() != io::ErrorKind::PermissionDenied,
        "[acme] challenges" => !path.exists(),
        _ => false,
    };
    match found {
        Err(error) if !may_come(&error) => Err(format!(
            "{what} {} cannot be reached by this process ({error}); give its user access, add it to the unit's sandbox if it is outside",
            Excerpt::of_path(path)
        )),
        _ => Ok(()),
    }
}

fn unix_upstreams(bundle: &Bundle) -> impl Iterator<Item = &Path> {
    bundle.upstreams().filter_map(|upstream| match upstream {
        Upstream::Unix(path) => Some(path.as_path()),
        _ => None,
    })
}
