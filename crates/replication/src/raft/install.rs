//! A snapshot that comes in: whether it is taken in place of the log.

use bytes::Bytes;

use super::message::{Kind, Message};
use super::replica::Raft;
use crate::{Output, View};

impl Raft {
    /// Its rows are here. It is taken when it is ahead, its leader counts, and this replica is one of its members.
    pub(super) fn snapshot_received(&mut self, header: &Bytes, out: &mut Vec<Output>) {
        let snapshot = self.addressed(None, header);
        let snapshot =
            snapshot.filter(|message| message.kind == Kind::Snapshot && self.guard.believes(message.term));
        let members = |message: &Message| message.view.as_ref().is_some_and(|view| self.is_ours(view));
        let snapshot = snapshot.filter(|message| self.installing.is_none() && members(message));
        if !snapshot.is_some_and(|message| self.restore(message)) {
            out.push(Output::DiscardSnapshot);
        }
    }

    /// Whether this replica is one of these members: else it would be lost with the snapshot that they come with.
    fn is_ours(&self, view: &View) -> bool {
        view.replica(self.replica).is_some_and(|member| member.node == self.config.id)
    }

    fn restore(&mut self, message: Message) -> bool {
        let (from, term) = (message.from, message.term);
        self.note_coming_end(&message);
        let taken = self.core.restore(message);
        if term == self.core.term() && self.core.leader() == Some(from) {
            self.guard.heard(self.now);
        }
        taken
    }
}
