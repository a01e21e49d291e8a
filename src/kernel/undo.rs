//! Undoes single steps of a plan in a namespace that stays.
//!
//! What is gone already is good: the other end of a veth goes with its namespace, and a route goes
//! with its link.

use std::{io, net::IpAddr};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::{address::AddressMessage, neighbour::NeighbourState, rule::RuleAction};
use nix::errno::Errno;
use rtnetlink::{Handle, RouteMessageBuilder};

use super::power;
use crate::{
    error::{Error, Result},
    plan::step::{Link, Step, Via},
};

/// Undoes a step over a socket of its namespace.
///
/// # Errors
///
/// When the kernel refuses, but for what is not there (any more).
pub async fn undo(handle: &Handle, step: &Step) -> Result<()> {
    match step {
        Step::Bridge { link, .. } => gone(handle.link().del(link.index.0).execute().await),
        // Both ends of a veth go with either.
        Step::Cable { near, .. } => gone(handle.link().del(near.index.0).execute().await),
        Step::Unplug { near, far } => power::plug(near, far).await,
        Step::Address { link, address } => address_gone(handle, link, *address).await,
        Step::Route { to, via, .. } => {
            let device = match via {
                Via::Gateway(_, link) | Via::Link(link) => Some(link),
                Via::Blackhole => None,
            };
            route_gone(handle, *to, device).await
        }
        Step::Spread { to, .. } => route_gone(handle, *to, None).await,
        Step::Neighbour { link, ip, mac } => {
            let mut request = handle.neighbours().add(link.index.0, *ip).link_layer_address(&mac.0);
            request = request.state(NeighbourState::Permanent);
            let message = request.message_mut().clone();
            gone(handle.neighbours().del(message).execute().await)
        }
        Step::Refuse { link, to } => {
            let rule = handle.rule().add().input_interface(&link.name).action(RuleAction::Blackhole);
            let message = match to {
                IpNet::V4(to) => rule.v4().destination_prefix(to.network(), to.prefix_len()).message_mut().clone(),
                IpNet::V6(to) => rule.v6().destination_prefix(to.network(), to.prefix_len()).message_mut().clone(),
            };
            gone(handle.rule().del(message).execute().await)
        }
        other => Err(Error::bug(format!("not a step that can be undone: {other}"))),
    }
}

async fn address_gone(handle: &Handle, link: &Link, address: IpNet) -> Result<()> {
    let found = handle.address().get().set_link_index_filter(link.index.0).set_address_filter(address.addr());
    let found: Vec<AddressMessage> = match found.execute().try_collect().await {
        Ok(found) => found,
        Err(error) => return gone(Err(error)),
    };
    for message in found.into_iter().filter(|found| found.header.prefix_len == address.prefix_len()) {
        gone(handle.address().del(message).execute().await)?;
    }
    Ok(())
}

async fn route_gone(handle: &Handle, to: IpNet, device: Option<&Link>) -> Result<()> {
    let builder = RouteMessageBuilder::<IpAddr>::new();
    let malformed = |error| Error::bug(format!("a route that cannot be written down: {error}"));
    let mut builder = builder.destination_prefix(to.network(), to.prefix_len()).map_err(malformed)?;
    if let Some(link) = device {
        builder = builder.output_interface(link.index.0);
    }
    gone(handle.route().del(builder.build()).execute().await)
}

/// Takes "there is no such thing" for success.
pub(super) fn gone(result: std::result::Result<(), rtnetlink::Error>) -> Result<()> {
    const NOT_THERE: [Errno; 4] = [Errno::ENOENT, Errno::ENODEV, Errno::ESRCH, Errno::EADDRNOTAVAIL];
    match result {
        Ok(()) => Ok(()),
        Err(rtnetlink::Error::NetlinkError(message)) => {
            let error: io::Error = message.to_io();
            let errno = error.raw_os_error().map(Errno::from_raw);
            if errno.is_some_and(|errno| NOT_THERE.contains(&errno)) {
                Ok(())
            } else {
                Err(Error::refused(error.to_string()))
            }
        }
        Err(other) => Err(Error::refused(other.to_string())),
    }
}
