//! The expressions that rules are made of, and the registers between them: linux/netfilter/nf_tables.h.

use super::message::{Attributes, Batch, Family, Verb};

/// A 4-byte register, numbered from 0 to 15; 16-byte values take four of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Register(pub u32);

impl Register {
    /// `NFT_REG32_00` is 8.
    fn number(self) -> u32 {
        8 + self.0
    }
}

/// Where an IPv6 address is put for comparing: a register of 16 bytes.
const AT_IPV6: Register = Register(4);
/// Register 0, for comparing.
pub(crate) const R0: Register = Register(0);
const VERDICT_REGISTER: u32 = 0;

/// `NFT_META_*`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meta {
    Protocol = 1,
    InName = 6,
    OutName = 7,
    NfProto = 15,
    L4Proto = 16,
}

/// `NFT_PAYLOAD_*_HEADER`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Header {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict<'a> {
    Drop,
    Accept,
    Return,
    Jump(&'a str),
}

/// `NF_CT_STATE` bits of "established" and "related", as nft's `ct state` has them.
pub(crate) const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// `IPS_DST_NAT`.
pub(crate) const DESTINATION_TRANSLATED: u32 = 1 << 5;

/// A rule under construction: a list of expressions, each of which lets the packet go on to the next or ends the rule.
pub(crate) struct Rule<'a, 'b>(&'a mut Attributes<'b>);

impl Rule<'_, '_> {
    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        self.0.nest(1, |e| {
            e.text(1, name).nest(2, fill);
        });
        self
    }

    /// Loads a property of the packet.
    pub(crate) fn meta(&mut self, key: Meta, to: Register) -> &mut Self {
        self.expression("meta", |a| {
            a.number(1, to.number()).number(2, key as u32);
        })
    }

    /// Loads bytes of a header.
    pub(crate) fn payload(&mut self, header: Header, at: u32, len: u32, to: Register) -> &mut Self {
        self.expression("payload", |a| {
            a.number(1, to.number())
                .number(2, header as u32)
                .number(3, at)
                .number(4, len);
        })
    }

    fn compare(&mut self, from: Register, operation: u32, value: &[u8]) -> &mut Self {
        self.expression("cmp", |a| {
            a.number(1, from.number())
                .number(2, operation)
                .nest(3, |d| {
                    d.bytes(1, value);
                });
        })
    }

    /// Goes on if the register begins with `value`.
    pub(crate) fn equals(&mut self, from: Register, value: &[u8]) -> &mut Self {
        self.compare(from, 0, value)
    }

    /// Goes on if the register, masked, is not zero.
    fn any_bit(&mut self, register: Register, mask: u32) -> &mut Self {
        self.masked(register, &mask.to_ne_bytes())
            .compare(register, 1, &[0; 4])
    }

    fn masked(&mut self, register: Register, mask: &[u8]) -> &mut Self {
        self.expression("bitwise", |a| {
            a.number(1, register.number())
                .number(2, register.number())
                .number(3, mask.len() as u32)
                .nest(4, |d| {
                    d.bytes(1, mask);
                })
                .nest(5, |d| {
                    d.bytes(1, &[0; 4][..mask.len().min(4)]);
                });
        })
    }

    /// Goes on for IPv4 packets (in tables of family inet).
    pub(crate) fn ipv4(&mut self) -> &mut Self {
        self.meta(Meta::NfProto, R0).equals(R0, &[2])
    }

    /// Goes on for IPv6 packets (in tables of family inet).
    pub(crate) fn ipv6(&mut self) -> &mut Self {
        self.meta(Meta::NfProto, R0).equals(R0, &[10])
    }

    /// Goes on if the destination (of an IPv6 packet) is the loopback address.
    pub(crate) fn loopback_destination6(&mut self) -> &mut Self {
        self.payload(Header::Network, 24, 16, AT_IPV6)
            .equals(AT_IPV6, &std::net::Ipv6Addr::LOCALHOST.octets())
    }

    /// Goes on for ICMPv6 packets of this type; past it the header is at hand.
    pub(crate) fn icmpv6(&mut self, kind: u8) -> &mut Self {
        self.meta(Meta::L4Proto, R0)
            .equals(R0, &[58])
            .payload(Header::Transport, 0, 1, R0)
            .equals(R0, &[kind])
    }

    /// Goes on if the source (of an IPv4 packet) is a loopback address.
    pub(crate) fn loopback_source(&mut self) -> &mut Self {
        self.payload(Header::Network, 12, 1, R0).equals(R0, &[127])
    }

    /// Goes on if the destination (of an IPv4 packet) is a loopback address.
    pub(crate) fn loopback_destination(&mut self) -> &mut Self {
        self.payload(Header::Network, 16, 1, R0).equals(R0, &[127])
    }

    /// Goes on if the destination is an address of this host.
    pub(crate) fn own_destination(&mut self) -> &mut Self {
        // NFT_FIB_RESULT_ADDRTYPE of NFTA_FIB_F_DADDR is RTN_LOCAL.
        self.expression("fib", |a| {
            a.number(1, R0.number()).number(2, 3).number(3, 2);
        })
        .equals(R0, &2u32.to_ne_bytes())
    }

    /// Goes on if the connection's state is one of `states`.
    pub(crate) fn connection_state(&mut self, states: u32) -> &mut Self {
        self.expression("ct", |a| {
            a.number(1, R0.number()).number(2, 0);
        })
        .any_bit(R0, states)
    }

    /// Goes on if the connection has one of `bits` (`IPS_*`).
    pub(crate) fn connection_status(&mut self, bits: u32) -> &mut Self {
        self.expression("ct", |a| {
            a.number(1, R0.number()).number(2, 2);
        })
        .any_bit(R0, bits)
    }

    /// Goes on if what stands from `key` on is in the set.
    pub(crate) fn within(&mut self, set: &str, key: Register) -> &mut Self {
        self.expression("lookup", |a| {
            a.text(1, set).number(2, key.number());
        })
    }

    /// Goes on if it is not.
    pub(crate) fn not_within(&mut self, set: &str, key: Register) -> &mut Self {
        self.expression("lookup", |a| {
            a.text(1, set).number(2, key.number()).number(5, 1);
        })
    }

    /// Looks up what stands from `key` on in a map and loads what it is mapped to; goes on if there was something.
    pub(crate) fn mapped(&mut self, map: &str, key: Register, to: Register) -> &mut Self {
        self.expression("lookup", |a| {
            a.text(1, map)
                .number(2, key.number())
                .number(3, to.number());
        })
    }

    /// Sends the connection to the address, of this family, and port in two registers.
    pub(crate) fn redirect_to(
        &mut self,
        family: Family,
        address: Register,
        port: Register,
    ) -> &mut Self {
        self.expression("nat", |a| {
            a.number(1, 1)
                .number(2, family as u32)
                .number(3, address.number())
                .number(5, port.number());
        })
    }

    /// Loads a constant.
    pub(crate) fn constant(&mut self, value: &[u8], to: Register) -> &mut Self {
        self.expression("immediate", |a| {
            a.number(1, to.number()).nest(2, |d| {
                d.bytes(1, value);
            });
        })
    }

    /// Gives the connection the address of the outgoing interface.
    pub(crate) fn masquerade(&mut self) {
        self.expression("masq", |_| {});
    }

    /// Ends the rule.
    pub(crate) fn verdict(&mut self, verdict: Verdict<'_>) {
        let (code, chain) = match verdict {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3i32, Some(chain)),
            Verdict::Return => (-5, None),
        };
        self.expression("immediate", |a| {
            a.number(1, VERDICT_REGISTER).nest(2, |d| {
                d.nest(2, |v| {
                    v.number(1, code as u32);
                    if let Some(chain) = chain {
                        v.text(2, chain);
                    }
                });
            });
        });
    }
}

/// Where a base chain hangs (`NF_INET_*`, the same numbers for bridges).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hook {
    Prerouting = 0,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// A table of one family; writes into a batch.
pub(crate) struct Table<'a> {
    pub family: Family,
    pub name: &'a str,
    pub batch: &'a mut Batch,
}

/// The types that keys of sets are put together from: `nft` prints by them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Type {
    Ipv4 = 7,
    Ipv6 = 8,
    Ether = 9,
    Protocol = 12,
    Port = 13,
    Interface = 41,
}

impl Type {
    /// Bytes in registers.
    fn len(self) -> u32 {
        match self {
            Self::Ipv4 | Self::Protocol | Self::Port => 4,
            Self::Ether => 8,
            Self::Interface | Self::Ipv6 => 16,
        }
    }

    /// Bytes where it stands alone.
    fn lone_len(self) -> u32 {
        match self {
            Self::Ether => 6,
            Self::Protocol => 1,
            Self::Port => 2,
            _ => self.len(),
        }
    }
}

fn key(types: &[Type]) -> (u32, u32) {
    let kind = types.iter().fold(0, |kind, t| kind << 6 | *t as u32);
    match types {
        [lone] => (kind, lone.lone_len()),
        many => (kind, many.iter().map(|t| t.len()).sum()),
    }
}

impl Table<'_> {
    /// Makes the table, empty, whatever was in it.
    pub(crate) fn replace(&mut self) {
        self.create();
        self.delete();
        self.create();
    }

    /// Makes the table if there is none.
    pub(crate) fn create(&mut self) {
        let name = self.name;
        self.batch
            .push(Verb::NewTable, self.family, format!("table {name}"), |a| {
                a.text(1, name);
            });
    }

    /// Removes the table and all that is in it.
    pub(crate) fn delete(&mut self) {
        let name = self.name;
        let subject = format!("removal of table {name}");
        self.batch.push(Verb::DelTable, self.family, subject, |a| {
            a.text(1, name);
        });
    }

    /// A chain that is jumped to.
    pub(crate) fn chain(&mut self, name: &str) {
        let table = self.name;
        self.batch
            .push(Verb::NewChain, self.family, format!("chain {name}"), |a| {
                a.text(1, table).text(3, name);
            });
    }

    /// A chain at a hook, of `kind` `filter` or `nat`, that accepts what it does not decide.
    pub(crate) fn base_chain(&mut self, name: &str, kind: &str, hook: Hook, priority: i32) {
        let table = self.name;
        self.batch
            .push(Verb::NewChain, self.family, format!("chain {name}"), |a| {
                a.text(1, table)
                    .text(3, name)
                    .nest(4, |h| {
                        h.number(1, hook as u32).number(2, priority as u32);
                    })
                    .number(5, 1)
                    .text(7, kind);
            });
    }

    /// A rule at the end of a chain.
    pub(crate) fn rule(&mut self, chain: &str, fill: impl FnOnce(&mut Rule<'_, '_>)) {
        let table = self.name;
        let subject = format!("a rule of chain {chain}");
        self.batch.push(Verb::NewRule, self.family, subject, |a| {
            a.text(1, table)
                .text(2, chain)
                .nest(4, |list| fill(&mut Rule(list)));
        });
    }

    /// A rule at the end of a chain with words that those see who list it.
    pub(crate) fn noted_rule(
        &mut self,
        chain: &str,
        comment: &str,
        fill: impl FnOnce(&mut Rule<'_, '_>),
    ) {
        let table = self.name;
        let subject = format!("a rule of chain {chain}");
        self.batch.push(Verb::NewRule, self.family, subject, |a| {
            a.text(1, table)
                .text(2, chain)
                .nest(4, |list| fill(&mut Rule(list)))
                .bytes(7, &super::listing::note(comment));
        });
    }

    /// A set of keys.
    pub(crate) fn set(&mut self, name: &str, types: &[Type]) {
        self.keyed(name, 0, types, None);
    }

    /// A map from keys to values.
    pub(crate) fn map(&mut self, name: &str, types: &[Type], values: &[Type]) {
        self.keyed(name, 8, types, Some(key(values)));
    }

    fn keyed(&mut self, name: &str, flags: u32, types: &[Type], value: Option<(u32, u32)>) {
        let table = self.name;
        let (kind, len) = key(types);
        // The number ties the set to rules of the same batch; any that differs will do.
        let number = crate::names::hash(name.as_bytes()) as u32;
        self.batch
            .push(Verb::NewSet, self.family, format!("set {name}"), |a| {
                a.text(1, table)
                    .text(2, name)
                    .number(3, flags)
                    .number(4, kind)
                    .number(5, len);
                if let Some((kind, len)) = value {
                    a.number(6, kind).number(7, len);
                }
                a.number(10, number);
            });
    }

    /// Adds a key (and what it is mapped to); one that is there already stays.
    pub(crate) fn add(&mut self, set: &str, key: &[u8], value: Option<&[u8]>) {
        self.element(Verb::NewElements, set, key, value);
    }

    /// Removes a key.
    pub(crate) fn remove(&mut self, set: &str, key: &[u8]) {
        self.element(Verb::DelElements, set, key, None);
    }

    fn element(&mut self, verb: Verb, set: &str, key: &[u8], value: Option<&[u8]>) {
        let table = self.name;
        let subject = format!("an element of {set}");
        self.batch.push(verb, self.family, subject, |a| {
            a.text(1, table).text(2, set).nest(3, |list| {
                list.nest(1, |element| {
                    element.nest(1, |d| {
                        d.bytes(1, key);
                    });
                    if let Some(value) = value {
                        element.nest(2, |d| {
                            d.bytes(1, value);
                        });
                    }
                });
            });
        });
    }
}
