//! Shards whose writes wait for nobody, and whose primary is lost: who has most of the others follows, without being asked.
//!
//! Elsewhere a shard whose members in sync are all lost waits for one of them, or for people, for nobody else has all that was acknowledged.
//! Where a write waits for nobody beside the primary (`sync: 0`) those who said so chose to go on and to be told what was lost. It is as if
//! the operator had forced it ([`placement::map::Map::follow`]): who was lost brings what only it had to the ledger when it is back.
//!
//! ```text
//!   n1 orders, n2 and n3 learn     n1 falls silent     seen as dead for a while, 7 s later     n2 has most of what n2 and n3 have: it orders
//! ```
//!
//! That is later than one that is in sync takes over: what is cut off or restarts within that time loses nothing. And it needs what every
//! plan needs: a leader that had the time to hear of all, and most nodes alive.
//!
//! # Caveats
//!
//! - Who was cut off, and not lost, acknowledges on its side until it hears of the next one; that is in the ledger afterwards.
//! - Who has most is known by what the members announced last. All that are left may lack much, where one was being brought up to date
//!   while the primary was lost. One that has nothing yet is not chosen.

use kv::cluster::Liveness;
use kv::view::{Duty, Member};
use kv::{NodeId, ShardId};
use placement::map::{Map, NodeDuty};
use replication::Instant;

use super::duties::Reign;
use super::ruling::as_seen;

/// A node is lost when it has been seen as dead for so long: who decides may have stood still, and has to have the time to hear of a node
/// that announces itself every second.
const SEEN_MICROS: u64 = 1_500_000;
/// Shards that are followed by one transaction: as many as a keyspace may have.
const SHARDS_MAX: usize = kv::keyspace::SHARDS_MAX as usize;

impl Reign {
    /// Has others follow, if they are to.
    pub(super) fn follow(&self, map: &mut Map, now: Instant) {
        let shards = map.orphaned_shards(|node| self.is_lost(node, now));
        if shards.is_empty() || !self.may_plan(now) {
            return;
        }
        let mut next = as_seen(self, map, now);
        for shard in shards.into_iter().take(SHARDS_MAX) {
            let Some(heir) = self.who_has_most(map, shard) else { continue };
            match next.follow(shard, heir) {
                Ok(()) => tracing::warn!(
                    %shard, %heir,
                    "the primary of a shard whose writes wait for nobody is lost: another one follows, and what it lacks goes to the ledger"
                ),
                Err(why) => tracing::debug!(%shard, %heir, %why, "a primary that is lost is not followed"),
            }
        }
        let states: Vec<Liveness> = map.nodes.values().map(|node| node.state).collect();
        next.nodes.values_mut().zip(states).for_each(|(node, state)| node.state = state);
        *map = next;
    }

    fn is_lost(&self, node: NodeId, now: Instant) -> bool {
        let is_gone = self.map.nodes.get(&node).is_none_or(|node| node.duty == NodeDuty::Gone);
        is_gone || self.seems_dead(node, now) && self.is_dead_for(node, SEEN_MICROS, now)
    }

    /// Of those that learn and are heard of the one that has applied most, by what it said last.
    fn who_has_most(&self, map: &Map, shard: ShardId) -> Option<NodeId> {
        let row = map.shards.get(&shard)?;
        let said = self.seen.shards.get(&shard)?;
        let applied = |member: &Member| {
            let told = said.get(&member.node).filter(|told| told.epoch == row.epoch)?;
            Some((told.applied, member.node)).filter(|(applied, _)| *applied > 0)
        };
        let learns = row.members.iter().filter(|member| member.duty == Duty::Learner);
        let heard = learns.filter(|member| self.is_heard(&member.node));
        heard
            .filter_map(applied)
            .max_by_key(|(applied, node)| (*applied, std::cmp::Reverse(*node)))
            .map(|(_, node)| node)
    }
}
