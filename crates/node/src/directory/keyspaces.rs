//! Keyspaces, as the leader makes them and as people ask for them.

use kv::cluster::Liveness;
use kv::keyspace::{Described, Wish};
use placement::map::{Keyspace, Map};
use placement::{Event, Refusal};

use super::duties::Reign;

impl Reign {
    /// The map with a keyspace more. Its replicas go to nodes that are heard of and connected at present, whatever is written: that
    /// takes its time, and a shard whose majority never comes is not moved to others by itself, for it may be somewhere else. Who was let
    /// in a moment ago has not been looked at, and may never start.
    pub fn create(&self, name: &str, wish: &Wish) -> Result<Map, Refusal> {
        if self.map.holds_back(name) {
            return Err(self.still_served(name));
        }
        let mut seen = self.map.clone();
        for (id, node) in &mut seen.nodes {
            let seen = self.seen.nodes.get(id);
            let is_silent = seen.and_then(|seen| seen.state).is_some_and(|state| state != Liveness::Alive);
            let is_cut_off = seen.is_none_or(|seen| !seen.is_connected);
            if (is_silent || is_cut_off) && node.state == Liveness::Alive {
                node.state = Liveness::Suspect;
            }
        }
        let mut next = seen.apply(&Event::Create { name: name.into(), wish: *wish })?;
        for (id, node) in &mut next.nodes {
            node.state = self.map.nodes[id].state;
        }
        Ok(next)
    }

    /// Those that clients may ask.
    pub fn keyspaces(&self) -> Vec<Described> {
        let of_clients = self.map.keyspaces.iter().filter(|(_, keyspace)| keyspace.is_for_clients());
        of_clients.map(|(name, keyspace)| self.described(name, keyspace)).collect()
    }

    fn described(&self, name: &str, keyspace: &Keyspace) -> Described {
        let shards = self.map.shards_of(name);
        let changes = |(id, _): &&(kv::ShardId, &placement::map::Shard)| self.map.changes.contains_key(id);
        Described {
            name: name.into(),
            settings: keyspace.settings(),
            shards: shards.len() as u32,
            changing: shards.iter().filter(changes).count() as u32,
            usage: self.seen.usage.get(name).copied(),
        }
    }
}
