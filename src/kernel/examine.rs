//! Tries what labs need of a kernel, in scratch namespaces that are gone afterwards.
//!
//! What can be tried is tried: configuration files and version numbers tell what a kernel was
//! meant to do, not what it does for this user on this host.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::wait::waitpid,
    unistd::{ForkResult, fork, getegid, geteuid},
};
use serde::{Deserialize, Serialize};

use super::{netlink::Netlink, netns, rules};
use crate::{
    error::{Context, Error, Result},
    plan::step::{IfIndex, Link, Mac, Step},
};

/// What was found out about one thing that labs need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The thing.
    pub what: String,
    /// Whether it is there.
    pub grade: Grade,
    /// What was found, or what the kernel said.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// It is.
    Good,
    /// It is not, and some labs miss it.
    Warn,
    /// It is not, and no lab runs without it.
    Bad,
}

impl Finding {
    /// It is there.
    pub fn good(what: impl Into<String>, text: impl Into<String>) -> Self {
        Finding { what: what.into(), grade: Grade::Good, text: text.into(), hint: None }
    }

    /// It is not there.
    pub fn lack(what: impl Into<String>, grade: Grade, text: impl Into<String>, hint: Option<String>) -> Self {
        Finding { what: what.into(), grade, text: text.into(), hint }
    }
}

/// A feature of netfilter, and a rule that uses it.
struct Feature {
    name: &'static str,
    rules: &'static str,
}

const IPTABLES: &[Feature] = &[
    Feature {
        name: "nat, DNAT, comment",
        rules: "*nat\n-A OUTPUT -p tcp -m tcp --dport 1 -m comment --comment x -j DNAT --to-destination 192.0.2.1:1\nCOMMIT\n",
    },
    Feature { name: "MASQUERADE", rules: "*nat\n-A POSTROUTING -j MASQUERADE --random-fully\nCOMMIT\n" },
    Feature {
        name: "statistic",
        rules: "*nat\n-A OUTPUT -m statistic --mode random --probability 0.5 -j ACCEPT\nCOMMIT\n",
    },
    Feature { name: "addrtype", rules: "*nat\n-A OUTPUT -m addrtype --dst-type LOCAL -j ACCEPT\nCOMMIT\n" },
    Feature { name: "conntrack", rules: "*filter\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n" },
    Feature {
        name: "mark",
        rules: "*nat\n-A OUTPUT -m mark ! --mark 0x4000/0x4000 -j MARK --or-mark 0x4000\nCOMMIT\n",
    },
    Feature { name: "REJECT", rules: "*filter\n-A FORWARD -j REJECT\nCOMMIT\n" },
    Feature {
        name: "recent",
        rules: "*nat\n-A OUTPUT -m recent --name x --rcheck --seconds 1 --reap -j ACCEPT\nCOMMIT\n",
    },
];

const NFTABLES: &[Feature] = &[
    Feature {
        name: "nat, verdict maps",
        rules: "flush ruleset\ntable ip t {\nmap m { type ipv4_addr . inet_proto . inet_service : verdict; }\nchain c { type nat hook output priority -100; ip daddr . meta l4proto . th dport vmap @m; }\n}\n",
    },
    Feature {
        name: "numgen",
        rules: "flush ruleset\ntable ip t {\nchain c { type nat hook output priority -100; meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 192.0.2.1 . 1, 1 : 192.0.2.2 . 1 }; }\n}\n",
    },
    Feature {
        name: "masquerade",
        rules: "flush ruleset\ntable ip t {\nchain c { type nat hook postrouting priority 100; masquerade fully-random; }\n}\n",
    },
    Feature {
        name: "fib",
        rules: "flush ruleset\ntable ip t {\nchain c { type nat hook output priority -100; fib daddr type local accept; }\n}\n",
    },
    Feature {
        name: "reject",
        rules: "flush ruleset\ntable ip t {\nchain c { type filter hook forward priority 0; reject; }\n}\n",
    },
    Feature {
        name: "dynamic sets",
        rules: "flush ruleset\ntable ip t {\nset s { type ipv4_addr; flags dynamic,timeout; timeout 1s; }\nchain c { type nat hook output priority -100; update @s { ip saddr }; }\n}\n",
    },
];

/// Tries everything. The calling process must have one thread only.
///
/// # Errors
///
/// When not even a process can be made.
pub fn examine() -> Result<Vec<Finding>> {
    let (mut ours, theirs) = UnixStream::pair().context("cannot make a channel")?;
    // SAFETY: with one thread, the child's copy of the memory is consistent.
    match unsafe { fork() }.context("cannot fork")? {
        ForkResult::Child => {
            drop(ours);
            in_scratch(theirs);
            std::process::exit(0)
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            let mut text = String::new();
            ours.read_to_string(&mut text).context("cannot read what was found")?;
            waitpid(child, None).context("lost a child")?;
            let findings = text.lines().map(serde_json::from_str).collect::<Result<Vec<Finding>, _>>();
            findings.context("cannot read what was found")
        }
    }
}

fn in_scratch(mut report: UnixStream) {
    let mut tell = |finding: Finding| {
        if let Ok(line) = serde_json::to_string(&finding) {
            // The doctor has gone: nothing is left to do.
            let _ = writeln!(report, "{line}");
        }
    };
    match enter_scratch() {
        Ok(how) => tell(Finding::good("namespaces", how)),
        Err(finding) => return tell(finding),
    }
    // Only a child is in the new PID namespace, and only there a new /proc can be mounted.
    // SAFETY: still one thread.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            for finding in inside() {
                tell(finding);
            }
            std::process::exit(0)
        }
        Ok(ForkResult::Parent { child }) => {
            // What it found is in the channel already.
            let _ = waitpid(child, None);
        }
        Err(errno) => tell(Finding::lack("PID namespace", Grade::Bad, errno.to_string(), None)),
    }
}

fn enter_scratch() -> Result<String, Finding> {
    let namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    if geteuid().is_root() && unshare(namespaces).is_ok() {
        return Ok("pid, mount, net, uts and ipc, as root".to_owned());
    }
    let (uid, gid) = (geteuid(), getegid());
    let lack = |text: String| Finding::lack("namespaces", Grade::Bad, text, Some(user_namespace_hint()));
    unshare(namespaces | CloneFlags::CLONE_NEWUSER)
        .map_err(|errno| lack(format!("this user may not make a user namespace: {errno}")))?;
    let map = fs::write("/proc/self/setgroups", "deny")
        .and_then(|()| fs::write("/proc/self/uid_map", format!("0 {uid} 1")))
        .and_then(|()| fs::write("/proc/self/gid_map", format!("0 {gid} 1")));
    map.map_err(|error| lack(format!("the user namespace cannot be used: {error}")))?;
    Ok("user, pid, mount, net, uts and ipc, without root".to_owned())
}

/// The one setting that forbids it, of those that distributions have.
fn user_namespace_hint() -> String {
    const SETTINGS: [(&str, &str, &str); 3] = [
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
    ];
    let is = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let found = SETTINGS.iter().find(|(path, value, _)| is(path, value));
    found.map_or_else(
        || "run netlab as root; if this is a container, give it CAP_SYS_ADMIN".to_owned(),
        |(_, _, mend)| format!("as root: {mend} (or run netlab as root)"),
    )
}

fn inside() -> Vec<Finding> {
    let mut findings = mounts();
    findings.extend(links());
    findings.extend(settings());
    findings.extend(features("iptables", "iptables-restore", &["--noflush"], IPTABLES));
    findings.extend(features("nftables", "nft", &["-f", "-"], NFTABLES));
    findings
}

fn mounts() -> Vec<Finding> {
    use nix::mount::{MsFlags, mount};
    let none = None::<&str>;
    let tries: [(&str, &str, &str); 2] = [("proc", "/proc", "proc"), ("tmpfs", "/run", "tmpfs")];
    if let Err(errno) = mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none) {
        return vec![Finding::lack("mounts", Grade::Bad, errno.to_string(), Some(user_namespace_hint()))];
    }
    let bad = tries.into_iter().filter_map(|(source, target, kind)| {
        let errno = mount(Some(source), target, Some(kind), MsFlags::empty(), none).err()?;
        let hint = match target {
            "/proc" => "a container engine masks parts of /proc: run it with its /proc unmasked".to_owned(),
            _ => user_namespace_hint(),
        };
        Some(Finding::lack(format!("a private {target}"), Grade::Bad, errno.to_string(), Some(hint)))
    });
    let bad: Vec<Finding> = bad.collect();
    if bad.is_empty() { vec![Finding::good("mounts", "a private /proc and /run")] } else { bad }
}

fn links() -> Vec<Finding> {
    let made = || -> Result<()> {
        fs::create_dir_all(netns::DIRECTORY).context("cannot make /run/netns")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
        netns::name_own("here")?;
        netns::on_a_thread(|| netns::create("there"))?;
        runtime.block_on(async {
            let socket = Netlink::open(runtime.handle())?;
            let link =
                |netns: &str, name: &str, index| Link { netns: netns.into(), name: name.into(), index: IfIndex(index) };
            let bridge = link("here", "br0", 100);
            socket.carry_out(&Step::Bridge { link: bridge.clone(), mac: Mac([2, 0, 0, 0, 0, 1]) }).await?;
            let cable = Step::Cable {
                near: link("here", "veth0", 101),
                near_mac: Mac([2, 0, 0, 0, 0, 2]),
                bridge: Some(bridge),
                hairpin: true,
                far: link("there", "eth0", 102),
                far_mac: Mac([2, 0, 0, 0, 0, 3]),
            };
            socket.carry_out(&cable).await
        })
    };
    let hint = "the kernel needs CONFIG_VETH and CONFIG_BRIDGE: as root, modprobe veth bridge";
    vec![match made() {
        Ok(()) => Finding::good("links", "a bridge, and a veth into another namespace"),
        Err(error) => Finding::lack("links", Grade::Bad, error.message, Some(hint.to_owned())),
    }]
}

fn settings() -> Vec<Finding> {
    let forwarding = match netns::write_sysctl("net/ipv4/ip_forward", "1") {
        Ok(()) => Finding::good("forwarding", "net.ipv4.ip_forward can be set"),
        Err(error) => Finding::lack("forwarding", Grade::Bad, error.message, None),
    };
    let bridged = match netns::write_sysctl("net/bridge/bridge-nf-call-iptables", "1") {
        Ok(()) => Finding::good("bridged frames", "iptables sees them (net.bridge.bridge-nf-call-iptables)"),
        Err(error) => Finding::lack("bridged frames", Grade::Warn, error.message, error.hint),
    };
    vec![forwarding, bridged]
}

fn features(name: &str, program: &str, arguments: &[&str], features: &[Feature]) -> Vec<Finding> {
    let Ok(path) = rules::find(program) else { return Vec::new() };
    let missing: Vec<String> = features
        .iter()
        .filter_map(|feature| {
            let complaint = load(&path, arguments, feature.rules).err()?;
            Some(format!("{}: {}", feature.name, complaint.message))
        })
        .collect();
    if missing.is_empty() {
        let all: Vec<&str> = features.iter().map(|feature| feature.name).collect();
        return vec![Finding::good(name, all.join(", "))];
    }
    let hint = format!(
        "the kernel lacks parts of netfilter that {name} rules need; as root, `{program}` may load its modules"
    );
    vec![Finding::lack(name, Grade::Warn, missing.join("; "), Some(hint))]
}

fn load(program: &Path, arguments: &[&str], rules: &str) -> Result<()> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot be run")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that ends before it has read everything says why on stderr.
        let _ = stdin.write_all(rules.as_bytes());
    }
    let output = child.wait_with_output().context("cannot be run")?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::refused(words.lines().find(|line| !line.trim().is_empty()).unwrap_or("refused").trim()))
}
