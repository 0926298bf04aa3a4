//! The maps that are written are one history: of one revision there is one map, each is sound (the guarantee of `node`'s directory,
//! `placement::map::Map::check`), and no change that is begun moves more than it must (that of `placement::plan`).

use std::collections::BTreeMap;
use std::sync::Arc;

use kv::cluster::Liveness;
use kv::view::Member;
use kv::{NodeId, ShardId};
use placement::map::{Arrangement, Change, Map, NodeDuty, Why};

/// The maps that nodes said are written.
#[derive(Default)]
pub(crate) struct Maps {
    written: BTreeMap<u64, Arc<Map>>,
}

impl Maps {
    /// A node says that a map is written: what is wrong with it.
    pub fn decided(&mut self, node: NodeId, map: &Arc<Map>) -> Option<String> {
        if let Some(known) = self.written.get(&map.revision) {
            return (known != map).then(|| {
                format!("one map a revision: {node} has written {map:?}, which was {known:?} for another")
            });
        }
        let before = self.written.range(..map.revision).next_back().map(|(_, before)| before.clone());
        self.written.insert(map.revision, map.clone());
        let wrong = map.check().err().map(|why| format!("maps are sound: {why}"));
        wrong
            .or_else(|| needless(before.as_deref()?, map))
            .map(|why| format!("{why}: {node} has written {map:?}"))
    }
}

/// A change that was begun between two maps and moves more than it must.
fn needless(before: &Map, map: &Map) -> Option<String> {
    let is_new = |(id, change): &(&ShardId, &Change)| {
        before.changes.get(*id).is_none_or(|before| before.to != change.to)
    };
    map.changes.iter().filter(is_new).find_map(|(id, change)| {
        let why = more_than_needed(map, *id, change)?;
        Some(format!("no change moves more than it must: that of shard {id} {why}"))
    })
}

fn more_than_needed(map: &Map, id: ShardId, change: &Change) -> Option<&'static str> {
    let row = &map.shards[&id];
    let keyspace = &map.keyspaces[&row.keyspace];
    if keyspace.arrangement == Arrangement::First {
        return None;
    }
    let serves = |node: NodeId| map.nodes[&node].duty == NodeDuty::Serve;
    let goes = || row.members.iter().filter(|old| change.to.iter().all(|new| new.node != old.node));
    let comes = || change.to.iter().filter(|new| row.member(new.node).is_none());
    let lacks = usize::from(keyspace.replicas).saturating_sub(row.members.len());
    if comes().count() > goes().count() + lacks {
        return Some("brings more replicas than it is short of");
    }
    let has_zones = map.nodes.values().any(|node| !node.zone.is_empty());
    if change.why != Why::Balance || has_zones {
        return None;
    }
    // Only what makes counts more even moves: afterwards, who takes has not more than who gives, or one more at most. Who gives
    // may be to take what is on nodes that are to have none; and who takes, to give as much to a third that has no more than who gives
    // is left with, and has what that one could give already. Or who gives is to take from a third that has what who takes has, and
    // could not give it to that one. Where shards lack replicas, or have too many, more is under way.
    let of_keyspace = || map.shards.iter().filter(|(_, other)| other.keyspace == row.keyspace);
    let wanted =
        || of_keyspace().map(|(id, row)| map.changes.get(id).map_or(&row.members, |change| &change.to));
    let serving = || map.nodes.keys().copied().filter(|node| serves(*node));
    let wants = usize::from(keyspace.replicas).min(serving().count());
    let is_whole = |members: &Vec<Member>| members.len() == wants;
    if !of_keyspace().all(|(_, row)| is_whole(&row.members)) || !wanted().all(is_whole) {
        return None;
    }
    let is_on = |members: &[Member], node: NodeId| members.iter().any(|member| member.node == node);
    let count = |node: NodeId| wanted().filter(|members| is_on(members, node)).count();
    let leaves = |members: &[Member]| members.iter().any(|member| !serves(member.node));
    let may_take = |node: NodeId| wanted().filter(|members| leaves(members) && !is_on(members, node)).count();
    let givers = || goes().filter(|member| serves(member.node));
    let most = comes().map(|member| count(member.node)).max()?;
    let least = givers().map(|member| count(member.node) + may_take(member.node)).min()?;
    let has_few = |node: &NodeId| goes().all(|member| member.node != *node) && count(*node) <= least;
    let is_there = |node: &NodeId| row.member(*node).is_some();
    let could_take = |node: &NodeId| !is_there(node) && map.nodes[node].state == Liveness::Alive;
    let few = || serving().filter(has_few);
    let hands_on =
        most == least + 2 && few().any(|node| is_there(&node)) && !few().any(|node| could_take(&node));
    let settled =
        || of_keyspace().filter(|(id, _)| !map.changes.contains_key(id)).map(|(_, row)| &row.members);
    let passes_on = |members: &Vec<Member>| {
        comes().any(|member| is_on(members, member.node))
            && givers().any(|member| !is_on(members, member.node))
            && members
                .iter()
                .any(|third| count(third.node) + 1 >= most && comes().all(|new| new.node != third.node))
    };
    let takes_on = most == least + 2 && settled().any(passes_on);
    (most > least + 1 && !hands_on && !takes_on).then_some("makes counts less even")
}

#[cfg(test)]
mod tests {
    use kv::Protocol;
    use kv::keyspace::Wish;
    use kv::view::{Revision, View};
    use placement::map::Phase;
    use placement::{Event, Founder, Founding, Limits, plan};

    use super::*;
    use crate::random::Random;

    /// So many nodes, and shards on these; the last one is to be on others.
    fn begun(nodes: u64, shards: &[&[u64]], to: &[u64]) -> Map {
        let founder = |id| Founder { name: format!("n{id}"), peer: String::new() };
        let founding = Founding {
            cluster: None,
            nodes: (1..=nodes).map(founder).collect(),
            shards: shards.len() as u32,
            replicas: 2,
            protocol: Protocol::Raft,
        };
        let mut map = Map::founding(&founding);
        let mut last = ShardId(0);
        for (id, nodes) in (1..).map(ShardId).zip(shards) {
            let row = map.shards.get_mut(&id).unwrap();
            let nodes: Vec<NodeId> = nodes.iter().copied().map(NodeId).collect();
            row.members = View::of(row.epoch, &nodes).members;
            last = id;
        }
        let epoch = map.shards[&last].epoch;
        let to: Vec<NodeId> = to.iter().copied().map(NodeId).collect();
        let to = View::of(epoch, &to).members;
        map.changes.insert(last, Change { to, epoch, phase: Phase::Copy, why: Why::Balance });
        map
    }

    /// A settled cluster in which things happen to nodes, while changes are begun a few at a time and end in any order.
    fn play(seed: u64) -> Result<(), String> {
        let mut random = Random::new(seed);
        let nodes = random.between(5, 7);
        let mut map = begun(nodes, &[&[1, 2]], &[1, 3]);
        map.changes.clear();
        for name in ["tea", "rum"] {
            let wish = Wish {
                replicas: Some(random.between(1, 5) as u16),
                shards: Some(random.between(1, 6) as u32),
                ..Wish::default()
            };
            map = map.apply(&Event::Create { name: name.into(), wish }).unwrap();
        }
        let limits = Limits { changes: random.between(1, 4) as usize, per_node: 2 };
        for _ in 0..60 {
            let name = format!("n{}", random.between(1, nodes));
            let node = NodeId(random.between(1, nodes));
            let state = random.pick(&[Liveness::Alive, Liveness::Alive, Liveness::Suspect, Liveness::Dead]);
            let event = match random.below(10) {
                0 => Event::Drain { name, fewer: true },
                1 => Event::Serve { name },
                2 if random.percent(50) => {
                    let replicas = Some(random.between(1, 5) as u16);
                    let wish = Wish { replicas, ..Wish::default() };
                    Event::Alter { name: random.pick(&["tea", "rum"]).into(), wish }
                }
                2 | 3 => Event::Health { node, state },
                _ => {
                    let changing: Vec<ShardId> = map.changes.keys().copied().collect();
                    if changing.is_empty() {
                        continue;
                    }
                    let shard = random.pick(&changing);
                    let (row, change) = (&map.shards[&shard], &map.changes[&shard]);
                    let before = if change.epoch > row.epoch { 0 } else { row.revision.0 };
                    Event::Done { shard, revision: Revision(before + 1) }
                }
            };
            let mut next = map.apply(&event).unwrap_or_else(|_| map.clone());
            next = plan(&next, &limits).unwrap_or(next);
            if let Some(why) = needless(&map, &next) {
                return Err(format!("{seed}: {event:?}: {why}: {next:?}"));
            }
            map = next;
        }
        Ok(())
    }

    #[test]
    fn plans_are_never_seen_as_needless() {
        let wrong = (0..200).chain([1106]).find_map(|seed| play(seed).err());
        assert_eq!(wrong, None);
    }

    #[test]
    fn change_that_makes_counts_less_even_is_seen_unless_who_gives_is_to_take_more() {
        let mut map = begun(5, &[&[4, 5], &[1, 4], &[1, 2]], &[2, 4]);
        let seen = |map: &Map| more_than_needed(map, ShardId(3), &map.changes[&ShardId(3)]);
        assert_eq!(seen(&map), Some("makes counts less even"), "three on node 4, and one on node 1");
        map.nodes.get_mut(&NodeId(5)).unwrap().duty = NodeDuty::Drain;
        assert_eq!(seen(&map), None, "what is on node 5 comes to node 1");
        let even = begun(5, &[&[3, 5], &[1, 4], &[1, 2]], &[2, 4]);
        assert_eq!(seen(&even), None);
    }
}
