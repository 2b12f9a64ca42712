//! Whether sanedge.toml, or a certificate file that it names, is newer than the bundle, as far as times tell.
//!
//! The edge opens neither: keys are not its business, and its sandbox has no place for them. `sanedge status`, `sanedge reload` and
//! `sanedge show --check` compile the file again and compare contents.

use std::path::Path;
use std::time::SystemTime;

use crate::admin::SourceStatus;
use crate::bundle::Bundle;
use crate::bundle::commands::apply_command;
use crate::excerpt::Excerpt;

/// Compares times; `None` where there is no sanedge.toml of the bundle's name beside its file.
pub(crate) fn look(bundle_file: &Path, bundle: &Bundle) -> Option<SourceStatus> {
    let file = bundle_file.with_extension("toml");
    let changed = |path: &Path| std::fs::metadata(path).and_then(|about| about.modified()).ok();
    let (source, written) = (changed(&file)?, changed(bundle_file)?);
    let folder = bundle_file.parent().unwrap_or(Path::new("/"));
    // As they are written in sanedge.toml, relative to it. One that this process may not look at tells nothing.
    let chains = bundle.certificates.iter().map(|certificate| folder.join(&*certificate.label));
    let times = std::iter::once((file.clone(), Some(source))).chain(chains.map(|chain| {
        let at = changed(&chain);
        (chain, at)
    }));
    let is_newer = |at: &Option<SystemTime>| at.is_some_and(|at| at > written);
    let newer: Vec<String> =
        times.filter(|(_, at)| is_newer(at)).map(|(file, _)| Excerpt::of_path(&file).to_string()).collect();
    let command = apply_command(&file);
    let message = newer.first().map(|first| {
        let more = if newer.len() > 1 { " and others are" } else { " is" };
        format!("{first}{more} newer than the bundle in use")
    });
    let state = if newer.is_empty() { "not-compared" } else { "newer" };
    Some(SourceStatus { file: Excerpt::of_path(&file).to_string(), state, message, command })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_compared_and_files_that_are_not_there_tell_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let golden = crate::fuzz::GOLDEN;
        let bundle = Bundle::decode(zeroize::Zeroizing::new(golden.to_vec())).unwrap();
        let (toml, file) = (folder.path().join("x.toml"), folder.path().join("x.bundle"));
        std::fs::write(&file, golden).unwrap();
        assert!(look(&file, &bundle).is_none(), "a bundle from another machine");
        std::fs::write(&toml, "").unwrap();
        let at = |path: &Path, seconds: u64| {
            let file = std::fs::File::options().append(true).open(path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        };
        at(&file, 1000);
        at(&toml, 1000);
        let same = look(&file, &bundle).unwrap();
        assert_eq!((same.state, same.message), ("not-compared", None));
        at(&toml, 1001);
        let newer = look(&file, &bundle).unwrap();
        let message = newer.message.unwrap();
        assert!(
            newer.state == "newer" && message.contains("x.toml is newer than the bundle in use"),
            "{message}"
        );
        let command = newer.command;
        assert!(command.contains("sanedge apply ") && command.ends_with("x.toml"), "{command}");
        at(&toml, 999);
        let chain = folder.path().join(&*bundle.certificates[0].label);
        std::fs::write(&chain, "").unwrap();
        at(&chain, 1001);
        assert_eq!(look(&file, &bundle).unwrap().state, "newer", "{}", chain.display());
    }
}
