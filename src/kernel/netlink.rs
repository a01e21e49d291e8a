//! Links, addresses and routes of one namespace, over one rtnetlink socket.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::{
    link::{InfoData, InfoVeth, LinkAttribute, LinkMessage},
    neighbour::NeighbourState,
    route::{RouteMessage, RouteScope, RouteType},
    rule::RuleAction,
};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    RouteNextHopBuilder, RuleAddRequest, new_connection,
};
use tokio::runtime;

use super::netns;
use crate::{
    error::{Context, Error, Result},
    plan::step::{IfIndex, Link, Mac, Via},
};

/// A socket for the routing tables and links of one namespace. Its task on the runtime ends
/// when the last clone of it is dropped.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace; it is driven by `runtime`.
    ///
    /// # Errors
    ///
    /// When the kernel gives no socket.
    pub fn open(runtime: &runtime::Handle) -> Result<Self> {
        let _guard = runtime.enter();
        let (connection, handle, _) = new_connection().context("cannot open a netlink socket")?;
        runtime.spawn(connection);
        Ok(Netlink { handle })
    }

    /// Opens a socket in a namespace by name.
    ///
    /// # Errors
    ///
    /// When there is no such namespace.
    pub fn open_in(netns: &str, runtime: &runtime::Handle) -> Result<Self> {
        netns::inside(netns, || Netlink::open(runtime))
    }

    /// The rtnetlink handle, to read with.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Brings `lo` up.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn loopback_up(&self) -> Result<()> {
        self.up(IfIndex(1)).await
    }

    /// Brings a link up.
    ///
    /// # Errors
    ///
    /// When there is no such link.
    pub async fn up(&self, index: IfIndex) -> Result<()> {
        self.set(LinkUnspec::new_with_index(index.0).up().build()).await
    }

    /// Takes a link down.
    ///
    /// # Errors
    ///
    /// When there is no such link.
    pub async fn down(&self, index: IfIndex) -> Result<()> {
        self.set(LinkUnspec::new_with_index(index.0).down().build()).await
    }

    pub(super) async fn set(&self, message: LinkMessage) -> Result<()> {
        // `set` would be RTM_SETLINK, which ignores what is said of a bridge port.
        refusal(self.handle.link().change(message).execute().await)
    }

    /// Makes a bridge and brings it up.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn bridge(&self, link: &Link, mac: Mac) -> Result<()> {
        let bridge = LinkBridge::new(&link.name).index(link.index.0).address(mac.0.to_vec()).mcast_snooping(false).up();
        refusal(self.handle.link().add(bridge.build()).execute().await)
    }

    /// Makes a veth with its near end here, up, and its far end in another namespace, down.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, for instance because a name is taken at either end.
    pub async fn cable(&self, near: (&Link, Mac), far: (&Link, Mac), bridge: Option<&Link>) -> Result<()> {
        let far_netns = netns::open(&far.0.netns)?;
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(&far.0.name)
            .index(far.0.index.0)
            .address(far.1.0.to_vec())
            .setns_by_fd(far_netns.as_raw_fd());
        let mut cable = LinkMessageBuilder::<LinkVeth>::new(&near.0.name, &far.0.name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
            .index(near.0.index.0)
            .address(near.1.0.to_vec())
            .up();
        if let Some(bridge) = bridge {
            cable = cable.controller(bridge.index.0);
        }
        refusal(self.handle.link().add(cable.build()).execute().await)
    }

    /// Lets a bridge port send a frame back where it came from. In the message that makes the
    /// link the kernel ignores this without a word, so it is one of its own.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn hairpin(&self, port: &Link) -> Result<()> {
        self.set(LinkBridgePort::new(port.index.0).hairpin(true).build()).await
    }

    /// Adds an address and brings the link up.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn address(&self, link: &Link, address: IpNet) -> Result<()> {
        let index = link.index;
        refusal(self.handle.address().add(index.0, address.addr(), address.prefix_len()).execute().await)?;
        self.up(index).await
    }

    /// Asks for one link, which makes the kernel notice its carrier now.
    ///
    /// # Errors
    ///
    /// When there is no such link.
    pub async fn settle(&self, link: &Link) -> Result<()> {
        let mut links = self.handle.link().get().match_index(link.index.0).execute();
        refusal(links.try_next().await).map(|_| ())
    }

    /// Adds a route.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, for instance because the gateway is no neighbour.
    pub async fn route(&self, to: IpNet, via: &Via) -> Result<()> {
        refusal(self.handle.route().add(route(to, via)?).execute().await)
    }

    /// Adds a route, in the place of the one that leads there otherwise, if there is one.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, for instance because the gateway is no neighbour.
    pub async fn replace_route(&self, to: IpNet, via: &Via) -> Result<()> {
        refusal(self.handle.route().add(route(to, via)?).replace().execute().await)
    }

    /// Drops the packets to an address that come in by a link.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, for instance because it has no policy routing.
    pub async fn refuse(&self, link: &Link, to: IpNet) -> Result<()> {
        let rule = self.handle.rule().add().input_interface(&link.name).action(RuleAction::Blackhole);
        refusal(match to {
            IpNet::V4(to) => rule.v4().destination_prefix(to.network(), to.prefix_len()).execute().await,
            IpNet::V6(to) => rule.v6().destination_prefix(to.network(), to.prefix_len()).execute().await,
        })
    }

    /// Sets the route to an address: over all of these gateways, or to nowhere if there is none.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, for instance because the link is down.
    pub async fn spread(&self, link: &Link, to: IpNet, gateways: &[IpAddr]) -> Result<()> {
        let builder = RouteMessageBuilder::<IpAddr>::new();
        let builder = builder.destination_prefix(to.network(), to.prefix_len()).map_err(malformed)?;
        let builder = match gateways {
            [] => builder.kind(RouteType::BlackHole),
            [gateway] => builder.gateway(*gateway).map_err(malformed)?.output_interface(link.index.0),
            several => {
                let hop = |gateway: &IpAddr| {
                    let hop = match gateway {
                        IpAddr::V4(_) => RouteNextHopBuilder::new_ipv4(),
                        IpAddr::V6(_) => RouteNextHopBuilder::new_ipv6(),
                    };
                    Ok(hop.interface(link.index.0).via(*gateway).map_err(malformed)?.build())
                };
                builder.multipath(several.iter().map(hop).collect::<Result<_>>()?)
            }
        };
        refusal(self.handle.route().add(builder.build()).replace().execute().await)
    }

    /// Leads packets with a mark to a gateway; the table that says so has the mark for its number.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, for instance because it has no policy routing.
    pub async fn lead_marked(&self, mark: u32, link: &Link, gateway: Ipv4Addr) -> Result<()> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().table_id(mark);
        let route = route.gateway(gateway).output_interface(link.index.0);
        refusal(self.handle.route().add(route.build()).replace().execute().await)?;
        refusal(self.marked(mark).execute().await)
    }

    /// Packets with a mark go by the usual routes again.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn lead_marked_no_more(&self, mark: u32) -> Result<()> {
        let rule = self.marked(mark).message_mut().clone();
        refusal(self.handle.rule().del(rule).execute().await)
    }

    fn marked(&self, mark: u32) -> RuleAddRequest<Ipv4Addr> {
        self.handle.rule().add().fw_mark(mark).table_id(mark).action(RuleAction::ToTable).v4()
    }

    /// Adds a permanent neighbour, or makes one permanent that the kernel has found by itself.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn neighbour(&self, link: &Link, ip: IpAddr, mac: Mac) -> Result<()> {
        let request = self.handle.neighbours().add(link.index.0, ip).link_layer_address(&mac.0);
        refusal(request.state(NeighbourState::Permanent).replace().execute().await)
    }

    /// All links of the namespace.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn links(&self) -> Result<Vec<LinkMessage>> {
        refusal(self.handle.link().get().execute().try_collect().await)
    }
}

fn route(to: IpNet, via: &Via) -> Result<RouteMessage> {
    let builder = RouteMessageBuilder::<IpAddr>::new();
    let builder = builder.destination_prefix(to.network(), to.prefix_len()).map_err(malformed)?;
    let builder = match via {
        Via::Gateway(gateway, link) => builder.gateway(*gateway).map_err(malformed)?.output_interface(link.index.0),
        Via::Link(link) => builder.output_interface(link.index.0).scope(RouteScope::Link),
        Via::Blackhole => builder.kind(RouteType::BlackHole),
    };
    Ok(builder.build())
}

/// The name in a link message.
pub fn link_name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

pub(super) fn malformed(error: impl std::fmt::Display) -> Error {
    Error::bug(format!("a route that cannot be written down: {error}"))
}

/// The kernel's answer in its own words: rtnetlink wraps the errno in a sentence of its own.
pub(super) fn refusal<T>(result: Result<T, rtnetlink::Error>) -> Result<T> {
    result.map_err(|error| match error {
        rtnetlink::Error::NetlinkError(message) => Error::refused(message.to_io().to_string()),
        other => Error::refused(other.to_string()),
    })
}
