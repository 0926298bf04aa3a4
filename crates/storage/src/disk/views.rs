//! The open views of a tree, and up to which sequence number nobody looks back.

use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use lsm_tree::{AnyTree, SeqNo, SequenceNumberCounter};

use crate::engine::{EngineError, View};

/// Gives out the sequence numbers of a tree, which draws its manifest's from the same counter.
pub struct Views {
    numbers: SequenceNumberCounter,
    open: Mutex<BTreeSet<SeqNo>>,
}

impl Views {
    pub fn new(numbers: SequenceNumberCounter) -> Views {
        Views { numbers, open: Mutex::default() }
    }

    /// A number above all before.
    pub fn next(&self) -> SeqNo {
        self.numbers.next()
    }

    /// No view looks below this, now or later: the tree may forget what only they would see.
    pub fn watermark(&self) -> SeqNo {
        let open = self.open();
        open.first().copied().unwrap_or_else(|| self.numbers.get())
    }

    fn open(&self) -> MutexGuard<'_, BTreeSet<SeqNo>> {
        self.open.lock().expect("nothing panics while it holds the set of views")
    }

    /// The number is drawn under the lock, so that no watermark taken meanwhile is above it.
    fn enter(&self) -> SeqNo {
        let mut open = self.open();
        let number = self.numbers.next();
        assert!(open.last().is_none_or(|newest| *newest < number), "view {number} is newer than those open");
        open.insert(number);
        number
    }
}

/// The rows of a tree below a sequence number.
pub struct Frozen {
    tree: AnyTree,
    views: Arc<Views>,
    below: SeqNo,
}

impl Frozen {
    pub fn new(tree: AnyTree, views: Arc<Views>) -> Frozen {
        let below = views.enter();
        Frozen { tree, views, below }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.views.open().remove(&self.below);
    }
}

impl View for Frozen {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        super::get(&self.tree, key, self.below, None)
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        super::scan(&self.tree, (from, to), backward, self.below, None, visit)
    }
}
