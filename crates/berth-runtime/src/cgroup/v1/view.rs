//! The container's own directory in each tree, for it to see.

use std::os::fd::{AsFd, BorrowedFd};

use super::Group;

impl Group {
    /// What each tree is called, and the cgroup's path there.
    pub(in crate::cgroup) fn directories(&self) -> Vec<(String, String)> {
        let trees = self.trees.0.iter().zip(&self.dirs);
        trees
            .filter_map(|(tree, dir)| {
                let name = names(&tree.controllers).join(",");
                Some((name, dir.as_ref()?.name().to_owned()))
            })
            .collect()
    }

    /// Each tree's controllers, and the cgroup's directory there.
    pub(in crate::cgroup) fn views(&self) -> Vec<(Vec<String>, BorrowedFd<'_>)> {
        self.trees
            .0
            .iter()
            .zip(&self.dirs)
            .filter_map(|(tree, dir)| Some((names(&tree.controllers), dir.as_ref()?.as_fd())))
            .collect()
    }
}

/// What the directories are called below `/sys/fs/cgroup`: a named tree without `name=`.
fn names(controllers: &[String]) -> Vec<String> {
    controllers
        .iter()
        .map(|c| c.strip_prefix("name=").unwrap_or(c).to_owned())
        .collect()
}
