//! `sanedge bundle` and `sanedge show` as commands: what they print where, what they write, how they exit.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::odd_certs;
use crate::support::odd_certs::Folder;
use crate::support::program;
use sanedge::bundle::finding::Code;
use serde_json::Value;

fn sanedge(arguments: &[&Path]) -> Output {
    program::sanedge().args(arguments).env_remove("NO_COLOR").output().unwrap()
}

fn arguments<'a>(words: &'a [&'a str], path: &'a Path) -> Vec<&'a Path> {
    words.iter().map(Path::new).chain([path]).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stdout)))
}

/// A folder in which the second name of the story is missing in the certificate.
fn story() -> Folder {
    let mut folder = Folder::good();
    folder.append("[[site]]\nhosts = [\"socket.recre.store\"]\nupstream = [\"127.0.0.1:3002\"]\n");
    folder
}

#[test]
fn a_good_source_is_written_beside_itself_and_can_be_shown() {
    let folder = Folder::good();
    let output = sanedge(&arguments(&["bundle"], &folder.sanedge_toml()));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let stdout = text(&output.stdout);
    let table: Vec<_> = stdout.lines().take(2).collect();
    assert!(
        table[0].starts_with("host ") && table[0].contains("certificate") && table[0].contains("days left"),
        "{stdout}"
    );
    assert!(
        table[1].starts_with("recre.store  cert.pem ") && table[1].ends_with("127.0.0.1:3000"),
        "{stdout}"
    );
    assert!(stdout.contains("\nmemory: at most ") && stdout.contains("wrote "), "{stdout}");

    let shown = sanedge(&arguments(&["show"], &folder.path("sanedge.bundle")));
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    let shown = text(&shown.stdout);
    for word in [
        "recre.store",
        "cert.pem",
        "127.0.0.1:3000",
        "https://recre.store",
        "sessions_max",
        "rpi4",
        "[::]:443",
    ] {
        assert!(shown.contains(word), "{word} is not in\n{shown}");
    }
}

#[test]
fn the_story_exits_1_names_both_names_and_writes_nothing() {
    let folder = story();
    let output = sanedge(&arguments(&["bundle"], &folder.sanedge_toml()));
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("certbot certonly --expand -d recre.store -d socket.recre.store"), "{stderr}");
    assert!(stderr.ends_with("1 error: nothing was written\n"), "{stderr}");
    assert!(!folder.path("sanedge.bundle").exists());
}

#[test]
fn a_bundle_that_is_there_survives_a_source_with_a_mistake() {
    let mut folder = Folder::good();
    sanedge(&arguments(&["bundle"], &folder.sanedge_toml()));
    let before = fs::read(folder.path("sanedge.bundle")).unwrap();
    folder.append("nonsense = 1\n");
    let output = sanedge(&arguments(&["bundle"], &folder.sanedge_toml()));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read(folder.path("sanedge.bundle")).unwrap(), before);
}

#[test]
fn the_json_has_the_same_findings_under_stable_codes() {
    let folder = story();
    let output = sanedge(&arguments(&["bundle", "--json"], &folder.sanedge_toml()));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    let document = json(&output);
    let finding = &document["findings"][0];
    assert_eq!(finding["code"], "host-not-covered");
    assert_eq!(finding["severity"], "error");
    assert_eq!(finding["host"], "socket.recre.store");
    assert_eq!(finding["line"], 15);
    assert_eq!(finding["file"], folder.path("sanedge.toml").display().to_string());
    for field in ["expected", "found", "remedy", "message", "certificate"] {
        assert!(finding[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {finding}");
    }
    assert_eq!(document["written"], Value::Null);
    assert_eq!(document["hosts"][0]["host"], "recre.store");
    assert_eq!(document["hosts"][1]["certificate"], Value::Null);

    let good = Folder::good();
    let document = json(&sanedge(&arguments(&["bundle", "--json"], &good.sanedge_toml())));
    assert_eq!(document["findings"], Value::Array(Vec::new()));
    assert_eq!(document["written"], good.path("sanedge.bundle").display().to_string());
    assert_eq!(document["hosts"][0]["routes"][0]["upstream"][0], "127.0.0.1:3000");
}

#[test]
fn show_has_json_and_never_a_key() {
    let folder = Folder::good();
    sanedge(&arguments(&["bundle"], &folder.sanedge_toml()));
    let bundle = folder.path("sanedge.bundle");
    let document = json(&sanedge(&arguments(&["show", "--json"], &bundle)));
    assert_eq!(document["hosts"][0]["host"], "recre.store");
    assert_eq!(document["certificates"][0]["names"][0], "recre.store");
    assert_eq!(document["sites"][0]["routes"][0]["origins"][0], "https://recre.store");
    assert_eq!(document["digest"].as_str().unwrap().len(), 64);

    let key = odd_certs::der(fs::read(folder.path("key.pem")).unwrap());
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let pem = fs::read_to_string(folder.path("key.pem")).unwrap();
    let lines: Vec<_> = pem.lines().filter(|line| line.len() > 30 && !line.starts_with('-')).collect();
    assert!(!lines.is_empty());
    for words in [vec!["show"], vec!["show", "--json"]] {
        let output = sanedge(&arguments(&words, &bundle));
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(!lines.iter().any(|line| all.contains(&line[..16])), "{all}");
        assert!(!key.windows(8).any(|window| all.contains(&hex(window))), "{all}");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_said() {
    let folder = Folder::good();
    let toml = folder.sanedge_toml();
    for output in ["no/such/folder/x.bundle", "key.pem", "sanedge.toml", "."] {
        let before = fs::read(folder.path("key.pem")).unwrap();
        let path = folder.path(output);
        let said = sanedge(&[Path::new("bundle"), &toml, Path::new("--json"), Path::new("-o"), &path]);
        assert_eq!(said.status.code(), Some(1), "{output}");
        let document = json(&said);
        assert_eq!(document["findings"][0]["code"], Code::NotWritten.as_str(), "{output}: {document}");
        assert_eq!(document["written"], Value::Null);
        assert_eq!(fs::read(folder.path("key.pem")).unwrap(), before, "a key must survive a slip in -o");
        assert_eq!(fs::read_to_string(&toml).unwrap(), folder.source);
    }
    let path = folder.path("other.bundle");
    let said = sanedge(&[Path::new("bundle"), &toml, Path::new("-o"), &path]);
    assert!(said.status.success() && path.exists() && !folder.path("sanedge.bundle").exists());
}

#[test]
fn a_source_that_cannot_be_read_is_a_problem_and_not_wrong_usage() {
    let folder = Folder::good();
    fs::write(folder.path("latin1.toml"), b"board = \"\xe9\"\n").unwrap();
    for name in ["nothing-here.toml", ".", "latin1.toml"] {
        let output = sanedge(&arguments(&["bundle", "--json"], &folder.path(name)));
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert_eq!(json(&output)["findings"][0]["code"], Code::ConfigUnreadable.as_str(), "{name}");
    }
    assert_eq!(sanedge(&[Path::new("bundle")]).status.code(), Some(2));
    assert_eq!(sanedge(&arguments(&["bundle", "--nonsense"], Path::new("x"))).status.code(), Some(2));
    assert_eq!(sanedge(&[Path::new("nonsense")]).status.code(), Some(2));
}

#[test]
fn a_file_that_is_no_bundle_cannot_be_shown() {
    let folder = Folder::good();
    for name in ["ca.pem", "nothing-here.bundle"] {
        let output = sanedge(&arguments(&["show"], &folder.path(name)));
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(text(&output.stderr).starts_with("error "), "{name}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_source_given_for_a_bundle_is_recognised_before_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::good();
    let toml = folder.sanedge_toml();
    sanedge(&arguments(&["bundle"], &toml));
    let bundle = folder.path("sanedge.bundle");
    for (path, wanted) in [(&toml, "type `sanedge bundle "), (&bundle, "chmod 0640 ")] {
        for mode in [0o644, 0o600] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            let output = sanedge(&arguments(&["show"], path));
            let said = text(&output.stderr);
            assert_eq!(output.status.success(), path == &bundle && mode == 0o600, "{said}");
            assert!(output.status.success() || said.contains(wanted), "{said}");
            assert!(output.status.success() || said.contains("chmod") == (path == &bundle), "{said}");
        }
    }
}

#[test]
fn a_source_that_is_plainly_another_file_is_reported_as_what_it_is() {
    let folder = Folder::good();
    sanedge(&arguments(&["bundle"], &folder.sanedge_toml()));
    let utf16: Vec<u8> = "\u{feff}board".encode_utf16().flat_map(u16::to_le_bytes).collect();
    folder.write("empty.toml", "");
    folder.write("utf16.toml", utf16);
    let rows =
        [("sanedge.bundle", "sanedge show "), ("empty.toml", "Write it"), ("utf16.toml", "iconv -f UTF-16")];
    for (name, wanted) in rows {
        let output = sanedge(&arguments(&["bundle", "--json"], &folder.path(name)));
        assert_eq!(output.status.code(), Some(1), "{name}");
        let finding = &json(&output)["findings"][0];
        assert_eq!(finding["code"], Code::ConfigUnreadable.as_str(), "{name}");
        assert!(finding["remedy"].as_str().unwrap().contains(wanted), "{finding}");
    }
}

#[test]
fn what_lies_where_the_bundle_should_be_survives_and_the_way_out_is_said() {
    let folder = Folder::good();
    let toml = folder.sanedge_toml();
    folder.write("sanedge.bundle", "damaged");
    for (words, wanted) in [(vec![], "sanedge.bundle.damaged"), (vec!["-o"], "with -o")] {
        let bundle = folder.path("sanedge.bundle");
        let mut all = vec![Path::new("bundle"), Path::new("--json"), &toml];
        if !words.is_empty() {
            all.extend([Path::new("-o"), &bundle]);
        }
        let output = sanedge(&all);
        assert_eq!(output.status.code(), Some(1));
        let finding = &json(&output)["findings"][0];
        assert_eq!(finding["code"], Code::NotWritten.as_str());
        let remedy = finding["remedy"].as_str().unwrap();
        assert!(remedy.contains(wanted), "{remedy}");
        assert_eq!(remedy.contains("-o"), !words.is_empty(), "{remedy}");
        assert_eq!(fs::read(&bundle).unwrap(), b"damaged");
    }
}

#[test]
fn a_full_disk_behind_stdout_is_a_failure() {
    let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") else {
        eprintln!("SKIPPED: there is no /dev/full on this system");
        return;
    };
    let folder = Folder::good();
    let toml = folder.sanedge_toml();
    let bundle = folder.path("sanedge.bundle");
    assert!(sanedge(&arguments(&["bundle"], &toml)).status.success());
    let rows = [("bundle", &toml), ("show", &bundle)];
    for (command, path) in rows {
        for json in [&["--json"][..], &[]] {
            let mut run = program::sanedge();
            run.arg(command).args(json).arg(path).stdout(full.try_clone().unwrap());
            let output = run.stderr(Stdio::piped()).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{command} {json:?}");
            assert!(text(&output.stderr).contains("standard output"), "{}", text(&output.stderr));
        }
    }
}

#[test]
fn show_answers_a_program_in_json_also_when_it_fails() {
    let folder = Folder::good();
    let output = sanedge(&arguments(&["show", "--json"], &folder.path("nothing-here.bundle")));
    assert_eq!(output.status.code(), Some(1));
    assert!(json(&output)["message"].as_str().unwrap().contains("nothing-here.bundle"));
}

#[test]
fn memory_is_printed_on_success_or_if_it_is_the_problem() {
    let lines = |words: &[&str], change: fn(&mut Folder)| {
        let mut folder = Folder::good();
        change(&mut folder);
        let said = text(&sanedge(&arguments(words, &folder.sanedge_toml())).stdout);
        let (summary, equation) =
            (said.contains("\nmemory: at most "), said.contains("\nmemory\n  handshakes "));
        assert!(!(summary && equation), "{said}");
        (summary, equation)
    };
    assert_eq!(lines(&["bundle"], |_| {}), (true, false), "one line");
    assert_eq!(lines(&["bundle", "--verbose"], |_| {}), (false, true), "the equation");
    assert_eq!(lines(&["bundle", "--verbose"], |f| f.source.push_str("nonsense = 1\n")), (false, false));
    assert_eq!(lines(&["bundle"], |f| f.source.push_str("[limits]\nsessions_max = 100000\n")), (false, true));
}

#[test]
fn nothing_is_coloured_without_a_terminal() {
    let output = sanedge(&arguments(&["bundle"], &story().sanedge_toml()));
    assert!(!output.stderr.contains(&0x1b) && !output.stdout.contains(&0x1b));
}

/// `script` gives the command a terminal; without it (macOS has another one) there is nothing to see.
#[test]
fn a_terminal_gets_colour_unless_no_color_is_set() {
    let folder = story();
    let toml = folder.sanedge_toml();
    let sanedge = program::sanedge();
    let words =
        std::iter::once(sanedge.get_program()).chain(sanedge.get_args()).map(|word| word.to_str().unwrap());
    let command = format!("{} bundle {}", words.collect::<Vec<_>>().join(" "), toml.display());
    let run = |no_color: &str| {
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env("NO_COLOR", no_color).env("TERM", "xterm");
        script.stdin(Stdio::null()).output()
    };
    let Ok(coloured) = run("") else {
        assert!(std::env::var_os("SANEDGE_REQUIRE_ALL").is_none(), "`script` (util-linux) is required");
        eprintln!("SKIPPED: `script` (util-linux) is not installed");
        return;
    };
    assert!(text(&coloured.stdout).contains("\x1b[1;31merror\x1b[0m"), "{}", text(&coloured.stdout));
    assert!(!text(&run("1").unwrap().stdout).contains('\x1b'));
}

#[test]
fn a_closed_stdout_is_not_a_panic() {
    let folder = Folder::good();
    let toml = folder.sanedge_toml();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = program::sanedge()
        .args(arguments(&["bundle"], &toml))
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
    assert!(folder.path("sanedge.bundle").exists(), "the bundle is written all the same");
}

#[test]
fn a_name_from_a_certificate_moves_no_cursor() {
    let folder = Folder::good();
    folder.issue_with(|params| {
        params.subject_alt_names = vec![odd_certs::dns("\u{1b}[2Jrecre.store")];
        params.distinguished_name.push(rcgen::DnType::CommonName, "\u{1b}]0;owned\u{7}");
    });
    let output = sanedge(&arguments(&["bundle"], &folder.sanedge_toml()));
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stderr.contains(&0x1b) && !output.stderr.contains(&0x07), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("[2Jrecre.store"), "{}", text(&output.stderr));
}

/// A CA that wants external account binding needs `eab`, and another does not; pending hosts have rows of their own.
#[test]
fn a_ca_that_wants_a_binding_needs_one_and_a_pending_host_has_its_route() {
    let bundled = |directory: &str| {
        let mut folder = Folder::good();
        folder.change("[listen]", "[listen]\nhttp = [\"127.0.0.1:0\"]");
        folder.append(&format!("[acme]\nterms = \"agreed\"\ndirectory = \"{directory}\n"));
        folder.append("[[site]]\nhosts = [\"new.recre.store\"]\nupstream = [\"127.0.0.1:3002\"]\n");
        let output = sanedge(&arguments(&["bundle"], &folder.sanedge_toml()));
        let said = text(&output.stdout) + &text(&output.stderr);
        let shown = sanedge(&arguments(&["show"], &folder.path("sanedge.bundle")));
        (output.status.code(), said, text(&shown.stdout))
    };
    for refused in [
        "zerossl",
        "google",
        "https://acme.zerossl.com/v2/DV90",
        "https://dv.acme-v02.api.pki.goog/directory",
    ] {
        let (code, said, _) = bundled(&format!("{refused}\""));
        assert_eq!(code, Some(1), "{refused}: {said}");
        assert!(said.contains("`eab` is missing") && said.contains("Add eab = { kid"), "{said}");
    }
    let bound = "\"\neab = { kid = \"a\", key_file = \"eab.key\" }";
    for bad in [
        "\"\neab = { kid = \"a\" }",
        "\"\neab = { key_file = \"eab.key\" }",
        "\"\neab = { kid = \"\", key_file = \"eab.key\" }",
        "\"\neab = \"a\"",
    ] {
        let (code, said, _) = bundled(&format!("zerossl{bad}"));
        assert_eq!(code, Some(1), "{bad}: {said}");
    }
    let (code, said, _) = bundled("http://ca.lan/directory\"");
    assert!(code == Some(1) && said.contains("https://ca.lan/directory"), "{said}");
    let fallback = "\"\n[[acme.fallback]]\ndirectory = \"letsencrypt";
    for good in [
        "letsencrypt\"".to_owned(),
        "https://ca.lan/directory\"".to_owned(),
        format!("google{bound}"),
        format!("zerossl{bound}{}\"", fallback.trim_start_matches('"')),
    ] {
        let (code, said, shown) = bundled(&good);
        assert_eq!(code, Some(0), "{good}: {said}");
        let row = |text: &str, begin: &str| {
            text.lines().any(|line| {
                line.starts_with(begin) && line.ends_with(" https://new.recre.store https://recre.store")
            })
        };
        assert!(row(&said, "new.recre.store ") && !said.contains("programs only"), "{said}");
        assert!(row(&shown, "1 ") && !shown.contains("programs only"), "{shown}");
    }
}
