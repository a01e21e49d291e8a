//! Links, addresses and routes of one namespace of a lab that is up, over one rtnetlink socket.

use std::net::{IpAddr, Ipv4Addr};

use futures::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::{
    link::{LinkAttribute, LinkMessage},
    rule::RuleAction,
};
use rtnetlink::{Handle, RouteMessageBuilder, RuleAddRequest, new_connection};
use tokio::runtime;

use super::{
    message::{self, Request, Requests},
    netns, power,
};
use crate::{
    error::{Context, Error, Result},
    plan::step::{IfIndex, Link, Step, Via},
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

    /// Carries out a step of a plan in its namespace.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn carry_out(&self, step: &Step) -> Result<()> {
        if let Step::Unplug { near, far } = step {
            return power::unplug(near, far).await;
        }
        let Requests { all, far_netns: _open } = message::of(step)?;
        for request in all {
            self.tell(request).await?;
        }
        Ok(())
    }

    async fn tell(&self, request: Request) -> Result<()> {
        let mut handle = self.handle.clone();
        let mut answers = handle.request(request).map_err(|error| Error::refused(error.to_string()))?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload {
                return Err(Error::refused(error.to_io().to_string()));
            }
        }
        Ok(())
    }

    /// Brings a link up.
    ///
    /// # Errors
    ///
    /// When there is no such link.
    pub async fn up(&self, index: IfIndex) -> Result<()> {
        self.tell(message::up(index)).await
    }

    /// Takes a link down.
    ///
    /// # Errors
    ///
    /// When there is no such link.
    pub async fn down(&self, index: IfIndex) -> Result<()> {
        self.tell(message::down(index)).await
    }

    pub(super) async fn set(&self, link: LinkMessage) -> Result<()> {
        self.tell(message::changed(link)).await
    }

    /// Lets a bridge port send a frame back where it came from.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn hairpin(&self, port: &Link) -> Result<()> {
        self.tell(message::hairpin(port)).await
    }

    /// Asks for one link, which makes the kernel notice its carrier now.
    ///
    /// # Errors
    ///
    /// When there is no such link.
    pub async fn settle(&self, link: &Link) -> Result<()> {
        self.tell(message::settle(link)).await
    }

    /// Adds a route, in the place of the one that leads there otherwise, if there is one.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, for instance because the gateway is no neighbour.
    pub async fn replace_route(&self, to: IpNet, via: &Via) -> Result<()> {
        self.tell(message::replaced_route(to, via)?).await
    }

    /// Sets the route to an address: over all of these gateways, or to nowhere if there is none.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, for instance because the link is down.
    pub async fn spread(&self, link: &Link, to: IpNet, gateways: &[IpAddr]) -> Result<()> {
        self.tell(message::spread(link, to, gateways)?).await
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

    /// All links of the namespace.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn links(&self) -> Result<Vec<LinkMessage>> {
        refusal(self.handle.link().get().execute().try_collect().await)
    }
}

/// The name in a link message.
pub fn link_name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// The kernel's answer in its own words: rtnetlink wraps the errno in a sentence of its own.
pub(super) fn refusal<T>(result: Result<T, rtnetlink::Error>) -> Result<T> {
    result.map_err(|error| match error {
        rtnetlink::Error::NetlinkError(message) => Error::refused(message.to_io().to_string()),
        other => Error::refused(other.to_string()),
    })
}
