//! The real curl: an independent client, and its output read back.

use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
    time::{Duration, Instant},
};

use super::{
    client::{BODY_LIMIT, micros},
    errand,
    patience::Limits,
    process::{Entrance, Output, Processes},
    rules, view,
};
use crate::{
    error::Result,
    lab::model::Lab,
    probe::{
        errand::Request,
        order::{Answer, CLIENT_HEADER, Failure, FailureKind, POD_HEADER, Try},
    },
};

/// How many curls of one order run at a time.
pub(super) const AT_ONCE: usize = 8;

/// What curl is called with besides the URL: no user's settings, no proxy, the response with
/// its headers, and a transcript on stderr that names the kernel's refusal.
const ARGUMENTS: [&str; 6] = ["-q", "-sS", "-v", "-i", "--noproxy", "*"];

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'a> {
    /// The lab.
    pub(super) lab: &'a Lab,
    /// The name of a place in it, or of a pod on the host network.
    pub(super) place: &'a str,
    /// The network namespace of that place.
    pub(super) netns: &'a str,
}

/// GETs a URL from a place. A name in it means what the place's own `/etc/resolv.conf` and
/// `/etc/hosts` say; without one, the network namespace is all that matters.
pub(super) async fn get(asking: Asking<'_>, url: &str, limits: Limits<'_>, processes: &Processes) -> Try {
    let began = Instant::now();
    let result = match run(asking, url, limits, processes).await {
        Ok(output) => read(&output, BODY_LIMIT).map(|answer| Answer { headers: Vec::new(), ..answer }),
        Err(error) => Err(Failure { kind: FailureKind::Other, text: error.to_string() }),
    };
    Try { result, micros: micros(began) }
}

async fn run(asking: Asking<'_>, url: &str, limits: Limits<'_>, processes: &Processes) -> Result<Output> {
    // What has gone before the transfer, the process's own start above all, is no part of these.
    let options = ["-w", "%{stderr}\n* netlab: %{time_connect} s\n"].map(str::to_owned);
    let (command, entrance) = prepared(asking, &options, url, limits)?;
    processes.run(command, entrance, Vec::new()).await
}

fn prepared<'l>(
    asking: Asking<'_>,
    options: &[String],
    url: &str,
    limits: impl Into<Limits<'l>>,
) -> Result<(Command, Entrance)> {
    let limits = limits.into();
    let mut command = Command::new(rules::find("curl")?);
    let seconds = |limit: Duration| format!("{}.{:03}", limit.as_secs(), limit.subsec_millis());
    command.env_clear().env("LC_ALL", "C").args(ARGUMENTS);
    command.args(["--connect-timeout", &seconds(limits.connect.most), "--max-time", &seconds(limits.answer.most)]);
    command.args(options).args(["--", url]);
    let entrance = match has_name(url) {
        true => view::entrance(&view::find(asking.lab, asking.place)?)?,
        false => Entrance::to_netns(asking.netns)?,
    };
    Ok((command, entrance))
}

/// Has curl make a request of the user's; more of the response is kept than of [`get`]'s.
pub(super) async fn fetch(asking: Asking<'_>, request: &Request, timeout_ms: u32, processes: &Processes) -> Try {
    let began = Instant::now();
    // curl keeps to its own limit; this is for one that cannot.
    let patience = Duration::from_millis(timeout_ms.into());
    let limit = patience + Duration::from_secs(2);
    let result = match prepared(asking, &request.options(), &request.url(), patience) {
        Ok((command, entrance)) => errand::run(command, entrance, limit, processes).await,
        Err(error) => Err(error),
    };
    let result = match result {
        Ok(Some(ran)) => read(&ran, errand::KEPT),
        Ok(None) => Err(Failure { kind: FailureKind::Timeout, text: "curl did not end".to_owned() }),
        Err(error) => Err(Failure { kind: FailureKind::Other, text: error.to_string() }),
    };
    Try { result, micros: micros(began) }
}

/// The URL's host is not an address.
fn has_name(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_address = authority.parse::<SocketAddr>().is_ok() || authority.parse::<IpAddr>().is_ok();
    !is_address && !authority.starts_with('[')
}

fn read(output: &Output, kept: usize) -> Result<Answer, Failure> {
    let transcript = String::from_utf8_lossy(&output.stderr);
    let failure = |kind| {
        // The last line is curl's own sentence: `curl: (7) Failed to connect …`.
        let sentence = transcript.lines().rev().find(|line| line.starts_with("curl: "));
        Failure { kind, text: sentence.unwrap_or("curl failed").to_owned() }
    };
    match output.status.code() {
        Some(0) => {
            let answer = answer(&output.stdout, kept).ok_or_else(|| failure(FailureKind::Broken))?;
            Ok(Answer { handshake_micros: handshake(&transcript), ..answer })
        }
        Some(6) => Err(failure(FailureKind::Unnamed)),
        Some(7) => Err(failure(connect_failure(&transcript))),
        // The name servers say nothing, and curl's patience ends before its resolver's.
        Some(28) if transcript.contains("Resolving timed out") => Err(failure(FailureKind::Unnamed)),
        Some(28) => Err(failure(FailureKind::Timeout)),
        // What answers does not speak HTTP, or breaks off.
        Some(8 | 18 | 52 | 55 | 56) => Err(failure(FailureKind::Broken)),
        Some(1) if transcript.contains("HTTP/0.9") => Err(failure(FailureKind::Broken)),
        _ => Err(failure(FailureKind::Other)),
    }
}

/// The line that [`run`] has curl write.
fn handshake(transcript: &str) -> Option<u64> {
    let line = transcript.lines().rev().find_map(|line| line.strip_prefix("* netlab: ")?.strip_suffix(" s"))?;
    let seconds: f64 = line.parse().ok()?;
    Some((seconds * 1e6) as u64)
}

/// curl has one exit code for every failed `connect`; the transcript has the errno's text.
fn connect_failure(transcript: &str) -> FailureKind {
    const WORDS: [(&str, FailureKind); 5] = [
        ("Connection refused", FailureKind::Refused),
        ("Network is unreachable", FailureKind::Unreachable),
        ("No route to host", FailureKind::Unreachable),
        // What `connect` says to a blackhole route.
        ("Invalid argument", FailureKind::Unreachable),
        ("Connection reset", FailureKind::Broken),
    ];
    WORDS.iter().find(|(words, _)| transcript.contains(words)).map_or(FailureKind::Other, |(_, kind)| *kind)
}

fn answer(stdout: &[u8], kept: usize) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(body) = response.parse(stdout).ok()? else { return None };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let find = |name: &str| response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let body = &stdout[body..];
    Some(Answer {
        status: response.code?,
        pod: find(POD_HEADER).map(|header| text(header.value)),
        client: find(CLIENT_HEADER).and_then(|header| text(header.value).parse().ok()),
        body: text(&body[..body.len().min(kept)]),
        headers: response.headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect(),
        ..Answer::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_response_with_its_headers() {
        let stdout = b"HTTP/1.1 200 OK\r\nX-Netlab-Pod: pod1a\r\nx-netlab-client: 10.0.0.1\r\n\r\nhi\n";
        let read = answer(stdout, 100).unwrap();
        assert_eq!((read.status, read.pod.as_deref(), read.body.as_str()), (200, Some("pod1a"), "hi\n"));
        assert_eq!(read.client, Some([10, 0, 0, 1].into()));
        assert_eq!(read.headers[0], ("X-Netlab-Pod".to_owned(), "pod1a".to_owned()));
        assert_eq!(answer(stdout, 2).unwrap().body, "hi");
    }

    #[test]
    fn tells_a_name_from_an_address() {
        for url in ["http://web/", "http://web.default:8080/x", "http://10.0.0.1.example", "web"] {
            assert!(has_name(url), "{url}");
        }
        for url in ["http://10.0.0.1/", "http://10.0.0.1:80", "http://10.0.0.1?a", "http://[fd00::1]/", "10.0.0.1"] {
            assert!(!has_name(url), "{url}");
        }
    }

    #[test]
    fn tells_a_refusal_from_an_unreachable_network() {
        let refused = "* connect to 10.0.0.1 port 80 failed: Connection refused\ncurl: (7) Failed to connect";
        assert_eq!(connect_failure(refused), FailureKind::Refused);
        let immediate = "* Immediate connect fail for 10.0.0.1: Network is unreachable";
        assert_eq!(connect_failure(immediate), FailureKind::Unreachable);
    }
}
