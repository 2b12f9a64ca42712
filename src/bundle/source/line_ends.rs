//! Edits of a text that keep its line ends.

/// Changes `text` as one whose lines end with LF; a byte order mark and CR LF are as before in the result.
///
/// # Errors
/// `mixed` where both kinds of line ends occur, and those of `change`.
pub fn in_lf<E>(text: &str, mixed: E, change: impl FnOnce(&str) -> Result<String, E>) -> Result<String, E> {
    let (mark, text) = text.strip_prefix('\u{feff}').map_or(("", text), |rest| ("\u{feff}", rest));
    let (all, crlf) = (text.matches('\n').count(), text.matches("\r\n").count());
    if crlf != 0 && crlf != all {
        return Err(mixed);
    }
    let changed = change(&text.replace("\r\n", "\n"))?;
    Ok(format!("{mark}{}", if crlf == 0 { changed } else { changed.replace('\n', "\r\n") }))
}
