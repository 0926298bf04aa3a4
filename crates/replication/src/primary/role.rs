//! Who belongs to the shard, and what this replica is to do in it: that follows from the view alone.

use bytes::Bytes;
use kv::{NodeId, Position, ReplicaId};

use super::message::{Kind, Message};
use super::replica::Primary;
use super::seal::sealed;
use crate::proposals::not_appended;
use crate::record::{Record, State};
use crate::{Output, Ticket, View};

impl Primary {
    /// The directory, or another member, says who belongs to the shard.
    pub(super) fn take_view(&mut self, view: View, out: &mut Vec<Output>) {
        if view.epoch != self.view.epoch || view.revision <= self.view.revision {
            return;
        }
        let was_in_sync = self.is_in_sync();
        self.view = view;
        self.wishes.taken();
        self.verified = self.commit;
        self.reads.interrupt(self.now);
        self.heard = self.now;
        self.wake();
        if !self.is_in_sync() {
            self.lease.drop();
        }
        // Who is made to order though it was not in sync does so with what it has.
        self.is_lossy &= self.is_in_sync() && was_in_sync;
        if self.is_primary() && !self.is_lossy {
            self.used = self.term();
        }
        let ticket = self.append(self.about(), out);
        self.known.learn(ticket, self.view.clone());
        self.change_role(ticket, out);
    }

    /// Another one was made to order that was not in sync. What the log here holds may have been acknowledged: it is applied whole, for
    /// what is lost of it to be found, and nobody is shown it any more.
    pub(super) fn settle_astray(&mut self, out: &mut Vec<Output>) {
        if self.is_astray() {
            self.commit = self.log.last();
            out.extend(self.reads.drain().map(sealed));
        }
    }

    /// Whether all that its log holds is applied, of who is astray: then it can begin anew.
    pub(super) fn is_whole_astray(&self) -> bool {
        self.is_astray() && self.installing.is_none() && self.applied.index == self.log.last()
    }

    /// The records of who it is, among whom, and whether it has taken the role in this term.
    fn about(&self) -> Vec<Record> {
        vec![Record::Replica(self.replica), Record::View(self.view.clone()), self.state()]
    }

    pub(super) fn state(&self) -> Record {
        let has_role = self.used == self.term();
        let vote = if has_role { self.replica } else { ReplicaId(0) };
        Record::State(State { term: self.term(), vote, commit: self.commit })
    }

    /// It begins to order, goes on in another term, or ends; what it says of the role is written with this append.
    fn change_role(&mut self, ticket: Ticket, out: &mut Vec<Output>) {
        if self.is_primary() && !self.is_lossy {
            let before = self.order.take();
            self.order = Some(self.begin_to_order(ticket, before));
            return;
        }
        if self.order.take().is_some() {
            self.seal.forget_wanted();
        }
        out.extend(self.batch.drain().map(|token| Output::Refuse { token, error: not_appended() }));
    }

    /// Before anything else: the first view of an epoch names who orders, and nobody has ever done so.
    ///
    /// The log of a new replica says among whom it is before it says anything else: by the time that it is read the map may not know it.
    pub(super) fn begin(&mut self, out: &mut Vec<Output>) {
        let is_new = !std::mem::replace(&mut self.is_told, true);
        let orders = self.order.is_none() && self.is_primary() && self.term() > self.used && !self.is_lossy;
        if orders {
            self.used = self.term();
        }
        if is_new || orders {
            let ticket = self.append(self.about(), out);
            self.known.learn(ticket, self.view.clone());
            self.order = if orders { Some(self.begin_to_order(ticket, None)) } else { self.order.take() };
        }
    }

    pub(super) fn take_message(&mut self, from: NodeId, body: &Bytes, out: &mut Vec<Output>) {
        let Ok(message) = Message::decode(body) else { return };
        if message.to != self.replica || !message.is_sound(self.view.epoch) {
            return;
        }
        if let Some(view) = message.view.clone() {
            self.take_view(view, out);
        }
        let is_member = self.node_of(message.from) == Some(from);
        if !is_member {
            return;
        }
        self.note_speaks(from);
        if message.term > self.term() {
            return;
        }
        if message.term < self.term() {
            return self.say_stale(&message, out);
        }
        self.wake_on(&message);
        match message.kind {
            _ if message.is_of_primary() => self.of_primary(message, out),
            Kind::Ack | Kind::Reject | Kind::Call => self.of_member(message),
            _ => (),
        }
    }

    /// Whoever speaks of a term that is over hears of the one that has come.
    fn say_stale(&mut self, message: &Message, out: &mut Vec<Output>) {
        if message.is_of_primary() || message.kind == Kind::Call {
            let answer = self.message(Kind::Stale, message.from, Position::ZERO);
            self.send(&Message { view: Some(self.view.clone()), ..answer }, out);
        }
    }
}
