//! `[[external]]` → machines on the lab's internet.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{
    address::{ip, special},
    file::ExternalTable,
    model::{External, ExternalServer, Span},
    name::Domain,
    network::Network,
    said::At,
    value::invalid,
};
use crate::diag::{Diagnostic, Problems};

/// A machine on its way.
#[derive(Debug)]
pub(super) struct ExternalDraft {
    pub(super) name: Option<Domain>,
    pub(super) name_at: Span,
    rest: Option<External>,
}

/// Where a server listens if the file does not say.
const PORT: u16 = 80;

/// Reads them from the file.
pub(super) fn externals(tables: &[ExternalTable], network: &Network, problems: &mut Problems) -> Vec<ExternalDraft> {
    let mut owners: BTreeMap<Ipv4Addr, Span> = BTreeMap::new();
    tables
        .iter()
        .map(|table| {
            let said = table.ip.get().map_or(&[][..], |addresses| &addresses.0);
            for address in said {
                check(address, network, &mut owners, problems);
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
fn check(said: &At<Ipv4Addr>, network: &Network, owners: &mut BTreeMap<Ipv4Addr, Span>, problems: &mut Problems) {
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
        Some(first) => {
            let problem = Diagnostic::new(at, format!("the address {address} is used twice"));
            problems.push(problem.also(first.clone(), "first used here").hint("choose another address"));
        }
        None => _ = owners.insert(address, at),
    }
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
