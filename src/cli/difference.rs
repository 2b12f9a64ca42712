//! The changed lines of a text, to be shown. A line may contain a key that was pasted into a comment.

use crate::excerpt::Excerpt;

/// A longer text is not compared line by line: the files that people edit are shorter.
const LINES_MAX: usize = 1_000;
/// Unchanged lines that are shown around a change.
const CONTEXT: usize = 2;

/// One line of what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'a> {
    Kept(&'a str),
    Removed(&'a str),
    Added(&'a str),
}

/// The changed lines with `-` or `+`, and some unchanged lines around them; empty if nothing changes.
pub(crate) fn between(before: &str, after: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let lines =
        if old.len().max(new.len()) > LINES_MAX { replaced(&old, &new) } else { compared(&old, &new) };
    let is_near = |at: usize| {
        let (from, to) = (at.saturating_sub(CONTEXT), (at + CONTEXT + 1).min(lines.len()));
        lines.get(from..to).is_some_and(|near| near.iter().any(|line| !matches!(line, Line::Kept(_))))
    };
    let shown = lines.iter().enumerate().filter(|(at, _)| is_near(*at));
    shown
        .map(|(_, line)| match line {
            Line::Kept(text) => format!("  {}", Excerpt::of(text)),
            Line::Removed(text) => format!("- {}", Excerpt::of(text)),
            Line::Added(text) => format!("+ {}", Excerpt::of(text)),
        })
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn replaced<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    old.iter().map(|line| Line::Removed(line)).chain(new.iter().map(|line| Line::Added(line))).collect()
}

/// Compares the lines between the common beginning and the common end by their longest common subsequence.
fn compared<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let begin = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let most = old.len().min(new.len()) - begin;
    let end = old.iter().rev().zip(new.iter().rev()).take(most).take_while(|(a, b)| a == b).count();
    let middle = |lines: &[&'a str]| lines.get(begin..lines.len() - end).unwrap_or_default().to_vec();
    let (a, b) = (middle(old), middle(new));
    // common[i][j]: lines that a from i on and b from j on have in common.
    let mut common = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    let at = |common: &Vec<Vec<u32>>, i: usize, j: usize| {
        common.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0)
    };
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            let value = if a.get(i) == b.get(j) {
                at(&common, i + 1, j + 1) + 1
            } else {
                at(&common, i + 1, j).max(at(&common, i, j + 1))
            };
            if let Some(cell) = common.get_mut(i).and_then(|row| row.get_mut(j)) {
                *cell = value;
            }
        }
    }
    let mut lines: Vec<Line<'a>> = old.iter().take(begin).map(|line| Line::Kept(line)).collect();
    let (mut i, mut j) = (0, 0);
    loop {
        lines.push(match (a.get(i), b.get(j)) {
            (None, None) => break,
            (Some(line), Some(same)) if line == same => {
                (i, j) = (i + 1, j + 1);
                Line::Kept(line)
            }
            (Some(line), other) if other.is_none() || at(&common, i + 1, j) >= at(&common, i, j + 1) => {
                i += 1;
                Line::Removed(line)
            }
            (_, Some(line)) => {
                j += 1;
                Line::Added(line)
            }
            (Some(_), None) => break,
        });
    }
    lines.extend(old.iter().skip(old.len() - end).map(|line| Line::Kept(line)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_shown_with_a_little_around_it() {
        let before = "a\nb\nc\nd\ne\nf\ng\n";
        assert!(between(before, before).is_empty());
        assert_eq!(between(before, "a\nb\nc\nX\ne\nf\ng\n"), ["  b", "  c", "- d", "+ X", "  e", "  f"]);
        assert_eq!(between("", "a\n\nb\n"), ["+ a", "+", "+ b"]);
        assert_eq!(between("a\n", ""), ["- a"]);
        assert_eq!(between("a\nb\n", "a\nb\nc\n"), ["  a", "  b", "+ c"]);
        assert_eq!(between("a\na\n", "a\n"), ["  a", "- a"]);
    }

    #[test]
    fn no_key_in_a_comment_is_shown() {
        let key = "MC4CAQAwBQYDK2VwBCIEIKrlZ0VhZJQ0cXl8rTgk1pXyG3bq";
        let before = format!("[[site]]\n# {key}\nhosts = [\"a.test\"]\n");
        for after in [before.replace("a.test", "b.test"), before.replace(key, "gone"), String::new()] {
            let shown = between(&before, &after);
            assert!(!shown.is_empty() && shown.iter().all(|line| !line.contains("BQYDK2Vw")), "{shown:?}");
        }
    }

    #[test]
    fn very_long_texts_are_replaced_as_a_whole() {
        let long = "x\n".repeat(LINES_MAX + 1);
        assert_eq!(between(&long, "x\n").len(), LINES_MAX + 2);
        assert_eq!(between(&"x\n".repeat(LINES_MAX), "x\n").len(), LINES_MAX - 1 + 1);
    }
}
