//! From a lab's plan to its routing tables: by which device a place sends to an address, and
//! which places a packet passes on its way to another.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    lab::model::{Lab, Place},
    plan::{
        self,
        step::{Step, Via},
    },
    proxy::ways,
};

/// The routing tables of a lab, as its plan fills them.
#[derive(Debug)]
pub struct Routes<'a> {
    lab: &'a Lab,
    tables: BTreeMap<String, Vec<Entry>>,
}

/// A route that a packet takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The prefix of the route; `default`, or `local` for what stays here.
    pub to: String,
    /// The gateway, where there is one.
    pub via: Option<IpAddr>,
    /// The place that has the gateway's address.
    pub gateway: Option<String>,
    /// The device; `None` for a blackhole.
    pub device: Option<String>,
}

#[derive(Debug)]
struct Entry {
    to: IpNet,
    via: Option<IpAddr>,
    device: Option<String>,
}

impl<'a> Routes<'a> {
    /// Reads them off the plan.
    pub fn of(lab: &'a Lab) -> Routes<'a> {
        let mut tables: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for planned in plan::plan(lab).stages.into_iter().flat_map(|stage| stage.steps) {
            match planned.step {
                // The prefix of an address is on-link.
                Step::Address { link, address } => {
                    let entry = Entry { to: address.trunc(), via: None, device: Some(link.name) };
                    tables.entry(link.netns).or_default().push(entry);
                }
                Step::Route { netns, to, via } => {
                    let (via, device) = match via {
                        Via::Gateway(gateway, link) => (Some(gateway), Some(link.name)),
                        Via::Link(link) => (None, Some(link.name)),
                        Via::Blackhole => (None, None),
                    };
                    tables.entry(netns).or_default().push(Entry { to, via, device });
                }
                _ => {}
            }
        }
        Routes { lab, tables }
    }

    /// The route of a place to an address; `None` if it has none.
    pub fn route(&self, at: Place, to: IpAddr) -> Option<Route> {
        if to.is_loopback() || ways::holder(self.lab, to) == Some(at) {
            return Some(Route { to: "local".to_owned(), via: None, gateway: None, device: Some("lo".to_owned()) });
        }
        let table = self.tables.get(&self.lab.netns(at))?;
        let entry = table.iter().filter(|entry| entry.to.contains(&to)).max_by_key(|entry| entry.to.prefix_len())?;
        Some(Route {
            to: if entry.to.prefix_len() == 0 { "default".to_owned() } else { entry.to.to_string() },
            via: entry.via,
            gateway: entry.via.and_then(|via| ways::holder(self.lab, via)).map(|place| self.lab.netns(place)),
            device: entry.device.clone(),
        })
    }

    /// The places that a packet passes between two others, both left out.
    pub fn between(&self, from: Place, to: Place) -> Vec<Place> {
        let mut places = Vec::new();
        let node = |place| ways::node_of(self.lab, place).map(Place::Node).filter(|node| *node != place);
        if from == to {
            return places;
        }
        places.extend(node(from));
        // A client is behind `host`, unless the other one is on its own network.
        let apart = match (from, to) {
            (Place::Host, _) | (_, Place::Host) => false,
            (Place::Client(one), Place::Client(other)) => {
                self.lab.client(one).ip.trunc() != self.lab.client(other).ip.trunc()
            }
            (Place::Client(_) | Place::External(_), _) | (_, Place::Client(_) | Place::External(_)) => true,
            _ => false,
        };
        places.extend(apart.then_some(Place::Host));
        places.extend(node(to));
        places.dedup();
        places.retain(|place| *place != from && *place != to);
        places
    }
}
