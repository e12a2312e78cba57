//! Networks, sandboxes, endpoints, addresses, published ports and names.
//!
//! A *network* is a bridge with a subnet; a *sandbox* is a network namespace that a container lives in; an *endpoint* is a
//! sandbox's membership of a network (an address and a veth pair); a *published port* is a host port that leads to one of an
//! endpoint's. The engine records networks and endpoints ([`record`]) and hands them back to [`Networks::open`] when it
//! starts again: the kernel is then made to agree with them.
//!
//! Speaks netlink in process: rtnetlink for links, addresses and routes, nftables for the rules, each change one atomic
//! batch. Every name carries the engine's instance, so several engines share a machine.
//!
//! Knows nothing of containers beyond an ID and a name, and reads no file of a container. All calls block.
//!
//! Begin with [`Networks`]: `open`, `sandbox`, `attach`, `release`.
#![forbid(unsafe_code)]

mod addresses;
mod attach;
mod background;
mod bridge;
mod claim;
mod conntrack;
mod create;
mod dns;
mod forward_policy;
mod forwarding;
mod kept;
mod macvlan;
mod names;
mod netlink;
mod netns;
mod nft;
mod open;
mod proxy;
mod publish;
mod repair;
mod route;
mod state;
mod subnet;
mod sysctl;
mod veth;
mod watch;

pub mod error;
pub mod hosts;
pub mod mac;
pub mod networks;
pub mod options;
pub mod port;
pub mod record;
pub mod resolv_conf;
pub mod sandbox;

pub use error::{Error, ErrorKind, Result};
pub use kept::KEPT_THREADS;
pub use mac::MacAddr;
pub use networks::Networks;
pub use options::{AddressPool, NetworkOptions};
pub use port::{HostPort, PortBinding, Protocol, PublishedPort};
pub use record::{
    Driver, Endpoint, EndpointRequest, Existing, NetworkRecord, NetworkSpec, SandboxRecord,
};
pub use sandbox::Sandbox;
