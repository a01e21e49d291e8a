//! The programs that netlab, its labs and its tests call, and how to come by them.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::run::{Failure, Result, built, cargo, run, run_with};

/// A program, and the Debian package that has it.
#[derive(Debug, Clone, Copy)]
struct Tool {
    program: &'static str,
    package: &'static str,
}

/// What for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// To bring labs up and verify them.
    Labs,
    /// To run every test.
    Tests,
    /// To measure against Mininet.
    Mininet,
}

/// What labs call. Everything else of Debian that is used is in every installation.
const FOR_LABS: &[Tool] = &[
    Tool { program: "curl", package: "curl" },
    Tool { program: "ip", package: "iproute2" },
    Tool { program: "iptables", package: "iptables" },
    Tool { program: "iptables-restore", package: "iptables" },
    Tool { program: "nft", package: "nftables" },
    Tool { program: "python3", package: "python3" },
];

/// What the tests call besides.
const FOR_TESTS: &[Tool] = &[
    Tool { program: "dig", package: "bind9-dnsutils" },
    Tool { program: "haproxy", package: "haproxy" },
    Tool { program: "pgrep", package: "procps" },
    Tool { program: "setpriv", package: "util-linux" },
    Tool { program: "tcpdump", package: "tcpdump" },
    Tool { program: "unshare", package: "util-linux" },
    Tool { program: "xmllint", package: "libxml2-utils" },
];

/// What Mininet with Linux bridges is made of. Its package starts no service; Open vSwitch, which would, is
/// only recommended by it.
const FOR_MININET: &[Tool] =
    &[Tool { program: "mnexec", package: "mininet" }, Tool { program: "brctl", package: "bridge-utils" }];

/// The parts of the Rust toolchain that a minimal installation leaves out.
const COMPONENTS: &[(&str, &str)] = &[("fmt", "rustfmt"), ("clippy", "clippy")];

/// Installs the Debian packages that are missing.
///
/// Fails when something is missing that this user cannot install, and says how to.
pub(crate) fn install_packages(need: Need) -> Result<()> {
    let missing = missing_packages(need);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let prefix: &[&str] = match () {
        () if which::which("apt-get").is_err() => {
            return Err(Failure(format!("install what Debian calls: {list}")));
        }
        () if is_root() => &["env"],
        () if can_sudo() => &["sudo", "-n"],
        () => return Err(Failure(format!("something is missing; as root: apt-get install {list}"))),
    };
    let apt_get = |arguments: &[&str]| {
        let words = [&prefix[1..], &["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"], arguments].concat();
        run(prefix[0], words)
    };
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(&missing);
    // A fresh machine has no lists of packages, an old one has stale ones: both make this fail.
    if apt_get(&install).is_err() {
        apt_get(&["update"])?;
        apt_get(&install)?;
    }
    match missing_packages(need) {
        still if still.is_empty() => Ok(()),
        still => {
            Err(Failure(format!("apt-get has installed {list}, but something of {} is still missing", still.join(" "))))
        }
    }
}

/// The CoreDNS that the tests run, as `go install` takes it.
const COREDNS: &str = "github.com/coredns/coredns@v1.13.1";
/// Where Go's own packages put it, beside the PATH.
const GO: &str = "/usr/local/go/bin/go";

/// Has Go build CoreDNS, which Debian has no package of, unless there is one already. Gives back the
/// directory that it is in if that has to be put on the PATH. It is kept with what cargo builds.
///
/// Fails in CI, where no test may be left out, if there is no Go either.
pub(crate) fn install_coredns() -> Result<Option<PathBuf>> {
    let gos = [("GOBIN", ""), ("GOPATH", "bin"), ("HOME", "go/bin")];
    let by_go = gos.iter().filter_map(|(variable, below)| Some(PathBuf::from(env::var_os(variable)?).join(below)));
    if exists("coredns") || by_go.into_iter().any(|directory| directory.join("coredns").exists()) {
        return Ok(None);
    }
    let directory = built("tools")?;
    if directory.join("coredns").exists() {
        return Ok(Some(directory));
    }
    let Ok(go) = which::which("go").or_else(|_| which::which(GO)) else {
        let words = format!("coredns is missing, and there is no go to build it with: go install {COREDNS}");
        if env::var_os("CI").is_some() {
            return Err(Failure(words));
        }
        eprintln!("{words}; the tests that need it will fail");
        return Ok(None);
    };
    let directory_text = directory.display().to_string();
    run_with(go, ["install", COREDNS], &[("GOBIN", &directory_text), ("CGO_ENABLED", "0")])?;
    Ok(Some(directory))
}

/// Adds the parts of the Rust toolchain that are missing.
///
/// Fails when there is no rustup to ask.
pub(crate) fn install_components() -> Result<()> {
    for (subcommand, component) in COMPONENTS {
        if succeeds(Command::new(cargo()).args([subcommand, "--version"])) {
            continue;
        }
        run_with("rustup", ["component", "add", component], &[])
            .map_err(|failure| Failure(format!("{failure}; install {component} for this Rust toolchain")))?;
    }
    Ok(())
}

/// Whether Mininet can be run: only root can.
pub(crate) fn has_mininet() -> bool {
    is_root() && missing_packages(Need::Mininet).is_empty()
}

fn missing_packages(need: Need) -> Vec<&'static str> {
    let tools = match need {
        Need::Labs => FOR_LABS.to_vec(),
        Need::Tests => [FOR_LABS, FOR_TESTS].concat(),
        Need::Mininet => FOR_MININET.to_vec(),
    };
    let mut missing: Vec<&str> = tools.iter().filter(|tool| !exists(tool.program)).map(|tool| tool.package).collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// The PATH with a directory before all others.
pub(crate) fn path_with(directory: &std::path::Path) -> String {
    let path = env::var("PATH").unwrap_or_default();
    format!("{}:{path}", directory.display())
}

/// The administrator's programs are not on a plain user's PATH.
fn exists(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    which::which_in(program, Some(format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")), "/").is_ok()
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

fn can_sudo() -> bool {
    succeeds(Command::new("sudo").args(["-n", "true"]))
}

fn succeeds(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
