//! Where the lab file says what a probe is about, and what sort of place it comes from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Group, Probe, scene::Scene};
use crate::lab::model::{Place, Span};

/// The sorts of places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlaceKind {
    /// A pod.
    Pod,
    /// A node.
    Node,
    /// The lab's own outer network.
    Host,
    /// A machine outside the cluster.
    Client,
    /// The load balancer.
    LoadBalancer,
    /// A machine of the lab's internet.
    External,
}

impl PlaceKind {
    /// In the plural, for people.
    pub fn plural(self) -> &'static str {
        match self {
            PlaceKind::Pod => "pods",
            PlaceKind::Node => "nodes",
            PlaceKind::Host => "host",
            PlaceKind::Client => "clients",
            PlaceKind::LoadBalancer => "load balancer",
            PlaceKind::External => "externals",
        }
    }
}

impl From<Place> for PlaceKind {
    fn from(place: Place) -> Self {
        match place {
            Place::Pod(_) => PlaceKind::Pod,
            Place::Node(_) => PlaceKind::Node,
            Place::Host => PlaceKind::Host,
            Place::Client(_) => PlaceKind::Client,
            Place::LoadBalancer => PlaceKind::LoadBalancer,
            Place::External(_) => PlaceKind::External,
        }
    }
}

/// The `[[probe]]`, else the Service, else the place that it asks, else the one that it asks from.
pub(super) fn of(scene: &Scene<'_>, probe: &Probe) -> Option<Span> {
    let lab = scene.lab;
    if probe.group == Group::Yours {
        return lab.probes.iter().find(|yours| yours.name == probe.target.of).map(|yours| yours.at.clone());
    }
    let service = probe.target.service.as_deref().and_then(|name| scene.service(name));
    let span = service.map(|id| lab.service(id).at.clone());
    let place = |name: &str| match scene.find(name)? {
        Place::Pod(id) => Some(lab.pod(id).at.clone()),
        Place::Node(id) => Some(lab.node(id).at.clone()),
        Place::Client(id) => Some(lab.client(id).at.clone()),
        Place::External(id) => Some(lab.external(id).at.clone()),
        Place::LoadBalancer => lab.load_balancer.as_ref().map(|it| it.at.clone()),
        Place::Host => None,
    };
    // What was not written down, a default node or the cluster's DNS, has no place in the file.
    span.or_else(|| place(&probe.target.of)).or_else(|| place(&probe.from)).filter(|span| !span.is_empty())
}
