//! A call of a program, and what came of it.

use std::{
    fmt,
    io::{Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

/// A call that is yet to be made.
#[derive(Debug)]
pub(crate) struct Call {
    /// What will be called.
    pub(crate) command: Command,
    input: Vec<u8>,
}

/// A call that has begun.
#[derive(Debug)]
pub(crate) struct Calling {
    /// The process; the leader of a process group of its own.
    pub(crate) child: Child,
    words: String,
    readers: [Option<JoinHandle<Vec<u8>>>; 2],
}

/// A call that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    words: String,
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it complained about.
    pub(crate) stderr: String,
}

impl Call {
    pub(super) fn new(command: Command) -> Self {
        Call { command, input: Vec::new() }
    }

    /// With these arguments as well.
    pub(crate) fn args<S: AsRef<str>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        for argument in arguments {
            self.command.arg(argument.as_ref());
        }
        self
    }

    /// With this on its standard input.
    pub(crate) fn fed(mut self, input: &str) -> Self {
        self.input = input.as_bytes().to_vec();
        self
    }

    /// Begins, in a process group of its own, as a shell does.
    pub(crate) fn start(mut self) -> Calling {
        let words: Vec<String> = std::iter::once(self.command.get_program())
            .chain(self.command.get_args())
            .map(|it| it.to_string_lossy().into_owned())
            .collect();
        let words = words.join(" ");
        self.command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{words}: {error}"));
        let mut stdin = child.stdin.take().expect("it is piped");
        let input = self.input;
        // A program may end without having read it.
        thread::spawn(move || drop(stdin.write_all(&input)));
        let readers = [read(child.stdout.take()), read(child.stderr.take())];
        Calling { child, words, readers }
    }

    /// Makes the call, and waits for its end.
    #[must_use = "whether it succeeded is not known yet"]
    pub(crate) fn done(self) -> Done {
        self.start().done()
    }

    /// Makes the call, which must succeed.
    pub(crate) fn succeeds(self) -> Done {
        self.done().with_code(0)
    }

    /// Makes the call, which must end with this exit code.
    pub(crate) fn fails(self, code: i32) -> Done {
        self.done().with_code(code)
    }
}

fn read<R: Read + Send + 'static>(pipe: Option<R>) -> Option<JoinHandle<Vec<u8>>> {
    let mut pipe = pipe?;
    Some(thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came until the pipe broke is what there is.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    }))
}

impl Calling {
    /// Sends it, and it alone, a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        // It is not reaped yet, so the number is still its own.
        kill(self.pid(), signal).expect("it is our child");
    }

    /// Sends its process group a signal, as a terminal does.
    pub(crate) fn signal_group(&self, signal: Signal) {
        killpg(self.pid(), signal).expect("it is our child");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits for its end.
    pub(crate) fn done(mut self) -> Done {
        let status = self.child.wait().expect("it is our child");
        let [stdout, stderr] = self.readers.map(|reader| {
            let bytes = reader.map(|reader| reader.join().expect("it does not panic")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Done { words: self.words, status, stdout, stderr }
    }
}

impl Done {
    /// It ended with this exit code, as a shell counts: 128 and the signal for a signal.
    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "the exit code of {self}");
        self
    }

    /// As a shell counts.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// It printed this, among others.
    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "{text:?} is not printed by {self}");
        self
    }

    /// It did not print this.
    #[track_caller]
    pub(crate) fn does_not_print(self, text: &str) -> Self {
        assert!(!self.stdout.contains(text), "{text:?} is printed by {self}");
        self
    }

    /// It printed exactly this.
    #[track_caller]
    pub(crate) fn prints_exactly(self, text: &str) -> Self {
        assert_eq!(self.stdout, text, "what is printed by {self}");
        self
    }

    /// It complained with these words, among others.
    #[track_caller]
    pub(crate) fn complains(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is no complaint of {self}");
        self
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { words, status, stdout, stderr } = self;
        write!(f, "`{words}`\n{status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}
