//! The long trials of `sanedge renew` with a real CA; `tests/acme/run` runs them. Each prints a table.

mod ca;
mod clock;
mod cuts;
mod days;
mod disk;
mod figures;
mod idle;

use std::io::Write as _;

use super::support::node::has;

/// What a trial needs; it fails without.
fn needs(commands: &[(&str, &str)]) {
    for (command, option) in commands {
        assert!(has(command, option), "it needs {command}");
    }
}

/// A row of a table, shown at once: a trial takes minutes.
fn row(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}
