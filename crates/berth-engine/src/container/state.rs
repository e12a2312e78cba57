//! The life of a container, as a pure function.
//!
//! ```text
//! created ──start──▶ running ◀──pause/unpause──▶ paused
//!    │                 │  ▲                        │
//!    │               exit └─start── restarting ◀── exit, by policy
//!    │                 ▼                 │
//!    └──remove──┐   exited ◀───give up───┘
//!               ▼      │
//!            removing ◀┘ ──failed──▶ dead
//! ```

use serde::{Deserialize, Serialize};

use crate::Error;

/// Where a container stands in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Created,
    Running,
    Paused,
    /// Ended, and waiting for its next start by policy.
    Restarting,
    Removing,
    Exited,
    /// Its removal failed half way.
    Dead,
}

impl Status {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Removing => "removing",
            Status::Exited => "exited",
            Status::Dead => "dead",
        }
    }

    /// Whether it has processes.
    pub fn alive(self) -> bool {
        matches!(self, Status::Running | Status::Paused)
    }

    /// What Docker calls running: also between two starts.
    pub fn running(self) -> bool {
        self.alive() || self == Status::Restarting
    }
}

/// What happens to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Happening {
    Started,
    /// Its first process ended; nothing follows.
    Exited,
    /// Its first process ended; the restart policy will start it again.
    WillRestart,
    Paused,
    Resumed,
    RemovalBegan,
    RemovalFailed,
}

/// Where it stands afterwards. The error is Docker's, for the container `name`.
pub fn next(status: Status, happening: Happening, name: &str) -> Result<Status, Error> {
    use Happening as H;
    use Status as S;
    match (status, happening) {
        (S::Created | S::Exited | S::Restarting, H::Started) => Ok(S::Running),
        (S::Running, H::Started) => Err(Error::not_modified(format!(
            "container {name} is already running"
        ))),
        (S::Paused, H::Started) => Err(Error::conflict(
            "cannot start a paused container, try unpause instead",
        )),
        (S::Removing | S::Dead, H::Started) => Err(Error::conflict(
            "container is marked for removal and cannot be started",
        )),
        (S::Running | S::Paused | S::Restarting, H::Exited) => Ok(S::Exited),
        (S::Running | S::Paused, H::WillRestart) => Ok(S::Restarting),
        // A start that failed leaves the container as it was.
        (S::Created | S::Exited, H::Exited) => Ok(S::Exited),
        (S::Restarting, H::WillRestart) => Ok(S::Restarting),
        (S::Running, H::Paused) => Ok(S::Paused),
        (S::Paused, H::Paused) => Err(Error::conflict(format!(
            "Container {name} is already paused"
        ))),
        (S::Restarting, H::Paused) => Err(Error::conflict(format!(
            "Container {name} is restarting, wait until the container is running"
        ))),
        (_, H::Paused) => Err(Error::conflict(format!("Container {name} is not running"))),
        (S::Paused, H::Resumed) => Ok(S::Running),
        (_, H::Resumed) => Err(Error::conflict(format!("Container {name} is not paused"))),
        (S::Created | S::Exited | S::Dead, H::RemovalBegan) => Ok(S::Removing),
        (S::Removing, H::RemovalBegan) => Err(Error::conflict(format!(
            "removal of container {name} is already in progress"
        ))),
        (S::Paused, H::RemovalBegan) => Err(Error::conflict(format!(
            "cannot remove container \"/{name}\": container is paused and must be unpaused first"
        ))),
        (S::Running | S::Restarting, H::RemovalBegan) => Err(Error::conflict(format!(
            "cannot remove container \"/{name}\": container is {}: stop the container before removing or force remove",
            status.as_str()
        ))),
        (S::Removing, H::RemovalFailed) => Ok(S::Dead),
        (_, H::RemovalFailed)
        | (S::Removing | S::Dead, H::Exited | H::WillRestart)
        | (S::Created | S::Exited, H::WillRestart) => Err(Error::internal(format!(
            "container {name} is {}: {happening:?} cannot be",
            status.as_str()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Status; 7] = [
        Status::Created,
        Status::Running,
        Status::Paused,
        Status::Restarting,
        Status::Removing,
        Status::Exited,
        Status::Dead,
    ];

    #[test]
    fn all_pairs() {
        use Happening as H;
        use Status as S;
        // Rows in the order of ALL: what each happening leads to; None where it is refused.
        let table: [(H, [Option<S>; 7]); 7] = [
            (
                H::Started,
                [
                    Some(S::Running),
                    None,
                    None,
                    Some(S::Running),
                    None,
                    Some(S::Running),
                    None,
                ],
            ),
            (
                H::Exited,
                [
                    Some(S::Exited),
                    Some(S::Exited),
                    Some(S::Exited),
                    Some(S::Exited),
                    None,
                    Some(S::Exited),
                    None,
                ],
            ),
            (
                H::WillRestart,
                [
                    None,
                    Some(S::Restarting),
                    Some(S::Restarting),
                    Some(S::Restarting),
                    None,
                    None,
                    None,
                ],
            ),
            (
                H::Paused,
                [None, Some(S::Paused), None, None, None, None, None],
            ),
            (
                H::Resumed,
                [None, None, Some(S::Running), None, None, None, None],
            ),
            (
                H::RemovalBegan,
                [
                    Some(S::Removing),
                    None,
                    None,
                    None,
                    None,
                    Some(S::Removing),
                    Some(S::Removing),
                ],
            ),
            (
                H::RemovalFailed,
                [None, None, None, None, Some(S::Dead), None, None],
            ),
        ];
        for (happening, row) in table {
            for (status, expected) in ALL.into_iter().zip(row) {
                let found = next(status, happening, "c").ok();
                assert_eq!(found, expected, "{status:?} {happening:?}");
            }
        }
    }

    #[test]
    fn refusals_are_dockers() {
        let text = |s, h| next(s, h, "web").unwrap_err().to_string();
        assert_eq!(
            text(Status::Running, Happening::RemovalBegan),
            "cannot remove container \"/web\": container is running: stop the container before removing or force remove"
        );
        assert_eq!(
            text(Status::Removing, Happening::RemovalBegan),
            "removal of container web is already in progress"
        );
        assert_eq!(
            next(Status::Running, Happening::Started, "web")
                .unwrap_err()
                .kind(),
            crate::ErrorKind::NotModified
        );
    }
}
