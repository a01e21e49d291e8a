//! The `netlab` program: where it is, and what it says.

use std::{
    env,
    ffi::OsStr,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use super::Error;
use crate::error::ErrorKind;

/// The environment variable that names the `netlab` program for [`Lab`](super::Lab)s.
pub const PROGRAM: &str = "NETLAB_PROGRAM";

/// A `netlab` program.
#[derive(Debug, Clone)]
pub(crate) struct Program(PathBuf);

impl Program {
    /// The one with this path.
    pub(crate) fn at(path: PathBuf) -> Self {
        Program(path)
    }

    /// This very process's program, even if its file was replaced since.
    pub(crate) fn this() -> Self {
        let path = env::current_exe().ok().filter(|path| path.exists());
        Program(path.unwrap_or_else(|| PathBuf::from("/proc/self/exe")))
    }

    /// The one that was named; or that cargo has built beside the calling program; or that is
    /// installed.
    pub(crate) fn find() -> Result<Self, Error> {
        if let Some(named) = env::var_os(PROGRAM) {
            return Ok(Program(PathBuf::from(named)));
        }
        let built = built().into_iter().find(|path| path.is_file());
        let installed = || which::which("netlab").ok();
        let by_cargo = || {
            let home = env::var_os("CARGO_HOME").map(PathBuf::from);
            let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
            Some(home.join("bin/netlab")).filter(|path| path.is_file())
        };
        built.or_else(installed).or_else(by_cargo).map(Program).ok_or_else(|| {
            let text = format!(
                "there is no netlab program to hold the lab\n\
                 hint: install version {}, or name it in the environment variable {PROGRAM}",
                super::hold::VERSION
            );
            Error::new(ErrorKind::Host, text)
        })
    }

    /// A call of it, yet to be made.
    pub(super) fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.0);
        command.args(arguments);
        // The report is the caller's, and so is whether GitHub Actions reads of it.
        command.env_remove("GITHUB_ACTIONS").env_remove("GITHUB_STEP_SUMMARY");
        command
    }

    /// That it cannot be called.
    pub(super) fn is_not_there(&self, error: &std::io::Error) -> Error {
        Error::new(ErrorKind::Host, format!("cannot run {}: {error}", self.0.display()))
    }

    /// That it is not of this version.
    pub(super) fn is_another(&self) -> Error {
        let text = format!(
            "{} is not netlab {version}\n\
             hint: install netlab {version}, or name it in the environment variable {PROGRAM}",
            self.0.display(),
            version = super::hold::VERSION
        );
        Error::new(ErrorKind::Host, text)
    }

    /// Calls it with this on its standard input, whatever comes of it.
    pub(super) fn call<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Result<Output, Error> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| self.is_not_there(&error))?;
        let stdin = child.stdin.take();
        thread::scope(|scope| {
            // It may end without having read everything, and then says why.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
            child.wait_with_output().map_err(|error| self.is_not_there(&error))
        })
    }

    /// Calls it, which must succeed, and gives back what it prints.
    pub(super) fn ask<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Result<String, Error> {
        let output = self.call(arguments, input)?;
        if !output.status.success() {
            return Err(Error::of(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Where cargo puts the program of a workspace: a test or an example is in a folder beside it.
fn built() -> Vec<PathBuf> {
    let by_cargo = env::var_os("CARGO_BIN_EXE_netlab").map(PathBuf::from);
    let own = env::current_exe().ok();
    let folder = own.as_deref().and_then(Path::parent);
    let is_cargos = |folder: &&Path| folder.ends_with("deps") || folder.ends_with("examples");
    let beside = folder.filter(is_cargos).and_then(Path::parent).map(|target| target.join("netlab"));
    by_cargo.into_iter().chain(beside).collect()
}
