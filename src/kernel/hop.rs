//! Opens things in network namespaces for tasks: one thread hops from namespace to namespace for as long
//! as somebody asks it to, and ends soon after.
//!
//! [`netns::inside`] has the calling thread wait for another one. A task that did so would hold up all
//! others of its runtime thread, on a busy machine for as long as the kernel lets other programs run.

use std::{
    collections::VecDeque,
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use nix::sched::{CloneFlags, setns};
use tokio::{runtime, sync::oneshot};

use super::netns;
use crate::error::{Context, Error, Result};

/// The thread ends when nobody has asked for so long.
const LINGER: Duration = Duration::from_millis(20);

type Job = Box<dyn FnOnce() + Send>;

/// What is to be done, and whether there is a thread that does it.
struct Jobs {
    waiting: VecDeque<Job>,
    thread: bool,
}

static JOBS: Mutex<Jobs> = Mutex::new(Jobs { waiting: VecDeque::new(), thread: false });
static MORE: Condvar = Condvar::new();

/// Whoever panicked with the lock held did no more than push or pop.
fn jobs() -> MutexGuard<'static, Jobs> {
    JOBS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work`, which should not take long, inside a namespace and within the calling task's runtime.
///
/// # Errors
///
/// When there is no such namespace (any more), or when `work` fails.
pub(super) async fn inside<T: Send + 'static>(
    netns: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, done) = oneshot::channel();
    let (netns, runtime) = (netns.to_owned(), runtime::Handle::current());
    ask(Box::new(move || {
        let _guard = runtime.enter();
        // Whoever asked may have lost interest.
        let _ = sender.send(netns::enter(&netns).and_then(|()| work()));
    }))?;
    done.await.unwrap_or_else(|_| Err(Error::bug("a thread inside a namespace panicked")))
}

fn ask(job: Job) -> Result<()> {
    let mut jobs = jobs();
    jobs.waiting.push_back(job);
    if jobs.thread {
        MORE.notify_one();
        return Ok(());
    }
    let thread = thread::Builder::new().name("netns".into()).stack_size(256 << 10);
    match thread.spawn(hop) {
        Ok(_) => jobs.thread = true,
        Err(error) => {
            jobs.waiting.clear();
            return Err(error).context("cannot start a thread");
        }
    }
    Ok(())
}

/// Does what is to be done, and waits at home for more: in a namespace, it would keep that one alive.
fn hop() {
    let home = File::open("/proc/thread-self/ns/net");
    loop {
        let Some(job) = next(home.as_ref().ok()) else { return };
        // Who asked for it hears that nothing comes.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

/// What to do next; `None` if nobody asks any more, or there is no way home.
fn next(home: Option<&File>) -> Option<Job> {
    let mut jobs = jobs();
    if jobs.waiting.is_empty() && home.is_some_and(|home| setns(home, CloneFlags::CLONE_NEWNET).is_ok()) {
        (jobs, _) = MORE
            .wait_timeout_while(jobs, LINGER, |jobs| jobs.waiting.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
    }
    let job = jobs.waiting.pop_front();
    jobs.thread = job.is_some();
    job
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_entered_is_an_error_and_the_next_one_is_asked_for() {
        for _ in 0..3 {
            let asked = (0..20).map(|nth| inside("no such namespace", move || Ok(nth)));
            for answer in futures::future::join_all(asked).await {
                assert!(answer.unwrap_err().to_string().contains("there is no network namespace"));
            }
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_not_the_end() {
        let (sender, done) = oneshot::channel::<()>();
        ask(Box::new(move || {
            let _held = sender;
            panic!("on purpose");
        }))
        .unwrap();
        done.await.unwrap_err();
        let (sender, done) = oneshot::channel();
        ask(Box::new(move || sender.send(7).unwrap())).unwrap();
        assert_eq!(done.await.unwrap(), 7);
    }
}
