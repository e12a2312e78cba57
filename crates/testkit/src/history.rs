//! Histories of objects that are made and removed by several clients at once, and whether they are
//! possible: whether there is an order of the calls, each somewhere between its beginning and its
//! end, in which every answer is right (linearizability, object by object). A call that got no answer
//! may have been done or not.

use std::collections::{BTreeMap, HashSet};

/// What a call was about, as far as its answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// It is there from then on, whatever was before.
    Ensured,
    /// It was not there before, and is from then on.
    Made,
    /// It was there before, and is not from then on.
    Removed,
    /// It was there, or was not; nothing was changed.
    Seen(bool),
    /// Nobody knows whether it was made.
    MaybeMade,
    /// Nobody knows whether it was removed.
    MaybeRemoved,
}

impl Did {
    /// What comes of it where the object is there or is not; nothing where it cannot be.
    fn after(self, there: bool) -> Option<bool> {
        match self {
            Did::Ensured => Some(true),
            Did::Made => (!there).then_some(true),
            Did::Removed => there.then_some(false),
            Did::Seen(seen) => (seen == there).then_some(there),
            Did::MaybeMade => Some(true),
            Did::MaybeRemoved => Some(false),
        }
    }

    fn unknown(self) -> bool {
        matches!(self, Did::MaybeMade | Did::MaybeRemoved)
    }
}

/// A call, between two moments of one clock that all clients share.
#[derive(Debug, Clone)]
pub struct Call {
    pub object: String,
    pub did: Did,
    pub begun: u64,
    pub ended: u64,
}

/// What is known of the objects, from one segment of the history to the next.
#[derive(Debug, Default)]
pub struct Objects(BTreeMap<String, bool>);

impl Objects {
    /// Whether an object is there; one that was never spoken of is not.
    pub fn there(&self, object: &str) -> bool {
        self.0.get(object).copied().unwrap_or_default()
    }

    /// All that were ever spoken of.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Takes a segment of the history and what was found at its end, when no call was under way;
    /// panics where the one cannot have led to the other.
    pub fn check(&mut self, calls: &[Call], found: impl Fn(&str) -> bool, what: &str) {
        let mut by_object: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
        for call in calls {
            by_object.entry(&call.object).or_default().push(call);
        }
        for object in self.0.keys() {
            by_object.entry(object).or_default();
        }
        let mut next = BTreeMap::new();
        for (object, calls) in by_object {
            let (before, after) = (self.there(object), found(object));
            assert!(
                possible(&calls, before, after),
                "{what}: {object}: there before: {before}, found after: {after}, and between: {calls:#?}"
            );
            next.insert(object.to_owned(), after);
        }
        self.0 = next;
    }
}

/// Whether there is an order of the calls that leads from `before` to `after`.
fn possible(calls: &[&Call], before: bool, after: bool) -> bool {
    assert!(calls.len() <= 128, "a segment of one object is too long");
    let all_known = calls.iter().enumerate().filter(|(_, c)| !c.did.unknown());
    let needed = all_known.fold(0_u128, |mask, (i, _)| mask | 1 << i);
    let mut seen = HashSet::new();
    let mut todo = vec![(0_u128, before)];
    while let Some((done, there)) = todo.pop() {
        if !seen.insert((done, there)) {
            continue;
        }
        if done & needed == needed && there == after {
            return true;
        }
        for (i, call) in calls.iter().enumerate().filter(|(i, _)| done & 1 << i == 0) {
            // None that is still to come may have ended before this one began.
            let late = calls.iter().enumerate().any(|(j, other)| {
                done & 1 << j == 0 && !other.did.unknown() && other.ended < call.begun
            });
            if let (false, Some(there)) = (late, call.did.after(there)) {
                todo.push((done | 1 << i, there));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(did: Did, begun: u64, ended: u64) -> Call {
        let object = "one".to_owned();
        Call {
            object,
            did,
            begun,
            ended,
        }
    }

    #[test]
    fn orders_that_there_can_be() {
        use Did::*;
        for (calls, before, after, expected) in [
            (vec![(Ensured, 1, 2)], false, true, true),
            (vec![(Ensured, 1, 2)], false, false, false),
            (vec![(Removed, 1, 2)], true, true, false),
            (vec![(Ensured, 1, 2), (Removed, 3, 4)], false, false, true),
            (vec![(Ensured, 1, 2), (Removed, 3, 4)], false, true, false),
            // At once, either order will do; but both were answered.
            (vec![(Ensured, 1, 4), (Removed, 2, 3)], false, false, true),
            (vec![(Ensured, 1, 4), (Removed, 2, 3)], true, true, true),
            (vec![(Removed, 1, 4), (Removed, 2, 3)], true, false, false),
            (vec![(Made, 1, 4), (Made, 2, 3)], false, true, false),
            // What nobody answered may have been done, or not.
            (vec![(MaybeMade, 1, 2)], false, false, true),
            (vec![(MaybeMade, 1, 2)], false, true, true),
            (
                vec![(MaybeRemoved, 3, 4), (Ensured, 1, 2)],
                false,
                false,
                true,
            ),
            // It cannot have been done before it began.
            (
                vec![(MaybeRemoved, 1, 2), (Seen(false), 3, 4)],
                true,
                true,
                false,
            ),
            (
                vec![(Seen(false), 1, 2), (MaybeRemoved, 3, 4)],
                true,
                false,
                false,
            ),
        ] {
            let calls: Vec<Call> = calls.iter().map(|(d, b, e)| call(*d, *b, *e)).collect();
            let calls: Vec<&Call> = calls.iter().collect();
            assert_eq!(possible(&calls, before, after), expected, "{calls:?}");
        }
    }
}
