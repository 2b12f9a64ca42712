//! `sanedge.toml` as typed values that remember their lines.
//!
//! Reads one file, and nothing that the file names. Every problem is collected, so that one run shows them all.
//! What it does not do: compare one key with another; that is [`super::compile`]'s work.

mod acme;
mod advice;
mod bounded;
mod fields;
mod foreign;
mod line_ends;
mod local;
mod parsed;
mod reader;
mod typed;
mod values;

use std::path::Path;

use toml::de::DeTable;

use super::file::word;
use super::finding::{Code, Finding};
use super::wire;
use crate::excerpt::Excerpt;
pub use bounded::{FileTrouble, read_bounded};
pub use line_ends::in_lf;
pub use parsed::{
    Acme, CertificateFiles, LimitSetting, LimitValue, Lined, Listen, Local, NamedFile, OriginEntry, Route,
    Site, Source,
};
use typed::Reader;
pub(super) use typed::out_of_bounds;
pub use values::{without_scheme, zoned_upstream};

/// Largest sanedge.toml, in bytes: far above any real one, far below what would hurt a board.
pub const SOURCE_BYTES_MAX: u64 = 1024 * 1024;
/// Syntax errors that are told; those after the first few mostly follow from them.
const SYNTAX_ERRORS_TOLD_MAX: usize = 10;

/// Reads the file at `path`.
///
/// # Errors
/// Nothing but findings where the text is not TOML at all; else what could be understood, beside the findings.
pub fn read(path: &Path) -> (Option<Source>, Vec<Finding>) {
    match text(path) {
        Ok(text) => parse(path, &text),
        Err(finding) => (None, vec![*finding]),
    }
}

/// The text of the file at `path`.
///
/// # Errors
/// Where it is no text that could be a sanedge.toml.
pub fn text(path: &Path) -> Result<String, Box<Finding>> {
    let unusable = |found: &str, remedy: String| {
        Finding::new(Code::ConfigUnreadable, format!("`{}` cannot be used", Excerpt::of_path(path)))
            .at(path, 0)
            .expected(format!("a sanedge.toml: a text file of at most {} KiB", SOURCE_BYTES_MAX / 1024))
            .found(found)
            .remedy(remedy)
    };
    let unreadable = |found: String| {
        unusable(
            &found,
            "Give the path of your sanedge.toml: `sanedge bundle /etc/sanedge/sanedge.toml`.".to_owned(),
        )
    };
    let bytes = match read_bounded(path, SOURCE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(FileTrouble::Empty) => {
            let remedy = "Write it, or copy it again; a full disk leaves empty files.".to_owned();
            return Err(Box::new(unusable("an empty file", remedy)));
        }
        Err(trouble) => return Err(Box::new(unreadable(trouble.to_string()))),
    };
    if bytes.starts_with(&wire::MAGIC) {
        let path = word(path);
        let remedy = format!(
            "Type `sanedge show {path}` or `sanedge serve {path}`; to compile it again, give your sanedge.toml."
        );
        let found = "a bundle, which is the output of `sanedge bundle`, not its input";
        return Err(Box::new(unusable(found, remedy)));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        let path = word(path);
        let remedy = format!("Save it as UTF-8, or type: iconv -f UTF-16 -t UTF-8 {path} > utf8.toml");
        return Err(Box::new(unusable("UTF-16 text", remedy)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Box::new(unusable(&format!("byte {at} is not UTF-8"), "Save the file as UTF-8.".to_owned()))
    })
}

/// Parses `text` as the content of the file at `path`, which also anchors relative paths. A UTF-8 byte order mark
/// and CRLF line ends are fine.
pub fn parse(path: &Path, text: &str) -> (Option<Source>, Vec<Finding>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::new(path, text);
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        if text.lines().any(|line| line.starts_with("-----BEGIN ")) {
            reader.pem();
        } else {
            errors.iter().take(SYNTAX_ERRORS_TOLD_MAX).for_each(|e| reader.syntax(e, text));
        }
        return (None, reader.findings);
    }
    let source = Source { digest: wire::sha256(text.as_bytes()), ..reader.source(root.get_ref()) };
    (Some(source), reader.findings)
}
