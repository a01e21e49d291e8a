//! Runs the real CoreDNS in the pods of the cluster's DNS.

use std::{
    env, fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{net::UdpSocket, sync::watch, time::timeout};

use super::{
    client::{self, tcp_socket},
    kept::Kept,
    netns,
    process::Processes,
    rules,
    scope::Pair,
    serve::{ServerState, Serving},
    view,
};
use crate::{
    dns::{
        corefile::{self, COREFILE, DIRECTORY},
        environment,
    },
    error::{Context, Error, Result},
    lab::model::Lab,
    proxy::endpoints::conditions,
};

/// What it is called.
pub const PROGRAM: &str = "coredns";
/// How to come by it.
pub const INSTALL: &str = "go install github.com/coredns/coredns@v1.13.1";
/// The first version whose plugin `file` can pass on what it does not know.
const OLDEST: [u32; 3] = [1, 12, 2];
/// Where its plugin `ready` says that it is.
const READY: (u16, &str) = (8181, "/ready");

/// Finds the program: on the PATH, or where `go install` puts it.
///
/// # Errors
///
/// When it is not installed.
pub fn find() -> Result<PathBuf> {
    let directory = |variable: &str, below: &str| env::var_os(variable).map(|path| Path::new(&path).join(below));
    let go = [directory("GOBIN", ""), directory("GOPATH", "bin"), directory("HOME", "go/bin")];
    let go = || go.into_iter().flatten().find_map(|path| which::which(path.join(PROGRAM)).ok());
    rules::find(PROGRAM).ok().or_else(go).ok_or_else(|| {
        let error = Error::host("coredns is not installed, and `engine = \"coredns\"` needs it");
        error.hint(format!("{INSTALL}, or set `engine = \"embedded\"` in `[dns]`"))
    })
}

/// Finds it and asks for its version.
///
/// # Errors
///
/// When it is not installed, or too old.
pub fn check() -> Result<PathBuf> {
    let path = find()?;
    let said = duct::cmd!(&path, "-version").stderr_to_stdout().unchecked().read().unwrap_or_default();
    let first = said.lines().next().unwrap_or_default();
    if version(first).is_some_and(|version| version >= OLDEST) {
        return Ok(path);
    }
    let [a, b, c] = OLDEST;
    let what = format!("{} is {first}, and netlab needs CoreDNS {a}.{b}.{c} or newer", path.display());
    Err(Error::host(what).hint(format!("{INSTALL}, or set `engine = \"embedded\"` in `[dns]`")))
}

/// From `CoreDNS-1.13.1`.
fn version(line: &str) -> Option<[u32; 3]> {
    let mut numbers = line.trim().strip_prefix("CoreDNS-")?.split('.').map_while(|number| number.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next()?])
}

/// Starts it in its pod, where it lives on: it is started again whenever it ends.
///
/// # Errors
///
/// When it is not installed, or its files cannot be written.
pub(super) fn start(
    serving: Serving<'_>,
    log: PathBuf,
    processes: &Processes,
    pair: &Pair,
) -> Result<watch::Receiver<ServerState>> {
    let Serving { lab, pod, container, .. } = serving;
    write(lab)?;
    let kept = Kept {
        what: format!("the DNS server of {}", lab.pod(pod).full_name()),
        program: find()?,
        arguments: vec!["-conf".to_owned(), Path::new(DIRECTORY).join(COREFILE).to_string_lossy().into_owned()],
        environment: environment::of_container(lab, pod, container),
        view: view::of_pod(lab, pod)?,
        log,
    };
    kept.start(processes, pair)
}

/// Writes its files anew; the processes read them again when they get [`RELOAD`].
///
/// # Errors
///
/// When they cannot be written.
pub(super) fn rewrite(lab: &Lab) -> Result<()> {
    write(lab)
}

/// The signal at which CoreDNS reads its configuration again, and goes on answering meanwhile.
pub(super) const RELOAD: Signal = Signal::SIGUSR1;

/// Writes its files, each under another name first: other pods may be reading them.
fn write(lab: &Lab) -> Result<()> {
    const SERIAL: u32 = 1;
    let directory = Path::new(DIRECTORY);
    fs::create_dir_all(directory).context(format!("cannot make {DIRECTORY}"))?;
    for (name, text) in corefile::files(lab, &conditions(lab), SERIAL) {
        let path = directory.join(name);
        let new = path.with_extension(format!("{:?}.new", std::thread::current().id()));
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .context(format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Waits until it answers. It has no event to tell that by, so it is asked, and asked again a
/// little later each time.
pub(super) async fn ready(netns: &str, ip: IpAddr, domain: &str) -> Result<()> {
    let mut pause = Duration::from_millis(5);
    while !(is_ready(netns, ip).await? && answers(netns, ip, domain).await?) {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    Ok(())
}

/// How long an answer may take that comes from the same machine.
const PATIENCE: Duration = Duration::from_secs(1);

async fn is_ready(netns: &str, ip: IpAddr) -> Result<bool> {
    let (port, path) = READY;
    let to = SocketAddr::new(ip, port);
    let socket = netns::inside(netns, || tcp_socket(to).context("cannot make a socket"))?;
    let answer = client::http(socket, to, path, PATIENCE).await;
    Ok(answer.result.is_ok_and(|answer| answer.status == 200))
}

async fn answers(netns: &str, ip: IpAddr, domain: &str) -> Result<bool> {
    let to = SocketAddr::new(ip, 53);
    let socket = netns::inside(netns, || {
        let any = SocketAddr::new(if ip.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
        std::net::UdpSocket::bind(any)
            .and_then(|it| it.set_nonblocking(true).map(|()| it))
            .context("cannot make a socket")
    })?;
    let socket = UdpSocket::from_std(socket).context("cannot make a socket")?;
    let question = question(domain);
    let ask = async {
        socket.connect(to).await?;
        socket.send(&question).await?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).await?;
        Ok::<_, std::io::Error>(answer[..length].to_vec())
    };
    // Whatever goes wrong means: not yet.
    let answer = timeout(PATIENCE, ask).await;
    Ok(matches!(answer, Ok(Ok(answer)) if answer.len() > 12 && answer[..2] == question[..2]))
}

/// A question for the SOA record of a zone, as it is sent (RFC 1035, section 4.1).
fn question(zone: &str) -> Vec<u8> {
    // An id, no flags, one question, nothing else.
    let mut bytes = vec![0x6e, 0x6c, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in zone.split('.') {
        // A label of a domain has 63 bytes at most.
        bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        bytes.extend(label.bytes());
    }
    // The root; SOA; IN.
    bytes.extend([0, 0, 6, 0, 1]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version("CoreDNS-1.13.1"), Some([1, 13, 1]));
        assert!(version("CoreDNS-1.12.2").unwrap() >= OLDEST && version("CoreDNS-1.12.1").unwrap() < OLDEST);
        assert_eq!(version("bash: coredns: not found"), None);
    }

    #[test]
    fn a_question_on_the_wire() {
        assert_eq!(question("a.bc")[12..], *b"\x01a\x02bc\x00\x00\x06\x00\x01");
    }
}
