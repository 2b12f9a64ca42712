//! What a serving process may still do: nothing that needs a capability, no new privileges, no core dump, and of files and ports
//! what its bundle names (Landlock, where the kernel has it).
//!
//! Which system calls it may make is for the unit to say (`SystemCallFilter=`).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::process;
use crate::bundle::{Admin, Bundle, Upstream};
use crate::excerpt::Excerpt;

/// Rights beyond these are left as they are, whatever the kernel knows: each was tried. With those of ABI 9 and later, connecting to
/// a Unix socket would need its folder.
const TRIED: ABI = ABI::V7;
/// Set, the process stays open to debuggers and to readers of its `/proc` folder: for tests and benches, which run without root.
const DUMPABLE: &str = "SANEDGE_DUMPABLE";
/// What the folder of our own challenges is called.
const CHALLENGES: &str = "[acme] challenges";
/// DNS over TCP, which resolvers fall back to.
const DNS_PORT: u16 = 53;

/// What serving a bundle needs of files and network.
#[derive(Debug)]
pub struct Needs {
    /// Folders whose files are read, and what they are.
    reads: Vec<(&'static str, PathBuf)>,
    /// Folders in which files and sockets are made, replaced and removed.
    writes: Vec<PathBuf>,
    /// TCP ports of upstreams.
    connects: BTreeSet<u16>,
    /// TCP port of the admin listener, which is bound later than the others.
    binds: Option<u16>,
    /// An upstream is a name that has to be looked up.
    resolver: bool,
}

impl Needs {
    /// Nothing: for a process that has all its descriptors.
    pub fn nothing() -> Self {
        Self {
            reads: Vec::new(),
            writes: Vec::new(),
            connects: BTreeSet::new(),
            binds: None,
            resolver: false,
        }
    }

    /// Of `bundle`, which is opened again at `path`, with ticket keys in the folder `tickets`.
    pub fn of(path: &Path, bundle: &Bundle, tickets: &Path) -> Self {
        let mut reads = Vec::new();
        // A rule for a file would be for what is replaced by a renewal. Behind a link lies another folder.
        for file in [Some(path.to_owned()), fs::canonicalize(path).ok()].into_iter().flatten() {
            reads.extend(file.parent().map(|folder| ("bundle", folder.to_owned())));
        }
        reads.extend(bundle.listen.acme_dir.as_deref().map(|folder| ("[listen] acme_dir", webroot(folder))));
        reads.extend(bundle.listen.challenges.clone().map(|folder| (CHALLENGES, folder)));
        let mut writes = vec![tickets.to_owned()];
        let mut binds = None;
        match &bundle.listen.admin {
            Some(Admin::Tcp(address)) => binds = Some(address.port()),
            Some(Admin::Unix(path)) => writes.extend(path.parent().map(Path::to_owned)),
            None => writes.extend(Path::new(Admin::DEFAULT_PATH).parent().map(Path::to_owned)),
        }
        let (mut connects, mut resolver) = (BTreeSet::new(), false);
        for upstream in bundle.upstreams() {
            match upstream {
                Upstream::Address(address) => drop(connects.insert(address.port())),
                Upstream::Zoned { port, .. } => drop(connects.insert(*port)),
                Upstream::Name { host, port } => {
                    connects.insert(*port);
                    // That name is not looked up.
                    resolver |= !host.eq_ignore_ascii_case("localhost");
                }
                Upstream::Unix(_) => {} // connecting to one is the business of its mode
            }
        }
        Self { reads, writes, connects, binds, resolver }
    }
}

/// Above what certbot makes for its tokens and takes away again, for a rule would go with it.
fn webroot(acme_dir: &Path) -> PathBuf {
    let made = Path::new(".well-known/acme-challenge");
    let above = acme_dir.ends_with(made).then(|| acme_dir.ancestors().nth(made.components().count()));
    above.flatten().unwrap_or(acme_dir).to_owned()
}

/// What the process was left with.
#[derive(Debug, Default)]
pub struct Sandbox {
    /// In words, for log and status.
    pub summary: String,
    /// What of files and network.
    pub reach: Reach,
}

/// Which files and ports are within reach of a sandboxed process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// What was not there, and so is not readable.
    missing: Vec<(String, PathBuf)>,
    /// Beneath these files are read; none: wherever the user of the process may.
    reads: Option<Vec<PathBuf>>,
    /// To these TCP ports it connects; none: to all.
    connects: Option<BTreeSet<u16>>,
    resolver: bool,
    /// Paths were left out, since no status may show them.
    in_part: bool,
}

impl Sandbox {
    /// Gives up for good all that `needs` does not name. For the calling thread and those that it makes: to be called before
    /// there is another, and after everything was opened and bound that is not named. A kernel that cannot do a part leaves that
    /// part as it is; the log says what holds.
    pub fn enter(needs: &Needs) -> Self {
        process::open_beforehand();
        let mut holds = Vec::new();
        if std::env::var_os(DUMPABLE).is_none() {
            let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
            let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
            holds.push("no core dumps");
        }
        if rustix::process::geteuid().is_root() {
            warn!(
                "running as root: an attacker who takes over the process can use root's files. The packaged unit runs it as \
                    its own user; by hand: `sudo -u USER sanedge serve BUNDLE`"
            );
        }
        match drop_capabilities() {
            true => holds.push("no capabilities"),
            false => warn!("capabilities were kept: the kernel refused to drop them"),
        }
        if set_no_new_privs(true).is_ok() {
            holds.push("no new privileges");
        }
        let mut sandbox = Self::default();
        let files_and_ports = sandbox.reach.restrict(needs);
        holds.push(&files_and_ports);
        sandbox.summary = holds.join(", ");
        info!(holds = sandbox.summary, "sandboxed");
        sandbox
    }
}

impl Reach {
    /// Landlock; what holds, in words.
    fn restrict(&mut self, needs: &Needs) -> String {
        self.resolver = needs.resolver;
        let reads: Vec<_> = needs.all_reads().filter_map(|(what, path)| readable(what, &path)).collect();
        let missing = needs.reads.iter().filter(|(what, path)| readable(what, path).is_none());
        self.missing = missing.map(|(what, path)| ((*what).to_owned(), path.clone())).collect();
        for (what, path) in &self.missing {
            let path = Excerpt::of_path(path);
            warn!(
                "{what}: {path} is missing, and nothing in it is readable until the next start. Make it (`systemd-tmpfiles --create sanedge.conf` \
                    makes the packaged one), then restart the edge"
            );
        }
        // What was wrong is not said: its words are many bytes of a board's program, and no kernel is known to do it.
        let Ok(Some(abi)) = apply(needs, &reads) else {
            return "no Landlock in this kernel: all files and ports of its user".to_owned();
        };
        self.reads = Some(reads);
        if abi < ABI::V4 {
            return "only its own files (Landlock; ports need Linux 6.7)".to_owned();
        }
        self.connects = Some(needs.connects.clone());
        "only its own files and ports (Landlock)".to_owned()
    }

    /// Whether files and ports are restricted.
    pub fn is_limited(&self) -> bool {
        self.reads.is_some() && self.connects.is_some()
    }

    /// The same without paths that no status may show.
    #[must_use]
    pub fn told(&self) -> Self {
        let is_told = |path: &Path| path.to_str().is_some_and(|text| *Excerpt::of_path(path) == *text);
        let mut told = self.clone();
        told.missing.retain(|(_, path)| is_told(path));
        told.reads.iter_mut().for_each(|reads| reads.retain(|path| is_told(path)));
        told.in_part = told != *self;
        told
    }

    /// What of `needs` is out of reach for the process, as a sentence's beginning.
    pub fn lacks(&self, needs: &Needs) -> Option<String> {
        if let Some((what, path)) = needs.reads.iter().find(|read| !self.reaches(read)) {
            return Some(format!("{what}: {} is outside the folders", Excerpt::of_path(path)));
        }
        let port = needs
            .connects
            .iter()
            .find(|port| self.connects.as_ref().is_some_and(|ours| !ours.contains(port)));
        if let Some(port) = port {
            let ours = self.connects.iter().flatten().map(u16::to_string).collect::<Vec<_>>().join(", ");
            return Some(format!("upstream: port {port} is not one of those ({ours})"));
        }
        let names = needs.resolver && !self.resolver && self.reads.is_some();
        names.then(|| "upstream: looking up a name is outside the sandbox".to_owned())
    }

    fn reaches(&self, read: &(&'static str, PathBuf)) -> bool {
        let Some(reads) = &self.reads else { return true };
        // What was missing at the start is out of reach, as the log has said; that is no reason to refuse a bundle.
        self.in_part
            || self.missing.iter().any(|(what, path)| (what.as_str(), path) == (read.0, &read.1))
            || readable(read.0, &read.1)
                .is_some_and(|path| reads.iter().any(|folder| path.starts_with(folder)))
    }
}

impl Needs {
    /// With what looking up a name reads. By folder, since all of these files are replaced by others in a network's life.
    fn all_reads(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        let mut resolver = Vec::new();
        if self.resolver {
            resolver.push("/etc".into());
            // Early in a boot that link leads to where nothing is yet.
            let servers = fs::read_link("/etc/resolv.conf").map(|file| Path::new("/etc").join(file));
            resolver.extend(servers.ok().and_then(|file| file.parent().map(Path::to_owned)));
            // glibc loads what nsswitch.conf names.
            let libraries: &[&str] =
                if cfg!(target_env = "gnu") { &["/lib", "/lib64", "/usr/lib"] } else { &[] };
            resolver.extend(libraries.iter().map(PathBuf::from));
        }
        self.reads.iter().cloned().chain(resolver.into_iter().map(|path| ("the resolver", path)))
    }
}

/// Which folder stands for `path`. The challenge folder is ours and is made before the edge starts: above it there is nothing but what
/// it was made in, and never a folder of the root, such as `/run`.
fn readable(what: &str, path: &Path) -> Option<PathBuf> {
    if what != CHALLENGES {
        return present(path);
    }
    let above = path.parent().filter(|parent| parent.components().count() > 2);
    [Some(path), above].into_iter().flatten().find_map(|path| fs::canonicalize(path).ok())
}

/// The folder itself, links followed, or the nearest above it that is there: certbot makes its folder and takes it away again. Never
/// the root.
fn present(path: &Path) -> Option<PathBuf> {
    path.ancestors().find_map(|path| fs::canonicalize(path).ok()).filter(|path| path.parent().is_some())
}

/// The version of Landlock that holds from now on; none: this kernel has none.
fn apply(needs: &Needs, reads: &[PathBuf]) -> Result<Option<ABI>, RulesetError> {
    let write: BitFlags<AccessFs> =
        make_bitflags!(AccessFs::{ReadFile | WriteFile | MakeReg | MakeSock | RemoveFile});
    // Inside a container systemd may listen on an abstract socket.
    let notify = std::env::var_os("NOTIFY_SOCKET");
    let is_abstract = notify.as_deref().map(OsStr::as_bytes).is_some_and(|path| path.starts_with(b"@"));
    let scope = if is_abstract { Scope::Signal.into() } else { Scope::from_all(TRIED) };
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(TRIED))?
        .handle_access(AccessNet::from_all(TRIED))?
        .scope(scope)?
        .create()?;
    let readable = reads.iter().map(|path| (path, AccessFs::ReadFile.into()));
    for (path, access) in readable.chain(needs.writes.iter().map(|path| (path, write))) {
        if let Ok(folder) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(folder, access))?;
        }
    }
    let dns = needs.resolver.then_some(DNS_PORT);
    for port in needs.connects.iter().copied().chain(dns) {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    if let Some(port) = needs.binds {
        rules = rules.add_rule(NetPort::new(port, AccessNet::BindTcp))?;
    }
    let status = rules.restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => None,
        (_, LandlockStatus::Available { effective_abi, .. }) => Some(effective_abi),
        _ => None,
    })
}

/// Whether none is left, in any set.
fn drop_capabilities() -> bool {
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    // Under the unit there are none to begin with.
    if capabilities(None).is_ok_and(|held| held == none) {
        return true;
    }
    // Numbers beyond the last that the kernel knows are refused, and all of them without CAP_SETPCAP. Then `no_new_privs` is what
    // keeps an exec from gaining any.
    for bit in 0..u64::BITS {
        let _ = remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit));
    }
    let _ = clear_ambient_capability_set();
    set_capabilities(None, none).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_challenge_folder_opens_what_it_is_made_in_and_nothing_above() {
        let desk = fs::canonicalize(tempfile::tempdir().unwrap().keep()).unwrap();
        let there = desk.join("challenges");
        assert_eq!(readable(CHALLENGES, &there), Some(desk.clone()));
        fs::create_dir(&there).unwrap();
        assert_eq!(readable(CHALLENGES, &there), Some(there));
        assert_eq!(readable(CHALLENGES, &desk.join("missing/challenges")), None);
        for shared in ["/run/missing/challenges", "/run/missing", "/missing"] {
            assert_eq!(readable(CHALLENGES, Path::new(shared)), None, "{shared}");
        }
        // certbot takes its folder away again.
        assert_eq!(readable("[listen] acme_dir", &desk.join("missing/folder")), Some(desk.clone()));
        fs::remove_dir_all(desk).unwrap();
    }
}
