//! The one way from input to a text that people or programs read: findings, errors, JSON, log lines, answers.
//!
//! Input is any byte of a file, an argument or a remote answer. It may be a private key: pasted into sanedge.toml, named where a
//! certificate belongs, or with its line ends lost. An [`Excerpt`] never shows one:
//!
//! - nothing behind `-----BEGIN`, nor behind the words `PRIVATE KEY`;
//! - no run of [`RUN_CHARS_MAX`] or more characters of base64 (also of its URL-safe form) or hexadecimal, counted without what
//!   stands between them (blanks, line ends, `\n` as two characters, `:`, quotes), unless the run reads as words;
//! - no key that is cut into shorter groups, by `.`, `*`, `@`, any other sign or single characters of its own alphabet (`scatter`);
//! - at most [`CHARS_MAX`] characters;
//! - no control character, and nothing that a reader cannot see.
//!
//! A path that exists is shown whole ([`Excerpt::of_path`]); of another one the part that exists, and an excerpt of the rest. A
//! [`Host`](crate::names::Host) that was parsed is shown by its own `Display`; an address, also with a port or a prefix, is whole.
//!
//! "Reads as words" is what lets `/etc/letsencrypt/live` and `CN=ISRG Root X1` through: short tokens of letters whose case does not
//! jump. Base64 of random bytes changes between lower case, upper case and digits at two of five characters, and a token of it has 32
//! characters on average: the 43 characters of a 32-byte key pass with a probability below one in a million, longer keys with none
//! to speak of. Hexadecimal is one token.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, Range};
use std::path::{Component, Path, PathBuf};

mod scatter;

use scatter::counts;

/// Most characters of an excerpt, but for a path that exists.
pub const CHARS_MAX: usize = 96;
/// Characters of base64 or hexadecimal in a row that may be a secret: 12 bytes.
pub const RUN_CHARS_MAX: usize = 16;
/// Bytes of a text that are looked at: ten times what can be shown, and little work where clients send much.
const LOOKED_AT_BYTES_MAX: usize = 1024;
/// Longest token that can be a word.
const WORD_CHARS_MAX: usize = 20;
/// Longest `u{…}`: six digits.
const ESCAPE_CHARS_MAX: usize = 8;
/// Longest number that may stand in a row of its like, as in an address, a date or a version.
const NUMBER_CHARS_MAX: usize = 4;

/// What may be shown of a text from outside; one line.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Excerpt(Box<str>);

impl Excerpt {
    /// Of a text.
    pub fn of(text: &str) -> Self {
        if is_address(text) {
            return Self(text.into());
        }
        let (text, cut) = beginning(text);
        let mut shown = without_secrets(text);
        if cut {
            shown.push('…');
        }
        Self(shortened(visible(&shown)).into())
    }

    /// Of bytes for a text that escapes by itself: the same ones, but for what is hidden and left out.
    pub(crate) fn bytes_of(bytes: &[u8]) -> Vec<u8> {
        let text: String = bytes.iter().take(LOOKED_AT_BYTES_MAX + 1).copied().map(char::from).collect();
        let (text, cut) = beginning(&text);
        let shown = without_secrets(text) + if cut { "…" } else { "" };
        shortened(shown)
            .chars()
            .flat_map(|c| u8::try_from(c).map_or(b"...".to_vec(), |byte| vec![byte]))
            .collect()
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
        let (there, rest) = parted(path);
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

/// A text of ours into which a remote answer may have got, without what may be a key in it; `vouched` are names, addresses and
/// paths in it that are known to be none. The last net of the doctor, whose texts are many.
pub fn netted(text: &str, vouched: &[String]) -> String {
    let first = |text: &str| {
        let places = vouched.iter().filter_map(|known| Some((text.find(known.as_str())?, known.len())));
        places.min_by_key(|(at, length)| (*at, usize::MAX - length))
    };
    let (mut netted, mut rest) = (String::new(), text);
    while let Some((at, length)) = first(rest) {
        netted += &without_secrets(rest.get(..at).unwrap_or_default());
        netted += rest.get(at..at + length).unwrap_or_default();
        rest = rest.get(at + length..).unwrap_or_default();
    }
    netted + &without_secrets(rest)
}

/// Whether a part of a text may be a key: for what is kept where everybody may read it.
pub fn may_hold_key(text: &str) -> bool {
    beginning(text).1 || !secrets(text).is_empty()
}

/// The same of the part of a path that does not exist.
pub fn path_may_hold_key(path: &Path) -> bool {
    may_hold_key(&parted(path).1.to_string_lossy())
}

/// A path, cut behind the part that exists.
fn parted(path: &Path) -> (PathBuf, &Path) {
    let mut there = PathBuf::new();
    let mut rest = path.components();
    while let Some(next) = rest.clone().next() {
        if !exists(&there.join(next)) {
            break;
        }
        there.push(next);
        rest.next();
    }
    (there, rest.as_path())
}

/// Of a text of ours that was kept in a file, which may have been edited since: only paths that exist are shown whole.
pub fn kept_text(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '`' | ',' | ':' | ';'));
    let paths = words.filter(|word| word.starts_with('/') && exists(Path::new(word)));
    netted(text, &paths.map(str::to_owned).collect::<Vec<_>>())
}

fn without_secrets(text: &str) -> String {
    let (mut shown, mut end) = (String::new(), 0);
    for hidden in secrets(text) {
        let secret = text.get(hidden.clone()).unwrap_or_default();
        let _ = write!(
            shown,
            "{}[{} hidden]",
            text.get(end..hidden.start).unwrap_or_default(),
            number(counted(secret), "character")
        );
        end = hidden.end;
    }
    shown + text.get(end..).unwrap_or_default()
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

/// What structures hosts, file names and addresses; between parts of a key only where somebody put it there (`scatter`).
fn breaks_a_run(c: char) -> bool {
    matches!(c, '.' | '@' | '~' | '*') || (!c.is_ascii() && c.is_alphanumeric())
}

/// What of `text` may be a key, in order and apart from each other: runs that do not read as words, and keys in groups.
fn secrets(text: &str) -> Vec<Range<usize>> {
    let mut found = scatter::stretches(text, &tokens(text), RUN_CHARS_MAX);
    let mut begin = 0;
    for run in text.split_inclusive(breaks_a_run) {
        let bare = run.strip_suffix(breaks_a_run).unwrap_or(run);
        found.extend(secret_of(bare).map(|at| begin + at..begin + bare.len()));
        begin += run.len();
    }
    found.sort_by_key(|hidden| hidden.start);
    found.dedup_by(|next, hidden| {
        let touches = text.get(hidden.end..next.start).is_none_or(str::is_empty);
        if touches {
            hidden.end = hidden.end.max(next.end);
        }
        touches
    });
    found
}

/// Where in a run hiding begins, if it does not read as words.
fn secret_of(run: &str) -> Option<usize> {
    let tokens = tokens(run);
    let mut words = Words::default();
    tokens.iter().for_each(|(_, token)| words.add(token));
    if counted(run) < RUN_CHARS_MAX || words.hold() || scatter::read_as_words(&tokens) {
        return None;
    }
    // The words in front tell people what it was; fewer than a run of them, whatever they are.
    let mut words = Words::default();
    let front = |at: usize| counted(run.get(..at).unwrap_or_default());
    let mut end = 0;
    let strange = tokens.iter().find(|(at, token)| {
        words.add(token);
        let reads = words.hold() && front(at + token.len()) < RUN_CHARS_MAX;
        end = if reads { at + token.len() } else { end };
        !reads
    });
    let at = strange.map_or(0, |(at, _)| *at);
    Some(if front(at) < RUN_CHARS_MAX { at } else { end })
}

/// Characters of base64 and hexadecimal, without what stands between them.
fn counted(text: &str) -> usize {
    unescaped(text).filter(|(_, c)| counts(*c)).count()
}

/// Whether the whole text is an address, with a port or the length of a network's prefix, which may be wrong.
fn is_address(text: &str) -> bool {
    let prefix = |length: &str| length.len() <= 3 && length.bytes().all(|byte| byte.is_ascii_digit());
    let ip = text.split_once('/').filter(|(_, length)| prefix(length)).map_or(text, |(ip, _)| ip);
    let bare = text.strip_prefix('[').and_then(|text| text.split_once(']')).map_or(ip, |(ip, _)| ip);
    // Eight bytes in pairs of digits are an address too, but nobody writes one with zeros in front.
    let padded = |group: &str| group.len() == 2 && group.starts_with('0');
    let parses = text.parse::<SocketAddr>().is_ok() || ip.parse::<IpAddr>().is_ok();
    parses && !bare.split(':').any(padded)
}

/// Characters and their offsets, without those of an escaped line end or tab, and of what [`visible`] writes for one unseen.
fn unescaped(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut before, mut escaped_to) = (' ', 0);
    text.char_indices().filter(move |(at, c)| {
        let rest = text.get(*at..).unwrap_or_default();
        if before == '\\' && matches!(c, 'n' | 'r' | 't') {
            escaped_to = at + 1;
        } else if before == '\\' && rest.starts_with("u{") {
            escaped_to = at + rest.find('}').filter(|length| *length <= ESCAPE_CHARS_MAX).unwrap_or(0);
        }
        before = *c;
        *at >= escaped_to
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
        // Numbers as in addresses and versions: pairs of hexadecimal digits have too many tokens.
        let number = stem.is_empty() && token.len() <= NUMBER_CHARS_MAX;
        self.digits += token.chars().filter(|c| c.is_ascii_digit() && !number).count();
        self.characters += token.len();
        self.tokens += 1;
        let same = token.as_bytes().windows(4).any(|four| four.iter().all(|byte| Some(byte) == four.first()));
        self.no_word |= token.len() > WORD_CHARS_MAX || same;
    }

    fn hold(&self) -> bool {
        !self.no_word
            && self.jumps * 12 <= self.characters
            && self.digits * 4 <= self.characters
            && self.tokens * 4 <= self.characters + 12
    }
}

/// `1 octet`, `2 octets`.
pub fn number(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
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
    use proptest::strategy::ValueTree as _;

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

    /// What servers, their clients and their owners write, from public reports.
    #[test]
    fn names_paths_addresses_and_sentences_stay_whole() {
        for text in [
            "ip-10-0-0-1.eu-west-1.compute.internal",
            "ec2-203-0-113-25.compute-1.amazonaws.com",
            "dynamic-089-012-123-045.89.12.pool.telefonica.de",
            "host86-143-22-9.range86-143.btcentralplus.com",
            "d111111abcdef8.cloudfront.net",
            "game-7f9c.up.railway.app",
            "my-release-redis-master-0.my-release-redis-headless.default.svc.cluster.local",
            "myapp-prod-eus2-01.azurewebsites.net",
            "raspberrypi4-b8-27-eb-12-34-56.local",
            "xn--bcher-kva.example",
            "한글서버.example:8443",
            "2001:db8:85a3::8a2e:370:7334",
            "2001:db8:85a3:1:2:8a2e:370:7334/129",
            "[2001:db8:85a3:0:0:8a2e:370:7334]:3000",
            "0.0.0.0/0, ::/0, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16",
            "kim.hyeonjun+test1@gmail.com",
            "/home/pi/.local/share/mkcert/rootCA-key.pem",
            "C:\\Users\\Kim\\Documents\\certs\\fullchain.pem",
            "/etc/letsencrypt/archive/recre.store/fullchain12.pem",
            "/usr/lib/x86_64-linux-gnu/libssl.so.1.1",
            "/var/run/postgresql/.s.PGSQL.5432",
            "nginx/1.22.1 (Ubuntu)",
            "Apache/2.4.57 (Debian) OpenSSL/3.0.11 mod_wsgi/4.9.4 Python/3.11",
            "Sun, 29 Nov 2026 17:08:49 GMT",
            "{\"code\":0,\"message\":\"Transport unknown\"}",
            "<html> <head><title>502 Bad Gateway</title></head> <body> <center><h1>502 Bad Gateway</h1>",
            "Error: connect ECONNREFUSED 127.0.0.1:3000",
            "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
            "entryPointsWebsecureHttpTlsCertResolver",
            "certificatesResolvers_letsencrypt_acme_httpChallenge_entryPoint",
            "proxySslServerNameIndication",
            "maxConcurrentStreamsPerConnection",
            "CN=VeriSign Class 3 Public Primary Certification Authority - G5",
            "CN=ZeroSSL ECC Domain Secure Site CA, O=ZeroSSL, C=AT",
        ] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn a_key_in_groups_is_hidden_whatever_cuts_it() {
        let key = "MC4CAQAwBQYDK2VwBCIEIOB4yvQh9ZrTkWm3xN8sJ0LpFcUa5dGe7HtXi1RnSbK6";
        for between in
            [".", "*", "~", "@", "!", "|", "; ", "/", "-", "_", "+", "=", "한", " . ", "…", "%2e", "\\n"]
        {
            for width in 2..16 {
                let groups: Vec<&str> =
                    key.as_bytes().chunks(width).map(|group| std::str::from_utf8(group).unwrap()).collect();
                let text = format!("the key {} of recre.store", groups.join(between));
                let bare: String = shown(&text).replace(between, "");
                for window in key.as_bytes().windows(RUN_CHARS_MAX) {
                    assert!(!bare.contains(std::str::from_utf8(window).unwrap()), "{text}\n{bare}");
                }
            }
        }
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        assert_eq!(shown("key: -----BEGIN PRIVATE KEY-----\nMC4CAQAwBQ"), "key: -----BEGIN…");
        assert_eq!(shown("-----BEGIN"), "-----BEGIN");
        assert_eq!(shown("RSA PRIVATE KEY: abc"), "RSA PRIVATE KEY…");
        assert_eq!(shown("MC4CAQAwBQYDK2VwBCIEIA"), "[22 characters hidden]");
        assert_eq!(shown("key = \"MC4CAQAwBQYDK2VwBCIEIA=="), "key = \"[24 characters hidden]");
        assert_eq!(shown("30:77:02:01:01:04:20:a9"), "30:77:02:01:01:04:[4 characters hidden]");
        assert_eq!(shown("0x30, 0x77, 0x02, 0x01"), "[16 characters hidden]");
        assert_eq!(shown("/run/app/MC4CAQAwBQYDK2VwBCIEIA"), "/run/app/[22 characters hidden]");
        assert_eq!(shown("MC4CAQ\\nAwBQYD\\r\\nK2VwBC"), "[18 characters hidden]");
        assert_eq!(shown("ABAAAE9+ABAAABA+AAAAAAAAAAAAAAAAAAAAAAAAAAA="), "[44 characters hidden]");
        assert_eq!(shown("deadbeefdeadbeefdeadbeefdeadbeef"), "[32 characters hidden]");
        assert_eq!(shown("M C 4 C A Q A w B Q Y D K 2 V w"), "[16 characters hidden]");
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
        let text = |count: usize| "word. ".repeat(30).chars().take(count).collect::<String>();
        assert_eq!(shown(&text(CHARS_MAX)), text(CHARS_MAX));
        assert_eq!(shown(&text(CHARS_MAX + 1)), format!("{}…", text(CHARS_MAX - 1)));
    }

    #[test]
    fn an_excerpt_is_one_line_and_moves_no_cursor() {
        assert_eq!(shown("a\nb\x1b[2J\u{202e}c"), "a\\u{a}b\\u{1b}[2J\\u{202e}c");
        let moved = "403 \\u{1b}[2J\\u{1b}]0;evil\\u{7}";
        assert_eq!(netted(moved, &[]), moved);
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
            "/[25 characters hidden]"
        );
        assert_eq!(of(Path::new("/etc")), "/etc");
        assert_eq!(
            of(&std::env::temp_dir().join("x".repeat(5000))),
            format!("{}/[1024 characters hidden]…", std::env::temp_dir().display())
        );
    }

    #[test]
    fn what_everybody_may_read_holds_no_key() {
        for good in ["you@example.org", "https://ca.lan:14000/dir", "tlsserver"] {
            assert!(!may_hold_key(good), "{good}");
        }
        for bad in
            ["MC4CAQAwBQYDK2VwBCIEIA@recre.store", "-----BEGIN PRIVATE KEY-----", "-----BEGIN X-----\nMC4C"]
        {
            assert!(may_hold_key(bad), "{bad}");
        }
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("MC4CAQAwBQYDK2VwBCIEIAmc4caqawbqydk2vwbcieia");
        assert!(path_may_hold_key(&odd));
        std::fs::create_dir(&odd).unwrap();
        assert!(!path_may_hold_key(&odd) && !path_may_hold_key(&odd.join("state")));
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

    /// As [`secret_text`], in groups that something cuts which is in no encoding, or in all.
    fn secret_in_groups() -> impl Strategy<Value = (String, String)> {
        use base64::engine::general_purpose::STANDARD;
        let between =
            prop::sample::select(vec![".", "*", "~", "@", "!", ", ", "/", "-", "_", "+", "한", "."]);
        let bytes = prop::collection::vec(any::<u8>(), 48..140);
        (bytes, any::<bool>(), 1usize..16, between).prop_map(|(bytes, hexadecimal, width, between)| {
            let hex = || bytes.iter().map(|b| format!("{b:02x}")).collect();
            let secret: String = if hexadecimal { hex() } else { STANDARD.encode(&bytes) };
            let groups: Vec<String> =
                secret.as_bytes().chunks(width).map(|group| String::from_utf8_lossy(group).into()).collect();
            (secret, groups.join(between))
        })
    }

    fn alphanumeric(text: &str) -> String {
        text.chars().filter(char::is_ascii_alphanumeric).collect()
    }

    /// The same texts each time: whether random text reads as words is a matter of chance, one in thousands.
    #[test]
    fn no_window_of_a_secret_in_groups_is_shown() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let texts = (secret_in_groups(), "( |[a-z]{3,9} ){0,3}", "( |[a-z]{3,9} ){0,3}");
        for _ in 0..2000 {
            let ((secret, text), before, behind) = texts.new_tree(&mut runner).unwrap().current();
            let shown = shown(&format!("{before}{text}{behind}"));
            let bare = alphanumeric(&shown);
            for window in alphanumeric(&secret).as_bytes().windows(RUN_CHARS_MAX) {
                assert!(!bare.contains(std::str::from_utf8(window).unwrap()), "{text}\n{shown}");
            }
        }
    }

    /// Keys of 32 bytes for [`no_key_slips_through_in_groups_of_one_length`]; with optimisation as many as a long search takes.
    const KEYS: u64 = if cfg!(debug_assertions) { 6_000 } else { 100_000 };

    /// The same keys each time.
    #[test]
    fn no_key_slips_through_in_groups_of_one_length() {
        use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
        let signs = [
            ".", "*", "~", "@", "!", "|", "; ", "/", "-", "_", "+", "=", "한", " . ", "…", "%2e", "\\n", " ",
            ":", ", ", "\n", "\", \"",
        ];
        for number in 0..KEYS {
            let key = ring::digest::digest(&ring::digest::SHA256, &number.to_le_bytes());
            let hex = || key.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let written = match number % 3 {
                0 => STANDARD.encode(key),
                1 => URL_SAFE_NO_PAD.encode(key),
                _ => hex(),
            };
            let sign = signs[usize::from(key.as_ref()[0]) % signs.len()];
            let width = 1 + usize::from(key.as_ref()[1] % 16);
            let groups: Vec<_> = written.as_bytes().chunks(width).map(String::from_utf8_lossy).collect();
            let groups = groups.join(sign);
            let text = match number / 3 % 3 {
                0 => groups,
                1 => format!("the key {groups} of recre.store"),
                _ => format!("https://{groups}/"),
            };
            let bare =
                alphanumeric(&shown(&text).replace("%2e", "").replace("\\n", "").replace("\\u{a}", ""));
            for window in alphanumeric(&written).as_bytes().windows(RUN_CHARS_MAX) {
                assert!(!bare.contains(std::str::from_utf8(window).unwrap()), "{text}\n{}", shown(&text));
            }
        }
    }

    /// The healthy twins of groups of one length.
    #[test]
    fn words_and_numbers_of_one_length_stay_whole() {
        for text in [
            "connect ECONNREFUSED, ETIMEDOUT, ECONNRESET, EPROTO",
            "DEPTH_ZERO_SELF_SIGNED_CERT, CERTIFICATE_VERIFY_FAILED",
            "2001, 2002, 2004-2017, 2020-2021 Free Software Foundation",
            "2001:db8::1, 2001:db8::2, fe80::1, 192.168.178.20",
            "session.message.channel.private.gateway.example",
            "/home/user/data/logs/2026/2027/2028/socket",
            "default-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self' wss:",
            "chat1.recre.store, chat2.recre.store, chat3.recre.store",
            "lib/isc/include/pkcs11/pkcs11.h",
        ] {
            assert_eq!(shown(text), text);
        }
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
