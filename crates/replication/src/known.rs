//! Who belongs to the shard, as far as a replica may say it to others.

use std::collections::VecDeque;

use crate::{Ticket, View};

/// The members as the replica says them to others: it knows that they are agreed on, and has that synced, so that it will know
/// it after a restart. Who has left is needed until a majority of those that stay knows so: a majority that does not know might
/// ask those that have left to elect one of them.
pub(crate) struct Known {
    view: View,
    /// What it has learned and not synced, in order.
    learned: VecDeque<(Ticket, View)>,
}

impl Known {
    /// What its log says.
    pub(crate) fn new(view: View) -> Known {
        Known { view, learned: VecDeque::new() }
    }

    /// With this append it is in the log that these are agreed on.
    pub(crate) fn learn(&mut self, ticket: Ticket, view: View) {
        self.learned.push_back((ticket, view));
    }

    /// All appends up to a ticket are synced.
    pub(crate) fn synced(&mut self, ticket: Ticket) {
        while let Some((_, view)) = self.learned.pop_front_if(|(learned, _)| *learned <= ticket) {
            self.view = view;
        }
    }

    /// Who the members are.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }
}
