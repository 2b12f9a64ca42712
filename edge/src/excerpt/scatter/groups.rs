//! Finds groups of one length with one sign between them, as whoever cuts a key makes them: `MC4CAQ.AwBQYD.K2VwBC`.

use std::collections::BTreeSet;
use std::ops::Range;

/// Groups of one length in a row, those included that text touches.
const GROUPS_MIN: usize = 3;
/// Characters of a group. Shorter ones are as common in lists of words; longer ones are judged as they are.
const CHARS: Range<usize> = 3..41;

/// Where such groups stand that together have `chars_min` characters, and whether their number alone makes them suspicious.
pub(super) fn of(text: &str, chars_min: usize) -> Vec<(Range<usize>, bool)> {
    let signs: BTreeSet<char> = text.chars().filter(|c| !c.is_ascii_alphanumeric()).collect();
    let mut found = Vec::new();
    for sign in signs {
        let parts = cut(text, sign);
        let length = |at: usize| parts.get(at).and_then(|part| whole(text.get(part.clone())?));
        let mut at = 0;
        while at < parts.len() {
            let same =
                (at..parts.len()).take_while(|next| length(*next).is_some() && length(*next) == length(at));
            let (count, begin) = (same.count(), at);
            at += count.max(1);
            let (Some(first), Some(last), Some(size)) = (parts.get(begin), parts.get(at - 1), length(begin))
            else {
                continue;
            };
            let front = begin.checked_sub(1).and_then(|before| text.get(parts.get(before)?.clone()));
            let front =
                front.map_or(0, |text| text.chars().rev().take(size).take_while(|c| counts(*c)).count());
            let rear = parts.get(at).and_then(|part| text.get(part.clone()));
            let rear = rear.map_or(0, |text| text.chars().take(size).take_while(|c| counts(*c)).count());
            let start = if front > 0 {
                parts.get(begin - 1).map_or(first.start, |part| part.end - front)
            } else {
                first.start
            };
            let end =
                if rear > 0 { parts.get(at).map_or(last.end, |part| part.start + rear) } else { last.end };
            let full = count + usize::from(front == size) + usize::from(rear == size);
            // The groups of an IPv6 address have one length as well; a run with colons is judged as a whole.
            let of_address = sign == ':' && size <= 4;
            if !of_address
                && count * size + front + rear >= chars_min
                && count + usize::from(front > 0) + usize::from(rear > 0) >= GROUPS_MIN
            {
                found.push((start..end, full >= GROUPS_MIN));
            }
        }
    }
    found
}

/// The length of a part that may be one group.
fn whole(part: &str) -> Option<usize> {
    Some(part.len()).filter(|length| CHARS.contains(length) && part.chars().all(counts))
}

/// What stands between two of the sign, without what often stands beside one.
fn cut(text: &str, sign: char) -> Vec<Range<usize>> {
    let beside = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '\\' | ',' | ';');
    let mut at = 0;
    let trimmed = |part: &str| {
        let begin = at + part.len() - part.trim_start_matches(beside).len();
        at += part.len() + sign.len_utf8();
        begin..begin + part.trim_matches(beside).len()
    };
    text.split(sign).map(trimmed).collect()
}

/// Of base64 in both alphabets, and so of hexadecimal.
pub(crate) fn counts(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '=')
}
