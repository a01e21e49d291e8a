//! Runs the built program, as whoever runs the tests or as a user without rights.
#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod clients;
#[path = "../executable/mod.rs"]
mod executable;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use netlab::agent::directory::{self, Directory};

/// The user without any rights.
const NOBODY: u32 = 65534;

/// Who runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    Me,
    Nobody,
}

/// The built program, where its user can run it.
pub(crate) struct Program {
    user: User,
    path: PathBuf,
    /// Lab files, and the program's copy.
    folder: tempfile::TempDir,
}

/// A lab that is ended when this goes out of scope.
pub(crate) struct Running<'a> {
    pub(crate) program: &'a Program,
    pub(crate) name: String,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // A lab that did not come up is not there to end.
        let _ = self.program.run(&["down", &self.name]);
    }
}

impl Running<'_> {
    /// Brings another lab up in its place.
    pub(crate) fn replace(&self, text: &str) -> Result<(), String> {
        let file = self.program.write(&format!("{}-2.toml", self.name), text);
        let up = self.program.run(&["up", &file, "--name", &self.name, "--replace"]);
        match up.status.success() {
            true => Ok(()),
            false => Err(format!("{}: {}", self.name, String::from_utf8_lossy(&up.stderr))),
        }
    }

    /// Runs a command in one of its namespaces.
    pub(crate) fn exec(&self, place: &str, command: &[&str]) -> Output {
        self.program.run(&[&["exec", "-l", &self.name, place, "--"], command].concat())
    }
}

impl Program {
    pub(crate) fn of(user: User) -> Program {
        use std::os::unix::fs::{PermissionsExt, chown};
        let built = PathBuf::from(env!("CARGO_BIN_EXE_netlab"));
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = match user {
            User::Me => built,
            User::Nobody => {
                // Nobody may not look into the target directory.
                let path = folder.path().join("netlab");
                executable::copy(&built, &path);
                fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
                chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("root may give it away");
                path
            }
        };
        Program { user, path, folder }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = match self.user {
            User::Me => Command::new(&self.path),
            User::Nobody => {
                let mut command = Command::new("setpriv");
                let id = NOBODY.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(&self.path);
                command.env_remove("XDG_RUNTIME_DIR").env("HOME", self.folder.path());
                command
            }
        };
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.output().unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    /// Writes a file that the program can read, and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("the file can be written");
        path.to_string_lossy().into_owned()
    }

    /// Brings a lab up; why not, if it cannot be.
    pub(crate) fn up(&self, name: &str, text: &str) -> Result<Running<'_>, String> {
        let name = format!("t{}-{name}", std::process::id() % 10_000);
        let file = self.write(&format!("{name}.toml"), text);
        let up = self.run(&["up", &file, "--name", &name]);
        let running = Running { program: self, name };
        if up.status.success() {
            return Ok(running);
        }
        Err(format!("{}: {}", running.name, String::from_utf8_lossy(&up.stderr)))
    }

    /// Where the agent of a lab listens.
    pub(crate) fn directory(&self, name: &str) -> Directory {
        let root = match self.user {
            User::Me => directory::root().expect("there is a place for labs"),
            User::Nobody => PathBuf::from(format!("/tmp/netlab-{NOBODY}")),
        };
        Directory { name: name.to_owned(), path: root.join(name) }
    }
}
