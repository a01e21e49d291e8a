//! Runs the real CoreDNS in the pods of the cluster's DNS.

use std::{
    env, fs,
    io::Read,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{net::UdpSocket, sync::watch, time::timeout};

use super::{
    client::{self, tcp_socket},
    hop,
    kept::Kept,
    netns,
    process::Processes,
    rules,
    serve::{ServerState, Servers, Serving, engine},
    view,
};
use crate::{
    dns::corefile::{self, COREFILE, DIRECTORY},
    error::{Context, Error, Result},
    lab::model::{DnsEngine, Lab},
    probe::drift::{self, Drift},
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
    let said = said(&path);
    let first = said.lines().next().unwrap_or("silent");
    if version(first).is_some_and(|version| version >= OLDEST) {
        return Ok(path);
    }
    let [a, b, c] = OLDEST;
    let what = format!("{} is {first}, and netlab needs CoreDNS {a}.{b}.{c} or newer", path.display());
    Err(Error::host(what).hint(format!("{INSTALL}, or set `engine = \"embedded\"` in `[dns]`")))
}

/// What it says of its version. How it ended does not matter, and where the agent asks, somebody else
/// may have taken note of that.
fn said(path: &Path) -> String {
    let child = Command::new(path).arg("-version").stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else { return String::new() };
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        // What it said until something went wrong is what it said.
        let _ = stdout.read_to_string(&mut said);
    }
    let _ = child.wait();
    said
}

/// From `CoreDNS-1.13.1`.
fn version(line: &str) -> Option<[u32; 3]> {
    let mut numbers = line.trim().strip_prefix("CoreDNS-")?.split('.').map_while(|number| number.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next()?])
}

impl Servers {
    /// Starts CoreDNS in its pod, where it lives on: it is started again whenever it ends.
    ///
    /// # Errors
    ///
    /// When it is not installed, or its files cannot be written.
    pub(super) fn start_coredns(
        &self,
        serving: Serving<'_>,
        processes: &Processes,
    ) -> Result<watch::Receiver<ServerState>> {
        let Serving { lab, pod, container, .. } = serving;
        self.files.write(lab)?;
        let kept = Kept {
            what: format!("the DNS server of {}", lab.pod(pod).full_name()),
            program: find()?,
            arguments: vec!["-conf".to_owned(), Path::new(DIRECTORY).join(COREFILE).to_string_lossy().into_owned()],
            environment: view::environment(lab, (pod, container), &self.events),
            view: view::of_pod(lab, pod)?,
            log: self.log(lab, pod, container),
            scope: self.scopes().of(&lab.pod(pod).full_name()).kept,
            known: self.known_as(lab, pod, container),
        };
        kept.start(processes)
    }

    /// Waits until CoreDNS answers in its pod, of the lab as its files have it now.
    ///
    /// # Errors
    ///
    /// When there is no such namespace.
    pub(super) async fn coredns_answers(&self, serving: Serving<'_>) -> Result<()> {
        let Serving { lab, netns, pod, .. } = serving;
        ready(netns, lab.pod(pod).ip, lab.cluster.domain.as_str(), self.files.serial()).await
    }

    /// What differs in the files of CoreDNS.
    pub(super) fn names_on_disk(&self, lab: &Lab) -> Vec<Drift> {
        if engine(lab) != DnsEngine::Coredns || self.files.serial() == 0 {
            return Vec::new();
        }
        let differing =
            corefile::files(lab, &conditions(lab), self.files.serial()).into_iter().filter_map(|(name, text)| {
                let path = Path::new(DIRECTORY).join(name);
                drift::of_file(
                    netns::HOST,
                    &path.to_string_lossy(),
                    &text,
                    &fs::read_to_string(&path).unwrap_or_default(),
                )
            });
        differing.collect()
    }

    /// Tells CoreDNS how the lab is now, and comes back when it says so too.
    ///
    /// # Errors
    ///
    /// When its files cannot be written.
    pub async fn tell_coredns(&self, lab: &Lab) -> Result<()> {
        if engine(lab) != DnsEngine::Coredns || !self.files.write(lab)? {
            return Ok(());
        }
        for pod in lab.pods.iter().filter(|pod| pod.serves_dns()) {
            let (name, netns) = (pod.full_name(), pod.full_name());
            let state = self.states().into_iter().find(|((of, _), _)| *of == name).map(|(_, state)| state);
            // One that is not there yet, or not any more, begins with the new files.
            let Some(pid) = state.and_then(|state| state.pid()) else { continue };
            if !is_ready(&netns, pod.ip).await? {
                continue;
            }
            // That it has ended meanwhile is fine.
            let _ = kill(Pid::from_raw(pid), REREAD);
            let ready = ready(&netns, pod.ip, lab.cluster.domain.as_str(), self.files.serial());
            if timeout(LONGEST_REREAD, ready).await.is_err() {
                eprintln!("the DNS server of {name} has not read its new files after {LONGEST_REREAD:?}");
            }
        }
        Ok(())
    }
}

/// What makes CoreDNS read its files again.
const REREAD: Signal = Signal::SIGUSR1;
/// It needs some milliseconds for that.
const LONGEST_REREAD: Duration = Duration::from_secs(5);

/// The files of CoreDNS, the same ones for all its pods.
#[derive(Debug, Clone, Default)]
pub(super) struct Files(Arc<Mutex<u32>>);

impl Files {
    fn lock(&self) -> MutexGuard<'_, u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The serial number of the zones.
    fn serial(&self) -> u32 {
        *self.lock()
    }

    /// Writes them, if they are not what they should be; says whether that was so.
    fn write(&self, lab: &Lab) -> Result<bool> {
        let mut serial = self.lock();
        let directory = Path::new(DIRECTORY);
        let files = |serial| corefile::files(lab, &conditions(lab), serial);
        let is =
            |(name, text): (&String, &String)| fs::read_to_string(directory.join(name)).is_ok_and(|it| it == *text);
        if files(*serial).iter().all(is) {
            return Ok(false);
        }
        *serial += 1;
        fs::create_dir_all(directory).context(format!("cannot make {DIRECTORY}"))?;
        for (name, text) in files(*serial) {
            let path = directory.join(name);
            // Under another name first: CoreDNS may be reading.
            let new = path.with_extension("new");
            let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
            written.context(format!("cannot write {}", path.display()))?;
        }
        Ok(true)
    }
}

/// Waits until it answers. It has no event to tell that by, so it is asked, and asked again a
/// little later each time.
async fn ready(netns: &str, ip: IpAddr, domain: &str, serial: u32) -> Result<()> {
    let mut pause = Duration::from_millis(5);
    while !(is_ready(netns, ip).await? && answered(netns, ip, domain).await? == Some(serial)) {
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
    let socket = hop::inside(netns, move || tcp_socket(to).context("cannot make a socket")).await?;
    let answer = client::http(socket, to, path, PATIENCE).await;
    Ok(answer.result.is_ok_and(|answer| answer.status == 200))
}

/// The serial number of the zone, if it is told.
async fn answered(netns: &str, ip: IpAddr, domain: &str) -> Result<Option<u32>> {
    let to = SocketAddr::new(ip, 53);
    let socket = hop::inside(netns, move || {
        let any = SocketAddr::new(if ip.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
        std::net::UdpSocket::bind(any)
            .and_then(|it| it.set_nonblocking(true).map(|()| it))
            .context("cannot make a socket")
    })
    .await?;
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
    let answer = timeout(PATIENCE, ask).await.ok().and_then(std::result::Result::ok);
    Ok(answer.filter(|answer| answer.starts_with(&question[..2])).and_then(|answer| serial_in(&answer)))
}

/// The serial number in an answer that ends with the one SOA record it has: before four other numbers.
fn serial_in(answer: &[u8]) -> Option<u32> {
    let answers = answer.get(6..8)?;
    let bytes = answer.get(answer.len().checked_sub(20)?..)?.first_chunk()?;
    (answers == [0, 1]).then(|| u32::from_be_bytes(*bytes))
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

    #[test]
    fn a_serial_number_on_the_wire() {
        let mut answer = question("a.bc");
        answer.extend([0, 0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6]);
        assert_eq!(serial_in(&answer), None, "a question");
        answer[7] = 1;
        assert_eq!(serial_in(&answer), Some(258));
        assert_eq!(serial_in(&[0; 8]), None);
    }
}
