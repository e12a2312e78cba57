//! Living beside dockerd, which drops on the whole machine whatever is forwarded and not its own.
//!
//! A base chain of ours that accepts does not overrule another's that drops, and it shall not: what the host's firewall
//! forbids stays forbidden. dockerd, though, sets the policy of `FORWARD` to drop because it turned forwarding on, not because
//! anybody wants containers cut off. Where its chain `DOCKER-USER` stands beside such a policy, packets from and to our bridges
//! are accepted at the very end of `FORWARD`: every rule of the host's (and of `DOCKER-USER`) has been asked by then, only the
//! policy is not. What is allowed between the bridges and the rest is for our own table to say, as ever.
//!
//! These are the only rules in a table of others. They carry a comment with the engine's table as its first word, have a form
//! that `iptables` (of nf_tables) can read and write, and go with the network. `iptables-legacy` is out of reach.

use std::io;

use crate::names::Names;
use crate::nft::expression::{Meta, R0, Table, Verdict};
use crate::nft::listing::{Chain, remove_rule};
use crate::nft::message::Family;
use crate::nft::{Batch, Nft};

const TABLE: &str = "filter";
const CHAIN: &str = "FORWARD";
const MARK: &str = "DOCKER-USER";
const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Whether a change of these names may concern what is done here.
pub(crate) fn is_about(table: &[u8]) -> bool {
    table == TABLE.as_bytes()
}

fn is_dockers(chains: &[Chain]) -> bool {
    let in_table = |name: &str| {
        chains
            .iter()
            .find(|c| c.table == TABLE && c.name == name)
            .cloned()
    };
    in_table(MARK).is_some() && in_table(CHAIN).is_some_and(|c| c.forbids_forwarding())
}

fn wanted(names: &Names, bridges: &[String]) -> Vec<(String, Meta, String)> {
    let sides = [("from", Meta::InName), ("to", Meta::OutName)];
    bridges
        .iter()
        .flat_map(|bridge| {
            sides.map(|(word, side)| {
                let comment = format!("{} {word} {bridge}", names.table);
                (comment, side, bridge.clone())
            })
        })
        .collect()
}

/// Adds what is missing for these bridges and removes what is ours and not for them.
pub(crate) fn ensure(nft: &mut Nft, names: &Names, bridges: &[String]) -> io::Result<()> {
    for family in FAMILIES {
        let chains = nft.chains(family)?;
        if !chains.iter().any(|c| c.table == TABLE && c.name == CHAIN) {
            continue;
        }
        let wanted = match is_dockers(&chains) {
            true => wanted(names, bridges),
            false => Vec::new(),
        };
        let own = format!("{} ", names.table);
        let mut there = nft.noted_rules(family, TABLE, CHAIN)?;
        there.retain(|rule| rule.comment.starts_with(&own));
        let mut batch = Batch::new();
        for rule in &there {
            if !wanted.iter().any(|(comment, ..)| *comment == rule.comment) {
                remove_rule(&mut batch, family, (TABLE, CHAIN), rule.handle);
            }
        }
        let mut table = Table {
            family,
            name: TABLE,
            batch: &mut batch,
        };
        for (comment, side, bridge) in &wanted {
            if there.iter().any(|rule| rule.comment == *comment) {
                continue;
            }
            // With its terminating zero it is the whole name that counts, as iptables' own rules have it.
            let name = [bridge.as_bytes(), &[0]].concat();
            table.noted_rule(CHAIN, comment, |r| {
                r.meta(*side, R0).equals(R0, &name).verdict(Verdict::Accept);
            });
        }
        nft.commit(batch).map_err(|(_, error)| error)?;
    }
    Ok(())
}

/// Chains of the host, `family table chain`, that drop by policy what is forwarded, and that nothing is done about.
pub(crate) fn forbidding(nft: &mut Nft) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for (family, word) in [(Family::Inet, "inet"), (Family::Ipv4, "ip")] {
        let chains = nft.chains(family)?;
        let answered = family != Family::Inet && is_dockers(&chains);
        found.extend(
            chains
                .iter()
                .filter(|c| c.forbids_forwarding())
                .filter(|c| !(answered && c.table == TABLE && c.name == CHAIN))
                .map(|c| format!("{word} {} {}", c.table, c.name)),
        );
    }
    Ok(found)
}
