//! A private key never appears in an output, wherever somebody pasted it: into any key of sanedge.toml, a file that it names, an
//! argument, or a path that a bundle keeps. leaks_findings.rs does the same for each finding code, leaks_commands.rs for each command,
//! leaks_renew.rs for what a CA says, leaks_remote.rs for what other servers say.
#![allow(dropping_references)] // the rows' closures end a builder's chain

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use crate::leaks_findings::said;
use crate::support::odd_certs::{Folder, NOW};
use crate::support::program;
use crate::support::secret::{Secret, toml};
use crate::support::{cores, each};
use sanedge::bundle::compile::compile;
use sanedge::bundle::keys::TABLES;

pub(crate) fn run(words: &[&str]) -> Output {
    program::sanedge().args(words).env("NO_COLOR", "1").stdin(Stdio::null()).output().unwrap()
}

/// Runs a command, which may fail as it likes, but show nothing.
pub(crate) fn quiet(secret: &Secret, what: &str, words: &[&str]) -> Output {
    let output = run(words);
    for stream in [&output.stdout, &output.stderr] {
        if let Some(part) = secret.shown_in(stream) {
            panic!("{what}: {words:?} shows {part}\n{}", String::from_utf8_lossy(stream));
        }
    }
    assert!(!output.stdout.is_empty() || !output.stderr.is_empty(), "{what}: {words:?} says nothing");
    output
}

/// The tables of a sanedge.toml in which nothing is wrong, with what each has at least.
pub(crate) type Tables = [(&'static str, &'static str); 13];

/// Its certificate comes from files.
pub(crate) const OF_FILES: Tables = [
    ("the top of the file", "board = \"rpi4\"\ntrust = \"ca.pem\"\n"),
    ("[listen]", "https = [\"[::]:443\"]\n"),
    ("[limits]", ""),
    ("[[certificate]]", "chain = \"cert.pem\"\nkey = \"key.pem\"\n"),
    ("[acme]", "terms = \"agreed\"\n"),
    ("[acme.eab]", "kid = \"a\"\nkey_file = \"eab.key\"\n"),
    ("[[acme.fallback]]", "directory = \"letsencrypt-staging\"\n"),
    ("[acme.dns]", "provider = \"exec\"\ncredentials = \"dns.toml\"\n"),
    ("[[acme.certificate]]", "names = [\"recre.store\"]\n"),
    ("[local]", ""),
    ("[[site]]", "hosts = [\"recre.store\"]\nupstream = [\"127.0.0.1:3000\"]\n"),
    ("[site.headers]", "X-Frame-Options = \"DENY\"\n"),
    ("[[site.route]]", "path = \"/a\"\n"),
];

/// Its certificate comes from a CA: no file is read.
const OF_ACME: Tables = [
    ("the top of the file", "board = \"rpi4\"\n"),
    ("[listen]", "https = [\"[::]:443\"]\nhttp = [\"[::]:80\"]\n"),
    OF_FILES[2],
    ("", ""),
    OF_FILES[4],
    OF_FILES[5],
    OF_FILES[6],
    OF_FILES[7],
    OF_FILES[8],
    OF_FILES[9],
    OF_FILES[10],
    OF_FILES[11],
    OF_FILES[12],
];

/// sanedge.toml with `line` in the table called `title`, in the place of a line of the same key.
pub(crate) fn source(tables: &Tables, title: &str, key: &str, line: &str) -> String {
    assert!(tables.iter().any(|(known, _)| *known == title), "a new table: {title}");
    let mut text = String::new();
    for (name, lines) in tables {
        if name.starts_with('[') {
            text += &format!("\n{name}\n");
        }
        let kept = lines.lines().filter(|kept| *name != title || !kept.starts_with(&format!("{key} =")));
        text.extend(kept.map(|kept| format!("{kept}\n")));
        if *name == title {
            text += &format!("{line}\n");
        }
    }
    text
}

/// Values of TOML with a secret text in them.
pub(crate) fn values(secret: &Secret, text: &str) -> Vec<String> {
    let quoted = toml(text);
    let items: Vec<String> = text.lines().map(toml).collect();
    vec![
        quoted.clone(),
        format!("[{quoted}]"),
        format!("[{}]", items.join(", ")),
        format!("{{ x = {quoted} }}"),
        format!("{{ {quoted} = 1 }}"),
        format!("\"\"\"\n{}\"\"\"", text.replace('\\', "\\\\").replace('"', "'")),
        format!("'''{}'''", text.replace('\'', "")),
        format!("0x{}", secret.hex()),
    ]
}

/// Lines with a secret text that are no value of `key`, most of them no TOML.
fn damage(key: &str, text: &str) -> Vec<String> {
    let quoted = toml(text);
    let bare: String = text.split_whitespace().collect();
    vec![
        format!("{key} = {text}"),
        format!("{key} = {bare}"),
        format!("{key} = \"{bare}"),
        format!("{quoted} = 1"),
        format!("{bare} = 1"),
        format!("{key}.{quoted} = 1"),
        format!("# {key}\n{text}"),
        format!("[{quoted}]"),
        format!("[[{bare}]]"),
    ]
}

/// Every key of the file with its table, those that are tables included.
pub(crate) fn keys() -> Vec<(&'static str, &'static str)> {
    TABLES.iter().flat_map(|table| table.names().into_iter().map(|key| (table.title, key))).collect()
}

/// All tables with every key, each with this value.
pub(crate) fn every_key(value: &str) -> String {
    let mut whole = String::new();
    for table in TABLES {
        if table.title.starts_with('[') {
            whole += &format!("{}\n", table.title);
        }
        whole.extend(table.rows().iter().map(|row| format!("{} = {value}\n", row.name)));
    }
    whole
}

struct Desk {
    folder: Folder,
    secret: Secret,
}

impl Desk {
    /// Compiles a text and looks at everything that is said of it; how many findings there are.
    fn check(&self, what: &str, text: &str) -> usize {
        let path = self.folder.path("sanedge.toml");
        fs::write(&path, text).unwrap();
        let outcome = compile(&path, NOW);
        let said = said(&outcome, &path, NOW, false);
        if let Some(part) = self.secret.shown_in(said.as_bytes()) {
            panic!("{what}: shows {part}\n{text}\n{said}");
        }
        outcome.findings.len()
    }

    /// A key with a line, where nothing else is wrong.
    fn alone(&self, (title, key): (&str, &str), line: &str, what: &str) {
        let tables = if title == "[[certificate]]" { &OF_FILES } else { &OF_ACME };
        self.check(&format!("{what} as {key} of {title}: {line}"), &source(tables, title, key, line));
    }
}

fn at_desks(secret: fn() -> Secret, run: impl Fn(&Desk, usize, &'static str, &str) + Sync) {
    let shapes = secret().shapes().len();
    each(cores(), &(0..shapes).collect::<Vec<_>>(), |nth| {
        let desk = Desk { folder: Folder::good(), secret: secret() };
        let (shape, text) = desk.secret.shapes().swap_remove(*nth);
        run(&desk, *nth, shape, &text);
    });
}

#[test]
fn a_key_pasted_as_any_value_of_the_file_is_not_shown() {
    let keys = keys();
    assert!(keys.len() > 90, "{} keys", keys.len());
    at_desks(Secret::new, |desk, nth, shape, text| {
        let values = values(&desk.secret, text);
        for value in &values {
            let findings = desk.check(&format!("{shape} as every key"), &every_key(value));
            // Each is told, not only the first one; a TOML parser stops at a number that is too large.
            assert!(
                findings >= if value.starts_with("0x") { 1 } else { 40 },
                "{shape}: {findings} findings\n{value}"
            );
        }
        for (at, (title, key)) in keys.iter().enumerate() {
            // What is taken for a value goes further than a finding does.
            desk.alone((title, key), &format!("{key} = {}", values[(at + nth) % 2]), shape);
            let damage = damage(key, text);
            desk.alone((title, key), &damage[(at + nth) % damage.len()], shape);
        }
    });
}

#[test]
#[ignore = "a minute: each key of the file alone with each form of each shape of a new key (see leaks_findings.rs)"]
fn each_form_of_a_key_pasted_as_any_value_is_not_shown() {
    at_desks(Secret::fresh, |desk, _, shape, text| {
        for place @ (_, key) in keys() {
            let values = values(&desk.secret, text).into_iter().map(|value| format!("{key} = {value}"));
            values.chain(damage(key, text)).for_each(|line| desk.alone(place, &line, shape));
        }
    });
}

#[test]
fn no_command_shows_a_key_that_a_file_holds() {
    let secret = Secret::new();
    let contents = secret.contents();
    for name in ["cert.pem", "key.pem", "ca.pem"] {
        let folder = Folder::good();
        let path = folder.sanedge_toml();
        let file = path.to_str().unwrap();
        let odd = folder.path(name);
        for (shape, content) in &contents {
            folder.write(name, content);
            let what = format!("{shape} in {name}");
            quiet(&secret, &what, &["bundle", file]);
            quiet(&secret, &what, &["bundle", "--json", file]);
            {
                quiet(&secret, &what, &["doctor", "--timeout", "1s", file]);
                let ca = ["doctor", "--timeout", "1s", "--ca", odd.to_str().unwrap(), "https://127.0.0.1:9"];
                quiet(&secret, &what, &ca);
            }
            quiet(&secret, &what, &["show", odd.to_str().unwrap()]);
            quiet(&secret, &what, &["serve", odd.to_str().unwrap()]);
        }
    }
}

/// An edge whose paths look like keys.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_key_in_a_path_that_a_bundle_keeps_is_not_shown_by_the_edge() {
    let secret = Secret::new();
    let mut folder = Folder::good();
    let socket = folder.path("admin.sock");
    let upstream = format!("unix:{}", &secret.url_safe()[..60]);
    folder.change(
        "https = [\"[::]:443\"]",
        &format!(
            "https = [\"127.0.0.1:0\"]\nadmin = \"unix:{}\"\nacme_dir = {}\nhttp = [\"127.0.0.1:0\"]",
            socket.display(),
            toml(secret.base64())
        ),
    );
    folder.append(&format!("origins = [{}]\n", toml(&format!("app://{}", secret.url_safe()))));
    folder.append(&format!(
        "[[site.route]]\npath = {}\nupstream = [{}]\n",
        toml(&format!("/{}", secret.url_safe())),
        toml(&upstream)
    ));
    // A file whose name is a key exists, and may be named; once it is gone, no longer.
    let name = format!("{}.pem", secret.url_safe());
    fs::copy(folder.path("cert.pem"), folder.path(&name)).unwrap();
    folder.change("chain = \"cert.pem\"", &format!("chain = \"{name}\""));
    let path = folder.sanedge_toml();
    let bytes = compile(&path, NOW).bundle.expect("a bundle");
    fs::remove_file(folder.path(&name)).unwrap();
    folder.write("sanedge.bundle", &*bytes);
    let bundle = folder.path("sanedge.bundle");
    let bundle = bundle.to_str().unwrap();
    for words in [
        vec!["show", bundle],
        vec!["show", "--json", bundle],
        vec!["show", "--check", bundle],
        vec!["show", "--check", "--json", bundle],
        vec!["bundle", path.to_str().unwrap()],
        vec!["bundle", "--json", path.to_str().unwrap()],
    ] {
        quiet(&secret, "paths", &words);
    }
    let log = folder.path("log");
    let file = fs::File::create(&log).unwrap();
    let mut serving = Serving(
        program::sanedge().args(["serve", bundle]).stdout(Stdio::null()).stderr(file).spawn().unwrap(),
    );
    let until = Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        let ended = serving.0.try_wait().unwrap();
        assert!(ended.is_none() && Instant::now() < until, "{}", read(&log));
        std::thread::sleep(Duration::from_millis(20));
    }
    let admin = format!("unix:{}", socket.display());
    for words in [
        vec!["status", "--admin", &admin],
        vec!["status", "--json", "--admin", &admin],
        vec!["status", "--bundle", bundle],
        vec!["reload", "--admin", &admin],
        vec!["reload", "--json", "--admin", &admin],
        vec!["show", "--check", bundle],
    ] {
        let output = quiet(&secret, "paths", &words);
        assert!(words[0] != "status" || output.status.success(), "{output:?}");
    }
    for path in ["/metrics", "/status", "/"] {
        assert_eq!(secret.shown_in(&get(&socket, path)), None, "{path}");
    }
    drop(serving);
    let log = read(&log);
    assert!(log.contains("listening"), "{log}");
    assert_eq!(secret.shown_in(log.as_bytes()), None, "{log}");
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn get(socket: &Path, path: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    answer
}

/// The healthy twin: what people mistype is still shown, so that they can find it.
#[test]
fn ordinary_mistakes_are_shown_as_they_were_written() {
    let told = |change: fn(&mut Folder), wanted: &[&str]| {
        let mut folder = Folder::good();
        change(&mut folder);
        let path = folder.sanedge_toml();
        let output = run(&["bundle", path.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        for text in wanted {
            assert!(said.contains(text), "no {text} in\n{said}");
        }
        assert!(!said.contains("characters hidden"), "{said}");
        assert!(said.contains(&format!("{}:", path.display())), "the file and the line: {said}");
    };
    told(|f| drop(f.change("[\"recre.store\"]", "[\"socket..recre.store\"]")), &["socket..recre.store"]);
    told(
        |f| drop(f.change("[\"recre.store\"]", "[\"very-long_name.of*a.recre.store\"]")),
        &["very-long_name.of*a.recre.store"],
    );
    told(
        |f| drop(f.change("cert.pem", "certificates/recre.store/fullchain.pem")),
        &["certificates/recre.store/fullchain.pem"],
    );
    told(
        |f| drop(f.change("cert.pem", "/etc/letsencrypt/live/recre.store/fullchain.pem")),
        &["/etc/letsencrypt/live/recre.store/fullchain.pem"],
    );
    told(
        |f| drop(f.change("[\"127.0.0.1:3000\"]\n", "[\"127.0.0.1:3000\"]\nresponse_timeout = \"30sec\"\n")),
        &["30sec"],
    );
    told(|f| drop(f.append("[limits]\nhead_bytes_max = \"16 Kilobytes\"\n")), &["16 Kilobytes"]);
    told(|f| drop(f.append("proxy_read_timeout_seconds = 60\n")), &["proxy_read_timeout_seconds"]);
    told(
        |f| drop(f.change("[\"127.0.0.1:3000\"]", "[\"http://chat-server.home.arpa:3000/socket.io/\"]")),
        &["chat-server.home.arpa:3000"],
    );
    told(|f| drop(f.change("\"rpi4\"", "\"raspberry pi model 4\"")), &["raspberry pi model 4"]);
    told(
        |f| {
            drop(f.change(
                "[\"127.0.0.1:3000\"]\n",
                "[\"127.0.0.1:3000\"]\norigins = [\"recre.store:8443/chat\"]\n",
            ))
        },
        &["recre.store:8443/chat"],
    );
    let output = run(&["status", "--admin", "sanedge.sock"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("sanedge.sock"), "{output:?}");
    let output = run(&["bundle", "/etc/sanedge/other.toml"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("/etc/sanedge/other.toml"), "{output:?}");
    let output = run(&["bundle", "--outptu", "a.bundle"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--outptu"), "{output:?}");
}

/// Forms by which input reaches a text without an excerpt, in the parts that say something of files and arguments.
#[test]
fn nothing_but_an_excerpt_quotes_input() {
    // Where each is right: a path to open, a body to judge, text that is no input.
    let allowed = [
        (".display()", &["edge/src/excerpt.rs"][..]),
        (
            "from_utf8_lossy",
            &[
                "edge/src/excerpt.rs",
                "src/bundle/pem.rs",
                "src/bundle/compile/container.rs",
                "src/cli/running.rs",
                "src/doctor/ask.rs",
                "src/doctor/socket.rs", // a status line of a server
                "src/doctor/local.rs",
                "src/doctor/socket.rs",
                "edge/src/edge/session/https/access.rs",
                "edge/src/ws/fuzz.rs",
                "src/doctor/stages.rs",
                "src/doctor/stages/reach.rs", // a status line of a server
                "src/doctor/client/cookies.rs",
                "src/cli/apply/edge.rs",     // systemctl's words, which are compared
                "src/cli/console/doctor.rs", // lines of the doctor's process, which has made the excerpts
                "src/cli/setup/dialogue.rs", // an answer, which is read
                "src/cli/setup/steps.rs",    // a file of roots, which is read
            ],
        ),
        (
            "to_string_lossy",
            &[
                "edge/src/excerpt.rs",
                "src/bundle/compile/pem.rs",
                "src/cli.rs",
                "src/doctor/target.rs",
                "src/doctor/local.rs",
                "src/doctor/holder.rs", // a link of /proc, which is compared
            ],
        ),
        ("escape_ascii", &["edge/src/bundle/wire/error.rs", "edge/src/ws/origin.rs"]),
        ("escape_debug", &[]),
        ("escape_default", &[]),
        ("message()", &["src/bundle/source/reader.rs"]),
    ];
    let mut files = Vec::new();
    for part in [
        "bundle",
        "bundle.rs",
        "cli",
        "cli.rs",
        "doctor",
        "doctor.rs",
        "names",
        "names.rs",
        "limits",
        "limits.rs",
        "board.rs",
        "admin",
        "admin.rs",
        "console",
        "control",
        "system",
        "ops",
        "edge",
        "edge.rs",
        "ws",
        "excerpt.rs",
        "proxy_protocol.rs",
        "route.rs",
    ] {
        let both = ["src", "edge/src"].map(|src| Path::new(env!("CARGO_MANIFEST_DIR")).join(src).join(part));
        both.iter().filter(|path| path.exists()).for_each(|path| sources(path, &mut files));
    }
    assert!(files.len() > 80, "{} files", files.len());
    let mut wrong = Vec::new();
    for file in &files {
        let name = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_str().unwrap();
        let text = read(file);
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let (mut fuzz, mut number) = (false, 0);
        for line in code.lines() {
            number += 1;
            fuzz = line.starts_with("pub fn fuzz_") || (fuzz && line != "}");
            let line = line.split("//").next().unwrap();
            let found =
                allowed.iter().find(|(form, files)| !fuzz && line.contains(form) && !files.contains(&name));
            wrong.extend(found.map(|(form, _)| format!("{name}:{number}: `{form}`")));
        }
    }
    assert!(wrong.is_empty(), "use crate::excerpt::Excerpt, or say here why not:\n{}", wrong.join("\n"));
}

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| sources(&entry.unwrap().path(), found));
    } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
        found.push(path.to_owned());
    }
}
