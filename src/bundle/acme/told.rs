//! The result of the last run of `sanedge renew`, which the edge shows in status, page and metrics: a file without secrets in the challenge
//! folder. The edge can read this folder, and it is in memory, so the card is not written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::is_name;
use crate::excerpt::kept_text;

/// Its name. Challenges have names without a dot.
pub const FILE: &str = "status.json";
/// Largest such file: 256 hosts with a failure each.
pub const BYTES_MAX: u64 = 512 * 1024;
/// Kinds of failures that are counted.
pub const CODES_MAX: usize = 64;

/// The state of all managed certificates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Renewals {
    /// When the last run ended, in seconds since 1970.
    pub at: i64,
    /// When the CA is next asked for renewal information (RFC 9773 §4.3).
    #[serde(default)]
    pub poll_at: i64,
    /// One for each certificate.
    pub certificates: Vec<Renewal>,
    /// Failures by code, since the boot.
    pub failures: BTreeMap<String, u64>,
}

/// The state of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Renewal {
    /// Its hosts.
    pub names: Vec<String>,
    /// The directory of the CA that issued it, or that will; [`local::NAME`](super::local::NAME) of the local CA.
    pub directory: String,
    /// It comes from a CA for trials: browsers refuse it.
    pub staging: bool,
    /// The requested profile.
    pub profile: String,
    /// `fine`, `issued`, `requested`, `waiting` or `failed`.
    pub outcome: String,
    /// When it ends.
    pub not_after: Option<i64>,
    /// When it is renewed or attempted next.
    pub next: Option<i64>,
    /// The reason for that time.
    pub why: Option<String>,
    /// The last failure; none after a success.
    pub failure: Option<Failure>,
}

/// A failure with its remedy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable code.
    pub code: String,
    /// What happened.
    pub found: String,
    /// What it means.
    pub means: String,
    /// What to do.
    pub remedy: String,
    /// When.
    pub at: i64,
}

/// Reads the result of the last run; `None` if there was no run since the boot, or the file is not valid.
pub fn read(folder: &Path) -> Option<Renewals> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(folder.join(FILE), flags, Mode::empty()).ok()?);
    let about = file.metadata().ok()?;
    if !about.is_file() || about.len() > BYTES_MAX {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    decode(&bytes)
}

impl Renewals {
    /// Without what may be a key: it is no secret what `sanedge renew` writes, but the file may be another one.
    fn shown(mut self) -> Self {
        self.certificates.retain(|one| one.names.iter().all(|name| is_name(name)));
        for one in &mut self.certificates {
            let failure = one.failure.iter_mut();
            let of_failure = failure.flat_map(|f| [&mut f.code, &mut f.found, &mut f.means, &mut f.remedy]);
            let own = [&mut one.directory, &mut one.profile, &mut one.outcome];
            let texts = own.into_iter().chain(&mut one.why).chain(of_failure);
            texts.filter(|text| !text.is_empty()).for_each(|text| *text = kept_text(text));
        }
        self.failures = self.failures.into_iter().map(|(code, count)| (kept_text(&code), count)).collect();
        self
    }
}

/// From the bytes of the file, without what may be a key.
pub fn decode(bytes: &[u8]) -> Option<Renewals> {
    let told: Renewals = serde_json::from_slice(bytes).ok()?;
    (told.failures.len() <= CODES_MAX).then(|| told.shown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_the_file_is_not_told() {
        let key = "MC4CAQAwBQYDK2VwBCIEIOB4yvQh9ZrTkWm3xN8sJ0LpFcUa5dGe7HtXi1RnSbK6";
        let text = || key.to_owned();
        let failure = Failure { code: text(), found: text(), means: text(), remedy: text(), at: 1 };
        let bad = Renewal {
            names: vec!["a.b".to_owned()],
            directory: format!("https://{key}/"),
            profile: text(),
            outcome: text(),
            why: Some(text()),
            failure: Some(failure),
            ..Renewal::default()
        };
        let good = Renewal {
            names: vec!["recre.store".to_owned()],
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            profile: "tlsserver".to_owned(),
            outcome: "failed".to_owned(),
            failure: Some(Failure {
                code: "acme-connection".to_owned(),
                found: "192.0.2.1: Fetching http://recre.store/: Timeout during connect (likely firewall problem)".to_owned(),
                ..Failure::default()
            }),
            ..Renewal::default()
        };
        let named = Renewal { names: vec![text()], ..Renewal::default() };
        let failures = BTreeMap::from([(text(), 1), ("acme-connection".to_owned(), 2)]);
        let told =
            Renewals { at: 7, poll_at: 0, certificates: vec![bad, good.clone(), named], failures }.shown();
        assert!(!serde_json::to_string(&told).unwrap().contains(&key[..16]), "{told:?}");
        assert_eq!((told.certificates.len(), &told.certificates[1]), (2, &good));
        assert_eq!(told.failures.get("acme-connection"), Some(&2));
    }

    #[test]
    fn only_a_regular_file_of_bounded_size_and_this_form_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert_eq!(read(folder.path()), None);
        let mut told = Renewals { at: 7, certificates: vec![Renewal::default()], ..Renewals::default() };
        std::fs::write(&path, serde_json::to_vec(&told).unwrap()).unwrap();
        assert_eq!(read(folder.path()), Some(told.clone()));
        for bad in [&b""[..], b"{", b"[]", b"{\"at\":\"x\"}"] {
            assert_eq!(decode(bad), None);
        }
        told.failures = (0..CODES_MAX).map(|n| (n.to_string(), 1)).collect();
        assert!(decode(&serde_json::to_vec(&told).unwrap()).is_some());
        told.failures.insert("one more".to_owned(), 1);
        assert!(decode(&serde_json::to_vec(&told).unwrap()).is_none());
        std::fs::write(&path, vec![b' '; BYTES_MAX as usize + 1]).unwrap();
        assert_eq!(read(folder.path()), None);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert_eq!(read(folder.path()), None);
    }
}
