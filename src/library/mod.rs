//! Labs for programs: a [`Lab`] that was read, a [`Running`] one that lives as long as its value.
//!
//! A lab is held by a process of the `netlab` program, as with `netlab run`: it could not be held by the
//! caller's own process, which has threads, and is not process 1 of anything. Everything else is asked
//! of the same program too, by its stable output.

mod failure;
pub(crate) mod hold;
mod program;
mod running;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::{
    diag::{Colour, Diagnostics},
    error::ErrorKind,
    lab::{self, model, name::Name},
    proxy::ladder,
};

pub use failure::Error;
pub use program::PROGRAM;
pub(crate) use program::Program;
pub use running::{Options, Running};

/// A lab that was read from its file, and is good; not up yet.
///
/// ```no_run
/// # fn main() -> Result<(), netlab::Error> {
/// let lab = netlab::Lab::from_file("labs/shop.toml")?.up()?;
/// let answer = lab.exec("web-0", ["curl", "-s", "http://shop/"])?;
/// assert!(answer.contains("HTTP Server"));
/// lab.ready("web-1", false)?;
/// lab.verify()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "it is not up yet"]
pub struct Lab {
    text: String,
    /// How messages call the file.
    origin: String,
    own_name: Name,
    name: Option<String>,
    timeout: Duration,
    limit: Option<Duration>,
    program: Option<PathBuf>,
}

/// How long a lab may take until it is ready, if nothing else is said: as with `netlab up`.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Lab {
    /// Reads a lab from the text of a lab file.
    ///
    /// # Errors
    ///
    /// With every problem of the text, underlined.
    pub fn from_toml(text: impl Into<String>) -> Result<Lab, Error> {
        Lab::read(text.into(), "the lab", &default_name(None))
    }

    /// Reads a lab from a lab file.
    ///
    /// # Errors
    ///
    /// When it cannot be read; and with every problem of it, underlined.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Lab, Error> {
        let path = path.as_ref();
        let text = fs::read_to_string(path)
            .map_err(|error| Error::new(ErrorKind::Usage, format!("cannot read {}: {error}", path.display())))?;
        Lab::read(text, &path.display().to_string(), &default_name(Some(path)))
    }

    fn read(text: String, origin: &str, default_name: &Name) -> Result<Lab, Error> {
        match check(&text, default_name) {
            Ok(lab) => Ok(Lab::of(text, origin, &lab)),
            Err(problems) => {
                Err(Error::new(ErrorKind::Usage, problems.render(origin, &text, Colour::Off).trim_end().to_owned()))
            }
        }
    }

    /// From a text that was found good.
    pub(crate) fn of(text: String, origin: &str, lab: &model::Lab) -> Lab {
        let (origin, own_name) = (origin.to_owned(), lab.name.clone());
        Lab { text, origin, own_name, name: None, timeout: TIMEOUT, limit: None, program: None }
    }

    /// Up under this name, by which `netlab` knows it too. By default it gets one that no other lab has,
    /// so that tests can run at the same time.
    pub fn with_name(self, name: impl Into<String>) -> Lab {
        Lab { name: Some(name.into()), ..self }
    }

    /// Not up if it is not ready after this long; by default, a minute.
    pub fn with_timeout(self, timeout: Duration) -> Lab {
        Lab { timeout, ..self }
    }

    /// Held by this `netlab` program. By default it is the one that the environment variable
    /// [`NETLAB_PROGRAM`](PROGRAM) names; else one that cargo has built beside the calling program; else
    /// the one on the `PATH`, or where `cargo install` puts it.
    pub fn with_program(self, program: impl Into<PathBuf>) -> Lab {
        Lab { program: Some(program.into()), ..self }
    }

    /// The name that its file gives it.
    pub(crate) fn own_name(&self) -> &str {
        self.own_name.as_str()
    }

    /// Ended after this long, whatever happens.
    pub(crate) fn with_limit(self, limit: Duration) -> Lab {
        Lab { limit: Some(limit), ..self }
    }

    /// Brings the lab up, and waits until it is ready. It ends when the value is dropped, and when the
    /// calling process ends, however that happens.
    ///
    /// # Errors
    ///
    /// When there is no `netlab` program of this version, when this host cannot have the lab, and when
    /// a part of it does not come up. Nothing of the lab is left then.
    pub fn up(&self) -> Result<Running, Error> {
        self.up_by(match &self.program {
            Some(path) => Program::at(path.clone()),
            None => Program::find()?,
        })
    }

    /// [`Lab::up`], held by this program.
    pub(crate) fn up_by(&self, program: Program) -> Result<Running, Error> {
        let name = match &self.name {
            Some(name) => name
                .parse()
                .map_err(|why| Error::new(ErrorKind::Usage, format!("{name:?} cannot be the name of a lab: {why}")))?,
            None => unique(&self.own_name),
        };
        let order = hold::Order {
            version: hold::VERSION.to_owned(),
            text: self.text.clone(),
            origin: self.origin.clone(),
            name: name.to_string(),
            timeout: self.timeout,
            limit: self.limit,
        };
        Running::begin(program, &order)
    }
}

/// Reads a lab as `netlab check` does: what its proxy cannot express is a problem too.
pub(crate) fn check(text: &str, default_name: &Name) -> Result<model::Lab, Diagnostics> {
    lab::load_named(text, default_name).and_then(ladder::check)
}

/// The lab's name where the file gives none: the file's.
pub(crate) fn default_name(file: Option<&Path>) -> Name {
    let stem = file.and_then(Path::file_stem).and_then(|stem| stem.to_str());
    let name = stem.map(str::to_ascii_lowercase).and_then(|stem| stem.parse().ok());
    // A file may have any name; a lab may not.
    name.unwrap_or_else(|| "lab".parse().unwrap_or_else(|_| unreachable!("`lab` is a name")))
}

/// A name that no other lab has: with this process's id and a number.
fn unique(name: &Name) -> Name {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let tail = format!("-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    // A name has 63 characters at most, all of them ASCII.
    let head: String = name.as_str().chars().take(63 - tail.len()).collect();
    format!("{head}{tail}").parse().unwrap_or_else(|_| unreachable!("a name with letters and digits after it is one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_names() {
        let long: Name = "a".repeat(63).parse().expect("63 characters are a name");
        let (one, other) = (unique(&long), unique(&long));
        assert_ne!(one, other);
        assert!(one.as_str().len() <= 63);
    }

    #[test]
    fn a_bad_lab_is_refused_with_all_its_problems() {
        let error = Lab::from_toml("[[pod]]\nname = \"A\"\nnod = \"x\"\n").expect_err("two problems");
        assert_eq!(error.kind(), ErrorKind::Usage);
        let shown = format!("{error:?}");
        assert!(shown.contains("the lab:2:8") && shown.contains("did you mean `node`?"), "{shown}");
    }

    #[test]
    fn what_the_ladder_cannot_express_is_a_problem() {
        let text = "[cluster]\nproxy = \"ladder\"\n[[pod]]\nname = \"a\"\nlabels = { a = \"a\" }\n[[service]]\nname = \"a\"\n\
                    selector = { a = \"a\" }\nsession_affinity = \"ClientIP\"\nports = [{ port = 80 }]\n";
        let error = Lab::from_toml(text).expect_err("one problem");
        assert!(error.to_string().contains("the ladder proxy cannot express session affinity"), "{error}");
    }
}
