//! The snapshots that who orders gets made for members behind its log: at most one for each at a time, of a time that will do.

use std::collections::BTreeMap;

use kv::{Index, Position, ReplicaId};

/// The snapshots by target.
#[derive(Default)]
pub(crate) struct Snapshots {
    of: BTreeMap<ReplicaId, Making>,
}

enum Making {
    /// At this index or above.
    Wanted(Index),
    Asked,
    Made(Position),
}

impl Snapshots {
    /// A replica needs one of at least index `least`: takes it when it is made, else sees to it that it is.
    pub(crate) fn take(&mut self, to: ReplicaId, least: Index) -> Option<Position> {
        match self.of.get(&to) {
            Some(Making::Made(at)) if at.index >= least => {
                let at = *at;
                self.of.remove(&to);
                Some(at)
            }
            Some(Making::Asked | Making::Wanted(_)) => None,
            Some(Making::Made(_)) | None => {
                self.of.insert(to, Making::Wanted(least));
                None
            }
        }
    }

    /// A replica for which one is to be made, now that the table has applied what is up to here; each is told once.
    pub(crate) fn next_wanted(&mut self, applied: Index) -> Option<ReplicaId> {
        let can_be = |making: &Making| matches!(making, Making::Wanted(least) if *least <= applied);
        let (&to, making) = self.of.iter_mut().find(|(_, making)| can_be(making))?;
        *making = Making::Asked;
        Some(to)
    }

    /// Whether one is made for a replica, or is to be.
    pub(crate) fn is_made_for(&self, to: ReplicaId) -> bool {
        self.of.contains_key(&to)
    }

    /// Forgets the replicas that are members no more.
    pub(crate) fn keep(&mut self, is_member: impl Fn(ReplicaId) -> bool) {
        self.of.retain(|&to, _| is_member(to));
    }

    /// It is made, or could not be.
    pub(crate) fn made(&mut self, to: ReplicaId, at: Option<Position>) {
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
        assert_eq!(snapshots.take(ReplicaId(2), Index(5)), None);
        assert_eq!(
            (snapshots.next_wanted(Index(9)), snapshots.next_wanted(Index(9))),
            (Some(ReplicaId(2)), None)
        );
        assert_eq!((snapshots.take(ReplicaId(2), Index(5)), snapshots.next_wanted(Index(9))), (None, None));
        snapshots.made(ReplicaId(2), Some(at));
        assert_eq!(snapshots.take(ReplicaId(2), Index(5)), Some(at));
        assert_eq!(
            (snapshots.take(ReplicaId(2), Index(5)), snapshots.next_wanted(Index(9))),
            (None, Some(ReplicaId(2)))
        );
    }

    #[test]
    fn snapshot_is_asked_for_when_the_table_is_there() {
        let mut snapshots = Snapshots::default();
        assert_eq!(snapshots.take(ReplicaId(2), Index(5)), None);
        assert_eq!(
            (snapshots.next_wanted(Index(4)), snapshots.next_wanted(Index(5))),
            (None, Some(ReplicaId(2)))
        );
        snapshots.take(ReplicaId(3), Index(5));
        snapshots.keep(|replica| replica != ReplicaId(3));
        assert_eq!(snapshots.next_wanted(Index(9)), None, "it is a member no more");
    }

    #[test]
    fn snapshot_too_old_or_failed_is_made_again() {
        let mut snapshots = Snapshots::default();
        snapshots.made(ReplicaId(2), Some(Position::new(4, 2)));
        assert_eq!(
            (snapshots.take(ReplicaId(2), Index(5)), snapshots.next_wanted(Index(9))),
            (None, Some(ReplicaId(2)))
        );
        snapshots.made(ReplicaId(2), None);
        assert_eq!(
            (snapshots.take(ReplicaId(2), Index(5)), snapshots.next_wanted(Index(9))),
            (None, Some(ReplicaId(2)))
        );
    }
}
