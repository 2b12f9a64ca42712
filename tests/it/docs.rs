//! README.md and docs/*.md agree with the program: generated tables, examples, commands, links.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sanedge::admin::endpoints::{ENDPOINTS, Endpoint};
use sanedge::bundle::keys::{Row, TABLES};
use sanedge::reason::Reason;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// What a reader takes in at one sitting.
const README_BYTES_MAX: usize = 8000;
/// Completes an example that shows only some tables.
const CERTIFICATE: &str = "[[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\n";
const SITE: &str = "[[site]]\nhosts = [\"recre.store\"]\nupstream = [\"127.0.0.1:3002\"]\n";

/// The pages by their path from the root.
fn pages() -> BTreeMap<PathBuf, String> {
    let mut paths: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(PathBuf::from).into();
    for entry in std::fs::read_dir(Path::new(ROOT).join("docs")).unwrap() {
        let name = PathBuf::from(entry.unwrap().file_name());
        if name.extension().is_some_and(|extension| extension == "md") {
            paths.push(Path::new("docs").join(name));
        }
    }
    assert!(paths.len() > 15, "{paths:?}");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(Path::new(ROOT).join(&path)).unwrap();
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// The fenced blocks of `language` in a page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), None);
    for line in page.lines() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(name)) => open = Some((name == language, String::new())),
            (Some((_, block)), None) => *block += &format!("{line}\n"),
            (Some(_), Some(_)) => found.extend(open.take().filter(|(wanted, _)| *wanted)),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a code block that does not end");
    found.into_iter().map(|(_, block)| block).collect()
}

/// Every sanedge.toml of a page: the `toml` blocks, and what a shell block writes with `<<'X'` or `<<'TOML'`.
fn examples(page: &str) -> Vec<String> {
    let mut found = blocks(page, "toml");
    for block in blocks(page, "sh") {
        for end in ["X", "TOML"] {
            let begin = format!("<<'{end}'");
            let Some((_, rest)) = block.split_once(&begin) else { continue };
            let (_, rest) = rest.split_once('\n').unwrap();
            found.push(rest.split_once(&format!("\n{end}\n")).expect("the document ends").0.to_owned());
        }
    }
    found
}

/// The commands of our own in a page's shell blocks, as words.
fn commands(page: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for block in blocks(page, "sh") {
        let block = block.replace("\\\n", " ");
        for line in block.lines() {
            let line = line.split(" #").next().unwrap();
            for part in line.split("&&").flat_map(|part| part.split('|')) {
                let words: Vec<String> =
                    part.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect();
                let at = usize::from(words.first().is_some_and(|word| word == "sudo"));
                if words.get(at).is_some_and(|word| word == "sanedge") {
                    found.push(words[at..].to_vec());
                }
            }
        }
    }
    found
}

/// As GitHub makes an anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(page: &str) -> Vec<String> {
    let mut code = false;
    let headings = page.lines().filter(|line| {
        code ^= line.trim_start().starts_with("```");
        !code && line.starts_with('#')
    });
    headings.map(anchor).collect()
}

/// The targets of `[text](target)`.
fn links(page: &str) -> Vec<String> {
    page.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

/// A table's header as a heading.
fn heading(title: &str) -> String {
    if title.starts_with('[') { format!("`{title}`") } else { title.replacen("the top", "Top", 1) }
}

fn row(row: &Row) -> String {
    let why = if row.why.is_empty() { String::new() } else { format!(" Why: {}.", row.why) };
    format!("| `{}` | {} | {} | {} | {}{why} |\n", row.name, row.kind, row.default, row.range, row.means)
}

fn tables() -> String {
    let table = |rows: Vec<Row>| {
        let rows: String = rows.iter().map(row).collect();
        format!("| key | type | default | range | meaning |\n|---|---|---|---|---|\n{rows}\n")
    };
    TABLES
        .iter()
        .map(|found| format!("### {}\n\n{}", heading(found.title), table(found.own_rows())))
        .collect()
}

/// Holds the part of a page between its markers to `wanted`, or writes it.
fn generated(page: &str, marker: &str, wanted: &str) {
    let path = Path::new(ROOT).join("docs").join(page);
    let (begin, end) = (format!("<!-- {marker} -->\n"), format!("<!-- /{marker} -->"));
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(&begin).expect("the marker");
    let (found, after) = rest.split_once(&end).expect("the end marker");
    if std::env::var_os("SANEDGE_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{begin}{wanted}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(found, wanted, "run SANEDGE_WRITE_DOCS=1 cargo test --test it docs::");
}

#[test]
fn the_tables_of_keys_are_the_programs_own() {
    generated("configuration.md", "keys", &tables());
}

#[test]
fn the_table_of_reasons_is_the_programs_own() {
    let row = |(name, means): (&&str, &&str)| format!("| `{name}` | {means} |\n");
    let rows: String = Reason::NAMES.iter().zip(&Reason::MEANINGS).map(row).collect();
    generated(
        "limits.md",
        "reasons",
        &format!("| reason | limit or cause, and what the client gets |\n|---|---|\n{rows}"),
    );
}

#[test]
fn the_table_of_endpoints_is_the_programs_own() {
    let row =
        |endpoint: &&Endpoint| format!("| {} `{}` | {} |\n", endpoint.method, endpoint.path, endpoint.means);
    let rows: String = ENDPOINTS.iter().map(row).collect();
    generated("monitoring.md", "endpoints", &format!("| request | answer |\n|---|---|\n{rows}"));
}

#[test]
fn the_readme_is_short_and_begins_development_with_the_demo() {
    let readme = include_str!("../../README.md");
    assert!(readme.len() <= README_BYTES_MAX, "{} bytes", readme.len());
    let first = readme.lines().find(|line| line.starts_with("cargo run")).unwrap();
    let (command, _) = first.split_once('#').unwrap();
    assert_eq!(command.trim_end(), "cargo run --release --example demo");
}

#[test]
fn every_example_compiles_but_for_its_certificates() {
    let mut seen = 0;
    for (path, page) in pages() {
        for mut example in examples(&page) {
            if !example.contains("board =") {
                example.insert_str(0, "board = \"host\"\n");
            }
            for (header, table) in [("[[certificate]]", CERTIFICATE), ("[[site]]", SITE)] {
                if !example.contains(header) {
                    example += &format!("\n{table}");
                }
            }
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("sanedge.toml");
            std::fs::write(&file, &example).unwrap();
            let outcome = sanedge::bundle::compile::compile(&file, 0);
            let codes: Vec<_> = outcome.findings.iter().map(|finding| finding.code.as_str()).collect();
            assert!(
                codes.iter().all(|code| code.ends_with("-missing")),
                "{}: {codes:?}\n{example}",
                path.display()
            );
            assert!(!codes.is_empty());
            seen += 1;
        }
    }
    assert!(seen >= 4, "{seen}");
}

#[test]
fn every_command_of_a_page_is_one_of_the_programs() {
    let (mut seen, mut named) = (0, 0);
    for (path, page) in pages() {
        for words in commands(&page) {
            let parsed = sanedge::cli::command().try_get_matches_from(&words);
            assert!(parsed.is_ok(), "{}: {words:?}: {}", path.display(), parsed.unwrap_err());
            seen += 1;
        }
        // In a sentence, often with placeholders: that the command and its options exist.
        for inline in page.split('`').filter(|text| text.starts_with("sanedge ")) {
            let mut words = inline.split_whitespace().skip(1).map(|word| word.trim_start_matches('['));
            let name = words.next().unwrap();
            let known = sanedge::cli::command();
            let mut command =
                known.find_subcommand(name).unwrap_or_else(|| panic!("{}: {inline}", path.display()));
            let mut words = words.peekable();
            // `sanedge site add`: the options of both.
            let of_all = command.get_arguments().cloned().collect::<Vec<_>>();
            while let Some(deeper) = words.peek().and_then(|word| command.find_subcommand(word)) {
                command = deeper;
                words.next();
            }
            for option in words.filter_map(|word| word.trim_end_matches(']').strip_prefix("--")) {
                let found =
                    command.get_arguments().chain(&of_all).any(|known| known.get_long() == Some(option));
                assert!(found, "{}: {inline}: --{option}", path.display());
            }
            named += 1;
        }
    }
    assert!(seen >= 10 && named >= 30, "{seen}, {named}");
}

#[test]
fn every_link_leads_to_a_page_and_a_heading_that_are_there() {
    let pages = pages();
    let mut seen = 0;
    for (path, page) in &pages {
        for link in links(page) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let folder = Path::new(ROOT).join(path.parent().unwrap());
            let target = if file.is_empty() { Path::new(ROOT).join(path) } else { folder.join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            if !heading.is_empty() {
                let found = anchors(&std::fs::read_to_string(target).unwrap());
                assert!(found.contains(&heading.to_owned()), "{}: {link}: {found:?}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen >= 40, "{seen}");
}

#[test]
fn every_file_that_a_page_names_exists() {
    let mut seen = 0;
    for (path, page) in pages() {
        for named in page.split('`').filter(|text| !text.contains(char::is_whitespace)) {
            let ours = [
                "src/",
                "edge/",
                "tests/",
                "docs/",
                "boards/",
                "fuzz/",
                "systemd/",
                "hooks/",
                "packaging/",
                "cross/",
            ];
            if !ours.iter().any(|folder| named.starts_with(folder)) || named.contains(['*', '{', '…']) {
                continue;
            }
            // Packages of their own, which the crate's does not hold.
            if ["fuzz", "edge"]
                .iter()
                .any(|other| named.starts_with(other) && !Path::new(ROOT).join(other).exists())
            {
                continue;
            }
            assert!(Path::new(ROOT).join(named).exists(), "{}: {named}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 50, "{seen}");
}

#[test]
fn the_index_has_every_page() {
    let pages = pages();
    let index = &pages[Path::new("docs/README.md")];
    for path in pages.keys().filter(|path| path.starts_with("docs")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name == "README.md" || index.contains(&format!("]({name})")), "{name}");
    }
}
