//! Edits a text without changing its line ends.

/// Applies `change` to the text with LF as line ends; the result has the byte order mark and the CR LF of the original.
///
/// # Errors
/// `mixed` if both kinds of line ends occur, and the errors of `change`.
pub fn in_lf<E>(text: &str, mixed: E, change: impl FnOnce(&str) -> Result<String, E>) -> Result<String, E> {
    let (mark, text) = text.strip_prefix('\u{feff}').map_or(("", text), |rest| ("\u{feff}", rest));
    let (all, crlf) = (text.matches('\n').count(), text.matches("\r\n").count());
    if crlf != 0 && crlf != all {
        return Err(mixed);
    }
    let changed = change(&text.replace("\r\n", "\n"))?;
    Ok(format!("{mark}{}", if crlf == 0 { changed } else { changed.replace('\n', "\r\n") }))
}
