//! Runs commands at the top of the project, and shows them as one would type them.

use std::{
    env,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

/// Why a task did not get to its end: one sentence.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

/// What a task comes to.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Shows a command and runs it at the top of the project; its output goes where ours goes.
pub(crate) fn run<P: AsRef<Path>, A: Into<OsString> + AsRef<std::ffi::OsStr>>(
    program: P,
    arguments: impl IntoIterator<Item = A>,
) -> Result<()> {
    run_with(program, arguments, &[])
}

/// The same with additions to the environment.
pub(crate) fn run_with<P: AsRef<Path>, A: Into<OsString> + AsRef<std::ffi::OsStr>>(
    program: P,
    arguments: impl IntoIterator<Item = A>,
    environment: &[(&str, &str)],
) -> Result<()> {
    let program = program.as_ref();
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let shown = show(program, &arguments, environment);
    eprintln!("$ {shown}");
    // As a `Path`, duct would take a name without a slash for a file in this folder, not on PATH.
    let mut command = duct::cmd(program.as_os_str(), &arguments).dir(top()).unchecked();
    for (name, value) in environment {
        command = command.env(name, value);
    }
    let output = command.run().map_err(|error| Failure(format!("cannot run `{shown}`: {error}")))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Failure(format!("`{shown}` failed: {}", output.status))),
    }
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// The top of the project. Cargo says where it is now; where it was when this was compiled may
/// be somewhere else, if a build directory was moved or shared.
pub(crate) fn top() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Where a release build puts a program.
pub(crate) fn release(program: &str) -> Result<PathBuf> {
    Ok(built("release")?.join(program))
}

/// A directory beside the one that this program was built into.
pub(crate) fn built(directory: &str) -> Result<PathBuf> {
    let own = env::current_exe().map_err(|error| Failure(format!("cannot find xtask itself: {error}")))?;
    let target = own.parent().and_then(Path::parent);
    let target = target.ok_or_else(|| Failure(format!("{} is in no target directory", own.display())))?;
    Ok(target.join(directory))
}

fn show(program: &Path, arguments: &[OsString], environment: &[(&str, &str)]) -> String {
    // The cargo of a toolchain has a long path that says nothing here.
    let program = match program.file_name() {
        Some(name) if name == "cargo" => name.to_string_lossy().into_owned(),
        _ => program.strip_prefix(top()).unwrap_or(program).display().to_string(),
    };
    let environment = environment.iter().map(|(name, value)| format!("{name}={value}"));
    let arguments = arguments.iter().map(|argument| argument.to_string_lossy().into_owned());
    environment.chain([program]).chain(arguments).collect::<Vec<_>>().join(" ")
}
