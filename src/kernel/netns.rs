//! Network namespaces by name: made, bound to `/run/netns/NAME`, entered for a moment.
//!
//! A thread is the unit that is in a network namespace. A socket remembers the namespace it
//! was opened in, so a short-lived thread hops in and opens what is needed; the runtime's own
//! threads never leave the lab's outer namespace.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use crate::error::{Context, Error, Result};

/// Where the names are, as `ip netns` expects them.
pub const DIRECTORY: &str = "/run/netns";
/// The name of the lab's outer namespace.
pub const HOST: &str = "host";

/// Where a namespace's name is.
pub fn path(netns: &str) -> PathBuf {
    Path::new(DIRECTORY).join(netns)
}

/// Runs `work` on a thread of its own inside a namespace.
///
/// # Errors
///
/// When there is no such namespace (any more), or when `work` fails.
pub fn inside<T: Send>(netns: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_a_thread(|| {
        enter(netns)?;
        work()
    })
}

/// Runs `work` on a short-lived thread that may change its namespaces as it likes.
///
/// # Errors
///
/// When `work` fails, or panics.
pub fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".into()).stack_size(256 << 10);
        let running = thread.spawn_scoped(scope, work).context("cannot start a thread")?;
        running.join().unwrap_or_else(|_| Err(Error::bug("a thread inside a namespace panicked")))
    })
}

/// Moves the calling thread into a namespace, for good.
///
/// # Errors
///
/// When there is no such namespace.
pub fn enter(netns: &str) -> Result<()> {
    let file = open(netns)?;
    setns(file, CloneFlags::CLONE_NEWNET).context(format!("cannot enter the network namespace {netns}"))
}

/// Opens a namespace by its name.
///
/// # Errors
///
/// When there is no such namespace.
pub fn open(netns: &str) -> Result<File> {
    File::open(path(netns)).context(format!("there is no network namespace {netns}"))
}

/// Gives the calling thread a new network namespace and the namespace a name.
///
/// # Errors
///
/// When the kernel refuses: a name that is taken, the limit `user.max_net_namespaces`.
pub fn create(netns: &str) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
        let error = Error::refused(format!("cannot make a network namespace: {errno}"));
        match errno {
            nix::errno::Errno::ENOSPC => error.hint("raise the limit: sysctl user.max_net_namespaces"),
            _ => error,
        }
    })?;
    name_own(netns)
}

/// A new namespace without a name, which is gone when the file is closed.
///
/// # Errors
///
/// When the kernel refuses.
pub fn unnamed() -> Result<File> {
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
        File::open("/proc/thread-self/ns/net").context("cannot open a network namespace")
    })
}

/// Binds the calling thread's network namespace to a name.
///
/// # Errors
///
/// When the name is taken.
pub fn name_own(netns: &str) -> Result<()> {
    let name = path(netns);
    let what = || format!("cannot name the network namespace {netns}");
    OpenOptions::new().write(true).create_new(true).open(&name).context(what())?;
    // The main thread's namespaces are at /proc/self; this is about the calling thread's.
    let own = "/proc/thread-self/ns/net";
    mount(Some(own), &name, None::<&str>, MsFlags::MS_BIND, None::<&str>).context(what())
}

/// Takes a namespace's name away. It ends when nothing is left in it: no process, no socket.
///
/// # Errors
///
/// When the kernel refuses; a name that is not there is no error.
pub fn remove(netns: &str) -> Result<()> {
    let name = path(netns);
    let what = || format!("cannot remove the network namespace {netns}");
    match umount2(&name, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(errno).context(what()),
    }
    match fs::remove_file(&name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context(what()),
        _ => Ok(()),
    }
}

/// Writes a setting below `/proc/sys`, in the calling thread's network namespace.
///
/// # Errors
///
/// When there is no such setting (unless 0 is wanted, which its absence gives), or the value
/// is not taken.
pub fn write_sysctl(key: &str, value: &str) -> Result<()> {
    // Not `fs::write`, which would try to create a missing file and so hide the ENOENT.
    let written = OpenOptions::new()
        .write(true)
        .open(sysctl_path(key))
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
    setting_written(key, value, written)
}

/// What to say of a setting that was to be written.
pub(super) fn setting_written(key: &str, value: &str, written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::NotFound && value == "0" => Ok(()),
        // Where nf_conntrack is a module, it is loaded with the first rules: its own timeouts hold.
        Err(error) if error.kind() == io::ErrorKind::NotFound && key.starts_with("net/netfilter/") => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && key.starts_with("net/bridge/") => {
            let error = Error::host(format!("this kernel has no {key}: its module br_netfilter is not loaded"));
            Err(error.hint("load it with `modprobe br_netfilter`, or give the node `attach = \"routed\"`"))
        }
        other => other.context(format!("cannot set {key} to {value}")),
    }
}

/// Reads a setting below `/proc/sys`, in the calling thread's network namespace.
///
/// # Errors
///
/// When there is no such setting.
pub fn read_sysctl(key: &str) -> io::Result<String> {
    fs::read_to_string(sysctl_path(key)).map(|text| text.trim_end().to_owned())
}

fn sysctl_path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}
