//! Lab files: found, read, checked.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use super::output::Terminal;
use crate::{
    diag::Diagnostics,
    error::{Context, Error, ErrorKind, Result},
    lab::{self, Kept, model::Lab, name::Name},
    library,
    proxy::ladder,
};

/// A lab file is text that people write; more than this is something else.
const LIMIT: u64 = 32 << 20;

/// A lab file that was read.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// As it is named in messages.
    pub(super) name: String,
    /// As an absolute path; `None` for standard input.
    pub(super) path: Option<PathBuf>,
    /// What is in it.
    pub(super) text: String,
}

impl Source {
    /// Reads the file that was named, or the only lab file in this folder.
    pub(super) fn read(file: Option<&Path>) -> Result<Self> {
        match file {
            Some(path) if path == Path::new("-") => Source::from_reader("standard input", None, &mut std::io::stdin()),
            Some(path) => Source::open(path),
            None => Source::open(&only_lab_file()?),
        }
    }

    fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        if path.is_dir() {
            let error = Error::usage(format!("{name} is a directory, not a lab file"));
            return Err(error.hint(format!("name a file, like {}", path.join("lab.toml").display())));
        }
        let mut file = File::open(path).map_err(|error| {
            let hint = "`netlab new` lists templates to begin with";
            Error::usage(format!("cannot read {name}: {error}")).hint(hint)
        })?;
        let absolute = fs::canonicalize(path).context(format!("cannot find {name}"))?;
        Source::from_reader(&name, Some(absolute), &mut file)
    }

    fn from_reader(name: &str, path: Option<PathBuf>, reader: &mut dyn Read) -> Result<Self> {
        let mut bytes = Vec::new();
        let read = reader.take(LIMIT + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::usage(format!("cannot read {name}: {error}")))?;
        if bytes.len() as u64 > LIMIT {
            return Err(Error::usage(format!("{name} is over {} MiB: not a lab file", LIMIT >> 20)));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::usage(format!("{name} is not a text file: byte {at} is not UTF-8")).hint("lab files are TOML")
        })?;
        Ok(Source { name: name.to_owned(), path, text })
    }

    /// Reads the lab, or shows everything that is wrong with it, and what its proxy cannot do.
    pub(super) fn load(&self, terminal: &Terminal) -> Result<Lab> {
        self.check(lab::load_named(&self.text, &self.default_name()), terminal)
    }

    /// The same, for a lab of this name that is up: what is there keeps what it has.
    pub(super) fn load_after(&self, name: &str, kept: &Kept, terminal: &Terminal) -> Result<Lab> {
        let name: Name = name.parse().map_err(|error| Error::bug(format!("the lab's name {error}")))?;
        let mut lab = self.check(lab::load_after(&self.text, &name, kept), terminal)?;
        lab.name = name;
        Ok(lab)
    }

    fn check(&self, loaded: Result<Lab, Diagnostics>, terminal: &Terminal) -> Result<Lab> {
        loaded.and_then(ladder::check).map_err(|problems| self.show(&problems, terminal))
    }

    /// Shows problems, and gives back the error to end with.
    pub(super) fn show(&self, problems: &Diagnostics, terminal: &Terminal) -> Error {
        eprint!("{}", problems.render(&self.name, &self.text, terminal.error_colour()));
        let count = problems.0.len();
        let plural = if count == 1 { "" } else { "s" };
        Error {
            kind: ErrorKind::Usage,
            message: format!("{count} problem{plural} in {}; nothing was touched", self.name),
            hint: None,
        }
    }

    /// The lab's name where the file gives none: the file's.
    fn default_name(&self) -> Name {
        library::default_name(self.path.as_deref())
    }
}

fn only_lab_file() -> Result<PathBuf> {
    let entries = fs::read_dir(".").context("cannot read this folder")?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|it| it == "toml") && is_lab_file(path))
        .collect();
    files.sort();
    match files.as_slice() {
        [file] => Ok(file.strip_prefix(".").unwrap_or(file).to_owned()),
        [] => {
            Err(Error::usage("there is no lab file in this folder").hint("name one, or make one: netlab new minimal"))
        }
        [first, ..] => Err(Error::usage(format!("there are {} lab files in this folder", files.len()))
            .hint(format!("name one, like {}", first.strip_prefix(".").unwrap_or(first).display()))),
    }
}

/// Other tools have TOML files too: `Cargo.toml`, `pyproject.toml`.
fn is_lab_file(path: &Path) -> bool {
    const TABLES: [&str; 5] = ["[[node]]", "[[pod]]", "[[service]]", "[cluster]", "[[client]]"];
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().any(|line| TABLES.iter().any(|table| line.trim_start().starts_with(table)))
}
