//! `checkpoint` and `restore`, which an installed `criu` does.
//!
//! ```text
//! checkpoint: look at the container's mounts ─ criu dump ─ destroy
//! restore:    cgroup, mount points ─ criu restore, in a mount namespace of ours ─ save the state
//! ```

mod checkpoint;
mod options;
mod restore;
mod rpc;
mod worker;

pub(super) use checkpoint::checkpoint;
pub(super) use restore::restore;

use super::flags::Flag;

/// The names of the standard streams of a dumped process, in the directory of its images; runc's.
const DESCRIPTORS: &str = "descriptors.json";

const FLAGS: &[Flag] = &[
    (&["image-path"], true),
    (&["work-path"], true),
    (&["parent-path"], true),
    (&["leave-running"], false),
    (&["tcp-established"], false),
    (&["tcp-skip-in-flight"], false),
    (&["link-remap"], false),
    (&["ext-unix-sk"], false),
    (&["shell-job"], false),
    (&["lazy-pages"], false),
    (&["status-fd"], true),
    (&["page-server"], true),
    (&["file-locks"], false),
    (&["pre-dump"], false),
    (&["manage-cgroups-mode"], true),
    (&["empty-ns"], true),
    (&["auto-dedup"], false),
    // Of restore alone.
    (&["bundle", "b"], true),
    (&["console-socket"], true),
    (&["detach", "d"], false),
    (&["keep"], false),
    (&["pid-file"], true),
    (&["no-subreaper"], false),
    (&["no-pivot"], false),
    (&["lsm-profile"], true),
    (&["lsm-mount-context"], true),
];
