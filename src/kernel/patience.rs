//! How long a try may take. Silence is believed after a while that is known only when others have been
//! answered, and a try may have begun before: it then hears of it while it waits.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::probe::order::{Failure, FailureKind, Patience};

/// What is said of it while tries wait already; `None` until then.
pub type Said = watch::Receiver<Option<Patience>>;

/// Which part of a [`Patience`] is meant.
type Part = fn(Patience) -> u32;

/// How long something may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit<'a> {
    /// In any case.
    pub(super) most: Duration,
    /// Less than that, once it is said.
    said: Option<(&'a Said, Part)>,
}

/// How long a try may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits<'a> {
    /// Until there is a connection.
    pub(super) connect: Limit<'a>,
    /// In all.
    pub(super) answer: Limit<'a>,
}

impl From<Duration> for Limit<'_> {
    fn from(most: Duration) -> Self {
        Limit { most, said: None }
    }
}

/// It makes no difference.
impl From<Duration> for Limits<'_> {
    fn from(limit: Duration) -> Self {
        Limits { connect: limit.into(), answer: limit.into() }
    }
}

impl<'a> Limits<'a> {
    /// Of a try over a connection.
    pub(super) fn of_connection(answer_ms: u32, connect_ms: Option<u32>, said: Option<&'a Said>) -> Self {
        let millis = |millis: u32| Duration::from_millis(millis.into());
        let most = millis(connect_ms.unwrap_or(answer_ms).min(answer_ms));
        let handshake: Part = |patience| patience.handshake_ms;
        Limits { connect: Limit { most, said: said.map(|said| (said, handshake)) }, answer: millis(answer_ms).into() }
    }

    /// Of a datagram that a program answers.
    pub(super) fn of_datagram(answer_ms: u32, said: Option<&'a Said>) -> Self {
        let most = Duration::from_millis(answer_ms.into());
        let answer: Part = |patience| patience.answer_ms;
        Limits { connect: most.into(), answer: Limit { most, said: said.map(|said| (said, answer)) } }
    }
}

impl Limit<'_> {
    /// What comes of some work in time.
    ///
    /// # Errors
    ///
    /// When it takes longer.
    pub(super) async fn on<T>(self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            limit = self.over() => Err(silence(limit)),
        }
    }

    /// Comes back when the time is up, with how long it was at least.
    async fn over(self) -> Duration {
        let began = Instant::now();
        let mut limit = self.most;
        if let Some((said, part)) = self.said {
            let mut said = said.clone();
            // Who would say it may be gone, or say it too late.
            if let Ok(Ok(patience)) = timeout(self.most, said.wait_for(Option::is_some)).await {
                let millis = patience.map(part);
                limit = millis.map_or(limit, |millis| limit.min(Duration::from_millis(millis.into())));
            }
        }
        // It is silence that is waited for.
        sleep(limit.saturating_sub(began.elapsed())).await;
        limit
    }
}

fn silence(limit: Duration) -> Failure {
    Failure { kind: FailureKind::Timeout, text: format!("no answer within {} ms", limit.as_millis()) }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const SOON: Patience = Patience { handshake_ms: 60, answer_ms: 200 };

    /// How long a connection and a datagram are waited for if it is said after so long, if at all.
    async fn waited(said_after: Option<u64>) -> (u128, u128) {
        let (sender, said) = watch::channel(None);
        let say = async {
            if let Some(millis) = said_after {
                // The clock of the test does not wait.
                sleep(Duration::from_millis(millis)).await;
                sender.send_replace(Some(SOON));
            }
            pending::<()>().await;
        };
        let wait = async |limit: Limit<'_>| {
            let began = Instant::now();
            assert_eq!(limit.on(pending::<()>()).await.unwrap_err().kind, FailureKind::Timeout);
            began.elapsed().as_millis()
        };
        let connection = wait(Limits::of_connection(1000, None, Some(&said)).connect);
        let datagram = wait(Limits::of_datagram(1000, Some(&said)).answer);
        tokio::select! {
            () = say => unreachable!("it never ends"),
            both = async { tokio::join!(connection, datagram) } => both,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_that_has_lasted_before_it_was_said_counts() {
        assert_eq!(waited(Some(20)).await, (60, 200));
        assert_eq!(waited(Some(100)).await, (100, 200));
        assert_eq!(waited(Some(5000)).await, (1000, 1000));
        assert_eq!(waited(None).await, (1000, 1000));
    }

    #[tokio::test]
    async fn who_would_say_it_may_be_gone() {
        let (_, said) = watch::channel(None);
        let limit = Limits::of_datagram(1, Some(&said)).answer;
        assert_eq!(limit.on(pending::<()>()).await.unwrap_err().text, "no answer within 1 ms");
        assert_eq!(limit.on(async { 7 }).await.unwrap(), 7);
    }
}
