//! The surroundings of one test: a user, a place for files, and unique names for labs.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    MARK, Run, Surroundings, User,
    call::Call,
    lab::Lab,
    process::{self, Marked},
};

/// The issue's own limit: whatever ends, nothing is left of it after a second.
pub(crate) const SOON: Duration = Duration::from_secs(1);

/// The surroundings of one test.
#[derive(Debug)]
pub(crate) struct World {
    /// Who calls.
    pub(crate) user: User,
    pub(crate) run: &'static Run,
    /// In the environment of every process of this test.
    pub(crate) mark: String,
    directory: PathBuf,
    room: Room,
    count: AtomicUsize,
}

/// What makes a test alone.
#[derive(Debug)]
enum Room {
    Shared,
    /// A runtime directory of its own.
    Runtime(PathBuf),
    /// A mount namespace with a `/run` of its own, for root, and the process that holds it.
    Mounts(Child),
}

impl World {
    /// For one test.
    pub(crate) fn new(run: &'static Run, user: User, surroundings: Surroundings) -> Arc<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let mark = format!("{}{}.", run.mark, COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = run.directory(&mark, user);
        let room = match (surroundings, user) {
            (Surroundings::Shared, _) => Room::Shared,
            (Surroundings::Alone, User::Root) => Room::Mounts(private_run()),
            (Surroundings::Alone, User::Nobody | User::Myself) => {
                Room::Runtime(run.directory(&format!("{mark}run"), user))
            }
        };
        Arc::new(World { user, run, mark, directory, room, count: AtomicUsize::new(0) })
    }

    /// A call of netlab, yet to be made.
    pub(crate) fn netlab<S: AsRef<str>>(&self, arguments: impl IntoIterator<Item = S>) -> Call {
        let mut call = self.program(&self.run.netlab.to_string_lossy());
        for argument in arguments {
            call.command.arg(argument.as_ref());
        }
        call
    }

    /// A call of netlab in a directory.
    pub(crate) fn netlab_in(&self, directory: &Path, arguments: &[&str]) -> Call {
        let words = ["-C".into(), directory.to_string_lossy(), self.run.netlab.to_string_lossy()];
        self.program("env").args(words).args(arguments)
    }

    /// The program under test.
    pub(crate) fn netlab_path(&self) -> &Path {
        &self.run.netlab
    }

    /// A call of some program, by this world's user and in its surroundings.
    pub(crate) fn program(&self, program: &str) -> Call {
        let mut words: Vec<String> = Vec::new();
        if let Room::Mounts(holder) = &self.room {
            words.extend(["nsenter".to_owned(), format!("--mount=/proc/{}/ns/mnt", holder.id())]);
        }
        if self.user == User::Nobody {
            words.extend(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"].map(str::to_owned));
        }
        words.push(program.to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir("/").env_clear().env(MARK, &self.mark);
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.run.programs().display()));
        command.env("HOME", "/nonexistent").env("LC_ALL", "C.UTF-8");
        if let Room::Runtime(directory) = &self.room {
            command.env("XDG_RUNTIME_DIR", directory);
        }
        Call::new(command)
    }

    /// A name that no other lab of this host has.
    pub(crate) fn name(&self, base: &str) -> String {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{base}-{}{number}", self.mark.replace("run", "t").replace('.', "-"))
    }

    /// A file that this user can read.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, text).expect("a file can be written");
        path
    }

    /// A copy of one of the labs in `labs/`.
    pub(crate) fn book(&self, file: &str) -> PathBuf {
        self.file(file, &book(file))
    }

    /// Brings a lab up, all the way.
    pub(crate) fn up(self: &Arc<Self>, text: &str) -> Lab {
        let name = self.name("lab");
        let file = self.file(&format!("{name}.toml"), text);
        self.netlab(["up", &file.to_string_lossy(), "--name", &name]).succeeds();
        self.found(name)
    }

    /// A lab that is up.
    pub(crate) fn found(self: &Arc<Self>, name: String) -> Lab {
        Lab::new(Arc::clone(self), name)
    }

    /// The processes of this test that live.
    pub(crate) fn processes(&self) -> Vec<Marked> {
        process::marked(&self.mark)
    }

    /// Waits, for a second at most, until no process of this test is left. Namespaces and
    /// mounts are not looked for: only processes can hold them, but for a bind mount of the
    /// host's, and [`Host`](super::host::Host) sees that.
    pub(crate) fn must_be_empty(&self) {
        let deadline = Instant::now() + SOON;
        let mut dying = None;
        loop {
            let processes = self.processes();
            if processes.is_empty() {
                // Any of those that die at this moment may be ours; those that die later are not.
                let now = process::dying();
                if dying.get_or_insert_with(|| now.clone()).is_disjoint(&now) {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "left after {SOON:?}: {processes:#?}, dying {dying:?}");
            process::a_moment();
        }
    }
}

impl Drop for World {
    /// A test that failed may leave its labs up.
    fn drop(&mut self) {
        for process in self.processes() {
            process.kill();
        }
        if let Room::Mounts(holder) = &mut self.room {
            // It ends when its standard input does; that it has ended already is as good.
            drop(holder.stdin.take());
            let _ = holder.wait();
        }
    }
}

/// The text of one of the labs in `labs/`.
pub(crate) fn book(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A process that holds a mount namespace with an empty `/run`.
fn private_run() -> Child {
    let script = "mount -t tmpfs tmpfs /run && echo ready && read end";
    let mut holder = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare is installed");
    let mut line = String::new();
    let out = holder.stdout.take().expect("it is piped");
    BufReader::new(out).read_line(&mut line).expect("a pipe can be read");
    assert_eq!(line, "ready\n", "a mount namespace of our own");
    holder
}
