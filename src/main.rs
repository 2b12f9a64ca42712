//! The `sanedge` command.

fn main() -> std::process::ExitCode {
    sanedge::cli::run()
}
