//! Man pages and shell completions for packages, from the same description of the command line that the program has:
//!
//! ```sh
//! cargo run --locked --example assets [-- FOLDER]
//! ```
//!
//! Writes `man/sanedge.1`, one page for each command beside it, and `completions/` for bash, zsh and fish into FOLDER:
//! `assets` below the target directory unless given. An example, so that the generators are in no release binary.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

const NAME: &str = "sanedge";

/// Sections that only the page of the whole program has: title, and lines of a term and what it means.
const SECTIONS: [(&str, &[(&str, &str)]); 3] = [
    (
        "EXIT STATUS",
        &[
            ("0", "Done."),
            ("1", "Problems were found, or it failed; stderr says which."),
            ("2", "Wrong usage."),
        ],
    ),
    (
        "SIGNALS",
        &[
            ("SIGHUP", "serve opens its bundle again; where that is not good, the old one stays in use."),
            ("SIGTERM", "serve drains: every WebSocket gets Close 1001, then it ends."),
            ("SIGUSR1", "serve drains for a restart, within 2 s: every WebSocket gets Close 1012."),
        ],
    ),
    ("FILES", &[("/run/sanedge/admin.sock", "The admin socket, unless sanedge.toml says otherwise.")]),
];

fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = given.map_or_else(default_folder, Ok)?;
    for path in write(&folder)? {
        println!("{}", path.display());
    }
    Ok(())
}

/// `assets` in the target directory, below which this program was built as `<profile>/examples/assets`.
fn default_folder() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(3);
    target.map(|target| target.join("assets")).ok_or_else(|| io::Error::other("name a folder"))
}

fn write(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    let mut written = pages(&man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        written.push(clap_complete::generate_to(shell, &mut sanedge::cli::command(), NAME, &completions)?);
    }
    Ok(written)
}

/// `sanedge.1`, and `sanedge-bundle.1` and so on for its commands.
fn pages(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut whole = sanedge::cli::command().disable_help_subcommand(true);
    whole.build();
    let commands: Vec<Command> = whole.get_subcommands().cloned().collect();
    let mut written = Vec::with_capacity(1 + commands.len());
    for (command, sections) in
        [(whole, &SECTIONS[..])].into_iter().chain(commands.into_iter().map(|command| (command, &[][..])))
    {
        let man =
            Man::new(command).manual("sanedge manual").source(concat!("sanedge ", env!("CARGO_PKG_VERSION")));
        let path = folder.join(man.get_filename());
        let mut text = Vec::new();
        man.render(&mut text)?;
        sections.iter().try_for_each(|(title, lines)| section(title, lines).to_writer(&mut text))?;
        fs::write(&path, text)?;
        written.push(path);
    }
    Ok(written)
}

fn section(title: &str, lines: &[(&str, &str)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (term, meaning) in lines {
        roff.control("TP", []).text([bold(*term)]).text([roman(*meaning)]);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page_and_its_completion() {
        let folder = tempfile::tempdir().unwrap();
        let written = write(folder.path()).unwrap();
        let commands: Vec<_> =
            sanedge::cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
        assert!(commands.contains(&"serve".to_owned()), "{commands:?}");
        assert_eq!(written.len(), 1 + commands.len() + 3);
        let read = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap();
        let main = read("man/sanedge.1");
        assert!(SECTIONS.iter().all(|(title, _)| main.contains(title)), "{main}");
        for command in &commands {
            assert!(read(&format!("man/sanedge-{command}.1")).contains(".SH SYNOPSIS"));
            assert!(main.contains(&format!("sanedge\\-{command}(1)")), "{main}");
            for shell in ["sanedge.bash", "_sanedge", "sanedge.fish"] {
                assert!(read(&format!("completions/{shell}")).contains(command), "{shell}: {command}");
            }
        }
    }
}
