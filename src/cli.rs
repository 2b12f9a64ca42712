//! The command line: arguments to a command, and an error chain to text and exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The TLS edge for the single-board computer at home.
#[derive(Parser, Debug)]
#[command(name = "sanedge", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve a bundle. SIGHUP reloads it, SIGTERM drains, SIGUSR1 drains for a restart.
    Serve {
        /// The file that `sanedge bundle` wrote.
        bundle: PathBuf,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve { bundle } => crate::edge::serve(&bundle),
    }
}
