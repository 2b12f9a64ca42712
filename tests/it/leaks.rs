//! A private key never appears in an output, wherever somebody pasted it: into any key of sanedge.toml, a file that it names, an
//! argument, or a path that a bundle keeps. `a_key_in_place_of_any_value_is_not_shown` in bundle_refuses.rs does the same for each
//! finding code.
#![allow(dropping_references)] // the rows' closures end a builder's chain

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::odd_certs::{Folder, NOW};
use crate::support::program;
use crate::support::secret::{Secret, toml};
use sanedge::bundle::compile::compile;
use sanedge::bundle::keys::TABLES;
use sanedge::bundle::report;

fn run(words: &[&str]) -> Output {
    program::sanedge().args(words).env("NO_COLOR", "1").stdin(Stdio::null()).output().unwrap()
}

/// Runs a command, which may fail as it likes, but show nothing.
fn quiet(secret: &Secret, what: &str, words: &[&str]) -> Output {
    let output = run(words);
    for stream in [&output.stdout, &output.stderr] {
        if let Some(part) = secret.shown_in(stream) {
            panic!("{what}: {words:?} shows {part}\n{}", String::from_utf8_lossy(stream));
        }
    }
    assert!(!output.stdout.is_empty() || !output.stderr.is_empty(), "{what}: {words:?} says nothing");
    output
}

/// sanedge.toml with `line` in the table called `title`, in the place of a line of the same key.
fn source(title: &str, key: &str, line: &str) -> String {
    let tables = [
        ("the top of the file", "board = \"rpi4\"\ntrust = \"ca.pem\"\n"),
        ("[listen]", "https = [\"[::]:443\"]\n"),
        ("[limits]", ""),
        ("[[certificate]]", "chain = \"cert.pem\"\nkey = \"key.pem\"\n"),
        ("[acme]", "terms = \"agreed\"\n"),
        ("[[acme.certificate]]", "names = [\"recre.store\"]\n"),
        ("[[site]]", "hosts = [\"recre.store\"]\nupstream = [\"127.0.0.1:3000\"]\n"),
        ("[[site.route]]", "path = \"/a\"\n"),
    ];
    assert!(tables.iter().any(|(known, _)| *known == title), "a new table: {title}");
    let mut text = String::new();
    for (name, lines) in tables {
        if name.starts_with('[') {
            text += &format!("\n{name}\n");
        }
        let kept = lines.lines().filter(|kept| name != title || !kept.starts_with(&format!("{key} =")));
        text.extend(kept.map(|kept| format!("{kept}\n")));
        if name == title {
            text += &format!("{line}\n");
        }
    }
    text
}

/// Lines of TOML that give `key` a secret text.
fn lines(key: &str, text: &str) -> Vec<String> {
    let quoted = toml(text);
    let items: Vec<String> = text.lines().map(toml).collect();
    let bare: String = text.split_whitespace().collect();
    vec![
        format!("{key} = {quoted}"),
        format!("{key} = [{quoted}]"),
        format!("{key} = [{}]", items.join(", ")),
        format!("{key} = {{ x = {quoted} }}"),
        format!("{key} = {{ {quoted} = 1 }}"),
        format!("{key} = \"\"\"\n{}\"\"\"", text.replace('\\', "\\\\").replace('"', "'")),
        format!("{key} = '''{}'''", text.replace('\'', "")),
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

#[test]
fn a_key_pasted_as_any_value_of_the_file_is_not_shown() {
    let folder = Folder::good();
    let secret = Secret::new();
    let path = folder.path("sanedge.toml");
    let (mut files, mut keys) = (0, 0);
    for (title, key) in
        TABLES.iter().flat_map(|table| table.names().into_iter().map(|key| (table.title, key)))
    {
        keys += 1;
        // Shapes and forms are shared out among the keys; a limit is read as every other one.
        let shapes = secret.shapes();
        let share = if title == "[limits]" { 9 } else { 5 };
        for (nth, (shape, text)) in shapes.iter().enumerate() {
            let number = format!("{key} = 0x{}", secret.hex());
            let forms = lines(key, text).into_iter().chain([number]).enumerate();
            for (_, line) in forms.filter(|(form, _)| (keys + nth + form) % share == 0) {
                fs::write(&path, source(title, key, &line)).unwrap();
                let outcome = compile(&path, NOW);
                let said = report::findings(&outcome.findings, false)
                    + &report::table(&outcome.hosts)
                    + &report::websockets(&outcome.websockets)
                    + &report::outcome_json(&outcome, None).to_string();
                if let Some(part) = secret.shown_in(said.as_bytes()) {
                    panic!("{shape} as {key} of {title}: shows {part}\n{line}\n{said}");
                }
                files += 1;
            }
        }
    }
    assert!(keys > 60 && files > 5_000, "{keys} keys, {files} files");
}

#[test]
fn no_command_shows_a_key_that_stands_in_the_file() {
    let folder = Folder::good();
    let secret = Secret::new();
    let path = folder.path("sanedge.toml");
    let file = path.to_str().unwrap();
    let bundle = {
        let mut good = Folder::good();
        good.now = NOW;
        let bytes = compile(&good.sanedge_toml(), NOW).bundle.unwrap();
        folder.write("sanedge.bundle", &*bytes);
        folder.path("sanedge.bundle")
    };
    let bundle = bundle.to_str().unwrap();
    let shapes = secret.shapes();
    let all = TABLES.iter().flat_map(|table| table.names().into_iter().map(|key| (table.title, key)));
    for (at, (title, key)) in all.enumerate() {
        let (shape, text) = &shapes[at % shapes.len()];
        let line = &lines(key, text)[at % 7];
        fs::write(&path, source(title, key, line)).unwrap();
        let what = format!("{shape} as {key} of {title}");
        quiet(&secret, &what, &["bundle", file]);
        quiet(&secret, &what, &["bundle", "--json", file]);
        quiet(&secret, &what, &["doctor", "--timeout", "1s", file]);
        quiet(&secret, &what, &["show", "--check", "--source", file, bundle]);
    }
    // Every key at once, and the file as a whole.
    for (shape, text) in &shapes {
        let mut whole = String::new();
        for table in TABLES {
            if table.title.starts_with('[') {
                whole += &format!("{}\n", table.title);
            }
            whole.extend(table.names().iter().map(|key| format!("{key} = {}\n", toml(text))));
        }
        for content in [whole, text.clone(), format!("board = \"rpi4\"\n{text}")] {
            fs::write(&path, content).unwrap();
            quiet(&secret, shape, &["bundle", file]);
            quiet(&secret, shape, &["bundle", "--json", "-o", bundle, file]);
            quiet(&secret, shape, &["show", "--check", "--json", "--source", file, bundle]);
            for command in ["show", "serve", "reload", "status"] {
                let option = if matches!(command, "reload" | "status") { "--bundle" } else { "--" };
                quiet(&secret, shape, &[command, option, file]);
            }
            quiet(&secret, shape, &["doctor", "--json", "--timeout", "1s", file]);
        }
    }
}

#[test]
fn no_command_shows_a_key_that_a_file_holds() {
    let secret = Secret::new();
    let mut contents: Vec<(&str, Vec<u8>)> =
        secret.shapes().into_iter().map(|(shape, text)| (shape, text.into_bytes())).collect();
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let pem = secret.pem("PRIVATE KEY", 64, "\n");
    contents.extend([
        ("DER", secret.der().to_vec()),
        ("DER behind a mark", [b"\xef\xbb\xbf", secret.der()].concat()),
        ("PKCS #12", [&[0x30, 0x82, 4, 0, 2, 1, 3], secret.der()].concat()),
        ("PKCS #7", [&[0x30, 0x82, 4, 0, 6, 9], secret.der()].concat()),
        ("UTF-16", wide(&format!("\u{feff}{pem}"))),
        ("UTF-16 without a mark", wide(&pem)),
        ("a key as label", secret.pem(secret.base64(), 64, "\n").into_bytes()),
        ("a key as certificate", secret.pem("CERTIFICATE", 64, "\n").into_bytes()),
        ("a key as trusted certificate", secret.pem("TRUSTED CERTIFICATE", 64, "\n").into_bytes()),
        ("a field", format!("-----BEGIN PRIVATE KEY-----\nX: {}\n\n!\n", secret.base64()).into_bytes()),
        ("without its end", pem.replace("-----END PRIVATE KEY-----", "").into_bytes()),
        ("with another end", pem.replace("END PRIVATE KEY", "END CERTIFICATE").into_bytes()),
        ("a zero byte", pem.replace("\nM", "\n\0M").into_bytes()),
        ("damaged", pem.replace("\nM", "\n!M").into_bytes()),
        ("base64 with a mark", format!("\u{feff}{}", secret.base64()).into_bytes()),
    ]);
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

#[test]
fn no_command_shows_a_key_that_is_an_argument() {
    let secret = Secret::new();
    let folder = Folder::good();
    let good = folder.sanedge_toml();
    let good = good.to_str().unwrap();
    for (shape, text) in secret.shapes().iter().filter(|(_, text)| !text.contains('\0')) {
        let missing = format!("/no/such/{text}");
        let option = format!("--{text}");
        let value = format!("--admin={text}");
        let mut rows = vec![
            vec![text.as_str()],
            vec![&option],
            vec!["--json", text],
            vec!["bundle", text],
            vec!["bundle", "--json", text],
            vec!["bundle", good, text],
            vec!["bundle", good, &option],
            vec!["bundle", good, "--json", &option],
            vec!["bundle", good, "-o", &missing],
            vec!["bundle", good, "--json", "-o", &missing],
            vec!["show", text],
            vec!["show", "--json", text],
            vec!["show", "--check", text],
            vec!["show", good, text],
            vec!["serve", text],
            vec!["serve", "--access-log", text, good],
            vec!["serve", "--access-log-to", text, good],
            vec!["reload", "--admin", text],
            vec!["reload", "--json", "--admin", text],
            vec!["reload", "--bundle", text],
            vec!["status", &value],
            vec!["status", "--bundle", text],
            vec!["status", "--json", "--bundle", text],
            vec!["help", text],
        ];
        {
            rows.push(vec!["doctor", text]);
            rows.push(vec!["doctor", "--json", text]);
            let options = sanedge::cli::command();
            let doctor = options.find_subcommand("doctor").unwrap();
            let options = doctor.get_arguments().filter_map(|argument| argument.get_long());
            let options: Vec<String> = options.map(|long| format!("--{long}={text}")).collect();
            for option in &options {
                let output = run(&["doctor", "--timeout", "1s", option, "https://127.0.0.1:9"]);
                let said = [output.stdout, output.stderr].concat();
                assert_eq!(secret.shown_in(&said), None, "{shape}: {}", String::from_utf8_lossy(&said));
            }
        }
        for words in rows {
            quiet(&secret, shape, &words);
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
        (".display()", &["src/excerpt.rs"][..]),
        (
            "from_utf8_lossy",
            &[
                "src/excerpt.rs",
                "src/bundle/pem.rs",
                "src/bundle/compile/container.rs",
                "src/cli/running.rs",
                "src/doctor/ask.rs",
                "src/doctor/socket.rs", // a status line of a server
                "src/doctor/local.rs",
                "src/doctor/socket.rs",
                "src/edge/session/https/access.rs",
                "src/ws/fuzz.rs",
                "src/doctor/stages.rs",
                "src/doctor/client/cookies.rs",
            ],
        ),
        (
            "to_string_lossy",
            &[
                "src/excerpt.rs",
                "src/bundle/compile/pem.rs",
                "src/cli.rs",
                "src/doctor/target.rs",
                "src/doctor/local.rs",
            ],
        ),
        ("escape_ascii", &["src/bundle/wire/error.rs", "src/ws/origin.rs"]),
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
        "ops",
        "edge",
        "edge.rs",
        "ws",
        "excerpt.rs",
        "proxy_protocol.rs",
        "route.rs",
    ] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(part), &mut files);
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
