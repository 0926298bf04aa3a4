//! What other nodes say, and what is said to them.

use bytes::Bytes;
use kv::{Charge, Error, NodeId, Reply, ShardId};
use replication::Input;

use super::core::Core;
use super::open::{Asker, State};
use super::requests::RETRY_MICROS;
use super::watches::Puller;
use super::{Driver, Work};
use crate::directory::seen::digest;
use crate::node::Node;
use crate::wire::Frame;

impl Driver {
    pub(super) fn take_frame(&mut self, from: NodeId, bytes: &Bytes) {
        self.node.peers.hear(from, self.node.now);
        let frame = match Frame::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(node = %from, %error, "dropped a frame that cannot be understood: is it another version?");
                return;
            }
        };
        // Who is not in the known map may be in a later one, or may have to learn that it is in none.
        if let Frame::Announce(announcement) = &frame {
            self.node.hear_of_map(from, announcement.map);
        }
        match frame {
            Frame::Map(map) => self.take_map(map),
            Frame::WantMap => self.tell_map(from),
            _ if !self.node.peers.contains(from) => {}
            Frame::Protocol { shard, epoch, revision, body } => {
                self.core.take_message(&self.node, from, shard, (epoch, revision), body);
            }
            Frame::Forward { token, shard, level, millis, again, op } => {
                let charge = Charge { answer: self.node.peers.answers(from).share(), ..Charge::default() };
                let asker = Asker { node: from, token, charge };
                self.core.take_forward(&self.node, asker, shard, level, (millis, again), op);
            }
            Frame::Answer { token, result, .. } => self.core.take_answer(&self.node, from, token, result),
            Frame::Greet { greetings, wants } => {
                self.core.take_greetings(&self.node, from, greetings, wants);
            }
            Frame::Pull { token, pull } => {
                let share = self.node.peers.answers(from).share();
                self.core.take_pull(&self.node, Puller::Peer { node: from, token, share }, pull);
            }
            Frame::Pulled { token, shard, answer } => {
                self.core.take_pulled(&self.node, from, (token, shard), answer);
            }
            Frame::Ask { token, ask } => self.take_ask(from, token, ask),
            Frame::Told { token, result } => self.take_told(from, token, result),
            Frame::View { shard, view } => self.core.take_view(from, shard, view),
            Frame::WantView { shard } => self.core.tell_view(from, shard),
            Frame::WantCopy { shard, epoch } => self.core.take_want_copy(&self.node, from, shard, epoch),
            Frame::WantTail { shard, epoch, above } => {
                self.core.take_want_tail(&self.node, from, shard, (epoch, above));
            }
            Frame::Tail { shard, epoch, above, entries, sealed } => {
                self.core.take_tail(shard, (epoch, above), entries, sealed);
            }
            Frame::Announce(announcement) => {
                self.node.clock.hear(from, announcement.clock, announcement.clock_settled);
                self.core.compare_views(&self.node, from, &announcement.replicas);
                self.node.peers.announced(from, announcement);
            }
        }
    }

    pub(super) fn peer_up(&mut self, node: NodeId) {
        self.node.peers.set_connected(node, true);
        // Its own connection to this node may stand since before, and then it would say nothing by itself.
        let greetings = self.core.greetings(node, |_| true);
        self.core.send(node, &Frame::Greet { greetings, wants: true });
        let announcement = Frame::Announce(self.node.announcement(self.core.announced()));
        self.core.send(node, &announcement);
    }

    pub(super) fn peer_down(&mut self, node: NodeId) {
        self.node.peers.set_connected(node, false);
        self.core.disconnected(&self.node, node);
        self.direct(crate::directory::Input::Disconnected(node));
    }

    /// Replicas that sleep rely on nodes that say nothing any more.
    pub(super) fn note_silent(&mut self) {
        for node in self.node.peers.fallen_silent(self.node.now) {
            for shard in Vec::from_iter(self.core.replicas.keys().copied()) {
                self.core.give(shard, Input::Silent { node });
            }
        }
    }

    /// What changed since the last time is announced to all, and sometimes all of it: a frame may be lost.
    pub(super) fn announce(&mut self) {
        let is_whole = self.node.takes_whole_announcement();
        let replicas = self.core.announce(is_whole);
        if self.node.config.deal.cores() > 1 && !replicas.is_empty() {
            self.core.work.push(Work::Announced(replicas.clone()));
        }
        let frame = Frame::Announce(self.node.announcement(replicas)).encode();
        let peers = self.node.peers.ids();
        self.core.work.extend(peers.map(|to| Work::Send { to, frame: frame.clone(), is_response: false }));
    }

    /// Announces at once that a shard which changes has other members: who decides waits for that, and so does the next change.
    pub(super) fn announce_members(&mut self) {
        let has_news = |shard: &ShardId| {
            let said = self.core.announced.get(shard).map(|said| said.members);
            let now = self.core.replicas.get(shard);
            now.is_some_and(|replica| said != Some(digest(&replica.view().members)))
        };
        if self.node.config.map.changes.keys().any(has_news) {
            self.announce();
        }
    }
}

impl Core {
    fn take_answer(&mut self, node: &Node, from: NodeId, token: u64, result: Result<Reply, Error>) {
        let Some(open) = self.open.get(token) else { return };
        // Only what a client asks is ever forwarded; who forwards has its own names.
        let Some(attempt) = open.attempt() else { return };
        if !attempt.is_at(from) {
            // Of an attempt that was given up: a definite result is still good for a write (the same id ran once).
            if open.is_read() || result.is_err() || attempt.state == State::Local {
                return;
            }
        }
        match result {
            Err(error @ (Error::WrongNode { .. } | Error::InDoubt(_))) => {
                self.turned_away(node, token, error);
            }
            result => {
                if open.is_read() && matches!(result, Err(Error::Unavailable(_))) {
                    // The leading node has no room: whoever asked may ask again.
                    attempt.charge.answer.refuse();
                }
                self.finish(token, result);
            }
        }
    }

    /// The connection to a node broke: what it was asked may never be answered.
    pub fn disconnected(&mut self, node: &Node, peer: NodeId) {
        for token in self.open.pick(|open| open.attempt().is_some_and(|attempt| attempt.is_at(peer))) {
            let error = Error::InDoubt("the connection to the leading node broke".into());
            self.turned_away(node, token, error);
            // That is news enough: no need to wait as long as for other doubts.
            let attempt = self.open.get_mut(token).and_then(|open| open.attempt_mut());
            attempt.expect("a client's part that is turned away stays open").state =
                State::Waiting(node.now.plus(RETRY_MICROS));
        }
        self.pull_elsewhere(node, peer);
        for shard in Vec::from_iter(self.replicas.keys().copied()) {
            self.give(shard, Input::Disconnected { node: peer });
        }
    }
}
