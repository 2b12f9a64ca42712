//! A private key in each string of a sanedge.toml and in each file that it names, for each finding code, in each shape: nothing that
//! `bundle`, `show` and `doctor` say of it, nor what they write for everybody to read, shows a part of it.
//!
//! `cargo test` tries each position with each shape beside other positions that hold keys too, and each position alone with some
//! shapes. Each position alone with each shape, a key of its own: `cargo test --release --test it leaks_findings:: -- --ignored`.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rcgen::{KeyPair, date_time_ymd};
use sanedge::bundle::compile::{InPlace, Outcome, carry_over, compile};
use sanedge::bundle::finding::Code;
use sanedge::bundle::{Bundle, freshness, report};
use sanedge::doctor;

use crate::bundle_refuses::{Row, rows};
use crate::support::certs::leaf_params;
use crate::support::odd_certs::Folder;
use crate::support::program;
use crate::support::secret::{Secret, toml};
use crate::support::{cores, each};

/// Everything that `bundle` and `show` say of a file, and doctor's report; by the functions that print them. Also `x.acme`, which
/// everybody may read.
pub(crate) fn said(outcome: &Outcome, path: &Path, now: i64, with_doctor: bool) -> String {
    let mut said = report::findings(&outcome.findings, false)
        + &report::table(&outcome.hosts)
        + &report::websockets(&outcome.websockets)
        + &report::count(&outcome.findings)
        + &report::outcome_json(outcome, Some(path)).to_string();
    if let Some(plan) = &outcome.plan
        && outcome.bundle.is_some()
    {
        said += &String::from_utf8(plan.encode()).unwrap();
    }
    let bytes = outcome.bundle.as_ref().map(|bytes| zeroize::Zeroizing::new(bytes.to_vec()));
    match bytes.map(|bytes| Bundle::decode(bytes).unwrap()) {
        Some(bundle) => {
            said += &report::bundle(&bundle, now);
            said += &report::bundle_json(&bundle, now).to_string();
            let fresh = Some((&path.to_owned(), Outcome::default()));
            for trouble in freshness::check(&bundle, path, fresh, now) {
                said += &trouble.to_string();
            }
        }
        None if with_doctor => {
            let options = doctor_options(path);
            let report = doctor::files(&options).unwrap_or_default();
            said += &doctor::render::text(&report, false, true);
            said += &doctor::render::json(&report).to_string();
            said += &doctor::paste::text(&report, &options);
        }
        None => {}
    }
    said
}

fn doctor_options(path: &Path) -> doctor::Options {
    use clap::{Args as _, FromArgMatches as _};
    let command = doctor::Options::augment_args(clap::Command::new("doctor"));
    let given = command.get_matches_from(["doctor", path.to_str().unwrap()]);
    doctor::Options::from_arg_matches(&given).unwrap()
}

/// Where the strings of a sanedge.toml are, without their quotes.
fn strings(source: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let (mut open, mut escaped, mut comment) = (None, false, false);
    for (at, c) in source.char_indices() {
        match (c, open) {
            ('\n', _) => (open, comment) = (None, false),
            ('#', None) => comment = true,
            ('\\', Some(_)) => escaped = !escaped,
            ('"', None) if !comment => open = Some(at + 1),
            ('"', Some(begin)) if !escaped => {
                found.push(begin..at);
                open = None;
            }
            _ => escaped = false,
        }
    }
    found
}

/// Codes that no sanedge.toml brings about, and where a key is put into what does.
pub(crate) const NO_ROW: &[(Code, &str)] = &[
    (Code::SelfCheck, "src/bundle/compile/encode.rs: a_mistake_of_ours_shows_no_key"),
    (Code::NotWritten, "a_key_as_the_name_of_the_output_is_not_shown"),
    (Code::CarriedOver, "a_key_in_what_is_carried_over_is_not_shown"),
    // Of a file at one path only.
    (Code::LocalFolder, "local.rs: a_folder_where_the_packaged_deployment_may_not_write_is_a_warning"),
    (Code::HostLeftOut, "a_key_in_what_is_carried_over_is_not_shown"),
];

/// A row's folder, and what stands in it.
struct Case<'a> {
    row: &'a Row,
    folder: Folder,
    source: String,
    files: Vec<(PathBuf, Vec<u8>)>,
    tried: &'a Tried,
}

/// What all cases have come to.
#[derive(Default)]
struct Tried {
    runs: Mutex<usize>,
    codes: Mutex<BTreeSet<Code>>,
    /// Runs that read nothing but a text that was read before.
    seen: Mutex<HashSet<String>>,
}

impl<'a> Case<'a> {
    fn new(row: &'a Row, tried: &'a Tried) -> Self {
        let mut folder = Folder::good();
        (row.bad)(&mut folder);
        let source = folder.source.clone();
        let files = fs::read_dir(folder.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.is_file() && !path.ends_with("sanedge.toml"));
        // A file that may not be read stays as it is.
        let mut files: Vec<_> =
            files.filter_map(|path| Some((path.clone(), fs::read(&path).ok()?))).collect();
        files.sort();
        Self { row, folder, source, files, tried }
    }

    fn check(&self, secret: &Secret, what: &str, with_doctor: bool) {
        let path = self.folder.sanedge_toml();
        let outcome = compile(&path, self.folder.now);
        let said = said(&outcome, &path, self.folder.now, with_doctor);
        if let Some(part) = secret.shown_in(said.as_bytes()) {
            let (row, source) = (self.row, &self.folder.source);
            panic!("{} ({:?}), {what}: shows {part}\n{source}\n{said}", row.what, row.code);
        }
        self.tried.codes.lock().unwrap().extend(outcome.findings.iter().map(|finding| finding.code));
        *self.tried.runs.lock().unwrap() += 1;
    }

    /// Puts what `text` makes of each string's number and value in its place.
    fn write_strings(&mut self, text: impl Fn(usize, &str) -> Option<String>) {
        let (mut source, mut end) = (String::new(), 0);
        for (nth, place) in strings(&self.source).into_iter().enumerate() {
            if let Some(new) = text(nth, &self.source[place.clone()]) {
                source += &self.source[end..place.start];
                source += &new;
                end = place.end;
            }
        }
        self.folder.source = source + &self.source[end..];
    }

    fn write_files(&self, content: impl Fn(usize, &[u8]) -> Vec<u8>) {
        for (nth, (path, before)) in self.files.iter().enumerate() {
            fs::write(path, content(nth, before)).unwrap();
        }
    }

    fn restore(&mut self) {
        self.folder.source.clone_from(&self.source);
        self.write_files(|_, before| before.to_vec());
    }

    fn its_own_key(&self) {
        let own = fs::read_to_string(self.folder.path("key.pem")).ok();
        if let Some(own) = own.and_then(|own| Secret::of_whole_pem(&own)) {
            self.check(&own, "its own key", true);
        }
    }

    /// Each string and each file with each shape, all strings or all files at once.
    fn together(&mut self, secret: &Secret) {
        let (shapes, contents) = (quoted(secret), secret.contents());
        for first in 0..shapes.len() {
            let shape = |nth: usize| &shapes[(first + nth) % shapes.len()].1;
            self.write_strings(|nth, _| Some(shape(nth).clone()));
            // No file is named any more: the text is all that is read.
            if self.tried.seen.lock().unwrap().insert(self.folder.source.clone()) {
                self.check(secret, &format!("all strings, from {}", shapes[first].0), first % 8 == 0);
            }
            self.write_strings(|nth, value| Some(format!("{value}{}", shape(nth))));
            if first % 3 == 0 && self.tried.seen.lock().unwrap().insert(self.folder.source.clone()) {
                self.check(secret, &format!("behind all strings, from {}", shapes[first].0), false);
            }
        }
        self.restore();
        for first in 0..contents.len() {
            let shape = |nth: usize| &contents[(first + nth) % contents.len()].1;
            self.write_files(|nth, _| shape(nth).clone());
            let names: Vec<_> = self.files.iter().map(|(path, _)| path.file_name()).collect();
            if self.tried.seen.lock().unwrap().insert(format!("{first} {names:?} {}", self.source)) {
                self.check(secret, &format!("in all files, from {}", contents[first].0), first % 8 == 0);
            }
            if first % 3 > 0 {
                continue;
            }
            self.write_files(|nth, before| [before, shape(nth)].concat());
            self.check(secret, &format!("behind all files, from {}", contents[first].0), false);
        }
        self.restore();
    }

    /// Each string and each file alone, with those shapes that `takes` of the position's number and the shape's.
    fn alone(&mut self, secret: &Secret, takes: impl Fn(usize, usize) -> bool) {
        let count = strings(&self.source).len();
        for (of_shape, (shape, text)) in quoted(secret).iter().enumerate() {
            for place in (0..count).filter(|place| takes(*place, of_shape)) {
                let at = |nth: usize| nth == place;
                self.write_strings(|nth, _| at(nth).then(|| text.clone()));
                self.check(secret, &format!("{shape} as string {place}"), place % 4 == 0);
                self.write_strings(|nth, value| at(nth).then(|| format!("{value}{text}")));
                self.check(secret, &format!("{shape} behind string {place}"), false);
            }
        }
        self.restore();
        for (of_shape, (shape, content)) in secret.contents().iter().enumerate() {
            for place in (0..self.files.len()).filter(|place| takes(count + place, of_shape)) {
                let (path, before) = &self.files[place];
                fs::write(path, content).unwrap();
                self.check(secret, &format!("{shape} in {}", path.display()), place % 4 == 0);
                fs::write(path, [before, &content[..]].concat()).unwrap();
                self.check(secret, &format!("{shape} behind {}", path.display()), false);
                fs::write(path, before).unwrap();
            }
        }
    }
}

/// The shapes as they stand between quotes.
fn quoted(secret: &Secret) -> Vec<(&'static str, String)> {
    let bare = |text: &str| {
        let quoted = toml(text);
        quoted[1..quoted.len() - 1].to_owned()
    };
    secret.shapes().into_iter().map(|(shape, text)| (shape, bare(&text))).collect()
}

#[test]
fn a_key_in_place_of_any_value_is_not_shown() {
    let (secret, tried) = (Secret::new(), Tried::default());
    let shapes = secret.shapes().len();
    each(cores(), &rows(), |row| {
        let mut case = Case::new(row, &tried);
        let begin: usize = row.what.bytes().map(usize::from).sum();
        case.its_own_key();
        case.together(&secret);
        case.alone(&secret, |place, shape| (begin + place) % shapes == shape);
    });
    tried.is_of_every_code(10_000);
}

#[test]
#[ignore = "ten minutes on two cores without --release: each position alone with each shape of a new key; the command is above"]
fn each_shape_of_a_key_alone_in_place_of_any_value_is_not_shown() {
    let (secret, tried) = (Secret::fresh(), Tried::default());
    each(cores(), &rows(), |row| {
        let mut case = Case::new(row, &tried);
        case.alone(&secret, |_, _| true);
    });
    tried.is_of_every_code(100_000);
}

impl Tried {
    fn is_of_every_code(&self, runs_min: usize) {
        let mut codes = self.codes.lock().unwrap();
        codes.extend(NO_ROW.iter().map(|(code, _)| *code));
        let missing: Vec<_> = Code::ALL.iter().filter(|code| !codes.contains(code)).collect();
        assert!(missing.is_empty(), "tried with no key: {missing:?}");
        let runs = *self.runs.lock().unwrap();
        assert!(runs > runs_min, "{runs}");
    }
}

#[test]
fn a_key_in_what_is_carried_over_is_not_shown() {
    let secret = Secret::new();
    let mut codes = BTreeSet::new();
    for (shape, text) in secret.contents() {
        let mut folder = Folder::good();
        folder.change("hosts = [\"recre.store\"]", "hosts = [\"recre.store\", \"other.recre.store\"]");
        let mut short = leaf_params(&["other.recre.store"]);
        (short.not_before, short.not_after) = (date_time_ymd(2027, 1, 1), date_time_ymd(2027, 2, 11));
        let other = folder.ca.issue_with(short, KeyPair::generate().unwrap());
        folder.certificate("other", &other);
        let in_place = compile(&folder.sanedge_toml(), folder.now).bundle.unwrap();
        // Two weeks later both sources are keys: the first host keeps what it has, and what the second has is over.
        folder.now += 14 * 86_400;
        folder.write("cert.pem", &text);
        folder.write("other.pem", &text);
        let path = folder.sanedge_toml();
        let outcome = carry_over(&path, Some(&InPlace::decode(&in_place).unwrap()), folder.now);
        codes.extend(outcome.findings.iter().map(|finding| finding.code));
        let said = said(&outcome, &path, folder.now, true);
        assert_eq!(secret.shown_in(said.as_bytes()), None, "{shape}\n{said}");
    }
    assert!(codes.contains(&Code::CarriedOver) && codes.contains(&Code::HostLeftOut), "{codes:?}");
}

#[test]
fn a_key_as_the_name_of_the_output_is_not_shown() {
    let secret = Secret::new();
    let folder = Folder::good();
    let source = folder.sanedge_toml();
    for (shape, text) in secret.shapes().iter().filter(|(_, text)| !text.contains('\0')) {
        let nowhere = folder.path("no/such/folder").join(text.trim_start_matches('/'));
        for json in [&[][..], &["--json"]] {
            let mut command = program::sanedge();
            let output =
                command.arg("bundle").args(json).arg(&source).arg("-o").arg(&nowhere).output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&said);
            assert_eq!(secret.shown_in(&said), None, "{shape}: {text}");
            assert!(json.is_empty() || text.contains("not-written"), "{shape}: {text}");
        }
    }
}
