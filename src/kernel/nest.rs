//! The nest: the namespaces that hold a whole lab, and the process that holds them.
//!
//! The CLI makes them all with the one `clone` that makes the agent's process. Nothing of a lab
//! is ever outside of them, and PID 1 of the inner PID namespace is the agent, so that its end,
//! however it comes, is the lab's end: the kernel kills what runs inside, and frees mounts,
//! links, rules and namespaces when the last process is gone.

use std::{
    ffi::{CString, OsStr},
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::PathBuf,
};

use nix::{
    errno::Errno,
    libc,
    mount::{MsFlags, mount},
    sched::CloneFlags,
    unistd::{Gid, Pid, Uid, dup2_raw, execv, getegid, geteuid, setsid},
};

use super::{netns, view};
use crate::error::{Context, Error, Result};

/// What the agent's process inherits, under fixed numbers.
#[derive(Debug)]
pub struct Inheritance {
    /// [`CONTROL`]: the channel to the `up` that made it.
    pub control: OwnedFd,
    /// [`LISTENER`]: the control socket, bound and listening.
    pub listener: OwnedFd,
    /// [`DIRECTORY`]: the lab's directory on the host.
    pub directory: OwnedFd,
    /// [`LOCK`]: the lock that says that the lab is alive.
    pub lock: OwnedFd,
    /// Standard output and error: the agent's log.
    pub log: OwnedFd,
}

/// The agent's end of the channel to `up`.
pub const CONTROL: RawFd = 3;
/// The listening control socket.
pub const LISTENER: RawFd = 4;
/// The lab's directory.
pub const DIRECTORY: RawFd = 5;
/// The lab's lock.
pub const LOCK: RawFd = 6;

const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWPID
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC);

/// Whether namespaces can be had without a user namespace: CAP_SYS_ADMIN is in effect.
pub fn is_privileged() -> bool {
    const CAP_SYS_ADMIN: u64 = 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let in_user_namespace = fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]);
    effective & (1 << CAP_SYS_ADMIN) != 0 && !in_user_namespace
}

/// Makes the nest and starts the agent in it: this program, with these arguments.
///
/// The calling process must have one thread only.
///
/// # Errors
///
/// When the host does not let this user make namespaces.
pub fn hatch(arguments: &[&OsStr], inheritance: Inheritance) -> Result<Pid> {
    let program = current_program()?;
    let program = CString::new(program.as_os_str().as_bytes()).context("the path of netlab")?;
    let argv = std::iter::once(OsStr::new("netlab")).chain(arguments.iter().copied());
    let argv = argv.map(|argument| CString::new(argument.as_bytes()).context("an argument"));
    let argv = argv.collect::<Result<Vec<_>>>()?;
    let null = File::options().read(true).write(true).open("/dev/null").context("cannot open /dev/null")?;
    let user = if geteuid().is_root() && can_mount() { None } else { Some((geteuid(), getegid())) };
    let flags = if user.is_some() { NAMESPACES | CloneFlags::CLONE_NEWUSER } else { NAMESPACES };
    // SAFETY: a clone without CLONE_VM and without a stack is a fork. This process has one
    // thread, so the child's copy of the memory is consistent; it execs or exits.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags.bits() | libc::SIGCHLD, 0, 0, 0, 0) };
    match pid {
        -1 => Err(no_namespaces(Errno::last(), user.is_some())),
        0 => {
            let error = become_agent(&program, &argv, &inheritance, &null, user);
            eprintln!("netlab: cannot become the agent: {error}");
            // SAFETY: ends the child at once, without running the parent's exit handlers.
            unsafe { libc::_exit(70) }
        }
        pid => Ok(Pid::from_raw(i32::try_from(pid).context("a process id")?)),
    }
}

/// The path of this program. `/proc/self/exe` is right even when the file was replaced since.
fn current_program() -> Result<PathBuf> {
    let path = std::env::current_exe().context("cannot find netlab itself")?;
    Ok(if path.exists() { path } else { PathBuf::from("/proc/self/exe") })
}

/// Root of a container often lacks CAP_SYS_ADMIN; a user namespace gives it one of its own.
fn can_mount() -> bool {
    const CAP_SYS_ADMIN: u64 = 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|caps| caps & (1 << CAP_SYS_ADMIN) != 0)
}

fn become_agent(
    program: &CString,
    argv: &[CString],
    inheritance: &Inheritance,
    null: &File,
    user: Option<(Uid, Gid)>,
) -> io::Error {
    let attempt = || -> io::Result<()> {
        if let Some((uid, gid)) = user {
            // A user who is not privileged may map one id, and only with `setgroups` given up.
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
            fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
        }
        // Ctrl-C is for the CLI; the agent notices when that is gone.
        setsid()?;
        let wanted = [
            (null.as_raw_fd(), 0),
            (inheritance.log.as_raw_fd(), 1),
            (inheritance.log.as_raw_fd(), 2),
            (inheritance.control.as_raw_fd(), CONTROL),
            (inheritance.listener.as_raw_fd(), LISTENER),
            (inheritance.directory.as_raw_fd(), DIRECTORY),
            (inheritance.lock.as_raw_fd(), LOCK),
        ];
        // First out of the way of the fixed numbers, then onto them. No higher than that: the limit of the
        // shell that netlab was called from may be low, and is only raised by the agent.
        let mut high = Vec::new();
        for (fd, number) in wanted {
            // SAFETY: `fd` is open, as its owner is borrowed.
            let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, LOCK + 1) };
            high.push((Errno::result(copy)?, number));
        }
        for (fd, number) in high {
            // SAFETY: whatever has this number in the child is not used any more.
            std::mem::forget(unsafe { dup2_raw(OwnedFd::from_raw_fd(fd), number) }?);
        }
        // SAFETY: closes what was not passed on; the exec would inherit it otherwise.
        unsafe { libc::syscall(libc::SYS_close_range, LOCK + 1, u32::MAX, 0) };
        execv(program, argv)?;
        Ok(())
    };
    attempt().err().unwrap_or_else(|| io::Error::other("exec returned"))
}

fn no_namespaces(errno: Errno, unprivileged: bool) -> Error {
    let error = Error::host(format!("cannot make the lab's namespaces: {errno}"));
    match errno {
        Errno::EPERM if unprivileged => error.hint(
            "this host forbids unprivileged user namespaces; `netlab doctor` names the setting (or run netlab as root)",
        ),
        Errno::ENOSPC => error.hint("a limit is reached: see /proc/sys/user/max_*_namespaces"),
        Errno::EINVAL => error.hint("this kernel is built without some of the namespaces; see `netlab doctor`"),
        _ => error,
    }
}

/// Furnishes the nest from inside: private mounts, `/proc`, `/run`, the name of the outer
/// network namespace. `name` is the lab's, and its directory becomes visible inside again, so
/// that netlab can be used in `netlab shell` too.
///
/// # Errors
///
/// When the host forbids one of the mounts.
pub fn furnish(name: &str) -> Result<()> {
    let none = None::<&str>;
    let what = "cannot show the lab's directory inside";
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(forbidden)?;
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("proc"), "/proc", Some("proc"), safe | MsFlags::MS_NOEXEC, none).map_err(forbidden)?;
    // Only what is open can be reached once `/run` is covered. The inherited descriptor is of
    // the host's mount namespace, and can be no source of a bind mount in this one.
    let inherited = fs::read_link(format!("/proc/self/fd/{DIRECTORY}")).context(what)?;
    let outside = File::open(inherited).context(what)?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), safe, Some("mode=0755")).map_err(forbidden)?;
    // A sysfs shows the links of the network namespace that it was mounted in. Where the host
    // forbids it, only tools that read /sys/class/net are misled.
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), safe | MsFlags::MS_NOEXEC, none);
    fs::create_dir_all(netns::DIRECTORY).context(format!("cannot make {}", netns::DIRECTORY))?;
    // `ip netns add` would do this itself: names made later must be seen by all.
    mount(Some(netns::DIRECTORY), netns::DIRECTORY, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .map_err(forbidden)?;
    mount(none, netns::DIRECTORY, none, MsFlags::MS_REC | MsFlags::MS_SHARED, none).map_err(forbidden)?;
    netns::name_own(netns::HOST)?;
    view::prepare()?;
    let directory = format!("{}/{name}", view::DIRECTORY);
    fs::create_dir_all(&directory).context(format!("cannot make {directory}"))?;
    let outside = format!("/proc/self/fd/{}", outside.as_raw_fd());
    mount(Some(outside.as_str()), directory.as_str(), none, MsFlags::MS_BIND, none).context(what)?;
    nix::unistd::sethostname(name).context("cannot name the lab's host")
}

fn forbidden(errno: Errno) -> Error {
    let error = Error::host(format!("cannot mount inside the lab's own namespace: {errno}"));
    match errno {
        Errno::EACCES => error.hint(
            "AppArmor restricts unprivileged user namespaces here: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or run netlab as root",
        ),
        Errno::EPERM => error.hint("a container engine masks parts of /proc here: run it with its /proc unmasked"),
        _ => error,
    }
}
