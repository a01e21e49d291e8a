//! The addresses of one subnet: those given are checked and taken out, the others are handed out.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::{address::unusable, alloc::Pool, model::Span, said::At};
use crate::diag::{Diagnostic, Problems};

/// A subnet with what is left of it.
#[derive(Debug)]
pub(super) struct Block {
    subnet: Ipv4Net,
    /// What the subnet is called in messages.
    what: String,
    pool: Pool,
    first_use: BTreeMap<Ipv4Addr, Span>,
    put_off: Vec<Ipv4Addr>,
}

impl Block {
    /// A subnet with all its addresses.
    pub(super) fn new(subnet: Ipv4Net, what: String, pool: Pool) -> Self {
        Block { subnet, what, pool, first_use: BTreeMap::new(), put_off: Vec::new() }
    }

    /// Takes a given address, which must be usable and free. `hint` says where it could lie
    /// instead.
    pub(super) fn claim(&mut self, said: &At<Ipv4Addr>, hint: &str, problems: &mut Problems) {
        let (address, at) = (said.value, said.at.clone());
        if let Some(why) = unusable(self.subnet, address) {
            let hint = if self.subnet.contains(&address) { "choose another address, or leave `ip` out" } else { hint };
            problems.push(Diagnostic::new(at, format!("{address} {why} {}", self.what)).hint(hint));
        } else if let Some(first) = self.first_use.get(&address) {
            let problem = Diagnostic::new(at, format!("the address {address} is used twice"));
            let problem = problem.also(first.clone(), "first used here");
            problems.push(problem.hint("choose another address, or leave `ip` out"));
        } else {
            self.pool.take(u32::from(address));
            self.first_use.insert(address, at);
        }
    }

    /// Takes an address that was handed out earlier, if it is one of these and free.
    pub(super) fn keep(&mut self, address: Ipv4Addr) -> bool {
        self.subnet.contains(&address) && self.pool.keep(u32::from(address))
    }

    /// Puts addresses off until there are no others: they were somebody's a moment ago, or will be.
    pub(super) fn put_off(&mut self, addresses: impl Iterator<Item = Ipv4Addr>) {
        for address in addresses {
            if self.keep(address) {
                self.put_off.push(address);
            }
        }
    }

    /// The highest free address, but for some; `None` if there is none.
    pub(super) fn last(&mut self, avoid: impl IntoIterator<Item = Ipv4Addr>) -> Option<Ipv4Addr> {
        self.pool.last(&avoid.into_iter().map(u32::from).collect()).map(Ipv4Addr::from)
    }

    /// The next free address; `None` if there is no more.
    pub(super) fn next(&mut self) -> Option<Ipv4Addr> {
        self.pool.next_ip().or_else(|| self.put_off.pop())
    }
}
