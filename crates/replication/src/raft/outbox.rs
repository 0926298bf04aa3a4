//! What waits for the disk.
//!
//! Each step of the raft core that has something to write becomes an append with a ticket. What the replica promises in the
//! same step, and in later ones without a write of their own, leaves when that append is synced, in order.

use std::collections::VecDeque;

use crate::Ticket;

/// The steps that are not synced yet. `T` is what leaves then.
pub(super) struct Outbox<T> {
    issued: Ticket,
    waiting: VecDeque<Waiting<T>>,
}

struct Waiting<T> {
    ticket: Ticket,
    step: u64,
    then: Vec<T>,
}

impl<T> Outbox<T> {
    /// Empty.
    pub(super) fn new() -> Outbox<T> {
        Outbox { issued: Ticket::default(), waiting: VecDeque::new() }
    }

    /// A new ticket, for the append of the step that is held next.
    pub(super) fn issue(&mut self) -> Ticket {
        self.issued = self.issued.next();
        self.issued
    }

    /// The last ticket.
    #[cfg(test)]
    pub(super) fn issued(&self) -> Ticket {
        self.issued
    }

    /// Whether all that was issued is synced.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Holds a step back until all that was issued so far is synced.
    pub(super) fn hold(&mut self, step: u64, then: Vec<T>) {
        let last = self.waiting.back().map(|waiting| waiting.step);
        assert!(last.is_none_or(|last| last < step), "steps are held in order: {step} after {last:?}");
        self.waiting.push_back(Waiting { ticket: self.issued, step, then });
    }

    /// All appends up to a ticket are synced: the last step that is, and what leaves now.
    pub(super) fn synced(&mut self, ticket: Ticket) -> Option<(u64, Vec<T>)> {
        assert!(ticket <= self.issued, "append {ticket} is synced, and {} was the last one", self.issued);
        let mut released: Option<(u64, Vec<T>)> = None;
        while self.waiting.front().is_some_and(|first| first.ticket <= ticket) {
            let Waiting { step, then, .. } = self.waiting.pop_front().expect("it was just looked at");
            match &mut released {
                Some((last, all)) => {
                    *last = step;
                    all.extend(then);
                }
                None => released = Some((step, then)),
            }
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outbox_releases_in_order_what_is_synced() {
        let mut outbox = Outbox::new();
        assert_eq!(outbox.issue(), Ticket(1));
        outbox.hold(10, vec!["a"]);
        outbox.hold(11, vec!["b"]);
        assert_eq!(outbox.issue(), Ticket(2));
        outbox.hold(12, vec!["c"]);
        assert_eq!(outbox.synced(Ticket(0)), None);
        assert_eq!(outbox.synced(Ticket(1)), Some((11, vec!["a", "b"])));
        assert!(!outbox.is_idle());
        assert_eq!(outbox.synced(Ticket(2)), Some((12, vec!["c"])));
        assert!(outbox.is_idle());
    }
}
