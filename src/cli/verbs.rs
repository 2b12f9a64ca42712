//! Verbs and options of other programs, and the command of sanedge that does the same.

use std::path::Path;

use crate::bundle::file::word;

/// Words, and what to type instead. `{toml}` and `{bundle}` are replaced by the file on the command line, if there is one.
struct Verb {
    words: &'static [&'static str],
    instead: &'static str,
}

const VERBS: &[Verb] = &[
    Verb {
        words: &["start", "run", "up", "daemon", "launch", "listen", "proxy", "reverse-proxy", "server"],
        instead: "To serve in the foreground, type `sanedge serve {bundle}`; under systemd `sudo systemctl start sanedge`.",
    },
    Verb {
        words: &[
            "check",
            "validate",
            "test",
            "-t",
            "-T",
            "-c",
            "configtest",
            "config-test",
            "lint",
            "verify",
            "adapt",
            "compile",
            "build",
            "make",
            "create",
            "convert",
            "generate",
            "dry-run",
        ],
        instead: "To check sanedge.toml and its certificates, type `sanedge bundle {toml}`: it writes a bundle only if \
            nothing is wrong, and the running edge keeps its own until `sanedge reload`. To check a bundle against its \
        sanedge.toml, type `sanedge show --check {bundle}`.",
    },
    Verb {
        words: &["stop", "quit", "shutdown", "down", "kill", "exit", "halt", "drain"],
        instead: "Type `sudo systemctl stop sanedge`, or send SIGTERM to `sanedge serve`: it drains for `drain_timeout`.",
    },
    Verb {
        words: &["restart", "force-reload", "reboot"],
        instead: "Type `sudo systemctl restart sanedge`. For a new bundle `sanedge reload` is enough, and keeps open \
                  WebSockets.",
    },
    Verb {
        words: &["-s", "--signal", "hup", "refresh", "apply", "rehash", "deploy"],
        instead: "To put an edited file to use, type `sudo sanedge apply {toml}`; to open the bundle again, `sudo sanedge reload`; to stop, \
            `sudo systemctl stop sanedge`.",
    },
    Verb {
        words: &[
            "certonly",
            "issue",
            "cert",
            "certs",
            "certificate",
            "certificates",
            "acme",
            "certbot",
            "obtain",
        ],
        instead: "`sanedge renew` obtains and renews certificates, with [acme] in sanedge.toml (docs/acme.md). With certbot beside \
                  sanedge, type `sudo certbot renew`, with sanedge-deploy as its deploy hook (docs/renewal.md). \
                  `sanedge show {bundle}` lists the certificates with days left.",
    },
    Verb { words: &["version", "-v", "ver"], instead: "Type `sanedge --version`." },
    Verb {
        words: &[
            "list", "ls", "inspect", "info", "dump", "print", "cat", "view", "hosts", "sites", "config",
            "routes",
        ],
        instead: "To see a bundle's content, type `sanedge show {bundle}`; for the running edge, `sanedge status`.",
    },
    Verb {
        words: &["log", "logs", "journal", "tail"],
        instead: "The log is on stderr of `sanedge serve`; under systemd type `journalctl -u sanedge -f`.",
    },
    Verb {
        words: &["ps", "health", "healthcheck", "ping", "stats", "metrics", "top", "state", "watch", "stat"],
        instead: "Type `sanedge status`; --watch repeats it, --json is for programs. Prometheus reads /metrics on the admin \
            socket.",
    },
    Verb {
        words: &["diagnose", "diag", "debug", "trace", "probe", "doctor", "why", "troubleshoot"],
        instead: "To find out why clients cannot connect, type `sanedge doctor https://HOST`.",
    },
    Verb {
        words: &["init", "new", "setup", "install", "enable", "service", "configure", "site", "add"],
        instead: "To set up the first host, type `sudo sanedge setup HOST --app PORT`; to add another, \
                  `sudo sanedge site add HOST --app PORT`. `sanedge setup --help` has the options.",
    },
    Verb {
        words: &["fmt", "format", "reformat"],
        instead: "sanedge does not format files: it accepts every layout that is valid TOML. To check the file, type \
                  `sanedge bundle {toml}`.",
    },
    Verb {
        words: &["import", "migrate", "from", "load"],
        instead: "To create a sanedge.toml from the files of Nginx Proxy Manager or nginx, type `sanedge import npm PATH` \
                  (docs/from-npm.md). For another proxy, write the file (`man sanedge.toml` has an example) and check it with `sanedge bundle {toml}`.",
    },
    Verb {
        words: &["export", "save", "backup", "restore"],
        instead: "Copy sanedge.toml and the files that it names; with [local] also ca.key of the local CA (docs/local.md), and with \
                  [acme] the state folder (/var/lib/sanedge-acme), which has the account and its certificates. A bundle contains \
                  the private keys, and `sanedge bundle {toml}` makes it again.",
    },
    Verb {
        words: &["update", "upgrade", "self-update"],
        instead: "Install the newer package (`sudo dpkg -i sanedge_*.deb`): the running edge restarts with it. \
                  `sanedge --version` prints the installed one.",
    },
    Verb {
        words: &["file-server", "static", "hash-password", "trust", "untrust"],
        instead: "sanedge serves no files and checks no passwords: it proxies to your app. For names of your own network it has a local \
            CA (docs/local.md): `sanedge local show` says how a device trusts it.",
    },
];

/// What to type instead of the first of these words (without the program's name), if it is a verb of another program.
pub(super) fn advice(words: &[String]) -> Option<String> {
    let (first, rest) = words.split_first()?;
    if first == "help" && !rest.is_empty() {
        return advice(rest);
    }
    let is_it =
        |known: &&str| *known == first || (!first.starts_with('-') && known.eq_ignore_ascii_case(first));
    let verb = VERBS.iter().find(|verb| verb.words.iter().any(is_it))?;
    let named = |end: &str| {
        let file = rest
            .iter()
            .map(Path::new)
            .find(|file| file.extension().is_some_and(|e| e == end) && file.is_file());
        file.map(word)
    };
    let toml = named("toml").unwrap_or_else(|| "sanedge.toml".to_owned());
    let bundle = named("bundle").unwrap_or_else(|| "sanedge.bundle".to_owned());
    Some(verb.instead.replace("{toml}", &toml).replace("{bundle}", &bundle))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice_for(words: &[&str]) -> Option<String> {
        advice(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn every_command_that_is_named_exists() {
        let known = crate::cli::command();
        let mut looked_at = 0;
        for verb in VERBS {
            for typed in verb.instead.split('`').skip(1).step_by(2) {
                let Some(rest) = typed.trim_start_matches("sudo ").strip_prefix("sanedge ") else { continue };
                let command = rest.split(' ').next().unwrap();
                let exists = command == "--version" || known.find_subcommand(command).is_some();
                assert!(exists, "{typed}");
                looked_at += 1;
            }
        }
        assert!(looked_at > 15, "{looked_at}");
    }

    #[test]
    fn no_verb_stands_twice_and_none_hides_a_command() {
        let mut all: Vec<&str> = VERBS.iter().flat_map(|verb| verb.words).copied().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(advice_for(&["serve"]), None);
        assert_eq!(advice_for(&["banana"]), None);
        assert_eq!(advice_for(&[]), None);
        assert!(advice_for(&["Start"]).unwrap().contains("`sanedge serve sanedge.bundle`"));
        assert!(advice_for(&["-V"]).is_none(), "that is ours, and not -v");
        assert_eq!(advice_for(&["help", "start"]), advice_for(&["start"]));
        assert_eq!(advice_for(&["help"]), None);
    }
}
