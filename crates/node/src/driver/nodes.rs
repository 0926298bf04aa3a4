//! Other nodes: what they say, what they are told, and who leads what.

use bytes::Bytes;
use kv::cluster::{Liveness, Role};
use kv::{Error, NodeId, Reply, ShardId};
use replication::Token;

use super::{Driver, EPOCH, RETRY_MICROS, Work};
use crate::open::{Open, State};
use crate::wire::{Announced, Announcement, Frame};

/// A leadership is offered to its preferred node at most so often: an offer to a node that is just being brought up to date
/// comes to nothing, and writes wait while one is under way.
const BALANCE_MICROS: u64 = 3_000_000;
/// A follower this far behind (in entries) is not offered a leadership.
const BALANCE_LAG_MAX: u64 = 1_000;

impl Driver {
    pub(crate) fn send(&mut self, to: NodeId, frame: &Frame) {
        self.work.push(Work::Send { to, frame: frame.encode() });
    }

    pub(super) fn take_frame(&mut self, from: NodeId, bytes: &Bytes) {
        if !self.peers.contains(from) {
            return;
        }
        self.peers.hear(from, self.now);
        let frame = match Frame::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(node = %from, %error, "dropped a frame that cannot be understood: is it another version?");
                return;
            }
        };
        match frame {
            Frame::Protocol { shard, epoch, body } if epoch == EPOCH => {
                self.inputs.push_back((shard, replication::Input::Message { from, body }));
            }
            Frame::Protocol { .. } => {}
            Frame::Forward { token, shard, level, millis, op } => {
                self.take_forward(from, token, shard, level, millis, op);
            }
            Frame::Answer { token, result } => self.take_answer(from, token, result),
            Frame::Lasts(lasts) => self.take_lasts(from, lasts),
            Frame::WholeAt { shard, index, term, rejoining } => {
                self.told_whole_at(shard, index, term, rejoining)
            }
            Frame::Announce(announcement) => {
                self.clock.hear(from, announcement.clock, announcement.clock_settled);
                if announcement.rejoining {
                    self.tell_rejoining(from);
                }
                self.peers.announced(from, announcement);
            }
        }
    }

    fn take_answer(&mut self, from: NodeId, token: u64, result: Result<Reply, Error>) {
        let Some(open) = self.open.get(token) else { return };
        if !matches!(open.state, State::Forwarded(to, _) if to == from) {
            // Of an attempt that was given up: a definite result is still good for a write (the same id ran once).
            if open.is_read() || result.is_err() || open.state == State::Local {
                return;
            }
        }
        match result {
            Err(error @ (Error::WrongNode { .. } | Error::InDoubt(_))) => self.turned_away(token, error),
            result => {
                if open.is_read() && matches!(result, Err(Error::Unavailable(_))) {
                    // The leading node has no room: whoever asked may ask again.
                    open.charge.answer.refuse();
                }
                self.finish(token, result);
            }
        }
    }

    /// What a node has in its log, against what it acknowledged: first of all on a new connection.
    fn take_lasts(&mut self, from: NodeId, lasts: Vec<(ShardId, u64)>) {
        for (shard, last) in lasts {
            let Some(replica) = self.replicas.get(&shard) else { continue };
            if let Some(acknowledged) = replica.protocol.acknowledged(from).filter(|index| *index > last) {
                tracing::warn!(node = %from, %shard, acknowledged, last, "a node has lost entries it had acknowledged");
                // To earlier leaders it may have acknowledged more, but nothing agreed on that is not in this log.
                let replication::Status { last: index, term, .. } = replica.protocol.status();
                self.send(from, &Frame::WholeAt { shard, index, term, rejoining: false });
            }
            self.inputs.push_back((shard, replication::Input::Connected { node: from, last }));
        }
    }

    pub(super) fn peer_up(&mut self, node: NodeId) {
        self.peers.set_connected(node, true);
        let lasts = self.replicas.values().map(|replica| (replica.shard, replica.protocol.status().durable));
        let lasts = Frame::Lasts(lasts.collect());
        self.send(node, &lasts);
        let announcement = Frame::Announce(self.announcement());
        self.send(node, &announcement);
    }

    pub(super) fn peer_down(&mut self, node: NodeId) {
        self.peers.set_connected(node, false);
        for token in self.open.pick(|open| matches!(open.state, State::Forwarded(to, _) if to == node)) {
            self.turned_away(token, Error::InDoubt("the connection to the leading node broke".into()));
            self.hasten(token);
        }
        for &shard in self.replicas.keys() {
            self.inputs.push_back((shard, replication::Input::Disconnected { node }));
        }
    }

    /// A broken connection is news enough: no need to wait as long as for other doubts.
    fn hasten(&mut self, token: Token) {
        if let Some(Open { state: State::Waiting(at), .. }) = self.open.get_mut(token) {
            *at = self.now.plus(RETRY_MICROS);
        }
    }

    pub(super) fn announcement(&self) -> Announcement {
        let replicas = self.replicas.values().map(|replica| {
            let status = replica.protocol.status();
            let (role, leader, term, applied) = (status.role, status.leader, status.term, status.applied);
            Announced { shard: replica.shard, role, leader, term, applied }
        });
        Announcement {
            clock: self.clock.micros(),
            clock_settled: self.clock.is_settled(),
            pid: self.config.pid,
            address: self.config.address.clone(),
            rejoining: self.config.rejoining,
            disk_full: self.disk_full,
            replicas: replicas.collect(),
        }
    }

    pub(super) fn announce(&mut self) {
        let frame = Frame::Announce(self.announcement()).encode();
        let peers: Vec<NodeId> = self.peers.ids().collect();
        self.work.extend(peers.into_iter().map(|to| Work::Send { to, frame: frame.clone() }));
    }

    /// Offers leaderships to the nodes that should have them, when those are well.
    pub(super) fn balance(&mut self) {
        if self.stopping {
            return self.hand_over();
        }
        let now = self.now;
        for replica in self.replicas.values_mut() {
            let to = self.config.preferred_leader(replica.shard);
            let status = replica.protocol.status();
            let lately = replica.transferred.is_some_and(|at| now.since(at) < BALANCE_MICROS);
            if to == self.config.me || status.role != Role::Leader || lately {
                continue;
            }
            let told = self.peers.replica(to, replica.shard);
            let near = told.is_some_and(|told| {
                told.term == status.term && told.applied + BALANCE_LAG_MAX >= status.commit
            });
            if near && self.peers.is_connected(to) && self.peers.liveness(to, now) == Liveness::Alive {
                replica.transferred = Some(now);
                self.inputs.push_back((replica.shard, replication::Input::Transfer { to }));
            }
        }
    }

    /// Before the end: every leadership goes to the living node that is furthest.
    pub(super) fn hand_over(&mut self) {
        let now = self.now;
        for replica in self.replicas.values() {
            let living = self.peers.ids().filter(|id| self.peers.is_connected(*id));
            let living = living.filter(|id| self.peers.liveness(*id, now) == Liveness::Alive);
            let applied = |id: &NodeId| self.peers.replica(*id, replica.shard).map_or(0, |told| told.applied);
            if let Some(to) = living.max_by_key(applied) {
                self.inputs.push_back((replica.shard, replication::Input::Transfer { to }));
            }
        }
    }
}
