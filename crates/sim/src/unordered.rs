//! Runs in which the keys of clients have no order: what members weigh, what is left out, and when such shards are at rest.
//!
//! # Caveats
//!
//! In some runs the keyspace goes on under other protocols and comes back ([`World::draw_recast`]). What is looked at there is what clients see, and
//! that all comes to rest: those that watch every step know one protocol a shard.
//!
//! The copies of such a shard stay where they are, and one that is lost is not made again. So no folder of theirs is lost or put back, and
//! nobody leaves.

use kv::cluster::Role;
use kv::keyspace::Wish;
use kv::merged::{BUCKETS, Found, Look};
use kv::{Protocol, ShardId};
use placement::map::{DEFAULT, Map};

use crate::options::Options;
use crate::random::Random;
use crate::settings::Settings;
use crate::world::World;

/// What members may weigh, the first of more of them again.
const WEIGHTS: [&[u32]; 6] = [&[1], &[1], &[1, 2, 1], &[3, 1, 1], &[2, 1], &[1, 1, 2]];

/// Of 100 runs so many go on under other protocols, and come back.
const RECASTS_PERCENT: u64 = 35;
/// Of 100 looks at what is to be done so many begin a change of protocol, while none is under way.
const RECAST_PERCENT: u64 = 10;

/// Leaves out what such a keyspace does not offer.
pub(crate) fn tame(options: &Options, settings: &mut Settings) {
    // Members stay, and nobody is given what changes.
    (settings.operates, settings.watchers, settings.unordered) = (false, 0, true);
    settings.grace_micros = node::GRACE_MICROS;
    let mut random = Random::new(options.seed.rotate_left(23) ^ 0x7265_6361);
    settings.recasts = options.nodes > 1 && random.percent(RECASTS_PERCENT);
    if settings.recasts {
        // What runs out is told by versions, which those that look at one protocol alone know.
        settings.mortal_percent = 0;
    }
}

/// Draws what members weigh.
pub(crate) fn weigh(options: &Options, map: &mut Map) {
    if options.protocol != Protocol::Quorum {
        return;
    }
    let mut random = Random::new(options.seed.rotate_left(29) ^ 0x7765_6967);
    for row in map.shards.values_mut().filter(|row| row.keyspace == DEFAULT) {
        let weights = random.pick(&WEIGHTS).iter().cycle();
        row.members.iter_mut().zip(weights).for_each(|(member, weight)| member.weight = *weight);
    }
}

impl World {
    /// Another protocol for the keys of clients, now and then.
    pub fn draw_recast(&mut self) -> Option<Wish> {
        let is_time = self.settings.recasts && !self.calm && !self.is_recasting();
        if !is_time || !self.random.percent(RECAST_PERCENT) {
            return None;
        }
        let to = self.random.pick(&[Protocol::Raft, Protocol::Primary, Protocol::TwoPhase]);
        let to = if self.is_without_order() { to } else { Protocol::Quorum };
        Some(Wish { protocol: Some(to), ..Wish::default() })
    }

    fn is_without_order(&self) -> bool {
        self.placed.keyspaces[DEFAULT].protocol == Protocol::Quorum
    }

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
            if status.role != Role::Leader || now != (last, last, last) {
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
        (!are_equal).then(|| format!("shard {shard} has copies that differ"))
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
