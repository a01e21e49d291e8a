//! The CLI's end of the control socket.

use std::{
    io::{BufRead, BufReader, Write},
    os::{
        fd::{AsFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::Pid,
};
use serde::Serialize;

use super::{
    directory::{Directory, process_start},
    protocol::{Reply, Request},
};
use crate::error::{Context, Error, Result};

/// Asks an agent something, and hands each reply to `hear` until that says that it was the last.
///
/// # Errors
///
/// When the agent ends before it has answered, reports a problem, or `hear` fails.
pub fn ask(directory: &Directory, request: &Request, hear: impl FnMut(Reply) -> Result<Hearing>) -> Result<()> {
    ask_with(directory, request, "", hear)
}

/// The same, with the text that the request says will follow.
///
/// # Errors
///
/// As above.
pub fn ask_with(
    directory: &Directory,
    request: &Request,
    text: &str,
    hear: impl FnMut(Reply) -> Result<Hearing>,
) -> Result<()> {
    let mut conversation = Conversation::begin(directory, request)?;
    // An agent that does not want it hangs up, but not before it has said why.
    let _ = conversation.stream.write_all(text.as_bytes());
    conversation.hear(hear)
}

/// A request that has been made, of which more may be said while it is answered.
#[derive(Debug)]
pub struct Conversation<'a> {
    directory: &'a Directory,
    stream: UnixStream,
}

impl<'a> Conversation<'a> {
    /// Asks an agent something.
    ///
    /// # Errors
    ///
    /// When the agent has ended.
    pub fn begin(directory: &'a Directory, request: &Request) -> Result<Self> {
        let mut stream = directory.connect()?;
        say(&mut stream, request)?;
        Ok(Conversation { directory, stream })
    }

    /// Says what the request could not say yet.
    ///
    /// # Errors
    ///
    /// When the agent has ended.
    pub fn add(&self, word: &impl Serialize) -> Result<()> {
        say(&mut &self.stream, word)
    }

    /// Hands each reply to `hear` until that says that it was the last.
    ///
    /// # Errors
    ///
    /// As [`ask`].
    pub fn hear(&self, mut hear: impl FnMut(Reply) -> Result<Hearing>) -> Result<()> {
        let lost = || Error::refused(format!("the lab {} ended before it had answered", self.directory.name));
        for line in BufReader::new(&self.stream).lines() {
            let line = line.map_err(|_| lost())?;
            let reply = serde_json::from_str(&line).context("cannot read the agent's reply")?;
            match reply {
                Reply::Problem(problem) => return Err(problem.into()),
                reply => {
                    if hear(reply)? == Hearing::Last {
                        return Ok(());
                    }
                }
            }
        }
        Err(lost())
    }
}

/// Whether there is more to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// Go on.
    More,
    /// That was all.
    Last,
}

/// Asks an agent something that has one answer.
///
/// # Errors
///
/// When the agent ends before it has answered, or reports a problem.
pub fn ask_once(directory: &Directory, request: &Request) -> Result<Reply> {
    let mut answer = None;
    ask(directory, request, |reply| {
        answer = Some(reply);
        Ok(Hearing::Last)
    })?;
    answer.ok_or_else(|| Error::bug("an answer that is none"))
}

/// Whether an agent answers, or at least does not end within `limit`: one that is ending closes the
/// connection without a word.
pub fn answers(directory: &Directory, limit: Duration) -> bool {
    let Ok(mut stream) = directory.connect() else { return false };
    if stream.set_read_timeout(Some(limit)).is_err() || say(&mut stream, &Request::Status).is_err() {
        return false;
    }
    let mut line = String::new();
    match BufReader::new(stream).read_line(&mut line) {
        Ok(length) => length > 0,
        Err(error) => matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}

fn say(mut stream: impl Write, word: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(word).context("cannot write a request down")?;
    line.push(b'\n');
    stream.write_all(&line).context("cannot talk to the lab")
}

/// A process that can be waited for without being its parent.
#[derive(Debug)]
pub struct Handle {
    /// Its id, as this process sees it.
    pub pid: Pid,
    descriptor: OwnedFd,
}

impl Handle {
    /// Of a process.
    ///
    /// # Errors
    ///
    /// When there is no such process (any more).
    pub fn open(pid: Pid) -> Result<Self> {
        // SAFETY: a plain system call; its result is a new descriptor of ours.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        let descriptor = Errno::result(descriptor).context(format!("cannot watch the process {pid}"))?;
        let descriptor = i32::try_from(descriptor).context("a descriptor")?;
        // SAFETY: as above.
        Ok(Handle { pid, descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) } })
    }

    /// Of a lab's agent: the process that the lab's notes name, if it began when they say. Seen
    /// from inside the lab it is PID 1.
    ///
    /// # Errors
    ///
    /// When the agent has ended.
    pub fn of_agent(directory: &Directory) -> Result<Self> {
        let gone = || Error::refused(format!("the lab {} is just starting, or just ending", directory.name));
        let meta = directory.meta().ok_or_else(gone)?;
        for pid in [meta.pid, 1] {
            let Ok(handle) = Handle::open(Pid::from_raw(pid)) else { continue };
            // The descriptor was there first: if the process behind the number is still the
            // right one now, it was then.
            if process_start(pid) == Some(meta.start) {
                return Ok(handle);
            }
        }
        Err(gone())
    }

    /// Its descriptor.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Sends it SIGKILL.
    pub fn kill(&self) {
        use std::os::fd::AsRawFd;
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a plain system call on an open descriptor. That it has ended already is fine.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.descriptor.as_raw_fd(), libc::SIGKILL, none, 0) };
    }

    /// Waits until it has ended; whether it did in time.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    pub fn ended_within(&self, limit: Duration) -> Result<Ended> {
        let mut watched = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match poll(&mut watched, timeout) {
            Ok(0) => Ok(Ended::NotYet),
            Ok(_) => Ok(Ended::Yes),
            Err(errno) => Err(errno).context("cannot wait for the agent"),
        }
    }
}

/// Whether a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It has.
    Yes,
    /// Not yet.
    NotYet,
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// A text that no buffer holds, for an agent that answers without having read it.
    #[test]
    fn who_does_not_want_a_text_is_heard() {
        let path = tempfile::tempdir().expect("a directory can be made");
        let listener = UnixListener::bind(path.path().join("agent.sock")).expect("a socket can be made");
        let directory = Directory { name: "lab".to_owned(), path: path.path().to_owned() };
        let agent = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            let mut line = [0; 1];
            std::io::Read::read_exact(&mut stream, &mut line).expect("there is a request");
            let problem = Error::usage("the lab is still being built");
            say(&mut stream, &Reply::Problem(problem.into())).expect("there is somebody to tell");
        });
        let text = "x".repeat(8 << 20);
        let request = Request::Apply { length: text.len(), looked: true, no_wait: true, timings: false };
        let heard = ask_with(&directory, &request, &text, |_| Ok(Hearing::Last));
        agent.join().expect("it ends");
        assert_eq!(heard.expect_err("it was refused").message, "the lab is still being built");
    }
}
