//! Finds the end of a head while it arrives, and bytes that are not allowed in one (RFC 9112 §2.2, §3, §5).

use crate::http::fault::{HeadError, HeadFault, HeadLimits, METHOD_BYTES_MAX, Version};
use crate::limits::{FIELDS_MAX, RESPONSE_FIELDS_MAX};

/// Upper bound of `head_bytes_max`: offsets into a head have 16 bits.
pub const HEAD_BYTES_CEILING: usize = 65_535;

/// Bytes that RFC 3986 requires to be percent-encoded in a target and that browsers send unencoded (WHATWG URL, query
/// percent-encode set). RFC 3986 allows `[` and `]`, but not in a path or query.
pub const TARGET_EXTRA: &[u8] = b"[]{}|^`\\";

/// Finds the end of a head that may arrive in pieces. Remembers its position, so that a head that arrives byte by byte
/// is scanned once; the buffer must begin with the same bytes at every call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadScanner {
    /// Bytes scanned.
    at: usize,
    /// Where `part` began; `<= at`.
    part_start: usize,
    fields: u16,
    part: Part,
    skipped_blank_line: bool,
    /// A response's lines may end with LF alone.
    of_response: bool,
    repaired: bool,
}

/// What the next byte belongs to. Every part is a run of bytes of one class and one byte that ends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Method,
    Target,
    RequestVersion,
    ResponseVersion,
    Status,
    Reason,
    Name,
    Value,
    /// LF of an empty line before the request line.
    BlankLf,
    /// LF of any line.
    LineLf,
    /// LF of the empty line at the end.
    LastLf,
    End,
}

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
/// VCHAR, SP, HTAB and obs-text (RFC 9110 §5.5).
const TEXT: u8 = 4;
const VERSION: u8 = 8;
const DIGIT: u8 = 16;

impl HeadScanner {
    /// A scanner for a request head; the same as `default()`.
    pub fn request() -> Self {
        Self::default()
    }

    /// A scanner for a response head. Its lines may end with LF alone, for which there is one reading (RFC 9112 §2.2): the
    /// head goes out with line ends of our own.
    pub fn response() -> Self {
        Self { part: Part::ResponseVersion, of_response: true, ..Self::default() }
    }

    /// Continues where the last call stopped. `Some(n)`: the head is `buf[..n]`, its empty line included (and one empty
    /// line before a request line, which RFC 9112 §2.2 allows). `None`: more bytes are needed.
    ///
    /// # Errors
    /// The first broken rule, as soon as the bytes show it.
    pub fn scan(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        let limit = limits.head_bytes_max.min(HEAD_BYTES_CEILING);
        let visible = buf.get(..limit).unwrap_or(buf);
        while self.part != Part::End {
            self.usual_lines(visible, limits);
            let rest = visible.get(self.at..).unwrap_or_default();
            if rest.is_empty() {
                return match self.at < limit {
                    true => Ok(None),
                    false => Err(self.error(HeadFault::HeadTooLong { limit, key: self.keys().0 })),
                };
            }
            let run = self.part.run(rest);
            self.at += run;
            self.check_length(limits)?;
            let stop = rest.get(run).copied();
            let bytes = visible.get(self.part_start..self.at).unwrap_or_default();
            self.part = self.turn(bytes, stop, limits).map_err(|fault| self.error(fault))?;
            if stop.is_some() {
                self.at += 1;
                // The usual end of a line, handled without another iteration.
                if self.part == Part::LineLf && rest.get(run + 1) == Some(&b'\n') {
                    self.part = Part::Name;
                    self.at += 1;
                }
                self.part_start = self.at;
            }
        }
        Ok(Some(self.at))
    }

    /// Takes the complete lines at the start of a name that need no second look: most of every head.
    fn usual_lines(&mut self, visible: &[u8], limits: &HeadLimits) {
        while self.part == Part::Name && self.at == self.part_start {
            let bytes = usual_line(visible.get(self.at..).unwrap_or_default());
            if bytes == 0 || self.count_field(limits).is_err() {
                return; // what is wrong, if anything, the parts tell
            }
            self.part = Part::Name;
            self.at += bytes;
            self.part_start = self.at;
        }
    }

    /// Where the head ends, once a scan has found it.
    pub fn end(&self) -> Option<usize> {
        (self.part == Part::End).then_some(self.at)
    }

    /// Whether a line of a response ended with LF alone.
    pub(crate) fn repaired(&self) -> bool {
        self.repaired
    }

    /// The names of the bounds.
    fn keys(&self) -> (&'static str, &'static str) {
        match self.of_response {
            true => ("response_head_bytes_max", "response_fields_max"),
            false => ("head_bytes_max", "fields_max"),
        }
    }

    /// The part after `stop`, which ends the part that holds `bytes`; the same part if the bytes ended first.
    fn turn(&mut self, bytes: &[u8], stop: Option<u8>, limits: &HeadLimits) -> Result<Part, HeadFault> {
        let Some(stop) = stop else { return Ok(self.part) };
        let empty = bytes.is_empty();
        match (self.part, stop) {
            (Part::Method, b'\r') if empty && !self.skipped_blank_line => {
                self.skipped_blank_line = true;
                Ok(Part::BlankLf)
            }
            (Part::Method, b'\r') if empty => Err(HeadFault::SecondBlankLine),
            (Part::Method, b' ') if !empty => Ok(Part::Target),
            (Part::Target, b' ') if !empty => Ok(Part::RequestVersion),
            (Part::RequestVersion, b'\r') => Version::parse(bytes).map(|_| Part::LineLf),
            (Part::ResponseVersion, b' ') => Version::parse(bytes).map(|_| Part::Status),
            (Part::Status, b' ' | b'\r') => {
                check_status(bytes)?;
                Ok(if stop == b' ' { Part::Reason } else { Part::LineLf })
            }
            (Part::Status | Part::Reason | Part::Value | Part::Name, b'\n') if self.of_response => {
                self.bare_lf(bytes)
            }
            (Part::Reason | Part::Value, b'\r') => Ok(Part::LineLf),
            (Part::Name, b'\r') if empty => Ok(Part::LastLf),
            (Part::Name, b':') if !empty => self.count_field(limits),
            (Part::BlankLf, b'\n') => Ok(Part::Method),
            (Part::LineLf, b'\n') => Ok(Part::Name),
            (Part::LastLf, b'\n') => Ok(Part::End),
            (part, byte) => Err(part.refuse(empty, byte)),
        }
    }

    /// A line of a response that ends without CR.
    fn bare_lf(&mut self, bytes: &[u8]) -> Result<Part, HeadFault> {
        self.repaired = true;
        match self.part {
            Part::Status => check_status(bytes).map(|()| Part::Name),
            Part::Name if bytes.is_empty() => Ok(Part::End),
            Part::Name => Err(HeadFault::NoColon),
            _ => Ok(Part::Name),
        }
    }

    fn count_field(&mut self, limits: &HeadLimits) -> Result<Part, HeadFault> {
        let most = if self.of_response { RESPONSE_FIELDS_MAX } else { FIELDS_MAX };
        let limit = limits.fields_max.min(most);
        if usize::from(self.fields) >= limit {
            return Err(HeadFault::TooManyFields { limit, key: self.keys().1 });
        }
        self.fields += 1;
        Ok(Part::Value)
    }

    /// Names the first byte beyond the limit, however many arrived at once.
    fn check_length(&mut self, limits: &HeadLimits) -> Result<(), HeadError> {
        let limit = limits.target_bytes_max;
        let (most, fault) = match self.part {
            Part::Method => (METHOD_BYTES_MAX, HeadFault::MethodTooLong),
            Part::Target => (limit, HeadFault::TargetTooLong { limit }),
            Part::RequestVersion | Part::ResponseVersion => (8, HeadFault::VersionMalformed),
            Part::Status => (3, HeadFault::StatusMalformed),
            _ => return Ok(()),
        };
        if self.at - self.part_start <= most {
            return Ok(());
        }
        self.at = self.part_start + most;
        Err(self.error(fault))
    }

    fn error(&self, fault: HeadFault) -> HeadError {
        HeadError { offset: self.at, fault }
    }
}

impl Part {
    /// How many bytes at the start of `rest` belong to this part.
    #[inline]
    fn run(self, rest: &[u8]) -> usize {
        let (class, skip) = match self {
            Self::Method | Self::Name => (TOKEN, in_words(rest, not_letters)),
            Self::Target => (TARGET, in_words(rest, not_target)),
            Self::RequestVersion | Self::ResponseVersion => (VERSION, 0),
            Self::Status => (DIGIT, 0),
            Self::Reason | Self::Value => (TEXT, in_words(rest, not_text)),
            Self::BlankLf | Self::LineLf | Self::LastLf | Self::End => return 0,
        };
        let behind = rest.get(skip..).unwrap_or_default();
        skip + behind.iter().position(|&byte| !is(byte, class)).unwrap_or(behind.len())
    }

    /// Why `byte` is not allowed here.
    fn refuse(self, at_start: bool, byte: u8) -> HeadFault {
        match (self, byte) {
            (Self::BlankLf | Self::LineLf | Self::LastLf, _) => HeadFault::CrWithoutLf,
            (_, b'\n') => HeadFault::LfWithoutCr,
            (Self::Name, b' ' | b'\t') if at_start => HeadFault::FoldedLine,
            (Self::Name, b' ' | b'\t') => HeadFault::SpaceBeforeColon,
            (Self::Name, b':') => HeadFault::EmptyName,
            (Self::Name, b'\r') => HeadFault::NoColon,
            (Self::Method | Self::Target, b' ' | b'\r') => HeadFault::RequestLineMalformed,
            (Self::RequestVersion | Self::ResponseVersion, _) => HeadFault::VersionMalformed,
            (Self::Status, _) => HeadFault::StatusMalformed,
            (part, byte) => HeadFault::BadByte { byte, part: part.name() },
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Target => "target",
            Self::Name => "field name",
            Self::Reason => "reason phrase",
            _ => "field value",
        }
    }
}

impl Version {
    fn parse(bytes: &[u8]) -> Result<Self, HeadFault> {
        match bytes {
            b"HTTP/1.1" => Ok(Self::Http11),
            b"HTTP/1.0" => Ok(Self::Http10),
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                Err(HeadFault::VersionNotSupported)
            }
            _ => Err(HeadFault::VersionMalformed),
        }
    }
}

/// How many bytes a field line has at the start of `rest`, with its CRLF; 0 if it is not whole, or anything is wrong with it.
#[inline]
fn usual_line(rest: &[u8]) -> usize {
    let name = Part::Name.run(rest);
    if name == 0 || rest.get(name) != Some(&b':') {
        return 0;
    }
    let value = name + 1 + Part::Value.run(rest.get(name + 1..).unwrap_or_default());
    if rest.get(value..value + 2) == Some(b"\r\n") { value + 2 } else { 0 }
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// How many bytes at the start of `rest` come before the first that `others` marks, eight at a time; stops within the last
/// eight. What is marked may still be allowed.
#[inline]
fn in_words(rest: &[u8], others: impl Fn(u64) -> u64) -> usize {
    let (words, _) = rest.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let others = others(u64::from_le_bytes(*word));
        if others != 0 {
            return 8 * at + others.trailing_zeros() as usize / 8;
        }
    }
    8 * words.len()
}

/// Sets the high bit of each byte below `least`, and perhaps of bytes after one; the first is exact.
#[inline]
fn below(word: u64, least: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(least)) & !word & HIGH
}

/// The same for bytes that are equal to `byte`.
#[inline]
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

/// Marks what is no letter and no hyphen.
#[inline]
fn not_letters(word: u64) -> u64 {
    let low = (word | (ONES * 0x20)) & !HIGH;
    let letters = (low + ONES * (0x80 - 0x61)) & !(low + ONES * (0x80 - 0x7b)); // from `a` to `z`
    let other_than_hyphen = (((word ^ (ONES * 0x2d)) & !HIGH) + ONES * 0x7f) | word;
    (other_than_hyphen & !letters | word) & HIGH
}

/// Marks what is no text or HTAB.
#[inline]
fn not_text(word: u64) -> u64 {
    below(word, b' ') | equal(word, 0x7f)
}

/// Marks what may not be in a target, and obs-text.
#[inline]
fn not_target(word: u64) -> u64 {
    let quote_or_hash = equal(word | ONES, b'#');
    let angle = equal(word | (ONES * 2), b'>');
    below(word, b'!') | equal(word, 0x7f) | quote_or_hash | angle | word & HIGH
}

fn check_status(digits: &[u8]) -> Result<(), HeadFault> {
    match digits {
        [b'1'..=b'9', _, _] => Ok(()),
        _ => Err(HeadFault::StatusMalformed),
    }
}

/// Whether `bytes` is a token (RFC 9110 §5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

pub(crate) fn is_token_byte(byte: u8) -> bool {
    is(byte, TOKEN)
}

/// Whether `byte` may be in a field value: VCHAR, SP, HTAB, obs-text.
pub(crate) fn is_text_byte(byte: u8) -> bool {
    is(byte, TEXT)
}

#[inline]
fn is(byte: u8, class: u8) -> bool {
    classes_of(byte) & class != 0
}

#[inline]
fn classes_of(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or_default()
}

static CLASSES: [u8; 256] = classes();

#[allow(clippy::indexing_slicing)] // evaluated by the compiler: an index out of bounds would not build
const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b == b'\t' || b == b' ' || b.is_ascii_graphic() || b >= 0x80 {
            table[byte] |= TEXT;
        }
        if b.is_ascii_alphanumeric() {
            table[byte] |= TOKEN | TARGET;
        }
        if b.is_ascii_digit() {
            table[byte] |= DIGIT | VERSION;
        }
        byte += 1;
    }
    let sets: [(&[u8], u8); 4] = [
        (b"!#$%&'*+-.^_`|~", TOKEN),
        (b"-._~:/?@!$&'()*+,;=%", TARGET), // RFC 3986 except "#": a fragment is never sent
        (TARGET_EXTRA, TARGET),
        (b"HTP/.", VERSION),
    ];
    let mut set = 0;
    while set < sets.len() {
        let mut at = 0;
        while at < sets[set].0.len() {
            table[sets[set].0[at] as usize] |= sets[set].1;
            at += 1;
        }
        set += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_bytes_at_once_find_what_one_at_a_time_does() {
        for at in 0..20 {
            for byte in 0..=255 {
                for (part, class) in [(Part::Name, TOKEN), (Part::Target, TARGET)] {
                    for other in [b'a', b'z', b'A', b'Z', b'-', b'0', b'_', b'!', b'~', b'|'] {
                        let mut text = [other; 20];
                        text[at] = byte;
                        let one_by_one = text.iter().position(|&byte| !is(byte, class)).unwrap_or(20);
                        assert_eq!(part.run(&text), one_by_one, "{text:?}");
                    }
                }
                for other in [b'a', b' ', 0x80, 0xff, b'~', b'\t'] {
                    let mut text = [other; 20];
                    text[at] = byte;
                    let one_by_one = text.iter().position(|&byte| !is_text_byte(byte)).unwrap_or(20);
                    assert_eq!(Part::Value.run(&text), one_by_one, "{text:?}");
                }
            }
        }
    }
}
