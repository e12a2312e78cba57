//! Reading what stands in tables of others: chains with their hooks and policies, and rules that carry a note of ours.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};

use super::expression::Hook;
use super::message::{Batch, Family, Nft, SUBSYSTEM, Verb};
use crate::netlink::attributes;
use crate::route::is_gone;

/// `NFT_MSG_GETCHAIN`, `NFT_MSG_GETRULE`.
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
/// `NF_DROP`.
const DROP: u32 = 0;
/// `NFTNL_UDATA_RULE_COMMENT` of libnftnl: nft and iptables show it.
const COMMENT: u8 = 0;

/// A chain of any table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub table: String,
    pub name: String,
    /// `NF_INET_*`, of a base chain.
    pub hook: Option<u32>,
    /// What it does not decide is dropped.
    pub drops: bool,
}

impl Chain {
    /// Whether it drops what is forwarded unless a rule accepts it.
    pub(crate) fn forbids_forwarding(&self) -> bool {
        self.drops && self.hook == Some(Hook::Forward as u32)
    }
}

/// A rule with a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Noted {
    pub handle: u64,
    pub comment: String,
}

/// The bytes that nft and iptables take for a comment.
pub(crate) fn note(comment: &str) -> Vec<u8> {
    let mut bytes = vec![COMMENT, (comment.len() + 1) as u8];
    bytes.extend_from_slice(comment.as_bytes());
    bytes.push(0);
    bytes
}

fn noted(user_data: &[u8]) -> Option<String> {
    match user_data {
        [COMMENT, len, rest @ ..] => {
            let text = rest.get(..usize::from(*len))?;
            let text = text.strip_suffix(&[0]).unwrap_or(text);
            String::from_utf8(text.to_vec()).ok()
        }
        _ => None,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn chain(payload: &[u8]) -> Chain {
    let mut chain = Chain {
        table: String::new(),
        name: String::new(),
        hook: None,
        drops: false,
    };
    for (kind, value) in attributes(payload) {
        match kind {
            1 => chain.table = text(value),
            3 => chain.name = text(value),
            4 => {
                let mut hook = attributes(value).filter(|(kind, _)| *kind == 1);
                chain.hook = hook.next().and_then(|(_, number)| self::number(number));
            }
            5 => chain.drops = number(value) == Some(DROP),
            _ => {}
        }
    }
    chain
}

impl Nft {
    fn list(
        &mut self,
        kind: u16,
        family: Family,
        fill: impl FnOnce(&mut super::message::Attributes<'_>),
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let kind = SUBSYSTEM << 8 | kind;
        let (request, sequence) = self.request(kind, NLM_F_REQUEST | NLM_F_DUMP, family, fill);
        let listed = self.socket().dump(&request, sequence, |message| {
            each(message.payload().get(4..).unwrap_or_default());
        });
        match listed {
            // A table that is not there has nothing in it.
            Err(e) if is_gone(&e) => Ok(()),
            other => other,
        }
    }

    /// All chains of a family.
    pub(crate) fn chains(&mut self, family: Family) -> io::Result<Vec<Chain>> {
        let mut found = Vec::new();
        self.list(
            GET_CHAIN,
            family,
            |_| {},
            |payload| found.push(chain(payload)),
        )?;
        Ok(found)
    }

    /// Rules of a chain that have a comment.
    pub(crate) fn noted_rules(
        &mut self,
        family: Family,
        table: &str,
        chain: &str,
    ) -> io::Result<Vec<Noted>> {
        let mut found = Vec::new();
        let asked = |a: &mut super::message::Attributes<'_>| {
            a.text(1, table).text(2, chain);
        };
        self.list(GET_RULE, family, asked, |payload| {
            let value = |wanted| attributes(payload).find(|(kind, _)| *kind == wanted);
            let handle = value(3).and_then(|(_, bytes)| bytes.try_into().ok());
            let comment = value(7).and_then(|(_, bytes)| noted(bytes));
            // Older kernels list the whole family.
            let there = value(1).is_some_and(|(_, name)| text(name) == table)
                && value(2).is_some_and(|(_, name)| text(name) == chain);
            if let (Some(handle), Some(comment), true) = (handle, comment, there) {
                found.push(Noted {
                    handle: u64::from_be_bytes(handle),
                    comment,
                });
            }
        })?;
        Ok(found)
    }
}

/// Removes one rule.
pub(crate) fn remove_rule(
    batch: &mut Batch,
    family: Family,
    (table, chain): (&str, &str),
    handle: u64,
) {
    let subject = format!("removal of a rule of chain {chain}");
    batch.push(Verb::DelRule, family, subject, |a| {
        a.text(1, table)
            .text(2, chain)
            .bytes(3, &handle.to_be_bytes());
    });
}
