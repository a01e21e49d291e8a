//! `[[external]]` → machines on the lab's internet.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{
    address::{ip, special},
    file::{ExternalTable, LabFile},
    model::{External, ExternalServer, Span},
    name::Domain,
    network::Network,
    said::At,
    value::invalid,
};
use crate::diag::{Diagnostic, Problems, quoted};

/// A machine on its way.
#[derive(Debug)]
pub(super) struct ExternalDraft {
    pub(super) name: Option<Domain>,
    pub(super) name_at: Span,
    rest: Option<External>,
}

impl ExternalDraft {
    /// Its first address, if it is a good one.
    pub(super) fn ip(&self) -> Option<std::net::IpAddr> {
        self.rest.as_ref()?.ips.first().copied()
    }
}

/// Where a server listens if the file does not say.
const PORT: u16 = 80;
/// `__NEW_UTS_LEN` of the kernel.
const LONGEST: usize = 64;

/// Reads them from the file.
pub(super) fn externals(file: &LabFile, network: &Network, problems: &mut Problems) -> Vec<ExternalDraft> {
    let mut owners = service_addresses(file);
    let tables = file.external.list().iter();
    tables
        .map(|table| {
            check_name(table, network, problems);
            let said = table.ip.get().map_or(&[][..], |addresses| &addresses.0);
            for address in said {
                check_address(address, network, &mut owners, problems);
            }
            check_ports(table, problems);
            ExternalDraft { name: table.name.get().cloned(), name_at: table.name.span(&table.at), rest: draft(table) }
        })
        .collect()
}

fn draft(table: &ExternalTable) -> Option<External> {
    let ports = match table.ports.maybe_list()? {
        None => vec![PORT],
        Some(list) => list.iter().map(|said| said.value.0).collect(),
    };
    Some(External {
        name: table.name.get()?.clone(),
        ips: table.ip.get()?.0.iter().map(|said| ip(said.value)).collect(),
        server: table.server.or(ExternalServer::Echo)?,
        ports,
        at: table.at.clone(),
    })
}

/// The address is an ordinary one, of no network of the lab, and nobody else's.
fn check_address(said: &At<Ipv4Addr>, network: &Network, owners: &mut Owners, problems: &mut Problems) {
    let (address, at) = (said.value, said.at.clone());
    if let Some(why) = special(address) {
        problems.push(invalid("ip", address, at, why).hint("give an address of the internet, such as 198.51.100.7"));
        return;
    }
    if let Some(range) = network.ranges.iter().find(|range| range.net.contains(&address)) {
        let mut problem = invalid("ip", address, at, format!("is an address of {}", range.what));
        if let Some(place) = &range.at {
            problem = problem.also(place.clone(), range.what.clone());
        }
        problems.push(problem.hint("give an address outside the lab's networks, such as 198.51.100.7"));
        return;
    }
    match owners.get(&address) {
        Some((first, what)) => {
            let problem = Diagnostic::new(at, format!("the address {address} is used twice"));
            problems.push(problem.also(first.clone(), *what).hint("choose another address"));
        }
        None => _ = owners.insert(address, (at, "first used here")),
    }
}

/// It is a name of the internet, not of the cluster, and fits a machine.
fn check_name(table: &ExternalTable, network: &Network, problems: &mut Problems) {
    let Some(said) = table.name.at() else { return };
    let name = said.value.as_str();
    let mut refuse = |why: String, hint: &str| {
        problems.push(invalid("name", quoted(name), said.at.clone(), why).hint(hint));
    };
    let domain = network.domain.as_ref().map_or("", AsRef::as_ref);
    if name.parse::<Ipv4Addr>().is_ok() {
        refuse(
            "is an address, and no name server is asked for those".to_owned(),
            "give a name, such as \"api.ipify.org\"",
        );
    } else if name.len() > LONGEST {
        refuse(
            format!("must be no more than {LONGEST} characters, the kernel's longest hostname"),
            "choose a shorter name",
        );
    } else if !domain.is_empty() && (name == domain || name.ends_with(&format!(".{domain}"))) {
        refuse(
            format!("is a name of the cluster's own domain, {domain}"),
            "give a name outside of it, or set another `domain` in `[cluster]`",
        );
    }
}

/// Who has an address, and what to say of the place.
type Owners = BTreeMap<Ipv4Addr, (Span, &'static str)>;

/// The addresses outside the cluster that Services ask for.
fn service_addresses(file: &LabFile) -> Owners {
    let services = file.service.list().iter();
    let said = services.flat_map(|table| table.external_ips.list().iter().chain(table.load_balancer_ips.list()));
    said.map(|said| (said.value, (said.at.clone(), "a service has it"))).collect()
}

fn check_ports(table: &ExternalTable, problems: &mut Problems) {
    let mut seen: BTreeMap<u16, Span> = BTreeMap::new();
    for said in table.ports.list() {
        match seen.get(&said.value.0) {
            Some(first) => {
                let problem = Diagnostic::new(said.at.clone(), format!("port {} is given twice", said.value.0));
                problems.push(problem.also(first.clone(), "first given here").hint("leave one of them out"));
            }
            None => _ = seen.insert(said.value.0, said.at.clone()),
        }
    }
}

impl ExternalDraft {
    /// The machine, if nothing of it was refused.
    pub(super) fn finish(self) -> Option<External> {
        self.rest
    }
}
