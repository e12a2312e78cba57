//! What a container sees of its cgroup.

use std::os::fd::BorrowedFd;

use super::Cgroup;

impl Cgroup {
    /// The controllers of each v1 tree, and this cgroup's directory there; nothing where there are
    /// no such trees.
    pub(crate) fn views(&self) -> Vec<(Vec<String>, BorrowedFd<'_>)> {
        self.v1.as_ref().map_or_else(Vec::new, |v1| v1.views())
    }
}
