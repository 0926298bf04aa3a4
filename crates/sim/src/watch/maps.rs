//! The maps that are written are one history: of one revision there is one map, each is sound (the guarantee of `node`'s directory,
//! `placement::map::Map::check`), and no change that is begun moves more than it must (that of `placement::plan`).

use std::collections::BTreeMap;
use std::sync::Arc;

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
    // Only what makes counts more even moves: afterwards, who takes has not more than who gives, or one more at most.
    let count = |node: NodeId| {
        let of_keyspace = map.shards.iter().filter(|(_, other)| other.keyspace == row.keyspace);
        let wanted = |(id, row): (&ShardId, &placement::map::Shard)| {
            let members = map.changes.get(id).map_or(&row.members, |change| &change.to);
            members.iter().any(|member| member.node == node)
        };
        of_keyspace.filter(|shard| wanted(*shard)).count()
    };
    let givers = || goes().filter(|member| serves(member.node));
    let most = comes().map(|member| count(member.node)).max()?;
    let least = givers().map(|member| count(member.node)).min()?;
    (most > least + 1).then_some("makes counts less even")
}
