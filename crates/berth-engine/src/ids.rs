//! Users and groups of containers that have a user namespace: which IDs they are outside.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use berth_spec::oci::runtime::IdMapping;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What the kernel shows for an ID that has no counterpart.
const NOBODY: u32 = 65_534;
/// IDs of a container that has a range of its own.
const RANGE: u32 = 65_536;

/// The IDs of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    pub uids: Vec<IdMapping>,
    pub gids: Vec<IdMapping>,
}

impl IdMaps {
    /// The ranges one after the other, from 0 on: as Docker uses the lines of `/etc/subuid`.
    pub fn stacked(uids: &[IdRange], gids: &[IdRange]) -> Self {
        Self {
            uids: stack(uids),
            gids: stack(gids),
        }
    }

    /// Who the root of the namespace is outside.
    pub fn root(&self) -> Result<(u32, u32)> {
        let find = |mappings: &[IdMapping]| {
            let zero = mappings.iter().find(|m| m.container_id == 0 && m.size > 0);
            zero.map(|m| m.host_id)
        };
        find(&self.uids)
            .zip(find(&self.gids))
            .ok_or_else(|| Error::invalid("a user namespace without a root cannot be used"))
    }

    /// What a user and a group of the host are called inside.
    pub(crate) fn inside(&self, uid: u32, gid: u32) -> (u32, u32) {
        (inside(&self.uids, uid), inside(&self.gids, gid))
    }

    /// As `0:100000:65536`, for people.
    pub(crate) fn texts(mappings: &[IdMapping]) -> Vec<String> {
        let text = |m: &IdMapping| format!("{}:{}:{}", m.container_id, m.host_id, m.size);
        mappings.iter().map(text).collect()
    }
}

/// IDs that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    pub first: u32,
    pub count: u32,
}

fn stack(ranges: &[IdRange]) -> Vec<IdMapping> {
    let mut next = 0_u32;
    let mut mappings = Vec::with_capacity(ranges.len());
    for range in ranges {
        let size = range.count.min(u32::MAX - next);
        mappings.push(IdMapping {
            container_id: next,
            host_id: range.first,
            size,
        });
        next = next.saturating_add(size);
    }
    mappings
}

fn inside(mappings: &[IdMapping], id: u32) -> u32 {
    mappings
        .iter()
        .find_map(|m| {
            let distance = id.checked_sub(m.host_id).filter(|d| *d < m.size)?;
            m.container_id.checked_add(distance)
        })
        .unwrap_or(NOBODY)
}

/// Where `--userns=auto` takes ranges from.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    uids: Vec<u32>,
    gids: Vec<u32>,
    /// Given to containers that have no record yet, by the first user.
    promised: Mutex<BTreeSet<u32>>,
}

/// A range that is a container's from its record on; until then, and no longer, this keeps it.
pub(crate) struct Promise<'a> {
    ranges: &'a Ranges,
    pub maps: IdMaps,
    first: u32,
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.ranges.promised().remove(&self.first);
    }
}

impl Ranges {
    pub fn new(uids: &[IdRange], gids: &[IdRange]) -> Self {
        Self {
            uids: slots(uids),
            gids: slots(gids),
            promised: Mutex::default(),
        }
    }

    fn promised(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A range that no record has; `recorded` tells those of all, and is asked while nobody else is
    /// promised one.
    pub fn take(&self, recorded: impl FnOnce() -> Vec<IdMaps>) -> Result<Promise<'_>> {
        let mut promised = self.promised();
        let recorded = recorded();
        let used = |first: u32| {
            let mut uids = recorded.iter().flat_map(|maps| &maps.uids);
            let overlaps = |m: &IdMapping| {
                let end = |start: u32, size: u32| u64::from(start) + u64::from(size);
                u64::from(m.host_id) < end(first, RANGE)
                    && u64::from(first) < end(m.host_id, m.size)
            };
            promised.contains(&first) || uids.any(overlaps)
        };
        let pairs = self.uids.iter().zip(&self.gids);
        let (first, group) = pairs
            .into_iter()
            .find(|(uid, _)| !used(**uid))
            .ok_or_else(|| {
                Error::invalid(match self.uids.len().min(self.gids.len()) {
                    0 => "--userns=auto takes ranges of IDs for the user \"containers\": \
                      /etc/subuid and /etc/subgid have none of 65536"
                        .to_owned(),
                    all => format!(
                        "--userns=auto: all {all} ranges of /etc/subuid and /etc/subgid are in use"
                    ),
                })
            })?;
        promised.insert(*first);
        let whole = |first: u32| {
            vec![IdMapping {
                container_id: 0,
                host_id: first,
                size: RANGE,
            }]
        };
        Ok(Promise {
            ranges: self,
            maps: IdMaps {
                uids: whole(*first),
                gids: whole(*group),
            },
            first: *first,
        })
    }
}

/// The first IDs of the whole ranges in these.
fn slots(ranges: &[IdRange]) -> Vec<u32> {
    let slots = |range: &IdRange| {
        let first = range.first;
        let count = range.count.min(u32::MAX - first) / RANGE;
        (0..count).map(move |n| first + n * RANGE)
    };
    ranges.iter().flat_map(slots).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u32, count: u32) -> IdRange {
        IdRange { first, count }
    }

    #[test]
    fn ranges_are_stacked() {
        let maps = IdMaps::stacked(&[range(100, 10), range(500, 5)], &[range(7, 20)]);
        assert_eq!(IdMaps::texts(&maps.uids), ["0:100:10", "10:500:5"]);
        assert_eq!(maps.root().unwrap(), (100, 7));
        assert_eq!(maps.inside(504, 8), (14, 1));
        assert_eq!(maps.inside(0, 27), (NOBODY, NOBODY));
        assert!(IdMaps::default().root().is_err());
    }

    #[test]
    fn nobody_gets_anothers_range() {
        let ranges = Ranges::new(
            &[range(100_000, RANGE * 2 + 5), range(500_000, RANGE)],
            &[range(100_000, RANGE * 4)],
        );
        let first = ranges.take(Vec::new).unwrap();
        assert_eq!(first.maps.root().unwrap(), (100_000, 100_000));
        let recorded = vec![first.maps.clone()];
        drop(first);
        let second = ranges.take(|| recorded.clone()).unwrap();
        assert_eq!(second.maps.root().unwrap(), (165_536, 165_536));
        let third = ranges.take(|| recorded.clone()).unwrap();
        assert_eq!(third.maps.root().unwrap(), (500_000, 231_072));
        let none = ranges.take(|| recorded.clone()).map(|p| p.first);
        assert!(none.unwrap_err().to_string().contains("all 3 ranges"));
        drop(second);
        assert!(ranges.take(|| recorded.clone()).is_ok());
        assert!(Ranges::default().take(Vec::new).is_err());
    }
}
