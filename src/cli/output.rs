//! The files that `sanedge bundle` and `sanedge renew` write, and the bundle that one of them replaces.

use std::io;
use std::path::Path;

use super::terminal::complain;
use crate::bundle::acme::Plan;
use crate::bundle::compile::InPlace;
use crate::bundle::finding::{Code, Finding};
use crate::bundle::{file, report, wire};
use crate::excerpt::Excerpt;

/// Exit code of a command that succeeded in part.
pub(super) const DONE_IN_PART: u8 = 3;

/// Writes `x.acme`. It contains no secret, and the user that talks to the CA reads it.
pub(super) fn keep_plan(plan: &Plan, bundle: &Path) {
    let path = Plan::beside(bundle);
    if let Err(error) = file::write_public(&path, &plan.encode()) {
        complain(&format!(
            "error {}; `sanedge renew` does not use this change yet\n",
            report::escaped(&error.to_string())
        ));
    }
}

/// The bundle that will be replaced; an empty one if there is none. From an unreadable one nothing can be carried over, so all certificates
/// must be valid.
pub(super) fn in_place(output: &Path) -> Option<InPlace> {
    let unreadable = match file::read(output) {
        Ok(bytes) => match InPlace::decode(&bytes) {
            Ok(in_place) => return Some(in_place),
            Err(error) => format!("it is {error}"),
        },
        Err(_) if !output.exists() => return Some(InPlace::default()),
        Err(error) => error.to_string(),
    };
    let output = Excerpt::of_path(output);
    complain(&format!("note nothing is carried over from {output}: {}\n", report::escaped(&unreadable)));
    None
}

/// Replaces a bundle or creates one, but overwrites no other file: a typing error must not destroy a key.
pub(super) fn write(output: &Path, given: bool, bytes: &[u8]) -> Result<file::Written, Box<Finding>> {
    let refused = |found: String, remedy: &str| {
        let finding =
            Finding::new(Code::NotWritten, format!("`{}` was not written", Excerpt::of_path(output)));
        Box::new(finding.at(output, 0).expected("a place for the bundle").found(found).remedy(remedy))
    };
    if is_something_else(output) {
        let word = file::word(output);
        let remedy = if given {
            "Name another file with -o, or remove this one.".to_owned()
        } else {
            format!("Move it away and try again; a damaged bundle is of no use:\n  mv {word} {word}.damaged")
        };
        return Err(refused("a file that is not a bundle".to_owned(), &remedy));
    }
    file::write_atomic(output, bytes).map_err(|error| match error {
        file::WriteError::Folder { ref folder, .. } => {
            let found = format!("{}, a folder of the user `sanedge`", Excerpt::of_path(folder));
            let word = file::word(folder);
            let remedy = format!(
                "An attacker who takes over the service could replace the bundle. Type:\n  chown root:sanedge {word} && chmod 0751 {word}"
            );
            refused(found, &remedy)
        }
        error => refused(error.to_string(), "Name a file with -o that you can write."),
    })
}

pub(super) fn is_something_else(output: &Path) -> bool {
    use io::Read as _;
    let full = std::fs::metadata(output).is_ok_and(|about| about.is_file() && about.len() > 0);
    let mut magic = [0; wire::MAGIC.len()];
    let mut begins = |mut file: std::fs::File| file.read_exact(&mut magic).is_ok() && magic == wire::MAGIC;
    full && std::fs::File::open(output).is_ok_and(|file| !begins(file))
}
