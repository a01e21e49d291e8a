//! Captured packets as a pcapng file, which Wireshark and tcpdump read: one interface for each of
//! every namespace, called `NAMESPACE/NAME`.

use std::{borrow::Cow, time::Duration};

use pcap_file::{
    DataLink, PcapError,
    pcapng::{
        PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
        },
    },
};

use crate::probe::capture::Captured;

/// Times are in units of 10 to the power of minus this, in seconds.
const RESOLUTION: u8 = 9;
/// The flags word of a packet: the way it went.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// The bytes of the file.
///
/// # Errors
///
/// When a packet is of no interface.
pub fn render(captured: &Captured) -> Result<Vec<u8>, PcapError> {
    let mut writer = PcapNgWriter::new(Vec::new())?;
    for interface in &captured.interfaces {
        let name = format!("{}/{}", interface.netns, interface.name);
        let options =
            vec![InterfaceDescriptionOption::IfName(name.into()), InterfaceDescriptionOption::IfTsResol(RESOLUTION)];
        let snaplen = 0;
        writer.write_pcapng_block(InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen, options })?;
    }
    for packet in &captured.packets {
        let way = if packet.outgoing { OUTBOUND } else { INBOUND };
        writer.write_pcapng_block(EnhancedPacketBlock {
            interface_id: u32::try_from(packet.interface).unwrap_or(u32::MAX),
            timestamp: Duration::from_nanos(packet.nanos),
            original_len: u32::try_from(packet.frame.len()).unwrap_or(u32::MAX),
            data: Cow::Borrowed(&packet.frame),
            options: vec![EnhancedPacketOption::Flags(way)],
        })?;
    }
    Ok(writer.into_inner())
}
