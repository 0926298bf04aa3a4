//! Keyspaces, as the leader makes them and as people ask for them.

use kv::cluster::Liveness;
use kv::keyspace::{Described, Wish};
use placement::map::{Keyspace, Map};
use placement::{Event, Refusal};

use replication::Instant;

use super::duties::Reign;
use super::seen::SeenNode;

impl Reign {
    /// The map with a keyspace more. Its replicas go to nodes that are heard of and connected at present, whatever is written, and have
    /// said something since it was asked for: what is written takes its time, and a shard whose majority never comes is not moved to
    /// others by itself, for that majority may serve it somewhere else. Who was let in a moment ago has not been looked at, and may
    /// never start.
    pub fn create(&self, name: &str, wish: &Wish) -> Result<Map, Refusal> {
        if self.map.holds_back(name) {
            return Err(self.still_served(name));
        }
        let mut seen = self.map.clone();
        for (id, node) in &mut seen.nodes {
            let is_there = self.seen.nodes.get(id).is_some_and(|seen| self.has_spoken(seen, self.sounded));
            if !is_there && node.state == Liveness::Alive {
                node.state = Liveness::Suspect;
            }
        }
        let mut next = seen.apply(&Event::Create { name: name.into(), wish: wish.clone() })?;
        for (id, node) in &mut next.nodes {
            node.state = self.map.nodes[id].state;
        }
        Ok(next)
    }

    /// Whether all nodes that could have a replica of it, as far as is known, have said something since then.
    pub fn have_spoken(&self, since: Instant) -> bool {
        let may_speak = |seen: &&SeenNode| seen.is_connected && seen.state == Some(Liveness::Alive);
        self.seen.nodes.values().filter(may_speak).all(|seen| self.has_spoken(seen, since))
    }

    /// Whether a node can be reached, and has said something since then.
    fn has_spoken(&self, seen: &SeenNode, since: Instant) -> bool {
        let is_silent = seen.state.is_some_and(|state| state != Liveness::Alive);
        seen.is_connected && !is_silent && seen.heard.is_some_and(|heard| heard >= since)
    }

    /// Those that clients may ask.
    pub fn keyspaces(&self) -> Vec<Described> {
        let of_clients = self.map.keyspaces.iter().filter(|(_, keyspace)| keyspace.is_for_clients());
        of_clients.map(|(name, keyspace)| self.described(name, keyspace)).collect()
    }

    fn described(&self, name: &str, keyspace: &Keyspace) -> Described {
        let shards = self.map.shards_of(name);
        let changes = |(id, _): &&(kv::ShardId, &placement::map::Shard)| self.map.changes.contains_key(id);
        let is_under_another =
            |(_, shard): &&(kv::ShardId, &placement::map::Shard)| shard.protocol != keyspace.protocol;
        Described {
            name: name.into(),
            settings: keyspace.settings(),
            shards: shards.len() as u32,
            changing: shards.iter().filter(changes).count() as u32,
            under_another: shards.iter().filter(is_under_another).count() as u32,
            usage: self.seen.usage.get(name).copied(),
        }
    }
}
