//! Whatever happens, in whatever order: every map holds what must, nothing is lost, and it comes to an end where everything is
//! where it should be.

mod world;

use std::collections::BTreeMap;

use kv::ShardId;
use kv::cluster::Liveness;
use kv::keyspace::Wish;
use kv::view::Member;
use placement::map::{Arrangement, Change, Map, NodeDuty, Phase, Shard, Why};
use placement::plan::lost;
use placement::{Event, Limits, plan};
use proptest::prelude::*;
use world::{UNLIMITED, add, counts, done, leads, map, settle, spread};

const LIMITS: Limits = Limits { changes: 3, per_node: 2 };

/// Something that happens: what, to which node or shard, with what besides.
type Step = (u8, u8, bool);

/// Three nodes with a keyspace of each kind.
fn begin() -> Map {
    let mut map = map(&[(NodeDuty::Serve, 0); 3]);
    add(&mut map, "copies", Arrangement::Even, 3, &vec![vec![1, 2, 3]; 5]);
    add(&mut map, "pieces", Arrangement::Contiguous, 1, &[vec![1], vec![1], vec![2], vec![3]]);
    add(&mut map, "singles", Arrangement::Even, 1, &[vec![1], vec![2], vec![3], vec![1]]);
    settle(&map, &UNLIMITED, |_| 0).0
}

fn happen(map: &Map, (what, which, flag): Step, lives: &mut u64) -> Map {
    let node = map.nodes.keys().nth(usize::from(which) % map.nodes.len()).copied().expect("there is a node");
    let name = map.nodes[&node].name.clone();
    let change = map.changes.keys().nth(usize::from(which) % map.changes.len().max(1)).copied();
    let shard = change.unwrap_or(ShardId(u32::from(which)));
    let event = match what {
        0 => {
            *lives += 1;
            let (peer, address) = (format!("{lives}:1"), format!("{lives}:2"));
            let name = if flag { name } else { format!("m{lives}") };
            Event::Join { name, incarnation: *lives, peer, address, zone: String::new() }
        }
        1 => Event::Drain { name, fewer: flag },
        2 => Event::Leave { name, fewer: flag },
        3 => Event::Serve { name },
        4 => Event::Replace { name, lose: flag && which > 200 },
        5 => Event::Health { node, state: Liveness::Dead },
        6 | 7 => Event::Health { node, state: Liveness::Alive },
        8 => Event::Health { node, state: Liveness::Suspect },
        9 => Event::Progress { shard, phase: Phase::Switch },
        10 => Event::Abort { shard },
        11 => keyspace_event(which, flag),
        _ => return change.map_or_else(|| map.clone(), |shard| done(map, shard)),
    };
    map.apply(&event).unwrap_or_else(|_| map.clone())
}

/// A keyspace comes, goes, or its name is free.
fn keyspace_event(which: u8, flag: bool) -> Event {
    let name = ["tea", "rum"][usize::from(flag)].to_owned();
    match which % 3 {
        0 => Event::Create { name, wish: Wish { shards: Some(u32::from(which % 4) + 1), ..Wish::default() } },
        1 => Event::Drop { name },
        _ => Event::Free { name },
    }
}

/// What must hold of a plan: what it begins can be done, and loses nothing.
fn check_plan(before: &Map, after: &Map) {
    assert_eq!(after.check(), Ok(()), "{after:#?}");
    assert!(after.changes.len() <= LIMITS.changes.max(before.changes.len()));
    let lives = |member: &&Member| before.nodes[&member.node].state != Liveness::Dead;
    let has_majority = |members: &[Member]| members.iter().filter(lives).count() > members.len() / 2;
    // Who was to go on with it is gone: it goes back to those who had it, be they alive or not.
    let goes_back = |id: &ShardId, change: &Change| {
        let is_gone = |member: &Member| before.nodes[&member.node].duty == NodeDuty::Gone;
        let heirs = before.changes.get(id).filter(|change| change.phase == Phase::Switch);
        let nodes = |members: &[Member]| members.iter().map(|member| member.node).collect::<Vec<_>>();
        heirs.is_some_and(|before| before.to.iter().any(is_gone) && before.epoch < change.epoch)
            && matches!(change.why, Why::Lost(_))
            && nodes(&change.to) == nodes(&before.shards[id].members)
    };
    for (id, change) in &after.changes {
        let Shard { members, .. } = &after.shards[id];
        assert_eq!(*members, before.shards[id].members, "members change when a change is done");
        if before.changes.get(id) != Some(change) {
            let lives = has_majority(members) && has_majority(&change.to);
            assert!(lives || goes_back(id, change), "shard {id}: {change:?}");
            let new = change.to.iter().filter(|member| !members.contains(member));
            let is_given = |member: &Member| member.replica < before.shards[id].next_replica;
            assert!(new.into_iter().all(|member| !is_given(member)), "a number is given twice");
        }
    }
    for (id, change) in &before.changes {
        let goes_on = |now: &Change| now == change || goes_back(id, now);
        let is_kept = change.phase == Phase::Copy || after.changes.get(id).is_some_and(goes_on);
        assert!(is_kept, "a switch goes on, or the shard goes back");
    }
    for id in before.nodes.keys().filter(|id| !after.nodes.contains_key(*id)) {
        assert!(matches!(before.nodes[id].duty, NodeDuty::Leave | NodeDuty::Gone));
    }
}

/// What must hold when nothing is left to be done, and all nodes that are not gone live.
fn check_end(map: &Map) {
    let lost = lost(map);
    let takers = map.nodes.values().filter(|node| node.duty == NodeDuty::Serve).count();
    for (id, shard) in map.shards.iter().filter(|(id, _)| !lost.contains(id)) {
        let wants = usize::from(map.keyspaces[&shard.keyspace].replicas).min(takers);
        let wants = if *id == ShardId::DIRECTORY { (wants - 1) / 2 * 2 + 1 } else { wants };
        assert_eq!(shard.members.len(), wants, "shard {id} of {takers} nodes");
        let serves = |member: &Member| map.nodes[&member.node].duty == NodeDuty::Serve;
        assert!(shard.members.iter().all(serves), "shard {id} is on a node that takes nothing");
    }
    if lost.is_empty() {
        let former = |node: &placement::map::Node| matches!(node.duty, NodeDuty::Leave | NodeDuty::Gone);
        let waits = !map.dropped.is_empty();
        assert!(waits || !map.nodes.values().any(former), "who has left is no member");
        let of_takers = |mut counts: BTreeMap<u64, usize>| {
            counts.retain(|id, _| map.nodes[&kv::NodeId(*id)].duty == NodeDuty::Serve);
            spread(&counts)
        };
        for keyspace in ["copies", "pieces", "singles"] {
            assert!(of_takers(counts(map, keyspace)) <= 1, "replicas of {keyspace}");
            assert!(of_takers(leads(map, keyspace)) <= 1, "leaders of {keyspace}");
        }
        let pieces: Vec<u64> = map.shards_of("pieces").iter().map(|(_, shard)| shard.leader.0).collect();
        assert!(pieces.is_sorted(), "ranges are in the order of joining: {pieces:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn history_of_any_kind_ends_well(steps in prop::collection::vec((0u8..16, any::<u8>(), any::<bool>()), 0..60)) {
        let (mut map, mut lives) = (begin(), 1000);
        for step in steps {
            let next = happen(&map, step, &mut lives);
            prop_assert_eq!(next.check(), Ok(()));
            prop_assert!(next.revision == map.revision + u64::from(next != map));
            map = next;
            while let Some(next) = plan(&map, &LIMITS) {
                check_plan(&map, &next);
                map = next;
            }
        }
        for node in map.nodes.values_mut().filter(|node| node.duty != NodeDuty::Gone) {
            node.state = Liveness::Alive;
        }
        let (end, _) = settle(&map, &LIMITS, |count| count - 1);
        check_end(&end);
        prop_assert_eq!(Map::decode(&end.encode()), Ok(end));
    }
}
