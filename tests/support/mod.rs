//! What several tests need: a shell in which only the test's own labs are, and files of
//! expected output that `NETLAB_BLESS=1` rewrites.

#[path = "../executable/mod.rs"]
mod executable;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

/// Who has no rights at all.
const NOBODY: u32 = 65534;
/// The record separator of ASCII: what no command here prints.
const SEPARATOR: char = '\u{1e}';

/// Who runs commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whoever runs the test.
    Myself,
    /// A user without rights; only root can run commands as one.
    Nobody,
}

impl Who {
    /// Everybody that commands can be run as.
    pub(crate) fn all() -> Vec<Who> {
        if nix::unistd::geteuid().is_root() { vec![Who::Myself, Who::Nobody] } else { vec![Who::Myself] }
    }
}

/// Runs commands, one after the other in one shell, where no other lab is; gives back the
/// lines that each printed, to whatever stream. `netlab` is on the PATH, and `labs/` is there.
pub(crate) fn run(commands: &[&str], who: Who) -> Vec<Vec<String>> {
    let stage = tempfile::tempdir().expect("a directory for the script");
    let path = stage.path();
    let script = script(commands);
    fs::write(path.join("script.sh"), &script).expect("the script can be written");
    fs::create_dir(path.join("bin")).expect("a directory for programs");
    executable::copy(Path::new(env!("CARGO_BIN_EXE_netlab")), &path.join("bin/netlab"));
    if let Ok(coredns) = netlab::kernel::coredns::find() {
        // Not everybody may be able to look into the home directory that Go puts it in.
        let brought = path.join("bin/coredns");
        fs::hard_link(&coredns, &brought).unwrap_or_else(|_| executable::copy(&coredns, &brought));
    }
    fs::create_dir(path.join("labs")).expect("a directory for labs");
    for lab in fs::read_dir(top().join("labs")).expect("there are labs") {
        let lab = lab.expect("a lab").path();
        fs::copy(&lab, path.join("labs").join(lab.file_name().expect("a name"))).expect("labs can be copied");
    }
    fs::create_dir(path.join("run")).expect("a directory for run-time files");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the stage is mine");
    if who == Who::Nobody {
        for directory in [path.to_owned(), path.join("run")] {
            chown(directory, Some(NOBODY), Some(NOBODY)).expect("root may give files away");
        }
    }
    let mut shell = shell(who);
    shell.arg("script.sh").current_dir(path).env_clear();
    shell.env("PATH", format!("{}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", path.display()));
    shell.env("HOME", path).env("LANG", "C.UTF-8").env("XDG_RUNTIME_DIR", path.join("run"));
    let output = shell.output().expect("bash can be run");
    let text = String::from_utf8(output.stdout).expect("the commands print text");
    let parts: Vec<&str> = text.split(SEPARATOR).skip(1).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(parts.len(), commands.len(), "the script broke off: {errors}\n{script}");
    parts
        .iter()
        .map(|part| part.trim_end_matches('\n').lines().map(|line| line.trim_end().to_owned()).collect())
        .collect()
}

/// A bash that sees no labs of others: root's are all in `/run`.
fn shell(who: Who) -> Command {
    let words: &[&str] = match who {
        Who::Nobody => &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "bash"],
        Who::Myself if nix::unistd::geteuid().is_root() => {
            &["unshare", "--mount", "bash", "-c", "mount -t tmpfs none /run && exec bash \"$@\"", "bash"]
        }
        Who::Myself => &["bash"],
    };
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

fn script(commands: &[&str]) -> String {
    let mut script = String::from("exec 2>&1 </dev/null\ntrap 'netlab down --all --wait >/dev/null' EXIT\n");
    for command in commands {
        script.push_str(&format!("printf '{SEPARATOR}'\n{}\n", command));
    }
    script
}

/// Compares with a file, or, when asked to, rewrites it.
pub(crate) fn golden(path: &Path, text: &str) {
    if blessing() {
        fs::create_dir_all(path.parent().unwrap_or(path)).expect("a directory for expected output");
        fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if let Some((number, (expected, text))) = expected.lines().zip(text.lines()).enumerate().find(|(_, (a, b))| a != b)
    {
        panic!("{}:{}, see `cargo xtask bless`\nexpected {expected}\nfound    {text}", path.display(), number + 1);
    }
    assert_eq!(expected.lines().count(), text.lines().count(), "{}, see `cargo xtask bless`", path.display());
}

/// Whether the present output is to be the expected one.
pub(crate) fn blessing() -> bool {
    std::env::var_os("NETLAB_BLESS").is_some()
}

/// The top of the project.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
