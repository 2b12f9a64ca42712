//! Man pages and shell completions for packages, from the same descriptions of the command line and of `sanedge.toml` that the
//! program and its docs have:
//!
//! ```sh
//! cargo run --locked --example assets [-- FOLDER]
//! ```
//!
//! Writes `man/sanedge.1`, one page for each command beside it, `man/sanedge.toml.5`, and `completions/` for bash, zsh and fish
//! into FOLDER: `assets` below the target directory unless given. An example, so that the generators are in no release binary.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use sanedge::bundle::keys::{self, Row};

const NAME: &str = "sanedge";
const SOURCE: &str = concat!("sanedge ", env!("CARGO_PKG_VERSION"));
/// `docs/configuration.md` begins with a whole file, which a test compiles.
const CONFIGURATION: &str = include_str!("../docs/configuration.md");

/// Lines of a term and what it means.
type Lines = &'static [(&'static str, &'static str)];

/// What clap does not know of a command.
struct Page {
    command: &'static str,
    sections: &'static [(&'static str, Lines)],
}

const TOML: (&str, &str) = ("/etc/sanedge/sanedge.toml", "What is served; see sanedge.toml(5).");
const BUNDLE: (&str, &str) = (
    "/etc/sanedge/sanedge.bundle",
    "The bundle that `sanedge bundle` writes: root:sanedge, mode 0640, because it contains private keys.",
);
const PLAN: (&str, &str) = (
    "/etc/sanedge/sanedge.acme",
    "The certificates to obtain, and their CA; written by `sanedge bundle`, without keys.",
);
const SOCKET: (&str, &str) =
    ("/run/sanedge/admin.sock", "The admin socket, unless `[listen] admin` says otherwise.");
const DONE: (&str, &str) = ("0", "Done.");
const FAILED: (&str, &str) = ("1", "It found problems, or it failed; stderr says which.");
const USAGE: (&str, &str) = ("2", "Wrong usage.");
const SIGNALS: Lines = &[
    ("SIGHUP", "Open the bundle again; if it is refused, the old one stays in use."),
    (
        "SIGTERM, SIGINT",
        "Drain: every WebSocket gets Close 1001 within `drain_spread`; the process exits within `drain_timeout`.",
    ),
    (
        "SIGUSR1",
        "End for a restart: exchanges have 2 s, and WebSockets go to the next process through systemd, or get Close 1012.",
    ),
    ("a second SIGTERM, SIGINT or SIGUSR1", "Exit at once."),
];

const PAGES: &[Page] = &[
    Page {
        command: "sanedge",
        sections: &[
            ("EXIT STATUS", &[DONE, FAILED, USAGE, ("3", "Done in part; stderr says what is missing.")]),
            ("SIGNALS", SIGNALS),
            ("FILES", &[TOML, BUNDLE, SOCKET]),
            (
                "EXAMPLES",
                &[
                    (
                        "sanedge bundle /etc/sanedge/sanedge.toml",
                        "Check the configuration and write /etc/sanedge/sanedge.bundle.",
                    ),
                    ("sanedge serve /etc/sanedge/sanedge.bundle", "Serve it in the foreground."),
                    ("sanedge apply", "Put an edited /etc/sanedge/sanedge.toml to use."),
                    ("sanedge status --watch", "Watch the running edge."),
                ],
            ),
        ],
    },
    Page {
        command: "bundle",
        sections: &[
            (
                "EXAMPLES",
                &[
                    (
                        "sanedge bundle sanedge.toml",
                        "Write sanedge.bundle beside it, or say everything that is wrong.",
                    ),
                    ("sanedge bundle edge.toml -o /srv/edge.bundle", "Write it elsewhere."),
                    ("sanedge bundle sanedge.toml --json", "Findings, hosts and the file written as JSON."),
                ],
            ),
            ("FILES", &[TOML, BUNDLE]),
            (
                "EXIT STATUS",
                &[
                    ("0", "The bundle is written; there may be warnings."),
                    ("1", "Nothing is written; an existing bundle stays."),
                    USAGE,
                    ("3", "Written in part: some hosts keep their old certificate or have none."),
                ],
            ),
        ],
    },
    Page {
        command: "setup",
        sections: &[
            (
                "EXAMPLES",
                &[
                    ("sudo sanedge setup", "Ask three questions, then do every step."),
                    (
                        "sudo sanedge setup socket.recre.store --app 3002 --agree",
                        "Show the changes of the file, ask once, and do every step. The terms are those of Let's Encrypt.",
                    ),
                    (
                        "sudo sanedge setup socket.recre.store --app 3002 --certificate fullchain.pem privkey.pem --yes",
                        "With a certificate of your own, and without a question.",
                    ),
                    (
                        "sudo sanedge setup board.local --app 3002 --local",
                        "With a local CA, for a name of your own network. Each client has to trust that CA once.",
                    ),
                ],
            ),
            ("FILES", &[TOML, BUNDLE, PLAN]),
            (
                "EXIT STATUS",
                &[
                    ("0", "Every step is done, and a client connected in the last one."),
                    (
                        "1",
                        "A step failed; stderr says what clients see, why, and what to type. Type the same command again to continue.",
                    ),
                    USAGE,
                ],
            ),
        ],
    },
    Page {
        command: "show",
        sections: &[
            (
                "EXAMPLES",
                &[
                    ("sanedge show sanedge.bundle", "Hosts, certificates, routes, limits; never a key."),
                    (
                        "sanedge show --check /etc/sanedge/sanedge.bundle",
                        "For a timer: check for overdue renewals, for a sanedge.toml that differs from its bundle, and for an edge that uses another bundle.",
                    ),
                    (
                        "sanedge show --check --source /srv/edge.toml edge.bundle",
                        "Compare with a sanedge.toml that has another name or folder.",
                    ),
                ],
            ),
            (
                "FILES",
                &[
                    BUNDLE,
                    (
                        "FILE.toml beside FILE.bundle",
                        "The configuration that --check compiles and compares with the bundle.",
                    ),
                ],
            ),
            (
                "EXIT STATUS",
                &[
                    ("0", "Shown; with --check: nothing needs attention."),
                    ("1", "The bundle cannot be used; with --check: something needs attention."),
                    USAGE,
                ],
            ),
        ],
    },
    Page {
        command: "apply",
        sections: &[
            (
                "EXAMPLES",
                &[
                    ("sudo sanedge apply", "After an edit of /etc/sanedge/sanedge.toml."),
                    ("sanedge apply --dry-run", "What would change, and whether that needs a new process."),
                    ("sudo sanedge apply --restart", "Restart the edge if the change needs that."),
                ],
            ),
            ("FILES", &[TOML, BUNDLE, PLAN, SOCKET]),
            (
                "EXIT STATUS",
                &[
                    ("0", "The file is in use; if no edge runs, the next start uses it."),
                    ("1", "The file has errors, or the edge did not confirm: files and edge are as before."),
                    USAGE,
                    ("3", "In use; a certificate that `sanedge renew` has stored cannot be used."),
                    (
                        "75",
                        "Nothing was changed: a restart would close WebSockets, another command is changing the same files, or the edge is \
                         shutting down.",
                    ),
                ],
            ),
        ],
    },
    Page {
        command: "site",
        sections: &[
            (
                "EXAMPLES",
                &[
                    (
                        "sudo sanedge site add game.recre.store --app 3005",
                        "Serve another host, with the app on port 3005.",
                    ),
                    (
                        "sudo sanedge site add recre.store --app 3006 --path /socket.io/",
                        "Forward a path of the host to another app.",
                    ),
                    (
                        "sudo sanedge site add www.recre.store --redirect https://recre.store",
                        "Redirect a host, with path and query.",
                    ),
                    ("sudo sanedge site remove game.recre.store", "Stop serving this host."),
                    ("sanedge site list", "The hosts of the file with their apps."),
                ],
            ),
            ("FILES", &[TOML, BUNDLE, PLAN, SOCKET]),
            (
                "EXIT STATUS",
                &[
                    ("0", "The change is in use; if no edge runs, the next start uses it."),
                    (
                        "1",
                        "Nothing was changed: the file has this host already, the file has errors, or the edge did not confirm.",
                    ),
                    USAGE,
                    ("3", "In use; a certificate that `sanedge renew` has stored cannot be used."),
                    ("75", "Nothing was changed; as for sanedge apply."),
                ],
            ),
        ],
    },
    Page {
        command: "console",
        sections: &[
            (
                "EXAMPLES",
                &[
                    ("sudo sanedge console", "Print the link of a page for /etc/sanedge/sanedge.toml."),
                    (
                        "ssh -o ExitOnForwardFailure=yes -N -L 127.0.0.1:8901:127.0.0.1:8901 user@board",
                        "On a desk: connect the desk's browser to a console that was started with --port 8901.",
                    ),
                ],
            ),
            ("FILES", &[TOML, BUNDLE, PLAN, SOCKET]),
            (
                "EXIT STATUS",
                &[
                    ("0", "The page, Ctrl-C, or the time without a request has ended it."),
                    (
                        "1",
                        "It could not begin, nobody opened the link in time, or the page's process failed.",
                    ),
                    USAGE,
                ],
            ),
        ],
    },
    Page {
        command: "import",
        sections: &[
            (
                "EXAMPLES",
                &[
                    (
                        "sanedge import npm /opt/npm -o sanedge.toml",
                        "A new file with what Nginx Proxy Manager serves; stderr says what it cannot have.",
                    ),
                    ("sanedge import npm /etc/nginx", "The same of nginx itself, on stdout."),
                    ("sanedge import npm /opt/npm --json", "With the fate of every directive."),
                ],
            ),
            (
                "FILES",
                &[
                    ("PATH/data/nginx", "The hosts of Nginx Proxy Manager."),
                    ("PATH/letsencrypt/live", "Its certificates, which are named in the file and not read."),
                ],
            ),
            (
                "EXIT STATUS",
                &[
                    ("0", "Every host is in use in the new file; stderr says what else is not as before."),
                    ("1", "Nothing was found, or the new file could not be written."),
                    USAGE,
                    ("3", "Some hosts are comments in the new file, or a file could not be read."),
                ],
            ),
        ],
    },
    Page {
        command: "renew",
        sections: &[
            (
                "EXAMPLES",
                &[
                    (
                        "sanedge renew /etc/sanedge/sanedge.acme",
                        "From a timer, once an hour: obtain the certificates that are missing or due, and put them to use.",
                    ),
                    (
                        "sanedge renew --dry-run /etc/sanedge/sanedge.acme",
                        "Have the CA's staging directory validate the names, and store nothing.",
                    ),
                    (
                        "sanedge renew --now --host socket.recre.store /etc/sanedge/sanedge.acme",
                        "Order the certificate of this host now.",
                    ),
                ],
            ),
            (
                "FILES",
                &[
                    PLAN,
                    (
                        "/var/lib/sanedge-acme",
                        "The account, orders and certificates with their keys: mode 0700, unless `[acme] state` says otherwise.",
                    ),
                    BUNDLE,
                ],
            ),
            (
                "EXIT STATUS",
                &[
                    ("0", "Every certificate is stored, and none is due."),
                    ("1", "All failed, or the bundle could not be written or put to use."),
                    USAGE,
                    (
                        "3",
                        "Some failed, or the bundle is in use without some certificates, or sanedge.toml has changed since `sanedge bundle`.",
                    ),
                    (
                        "75",
                        "Not now: some have to wait, the clock is wrong, the disk is full, or another `sanedge renew` is running.",
                    ),
                ],
            ),
        ],
    },
    Page {
        command: "account",
        sections: &[
            (
                "EXAMPLES",
                &[
                    ("sanedge account show", "URL, contact and thumbprint, without contacting the CA."),
                    (
                        "sudo sanedge account rollover",
                        "Replace the account's key, for example because the old one may be known to others.",
                    ),
                    (
                        "sudo sanedge account export account.pem",
                        "The account's key in a new file of mode 0600.",
                    ),
                    (
                        "sanedge account dns-records",
                        "CNAME records for dns-01, and CAA records by which only this account may issue.",
                    ),
                ],
            ),
            ("FILES", &[PLAN]),
            ("EXIT STATUS", &[DONE, FAILED, USAGE]),
        ],
    },
    Page {
        command: "local",
        sections: &[
            (
                "EXAMPLES",
                &[
                    (
                        "sanedge local show",
                        "The certificate that devices have to trust, its fingerprint, and how each system is told.",
                    ),
                    (
                        "sudo sanedge local replace",
                        "Another CA for the hosts of the file; every device has to trust it anew.",
                    ),
                ],
            ),
            (
                "FILES",
                &[
                    PLAN,
                    ("/etc/sanedge/local/ca.crt", "The certificate that devices have to trust."),
                    ("/etc/sanedge/local/ca.key", "The key of the CA, for root alone."),
                ],
            ),
            ("EXIT STATUS", &[DONE, FAILED, USAGE]),
        ],
    },
    Page {
        command: "revoke",
        sections: &[
            (
                "EXAMPLES",
                &[(
                    "sudo sanedge revoke socket.recre.store && sudo sanedge renew",
                    "Revoke the certificate of this host, and obtain another with another key.",
                )],
            ),
            ("FILES", &[PLAN, BUNDLE]),
            ("EXIT STATUS", &[DONE, FAILED, USAGE]),
        ],
    },
    Page {
        command: "reload",
        sections: &[
            (
                "EXAMPLES",
                &[
                    (
                        "sanedge bundle /etc/sanedge/sanedge.toml && sanedge reload",
                        "After an edit or a renewal.",
                    ),
                    (
                        "sanedge reload --bundle /etc/sanedge/sanedge.bundle",
                        "Take the admin socket's address from the bundle.",
                    ),
                ],
            ),
            ("FILES", &[BUNDLE, SOCKET]),
            (
                "SIGNALS",
                &[(
                    "SIGHUP",
                    "Sent to the process in MAINPID if the admin socket is on TCP, which is read-only.",
                )],
            ),
            (
                "EXIT STATUS",
                &[
                    ("0", "The bundle is in use. A warning says if sanedge.toml is newer than the bundle."),
                    ("1", "The bundle was refused and the old one stays in use, or no edge answers."),
                    USAGE,
                ],
            ),
        ],
    },
    Page {
        command: "status",
        sections: &[
            (
                "EXAMPLES",
                &[
                    ("sanedge status", "Hosts, certificates, sessions, upstreams, refusals."),
                    ("sanedge status --watch", "Repeat every two seconds."),
                    ("sanedge status --check", "One line and an exit code, for a container's health check."),
                    ("sanedge status --json --admin 127.0.0.1:9443", "The same as JSON, over loopback."),
                ],
            ),
            ("FILES", &[SOCKET, TOML]),
            (
                "EXIT STATUS",
                &[
                    ("0", "Done. With `--check`: every worker answers, and a host has a valid certificate."),
                    ("1", "No edge answers. With `--check`: clients are not served; one line says why."),
                    USAGE,
                ],
            ),
        ],
    },
    Page {
        command: "doctor",
        sections: &[
            (
                "EXAMPLES",
                &[
                    ("sanedge doctor https://socket.recre.store", "Find out why clients cannot connect."),
                    (
                        "sanedge doctor https://recre.store --origin https://recre.store --namespace /game",
                        "As a page of this origin.",
                    ),
                    (
                        "sanedge doctor /etc/sanedge/sanedge.bundle",
                        "On the board: every host, the app itself, and the board.",
                    ),
                ],
            ),
            ("FILES", &[TOML, BUNDLE]),
            ("EXIT STATUS", &[("0", "Nothing is wrong."), ("1", "Some client cannot connect."), USAGE]),
        ],
    },
    Page {
        command: "serve",
        sections: &[
            (
                "EXAMPLES",
                &[
                    (
                        "sanedge serve /etc/sanedge/sanedge.bundle",
                        "In the foreground; ports below 1024 need root or a capability.",
                    ),
                    (
                        "systemctl enable --now sanedge-https.socket sanedge-admin.socket sanedge.service",
                        "Under systemd, which holds the ports.",
                    ),
                    (
                        "sanedge serve sanedge.bundle --access-log json",
                        "One JSON object for each request of sites with `access_log = true`.",
                    ),
                ],
            ),
            ("SIGNALS", SIGNALS),
            (
                "FILES",
                &[
                    BUNDLE,
                    SOCKET,
                    (
                        "/run/sanedge/ticket-keys",
                        "Keys of TLS session tickets, on a tmpfs only, so that clients can resume after a restart.",
                    ),
                ],
            ),
            (
                "ENVIRONMENT",
                &[
                    ("LISTEN_FDS, LISTEN_FDNAMES", "Sockets named https, http and admin from systemd."),
                    ("NOTIFY_SOCKET, WATCHDOG_USEC", "Readiness and watchdog for systemd."),
                    (
                        "JOURNAL_STREAM",
                        "Set by systemd: log lines then have no time, because the journal records it.",
                    ),
                ],
            ),
            ("EXIT STATUS", &[("0", "The drain completed."), FAILED, USAGE]),
        ],
    },
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
    written.push(configuration(&man)?);
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
    for command in std::iter::once(whole).chain(commands) {
        // After `build` a command's name is that of its page: `sanedge-bundle`.
        let name = command.get_name().trim_start_matches("sanedge-").to_owned();
        let man = Man::new(command).manual("sanedge manual").source(SOURCE);
        let path = folder.join(man.get_filename());
        let mut text = Vec::new();
        man.render(&mut text)?;
        let page = PAGES.iter().find(|page| page.command == name);
        for (title, lines) in page.map_or(&[][..], |page| page.sections) {
            section(title, lines).to_writer(&mut text)?;
        }
        let mut see = Roff::new();
        see.control("SH", ["SEE ALSO"]).text([
            bold("sanedge"),
            roman("(1), "),
            bold("sanedge.toml"),
            roman("(5)"),
        ]);
        see.to_writer(&mut text)?;
        fs::write(&path, text)?;
        written.push(path);
    }
    Ok(written)
}

fn section(title: &str, lines: Lines) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (term, meaning) in lines {
        roff.control("TP", []).text([bold(*term)]).text(marked(meaning));
    }
    roff
}

/// Text whose `code` stands out.
fn marked(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { bold(part) } else { roman(part) }).collect()
}

/// `sanedge.toml.5`: the keys of the one table, which docs/configuration.md is made of as well.
fn configuration(folder: &Path) -> io::Result<PathBuf> {
    let mut roff = Roff::new();
    roff.control("TH", ["sanedge.toml", "5", "", SOURCE, "sanedge manual"]);
    roff.control("SH", ["NAME"]).text([roman("sanedge.toml - what the sanedge TLS edge serves")]);
    let description = "A TOML file that `sanedge bundle` checks, together with the files that it names, and compiles to a bundle. \
                       Relative paths are relative to the file. Durations are written `\"30s\"` (`ms`, `s`, `m`, `h`), sizes `\"16KiB\"` \
                       (`KiB`, `MiB`, `GiB`) or as a number of bytes. Unknown keys are errors. A change takes effect with \
                       `sanedge bundle sanedge.toml && sanedge reload`.";
    roff.control("SH", ["DESCRIPTION"]).text(marked(description));
    roff.control("SH", ["EXAMPLE"]).control("nf", []);
    for line in example().lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    for table in keys::TABLES {
        roff.control("SH", [&*table.title.to_uppercase()]);
        for row in table.own_rows() {
            entry(&mut roff, &row);
        }
    }
    let mut text = Vec::new();
    roff.to_writer(&mut text)?;
    section("FILES", &[TOML, BUNDLE]).to_writer(&mut text)?;
    let mut see = Roff::new();
    see.control("SH", ["SEE ALSO"]).text([
        bold("sanedge"),
        roman("(1), "),
        bold("sanedge-bundle"),
        roman("(1)"),
    ]);
    see.to_writer(&mut text)?;
    let path = folder.join("sanedge.toml.5");
    fs::write(&path, text)?;
    Ok(path)
}

/// The first block of TOML of docs/configuration.md.
fn example() -> &'static str {
    let block = CONFIGURATION.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```"));
    block.map(|(block, _)| block).unwrap_or_default()
}

fn entry(roff: &mut Roff, row: &Row) {
    let mut text = format!("{} ", row.means);
    text += &format!("Default: {}.", row.default);
    for (label, part) in [("Allowed", row.range.as_str()), ("Why", row.why)] {
        if !part.is_empty() {
            text += &format!(" {label}: {part}.");
        }
    }
    roff.control("TP", []).text([bold(row.name), roman(format!(" ({})", row.kind))]).text(marked(&text));
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
        assert_eq!(written.len(), 1 + commands.len() + 1 + 3);
        let read = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap();
        let main = read("man/sanedge.1");
        for command in commands.iter().map(String::as_str).chain([NAME]) {
            let name = if command == NAME { NAME.to_owned() } else { format!("sanedge-{command}") };
            let page = read(&format!("man/{name}.1"));
            for title in ["SYNOPSIS", "EXAMPLES", "FILES", "\"EXIT STATUS\"", "\"SEE ALSO\""] {
                assert!(page.contains(&format!(".SH {title}")), "{name}: {title}\n{page}");
            }
            assert_eq!(page.contains(".SH SIGNALS"), matches!(command, NAME | "serve" | "reload"), "{name}");
        }
        for command in &commands {
            assert!(main.contains(&format!("sanedge\\-{command}(1)")), "{main}");
            for shell in ["sanedge.bash", "_sanedge", "sanedge.fish"] {
                assert!(read(&format!("completions/{shell}")).contains(command), "{shell}: {command}");
            }
        }
    }

    #[test]
    fn every_example_is_a_command_that_exists() {
        let mut tried = 0;
        for (title, lines) in PAGES.iter().flat_map(|page| page.sections) {
            for (typed, _) in lines.iter().filter(|_| *title == "EXAMPLES") {
                for one in typed.split(" && ").filter(|one| one.starts_with("sanedge ")) {
                    let parsed = sanedge::cli::command().try_get_matches_from(one.split(' '));
                    let is_left_out = one.starts_with("sanedge doctor")
                        && sanedge::cli::command().find_subcommand("doctor").is_none();
                    assert!(parsed.is_ok() || is_left_out, "{one}: {parsed:?}");
                    tried += 1;
                }
            }
        }
        assert!(tried > 10);
    }

    #[test]
    fn the_page_of_the_file_has_every_key_and_an_example() {
        let folder = tempfile::tempdir().unwrap();
        let page = fs::read_to_string(configuration(folder.path()).unwrap()).unwrap();
        assert!(page.starts_with(".TH sanedge.toml 5") || page.contains("\n.TH sanedge.toml 5"), "{page}");
        let mut seen = 0;
        for table in keys::TABLES {
            for row in table.rows() {
                let name = row.name.replace('-', "\\-");
                assert!(page.contains(&format!("\\fB{name}\\fR")), "{name}\n{page}");
                seen += 1;
            }
        }
        assert!(seen > 40, "{seen}");
        assert!(
            page.contains("[[site.route]]") && page.contains("hosts") && example().lines().count() > 10,
            "{page}"
        );
        assert!(!page.contains('`'), "marks of the docs are gone");
    }
}
