//! Two texts of a file to the lines that differ.

use crate::excerpt::Excerpt;

/// Lines that go and lines that come, each with its sign; those between are left out.
pub(super) fn difference(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same = old.iter().zip(&new).take_while(|(one, other)| one == other).count();
    let (old, new) = (old.get(same..).unwrap_or_default(), new.get(same..).unwrap_or_default());
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(one, other)| one == other).count();
    let (old, new) =
        (old.get(..old.len() - tail).unwrap_or_default(), new.get(..new.len() - tail).unwrap_or_default());
    let shown = |sign: char| move |line: &&str| format!("{sign} {}", Excerpt::of(line)).trim_end().to_owned();
    old.iter().map(shown('-')).chain(new.iter().map(shown('+'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_differ_are_shown() {
        assert_eq!(difference("a\nb\nc\n", "a\nc\n"), ["- b"]);
        assert_eq!(difference("a\nb\n", "a\nx\ny\nb\n"), ["+ x", "+ y"]);
        assert_eq!(difference("a\n", "a\n"), [""; 0]);
        assert_eq!(difference("", "a\n\nb"), ["+ a", "+", "+ b"]);
    }
}
