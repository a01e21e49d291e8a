//! Readiness probes: what the kubelet asks a container, and how often.

use std::{fmt, time::Duration};

use super::{Lab, Pod};

/// When a container counts as ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// What is asked.
    pub handler: Handler,
    /// How long after the container has started it is asked first.
    pub initial_delay: Duration,
    /// How often it is asked.
    pub period: Duration,
    /// How long it has to answer.
    pub timeout: Duration,
    /// So many successes in a row make it ready.
    pub success_threshold: u32,
    /// So many failures in a row make it not ready.
    pub failure_threshold: u32,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handler {
    /// GET this path; a status from 200 to 399 is a success.
    HttpGet {
        /// The path, which begins with a slash.
        path: String,
        /// The port.
        port: u16,
    },
    /// Connect to this port.
    TcpSocket {
        /// The port.
        port: u16,
    },
    /// Run this in the pod; exit code 0 is a success. Never empty.
    Exec {
        /// A program of the host and its arguments.
        command: Vec<String>,
    },
}

/// As `kubectl describe` has it: `http-get http://:80/healthz delay=0s timeout=1s period=10s #success=1 #failure=3`.
impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Readiness { handler, initial_delay, period, timeout, success_threshold, failure_threshold } = self;
        match handler {
            Handler::HttpGet { path, port } => write!(f, "http-get http://:{port}{path}")?,
            Handler::TcpSocket { port } => write!(f, "tcp-socket :{port}")?,
            Handler::Exec { command } => write!(f, "exec [{}]", command.join(" "))?,
        }
        let [delay, timeout, period] = [initial_delay, timeout, period].map(|time| in_short(*time));
        write!(f, " delay={delay} timeout={timeout} period={period}")?;
        write!(f, " #success={success_threshold} #failure={failure_threshold}")
    }
}

/// `10s`, or `500ms`.
fn in_short(time: Duration) -> String {
    match time.as_millis() {
        millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}

impl Pod {
    /// A readiness probe decides whether it is ready.
    pub fn is_probed(&self) -> bool {
        self.containers.iter().any(|container| container.readiness.is_some())
    }
}

impl Lab {
    /// The pods with readiness probes.
    pub fn probed(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|pod| pod.is_probed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn described_as_kubectl_does() {
        let said = |handler, timeout| Readiness {
            handler,
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_millis(timeout),
            success_threshold: 1,
            failure_threshold: 3,
        };
        let http = said(Handler::HttpGet { path: "/healthz".into(), port: 80 }, 1000);
        assert_eq!(
            http.to_string(),
            "http-get http://:80/healthz delay=0s timeout=1s period=10s #success=1 #failure=3"
        );
        let tcp = said(Handler::TcpSocket { port: 5432 }, 250);
        assert_eq!(tcp.to_string(), "tcp-socket :5432 delay=0s timeout=250ms period=10s #success=1 #failure=3");
        let exec = said(Handler::Exec { command: vec!["cat".into(), "/run/ok".into()] }, 1000);
        assert_eq!(exec.to_string(), "exec [cat /run/ok] delay=0s timeout=1s period=10s #success=1 #failure=3");
    }
}
