//! What shards go by: the settings of their keyspaces, and whether those are full.
//!
//! A map says what a keyspace keeps of its keys and what it may hold; a replica says what its shard holds, and every announcement
//! tells it to all nodes. What follows from both decides what applying an entry does, so all replicas must go by the same at the same
//! entry: whoever leads a shard orders an advance that says it ([`kv::keyspace::Rules`]), once a second where it is not as it is to
//! be, and before the first write that is given to the shard.
//!
//! ```text
//!   map: quota 100 keys          leader of shard 1               leader of shard 2
//!                                 holds 60, hears 30              holds 30, hears 60
//!   put, put, ..                  holds 70 ───── announced ─────▶ 30 + 70 = 100: full
//!                                 orders {full}                   orders {full}
//!   put of a new key              refused, at its entry           refused
//!   del, del                      holds 68 ───── announced ─────▶ orders {not full}
//! ```
//!
//! # Caveats
//!
//! What is written between two announcements is taken: a keyspace passes its quota by what comes in within about a second, and by what
//! was ordered before the advance. A shard of which nobody says anything counts as what it held when it was last heard of.

use std::collections::BTreeMap;
use std::sync::Arc;

use kv::keyspace::{History, Keep, Rules, Standing, Usage};
use kv::{Protocol, ShardId};
use placement::map::{Keyspace, Map};

use super::core::Core;
use super::replica::Replica;
use crate::node::Node;
use crate::wire::Announced;

impl Replica {
    /// Whether its shard does not go by what it is to.
    pub fn lacks_rules(&self) -> bool {
        let (is, wanted) = (&self.standing.rules, &self.wanted);
        let same_full = match (&is.full, &wanted.full) {
            (Some(is), Some(wanted)) => is.is_like(wanted),
            (is, wanted) => is.is_none() == wanted.is_none(),
        };
        is.keep != wanted.keep || !same_full
    }
}

impl Core {
    /// The table says how a shard stands.
    pub fn stands(&mut self, shard: ShardId, standing: Standing) {
        if let Some(replica) = self.replicas.get_mut(&shard) {
            replica.standing = standing;
        }
    }

    /// Replicas of another core of this node are like this.
    pub fn announced_beside(&mut self, node: &Node, replicas: Vec<Announced>) {
        let others = replicas.into_iter().filter(|replica| !node.drives(replica.shard));
        self.beside.extend(others.map(|replica| (replica.shard, replica)));
    }

    /// Counts what keyspaces hold, and has the shards that are led here go by what they are to.
    pub fn rule(&mut self, node: &Node) {
        let map = node.config.map.clone();
        self.beside.retain(|shard, _| map.shards.contains_key(shard) || map.row_of_part(*shard).is_some());
        let counts = self.is_ordered_here(ShardId::DIRECTORY);
        let usage = self.count(node, &map, |keyspace| counts || keyspace.quota != Default::default());
        for (shard, replica) in &mut self.replicas {
            replica.wanted = rules_of(&map, &usage, node.config.history, *shard);
        }
        self.usage = Arc::new(usage);
        self.order_rules(node);
    }

    /// Has shards go by what a new map says, as far as they are led here.
    pub fn follow_settings(&mut self, node: &Node) {
        let map = node.config.map.clone();
        for (shard, replica) in &mut self.replicas {
            replica.wanted = rules_of(&map, &self.usage, node.config.history, *shard);
        }
        self.order_rules(node);
    }

    fn order_rules(&mut self, node: &Node) {
        let lack = |(shard, replica): (&ShardId, &Replica)| replica.lacks_rules().then_some(*shard);
        for shard in Vec::from_iter(self.replicas.iter().filter_map(lack)) {
            self.order_rules_of(node, shard);
        }
    }

    /// Has a shard go by what it is to, if it is led here and does not: what is proposed after that finds it so.
    pub fn order_rules_of(&mut self, node: &Node, shard: ShardId) {
        let replica = &self.replicas[&shard];
        let can = replica.advance.is_none() && replica.rules() && node.full_disks(replica.view()).is_none();
        if can && replica.lacks_rules() {
            let last = replica.last;
            self.advance(node, shard, None, last);
        }
    }

    /// What the keyspaces hold that `wanted` picks; none of which nothing is known of some shard.
    fn count(&self, node: &Node, map: &Map, wanted: impl Fn(&Keyspace) -> bool) -> BTreeMap<String, Usage> {
        let picked =
            map.keyspaces.iter().filter(|(_, keyspace)| keyspace.is_for_clients() && wanted(keyspace));
        let mut usage: BTreeMap<&str, Option<Usage>> =
            picked.map(|(name, _)| (name.as_str(), Some(Usage::default()))).collect();
        for (shard, row) in &map.shards {
            let Some(sum) = usage.get_mut(row.keyspace.as_str()) else { continue };
            *sum = sum.zip(self.told(node, *shard)).map(|(mut sum, more)| {
                sum += more;
                sum
            });
        }
        usage.into_iter().filter_map(|(name, sum)| Some((name.to_owned(), sum?))).collect()
    }

    /// What a shard holds, as who has applied most of its log says.
    fn told(&self, node: &Node, shard: ShardId) -> Option<Usage> {
        let of_peers = node.config.seats(shard).filter_map(|peer| node.peers.replica(peer, shard));
        let told = of_peers.chain(self.beside.get(&shard)).map(|told| (told.epoch, told.applied, told.usage));
        let own = self.replicas.get(&shard);
        let own = own.map(|own| (own.view().epoch, own.protocol.status().applied.0, own.standing.usage));
        told.chain(own).max_by_key(|(epoch, applied, _)| (*epoch, *applied)).map(|(.., usage)| usage)
    }
}

/// What a shard is to go by. The table does not know which of those without an order keeps earlier revisions: so under `broadcast` they are
/// told, `usual` where the keyspace says nothing of them.
fn rules_of(map: &Map, usage: &BTreeMap<String, Usage>, usual: Option<History>, shard: ShardId) -> Rules {
    let name = map.shards.get(&shard).map(|row| &row.keyspace);
    let Some((name, keyspace)) = name.and_then(|name| map.keyspaces.get_key_value(name)) else {
        return Rules::default();
    };
    let full = usage.get(name).and_then(|usage| keyspace.quota.full(*usage));
    let usual = usual.filter(|_| keyspace.protocol == Protocol::Broadcast);
    Rules { keep: Keep { history: keyspace.keep.history.or(usual), ..keyspace.keep }, full }
}
