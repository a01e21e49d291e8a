//! The lab's directory on the host: the only trace of a lab outside its nest.
//!
//! | file | what |
//! | --- | --- |
//! | `lock` | held by the agent as long as it lives: the kernel lets go of it when it ends |
//! | `agent.sock` | the control socket |
//! | `lab.toml` | the lab as it was brought up |
//! | `lab.json` | [`Meta`]: where it came from, and who holds it |
//! | `kept.json` | what its things keep, once the lab has changed |
//! | `overrides.json` | what the lab was told besides its file |
//! | `agent.log`, `logs/` | what the agent and the servers print |

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    unistd::geteuid,
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Context, Error, Result},
    lab::{Kept, Overrides},
};

/// The lab's text, as it was brought up.
pub const LAB_FILE: &str = "lab.toml";
/// What the servers print.
pub const LOGS: &str = "logs";
/// What the agent prints.
pub const AGENT_LOG: &str = "agent.log";
/// What was allocated to the lab's things, once it has changed.
const KEPT: &str = "kept.json";
/// What the lab was told besides its file.
const OVERRIDES: &str = "overrides.json";
const META: &str = "lab.json";
const LOCK: &str = "lock";
const SOCKET: &str = "agent.sock";

/// What is known of a lab without asking its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The lab's name.
    pub name: String,
    /// The file it came from, as an absolute path; `None` if it came from standard input.
    pub file: Option<PathBuf>,
    /// The agent's process id on the host.
    pub pid: i32,
    /// When that process began, in the kernel's ticks since boot: a process id alone may be
    /// somebody else's by now.
    pub start: u64,
    /// When the lab was brought up, in seconds since 1970.
    pub since: u64,
}

/// A lab's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The lab's name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// A directory that was claimed for a lab to come.
#[derive(Debug)]
pub struct Claim {
    /// The directory.
    pub directory: Directory,
    /// The lock, for the agent to hold.
    pub lock: OwnedFd,
    /// The control socket, for the agent to listen on.
    pub listener: OwnedFd,
    /// The directory itself, for the agent.
    pub handle: OwnedFd,
    /// The agent's log, for it to write to.
    pub log: OwnedFd,
}

/// The directory of all labs' directories: `/run/netlab` for root, `$XDG_RUNTIME_DIR/netlab`
/// for others, and `/tmp/netlab-UID` for those who have no such directory of their own.
///
/// # Errors
///
/// When it cannot be made, or is not this user's.
pub fn root() -> Result<PathBuf> {
    let uid = geteuid();
    let own = |path: &Path| fs::metadata(path).is_ok_and(|it| it.is_dir() && it.uid() == uid.as_raw());
    let candidate = if uid.is_root() {
        PathBuf::from("/run/netlab")
    } else {
        match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute() && own(path)) {
            Some(path) => path.join("netlab"),
            None => PathBuf::from(format!("/tmp/netlab-{uid}")),
        }
    };
    let what = || format!("cannot make {}", candidate.display());
    DirBuilder::new().recursive(true).mode(0o700).create(&candidate).context(what())?;
    // In /tmp anybody could have made it before us, or a link in its place.
    let found = fs::symlink_metadata(&candidate).context(what())?;
    if !found.is_dir() || found.uid() != uid.as_raw() {
        return Err(Error::host(format!("{} is not a directory of this user's", candidate.display())));
    }
    Ok(candidate)
}

/// One at a time claims, sweeps or looks: a lock on the directory of all labs.
fn turn(root: &Path) -> Result<Flock<File>> {
    let file = File::open(root).context(format!("cannot open {}", root.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context(format!("cannot lock {}", root.display()))
}

/// All labs that are alive, by name. Sweeps the directories of the dead on its way.
///
/// # Errors
///
/// When the directory of all labs cannot be read.
pub fn living() -> Result<Vec<Directory>> {
    let root = root()?;
    let _turn = turn(&root)?;
    let entries = fs::read_dir(&root).context(format!("cannot read {}", root.display()))?;
    let mut living = Vec::new();
    for entry in entries {
        let entry = entry.context(format!("cannot read {}", root.display()))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let directory = Directory { name, path: entry.path() };
        if !directory.path.is_dir() {
            continue;
        }
        match directory.take_lock()? {
            Some(lock) => directory.remove(&lock)?,
            None => living.push(directory),
        }
    }
    living.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(living)
}

/// The directory of one lab, if that is alive.
///
/// # Errors
///
/// When the directory of all labs cannot be read.
pub fn find(name: &str) -> Result<Option<Directory>> {
    Ok(living()?.into_iter().find(|directory| directory.name == name))
}

/// Claims a directory for a lab; `None` if that lab is alive.
///
/// # Errors
///
/// When the directory cannot be made or written to.
pub fn claim(name: &str, text: &str) -> Result<Option<Claim>> {
    let root = root()?;
    let _turn = turn(&root)?;
    let directory = Directory { name: name.to_owned(), path: root.join(name) };
    let what = || format!("cannot make {}", directory.path.display());
    DirBuilder::new().recursive(true).mode(0o700).create(&directory.path).context(what())?;
    let Some(lock) = directory.take_lock()? else { return Ok(None) };
    // What a dead lab of this name has left.
    for entry in fs::read_dir(&directory.path).context(what())? {
        let path = entry.context(what())?.path();
        if path.file_name().is_some_and(|name| name != LOCK) {
            remove(&path).context(what())?;
        }
    }
    fs::write(directory.path.join(LAB_FILE), text).context(what())?;
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(directory.path.join(AGENT_LOG));
    let log = log.context(what())?;
    let handle = File::open(&directory.path).context(what())?;
    let listener = UnixListener::bind(through(&handle)).context("cannot make the control socket")?;
    let claim =
        Claim { directory, lock: lock.into(), listener: listener.into(), handle: handle.into(), log: log.into() };
    Ok(Some(claim))
}

/// The socket's path through an open directory: a path in a socket address has 107 bytes at
/// most, and a runtime directory with a long lab name can have more.
fn through(handle: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd()))
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Writes down how a lab is after a change: first what its things keep, of which the old text takes no
/// notice, then the new text.
///
/// # Errors
///
/// When the directory cannot be written to.
pub fn write_down(directory: &Path, text: &str, kept: &Kept, overrides: &Overrides) -> Result<()> {
    let kept = serde_json::to_vec(kept).context("cannot write JSON")?;
    let overrides = serde_json::to_vec(overrides).context("cannot write JSON")?;
    for (name, bytes) in [(KEPT, kept.as_slice()), (OVERRIDES, &overrides), (LAB_FILE, text.as_bytes())] {
        let path = directory.join(name);
        let new = directory.join(format!("{name}.new"));
        let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path));
        written.context(format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// When a process began, in ticks since boot (field 22 of `/proc/PID/stat`).
pub fn process_start(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(22 - 3)?.parse().ok()
}

impl Directory {
    /// Takes the lab's lock; `None` if somebody has it.
    fn take_lock(&self) -> Result<Option<File>> {
        let what = || format!("cannot lock {}", self.path.display());
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(self.path.join(LOCK));
        let file = file.context(what())?;
        // Not nix's `Flock`, which would let go of it when this process does: the agent
        // inherits the lock, as it belongs to the open file and not to a process.
        // SAFETY: a plain system call on an open descriptor.
        let locked = unsafe { nix::libc::flock(file.as_raw_fd(), nix::libc::LOCK_EX | nix::libc::LOCK_NB) };
        match Errno::result(locked) {
            Ok(_) => Ok(Some(file)),
            Err(Errno::EWOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno).context(what()),
        }
    }

    /// Removes it; the lock shows that no agent has it.
    fn remove(&self, _lock: &File) -> Result<()> {
        fs::remove_dir_all(&self.path).context(format!("cannot remove {}", self.path.display()))
    }

    /// Removes it if its lab is dead.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn sweep(&self) -> Result<()> {
        let _turn = turn(&root()?)?;
        if !self.path.exists() {
            return Ok(());
        }
        match self.take_lock()? {
            Some(lock) => self.remove(&lock),
            None => Ok(()),
        }
    }

    /// Connects to the agent.
    ///
    /// # Errors
    ///
    /// When it does not listen (any more).
    pub fn connect(&self) -> Result<UnixStream> {
        let what = || format!("cannot talk to the lab {}", self.name);
        let handle = File::open(&self.path).context(what())?;
        UnixStream::connect(through(&handle)).context(what())
    }

    /// The lab's text.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn text(&self) -> Result<String> {
        let path = self.path.join(LAB_FILE);
        fs::read_to_string(&path).context(format!("cannot read {}", path.display()))
    }

    /// What the lab's things keep; nothing if the lab has never changed.
    pub fn kept(&self) -> Kept {
        let text = fs::read(self.path.join(KEPT)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// What the lab was told besides its file.
    pub fn overrides(&self) -> Overrides {
        let text = fs::read(self.path.join(OVERRIDES)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes down who holds the lab.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_meta(&self, file: Option<PathBuf>, pid: i32) -> Result<()> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let start = process_start(pid).ok_or_else(|| Error::refused("the agent ended at once"))?;
        let meta = Meta { name: self.name.clone(), file, pid, start, since };
        let path = self.path.join(META);
        let text = serde_json::to_vec_pretty(&meta).context("cannot write the lab down")?;
        // Under another name first, so that nobody reads half of it.
        let new = path.with_extension("new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).context(format!("cannot write {}", path.display()))
    }

    /// What is known of the lab; `None` in the first moments of its life.
    pub fn meta(&self) -> Option<Meta> {
        serde_json::from_slice(&fs::read(self.path.join(META)).ok()?).ok()
    }
}
