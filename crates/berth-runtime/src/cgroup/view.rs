//! What a container sees of its cgroup.

use std::os::fd::BorrowedFd;

use super::Cgroup;

impl Cgroup {
    /// What each v1 tree is called below `/sys/fs/cgroup`, and the path of this cgroup there.
    pub(crate) fn directories(&self) -> Vec<(String, String)> {
        self.v1
            .as_ref()
            .map_or_else(Vec::new, |v1| v1.directories())
    }

    /// The controllers of each v1 tree, and this cgroup's directory there; nothing where there are
    /// no such trees.
    pub(crate) fn views(&self) -> Vec<(Vec<String>, BorrowedFd<'_>)> {
        self.v1.as_ref().map_or_else(Vec::new, |v1| v1.views())
    }
}
