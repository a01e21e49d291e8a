//! Netlink messages and their attributes, as bytes.
//!
//! An attribute is its length, its type and its value; a nested one has attributes for a value. Numbers
//! are the sender's own in headers, and big-endian in nftables' attributes.

use netlink_packet_core::{NLA_F_NESTED, NLM_F_REQUEST};

/// The length and the type of an attribute.
const HEADER: usize = 4;
/// The length of a message, its type, flags, number and sender; family, version and resource.
const MESSAGE_HEADER: usize = 20;

/// Bytes that become messages.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

/// What the headers of a message say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) kind: u16,
    /// Besides `NLM_F_REQUEST`.
    pub(super) flags: u16,
    pub(super) number: u32,
    pub(super) family: u8,
    pub(super) resource: u16,
}

impl Writer {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// A message with what `body` writes into it; `None` if that is nothing that can be written.
    pub(super) fn message(&mut self, head: Head, body: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(head.kind.to_ne_bytes());
        self.bytes.extend((head.flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend(head.number.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([head.family, 0]);
        self.bytes.extend(head.resource.to_be_bytes());
        debug_assert_eq!(self.bytes.len() - start, MESSAGE_HEADER);
        body(self)?;
        let length = u32::try_from(self.bytes.len() - start).ok()?;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        Some(())
    }

    /// An attribute with these bytes.
    pub(super) fn raw(&mut self, kind: u16, value: &[u8]) -> Option<()> {
        let length = u16::try_from(HEADER + value.len()).ok()?;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad();
        Some(())
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) -> Option<()> {
        self.raw(kind, &value.to_be_bytes())
    }

    /// With the zero byte at its end.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> Option<()> {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.raw(kind, &bytes)
    }

    /// An attribute with the attributes that `body` writes.
    pub(super) fn nested(&mut self, kind: u16, body: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NLA_F_NESTED).to_ne_bytes());
        body(self)?;
        let length = u16::try_from(self.bytes.len() - start).ok()?;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        Some(())
    }

    /// What follows begins at a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_headers_and_padding_comes_after() {
        let mut writer = Writer::default();
        let head = Head { kind: 0x0a06, flags: 0x400, number: 7, family: 2, resource: 10 };
        let body = |writer: &mut Writer| writer.nested(4, |writer| writer.text(1, "ab"));
        assert_eq!(writer.message(head, body), Some(()));
        let bytes = writer.into_bytes();
        assert_eq!(bytes.len(), MESSAGE_HEADER + 4 + 8);
        assert_eq!(bytes[..4], 32_u32.to_ne_bytes());
        assert_eq!(bytes[16..20], [2, 0, 0, 10]);
        assert_eq!(bytes[20..22], 12_u16.to_ne_bytes());
        assert_eq!(bytes[22..24], (4_u16 | 0x8000).to_ne_bytes());
        assert_eq!(bytes[24..26], 7_u16.to_ne_bytes());
        assert_eq!(bytes[28..], [b'a', b'b', 0, 0]);
    }

    #[test]
    fn what_is_too_long_for_an_attribute_is_not_cut() {
        let mut writer = Writer::default();
        assert_eq!(writer.raw(1, &vec![0; 1 << 16]), None);
        assert_eq!(writer.nested(1, |writer| (0..2).try_for_each(|_| writer.raw(1, &vec![0; 40_000]))), None);
    }
}
