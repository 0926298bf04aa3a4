//! When the copies of shards without an order are at rest: they are equal, and hold no tombstones; and they are as all that was stored would have
//! them.

use kv::ShardId;
use kv::cluster::Role;
use kv::merged::{BUCKETS, Found, Look};

use crate::world::World;

impl World {
    /// Why a shard without an order is not at rest: its copies are not equal, or hold tombstones.
    pub fn unrest_without_order(&self, shard: ShardId) -> Option<String> {
        let mut sums = Vec::new();
        for member in &self.placed.shards[&shard].members {
            let id = member.node;
            let cores = self.machine(id).process.as_ref().map(|process| &process.cores);
            let status = cores.and_then(|cores| cores.replica_status(shard));
            let table = cores.and_then(|cores| cores.table(shard));
            let (Some(status), Some(table)) = (status, table) else {
                return Some(format!("shard {shard} is not on {id}"));
            };
            let (last, now) = (status.last, (status.durable, status.commit, status.applied));
            if status.role != Role::Member || now != (last, last, last) {
                return Some(format!("shard {shard} on {id}: {status:?}"));
            }
            let found = table.look(shard, &Look::Tombstones { after: None });
            if let Ok(Found::Names { names, .. }) = found
                && !names.is_empty()
            {
                return Some(format!("shard {shard} on {id} holds tombstones: {names:?}"));
            }
            sums.push(table.look(shard, &Look::Digests { first: 0, count: BUCKETS, width: 1 }).ok());
        }
        let are_equal = sums.windows(2).all(|pair| pair[0].is_some() && pair[0] == pair[1]);
        (!are_equal).then(|| format!("shard {shard} has copies that differ: {}", self.differing(shard)))
    }

    /// The newest rows of the copies of a shard.
    fn differing(&self, shard: ShardId) -> String {
        let look = Look::Buckets { buckets: (0..BUCKETS).collect(), after: None };
        let machines = self.machines.iter().filter_map(|machine| {
            let table = machine.process.as_ref()?.cores.table(shard)?;
            Some(format!("{} has {:?}", machine.id, table.look(shard, &look).ok()?))
        });
        Vec::from_iter(machines).join("; ")
    }

    /// At rest, what is not as all that was stored would have it.
    pub fn not_converged(&self) -> Vec<String> {
        let wrong = |shard: ShardId| {
            let machines = self.machines.iter().filter_map(move |machine| {
                let table = machine.process.as_ref()?.cores.table(shard)?;
                self.watch.merged.converged(machine.id, shard, table)
            });
            machines.collect::<Vec<_>>()
        };
        let shards = self.shards().into_iter().filter(|shard| self.watch.merged.has(*shard));
        shards.flat_map(wrong).collect()
    }
}
