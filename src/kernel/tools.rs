//! The programs of the host that netlab runs, and where Debian has them.

use std::path::PathBuf;

use super::{coredns, rules};

/// A program of the host.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    /// What it is called.
    pub program: &'static str,
    /// The Debian package that has it; `None` if none does.
    pub package: Option<&'static str>,
    /// How it tells its version.
    pub version: &'static [&'static str],
    /// What netlab needs it for.
    pub purpose: &'static str,
    /// How much it is missed.
    pub need: Need,
}

/// How much a program is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The labs of this repository do not run without it.
    Required,
    /// Something is less convenient without it.
    Useful,
}

/// All of them.
pub const TOOLS: &[Tool] = &[
    Tool {
        program: "iptables-restore",
        package: Some("iptables"),
        version: &["--version"],
        purpose: "the rules of the proxies iptables and ladder",
        need: Need::Required,
    },
    Tool {
        program: "nft",
        package: Some("nftables"),
        version: &["--version"],
        purpose: "the rules of the proxy nftables",
        need: Need::Required,
    },
    Tool {
        program: "python3",
        package: Some("python3"),
        version: &["--version"],
        purpose: "pods with `server = \"python\"`",
        need: Need::Required,
    },
    Tool {
        program: "curl",
        package: Some("curl"),
        version: &["--version"],
        purpose: "netlab verify (without it: --engine builtin)",
        need: Need::Required,
    },
    Tool {
        program: "haproxy",
        package: Some("haproxy"),
        version: &["-v"],
        purpose: "a load balancer with `engine = \"haproxy\"`",
        need: Need::Useful,
    },
    Tool {
        program: coredns::PROGRAM,
        package: None,
        version: &["-version"],
        purpose: "a cluster DNS with `engine = \"coredns\"`",
        need: Need::Useful,
    },
    Tool {
        program: "ip",
        package: Some("iproute2"),
        version: &["-V"],
        purpose: "looking around in netlab shell",
        need: Need::Useful,
    },
    Tool {
        program: "conntrack",
        package: Some("conntrack"),
        version: &["--version"],
        purpose: "looking at connections in netlab shell",
        need: Need::Useful,
    },
    Tool {
        program: "tcpdump",
        package: Some("tcpdump"),
        version: &["--version"],
        purpose: "looking at packets in netlab shell",
        need: Need::Useful,
    },
    Tool {
        program: "nc",
        package: Some("netcat-openbsd"),
        version: &["-h"],
        purpose: "the commands that netlab verify prints for TCP and UDP",
        need: Need::Useful,
    },
    Tool {
        program: "dig",
        package: Some("bind9-dnsutils"),
        version: &["-v"],
        purpose: "the commands that netlab verify prints for names",
        need: Need::Useful,
    },
    Tool {
        program: "ping",
        package: Some("iputils-ping"),
        version: &["-V"],
        purpose: "the commands that netlab verify prints for pings",
        need: Need::Useful,
    },
];

impl Tool {
    /// Where it is.
    pub fn find(&self) -> Option<PathBuf> {
        match self.program {
            coredns::PROGRAM => coredns::find().ok(),
            program => rules::find(program).ok(),
        }
    }

    /// How to come by it.
    pub fn source(&self) -> Option<String> {
        match (self.package, self.program) {
            (Some(package), _) => Some(format!("netlab doctor --fix, or: apt-get install {package}")),
            (None, coredns::PROGRAM) => Some(coredns::INSTALL.to_owned()),
            (None, _) => None,
        }
    }

    /// Why it is of no use though it is there.
    pub fn complaint(&self) -> Option<String> {
        match self.program {
            coredns::PROGRAM => coredns::check().err().map(|error| error.message),
            _ => None,
        }
    }

    /// What it says that it is: the first line that has a digit.
    pub fn say_version(&self) -> Option<String> {
        let said = duct::cmd(self.find()?, self.version).stderr_to_stdout().unchecked().read().ok()?;
        let line = said.lines().find(|line| line.bytes().any(|byte| byte.is_ascii_digit()))?;
        Some(line.trim().to_owned())
    }
}
