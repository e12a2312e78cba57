//! Containers: one file a verb.

mod attach;
pub(crate) mod cause;
pub(crate) mod cdi;
mod changes;
mod commit;
mod copy;
mod create;
mod device;
pub(crate) mod exit;
mod export;
mod foreign;
pub(crate) mod health;
pub(crate) mod host_files;
mod init;
mod inspect;
mod kill;
pub(crate) mod launch;
mod list;
pub(crate) mod log_driver;
pub(crate) mod log_file;
mod log_seek;
mod logs;
mod mount_namespace;
mod names;
pub(crate) mod order;
mod pause;
pub(crate) mod plan;
mod process;
pub(crate) mod profile;
mod prune;
mod publish;
pub(crate) mod record;
pub(crate) mod registry;
mod remount;
pub(crate) mod remove;
mod rename;
mod resize;
mod restart;
pub(crate) mod root;
pub(crate) mod sandbox;
pub(crate) mod sources;
mod start;
pub(crate) mod state;
mod stats;
mod stop;
mod top;
mod update;
pub(crate) mod users;
mod volumes;
mod wait;

use std::collections::BTreeMap;

pub(crate) use attach::stream_of;
pub use attach::{AttachOptions, attach};
pub use changes::changes;
pub use commit::{CommitRequest, ConfigEdit, commit};
pub use copy::{CopyInOptions, copy_in, copy_out, stat_path};
pub use create::{CreateRequest, create};
pub use export::export;
pub use inspect::inspect;
pub use kill::kill;
pub use list::{ListOptions, list};
pub use logs::{LogOptions, Logs, logs};
pub use pause::{pause, unpause};
pub(crate) use process::age_of_process;
pub use prune::prune;
pub use publish::publish;
pub use remove::{RemoveOptions, remove};
pub use rename::rename;
pub use resize::resize;
pub use restart::restart;
pub use start::start;
pub(crate) use start::tell_network;
pub(crate) use stats::machine_memory;
pub use stats::{StatsOptions, StatsStream, stats};
pub use stop::{StopOptions, Stopped, stop};
pub use top::top;
pub use update::update;
pub use wait::{WaitCondition, Waiting, wait};

use crate::Engine;
use crate::event::Subject;

/// Something happened to a container: its labels, image and name go along.
pub(crate) fn tell(
    engine: &Engine,
    container: &record::Container,
    action: &str,
    more: BTreeMap<String, String>,
) {
    let attributes = container.read(|r| {
        let mut attributes = r.config.labels.clone().unwrap_or_default();
        attributes.insert("image".to_owned(), r.config.image.clone());
        attributes.insert("name".to_owned(), r.name.clone());
        attributes
    });
    let attributes = attributes.into_iter().chain(more).collect();
    engine
        .0
        .events
        .tell(Subject::Container, action, &container.id, attributes);
}
