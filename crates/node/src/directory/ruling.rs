//! What only people can decide about the members of a shard, by how its nodes are seen now.

use kv::Error;
use kv::admin::{Answer, Ruling};
use kv::cluster::Liveness;
use kv::view::Duty;
use placement::map::Map;
use replication::Instant;

use super::asks::{Decision, refused};
use super::duties::Reign;

/// Decides a ruling on a keyspace. What is written of nodes takes its time: who is seen dead counts as dead, and nothing is decided while
/// one may be about to come back.
pub(super) fn decide(
    reign: &Reign,
    keyspace: &str,
    ruling: &Ruling,
    dry_run: bool,
    now: Instant,
) -> Decision {
    let answer = match silent_lately(reign, keyspace, now) {
        Some(name) => Err(Error::Unavailable(format!(
            "node '{name}' has been silent for some seconds only, and may be about to come back: ask again in a moment"
        ))),
        None => match as_seen(reign, &reign.map, now).ruled(keyspace, ruling) {
            Ok((mut next, shards)) => {
                for (id, node) in &mut next.nodes {
                    node.state = reign.map.nodes[id].state;
                }
                let next = (!dry_run && next.revision > reign.map.revision).then_some(next);
                return Decision { next, answer: Ok(Answer::Ruled(shards)) };
            }
            Err(refusal) => Err(refused(refusal)),
        },
    };
    Decision { next: None, answer }
}

/// A map, in which all are dead that are seen so, and nobody alive who is not heard of.
pub(super) fn as_seen(reign: &Reign, map: &Map, now: Instant) -> Map {
    let mut map = map.clone();
    for (id, node) in &mut map.nodes {
        node.state = match (reign.seems_dead(*id, now), reign.is_heard(id)) {
            (true, _) => Liveness::Dead,
            (false, true) => Liveness::Alive,
            (false, false) if node.state == Liveness::Alive => Liveness::Suspect,
            (false, false) => node.state,
        };
    }
    map
}

/// Who is in sync in a shard of a keyspace, is not heard of, and not for so long that it counts as dead.
fn silent_lately(reign: &Reign, keyspace: &str, now: Instant) -> Option<String> {
    let shards = reign.map.shards_of(keyspace).into_iter().map(|(_, shard)| shard);
    let in_sync = |duty: Duty| matches!(duty, Duty::Primary | Duty::Voter);
    let mut nodes = shards.flat_map(|shard| shard.members.iter()).filter(|member| in_sync(member.duty));
    let name = |member: &kv::view::Member| reign.map.nodes.get(&member.node).map(|node| node.name.clone());
    nodes.find_map(|member| name(member).filter(|name| reign.is_silent_lately(name, now)))
}
