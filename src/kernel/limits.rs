//! What a lab takes of what this host gives a user: known before anything is built.

use nix::sys::resource::{Resource, getrlimit};

use crate::{
    error::{Error, Result},
    lab::model::{Lab, Server},
};

/// What a lab takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Need {
    namespaces: u64,
    /// At the time when it takes the most.
    descriptors: u64,
    processes: u64,
}

/// What there is; `None` if nobody says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    namespaces: Option<u64>,
    descriptors: Option<u64>,
    processes: Option<u64>,
}

/// What the agent has open besides the sockets of the lab's places: its own files, the pipes of tools.
const OWN_DESCRIPTORS: u64 = 128;
/// Threads of the agent, and the tools that run at a time.
const OWN_PROCESSES: u64 = 32;

/// Checks that the lab fits.
///
/// # Errors
///
/// The first limit that is too low, with how to raise it.
pub fn check(lab: &Lab) -> Result<()> {
    Need::of(lab).fits(Limits::of_this_host())
}

impl Need {
    fn of(lab: &Lab) -> Self {
        let places = lab.places().len() as u64;
        let containers = || lab.pods.iter().flat_map(|pod| &pod.containers);
        let listeners: usize = containers().map(|container| container.ports.len()).sum();
        let is_process = |server: &Server| matches!(server, Server::Python | Server::Command(_));
        let processes = containers().filter(|container| is_process(&container.server)).count() as u64;
        // While links are made there is a socket in every namespace; later one for every port that is
        // listened on, and one for each machine outside.
        let sockets = places.max(listeners as u64 + (lab.clients.len() + lab.externals.len() + lab.nodes.len()) as u64);
        Need {
            namespaces: places,
            descriptors: sockets + 4 * processes + OWN_DESCRIPTORS,
            processes: processes + OWN_PROCESSES,
        }
    }

    fn fits(self, limits: Limits) -> Result<()> {
        let lacks = |need: u64, limit: Option<u64>| limit.filter(|limit| *limit < need);
        if let Some(limit) = lacks(self.namespaces, limits.namespaces) {
            let need = self.namespaces;
            let error = Error::host(format!("the lab needs {need} network namespaces, and {limit} are allowed"));
            return Err(error.hint(format!("as root: sysctl user.max_net_namespaces={}", need.max(15_000))));
        }
        if let Some(limit) = lacks(self.descriptors, limits.descriptors) {
            let need = self.descriptors;
            let error = Error::host(format!("the lab needs {need} open files, and {limit} are allowed"));
            return Err(error.hint(format!("raise the hard limit: ulimit -Hn {}", need.next_power_of_two())));
        }
        if let Some(limit) = lacks(self.processes, limits.processes) {
            let need = self.processes;
            let error = Error::host(format!("the lab needs {need} processes, and {limit} are allowed"));
            return Err(error.hint("as root: sysctl kernel.pid_max=4194304; or give pods `server = \"echo\"`"));
        }
        Ok(())
    }
}

impl Limits {
    fn of_this_host() -> Self {
        let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        Limits {
            namespaces: number("/proc/sys/user/max_net_namespaces"),
            descriptors: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard),
            processes: number("/proc/sys/kernel/pid_max"),
        }
    }
}

/// How much of what a program is started with may be about Services: half of what the kernel passes to
/// one that this process starts. The rest is for arguments, and for whatever else is in the environment.
pub fn room_for_services() -> usize {
    // Who cannot read the limit has the least there is.
    of_stack(getrlimit(Resource::RLIMIT_STACK).map_or(0, |(soft, _)| soft)) / 2
}

/// execve(2): a quarter of the stack's limit, but not less than 32 pages; and since Linux 4.13 not more than
/// three quarters of 8 MiB.
fn of_stack(limit: u64) -> usize {
    usize::try_from((limit / 4).clamp(128 << 10, 6 << 20)).unwrap_or(128 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Grid, load, model::ProxyMode};

    const ENOUGH: Limits = Limits { namespaces: Some(15_000), descriptors: Some(1 << 20), processes: Some(1 << 22) };

    fn need() -> Need {
        let grid = Grid { nodes: 10, pods: 100, services: 1, endpoints: 1, node_ports: 0, proxy: ProxyMode::Iptables };
        let text = grid.text().unwrap() + "\n[dns]\nengine = \"none\"\n[[pod]]\nname = \"py\"\nserver = \"python\"\n";
        Need::of(&load(&text).unwrap())
    }

    #[test]
    fn what_programs_are_started_with_follows_from_the_stack() {
        assert_eq!([0, 8 << 20, u64::MAX].map(of_stack), [128 << 10, 2 << 20, 6 << 20]);
    }

    #[test]
    fn a_big_lab_fits_an_ordinary_host() {
        assert_eq!(need(), Need { namespaces: 1012, descriptors: 1012 + 4 + 128, processes: 33 });
        need().fits(ENOUGH).unwrap();
        need().fits(Limits { namespaces: None, descriptors: None, processes: None }).unwrap();
    }

    #[test]
    fn each_limit_is_named() {
        for (limits, message) in [
            (
                Limits { namespaces: Some(1011), ..ENOUGH },
                "the lab needs 1012 network namespaces, and 1011 are allowed",
            ),
            (Limits { descriptors: Some(1024), ..ENOUGH }, "the lab needs 1144 open files, and 1024 are allowed"),
            (Limits { processes: Some(32), ..ENOUGH }, "the lab needs 33 processes, and 32 are allowed"),
        ] {
            let error = need().fits(limits).unwrap_err();
            assert_eq!((error.message.as_str(), error.hint.is_some()), (message, true));
        }
    }
}
