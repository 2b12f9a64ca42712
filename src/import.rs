//! `sanedge import`: a sanedge.toml of the files that nginx has below Nginx Proxy Manager (NPM), or by itself.
//!
//! Reads files and writes none. A directive is translated, known not to matter, or reported, by its name and never by its arguments.
//! A host that would be open to more clients without what sanedge does not have is written as comments.

pub(crate) mod files;
pub(crate) mod known;
mod location;
mod server;
pub(crate) mod syntax;
mod values;
mod write;

use std::path::Path;

use known::Row;

/// What came out.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The new sanedge.toml.
    pub(crate) text: String,
    /// Hosts in use in it.
    pub(crate) hosts: Vec<String>,
    /// Hosts that are comments.
    pub(crate) commented: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// Files below the folder.
    pub(crate) files: Vec<String>,
}

/// Reads what NPM, or nginx, has at `path`.
///
/// # Errors
/// Nothing is there, or this user may not look.
pub(crate) fn npm(path: &Path) -> std::io::Result<Imported> {
    let tree = files::read(path)?;
    let mut http = server::Http::of(&tree.top, tree.is_npm);
    let sites = http.sites();
    let mut writer = write::Writer::new(&tree);
    sites.into_iter().for_each(|site| writer.site(site));
    let text = writer.text();
    let write::Writer { hosts, commented, rows, .. } = writer;
    let mut rows = [tree.rows.clone(), http.rows, rows].concat();
    rows.sort_by_key(|row| (row.file, row.line));
    Ok(Imported { text, hosts, commented, rows, files: tree.labels.clone() })
}

/// Reads `bytes` as a file of nginx; for fuzzing: no input panics, each directive at the top has its row, and what is written is TOML.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Ok(top) = syntax::parse(bytes, 0) else { return };
    for is_npm in [false, true] {
        let mut http = server::Http::of(&top, is_npm);
        let sites = http.sites();
        assert!((top.len()..=files::count(&top)).contains(&http.rows.len()));
        for site in sites {
            let text = write::tables(&site);
            assert!(text.parse::<toml_edit::DocumentMut>().is_ok());
        }
    }
}
