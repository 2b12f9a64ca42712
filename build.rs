//! Lists the board profiles of `boards/`, so that a new one is one file.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=boards");
    let mut paths = fs::read_dir("boards")? // cargo runs this in the package's folder
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let mut rows = String::new();
    for path in &paths {
        // The text and not the path: checkouts may share a target directory, where cargo takes what another has built.
        let (name, text) = (path.file_stem().unwrap_or_default(), fs::read_to_string(path)?);
        let _ = writeln!(rows, "    ({name:?}, {text:?}),");
    }
    let list = format!(
        "/// Name and text of each profile.\nstatic PROFILES: [(&str, &str); {}] = [\n{rows}];\n",
        paths.len()
    );
    fs::write(Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("boards.rs"), list)
}
