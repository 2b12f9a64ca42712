//! The files of nginx below one folder, within bounds: none outside it is opened, and a link that leaves it is not followed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use super::known::{self, Fate, Row};
use super::syntax::{self, Directive};
use crate::bundle::source::{FileTrouble, read_bounded};

/// Largest file, in bytes: NPM's have two thousand.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// All files together.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Files: NPM has one for each host.
const FILES_MAX: usize = 2048;
/// Names in a folder.
const ENTRIES_MAX: usize = 8192;
/// Directives of all files, and their words.
const WORDS_MAX: usize = 400_000;
/// Files that include each other.
const INCLUDE_DEPTH_MAX: usize = 8;
/// Lines with `include`: NPM has five for each host.
const INCLUDES_MAX: usize = 20_000;

/// Folders of NPM's `data/nginx`, in the order in which nginx reads them.
const KINDS: [&str; 5] = ["default_host", "proxy_host", "redirection_host", "dead_host", "stream"];

const LINK: &str = "a link that leaves the folder is not followed";
const OUTSIDE: Fate = Fate::Closed("a file outside the folder is not read: read what it protects");
const TOO_MANY: Fate = Fate::Closed("more files include each other than are read: read what it protects");
const UNREADABLE: Fate = Fate::Closed("the file cannot be read: see the line about it");
const MISSING: Fate = Fate::Closed("there is no such file");
const NO_FILE: Fate = Fate::Fine("no file has such a name");
const PATTERN: Fate = Fate::Closed("a pattern or variable in a folder's name is not followed");

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// What stands at the top of the files, in their order.
    pub(crate) top: Vec<Directive>,
    /// Their names below the folder.
    pub(crate) labels: Vec<String>,
    /// Files that were not read.
    pub(crate) rows: Vec<Row>,
    /// The folder, or the one file.
    root: PathBuf,
    /// What NPM's container has as `/data/nginx`.
    nginx: Option<PathBuf>,
    /// What it has as `/data`.
    data: Option<PathBuf>,
    pub(crate) is_npm: bool,
    bytes: usize,
    words: usize,
    includes: usize,
    /// A bound of all files together was met: no further one is read.
    is_full: bool,
}

/// Reads what is at `path`: NPM's folder or its `data`, `data/nginx` or one of the folders in it, `/etc/nginx`, or one file.
///
/// # Errors
/// Nothing is there.
pub(crate) fn read(path: &Path) -> std::io::Result<Tree> {
    let root = fs::canonicalize(path)?;
    let is_kind = |folder: &Path| KINDS.iter().any(|kind| folder.ends_with(kind));
    let has_kind = |folder: &PathBuf| KINDS.iter().any(|kind| folder.join(kind).is_dir());
    let nginx = [root.join("data/nginx"), root.join("nginx"), root.clone()].into_iter().find(has_kind);
    let mut tree = Tree { root: root.clone(), is_npm: nginx.is_some() || is_kind(&root), ..Tree::default() };
    tree.is_npm |= root.is_file() && root.parent().is_some_and(is_kind);
    if let Some(nginx) = nginx {
        tree.data = nginx.parent().filter(|data| data.starts_with(&tree.root)).map(Path::to_owned);
        tree.nginx = Some(nginx.clone());
        tree.folder(&nginx.join("custom"), "conf");
        KINDS.iter().for_each(|kind| tree.folder(&nginx.join(kind), "conf"));
    } else if root.is_file() {
        tree.file_at_top(&root);
    } else if root.join("nginx.conf").is_file() {
        tree.file_at_top(&root.join("nginx.conf"));
    } else {
        tree.folder(&root, if root.ends_with("sites-enabled") { "" } else { "conf" });
        tree.folder(&root.join("conf.d"), "conf");
        tree.folder(&root.join("sites-enabled"), "");
    }
    Ok(tree)
}

impl Tree {
    /// All files of a folder whose names end as they should.
    fn folder(&mut self, folder: &Path, ending: &str) {
        if !folder.is_dir() {
            return;
        }
        match listed(folder) {
            Ok(names) => {
                for name in names {
                    let path = folder.join(&name);
                    let is_included = folder.ends_with("custom") && name.starts_with("server_");
                    if path.is_dir() || name.starts_with('.') || is_included {
                        continue;
                    }
                    if ending.is_empty() || name.ends_with(".conf") {
                        self.file_at_top(&path);
                    } else if name.ends_with(".conf.err") {
                        self.fault(&path, 0, "NPM set this file aside, because nginx refused it");
                    }
                }
            }
            Err(what) => self.fault(folder, 0, what),
        }
    }

    fn file_at_top(&mut self, path: &Path) {
        // Servers there are of other protocols than HTTP.
        let other = ["stream", "events"].into_iter().filter(|_| self.is_npm).find(|kind| {
            let is_custom = || path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind));
            let above = path.parent();
            above.is_some_and(|folder| folder.ends_with(kind) || (folder.ends_with("custom") && is_custom()))
        });
        let Some(read) = self.file(path, 0) else { return };
        match (other, read.first().map(|first| first.file)) {
            (Some(kind), Some(file)) => {
                let name = kind.to_owned();
                self.top.push(Directive { file, line: 1, name, body: Some(read), ..Directive::default() });
            }
            _ => self.top.extend(read),
        }
    }

    fn file(&mut self, path: &Path, depth: usize) -> Option<Vec<Directive>> {
        if self.is_full {
            return None;
        }
        let read = match fs::canonicalize(path) {
            Err(_) => Err((0, "the file cannot be read")),
            Ok(real) if !real.starts_with(&self.root) => Err((0, LINK)),
            Ok(_) if self.labels.len() >= FILES_MAX => {
                Err((0, self.full("no more than 2048 files are read")))
            }
            Ok(real) => self.parsed(&real),
        };
        let mut directives = match read {
            Ok(directives) => directives,
            Err((line, what)) => {
                self.fault(path, line, what);
                return None;
            }
        };
        self.include(&mut directives, depth);
        Some(directives)
    }

    fn parsed(&mut self, real: &Path) -> Result<Vec<Directive>, (u32, &'static str)> {
        let bytes = match read_bounded(real, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(FileTrouble::Empty) => Vec::new(),
            Err(FileTrouble::TooLarge(_)) => return Err((0, "the file has more than 1 MiB")),
            Err(FileTrouble::NotRegular(_)) => return Err((0, "this is not a file")),
            Err(_) => return Err((0, "the file cannot be read")),
        };
        self.bytes += bytes.len();
        if self.bytes > BYTES_MAX {
            return Err((0, self.full("all files together have more than 16 MiB: no further one is read")));
        }
        let file = u16::try_from(self.labels.len()).unwrap_or(u16::MAX);
        let directives = syntax::parse(&bytes, file).map_err(|fault| (fault.line, fault.what))?;
        self.words += words(&directives);
        if self.words > WORDS_MAX {
            return Err((
                0,
                self.full("all files together have more than 400000 words: no further one is read"),
            ));
        }
        self.label(real);
        Ok(directives)
    }

    /// Puts what each `include` names into its body.
    fn include(&mut self, directives: &mut [Directive], depth: usize) {
        for directive in directives {
            if directive.name == "include" {
                let path = directive.words.first().cloned().unwrap_or_default();
                match self.included(&path, depth) {
                    Ok(read) => directive.body = Some(read),
                    Err(fate) => directive.unread = Some(fate),
                }
            } else if let Some(body) = &mut directive.body {
                self.include(body, depth);
            }
        }
    }

    fn included(&mut self, written: &str, depth: usize) -> Result<Vec<Directive>, Fate> {
        let known = known::include(written);
        let (folder, name) = written.rsplit_once('/').unwrap_or(("", written));
        if written.contains('$') || folder.contains(['*', '?', '[']) {
            return Err(PATTERN);
        }
        self.includes += 1;
        if depth == INCLUDE_DEPTH_MAX || self.includes > INCLUDES_MAX || self.is_full {
            return Err(TOO_MANY);
        }
        let Some(folder) =
            self.placed(if written.starts_with('/') && folder.is_empty() { "/" } else { folder })
        else {
            return Err(known.unwrap_or(OUTSIDE));
        };
        let names = match listed(&folder) {
            Err(_) if is_absent(&folder) => Vec::new(),
            listed => listed.map_err(|_| UNREADABLE)?,
        };
        let names: Vec<_> = names.into_iter().filter(|found| matches_pattern(name, found)).collect();
        if names.is_empty() {
            let is_pattern = name.contains(['*', '?', '[']);
            return Err(if is_pattern { NO_FILE } else { known.unwrap_or(MISSING) });
        }
        let read: Option<Vec<_>> =
            names.iter().map(|name| self.file(&folder.join(name), depth + 1)).collect();
        read.map(|all| all.into_iter().flatten().collect()).ok_or(UNREADABLE)
    }

    /// Where a folder or file that nginx knows by `path` is below the root; none where it cannot be there.
    pub(crate) fn placed(&self, path: &str) -> Option<PathBuf> {
        let written = Path::new(path);
        if written.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        let moved = |from: &str, to: Option<PathBuf>| {
            written.strip_prefix(from).ok().and_then(|rest| Some(to?.join(rest)))
        };
        let below = |folder: &str| Some(self.root.join(folder));
        let candidates = [
            written.starts_with(&self.root).then(|| written.to_owned()),
            moved("/data/nginx", self.nginx.clone()),
            moved("/data", self.data.clone()),
            moved("/etc/letsencrypt", below("letsencrypt")),
            moved("/etc/letsencrypt", self.data.as_ref().map(|data| data.join("letsencrypt"))),
            moved("/etc/nginx", below("")),
            written.is_relative().then(|| self.root.join(written)),
        ];
        let is_there = |path: &PathBuf| fs::symlink_metadata(path).is_ok();
        let fits: Vec<_> = candidates.into_iter().flatten().collect();
        fits.iter().find(|path| is_there(path)).or(fits.first()).cloned()
    }

    /// Whether what is at `path` is below the folder, links followed; none where this user may not look.
    pub(crate) fn holds(&self, path: &Path) -> Option<bool> {
        match fs::canonicalize(path) {
            Ok(real) => Some(real.starts_with(&self.root)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
            Err(_) => Some(false),
        }
    }

    fn full(&mut self, what: &'static str) -> &'static str {
        self.is_full = true;
        what
    }

    fn fault(&mut self, path: &Path, line: u32, what: &'static str) {
        let file = self.label(path);
        self.rows.push(Row { file, line, name: String::new(), fate: Fate::Closed(what) });
    }

    fn label(&mut self, path: &Path) -> u16 {
        let below = path.strip_prefix(&self.root).ok().filter(|below| !below.as_os_str().is_empty());
        let label = below.or_else(|| path.file_name().map(Path::new)).unwrap_or(path);
        self.labels.push(crate::excerpt::Excerpt::of_file(&label.to_string_lossy(), path).to_string());
        u16::try_from(self.labels.len() - 1).unwrap_or(u16::MAX)
    }
}

fn is_absent(path: &Path) -> bool {
    let absent =
        |error: std::io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    fs::symlink_metadata(path).is_err_and(absent)
}

fn words(directives: &[Directive]) -> usize {
    directives.iter().map(|one| 1 + one.words.len() + one.body.as_deref().map_or(0, words)).sum()
}

/// How many directives there are, with those in blocks.
pub(super) fn count(directives: &[Directive]) -> usize {
    directives.iter().map(|one| 1 + one.body.as_deref().map_or(0, count)).sum()
}

/// The names in a folder: 2.conf before 10.conf.
fn listed(folder: &Path) -> Result<Vec<String>, &'static str> {
    let entries = fs::read_dir(folder).map_err(|_| "the folder cannot be read")?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.take(ENTRIES_MAX + 1).collect();
    if names.len() > ENTRIES_MAX {
        return Err("the folder has more than 8192 entries");
    }
    let number = |name: &str| name.split('.').next().and_then(|front| front.parse::<u64>().ok());
    names.sort_by_cached_key(|name| (number(name).unwrap_or(u64::MAX), name.clone()));
    Ok(names)
}

/// Whether glob(7)'s `pattern` is `name`: `*`, `?` and `[…]` of single characters.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Which beginnings of the name the pattern so far is.
    let mut fits = vec![false; name.len() + 1];
    if let Some(first) = fits.first_mut() {
        *first = true;
    }
    let mut rest = pattern.as_slice();
    while let Some((&c, after)) = rest.split_first() {
        rest = after;
        let class = after
            .iter()
            .position(|&c| c == ']')
            .filter(|_| c == '[')
            .and_then(|end| after.split_at_checked(end));
        if c == '*' {
            let mut any = false;
            fits.iter_mut().for_each(|fits| {
                any |= *fits;
                *fits = any;
            });
            continue;
        }
        let is = |found: char| match class {
            Some((class, _)) => class.contains(&found),
            None => c == '?' || c == found,
        };
        if let Some((_, behind)) = class {
            rest = behind.get(1..).unwrap_or_default();
        }
        let longer = name.iter().zip(&fits).map(|(&found, &fits)| fits && is(found));
        fits = std::iter::once(false).chain(longer).collect();
    }
    fits.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_the_shell() {
        for (pattern, name, fits) in [
            ("server_proxy[.]conf", "server_proxy.conf", true),
            ("server_proxy[.]conf", "server_proxyxconf", false),
            ("*.conf", "1.conf", true),
            ("*.conf", ".hidden.conf", false),
            ("*", "default", true),
            ("a?c*", "abcd", true),
            ("a?c*", "ac", false),
            ("", "", true),
            ("[ab", "[ab", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches_pattern(pattern, name), fits, "{pattern} {name}");
        }
    }
}
