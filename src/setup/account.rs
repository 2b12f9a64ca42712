//! The users of the services: `sanedge` serves and runs setup's checks, `sanedge-acme` talks to the CA.

use std::path::Path;
use std::time::Duration;

use super::programs;

/// The service's user.
pub(crate) const EDGE: &str = "sanedge";
/// The user that talks to the CA.
pub(crate) const ACME: &str = "sanedge-acme";
/// The system's list of users.
const PASSWD: &str = "/etc/passwd";
/// The package's file for systemd-sysusers.
const SYSUSERS: &str = "/usr/lib/sysusers.d/sanedge.conf";
/// Limit for one program that creates users.
const PROGRAM_TIME: Duration = Duration::from_secs(30);

/// Numbers of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// `nobody`, which owns nothing: for a system without the package's users, such as a container.
pub(crate) const NOBODY: User = User { uid: 65_534, gid: 65_534 };

/// The user of this name, if there is one. A user with uid 0 does not count.
pub(crate) fn find(name: &str) -> Option<User> {
    of_lines(&std::fs::read_to_string(PASSWD).ok()?, name)
}

fn of_lines(users: &str, name: &str) -> Option<User> {
    let one = |line: &str| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(name);
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        (is_it && uid != 0).then_some(User { uid, gid })
    };
    users.lines().find_map(one)
}

/// Creates the users that are missing.
///
/// # Errors
/// What the programs wrote to stderr.
pub(crate) fn make() -> Result<User, String> {
    let missing = || [EDGE, ACME].into_iter().filter(|name| find(name).is_none());
    if missing().next().is_some() && Path::new(SYSUSERS).exists() {
        // If it is missing or fails, useradd is tried below.
        let _ = programs::run("systemd-sysusers", &["sanedge.conf"], PROGRAM_TIME);
    }
    let mut said = String::new();
    for name in missing() {
        let words = ["--system", "--user-group", "--home-dir", "/nonexistent", "--no-create-home"];
        let words = [&words[..], &["--shell", "/usr/sbin/nologin", name]].concat();
        said = match programs::run("useradd", &words, PROGRAM_TIME) {
            Ok(ended) => ended.complaint(),
            Err(error) => format!("useradd: {error}"),
        };
    }
    match missing().next() {
        None => find(EDGE).ok_or(said),
        Some(name) => Err(format!("{name}: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name_and_is_never_root() {
        let users = "root:x:0:0:root:/root:/bin/bash\nsanedge-acme:x:998:997::/:/bin/false\nsanedge:x:999:998::/:/bin/false\nbad\n";
        assert_eq!(of_lines(users, "sanedge"), Some(User { uid: 999, gid: 998 }));
        assert_eq!(of_lines(users, "sanedge-acme"), Some(User { uid: 998, gid: 997 }));
        assert_eq!(of_lines(users, "sane"), None);
        assert_eq!(of_lines("sanedge:x:0:0::/:/bin/false\n", "sanedge"), None);
    }
}
