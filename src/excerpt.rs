//! The one way from input to a text that people or programs read: findings, errors, JSON, log lines, answers.
//!
//! Input is any byte of a file, an argument or a remote answer. It may be a private key: pasted into sanedge.toml, named where a
//! certificate belongs, or with its line ends lost. An [`Excerpt`] never shows one:
//!
//! - nothing behind `-----BEGIN`, nor behind the words `PRIVATE KEY`;
//! - no run of [`RUN_CHARS_MAX`] or more characters of base64 (also of its URL-safe form) or hexadecimal, counted without what
//!   stands between them (blanks, line ends, `\n` as two characters, `:`, quotes), unless the run reads as words;
//! - at most [`CHARS_MAX`] characters;
//! - no control character, and nothing that a reader cannot see.
//!
//! A path that exists is shown whole ([`Excerpt::of_path`]); of another one the part that exists, and an excerpt of the rest. A
//! [`Host`](crate::names::Host) or an address that was parsed is shown by its own `Display`.
//!
//! "Reads as words" is what lets `/etc/letsencrypt/live` and `CN=ISRG Root X1` through: short tokens of letters whose case does not
//! jump. Base64 of random bytes changes between lower case, upper case and digits at two of five characters, and a token of it has 32
//! characters on average: the 43 characters of a 32-byte key pass with a probability below one in a million, longer keys with none
//! to speak of. Hexadecimal is one token.

use std::fmt::{self, Write as _};
use std::ops::Deref;
use std::path::{Component, Path, PathBuf};

/// Most characters of an excerpt, but for a path that exists.
pub const CHARS_MAX: usize = 96;
/// Characters of base64 or hexadecimal in a row that may be a secret: 12 bytes.
pub const RUN_CHARS_MAX: usize = 16;
/// Bytes of a text that are looked at: ten times what can be shown, and little work where clients send much.
const LOOKED_AT_BYTES_MAX: usize = 1024;
/// Longest token that can be a word.
const WORD_CHARS_MAX: usize = 20;

/// What may be shown of a text from outside; one line.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Excerpt(Box<str>);

impl Excerpt {
    /// Of a text.
    pub fn of(text: &str) -> Self {
        let (text, cut) = beginning(text);
        let mut shown = String::new();
        for run in text.split_inclusive(breaks_a_run) {
            let ends_in = run.chars().next_back().filter(|c| breaks_a_run(*c));
            push_run(&mut shown, run.strip_suffix(breaks_a_run).unwrap_or(run));
            shown.extend(ends_in);
        }
        if cut {
            shown.push('…');
        }
        Self(shortened(visible(&shown)).into())
    }

    /// The text, where nothing of it has to be hidden: for a command, which must not be wrong.
    pub fn all_of(text: &str) -> Option<Self> {
        Some(Self::of(text)).filter(|excerpt| **excerpt == *text)
    }

    /// Whether an excerpt of this text leaves something out.
    pub fn hides(text: &str) -> bool {
        *Self::of(text) != *visible(text)
    }

    /// Of bytes that are mostly text.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::of(&String::from_utf8_lossy(bytes))
    }

    /// Of a path: whole where something is there, else the part that exists and an excerpt of the rest.
    pub fn of_path(path: &Path) -> Self {
        let mut there = PathBuf::new();
        let mut rest = path.components();
        while let Some(next) = rest.clone().next() {
            if !exists(&there.join(next)) {
                break;
            }
            there.push(next);
            rest.next();
        }
        let rest = rest.as_path();
        if rest.as_os_str().is_empty() {
            return Self::whole(path);
        }
        let above = Self::whole(&there);
        let slash =
            if there.as_os_str().is_empty() || there.ends_with(Component::RootDir) { "" } else { "/" };
        Self(format!("{above}{slash}{}", Self::of(&rest.to_string_lossy())).into())
    }

    /// Of a file's name as it was written, the file being at `path`.
    pub fn of_file(written: &str, path: &Path) -> Self {
        if exists(path) {
            Self::whole(Path::new(written))
        } else if Path::new(written).is_absolute() {
            Self::of_path(Path::new(written))
        } else {
            Self::of(written)
        }
    }

    /// Of a path whose name was derived from `original`: whole where the original exists. What a command is to write.
    pub fn of_derived(path: &Path, original: &Path) -> Self {
        if exists(original) { Self::whole(path) } else { Self::of_path(path) }
    }

    fn whole(path: &Path) -> Self {
        Self(visible(&path.to_string_lossy()).into())
    }
}

fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

fn shortened(mut text: String) -> String {
    let longer = text.char_indices().nth(CHARS_MAX).is_some();
    if let Some((end, _)) = text.char_indices().nth(CHARS_MAX - 1).filter(|_| longer) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The beginning of `text`, up to where a key begins, and whether it goes on behind.
fn beginning(text: &str) -> (&str, bool) {
    let whole = text.len();
    let text = text.get(..text.floor_char_boundary(LOOKED_AT_BYTES_MAX)).unwrap_or(text);
    let dashes = ['-', '‐', '‑', '–', '—', '−'];
    let begin =
        text.match_indices("BEGIN").find(|(at, _)| text.get(..*at).is_some_and(|t| t.ends_with(dashes)));
    let ends = [begin, text.match_indices("PRIVATE KEY").next()];
    let end = ends.iter().flatten().map(|(at, word)| at + word.len()).min().unwrap_or(text.len());
    (text.get(..end).unwrap_or_default(), end < whole)
}

/// What stands in no encoding of a key and between no two parts of one, and structures hosts, file names and addresses.
fn breaks_a_run(c: char) -> bool {
    matches!(c, '.' | '@' | '~' | '*') || (!c.is_ascii() && c.is_alphanumeric())
}

/// Of base64 in both alphabets, and so of hexadecimal.
fn counts(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '=')
}

fn push_run(shown: &mut String, run: &str) {
    let characters = || unescaped(run).filter(|(_, c)| counts(*c));
    let tokens = tokens(run);
    let mut words = Words::default();
    tokens.iter().for_each(|(_, token)| words.add(token));
    if characters().count() < RUN_CHARS_MAX || words.hold() {
        shown.push_str(run);
        return;
    }
    // The words in front tell people what it was; fewer than a run of them, whatever they are.
    let mut words = Words::default();
    let front = |at: usize| characters().filter(|(begin, _)| *begin < at).count();
    let mut end = 0;
    let strange = tokens.iter().find(|(at, token)| {
        words.add(token);
        let reads = words.hold() && front(at + token.len()) < RUN_CHARS_MAX;
        end = if reads { at + token.len() } else { end };
        !reads
    });
    let at = strange.map_or(0, |(at, _)| *at);
    let at = if front(at) < RUN_CHARS_MAX { at } else { end };
    let hidden = characters().filter(|(begin, _)| *begin >= at).count();
    shown.push_str(run.get(..at).unwrap_or_default());
    let _ = write!(shown, "[{hidden} characters hidden]");
}

/// Characters and their offsets, without the letter of an escaped line end or tab.
fn unescaped(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut before = ' ';
    text.char_indices().filter(move |(_, c)| {
        let escapes = before == '\\' && matches!(c, 'n' | 'r' | 't');
        before = *c;
        !escapes
    })
}

/// Letters and digits in a row, and where they begin.
fn tokens(run: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut end = None;
    for (at, c) in unescaped(run).filter(|(_, c)| c.is_ascii_alphanumeric()) {
        match found.last_mut().filter(|_| end == Some(at)) {
            Some((_, token)) => token.push(c),
            None => found.push((at, c.to_string())),
        }
        end = Some(at + 1);
    }
    found
}

/// Whether tokens read as words, taken together.
#[derive(Default)]
struct Words {
    tokens: usize,
    characters: usize,
    digits: usize,
    /// Between lower case, upper case and digits, but for a capital in front and digits behind.
    jumps: usize,
    /// One is longer than any word, or has a letter four times in a row.
    no_word: bool,
}

impl Words {
    fn add(&mut self, token: &str) {
        let stem = token.trim_end_matches(|c: char| c.is_ascii_digit());
        let pairs = stem.chars().zip(stem.chars().skip(1));
        let jumps = |(one, other): (char, char)| {
            one.is_ascii_digit() != other.is_ascii_digit()
                || (one.is_ascii_lowercase() && other.is_ascii_uppercase())
        };
        self.jumps += pairs.filter(|pair| jumps(*pair)).count();
        self.digits += token.chars().filter(char::is_ascii_digit).count();
        self.characters += token.len();
        self.tokens += 1;
        let same = token.as_bytes().windows(4).any(|four| four.iter().all(|byte| Some(byte) == four.first()));
        self.no_word |= token.len() > WORD_CHARS_MAX || same;
    }

    fn hold(&self) -> bool {
        !self.no_word
            && self.jumps * 12 <= self.characters
            && self.digits * 4 <= self.characters
            && self.tokens * 4 <= self.characters + 8
    }
}

/// `text` with everything that a terminal would act on, or that a reader cannot see, written as `\u{…}`.
pub fn visible(text: &str) -> String {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().fold(String::new(), |mut out, c| {
        if unseen(c) {
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
        out
    })
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Excerpt {
    /// In quotes, without a second escape.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl Deref for Excerpt {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<&str> for Excerpt {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl From<Excerpt> for String {
    fn from(excerpt: Excerpt) -> Self {
        excerpt.0.into()
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        Excerpt::of(text).into()
    }

    #[test]
    fn what_people_write_stays_whole() {
        for text in [
            "socket..recre.store",
            "recre.store:8443",
            "https://socket.recre.store/path",
            "30sec",
            "16 Kilobytes",
            "proxy_read_timeout_seconds",
            "certs/recre.store/fullchain.pem",
            "/nowhere/letsencrypt/live/recre.store/fullchain.pem",
            "unix:/run/chat-app/app.sock",
            "CN=ISRG Root X1, O=Internet Security Research Group, C=US",
            "CN=DigiCert TLS Hybrid ECC SHA384 2020 CA1, O=DigiCert Inc, C=US",
            "CN=GlobalSign Root CA, O=GlobalSign nv-sa",
            "/socket.io/?EIO=4&transport=polling",
            "/api/v1/notifications/",
            "인증서/fullchain.pem",
            "raspberrypi 4",
            "",
        ] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        assert_eq!(shown("key: -----BEGIN PRIVATE KEY-----\nMC4CAQAwBQ"), "key: -----BEGIN…");
        assert_eq!(shown("-----BEGIN"), "-----BEGIN");
        assert_eq!(shown("RSA PRIVATE KEY: abc"), "RSA PRIVATE KEY…");
        assert_eq!(shown("MC4CAQAwBQYDK2VwBCIEIA"), "[22 characters hidden]");
        assert_eq!(shown("key = \"MC4CAQAwBQYDK2VwBCIEIA=="), "key = \"[24 characters hidden]");
        assert_eq!(shown("30:77:02:01:01:04:20:a9"), "[16 characters hidden]");
        assert_eq!(shown("0x30, 0x77, 0x02, 0x01"), "[16 characters hidden]");
        assert_eq!(shown("/run/app/MC4CAQAwBQYDK2VwBCIEIA"), "/run/app/[22 characters hidden]");
        assert_eq!(shown("MC4CAQ\\nAwBQYD\\r\\nK2VwBC"), "[18 characters hidden]");
        assert_eq!(
            shown("ABAAAE9+ABAAABA+AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            "ABAAAE9+ABAAABA[29 characters hidden]"
        );
        assert_eq!(shown("deadbeefdeadbeefdeadbeefdeadbeef"), "[32 characters hidden]");
        assert_eq!(shown("M C 4 C A Q A w B Q Y D K 2 V w"), "M C [14 characters hidden]");
    }

    #[test]
    fn a_run_is_hidden_at_its_bound_and_not_below() {
        assert_eq!(shown("MC4CAQAwBQYDK2V"), "MC4CAQAwBQYDK2V");
        assert_eq!(shown("MC4CAQAwBQYDK2Vw"), "[16 characters hidden]");
        assert_eq!(shown("MC4CAQAwBQ YDK2V"), "MC4CAQAwBQ YDK2V");
        assert_eq!(shown("MC4CAQAwBQ YDK2Vw"), "[16 characters hidden]");
    }

    #[test]
    fn an_excerpt_is_cut_just_above_its_bound() {
        let text = |count: usize| "a b. ".repeat(30).chars().take(count).collect::<String>();
        assert_eq!(shown(&text(CHARS_MAX)), text(CHARS_MAX));
        assert_eq!(shown(&text(CHARS_MAX + 1)), format!("{}…", text(CHARS_MAX - 1)));
    }

    #[test]
    fn an_excerpt_is_one_line_and_moves_no_cursor() {
        assert_eq!(shown("a\nb\x1b[2J\u{202e}c"), "a\\u{a}b\\u{1b}[2J\\u{202e}c");
    }

    #[test]
    fn of_a_path_the_part_that_exists_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("MC4CAQAwBQYDK2VwBCIEIAmc4caqawbqydk2vwbcieia");
        std::fs::create_dir(&odd).unwrap();
        let of = |path: &Path| String::from(Excerpt::of_path(path));
        let text = odd.to_str().unwrap();
        assert_eq!(of(&odd), text);
        assert_eq!(of(&odd.join("key.pem")), format!("{text}/key.pem"));
        assert_eq!(of(&odd.join("MC4CAQAwBQYDK2VwBCIEIA.pem")), format!("{text}/[22 characters hidden].pem"));
        assert_eq!(of(Path::new("/MC4CAQAwBQ/YDK2VwBCIEIA")), "/[23 characters hidden]");
        assert_eq!(of(Path::new("no/such/file.pem")), "no/such/file.pem");
        assert_eq!(of(Path::new("")), "");
        let written = "MC4CAQAwBQYDK2VwBCIEIA.pem";
        assert_eq!(&*Excerpt::of_file(written, &odd), written);
        assert_eq!(&*Excerpt::of_file(written, Path::new("/no/such")), "[22 characters hidden].pem");
        assert_eq!(
            &*Excerpt::of_file("/no/MC4CAQAwBQYDK2VwBCIEIA", Path::new("/no")),
            "/no/[22 characters hidden]"
        );
        assert_eq!(of(Path::new("/etc")), "/etc");
        assert_eq!(
            of(&std::env::temp_dir().join("x".repeat(5000))),
            format!("{}/[1024 characters hidden]…", std::env::temp_dir().display())
        );
    }

    /// Text as a secret is found in: base64 of random bytes in either alphabet, or hexadecimal, with something in between.
    fn secret_text() -> impl Strategy<Value = (String, String)> {
        use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
        let form = |bytes: &[u8], form: u8| match form {
            0 => STANDARD.encode(bytes),
            1 => URL_SAFE_NO_PAD.encode(bytes),
            _ => bytes.iter().map(|b| format!("{b:02x}")).collect(),
        };
        let between = prop::sample::select(vec![
            "", "\n", "\\n", " ", ":", "\r\n    ", "\" \"", "\\n\\\n", ", ", "\u{feff}", "\0",
        ]);
        let bytes = prop::collection::vec(any::<u8>(), 32..200);
        (bytes, 0u8..3, 1usize..80, between).prop_map(move |(bytes, kind, width, between)| {
            let secret = form(&bytes, kind);
            let lines: Vec<String> = secret
                .as_bytes()
                .chunks(width)
                .map(|line| String::from_utf8_lossy(line).into_owned())
                .collect();
            (secret, lines.join(between))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn no_window_of_a_secret_is_shown(
            (secret, text) in secret_text(),
            before in "[ -~]{0,20}",
            behind in "[ -~]{0,20}",
        ) {
            let shown = shown(&format!("{before}{text}{behind}"));
            let bare: String = shown.chars().filter(|c| counts(*c)).collect();
            for window in secret.as_bytes().windows(RUN_CHARS_MAX) {
                prop_assert!(!bare.contains(std::str::from_utf8(window).unwrap()), "{text}\n{shown}");
            }
            prop_assert!(shown.chars().count() <= CHARS_MAX);
        }

        #[test]
        fn any_text_has_an_excerpt(text in ".{0,300}") {
            let shown = shown(&text);
            prop_assert!(shown.chars().count() <= CHARS_MAX && !shown.chars().any(char::is_control));
        }
    }
}
