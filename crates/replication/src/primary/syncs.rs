//! Which of the log is on the disk: appends by their tickets, and how far each takes the log.

use std::collections::VecDeque;

use kv::Index;

use crate::Ticket;

/// What is appended and not synced.
#[derive(Debug)]
pub(super) struct Syncs {
    issued: Ticket,
    /// The log up to here is synced.
    durable: Index,
    /// Appends that are not synced: the last entry that the log has with each.
    waiting: VecDeque<(Ticket, Index)>,
}

impl Syncs {
    /// A log that was read up to here.
    pub(super) fn new(durable: Index) -> Syncs {
        Syncs { issued: Ticket::default(), durable, waiting: VecDeque::new() }
    }

    /// An append with which the log reaches to `last`.
    pub(super) fn issue(&mut self, last: Index) -> Ticket {
        self.issued = self.issued.next();
        self.waiting.push_back((self.issued, last));
        self.issued
    }

    /// What stood behind `last` goes: an append that is not synced yet brings it no more.
    pub(super) fn truncate(&mut self, last: Index) {
        self.durable = self.durable.min(last);
        self.waiting.iter_mut().for_each(|(_, reaches)| *reaches = (*reaches).min(last));
    }

    /// The log begins anew behind here.
    pub(super) fn restart(&mut self) {
        self.truncate(Index::ZERO);
    }

    /// All appends up to a ticket are synced.
    pub(super) fn synced(&mut self, ticket: Ticket) {
        assert!(ticket <= self.issued, "append {ticket} is synced, and {} was the last one", self.issued);
        while let Some((_, last)) = self.waiting.pop_front_if(|(waiting, _)| *waiting <= ticket) {
            self.durable = self.durable.max(last);
        }
    }

    /// The log up to here is synced.
    pub(super) fn durable(&self) -> Index {
        self.durable
    }

    /// How many appends are not synced.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_of_what_was_replaced_meanwhile_count_for_what_is_left() {
        let mut syncs = Syncs::new(Index(3));
        let first = syncs.issue(Index(6));
        syncs.truncate(Index(4));
        let second = syncs.issue(Index(7));
        syncs.synced(first);
        assert_eq!((syncs.durable(), syncs.waiting()), (Index(4), 1));
        syncs.synced(second);
        assert_eq!(syncs.durable(), Index(7));
    }
}
