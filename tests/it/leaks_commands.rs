//! A private key in each position of sanedge.toml, and in each argument, is in no output of any command. The commands are those of the
//! command line itself: a new one without a row here fails, a new argument is tried by itself.
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::leaks::{OF_FILES, every_key, keys, quiet, source, values};
use crate::support::odd_certs::{Folder, NOW};
use crate::support::secret::{Secret, toml};
use crate::support::{cores, each};
use sanedge::bundle::compile::compile;

/// Each command and the form of its output, with the file that may hold a key (`TOML`) in each place for one.
const RUNS: &[&[&str]] = &[
    &["setup", "a.b", "--app", "1", "--no-units", "--yes", "--file", "TOML"],
    &["setup", "a.b", "--app", "1", "--no-units", "--yes", "--json", "--file", "TOML"],
    &["setup", "a.home.arpa", "--app", "1", "--local", "--no-units", "--yes", "--json", "--file", "TOML"],
    &["bundle", "TOML"],
    &["bundle", "--json", "TOML"],
    &["bundle", "--verbose", "TOML"],
    &["bundle", "--carry-over", "TOML"],
    &["bundle", "--carry-over", "--json", "-o", "BUNDLE", "TOML"],
    &["apply", "TOML"],
    &["apply", "--json", "TOML"],
    &["site", "list", "--file", "TOML"],
    &["site", "add", "x.recre.store", "--app", "3000", "--file", "TOML"],
    &["site", "remove", "recre.store", "--json", "--file", "TOML"],
    &["console", "--idle", "50ms", "TOML"],
    &["import", "npm", "TOML"],
    &["import", "npm", "--json", "TOML"],
    &["doctor", "--timeout", "1s", "TOML"],
    &["doctor", "--timeout", "1s", "--json", "TOML"],
    &["doctor", "--timeout", "1s", "--report", "TOML"],
    &["show", "TOML"],
    &["show", "--json", "TOML"],
    &["show", "--check", "--source", "TOML", "BUNDLE"],
    &["show", "--check", "--json", "--source", "TOML", "BUNDLE"],
    &["serve", "TOML"],
    &["reload", "--bundle", "TOML"],
    &["reload", "--json", "--bundle", "TOML"],
    &["status", "--bundle", "TOML"],
    &["status", "--check", "--bundle", "TOML"],
    &["renew", "TOML"],
    &["renew", "--json", "TOML"],
    &["renew", "--deploy", "TOML"],
    &["account", "show", "--acme", "TOML"],
    &["account", "export", "/dev/null", "--acme", "TOML"],
    &["account", "rollover", "--json", "--acme", "TOML"],
    &["account", "dns-records", "--acme", "TOML"],
    &["local", "show", "--acme", "TOML"],
    &["local", "replace", "--yes", "--json", "--acme", "TOML"],
    &["revoke", "recre.store", "--acme", "TOML"],
    &["revoke", "recre.store", "--json", "--acme", "TOML"],
    &["hook", "TOML"],
];

/// Commands that are no subcommand of ours.
const OTHERS: [&str; 1] = ["hook"];

fn names() -> BTreeSet<String> {
    let command = sanedge::cli::command();
    command.get_subcommands().map(|one| one.get_name().to_owned()).filter(|name| name != "help").collect()
}

/// A folder in which a bundle was made of another file.
struct Desk {
    folder: Folder,
    secret: Secret,
}

impl Desk {
    fn new() -> Self {
        let folder = Folder::good();
        let bytes = compile(&folder.sanedge_toml(), NOW).bundle.unwrap();
        folder.write("other.bundle", &*bytes);
        Self { folder, secret: Secret::new() }
    }

    fn run_all(&self, what: &str, text: &str) {
        let (file, bundle) = (self.folder.path("sanedge.toml"), self.folder.path("other.bundle"));
        fs::write(&file, text).unwrap();
        for words in RUNS {
            if words[0] == "hook" {
                self.hook(what, &file);
                continue;
            }
            let word = |word: &&'static str| match *word {
                "TOML" => file.to_str().unwrap().to_owned(),
                "BUNDLE" => bundle.to_str().unwrap().to_owned(),
                other => other.to_owned(),
            };
            let words: Vec<String> = words.iter().map(word).collect();
            quiet(&self.secret, what, &words.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    fn hook(&self, what: &str, file: &Path) {
        let hook = Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks/sanedge-deploy");
        let mut command = Command::new(hook);
        command.env("SANEDGE_TOML", file).env("SANEDGE", env!("CARGO_BIN_EXE_sanedge")).stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert_eq!(self.secret.shown_in(&said), None, "{what}: {}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn every_command_is_run() {
    let run: BTreeSet<String> = RUNS
        .iter()
        .map(|words| words[0].to_owned())
        .filter(|name| !OTHERS.contains(&name.as_str()))
        .collect();
    assert_eq!(run, names());
}

#[test]
fn no_command_shows_a_key_that_stands_in_the_file() {
    let all: Vec<_> = keys().into_iter().enumerate().collect();
    each(cores(), &all.chunks(10).collect::<Vec<_>>(), |places| {
        let desk = Desk::new();
        let shapes = desk.secret.shapes();
        for (at, (title, key)) in places.iter() {
            let (shape, text) = &shapes[at % shapes.len()];
            let value = &values(&desk.secret, text)[at % 7];
            let text = source(&OF_FILES, title, key, &format!("{key} = {value}"));
            desk.run_all(&format!("{shape} as {key} of {title}"), &text);
        }
    });
}

/// Every key of the file at once, a file that is a key, or one that goes on with it: by turns.
#[test]
fn no_command_shows_a_key_that_is_the_file() {
    let shapes: Vec<_> = Secret::new().shapes().into_iter().enumerate().collect();
    each(cores(), &shapes, |(nth, (shape, text))| {
        let content = match nth % 3 {
            0 => every_key(&toml(text)),
            1 => text.clone(),
            _ => format!("board = \"rpi4\"\n{text}"),
        };
        Desk::new().run_all(shape, &content);
    });
}

/// Each argument of each command, those that exist and one that does not, with a key for its value.
#[test]
fn no_command_shows_a_key_that_is_an_argument() {
    let secret = Secret::new();
    let shapes: Vec<_> = secret.shapes().into_iter().filter(|(_, text)| !text.contains('\0')).collect();
    let folder = Folder::good();
    let good = folder.sanedge_toml();
    let good = good.to_str().unwrap();
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |words: &[&str]| rows.push(words.iter().map(|word| (*word).to_owned()).collect());
    for words in [
        &["KEY"][..],
        &["--KEY"],
        &["-KEY"],
        &["--config=KEY"],
        &["--json", "KEY"],
        &["help", "KEY"],
        &["--help=KEY"],
    ] {
        row(words);
    }
    let command = sanedge::cli::command();
    for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
        let name = one.get_name();
        for words in [
            &["KEY"][..],
            &["--json", "KEY"],
            &["KEY", "KEY"],
            &["--KEY"],
            &["--unknown=KEY"],
            &["GOOD", "KEY"],
        ] {
            row(&[&[name], words].concat());
        }
        for long in one.get_arguments().filter_map(|argument| argument.get_long()) {
            // A file of that name, once written, may be named.
            let value = if long == "output" { "/no/such/KEY" } else { "KEY" };
            let (joined, option) = (format!("--{long}={value}"), format!("--{long}"));
            // Nothing answers there; and a server is not to be started.
            let target = match name {
                "doctor" => vec!["--timeout", "1s", "https://127.0.0.1:9"],
                "serve" => vec!["/no/such.bundle"],
                "console" => vec!["/no/such.toml"],
                "reload" | "status" => vec![],
                _ => vec!["GOOD"],
            };
            row(&[&[name, &joined], &target[..]].concat());
            row(&[&[name, &option, value], &target[..]].concat());
        }
    }
    assert!(rows.len() > 100, "{}", rows.len());
    let rows: Vec<_> = rows.into_iter().enumerate().collect();
    each(cores(), &rows, |(at, words)| {
        for (shape, text) in shapes.iter().skip(at % 5).step_by(5) {
            let put =
                |word: &String| if word == "GOOD" { good.to_owned() } else { word.replace("KEY", text) };
            let words: Vec<String> = words.iter().map(put).collect();
            quiet(&secret, shape, &words.iter().map(String::as_str).collect::<Vec<_>>());
        }
    });
}

/// Files of nginx with `KEY` where a word, a name or a line may be.
const OF_NGINX: &[&str] = &[
    "KEY;",
    "KEY",
    "\"KEY\" on;",
    "# KEY\nserver_tokens off;",
    "map $http_x_key $ok { \"KEY\" 1; }",
    "include \"KEY\";",
    "include \"/data/KEY/*.conf\";",
    "upstream \"KEY\" { server \"KEY\"; KEY; }",
    "server { listen \"KEY\"; server_name recre.store; location / { proxy_pass http://10.0.0.1; } }",
    "server { listen 443 ssl; server_name \"KEY\"; location / { proxy_pass http://10.0.0.1; } }",
    "server { listen 443 ssl; server_name recre.store; ssl_certificate \"KEY\"; ssl_certificate_key \"KEY\"; location / { proxy_pass http://10.0.0.1; } }",
    "server { listen 443 ssl; server_name recre.store; ssl_certificate \"/etc/letsencrypt/live/KEY\"; ssl_certificate_key \"/data/KEY\"; location / { proxy_pass http://10.0.0.1; } }",
    "server { listen 443 ssl; server_name recre.store; location \"/KEY\" { proxy_pass http://10.0.0.1; } location / { proxy_pass http://10.0.0.1; } }",
    "server { listen 443 ssl; server_name recre.store; location ~ \"KEY\" { deny all; } location = \"/KEY\" { return 403 \"KEY\"; } }",
    "server { listen 443 ssl; server_name recre.store; location / { proxy_pass \"http://KEY\"; } }",
    "server { listen 443 ssl; server_name recre.store; location / { proxy_pass \"http://unix:/run/KEY\"; } }",
    "server { listen 443 ssl; server_name recre.store; set $a \"KEY\"; location / { proxy_pass http://$a:3000; } }",
    "server { listen 443 ssl; server_name recre.store; location / { proxy_pass http://10.0.0.1; proxy_set_header \"KEY\" \"KEY\"; allow \"KEY\"; deny all; } }",
    "server { listen 443 ssl; server_name recre.store; location / { proxy_pass http://10.0.0.1; proxy_read_timeout \"KEY\"; client_max_body_size \"KEY\"; } }",
    "server { listen 443 ssl; server_name recre.store; KEY; location / { proxy_pass http://10.0.0.1; add_header X \"KEY\"; auth_basic \"KEY\"; } }",
    "server { listen 443 ssl; server_name recre.store; if ($a = \"KEY\") { set $b \"KEY\"; } return 301 \"https://KEY/\"; }",
    "server { listen 443 ssl; server_name recre.store; location / { proxy_pass http://10.0.0.1; }\nKEY",
    "server { listen 443 ssl; server_name recre.store; return 301 \"https://KEY\"; }",
    "server { listen 443 ssl; server_name recre.store; return 301 \"https://www.recre.store/KEY\"; }",
    "server { listen 443 ssl; server_name recre.store; location / { proxy_pass http://10.0.0.1; add_header \"KEY\" \"KEY\"; } }",
    "server { listen 443 ssl; server_name recre.store; location / { proxy_pass http://10.0.0.1; add_header X-Key \"a KEY\"; proxy_hide_header \"KEY\"; } }",
];

#[test]
fn no_import_shows_a_key_that_stands_in_a_file_of_nginx() {
    let secret = Secret::new();
    let shapes: Vec<_> = secret.shapes();
    let jobs: Vec<_> = OF_NGINX.iter().enumerate().collect();
    each(cores(), &jobs, |(at, content)| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("1.conf");
        for (shape, text) in shapes.iter().skip(at % 3).step_by(3) {
            fs::write(&file, content.replace("KEY", text)).unwrap();
            for words in [&["import", "npm"][..], &["import", "npm", "--json"]] {
                let words = [words, &[file.to_str().unwrap()]].concat();
                quiet(&secret, &format!("{shape} in {content}"), &words);
            }
        }
    });
}
