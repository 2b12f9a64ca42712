//! Finds a key that something cuts into groups too short to be told from words one by one: `MC4CAQ.AwBQYD.K2VwBC`.
//!
//! Each piece of a text gets the evidence that it is a part of random base64 or hexadecimal: the logarithm of how much more often
//! random text has these pairs of characters than words, host names and paths have them. Evidence adds up over neighbouring pieces,
//! whatever stands between them, and a word takes it away (CUSUM). A key of 32 bytes collects more than five times
//! [`EVIDENCE_MIN`]; the texts of docs/ and of other servers' error pages stay below it.

use std::ops::Range;

mod groups;

pub(super) use groups::counts;

/// Evidence, in tenths of a natural logarithm, from which a stretch is hidden.
const EVIDENCE_MIN: i32 = 80;
/// The same, once another stretch of the text has reached that.
const EVIDENCE_BESIDE_MIN: i32 = 20;
/// The same of groups that all have one length.
const EVIDENCE_IN_GROUPS_MIN: i32 = -60;
/// And the part of the length that is then enough: what is left beside a key.
const BESIDE: usize = 2;
/// Evidence that words must have taken away behind its highest point for a stretch to end.
const FALL: i32 = 160;
/// Evidence that a part of words may have: a capital letter in the middle of them, or a short one.
const EVIDENCE_IN_WORDS_MAX: i32 = 40;
/// Evidence against: a word, next to which nothing more is hidden.
const WORD: i32 = -40;

/// For each letter those that follow it in words: 96 of 100 pairs of the words of Debian's package names, licences and our docs.
const FOLLOWERS: [&str; 26] = [
    "bcdfgiklmnprstuvwxyz",
    "acegijlorstu",
    "acehiklmoprstuy",
    "abdefilorsuy",
    "abcdefghilmnopqrstuvwxy",
    "aefilorstuy",
    "aeghilnorsu",
    "aeiortu",
    "abcdefglmnoprstvxz",
    "aes",
    "aeis",
    "acdeiloprstuvy",
    "abeilmopsu",
    "acdefgiklnopstuvy",
    "abcdfgiklmnoprstuvw",
    "acehiloprstuy",
    "lu",
    "acdefgiklmnoprstuvy",
    "acdefhiklmopqstuy",
    "acdefhilmnoprstuwy",
    "abcdefgilmnprst",
    "aeio",
    "aehinors",
    "ceipt",
    "imnpst",
    "aei",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lower,
    Upper,
    Digit,
}

/// A part of a token in which neither the kind of character jumps nor, but for a capital in front, its case.
struct Piece {
    at: Range<usize>,
    evidence: i32,
    is_word: bool,
}

/// The stretches of at least `chars_min` letters and digits that look like parts of one key. `tokens` are the letters and digits
/// of `text` that stand in a row, with their offsets.
pub(super) fn stretches(text: &str, tokens: &[(usize, String)], chars_min: usize) -> Vec<Range<usize>> {
    let pieces: Vec<Piece> = tokens.iter().flat_map(|(at, token)| pieces(*at, token)).collect();
    let groups = groups::of(text, chars_min).into_iter();
    let groups = groups.filter(|(at, regular)| of_groups(&pieces, tokens, at, *regular)).map(|(at, _)| at);
    let groups: Vec<_> = groups.collect();
    let mut found = peaks(&pieces, EVIDENCE_MIN, chars_min);
    if !found.is_empty() || !groups.is_empty() {
        found = peaks(&pieces, EVIDENCE_BESIDE_MIN, chars_min / BESIDE);
    }
    let is_word = |at: usize| pieces.get(at).is_none_or(|piece| piece.is_word);
    let widened = found.into_iter().filter_map(|mut stretch| {
        // What stands beside a key and is no word belongs to it.
        while stretch.start > 0 && !is_word(stretch.start - 1) {
            stretch.start -= 1;
        }
        while !is_word(stretch.end) {
            stretch.end += 1;
        }
        let (first, last) = (pieces.get(stretch.start)?, pieces.get(stretch.end.checked_sub(1)?)?);
        Some(first.at.start..last.at.end)
    });
    widened.chain(groups).collect()
}

/// Whether groups of one length, which stand here, may be parts of a key: a fourth of the characters, in at least two tokens, stands
/// neither in a word in one case, with a number behind or not, nor in a number.
fn of_groups(pieces: &[Piece], tokens: &[(usize, String)], at: &Range<usize>, regular: bool) -> bool {
    let evidence: i32 =
        pieces.iter().filter(|piece| at.contains(&piece.at.start)).map(|piece| piece.evidence).sum();
    let needed = if regular { EVIDENCE_IN_GROUPS_MIN } else { EVIDENCE_BESIDE_MIN };
    let inside = || tokens.iter().filter(|(begin, _)| at.contains(begin));
    let strange = || inside().filter(|(_, token)| !is_plain(token));
    let chars = |tokens: &mut dyn Iterator<Item = &(usize, String)>| {
        tokens.map(|(_, token)| token.len()).sum::<usize>()
    };
    evidence > needed && strange().count() >= 2 && chars(&mut strange()) * 4 >= chars(&mut inside())
}

fn is_plain(token: &str) -> bool {
    let stem = token.trim_end_matches(|c: char| c.is_ascii_digit()).as_bytes();
    let small = |letters: &[u8]| letters.iter().all(u8::is_ascii_lowercase);
    stem.iter().all(u8::is_ascii_uppercase)
        || stem.split_first().is_some_and(|(first, rest)| first.is_ascii_alphabetic() && small(rest))
}

/// Whether no part of these tokens collects any evidence to speak of, and all of them together much against: the long names that
/// other programs give their settings (`certificatesResolversHttpChallengeEntryPoint`).
pub(super) fn read_as_words(tokens: &[(usize, String)]) -> bool {
    let pieces: Vec<Piece> = tokens.iter().flat_map(|(at, token)| pieces(*at, token)).collect();
    let mut sums = (0..pieces.len()).map(|begin| peak(pieces.get(begin..).unwrap_or_default(), i32::MAX).1);
    let all: i32 = pieces.iter().map(|piece| piece.evidence).sum();
    all <= 4 * WORD && sums.all(|sum| sum <= EVIDENCE_IN_WORDS_MAX)
}

/// Neighbouring pieces whose evidence together is above `evidence_min`, by their numbers.
fn peaks(pieces: &[Piece], evidence_min: i32, chars_min: usize) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut begin = 0;
    while begin < pieces.len() {
        let (end, peak) = peak(pieces.get(begin..).unwrap_or_default(), evidence_min);
        let stretch = begin..begin + end;
        let chars = || {
            pieces.get(stretch.clone()).unwrap_or_default().iter().map(|piece| piece.at.len()).sum::<usize>()
        };
        if peak > evidence_min && chars() >= chars_min {
            found.push(stretch.clone());
        }
        begin = stretch.end.max(begin + 1);
    }
    found
}

/// How many pieces there are up to the highest sum of their evidence, before it is used up, and that sum.
fn peak(pieces: &[Piece], evidence_min: i32) -> (usize, i32) {
    let (mut sum, mut peak, mut end) = (0, 0, 0);
    for (number, piece) in pieces.iter().enumerate() {
        sum += piece.evidence;
        if sum > peak {
            (peak, end) = (sum, number + 1);
        }
        if sum <= 0 || (peak > evidence_min && peak - sum > FALL) {
            break;
        }
    }
    (end, peak)
}

fn pieces(at: usize, token: &str) -> impl Iterator<Item = Piece> {
    let bytes = token.as_bytes();
    let mut cuts = vec![0];
    cuts.extend(bytes.windows(2).enumerate().filter_map(|(before, pair)| jump(pair).map(|_| before + 1)));
    let whole = cuts.len() == 1;
    cuts.push(bytes.len());
    let hexadecimal = is_hexadecimal(bytes);
    let piece = |cut: &[usize]| {
        let &[begin, end] = cut else { return None };
        let into = begin.checked_sub(1).and_then(|before| jump(bytes.get(before..=begin)?)).unwrap_or(0);
        let evidence = evidence(bytes.get(begin..end)?) + into;
        // Hexadecimal has words in it, such as `feed`: they prove nothing.
        let evidence = if hexadecimal { evidence.max(-5) } else { evidence };
        Some(Piece { at: at + begin..at + end, evidence, is_word: whole && evidence <= WORD })
    };
    cuts.windows(2).filter_map(piece).collect::<Vec<_>>().into_iter()
}

fn is_hexadecimal(token: &[u8]) -> bool {
    let of = |upper: bool| {
        move |byte: &u8| {
            byte.is_ascii_hexdigit() && (byte.is_ascii_digit() || byte.is_ascii_uppercase() == upper)
        }
    };
    token.len() > 1 && (token.iter().all(of(true)) || token.iter().all(of(false)))
}

fn kind(byte: u8) -> Kind {
    match byte {
        b'0'..=b'9' => Kind::Digit,
        b'A'..=b'Z' => Kind::Upper,
        _ => Kind::Lower,
    }
}

/// The evidence of a change of kind inside a token; `None`: it is none that ends a piece.
fn jump(pair: &[u8]) -> Option<i32> {
    let &[one, other] = pair else { return None };
    match (kind(one), kind(other)) {
        (Kind::Lower, Kind::Upper) => Some(30),
        (Kind::Lower | Kind::Upper, Kind::Digit) => Some(12),
        (Kind::Digit, Kind::Lower | Kind::Upper) => Some(19),
        _ => None,
    }
}

fn evidence(piece: &[u8]) -> i32 {
    if piece.iter().all(u8::is_ascii_digit) {
        // Years, versions, addresses and ports are digits as well.
        return 3 + 4 * i32::try_from(piece.len().saturating_sub(4)).unwrap_or(i32::MAX / 8);
    }
    let short = match piece.len() {
        1 => 10,
        2 => 7,
        3 => 4,
        _ => 0,
    };
    let pairs = piece.windows(2).enumerate().map(|(at, pair)| pair_evidence(pair, at == 0));
    short + pairs.sum::<i32>()
}

fn pair_evidence(pair: &[u8], in_front: bool) -> i32 {
    let &[one, other] = pair else { return 0 };
    let usual = follows(one, other);
    let (in_words, elsewhere) = match (kind(one), kind(other)) {
        (Kind::Lower, _) => (-22, 11),
        (Kind::Upper, Kind::Upper) => (-3, 11),
        (Kind::Upper, _) if in_front => (-10, 12),
        _ => (0, 14),
    };
    if usual { in_words } else { elsewhere }
}

fn follows(one: u8, other: u8) -> bool {
    let row = one.to_ascii_lowercase().checked_sub(b'a').and_then(|row| FOLLOWERS.get(usize::from(row)));
    row.is_some_and(|followers| followers.as_bytes().contains(&other.to_ascii_lowercase()))
}
