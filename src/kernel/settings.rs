//! Settings below `/proc/sys`, of many namespaces one after the other.
//!
//! The kernel keeps an entry for every setting that anybody has looked up, and has one for each namespace
//! under the same name: who looks for one goes through those of all others (`proc_sys_compare`). With a
//! thousand namespaces that was a sixth of what a whole lab took, and it grows with the square. So a few
//! namespaces at a time get a procfs of their own, which no path leads to and which ends with them.

use std::{fs::File, io, os::fd::OwnedFd, thread};

use nix::{
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::netns;
use crate::error::Result;

/// So many namespaces share a procfs.
const SHARED_BY: usize = 64;

/// Where settings are written.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// What is mounted, and how many namespaces have used it.
    proc: Option<(OwnedFd, usize)>,
    used_up: Vec<OwnedFd>,
}

impl Settings {
    /// Writes settings of the calling thread's namespace, a fresh one.
    ///
    /// # Errors
    ///
    /// The first one that there is not, or whose value is not taken.
    pub(super) fn write(&mut self, settings: &[(&'static str, String)]) -> Result<()> {
        let used_up = self.proc.as_ref().is_none_or(|(_, used)| *used >= SHARED_BY);
        if used_up {
            let before = std::mem::replace(&mut self.proc, procfs().ok().map(|proc| (proc, 0)));
            self.used_up.extend(before.map(|(proc, _)| proc));
        }
        let Some((proc, used)) = &mut self.proc else {
            // Before Linux 5.2 nothing can be mounted without a place.
            return settings.iter().try_for_each(|(key, value)| netns::write_sysctl(key, value));
        };
        *used += 1;
        settings.iter().try_for_each(|(key, value)| {
            let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            let file = openat(&*proc, format!("sys/{key}").as_str(), flags, Mode::empty());
            let written = file
                .map_err(io::Error::from)
                .and_then(|file| io::Write::write_all(&mut File::from(file), value.as_bytes()));
            netns::setting_written(key, value, written)
        })
    }
}

/// What was mounted ends when its descriptor is closed, for which the kernel waits some milliseconds until nobody
/// can be in there (`synchronize_rcu_expedited`). Nobody waits for that.
impl Drop for Settings {
    fn drop(&mut self) {
        let mut mounted = std::mem::take(&mut self.used_up);
        mounted.extend(self.proc.take().map(|(proc, _)| proc));
        let thread = thread::Builder::new().name("netns".into()).stack_size(64 << 10);
        // Without a thread they are closed here.
        let _ = thread.spawn(move || drop(mounted));
    }
}

/// A procfs that is mounted nowhere.
fn procfs() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
