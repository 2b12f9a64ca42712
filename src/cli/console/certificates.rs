//! The certificates that the page offers: pairs of PEM files in a few folders. The page names one by its place in the list.
//!
//! Of a chain its names are read, of a key nothing: the checks of `apply` read both. Folders in which sanedge keeps keys are left out.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::bundle::acme::local::AUTHORITY;
use crate::bundle::compile::{CHAIN_CERTIFICATES_MAX, PEM_BYTES_MAX, presented};
use crate::bundle::file::{folder_of, word};
use crate::bundle::source::{CertificateFiles, Source, read_bounded};
use crate::cli::terminal::now;
use crate::console::link::Files;
use crate::excerpt::Excerpt;
use crate::names::{Host, SanName};

/// Where certbot has a folder for each certificate.
const CERTBOT: &str = "/etc/letsencrypt/live";
/// Entries of a folder that are looked at, and pairs that are offered.
const ENTRIES_MAX: usize = 256;
const PAIRS_MAX: usize = 64;
/// Names of a certificate that are shown.
const NAMES_SHOWN: usize = 6;
/// What belongs together, by the ends of the names: chain, key.
const ENDS: [(&str, &str); 5] = [
    ("fullchain.pem", "privkey.pem"),
    ("fullchain.pem", "key.pem"),
    ("cert.pem", "key.pem"),
    (".pem", ".key"),
    (".crt", ".key"),
];

/// A certificate with its key.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    pub(super) names: Vec<SanName>,
}

impl Pair {
    /// Whether the file names it.
    pub(super) fn is_in(&self, source: &Source) -> bool {
        let same = |one: &Path, other: &Path| {
            fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
        };
        let is_it = |files: &CertificateFiles| {
            same(&files.chain.value.path, &self.chain) && same(&files.key.value.path, &self.key)
        };
        source.certificates.iter().any(is_it)
    }
}

/// The list, which only grows: a place in it stays the same pair.
#[derive(Debug, Default)]
pub(super) struct Offered {
    folder: Option<PathBuf>,
    pairs: RefCell<Vec<Pair>>,
}

impl Offered {
    pub(super) fn new(folder: Option<&Path>) -> Self {
        Self { folder: folder.map(Path::to_owned), pairs: RefCell::default() }
    }

    pub(super) fn get(&self, place: usize) -> Option<Pair> {
        self.pairs.borrow().get(place).cloned()
    }

    /// Looks for more; returns all that are still there.
    pub(super) fn shown(&self, source: &Source) -> Vec<Files> {
        let mut pairs = self.pairs.borrow_mut();
        for (chain, key) in self.folders(source).iter().flat_map(|folder| in_folder(folder)) {
            if pairs.len() >= PAIRS_MAX {
                break;
            }
            if pairs.iter().all(|pair| pair.chain != chain)
                && let Some(names) = names(&chain)
            {
                pairs.push(Pair { chain, key, names });
            }
        }
        let there = pairs.iter().enumerate().filter(|(_, pair)| pair.chain.exists() && pair.key.exists());
        there
            .map(|(place, pair)| Files { place, file: word(&pair.chain), names: listed(&pair.names) })
            .collect()
    }

    /// The folder that was given, certbot's, and those of the file's own certificates, with those in them.
    fn folders(&self, source: &Source) -> Vec<PathBuf> {
        let own = source.certificates.iter().map(|files| folder_of(&files.chain.value.path).to_owned());
        let roots: Vec<PathBuf> = self.folder.iter().cloned().chain([CERTBOT.into()]).chain(own).collect();
        let below = roots.iter().flat_map(|root| entries(root).into_iter().filter(|path| path.is_dir()));
        let kept = kept(source);
        // Also of a CA that the file no longer names.
        let has_ca = |folder: &Path| folder.join(AUTHORITY).exists();
        let mut all: Vec<PathBuf> = Vec::new();
        for folder in roots.iter().cloned().chain(below).filter_map(|folder| fs::canonicalize(folder).ok()) {
            let is_kept = kept.iter().any(|keys| folder.starts_with(keys));
            if !is_kept && !has_ca(&folder) && !all.contains(&folder) {
                all.push(folder);
            }
        }
        all
    }
}

/// Folders with keys of our own: of the local CA, and of what a CA has issued.
fn kept(source: &Source) -> Vec<PathBuf> {
    let local = source.local.iter().map(|local| &local.folder);
    let acme = source.acme.iter().flat_map(|acme| [&acme.state, &acme.challenges]);
    let usual = crate::bundle::acme::STATE.into();
    local.chain(acme).chain([&usual]).filter_map(|folder| fs::canonicalize(folder).ok()).collect()
}

/// In the order of their names.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(folder) else { return Vec::new() };
    let mut all: Vec<PathBuf> = found.take(ENTRIES_MAX).flatten().map(|entry| entry.path()).collect();
    all.sort();
    all
}

fn in_folder(folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let key_of = |chain: &Path| {
        let name = chain.file_name()?.to_str()?;
        ENDS.iter().find_map(|(end, key)| {
            let key = folder.join(format!("{}{key}", name.strip_suffix(end)?));
            (key != *chain && key.is_file()).then_some(key)
        })
    };
    entries(folder).into_iter().filter_map(|chain| key_of(&chain).map(|key| (chain, key))).collect()
}

/// The names of the first certificate of a file; `None`: it is not a chain.
fn names(chain: &Path) -> Option<Vec<SanName>> {
    let bytes = read_bounded(chain, PEM_BYTES_MAX).ok()?;
    let all = CertificateDer::pem_slice_iter(&bytes).take(CHAIN_CERTIFICATES_MAX);
    let all: Vec<CertificateDer<'static>> = all.collect::<Result<_, _>>().ok()?;
    let names = presented(&all, &[], false, now()).ok()?.names;
    Some(names).filter(|names| !names.is_empty())
}

/// The names, or the first of them.
pub(super) fn listed(names: &[SanName]) -> String {
    let shown: Vec<String> =
        names.iter().take(NAMES_SHOWN).map(|name| Excerpt::of(&name.to_string()).to_string()).collect();
    let more = names.len().saturating_sub(NAMES_SHOWN);
    format!("{}{}", shown.join(", "), if more == 0 { String::new() } else { format!(" and {more} more") })
}

/// Whether a certificate of files in sanedge.toml covers the host.
pub(super) fn has_files_for(source: &Source, host: &Host) -> bool {
    let covers = |path: &Path| names(path).is_some_and(|names| names.iter().any(|name| name.covers(host)));
    source.certificates.iter().any(|files| covers(&files.chain.value.path))
}
