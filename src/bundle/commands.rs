//! Commands that people copy into a shell.

use std::path::Path;

use super::Admin;
use super::acme::Plan;
use super::file::word;

/// Before a command that writes files in a folder of root.
fn sudo(file: &Path) -> &'static str {
    if file.starts_with("/etc") { "sudo " } else { "" }
}

/// Obtains the certificates for which hosts of the bundle at `bundle` wait, without the pause after a failure.
pub fn renew_command(bundle: &Path) -> String {
    format!("{}sanedge renew {} --now", sudo(bundle), word(&Plan::beside(bundle)))
}

/// Puts the sanedge.toml at `file` to use.
pub fn apply_command(file: &Path) -> String {
    format!("{}sanedge apply {}", sudo(file), word(file))
}

/// What to type so that the edge with this admin listener opens its bundle again. Over TCP it can only be read.
pub fn reload_command(admin: Option<&Admin>) -> String {
    match admin {
        None => "sanedge reload".to_owned(),
        Some(Admin::Unix(path)) if path == Path::new(Admin::DEFAULT_PATH) => "sanedge reload".to_owned(),
        Some(Admin::Unix(path)) => format!("sanedge reload --admin {}", word(path)),
        Some(Admin::Tcp(_)) => "sudo systemctl kill -s HUP sanedge".to_owned(),
    }
}
