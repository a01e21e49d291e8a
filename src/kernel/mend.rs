//! Carries out what puts a network right: the one place where [`Mend`]s become system calls.

use std::net::IpAddr;

use netlink_packet_route::route::{RouteProtocol, RouteScope, RouteType};
use rtnetlink::{LinkBridgePort, LinkUnspec, RouteMessageBuilder, RouteNextHopBuilder};
use tokio::runtime;

use super::{
    message::malformed,
    netlink::Netlink,
    netns,
    undo::{self, gone},
};
use crate::{
    error::{Error, Result},
    plan::{
        mend::{Mend, Route, RouteKind},
        step::Step,
    },
};

/// Puts one thing right. What is right already is no error.
///
/// # Errors
///
/// When there is no such namespace, or the kernel refuses.
pub(super) async fn mend(mend: &Mend) -> Result<()> {
    let netns = mend.netns();
    if let Mend::Set { key, value, .. } = mend {
        return netns::inside(netns, || netns::write_sysctl(key, value));
    }
    let socket = Netlink::open_in(netns, &runtime::Handle::current())?;
    let handle = socket.handle();
    match mend {
        Mend::Set { .. } => Ok(()),
        Mend::Delete(link) => gone(handle.link().del(link.index.0).execute().await),
        Mend::Make(Step::Route { to, via, .. }) => socket.replace_route(*to, via).await,
        Mend::Make(step @ Step::Cable { near, far, .. }) => {
            socket.carry_out(step).await?;
            // The far end comes up with its address, or here if it has none.
            let there = Netlink::open_in(&far.netns, &runtime::Handle::current())?;
            there.up(far.index).await?;
            there.settle(far).await?;
            socket.settle(near).await
        }
        Mend::Make(step) => socket.carry_out(step).await,
        Mend::Address(link, mac) => {
            let change = LinkUnspec::new_with_index(link.index.0).address(mac.0.to_vec()).build();
            socket.set(change).await
        }
        Mend::Rename(link, _) => {
            let change = || LinkUnspec::new_with_index(link.index.0);
            // Its name changes only while it is down, on every kernel.
            socket.set(change().down().build()).await?;
            socket.set(change().name(&link.name).build()).await?;
            socket.up(link.index).await
        }
        Mend::Plug { port, bridge, hairpin } => {
            socket.set(LinkUnspec::new_with_index(port.index.0).controller(bridge.index.0).build()).await?;
            if *hairpin { socket.hairpin(port).await } else { Ok(()) }
        }
        Mend::Hairpin(port) => socket.set(LinkBridgePort::new(port.index.0).hairpin(true).build()).await,
        Mend::Up(link) => {
            socket.up(link.index).await?;
            socket.settle(link).await
        }
        Mend::NoAddress(link, address) => {
            undo::undo(handle, &Step::Address { link: link.clone(), address: *address }).await
        }
        Mend::NoNeighbour(link, ip) => {
            let message = handle.neighbours().add(link.index.0, *ip).message_mut().clone();
            gone(handle.neighbours().del(message).execute().await)
        }
        Mend::NoRoute { route, .. } => no_route(handle, route).await,
    }
}

/// Takes away this route and no other to the same place.
async fn no_route(handle: &rtnetlink::Handle, route: &Route) -> Result<()> {
    let builder = RouteMessageBuilder::<IpAddr>::new();
    let builder = builder.destination_prefix(route.to.network(), route.to.prefix_len()).map_err(malformed)?;
    let kind = match route.kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Other(number) => number.into(),
    };
    // Whoever has made it, and in whatever scope.
    let builder = builder.kind(kind).protocol(RouteProtocol::Unspec).scope(RouteScope::NoWhere).priority(route.metric);
    let builder = match route.hops[..] {
        [] => builder,
        [(gateway, link)] => {
            let builder = match gateway {
                Some(gateway) => builder.gateway(gateway).map_err(malformed)?,
                None => builder,
            };
            match link {
                Some(index) => builder.output_interface(index),
                None => builder,
            }
        }
        ref several => {
            let hop = |(gateway, link): &(Option<IpAddr>, Option<u32>)| {
                let hop = match route.to {
                    ipnet::IpNet::V4(_) => RouteNextHopBuilder::new_ipv4(),
                    ipnet::IpNet::V6(_) => RouteNextHopBuilder::new_ipv6(),
                };
                let hop = hop.interface(link.unwrap_or_default());
                match gateway {
                    Some(gateway) => Ok::<_, Error>(hop.via(*gateway).map_err(malformed)?.build()),
                    None => Ok(hop.build()),
                }
            };
            builder.multipath(several.iter().map(hop).collect::<Result<_>>()?)
        }
    };
    gone(handle.route().del(builder.build()).execute().await)
}
