//! The snapshots that a leader gets made for followers behind its log.

use std::collections::BTreeMap;

use kv::{Index, NodeId, Position};

/// The snapshots by target.
#[derive(Default)]
pub(super) struct Snapshots {
    of: BTreeMap<NodeId, Making>,
}

enum Making {
    Wanted,
    Asked,
    Made(Position),
}

impl Snapshots {
    /// A node needs one of at least index `least`: takes it when it is made, else sees to it that it is.
    pub(super) fn take(&mut self, to: NodeId, least: Index) -> Option<Position> {
        match self.of.get(&to) {
            Some(Making::Made(at)) if at.index >= least => {
                let at = *at;
                self.of.remove(&to);
                Some(at)
            }
            Some(Making::Asked | Making::Wanted) => None,
            Some(Making::Made(_)) | None => {
                self.of.insert(to, Making::Wanted);
                None
            }
        }
    }

    /// A node for which one is to be made; told once.
    pub(super) fn next_wanted(&mut self) -> Option<NodeId> {
        let (&to, making) = self.of.iter_mut().find(|(_, making)| matches!(making, Making::Wanted))?;
        *making = Making::Asked;
        Some(to)
    }

    /// It is made, or could not be.
    pub(super) fn made(&mut self, to: NodeId, at: Option<Position>) {
        match at {
            Some(at) => self.of.insert(to, Making::Made(at)),
            None => self.of.remove(&to),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_is_asked_for_once_and_taken_once() {
        let mut snapshots = Snapshots::default();
        let at = Position::new(9, 2);
        assert_eq!(snapshots.take(NodeId(2), Index(5)), None);
        assert_eq!((snapshots.next_wanted(), snapshots.next_wanted()), (Some(NodeId(2)), None));
        assert_eq!((snapshots.take(NodeId(2), Index(5)), snapshots.next_wanted()), (None, None));
        snapshots.made(NodeId(2), Some(at));
        assert_eq!(snapshots.take(NodeId(2), Index(5)), Some(at));
        assert_eq!((snapshots.take(NodeId(2), Index(5)), snapshots.next_wanted()), (None, Some(NodeId(2))));
    }

    #[test]
    fn snapshot_too_old_or_failed_is_made_again() {
        let mut snapshots = Snapshots::default();
        snapshots.made(NodeId(2), Some(Position::new(4, 2)));
        assert_eq!((snapshots.take(NodeId(2), Index(5)), snapshots.next_wanted()), (None, Some(NodeId(2))));
        snapshots.made(NodeId(2), None);
        assert_eq!((snapshots.take(NodeId(2), Index(5)), snapshots.next_wanted()), (None, Some(NodeId(2))));
    }
}
