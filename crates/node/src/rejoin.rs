//! A node that came back with nothing.
//!
//! Its old data folder is lost, and with it entries that it had acknowledged and votes that it had given. So it takes
//! part in nothing until a leader, which has every agreed entry, has said how far its log goes, and in no election until it
//! has all of that. Then it is a replica like any other.
//!
//! The leader's word counts only if it surely leads after the old folder was lost, and without this node's help: it proves
//! that as it does for a read, by its lease or by a round. One that was deposed with this node's vote and has not noticed
//! gets no majority for it, and its term is below the one that was told.

use bytes::Bytes;
use kv::cluster::Role;
use kv::{Class, Level, NodeId, ShardId};
use replication::Token;

use crate::driver::{Driver, Work};
use crate::open::{Open, Origin, State};
use crate::peers::ANNOUNCE_MICROS;
use crate::wire::Frame;

impl Driver {
    pub(crate) fn begin_rejoin(&mut self) {
        if !self.config.rejoining {
            return;
        }
        for &shard in self.replicas.keys() {
            self.rejoin.insert(shard, None);
            self.inputs.push_back((shard, replication::Input::WholeAt { index: u64::MAX, term: 0 }));
        }
    }

    /// A rejoining node announced itself: it is told how far the shards led here go, once it is proven that they are.
    pub(crate) fn tell_rejoining(&mut self, node: NodeId) {
        let is_asked = |open: &Open| open.origin == Origin::Rejoiner(node);
        let leads = |shard: &ShardId| self.replicas[shard].protocol.status().role == Role::Leader;
        if !self.open.pick(is_asked).is_empty() {
            return;
        }
        for shard in Vec::from_iter(self.replicas.keys().copied().filter(leads)) {
            let token = self.open.insert(Open {
                origin: Origin::Rejoiner(node),
                shard,
                class: Class::Read,
                op: None,
                stamped: Bytes::new(),
                level: Level::Linearizable,
                own_id: None,
                // It announces itself again.
                deadline: self.now.plus(ANNOUNCE_MICROS),
                state: State::Local,
                in_doubt: false,
                why: None,
                fetched: None,
                hidden: false,
                counted: 0,
                charge: kv::Charge::default(),
            });
            self.inputs.push_back((shard, replication::Input::Read { token, level: Level::Linearizable }));
        }
    }

    /// It is proven that a shard is led here. Whether that was for a rejoining node, which is told.
    pub(crate) fn is_proven_for_rejoiner(&mut self, token: Token) -> bool {
        let Some(&Open { origin: Origin::Rejoiner(node), shard, .. }) = self.open.get(token) else {
            return false;
        };
        self.open.remove(token);
        let status = self.replicas.get(&shard).map(|replica| replica.protocol.status());
        if let Some(status) = status.filter(|status| status.role == Role::Leader) {
            let (index, term) = (status.last, status.term);
            self.send(node, &Frame::WholeAt { shard, index, term, rejoining: true });
        }
        true
    }

    /// A leader has told how far a shard goes. To who is rejoining the first proven word counts: what was asked for when this
    /// node knew nothing may arrive when it is whole long since, and then asks for what it never had.
    pub(crate) fn told_whole_at(&mut self, shard: ShardId, index: u64, term: u64, rejoining: bool) {
        let is_rejoining = !self.rejoin.is_empty();
        match self.rejoin.get_mut(&shard) {
            Some(told @ None) if rejoining => *told = Some(index),
            None if !rejoining && !is_rejoining => {}
            _ => return,
        }
        tracing::warn!(%shard, index, "this node lacks entries it may have acknowledged: no vote until it has them");
        self.inputs.push_back((shard, replication::Input::WholeAt { index, term }));
    }

    /// Ends the rejoining when every shard is whole.
    pub(crate) fn end_rejoin(&mut self) {
        if self.rejoin.is_empty() {
            return;
        }
        let whole = self.rejoin.iter().all(|(shard, told)| {
            let durable = self.replicas.get(shard).map_or(0, |replica| replica.protocol.status().durable);
            told.is_some_and(|index| durable >= index)
        });
        if whole {
            self.rejoin.clear();
            self.config.rejoining = false;
            tracing::info!("this node is whole again and votes");
            self.work.push(Work::Rejoined);
        }
    }
}
