//! Every file in `tests/broken/` is refused with exactly the text in the `.err` file beside it.
//!
//! `NETLAB_BLESS=1 cargo test --test broken` rewrites the expectations.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use netlab::{
    diag::Colour,
    lab::{decode, load},
};

fn broken() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "toml"))
        .collect();
    files.sort();
    files
}

/// What a user reads, or `None` if the file is good.
fn shown(path: &Path) -> Option<String> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = String::from_utf8_lossy(&bytes);
    let problems = decode(&bytes).and_then(load).err()?;
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Some(problems.render(&name, &text, Colour::Off))
}

#[test]
fn broken_files_are_refused_as_expected() {
    let bless = env::var_os("NETLAB_BLESS").is_some();
    let mut wrong = Vec::new();
    let files = broken();
    assert!(files.len() >= 60, "only {} files", files.len());
    for path in files {
        let Some(shown) = shown(&path) else {
            wrong.push(format!("{} is accepted", path.display()));
            continue;
        };
        let expected = path.with_extension("err");
        if bless {
            fs::write(&expected, &shown).unwrap_or_else(|error| panic!("{}: {error}", expected.display()));
        } else if fs::read_to_string(&expected).unwrap_or_default() != shown {
            wrong.push(format!("{} now says:\n{shown}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\n\n(NETLAB_BLESS=1 rewrites the expectations)", wrong.join("\n"));
}

#[test]
fn every_problem_has_a_hint() {
    for path in broken() {
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let Err(problems) = decode(&bytes).and_then(load) else { continue };
        for problem in &problems.0 {
            assert!(problem.hint.is_some(), "{}: {}", path.display(), problem.message);
        }
    }
}
