//! Messages of nf_tables over netlink: a batch that takes effect whole or not at all, and the attributes in it.
//! Numbers are those of linux/netfilter/nf_tables.h and nfnetlink.h.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::netlink::{HEADER, Netlink};

/// `NFNL_SUBSYS_NFTABLES`.
pub(crate) const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NESTED: u16 = 0x8000;
const FLAGS_AT: usize = 6;

/// Address families of tables (`NFPROTO_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Inet = 1,
    Ipv4 = 2,
    Bridge = 7,
    Ipv6 = 10,
}

/// What a message does (`NFT_MSG_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    NewTable = 0,
    DelTable = 2,
    NewChain = 3,
    NewRule = 6,
    DelRule = 8,
    NewSet = 9,
    NewElements = 12,
    DelElements = 14,
}

/// The table that a notification is about, if it is one of nf_tables and about a table.
pub(crate) fn table_of(kind: u16, payload: &[u8]) -> Option<&[u8]> {
    // Every object's first attribute is the name of its table (`NFTA_*_TABLE`, `NFTA_TABLE_NAME`).
    if kind >> 8 != SUBSYSTEM {
        return None;
    }
    crate::netlink::attributes(payload.get(4..)?)
        .find(|(kind, _)| *kind == 1)
        .map(|(_, name)| name.strip_suffix(&[0]).unwrap_or(name))
}

/// Attributes under construction.
pub(crate) struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        // No value here is longer than some hundred bytes, but for nests, which check.
        let len = (4 + value.len()) as u16;
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.pad();
        self
    }

    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// A number, big-endian as all of nf_tables' are.
    pub(crate) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        fill(&mut Attributes(self.0));
        let len = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.0[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// Changes that take effect together.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Where each message starts; its number is filled in when it is sent.
    starts: Vec<usize>,
    /// What each does, for the error.
    subjects: Vec<String>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let mut batch = Self {
            bytes: Vec::with_capacity(1024),
            starts: Vec::new(),
            subjects: Vec::new(),
        };
        batch.frame(BATCH_BEGIN);
        batch
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.starts.len() == 1
    }

    fn frame(&mut self, kind: u16) {
        self.header(kind, NLM_F_REQUEST, 0, SUBSYSTEM, "the batch".into());
        self.close();
    }

    fn header(&mut self, kind: u16, flags: u16, family: u8, resource: u16, subject: String) {
        self.starts.push(self.bytes.len());
        self.subjects.push(subject);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        // `struct nfgenmsg`: family, version, resource.
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
    }

    fn close(&mut self) {
        let Some(start) = self.starts.last().copied() else {
            return;
        };
        let len = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
    }

    /// One more change. `subject` names it in an error.
    pub(crate) fn push(
        &mut self,
        verb: Verb,
        family: Family,
        subject: impl Into<String>,
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        let flags = match verb {
            Verb::DelTable | Verb::DelRule | Verb::DelElements => NLM_F_REQUEST,
            Verb::NewRule => NLM_F_REQUEST | NLM_F_CREATE | NLM_F_APPEND,
            _ => NLM_F_REQUEST | NLM_F_CREATE,
        };
        let kind = SUBSYSTEM << 8 | verb as u16;
        self.header(kind, flags, family as u8, 0, subject.into());
        fill(&mut Attributes(&mut self.bytes));
        self.close();
    }

    /// Numbers the messages, asks for an answer to the last change, and ends the batch.
    fn seal(&mut self, socket: &mut Netlink) -> Option<(u32, u32)> {
        let last = *self.starts.last().filter(|_| !self.is_empty())?;
        let flags =
            u16::from_ne_bytes([self.bytes[last + FLAGS_AT], self.bytes[last + FLAGS_AT + 1]]);
        self.bytes[last + FLAGS_AT..last + FLAGS_AT + 2]
            .copy_from_slice(&(flags | NLM_F_ACK).to_ne_bytes());
        self.frame(BATCH_END);
        let numbers: Vec<u32> = self.starts.iter().map(|_| socket.next_sequence()).collect();
        for (start, number) in self.starts.iter().zip(&numbers) {
            self.bytes[start + 8..start + 12].copy_from_slice(&number.to_ne_bytes());
        }
        Some((*numbers.first()?, *numbers.get(numbers.len() - 2)?))
    }
}

/// A connection to nf_tables of one network namespace.
#[derive(Debug)]
pub(crate) struct Nft(Netlink);

impl Nft {
    /// Opens one in the calling thread's namespace.
    pub(crate) fn open() -> io::Result<Self> {
        Netlink::open(NETLINK_NETFILTER).map(Self)
    }

    /// Identifies our own changes in notifications.
    pub(crate) fn port(&self) -> u32 {
        self.0.port()
    }

    pub(super) fn socket(&self) -> &Netlink {
        &self.0
    }

    /// A question, and the number that its answers carry.
    pub(super) fn request(
        &mut self,
        kind: u16,
        flags: u16,
        family: Family,
        fill: impl FnOnce(&mut Attributes<'_>),
    ) -> (Vec<u8>, u32) {
        let mut batch = Batch {
            bytes: Vec::with_capacity(128),
            starts: Vec::new(),
            subjects: Vec::new(),
        };
        batch.header(kind, flags, family as u8, 0, String::new());
        fill(&mut Attributes(&mut batch.bytes));
        batch.close();
        let number = self.0.next_sequence();
        batch.bytes[8..12].copy_from_slice(&number.to_ne_bytes());
        (batch.bytes, number)
    }

    /// Makes the changes, all or none; the error comes with the subject of the change that was refused.
    pub(crate) fn commit(&mut self, mut batch: Batch) -> Result<(), (String, io::Error)> {
        let Some((first, last)) = batch.seal(&mut self.0) else {
            return Ok(());
        };
        debug_assert!(batch.bytes.len() >= HEADER);
        self.0
            .transact(&batch.bytes, first, last, true)
            .map_err(|(number, error)| {
                let at = number.wrapping_sub(first) as usize;
                (batch.subjects.get(at).cloned().unwrap_or_default(), error)
            })
    }
}
