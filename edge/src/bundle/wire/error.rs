//! Why bytes are no bundle, and why a bundle cannot be written.

use std::path::PathBuf;

use super::payload::{FILE_BYTES_MAX, VERSION};
use crate::bundle::KeyError;
use crate::excerpt::{Excerpt, number};
use crate::limits::LimitError;
use crate::names::NameError;

/// Why bytes are not a bundle that this program can use.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FormatError {
    /// Another kind of file.
    #[error("not a bundle: expected it to begin with \"SANEDGE\\0\", found {:?}; give the file that `sanedge bundle` wrote (if this is a sanedge.toml, type `sanedge bundle sanedge.toml` first)", Excerpt::of(&.found.escape_ascii().to_string()))]
    Magic {
        /// The first bytes, at most eight.
        found: Vec<u8>,
    },
    /// Compiled by a newer sanedge.
    #[error(
        "compiled by a newer sanedge: expected format {VERSION}, found {found}; update this sanedge, or compile the bundle again with it"
    )]
    Newer {
        /// The version found.
        found: u16,
    },
    /// Compiled by an older sanedge.
    #[error(
        "compiled by an older sanedge: expected format {VERSION}, found {found}; compile it again with `sanedge bundle`"
    )]
    Older {
        /// The version found.
        found: u16,
    },
    /// Shorter or longer than its header says: a copy that was cut off, or two files in one.
    #[error("the wrong length: expected {expected} bytes, found {found}; copy or compile the file again")]
    Length {
        /// Bytes that the header asks for; those of the header itself where it is not whole.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// Larger than any bundle.
    #[error("too large: expected at most {FILE_BYTES_MAX} bytes, found {found}")]
    TooLarge {
        /// Bytes found.
        found: u64,
    },
    /// The payload is not what was written.
    #[error("damaged: its SHA-256 does not match its content; copy or compile the file again")]
    Digest,
    /// The digest is right and yet the payload cannot be read.
    #[error("complete, but not format {VERSION} ({0}); compile it again with `sanedge bundle`")]
    Encoding(postcard::Error),
    /// Bytes behind the payload's last field.
    #[error(
        "complete, but {} too long for format {VERSION}; compile it again with `sanedge bundle`", number(*.bytes, "byte")
    )]
    Trailing {
        /// Bytes that nothing reads.
        bytes: usize,
    },
    /// A rule of the format is broken.
    #[error("complete, but `sanedge bundle` of this version does not write it: {0}; compile it again")]
    Broken(#[from] Broken),
}

/// A rule that `compile` promises and a file breaks.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Broken {
    /// A row points outside a table.
    #[error("{field} is {index}: expected less than {len}")]
    Index {
        /// Which field.
        field: &'static str,
        /// What it says.
        index: usize,
        /// Rows of the table that it points into.
        len: usize,
    },
    /// A table that needs a row has none.
    #[error("{table} is empty: expected at least one row")]
    Empty {
        /// Which table.
        table: &'static str,
    },
    /// More rows than allowed belong to one thing.
    #[error("{table} has {found} rows: expected at most {max}")]
    TooMany {
        /// Which table.
        table: &'static str,
        /// Rows found.
        found: usize,
        /// Rows allowed.
        max: usize,
    },
    /// Rows out of order, or the same one twice.
    #[error("{table} has row {at} out of order, or twice")]
    Order {
        /// Which table.
        table: &'static str,
        /// Index of the row.
        at: usize,
    },
    /// Something that nothing uses.
    #[error("{table} has row {at}, which nothing uses")]
    Unused {
        /// Which table.
        table: &'static str,
        /// Index of the row.
        at: usize,
    },
    /// A text that is not what its field holds.
    #[error("{field} is {found:?}: expected {expected}")]
    Text {
        /// Which field.
        field: &'static str,
        /// The text.
        found: Excerpt,
        /// What it holds otherwise.
        expected: &'static str,
    },
    /// A number that its field may not have.
    #[error("{field} is {found}: expected {expected}")]
    Number {
        /// Which field.
        field: &'static str,
        /// The number.
        found: i64,
        /// What it is otherwise.
        expected: &'static str,
    },
    /// An address or network that its field may not have.
    #[error("{field} has {found}: expected {expected}")]
    Address {
        /// Which field.
        field: &'static str,
        /// The address.
        found: String,
        /// What it is otherwise.
        expected: &'static str,
    },
    /// Not a name.
    #[error("{field}: {error}")]
    Name {
        /// Which field.
        field: &'static str,
        /// By which rule.
        error: NameError,
    },
    /// A host whose certificate does not cover it.
    #[error("host `{host}` has the certificate `{certificate}`, which covers only {}", list(.names))]
    NotCovered {
        /// The host.
        host: String,
        /// The certificate's label.
        certificate: Excerpt,
        /// What it covers.
        names: Vec<String>,
    },
    /// Sites that redirect to each other.
    #[error("site {site} redirects to itself, or is part of a loop")]
    RedirectLoop {
        /// Index of one of them.
        site: usize,
    },
    /// A limit out of range.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A key that ring does not take.
    #[error("certificate `{certificate}`: {error}")]
    Key {
        /// The certificate's label.
        certificate: Excerpt,
        /// Why not.
        error: KeyError,
    },
    /// A key of another certificate, or a certificate that rustls cannot read.
    #[error("certificate `{certificate}`: expected its own key: {error}")]
    KeyMismatch {
        /// The certificate's label.
        certificate: Excerpt,
        /// rustls's word.
        error: rustls::Error,
    },
}

/// Why a bundle cannot be written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// A table has no room.
    #[error("too many {table}: expected at most {max}, found {found}")]
    TooMany {
        /// Which table.
        table: &'static str,
        /// Rows found.
        found: usize,
        /// Rows that there is room for.
        max: usize,
    },
    /// More than [`FILE_BYTES_MAX`].
    #[error("the bundle would be larger than {FILE_BYTES_MAX} bytes: remove certificates that no host needs")]
    TooLarge,
    /// A path that is not UTF-8.
    #[error("{field}: the path {} is not UTF-8; rename it", Excerpt::of_path(.path))]
    Path {
        /// Which field.
        field: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// Not one key for each certificate.
    #[error("{keys} keys for {certificates} certificates: expected one each, in the same order")]
    Keys {
        /// Keys given.
        keys: usize,
        /// Certificates in the bundle.
        certificates: usize,
    },
    /// A key in a form that the format has no word for.
    #[error("certificate `{certificate}`: expected its key in PKCS #8, SEC 1 or PKCS #1")]
    KeyForm {
        /// The certificate's label.
        certificate: Excerpt,
    },
    /// What was written does not read back as what was meant.
    #[error("the bundle does not read back: {0}")]
    Check(FormatError),
    /// As [`EncodeError::Check`], with another content.
    #[error("the bundle reads back differently: this is a bug in sanedge")]
    Differs,
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
