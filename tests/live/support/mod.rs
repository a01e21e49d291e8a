//! What live tests are made of: who calls netlab, from which surroundings, and what came of it.

pub(crate) mod call;
#[path = "../../executable/mod.rs"]
pub(crate) mod executable;
pub(crate) mod host;
pub(crate) mod lab;
pub(crate) mod process;
pub(crate) mod world;

use std::{
    env, fmt, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use netlab::kernel::coredns;
use nix::unistd::geteuid;

pub(crate) use lab::Lab;
pub(crate) use world::World;

/// One test, for each user.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) surroundings: Surroundings,
    pub(crate) body: fn(&Arc<World>),
}

/// Which other labs a test sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surroundings {
    /// Those of the other tests, and whatever else runs on this host.
    Shared,
    /// None but its own: for what depends on how many labs are up.
    Alone,
}

/// A table of tests: `tests![shared: a, b; alone: c]`.
#[macro_export]
macro_rules! tests {
    (shared: $($shared:ident),* ; alone: $($alone:ident),*) => {
        &[
            $($crate::support::Test {
                name: stringify!($shared),
                surroundings: $crate::support::Surroundings::Shared,
                body: $shared,
            },)*
            $($crate::support::Test {
                name: stringify!($alone),
                surroundings: $crate::support::Surroundings::Alone,
                body: $alone,
            },)*
        ]
    };
}

impl Test {
    /// Runs it, and sees to it that nothing is left.
    pub(crate) fn carry_out(&self, run: &'static Run, user: User) {
        let world = World::new(run, user, self.surroundings);
        (self.body)(&world);
        world.must_be_empty();
    }
}

/// Who calls netlab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// The superuser.
    Root,
    /// The user `nobody`, with no groups, no home and no runtime directory.
    Nobody,
    /// Whoever runs the tests, if that is not root.
    Myself,
}

impl User {
    /// Everybody who can be had.
    pub(crate) fn all() -> Vec<User> {
        if geteuid().is_root() { vec![User::Root, User::Nobody] } else { vec![User::Myself] }
    }

    /// As a number.
    pub(crate) fn uid(self) -> u32 {
        match self {
            User::Root => 0,
            User::Nobody => 65534,
            User::Myself => geteuid().as_raw(),
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            User::Root => "root",
            User::Nobody => "nobody",
            User::Myself => "myself",
        })
    }
}

/// One run of the tests: the program under test where everybody can execute it (the target
/// directory may be below a private one), and a mark by which its processes are known.
#[derive(Debug)]
pub(crate) struct Run {
    /// The program under test.
    pub(crate) netlab: PathBuf,
    /// These tests themselves, for what they do inside of a lab: see each `helper`.
    pub(crate) helper: PathBuf,
    /// Every process of the run has it in its environment, in the variable [`MARK`].
    pub(crate) mark: String,
    directory: PathBuf,
}

/// The variable that carries the mark.
pub(crate) const MARK: &str = "NETLAB_LIVE_TEST";

impl Run {
    /// The only one of this process.
    pub(crate) fn this() -> &'static Run {
        static RUN: OnceLock<Run> = OnceLock::new();
        RUN.get_or_init(|| {
            let mark = format!("run{}.", std::process::id());
            let directory = env::temp_dir().join(format!("netlab-live-{}", std::process::id()));
            make_for(&directory, geteuid().as_raw());
            let netlab = directory.join("netlab");
            executable::copy(Path::new(env!("CARGO_BIN_EXE_netlab")), &netlab);
            let helper = directory.join("helper");
            executable::copy(&env::current_exe().expect("there is this program"), &helper);
            bring_coredns(&directory);
            Run { netlab, helper, mark, directory }
        })
    }

    /// The directory of the programs that were brought along; not everybody may be able to look into
    /// the one where they are installed.
    pub(crate) fn programs(&self) -> PathBuf {
        self.directory.join(PROGRAMS)
    }

    /// A new directory of a user's, which others may look into.
    pub(crate) fn directory(&self, name: &str, user: User) -> PathBuf {
        let directory = self.directory.join(name);
        make_for(&directory, user.uid());
        directory
    }

    /// Removes what the run has written.
    pub(crate) fn clear(&self) {
        fs::remove_dir_all(&self.directory).expect("the temporary directory can be removed");
    }
}

/// Where programs of the run are, in its directory.
const PROGRAMS: &str = "bin";

/// Go puts CoreDNS below a home directory. Where it is not installed, the tests that need it fail.
fn bring_coredns(directory: &Path) {
    let programs = directory.join(PROGRAMS);
    make_for(&programs, geteuid().as_raw());
    if let Ok(coredns) = coredns::find() {
        let brought = programs.join(coredns::PROGRAM);
        fs::hard_link(&coredns, &brought).unwrap_or_else(|_| executable::copy(&coredns, &brought));
    }
}

fn make_for(directory: &Path, uid: u32) {
    fs::create_dir_all(directory).expect("a temporary directory can be made");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("the directory is ours");
    std::os::unix::fs::chown(directory, Some(uid), None).expect("the directory can be given away");
}
