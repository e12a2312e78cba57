//! Undoing: what was acquired is given back in reverse order, unless all went well.

use crate::Result;

type Step = Box<dyn FnOnce() -> Result<()> + Send>;

/// Steps to be undone when this is dropped before [`Undo::keep`]. A step that fails is logged; the
/// others are still taken.
#[derive(Default)]
pub(crate) struct Undo(Vec<Step>);

impl Undo {
    pub fn new() -> Self {
        Self::default()
    }

    /// One more acquisition, and how it is given back.
    pub fn push(&mut self, step: impl FnOnce() -> Result<()> + Send + 'static) {
        self.0.push(Box::new(step));
    }

    /// All went well: nothing is undone.
    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        while let Some(step) = self.0.pop() {
            if let Err(error) = step() {
                tracing::warn!(%error, "a step could not be undone");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn backwards_and_only_if_not_kept() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let push = |undo: &mut Undo, n: u32| {
            let order = order.clone();
            undo.push(move || {
                order.lock().unwrap().push(n);
                Err(crate::Error::internal("logged"))
            });
        };
        let mut undo = Undo::new();
        push(&mut undo, 1);
        push(&mut undo, 2);
        drop(undo);
        assert_eq!(*order.lock().unwrap(), [2, 1]);
        let mut undo = Undo::new();
        push(&mut undo, 3);
        undo.keep();
        assert_eq!(*order.lock().unwrap(), [2, 1]);
    }
}
