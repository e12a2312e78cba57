//! Hears from the kernel when others take away rules, bridges or addresses of ours, and puts them back at once.
//!
//! Firewall reloads flush whole rule sets; without this, isolation and published ports would be gone until the next start.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::netlink::{Message, Netlink, attributes, errno, messages};
use crate::networks::Inner;
use crate::nft::message::table_of;
use crate::record::Driver;
use crate::{Error, Result, background, forward_policy, kept, repair};

/// `NFNLGRP_NFTABLES`.
const RULES: u32 = 7;
/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV6_IFADDR`.
const LINKS: u32 = 1;
const ADDRESSES: u32 = 5;
const ADDRESSES6: u32 = 9;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_DELADDR: u16 = 21;
const IFLA_IFNAME: u16 = 3;
/// `NFT_MSG_*`.
const NEW_CHAIN: u16 = 3;
const DEL_CHAIN: u16 = 5;
const DEL_RULE: u16 = 8;
const IFF_UP: u32 = 1;
/// Time between two repairs, in milliseconds: whoever deletes in a loop gets no engine that does nothing else.
const PAUSE: i64 = 100;
/// Time after which a repair that failed is tried again, in milliseconds.
const RETRY: i64 = 500;

/// The thread that listens.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Arc<OwnedFd>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Watch {
    /// Listens from now on; what changes after this call is noticed.
    pub(crate) fn start(inner: &Arc<Inner>) -> Result<Self> {
        let on = |e: io::Error| Error::kernel("listen to changes of the network by others", e);
        let mut rules = Netlink::open(NETLINK_NETFILTER).map_err(on)?;
        rules.join(RULES).map_err(on)?;
        let mut links = Netlink::open(NETLINK_ROUTE).map_err(on)?;
        links.join(LINKS).map_err(on)?;
        links.join(ADDRESSES).map_err(on)?;
        links.join(ADDRESSES6).map_err(on)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|e| on(e.into()))?;
        let stop = Arc::new(stop);
        let ear = Ear {
            own_port: inner.state().nft.port(),
            table: inner.names.table.clone(),
            inner: Arc::downgrade(inner),
            stop: Arc::clone(&stop),
            rules,
            links,
        };
        let thread = std::thread::Builder::new()
            .name("network-watch".into())
            .spawn(move || kept::keep("network-watch", |again| ear.listen(again)))
            .map_err(on)?;
        Ok(Self {
            stop,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(thread) = thread else {
            return;
        };
        if let Err(e) = rustix::io::write(&self.stop, &1u64.to_ne_bytes()) {
            tracing::error!("cannot stop listening to changes of the network: {e}");
            return;
        }
        if thread.join().is_err() {
            tracing::error!("the thread that listens to changes of the network panicked");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Ear {
    inner: Weak<Inner>,
    stop: Arc<OwnedFd>,
    rules: Netlink,
    links: Netlink,
    /// Changes under this name are our own.
    own_port: u32,
    table: String,
}

/// Which of the sockets have something to say.
struct Heard {
    stop: bool,
    rules: bool,
    links: bool,
}

/// What was told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// Something of ours is gone.
    loss: bool,
    /// The host's policy for what is forwarded may have changed.
    policy: bool,
}

impl Ear {
    /// `retry`: something may have been lost that nobody will tell of again.
    fn listen(&self, mut retry: bool) {
        loop {
            let heard = match self.wait(retry.then_some(RETRY)) {
                Ok(heard) => heard,
                Err(e) => {
                    tracing::error!("no longer listening to changes of the network: {e}");
                    return;
                }
            };
            if heard.stop {
                return;
            }
            let found = self.read(&heard);
            if found == Found::default() && !retry {
                continue;
            }
            let Some(inner) = self.inner.upgrade() else {
                return;
            };
            if found.loss || retry {
                retry = !self.repair(&inner);
            } else {
                let mut state = inner.state();
                if !state.closed {
                    state.pass_dockers_policy(&inner.names);
                }
            }
            drop(inner);
            if self.pause() {
                return;
            }
        }
    }

    fn wait(&self, patience: Option<i64>) -> io::Result<Heard> {
        let mut sockets = [
            PollFd::new(&self.stop, PollFlags::IN),
            PollFd::new(&self.rules, PollFlags::IN),
            PollFd::new(&self.links, PollFlags::IN),
        ];
        let patience = patience.map(time);
        loop {
            match poll(&mut sockets, patience.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
                Ok(_) => break,
            }
        }
        let [stop, rules, links] = sockets.map(|s| !s.revents().is_empty());
        Ok(Heard { stop, rules, links })
    }

    /// True if the thread shall end.
    fn pause(&self) -> bool {
        let mut stop = [PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN)];
        matches!(poll(&mut stop, Some(&time(PAUSE))), Ok(n) if n > 0)
    }

    /// Reads what there is.
    fn read(&self, heard: &Heard) -> Found {
        let mut found = Found::default();
        if heard.rules {
            let mut policy = false;
            found.loss |= any(&self.rules, |m| {
                policy |= self.is_policy(m);
                self.is_rule_loss(m)
            });
            found.policy = policy;
        }
        if heard.links {
            found.loss |= any(&self.links, |m| self.is_link_loss(m));
        }
        found
    }

    /// A chain made, changed or removed, or a rule removed, where dockerd keeps its policy.
    fn is_policy(&self, message: Message<'_>) -> bool {
        message.port != self.own_port
            && matches!(message.kind & 0xff, NEW_CHAIN | DEL_CHAIN | DEL_RULE)
            && table_of(message.kind, message.payload()).is_some_and(forward_policy::is_about)
    }

    /// Any change of our tables that is not our own.
    fn is_rule_loss(&self, message: Message<'_>) -> bool {
        message.port != self.own_port
            && table_of(message.kind, message.payload()) == Some(self.table.as_bytes())
    }

    /// A bridge of ours removed or turned down, or without its address; a veth of ours removed.
    fn is_link_loss(&self, message: Message<'_>) -> bool {
        let word = |at: usize| {
            let bytes = message.payload().get(at..at + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let (Some(index), Some(inner)) = (word(4), self.inner.upgrade()) else {
            return false;
        };
        match message.kind {
            // `struct ifinfomsg`: family, type, index, flags. Of family 0: others tell of bridge ports.
            RTM_DELLINK | RTM_NEWLINK if message.payload().first() == Some(&0) => {
                let up = word(8).is_some_and(|flags| flags & IFF_UP != 0);
                if message.kind == RTM_NEWLINK && up {
                    return false;
                }
                // Bridges are born down, which is told before they are up.
                let down = |bridge: &str| message.kind == RTM_DELLINK || !is_up(bridge);
                let name = attributes(message.payload().get(16..).unwrap_or_default())
                    .find(|(kind, _)| *kind == IFLA_IFNAME)
                    .map(|(_, name)| name.strip_suffix(&[0]).unwrap_or(name));
                let bridge = is_bridge(&inner, |bridge, _| {
                    Some(bridge.as_bytes()) == name && down(bridge)
                });
                bridge || (message.kind == RTM_DELLINK && is_veth(&inner, name))
            }
            // `struct ifaddrmsg`: family, prefix, flags, scope, index.
            RTM_DELADDR => is_bridge(&inner, |_, number| number == index),
            _ => false,
        }
    }

    fn repair(&self, inner: &Inner) -> bool {
        let mut state = inner.state();
        if state.closed {
            return true;
        }
        match repair::all(&mut state, &inner.names, &inner.options) {
            Ok(()) => {
                inner.aim(&state);
                tracing::info!("networks were changed by others and are put right");
                true
            }
            Err(e) => {
                tracing::error!("cannot repair the networks: {}", background::with_cause(&e));
                false
            }
        }
    }
}

fn is_up(link: &str) -> bool {
    std::fs::read_to_string(format!("/sys/class/net/{link}/flags"))
        .ok()
        .and_then(|text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok())
        .is_some_and(|flags| flags & IFF_UP != 0)
}

fn time(milliseconds: i64) -> Timespec {
    Timespec {
        tv_sec: milliseconds / 1000,
        tv_nsec: milliseconds % 1000 * 1_000_000,
    }
}

/// Reads one datagram; true if `what` holds for a message in it, or if some were lost.
fn any(socket: &Netlink, what: impl FnMut(Message<'_>) -> bool) -> bool {
    match socket.receive() {
        Ok(datagram) => messages(&datagram).any(what),
        // ENOBUFS: more was said than we could hear.
        Err(e) => errno(&e) == Some(105),
    }
}

/// Whether an endpoint has this interface.
fn is_veth(inner: &Inner, name: Option<&[u8]>) -> bool {
    let state = inner.state();
    state
        .rooms
        .values()
        .flat_map(|room| &room.members)
        .any(|member| Some(member.veth.host.as_bytes()) == name)
}

fn is_bridge(inner: &Inner, what: impl Fn(&str, u32) -> bool) -> bool {
    let state = inner.state();
    state
        .networks
        .values()
        .filter(|n| n.record.driver == Driver::Bridge)
        .any(|n| what(&n.record.bridge, n.bridge))
}
