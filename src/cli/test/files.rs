//! The lab files of a run: found, read, in the order of their paths.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    error::{Context, Error, Result},
    lab::{self, Expectation},
};

/// Folders of other programs, in which there are no labs.
const OTHERS: [&str; 2] = ["target", "node_modules"];

/// What was found.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) files: Vec<LabFile>,
    /// TOML files in the folders that are not meant to be labs.
    pub(super) left_out: Vec<String>,
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct LabFile {
    /// As it is named in messages.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    /// What it states.
    pub(super) expect: Expectation,
}

/// Finds the lab files: those that are named, and every `*.toml` below the folders that are.
pub(super) fn collect(paths: &[PathBuf]) -> Result<Collected> {
    let here = [PathBuf::from(".")];
    let paths = if paths.is_empty() { &here } else { paths };
    let (mut found, mut named) = (BTreeSet::new(), BTreeSet::new());
    for path in paths {
        if path.is_dir() {
            walk(path, &mut found)?;
        } else {
            named.insert(path.clone());
        }
    }
    let mut collected = Collected { files: Vec::new(), left_out: Vec::new() };
    let mut seen = BTreeSet::new();
    // One that is named is meant, whatever is in it.
    for path in found.union(&named) {
        let file = read(path)?;
        let real = fs::canonicalize(path).context(format!("cannot find {}", path.display()))?;
        if !seen.insert(real) {
            continue;
        }
        let is_meant = || std::str::from_utf8(&file.bytes).map_or(true, lab::is_meant);
        if named.contains(path) || is_meant() {
            collected.files.push(file);
        } else {
            collected.left_out.push(file.name);
        }
    }
    Ok(collected)
}

/// Every `*.toml` below a folder, but not in hidden folders, nor in what is behind symbolic links.
fn walk(folder: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).map_err(|error| Error::usage(format!("cannot read {}: {error}", folder.display())))?;
    for entry in entries {
        let entry = entry.context(format!("cannot read {}", folder.display()))?;
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with('.');
        let kind = entry.file_type().context(format!("cannot look at {}", entry.path().display()))?;
        let path = entry.path();
        // `./lab.toml` is called `lab.toml`.
        let path = path.strip_prefix(".").map(Path::to_owned).unwrap_or(path);
        if hidden {
            continue;
        }
        if kind.is_dir() {
            if !OTHERS.iter().any(|other| name == *other) {
                walk(&path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "toml") && path.is_file() {
            found.insert(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<LabFile> {
    let name = path.display().to_string();
    let bytes = fs::read(path).map_err(|error| {
        Error::usage(format!("cannot read {name}: {error}")).hint("name a lab file, or a folder of them")
    })?;
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        // What is above the first byte that is no text may say what to expect.
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    let expect = lab::expectation(text);
    Ok(LabFile { name, path: path.to_owned(), bytes, expect })
}
