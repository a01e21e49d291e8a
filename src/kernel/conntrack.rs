//! The connections that a namespace's conntrack knows, over ctnetlink: listed, and deleted.
//!
//! What conntrack knows outlives the rules: they are asked only about the first packet of a
//! connection. `/proc/net/nf_conntrack` would show the same, but not to who is root in a user
//! namespace only, and nothing can be deleted there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use futures::{StreamExt, stream};
use netlink_packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, Nla,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{
        ConntrackAttribute, ConntrackMessage, ConntrackMessageType, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple,
        Protocol, Status, Tuple,
    },
};
use netlink_proto::{
    ConnectionHandle, new_connection,
    sys::{SocketAddr as NetlinkAddr, protocols::NETLINK_NETFILTER},
};
use nix::errno::Errno;
use tokio::runtime;

use super::netns;
use crate::{
    error::{Context, Error, Result},
    proxy::flow::{Connection, Flow, TcpState, Transport, Way},
};

/// How many deletions are under way at a time.
const AT_ONCE: usize = 64;

/// A socket for the conntrack table of one namespace. Its task on the runtime ends when the last
/// clone of it is dropped.
#[derive(Debug, Clone)]
pub struct Conntrack {
    handle: ConnectionHandle<NetfilterMessage>,
}

/// Which connections. The kernel picks them out if it can (since Linux 5.8, and 5.16 for those
/// without an answer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those that speak this.
    Of(Transport),
    /// Those that nothing came back for.
    Unanswered,
}

impl Which {
    fn takes(self, connection: &Connection) -> bool {
        match self {
            Which::All => true,
            Which::Of(transport) => connection.flow.transport == transport,
            Which::Unanswered => !connection.answered,
        }
    }
}

impl Conntrack {
    /// Opens a socket in the calling thread's namespace; it is driven by `runtime`.
    ///
    /// # Errors
    ///
    /// When the kernel gives no socket.
    pub fn open(runtime: &runtime::Handle) -> Result<Self> {
        let _guard = runtime.enter();
        let opened = new_connection::<NetfilterMessage>(NETLINK_NETFILTER);
        let (connection, handle, _) = opened.context("cannot open a netfilter socket")?;
        runtime.spawn(connection);
        Ok(Conntrack { handle })
    }

    /// Opens a socket in a namespace by name.
    ///
    /// # Errors
    ///
    /// When there is no such namespace.
    pub fn open_in(netns: &str, runtime: &runtime::Handle) -> Result<Self> {
        netns::inside(netns, || Conntrack::open(runtime))
    }

    /// The connections, in no particular order.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, for instance because it has no ctnetlink.
    pub async fn connections(&self, which: Which) -> Result<Vec<Connection>> {
        self.pick(which, Some).await
    }

    /// The connection that began like this, of a protocol with ports, if there is one.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn find(&self, transport: Transport, original: Way) -> Result<Option<Connection>> {
        let get = ConntrackMessage::Get(vec![tuple(transport, original)]);
        let request = message(family_of(original.to.ip()), NLM_F_REQUEST, get);
        let mut replies = self.handle.request(request, NetlinkAddr::new(0, 0)).context("cannot ask conntrack")?;
        while let Some(reply) = replies.next().await {
            match error_in(&reply) {
                Some(Errno::ENOENT) => return Ok(None),
                Some(errno) => return Err(refused(errno)),
                None => {}
            }
            if let Some(connection) = read(reply) {
                return Ok(Some(connection));
            }
        }
        Ok(None)
    }

    /// Deletes a connection of a protocol with ports; its next packet is a first one again, for
    /// which the rules are asked. False if there is none (any more).
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn delete(&self, flow: &Flow) -> Result<bool> {
        let family = family_of(flow.original.to.ip());
        let request = message(
            family,
            NLM_F_REQUEST | NLM_F_ACK,
            ConntrackMessage::Delete(vec![tuple(flow.transport, flow.original)]),
        );
        let mut replies = self.handle.request(request, NetlinkAddr::new(0, 0)).context("cannot ask conntrack")?;
        while let Some(reply) = replies.next().await {
            if let Some(errno) = error_in(&reply) {
                return match errno {
                    Errno::ENOENT => Ok(false),
                    errno => Err(refused(errno)),
                };
            }
        }
        Ok(true)
    }

    /// Deletes the connections that `is_over` says it of, and tells how many. Only these are kept
    /// in memory meanwhile.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn delete_if(&self, which: Which, is_over: impl Fn(&Connection) -> bool) -> Result<usize> {
        let over = self.pick(which, |connection| is_over(&connection).then_some(connection.flow)).await?;
        let deletions = stream::iter(over).map(|flow| async move { self.delete(&flow).await });
        let results: Vec<Result<bool>> = deletions.buffer_unordered(AT_ONCE).collect().await;
        results.into_iter().try_fold(0, |count, deleted| Ok(count + usize::from(deleted?)))
    }

    /// Those that `keep` makes something of. What the kernel refuses to pick out is picked out here.
    async fn pick<T>(&self, which: Which, keep: impl Fn(Connection) -> Option<T>) -> Result<Vec<T>> {
        let mut picked = Vec::new();
        for Question { family, conditions } in questions(which) {
            match self.dump(which, family, conditions, &keep).await? {
                Dumped::Picked(some) => picked.extend(some),
                Dumped::Refused(_) if which != Which::All => {
                    return match self.dump(which, NetfilterProtoFamily::Unspec, Vec::new(), &keep).await? {
                        Dumped::Picked(all) => Ok(all),
                        Dumped::Refused(errno) => Err(refused(errno)),
                    };
                }
                Dumped::Refused(errno) => return Err(refused(errno)),
            }
        }
        Ok(picked)
    }

    async fn dump<T>(
        &self,
        which: Which,
        family: NetfilterProtoFamily,
        attributes: Vec<DefaultNla>,
        keep: &impl Fn(Connection) -> Option<T>,
    ) -> Result<Dumped<T>> {
        // Not `ConntrackMessage::Get`, whose attributes of unknown kinds lose NLA_F_NESTED, on
        // which the kernel insists for CTA_FILTER.
        let message_type = ConntrackMessageType::Get.into();
        let get = ConntrackMessage::Other { message_type, attributes };
        let request = message(family, NLM_F_REQUEST | NLM_F_DUMP, get);
        let mut replies = self.handle.request(request, NetlinkAddr::new(0, 0)).context("cannot ask conntrack")?;
        let mut picked = Vec::new();
        while let Some(reply) = replies.next().await {
            if let Some(errno) = error_in(&reply) {
                return Ok(Dumped::Refused(errno));
            }
            // A kernel that does not know a condition ignores it.
            picked.extend(read(reply).filter(|connection| which.takes(connection)).and_then(keep));
        }
        Ok(Dumped::Picked(picked))
    }
}

/// What came of asking for connections.
enum Dumped<T> {
    Picked(Vec<T>),
    Refused(Errno),
}

fn refused(errno: Errno) -> Error {
    let error = Error::refused(format!("conntrack refuses: {}", errno.desc()));
    match errno {
        // What nfnetlink says when nobody has registered for ctnetlink.
        Errno::EINVAL | Errno::EOPNOTSUPP => {
            error.hint("is the kernel's nf_conntrack_netlink there? try `modprobe nf_conntrack_netlink`")
        }
        _ => error,
    }
}

fn error_in(reply: &NetlinkMessage<NetfilterMessage>) -> Option<Errno> {
    let NetlinkPayload::Error(error) = &reply.payload else { return None };
    error.code.map(|code| Errno::from_raw(code.get().saturating_abs()))
}

fn message(family: NetfilterProtoFamily, flags: u16, message: ConntrackMessage) -> NetlinkMessage<NetfilterMessage> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
    NetlinkMessage::new(header, NetlinkPayload::from(message))
}

fn family_of(ip: IpAddr) -> NetfilterProtoFamily {
    match ip {
        IpAddr::V4(_) => NetfilterProtoFamily::IPv4,
        IpAddr::V6(_) => NetfilterProtoFamily::IPv6,
    }
}

/// The tuple by which the kernel finds a connection.
fn tuple(transport: Transport, Way { from, to }: Way) -> ConntrackAttribute {
    ConntrackAttribute::CtaTupleOrig(vec![
        Tuple::Ip(vec![IPTuple::SourceAddress(from.ip()), IPTuple::DestinationAddress(to.ip())]),
        Tuple::Proto(vec![
            ProtoTuple::Protocol(transport.number().into()),
            ProtoTuple::SourcePort(from.port()),
            ProtoTuple::DestinationPort(to.port()),
        ]),
    ])
}

/// What the kernel is asked for, and what it is to pick out by itself.
struct Question {
    family: NetfilterProtoFamily,
    conditions: Vec<DefaultNla>,
}

fn questions(which: Which) -> Vec<Question> {
    // linux/netfilter/nfnetlink_conntrack.h; the flags are in net/netfilter/nf_internals.h.
    const CTA_TUPLE_ORIG: u16 = 1;
    const CTA_TUPLE_PROTO: u16 = 2;
    const CTA_STATUS: u16 = 3;
    const CTA_FILTER: u16 = 25;
    const CTA_STATUS_MASK: u16 = 26;
    const CTA_FILTER_ORIG_FLAGS: u16 = 1;
    const CTA_FILTER_REPLY_FLAGS: u16 = 2;
    const CTA_FILTER_F_CTA_PROTO_NUM: u32 = 1 << 3;
    let any = NetfilterProtoFamily::Unspec;
    match which {
        Which::All => vec![Question { family: any, conditions: Vec::new() }],
        Which::Of(transport) => {
            let protocol = nested(CTA_TUPLE_PROTO, &[ProtoTuple::Protocol(transport.number().into())]);
            let flags = [(CTA_FILTER_ORIG_FLAGS, CTA_FILTER_F_CTA_PROTO_NUM), (CTA_FILTER_REPLY_FLAGS, 0)];
            let flags = flags.map(|(kind, flags)| DefaultNla::new(kind, flags.to_ne_bytes().to_vec()));
            let conditions = vec![nested(CTA_TUPLE_ORIG, &[protocol]), nested(CTA_FILTER, &flags)];
            // The kernel compares tuples of one family at a time.
            let families = [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6];
            families.map(|family| Question { family, conditions: conditions.clone() }).into()
        }
        Which::Unanswered => {
            let bits = |kind, status: Status| DefaultNla::new(kind, status.bits().to_be_bytes().to_vec());
            let conditions = vec![bits(CTA_STATUS, Status::empty()), bits(CTA_STATUS_MASK, Status::SeenReply)];
            vec![Question { family: any, conditions }]
        }
    }
}

/// An attribute made of others.
fn nested<T: Nla>(kind: u16, parts: &[T]) -> DefaultNla {
    let mut value = vec![0; parts.buffer_len()];
    parts.emit(&mut value);
    DefaultNla::new(kind | NLA_F_NESTED, value)
}

/// A connection as the kernel tells it; `None` for what is no connection.
fn read(reply: NetlinkMessage<NetfilterMessage>) -> Option<Connection> {
    let NetlinkPayload::InnerMessage(message) = reply.payload else { return None };
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner else { return None };
    let (mut original, mut reply, mut tcp, mut status, mut expires) = (None, None, None, Status::empty(), None);
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => original = way(&tuple),
            ConntrackAttribute::CtaTupleReply(tuple) => reply = way(&tuple),
            ConntrackAttribute::CtaProtoInfo(infos) => tcp = infos.iter().find_map(tcp_state),
            ConntrackAttribute::CtaStatus(it) => status = it,
            ConntrackAttribute::CtaTimeout(seconds) => expires = Some(seconds),
            _ => {}
        }
    }
    let ((transport, original), (_, reply)) = (original?, reply?);
    Some(Connection {
        flow: Flow { transport, original, reply },
        tcp,
        answered: status.contains(Status::SeenReply),
        assured: status.contains(Status::Assured),
        expires,
    })
}

fn way(tuple: &[Tuple]) -> Option<(Transport, Way)> {
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let (mut way, mut transport) = (Way { from: any, to: any }, None);
    for part in tuple {
        match part {
            Tuple::Ip(addresses) => {
                for address in addresses {
                    match address {
                        IPTuple::SourceAddress(ip) => way.from.set_ip(*ip),
                        IPTuple::DestinationAddress(ip) => way.to.set_ip(*ip),
                        _ => {}
                    }
                }
            }
            Tuple::Proto(parts) => {
                for part in parts {
                    match part {
                        ProtoTuple::Protocol(protocol) => transport = Some(transport_of(*protocol)),
                        ProtoTuple::SourcePort(port) => way.from.set_port(*port),
                        ProtoTuple::DestinationPort(port) => way.to.set_port(*port),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some((transport?, way))
}

fn transport_of(protocol: Protocol) -> Transport {
    Transport::of(protocol.into())
}

fn tcp_state(info: &ProtoInfo) -> Option<TcpState> {
    let ProtoInfo::TCP(parts) = info else { return None };
    parts.iter().find_map(|part| match part {
        ProtoInfoTCP::State(number) => Some(TcpState::of(*number)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// As Linux 6.18 sends it: curl from 10.244.0.7 to the Service 10.96.1.1:80, for which
    /// 10.244.0.4 has answered.
    const RECORDED: &str = "\
        d40000000001020001000000b50200000200000034000180140001800800\
        01000af40007080002000a6001011c000280050001000600000006000200\
        83d000000600030000500000340002801400018008000100\
        0af40004080002000af400071c0002800500010006000000\
        06000200005000000600030083d0000008000300000001ae\
        080008000000000008000c002db81f6708000b0000000001\
        080007000000007730000480\
        2c000180050001000700000005000200\
        0a000000050003000a00000006000400270000000600050023000000";

    fn recorded() -> NetlinkMessage<NetfilterMessage> {
        NetlinkMessage::deserialize(&HEXLOWER.decode(RECORDED.as_bytes()).unwrap()).unwrap()
    }

    fn curls() -> Flow {
        let way = |from: &str, to: &str| Way { from: from.parse().unwrap(), to: to.parse().unwrap() };
        Flow {
            transport: Transport::Tcp,
            original: way("10.244.0.7:33744", "10.96.1.1:80"),
            reply: way("10.244.0.4:80", "10.244.0.7:33744"),
        }
    }

    #[test]
    fn reads_what_the_kernel_says() {
        let read = read(recorded()).unwrap();
        assert_eq!(read.flow, curls());
        assert_eq!((read.state(), read.expires), ("TIME_WAIT", Some(119)));
        assert!(read.answered && read.assured);
    }

    /// The kernel finds a connection by the tuple that it told of it.
    #[test]
    fn names_a_connection_as_the_kernel_does() {
        let NetlinkPayload::InnerMessage(message) = recorded().payload else { panic!("no message") };
        let NetfilterMessageInner::Conntrack(ConntrackMessage::New(told)) = message.inner else { panic!("not new") };
        assert_eq!(tuple(Transport::Tcp, curls().original), told[0]);
    }

    /// Byte by byte: what is nested must say so, or the kernel refuses.
    #[test]
    fn asks_the_kernel_to_pick_out() {
        let bytes = |which| {
            let [question, ..] = &questions(which)[..] else { panic!("nothing is asked") };
            let mut bytes = vec![0; question.conditions.as_slice().buffer_len()];
            question.conditions.as_slice().emit(&mut bytes);
            HEXLOWER.encode(&bytes)
        };
        assert_eq!(bytes(Which::All), "");
        assert_eq!(
            bytes(Which::Of(Transport::Udp)),
            "10000180".to_owned()
                + "0c000280"
                + "0500010011000000"
                + "14001980"
                + "0800010008000000"
                + "0800020000000000"
        );
        assert_eq!(bytes(Which::Unanswered), "0800030000000000".to_owned() + "08001a0000000002");
    }
}
