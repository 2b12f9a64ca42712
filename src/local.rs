//! `[local]`: a local CA, for hosts that no public CA issues for.
//!
//! Only the deployment uses its key ([`bring`], as root). What asks for a certificate has no say in it: the names come from root's
//! sanedge.toml, the key is made here. `sanedge renew`, as a user that may read neither key, sees in the public files that a renewal is due
//! ([`look`]), and leaves the mark that starts the deployment.

mod authority;
mod certificate;

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::acme::clock;
use crate::bundle::acme::local::{AUTHORITY, CERTIFICATE, PUBLIC, ROOT};
use crate::bundle::acme::{Local, stored};
use crate::bundle::compile::{PEM_BYTES_MAX, moment};
use crate::bundle::file::{self, word};
use crate::bundle::lifetime::{DAY_S, Lifetime};
use crate::bundle::private::Subtree;
use crate::bundle::source::read_bounded;
use crate::doctor::explain::Code;
use crate::names::Host;
use authority::Authority;
pub(crate) use certificate::Certificate;

/// Mode of the folder: whoever knows the name of a file in it may open that, if the file's own mode allows it.
const FOLDER_MODE: u32 = 0o711;
/// A clock that was set back by less is no reason to complain.
const LATE_S: i64 = 60;
/// From so long before its end on, a new CA is asked for: devices have to be told by hand.
const NOTICE_S: i64 = 365 * DAY_S;

/// Why the CA issues nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    /// A certificate of the wrong time would be of no use, or none until then.
    #[error("{0}")]
    Clock(String),
    /// Its own end.
    #[error(
        "the local CA ends at {0}: type `sudo sanedge local replace`, and have every device trust the new one"
    )]
    Ended(String),
    /// Its beginning is in the future: then it was made by a clock that was ahead, or this one is behind.
    #[error(
        "the local CA is valid from {begin} on, and the system clock says {now}. If the clock is wrong, set it (`timedatectl`). If it is right, the CA was made while the clock was ahead: type `sudo sanedge local replace`, and have every device trust the new one"
    )]
    Ahead { begin: String, now: String },
    /// A file that is not what it should be.
    #[error(
        "{0} {1}: put back a copy of it, or type `sudo sanedge local replace` for a new CA, which every device has to trust anew"
    )]
    File(String, &'static str),
    /// A file or folder with the wrong owner or mode, or of the wrong kind, and the command against that.
    #[error("{0} {1}: type `{2}`, then `sudo sanedge renew --now`")]
    Guard(String, &'static str, String),
    /// The deployment runs in a sandbox.
    #[error(
        "{0} cannot be written from here: sanedge-deploy.service writes below /etc/sanedge only. Remove `folder` from [local], or type `sudo systemctl edit sanedge-deploy.service` and add the lines `[Service]` and `ReadWritePaths=-{0}`"
    )]
    ReadOnly(String),
    /// What the system said.
    #[error("{0}")]
    Io(String),
}

impl LocalError {
    /// Its row in the doctor's table.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Clock(_) => Code::AcmeClock,
            Self::Ahead { .. } => Code::LocalNotYetValid,
            Self::Ended(_) => Code::LocalEnded,
            Self::File(..) | Self::Guard(..) | Self::ReadOnly(_) => Code::LocalFiles,
            Self::Io(_) => Code::AcmeState,
        }
    }
}

/// What is to be done about the certificate of the hosts.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// The hosts that the CA may issue for, and those that need another one.
    pub(crate) hosts: Vec<Host>,
    pub(crate) outside: Vec<Host>,
    /// A certificate is to be issued.
    pub(crate) is_due: bool,
    /// Of the certificate that is there, if it is one for these hosts.
    pub(crate) lifetime: Option<Lifetime>,
    /// The CA itself ends soon.
    pub(crate) is_ending: bool,
}

/// What has come of [`bring`].
#[derive(Debug, Default)]
pub(crate) struct Brought {
    /// A certificate was issued.
    pub(crate) is_new: bool,
    /// Hosts that need another CA.
    pub(crate) outside: Vec<Host>,
}

/// Decides from the names and the times alone. `chain` is what the hosts have, `root` the CA's; none: it is to be made.
fn judge(
    local: &Local,
    root: Option<&Certificate>,
    chain: &[Certificate],
    now: i64,
) -> Result<Judgement, LocalError> {
    let all = local.names.iter().filter_map(|name| Host::parse(name).ok());
    let Some(root) = root else {
        clock::plausible(now, 0).map_err(LocalError::Clock)?;
        return Ok(Judgement {
            hosts: all.collect(),
            outside: Vec::new(),
            is_due: true,
            lifetime: None,
            is_ending: false,
        });
    };
    clock::plausible(now, 0).map_err(LocalError::Clock)?;
    let begin = root.lifetime.not_before;
    if now < begin.saturating_sub(LATE_S) {
        return Err(LocalError::Ahead { begin: moment(begin), now: moment(now) });
    }
    let (hosts, outside): (Vec<Host>, Vec<Host>) = all.partition(|host| root.may_issue_for(host));
    let leads = |[own, issuer]: &[Certificate; 2]| own.is_by(issuer) && issuer.is_by(root);
    let own = <&[Certificate; 2]>::try_from(chain).ok().filter(|pair| leads(pair)).map(|[own, _]| own);
    let is_for = |own: &&Certificate| {
        own.hosts.len() == hosts.len() && hosts.iter().all(|host| own.hosts.contains(host))
    };
    let lifetime = own.filter(is_for).map(|own| own.lifetime).filter(|lifetime| lifetime.not_before <= now);
    // One that ends with the CA cannot be renewed.
    let is_last = |lifetime: Lifetime| lifetime.not_after >= root.lifetime.not_after;
    let is_fine = lifetime.is_some_and(|lifetime| now < lifetime.renewal_due());
    if now > root.lifetime.not_after || (!is_fine && lifetime.is_some_and(is_last)) {
        return Err(LocalError::Ended(moment(root.lifetime.not_after)));
    }
    let is_ending = now > root.lifetime.not_after.saturating_sub(NOTICE_S);
    Ok(Judgement { is_due: !is_fine && !hosts.is_empty(), hosts, outside, lifetime, is_ending })
}

/// What any user can see of the CA: its root, if it has been made, and what is to be done.
pub(crate) fn look(local: &Local, now: i64) -> (Option<Certificate>, Result<Judgement, LocalError>) {
    let all = |name: &str| {
        let pem = read_bounded(&local.folder.join(name), PEM_BYTES_MAX).unwrap_or_default();
        Certificate::all(&pem)
    };
    let root = all(ROOT).into_iter().next();
    let judgement = guarded(&local.folder).and_then(|()| judge(local, root.as_ref(), &all(PUBLIC), now));
    (root, judgement)
}

/// Whether `der` is the certificate that is issued for the hosts, `host` among them, and stays in use.
pub(crate) fn has_issued(local: &Local, host: &Host, der: &[u8], now: i64) -> bool {
    let pem = read_bounded(&local.folder.join(PUBLIC), PEM_BYTES_MAX).unwrap_or_default();
    let is_it = Certificate::all(&pem).first().is_some_and(|own| *own.der == *der);
    is_it && look(local, now).1.is_ok_and(|judged| !judged.is_due && judged.hosts.contains(host))
}

/// What devices are to trust, as PEM.
pub(crate) fn root_pem(local: &Local) -> Option<String> {
    let pem = read_bounded(&local.folder.join(ROOT), PEM_BYTES_MAX).ok()?;
    Certificate::all(&pem).first().map(authority::pem)
}

/// Whether there is a CA.
pub(crate) fn is_made(local: &Local) -> bool {
    local.folder.join(AUTHORITY).exists()
}

/// Makes the CA if there is none, issues what is due or, with `always`, whether it is due or not, and publishes what everybody may see.
///
/// A power cut leaves the old certificate or the new one. The files for everybody come last: as long as they are old, `sanedge renew` asks
/// again.
///
/// # Errors
/// Nothing was issued.
pub(crate) fn bring(local: &Local, always: bool, now: i64) -> Result<Brought, LocalError> {
    if local.names.is_empty() {
        return Ok(Brought::default());
    }
    let place = |name: &str| local.folder.join(name);
    let kept = prepared(&local.folder).and_then(|()| read(local, AUTHORITY))?;
    let authority = match kept {
        Some(text) => parsed(local, &text)?,
        None if place(ROOT).exists() => return Err(LocalError::File(word(&place(AUTHORITY)), "is missing")),
        None => made(local, now)?,
    };
    publish(&place(ROOT), authority::pem(&authority.root).as_bytes())?;
    let held = read(local, CERTIFICATE)?.unwrap_or_default();
    let chain = Certificate::all(&held);
    let judgement = judge(local, Some(&authority.root), &chain, now)?;
    let is_new = judgement.is_due || (always && !judgement.hosts.is_empty());
    let chain = if is_new {
        let issued = authority.issue(&judgement.hosts, local.lifetime_s, now).map_err(|e| no_random(&e))?;
        file::write_private(&place(CERTIFICATE), issued.as_bytes())
            .map_err(|error| unwritten(&local.folder, &error))?;
        Certificate::all(issued.as_bytes())
    } else {
        chain
    };
    publish(&place(PUBLIC), chain.iter().map(authority::pem).collect::<String>().as_bytes())?;
    Ok(Brought { is_new, outside: judgement.outside })
}

/// What is said of a host that needs another CA.
pub(crate) fn outside(host: &Host) -> String {
    format!(
        "the local CA may not issue for {host}: type `sudo sanedge local replace` for one that may, and have every device trust the new one"
    )
}

/// Makes another CA. Until the last step of the next [`bring`], what everybody may see asks for that.
///
/// # Errors
/// The old one stays.
pub(crate) fn replace(local: &Local, now: i64) -> Result<(), LocalError> {
    prepared(&local.folder)?;
    clock::plausible(now, 0).map_err(LocalError::Clock)?;
    match std::fs::remove_file(local.folder.join(PUBLIC)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(unwritten(&local.folder, &error));
        }
        _ => {}
    }
    made(local, now).map(drop)
}

fn made(local: &Local, now: i64) -> Result<Authority, LocalError> {
    let judgement = judge(local, None, &[], now)?;
    let permit: Vec<Subtree> = local.permit.iter().filter_map(|text| Subtree::parse(text)).collect();
    let text = Authority::create(&judgement.hosts, &permit, now).map_err(|error| no_random(&error))?;
    file::write_private(&local.folder.join(AUTHORITY), text.as_bytes())
        .map_err(|error| unwritten(&local.folder, &error))?;
    parsed(local, text.as_bytes())
}

fn parsed(local: &Local, text: &[u8]) -> Result<Authority, LocalError> {
    let damaged = || LocalError::File(word(&local.folder.join(AUTHORITY)), "is damaged");
    Authority::parse(text).ok_or_else(damaged)
}

fn no_random(error: &rcgen::Error) -> LocalError {
    LocalError::Io(format!("no certificate can be made: {error}"))
}

/// A file of ours, which nobody else may read.
fn read(local: &Local, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, LocalError> {
    let path = local.folder.join(name);
    stored::read(&local.folder, &path).map_err(|error| LocalError::Io(format!("{}: {error}", word(&path))))
}

/// Writes what differs: the card is not written for what it holds already.
fn publish(path: &Path, bytes: &[u8]) -> Result<(), LocalError> {
    let is_open = std::fs::symlink_metadata(path).is_ok_and(|found| found.mode() & 0o044 == 0o044);
    if is_open && read_bounded(path, PEM_BYTES_MAX).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    file::write_public(path, bytes).map_err(|error| unwritten(file::folder_of(path), &error))
}

fn unwritten(folder: &Path, error: &dyn std::fmt::Display) -> LocalError {
    match rustix::fs::access(folder, rustix::fs::Access::WRITE_OK) {
        Err(rustix::io::Errno::ROFS) => LocalError::ReadOnly(word(folder)),
        _ => LocalError::Io(error.to_string()),
    }
}

/// Makes the folder, or checks that only this user can change it; removes what processes that were killed have left.
fn prepared(folder: &Path) -> Result<(), LocalError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => LocalError::ReadOnly(word(folder)),
        _ => LocalError::Io(format!("{}: {error}", word(folder))),
    };
    let own = rustix::process::geteuid().as_raw();
    let parent = file::folder_of(folder);
    let about = std::fs::metadata(parent).map_err(failed)?;
    // Who can rename the folder can put another in its place.
    let is_shared = about.mode() & 0o022 != 0 && about.mode() & 0o1000 == 0;
    if is_shared || ![0, own].contains(&about.uid()) {
        let said = format!("{}: other users can change {}", word(folder), word(parent));
        return Err(LocalError::Io(format!("{said}: name another `folder` in [local], or remove that key")));
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => file::sync(parent).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let found = std::fs::symlink_metadata(folder).map_err(failed)?;
    let guard = |wrong, command: String| Err(LocalError::Guard(word(folder), wrong, command));
    if !found.is_dir() {
        let said = format!("{} is not a folder: the key of a CA cannot be kept there", word(folder));
        return Err(LocalError::Io(said));
    }
    if found.uid() != own {
        return guard("belongs to another user", owned(own, folder));
    }
    if found.mode() & 0o022 != 0 {
        return guard("can be changed by other users", format!("sudo chmod 711 {}", word(folder)));
    }
    // Whatever the umask: `sanedge renew` sees in the public files that a renewal is due.
    if found.mode() & 0o777 != FOLDER_MODE {
        std::fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE)).map_err(failed)?;
    }
    guarded(folder)?;
    file::remove_leftovers(folder);
    Ok(())
}

fn owned(uid: u32, path: &Path) -> String {
    let owner = if uid == 0 { "root:root".to_owned() } else { uid.to_string() };
    format!("sudo chown {owner} {}", word(path))
}

/// Checks that nobody but the owner of the folder can read or change the keys in it. Any user may ask.
fn guarded(folder: &Path) -> Result<(), LocalError> {
    let Ok(own) = std::fs::symlink_metadata(folder) else { return Ok(()) };
    for name in [AUTHORITY, CERTIFICATE] {
        let path = folder.join(name);
        let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
        let odd = match () {
            () if !found.is_file() => Some("is not a regular file"),
            () if found.nlink() != 1 => Some("has several names"),
            () => None,
        };
        let (file, kept) = (word(&path), format!("sudo chmod 600 {}", word(&path)));
        return Err(match odd {
            Some(odd) if name == AUTHORITY => LocalError::File(file, odd),
            // The deployment makes another.
            Some(odd) => LocalError::Guard(file, odd, format!("sudo rm {}", word(&path))),
            None if found.uid() != own.uid() => {
                let command = format!("{} && {kept}", owned(own.uid(), &path));
                LocalError::Guard(file, "belongs to another user", command)
            }
            None if found.mode() & 0o077 != 0 => LocalError::Guard(file, "is readable by others", kept),
            None => continue,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const T: i64 = 1_800_000_000;
    const DAYS: i64 = 90;

    struct Desk {
        folder: tempfile::TempDir,
        local: Local,
    }

    impl Desk {
        fn of(names: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let local = Local {
                folder: folder.path().join("local"),
                names: names.iter().map(ToString::to_string).collect(),
                permit: Vec::new(),
                lifetime_s: DAYS * DAY_S,
            };
            Self { folder, local }
        }

        fn place(&self, name: &str) -> std::path::PathBuf {
            self.local.folder.join(name)
        }

        fn bring(&self, now: i64) -> Result<Brought, LocalError> {
            bring(&self.local, false, now)
        }

        fn look(&self, now: i64) -> Judgement {
            look(&self.local, now).1.unwrap()
        }

        fn chain(&self) -> Vec<Certificate> {
            Certificate::all(&fs::read(self.place(PUBLIC)).unwrap())
        }

        /// Names and times of what is served, and whether the public files say the same as the private ones.
        fn is_whole(&self, now: i64) -> bool {
            let [private, public] =
                [CERTIFICATE, PUBLIC].map(|name| Certificate::all(&fs::read(self.place(name)).unwrap()));
            let authority = Authority::parse(&fs::read(self.place(AUTHORITY)).unwrap()).unwrap();
            let root = fs::read_to_string(self.place(ROOT)).unwrap();
            private.iter().map(|one| &one.der).eq(public.iter().map(|one| &one.der))
                && root == authority::pem(&authority.root)
                && !self.look(now).is_due
                && !judge(&self.local, Some(&authority.root), &private, now).unwrap().is_due
        }

        fn mode(&self, name: &str) -> u32 {
            fs::metadata(self.place(name)).unwrap().mode() & 0o777
        }
    }

    #[test]
    fn the_keys_are_for_their_owner_alone_and_the_rest_for_everybody() {
        let desk = Desk::of(&["a.home.arpa", "192.168.1.5"]);
        assert!(desk.look(T).is_due, "nothing is there");
        let brought = desk.bring(T).unwrap();
        assert!(brought.is_new && brought.outside.is_empty() && desk.is_whole(T));
        let modes = [".", AUTHORITY, ROOT, CERTIFICATE, PUBLIC].map(|name| desk.mode(name));
        assert_eq!(modes, [0o711, 0o600, 0o644, 0o600, 0o644]);
        for public in [ROOT, PUBLIC] {
            assert!(!fs::read_to_string(desk.place(public)).unwrap().contains("PRIVATE"), "{public}");
        }
        // The root's key is nowhere: the one key that issues is not it.
        let text = fs::read_to_string(desk.place(AUTHORITY)).unwrap();
        assert_eq!(text.matches("PRIVATE KEY-----").count(), 2, "one block");
        let root = Authority::parse(text.as_bytes()).unwrap().root;
        use rcgen::PublicKeyData as _;
        let key = rcgen::KeyPair::from_pem(&text).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&root.der).unwrap();
        assert_ne!(parsed.public_key().subject_public_key.data, key.der_bytes());
    }

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_are_over_and_not_before() {
        let desk = Desk::of(&["a.home.arpa"]);
        desk.bring(T).unwrap();
        let before = desk.chain();
        let lifetime = before[0].lifetime;
        assert_eq!(lifetime.length_s(), DAYS * DAY_S);
        assert!(lifetime.not_before < T && T - lifetime.not_before <= 3_600);
        let due = lifetime.renewal_due();
        assert!(!desk.look(due - 1).is_due && !desk.bring(due - 1).unwrap().is_new);
        let inode = fs::metadata(desk.place(CERTIFICATE)).unwrap().ino();
        assert!(desk.look(due).is_due && desk.bring(due).unwrap().is_new && desk.is_whole(due));
        assert_ne!(fs::metadata(desk.place(CERTIFICATE)).unwrap().ino(), inode);
        let after = desk.chain();
        assert!(after[0].der != before[0].der && after[1].der == before[1].der, "the same CA");
        assert!(bring(&desk.local, true, due + 1).unwrap().is_new, "asked for");
    }

    #[test]
    fn short_and_longest_lifetimes_hold() {
        for (lifetime_s, half) in [(60, true), (397 * DAY_S, false)] {
            let mut desk = Desk::of(&["a.home.arpa"]);
            desk.local.lifetime_s = lifetime_s;
            desk.bring(T).unwrap();
            let lifetime = desk.chain()[0].lifetime;
            assert_eq!((lifetime.length_s(), lifetime.is_short()), (lifetime_s, half));
            assert!(lifetime.length_s() <= 397 * DAY_S && !desk.look(T).is_due);
        }
    }

    #[test]
    fn another_set_of_hosts_gets_another_certificate_of_the_same_ca() {
        let mut desk = Desk::of(&["a.home.arpa"]);
        desk.bring(T).unwrap();
        for names in [&["a.home.arpa", "b.home.arpa"][..], &["b.home.arpa"], &["a.b.home.arpa"]] {
            desk.local.names = names.iter().map(ToString::to_string).collect();
            assert!(desk.look(T).is_due && desk.bring(T).unwrap().is_new && desk.is_whole(T), "{names:?}");
            let hosts: Vec<String> = desk.chain()[0].hosts.iter().map(ToString::to_string).collect();
            assert_eq!(hosts, names, "and no name more");
        }
    }

    #[test]
    fn a_host_outside_gets_none_until_the_ca_is_replaced_and_the_others_do() {
        let mut desk = Desk::of(&["a.home.arpa"]);
        desk.bring(T).unwrap();
        let root = fs::read(desk.place(ROOT)).unwrap();
        desk.local.names = ["a.home.arpa", "game.recre.store", "10.0.0.7"].map(str::to_owned).to_vec();
        let brought = desk.bring(T).unwrap();
        let outside: Vec<String> = brought.outside.iter().map(ToString::to_string).collect();
        assert_eq!(outside, ["game.recre.store", "10.0.0.7"]);
        assert!(!brought.is_new && desk.is_whole(T), "the first one has its certificate");
        assert_eq!(desk.look(T).outside.len(), 2);
        replace(&desk.local, T).unwrap();
        assert!(desk.look(T).is_due, "what is left of the old one asks for the rest");
        assert!(desk.bring(T).unwrap().outside.is_empty() && desk.is_whole(T));
        assert_ne!(fs::read(desk.place(ROOT)).unwrap(), root);
        assert_eq!(desk.chain()[0].hosts.len(), 3);
        assert!(desk.chain()[1].may_issue_for(&Host::parse("game.recre.store").unwrap()));
        assert!(!desk.chain()[1].may_issue_for(&Host::parse("recre.store").unwrap()));
    }

    #[test]
    fn what_is_permitted_beside_the_hosts_needs_no_other_ca() {
        let mut desk = Desk::of(&["a.home.arpa"]);
        desk.local.permit = vec!["recre.store".to_owned(), "10.0.0.0/8".to_owned()];
        desk.bring(T).unwrap();
        desk.local.names = ["recre.store", "a.b.recre.store", "10.9.9.9"].map(str::to_owned).to_vec();
        assert!(desk.bring(T).unwrap().outside.is_empty());
        desk.local.names = vec!["192.168.0.1".to_owned()];
        assert_eq!(desk.bring(T).unwrap().outside.len(), 1, "no address but those");
    }

    #[test]
    fn a_clock_that_cannot_be_right_makes_nothing() {
        let desk = Desk::of(&["a.home.arpa"]);
        assert!(matches!(desk.bring(0), Err(LocalError::Clock(_))), "a board without a battery");
        assert!(!desk.place(AUTHORITY).exists());
        desk.bring(T).unwrap();
        let root = Authority::parse(&fs::read(desk.place(AUTHORITY)).unwrap()).unwrap().root;
        assert_eq!(T - root.lifetime.not_before, DAY_S, "a device may be behind");
        // A little back is no harm; before the CA began is a wrong clock, now or then.
        assert!(!desk.bring(T - 600).unwrap().is_new);
        let before = root.lifetime.not_before - 61;
        assert!(matches!(desk.bring(before), Err(LocalError::Ahead { .. })));
        assert!(matches!(look(&desk.local, before).1, Err(LocalError::Ahead { .. })));
        assert!(look(&desk.local, before + 1).1.is_ok());
        assert!(desk.is_whole(T), "and nothing was changed");
    }

    #[test]
    fn nothing_is_valid_for_longer_than_the_ca() {
        let desk = Desk::of(&["a.home.arpa"]);
        desk.bring(T).unwrap();
        let end = desk.chain()[1].lifetime.not_after;
        let late = end - 10 * DAY_S;
        assert!(!desk.look(end - NOTICE_S - 200 * DAY_S).is_ending);
        assert!(desk.bring(late).unwrap().is_new);
        assert_eq!(desk.chain()[0].lifetime.not_after, end);
        assert!(desk.look(late).is_ending);
        // Another would end no later: it is not issued each hour.
        let ended = [end - DAY_S, end, end + 1];
        assert!(ended.iter().all(|now| matches!(desk.bring(*now), Err(LocalError::Ended(_)))));
        replace(&desk.local, end + 1).unwrap();
        assert!(desk.bring(end + 1).unwrap().is_new && desk.is_whole(end + 1));
    }

    /// Each state that a loss of power can leave, between two files.
    #[test]
    fn a_cut_at_any_file_is_completed_by_the_next_deployment() {
        let files = [AUTHORITY, ROOT, CERTIFICATE, PUBLIC];
        let whole = Desk::of(&["a.home.arpa"]);
        whole.bring(T).unwrap();
        for kept in 0..=files.len() {
            let desk = Desk::of(&["a.home.arpa"]);
            DirBuilder::new().mode(0o711).create(&desk.local.folder).unwrap();
            for (at, name) in files.iter().enumerate().filter(|(at, _)| *at < kept) {
                fs::copy(whole.place(name), desk.place(name)).unwrap();
                assert!(desk.look(T).is_due == (at + 1 < files.len()), "{name}: renew asks for the rest");
            }
            fs::write(desk.place(".sanedge.4194305.0.tmp"), "half a key").unwrap();
            desk.bring(T).unwrap();
            assert!(desk.is_whole(T), "{kept} files");
            assert_eq!(fs::read_dir(&desk.local.folder).unwrap().count(), files.len());
        }
        // The same while the CA is replaced: the old certificate, beside some of the new files.
        for new in 1..files.len() {
            let desk = Desk::of(&["a.home.arpa"]);
            desk.bring(T).unwrap();
            fs::remove_file(desk.place(PUBLIC)).unwrap();
            for name in files.iter().take(new) {
                fs::copy(whole.place(name), desk.place(name)).unwrap();
            }
            assert!(desk.look(T).is_due);
            desk.bring(T).unwrap();
            assert!(desk.is_whole(T), "{new} new files");
        }
    }

    #[test]
    fn a_ca_that_is_damaged_or_gone_is_not_replaced_by_itself() {
        let desk = Desk::of(&["a.home.arpa"]);
        desk.bring(T).unwrap();
        let good = fs::read(desk.place(AUTHORITY)).unwrap();
        let other = Desk::of(&["a.home.arpa"]);
        other.bring(T).unwrap();
        let foreign = fs::read(other.place(AUTHORITY)).unwrap();
        let text = String::from_utf8(good.clone()).unwrap();
        let key_end = text.find("-----BEGIN CERTIFICATE").unwrap();
        let mixed = [
            &text.as_bytes()[..key_end],
            &foreign[String::from_utf8_lossy(&foreign).find("-----BEGIN CERTIFICATE").unwrap()..],
        ]
        .concat();
        for damaged in [&b""[..], b"x", &good[..good.len() / 2], &good[..key_end], &mixed] {
            fs::write(desk.place(AUTHORITY), damaged).unwrap();
            assert!(matches!(desk.bring(T), Err(LocalError::File(..))));
            assert_eq!(fs::read(desk.place(AUTHORITY)).unwrap(), damaged);
        }
        fs::remove_file(desk.place(AUTHORITY)).unwrap();
        let missing = desk.bring(T).unwrap_err().to_string();
        assert!(missing.contains("is missing") && missing.contains("sanedge local replace"), "{missing}");
        fs::write(desk.place(AUTHORITY), good).unwrap();
        fs::set_permissions(desk.place(AUTHORITY), Permissions::from_mode(0o640)).unwrap();
        assert!(desk.bring(T).unwrap_err().to_string().contains("readable by others"));
        fs::set_permissions(desk.place(AUTHORITY), Permissions::from_mode(0o600)).unwrap();
        assert!(desk.bring(T).is_ok() && desk.is_whole(T));
        fs::set_permissions(&desk.local.folder, Permissions::from_mode(0o777)).unwrap();
        assert!(desk.bring(T).unwrap_err().to_string().contains("changed by other users"));
        let link = desk.folder.path().join("link");
        std::os::unix::fs::symlink(&other.local.folder, &link).unwrap();
        assert!(bring(&Local { folder: link, ..desk.local }, false, T).is_err());
    }

    #[test]
    fn a_certificate_of_a_clock_that_was_ahead_is_made_anew_and_a_ca_of_one_only_when_asked_for() {
        let desk = Desk::of(&["a.home.arpa"]);
        desk.bring(T).unwrap();
        let root = fs::read(desk.place(ROOT)).unwrap();
        // A year ahead: the certificate begins in the future once the clock is right again.
        assert!(desk.bring(T + 365 * DAY_S).unwrap().is_new);
        assert!(desk.look(T).is_due && desk.look(T).lifetime.is_none());
        assert!(desk.bring(T).unwrap().is_new && desk.is_whole(T));
        assert!(desk.chain()[0].lifetime.not_before <= T);
        assert_eq!(fs::read(desk.place(ROOT)).unwrap(), root, "devices trust it");

        let desk = Desk::of(&["a.home.arpa"]);
        desk.bring(T + 365 * DAY_S).unwrap();
        let root = fs::read(desk.place(ROOT)).unwrap();
        for error in [desk.bring(T).unwrap_err(), look(&desk.local, T).1.unwrap_err()] {
            let said = error.to_string();
            assert_eq!(error.code(), Code::LocalNotYetValid, "{said}");
            for part in ["sudo sanedge local replace", "timedatectl", &moment(T), &moment(T + 364 * DAY_S)] {
                assert!(said.contains(part), "{part}: {said}");
            }
        }
        assert_eq!(fs::read(desk.place(ROOT)).unwrap(), root, "nobody asked for another");
        replace(&desk.local, T).unwrap();
        assert!(desk.bring(T).unwrap().is_new && desk.is_whole(T));
        assert_ne!(fs::read(desk.place(ROOT)).unwrap(), root);
    }

    #[test]
    fn wrong_owners_and_modes_are_said_with_the_command_and_public_files_are_put_right() {
        let desk = Desk::of(&["a.home.arpa"]);
        desk.bring(T).unwrap();
        let mode = |name: &str, mode: u32| {
            fs::set_permissions(desk.place(name), Permissions::from_mode(mode)).unwrap();
        };
        let said = || {
            let (seen, brought) = (look(&desk.local, T).1.unwrap_err(), desk.bring(T).unwrap_err());
            assert_eq!((seen.to_string(), seen.code()), (brought.to_string(), Code::LocalFiles));
            seen.to_string()
        };
        for name in [AUTHORITY, CERTIFICATE] {
            for wrong in [0o640, 0o604, 0o610] {
                mode(name, wrong);
                let command = format!("sudo chmod 600 {}", word(&desk.place(name)));
                assert!(said().contains(&command), "{}", said());
            }
            mode(name, 0o600);
            assert!(desk.bring(T).is_ok());
        }
        fs::hard_link(desk.place(CERTIFICATE), desk.place("twice")).unwrap();
        assert!(said().contains(&format!("sudo rm {}", word(&desk.place(CERTIFICATE)))), "{}", said());
        fs::remove_file(desk.place(CERTIFICATE)).unwrap();
        assert!(desk.bring(T).unwrap().is_new && desk.is_whole(T));
        fs::hard_link(desk.place(AUTHORITY), desk.place("twice2")).unwrap();
        assert!(said().contains("put back a copy") && !said().contains("sudo rm"), "{}", said());
        fs::remove_file(desk.place("twice2")).unwrap();
        if rustix::process::geteuid().is_root() {
            let own = |uid| std::os::unix::fs::chown(desk.place(CERTIFICATE), Some(uid), None).unwrap();
            own(64_013);
            assert!(said().contains("sudo chown root:root "), "{}", said());
            own(0);
        }
        for (name, wrong, right) in [(ROOT, 0o600, 0o644), (PUBLIC, 0o600, 0o644), (".", 0o700, 0o711)] {
            mode(name, wrong);
            assert!(!desk.bring(T).unwrap().is_new);
            assert_eq!(desk.mode(name), right, "{name}: `sanedge renew` reads it");
        }
        mode(".", 0o733);
        assert!(desk.bring(T).unwrap_err().to_string().contains("sudo chmod 711 "));
        mode(".", 0o711);
        fs::set_permissions(desk.folder.path(), Permissions::from_mode(0o777)).unwrap();
        let shared = desk.bring(T).unwrap_err().to_string();
        assert!(shared.contains("other users can change"), "they can rename it: {shared}");
        fs::set_permissions(desk.folder.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(desk.bring(T).is_ok());
    }

    #[test]
    fn no_host_makes_no_ca() {
        let desk = Desk::of(&[]);
        assert!(!desk.bring(T).unwrap().is_new && !desk.local.folder.exists());
    }
}
