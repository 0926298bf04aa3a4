//! What the map wants of replicas that are there.

use std::sync::Arc;

use kv::view::{Duty, Member};
use kv::{Answer, Index, Position};
use placement::map::{Change, Phase, Why};
use replication::Ticket;

use super::super::{Input as DriverInput, SnapshotPart};
use super::*;
use crate::job::{Done, Job};

/// A later map in which the shard is to have other members: the last one leaves.
fn with_change(test: &Test) -> Map {
    let mut map = Map::clone(test.driver.map());
    map.revision += 1;
    let row = &map.shards[&SHARD];
    let to = row.members[..2].to_vec();
    map.changes.insert(SHARD, Change { to, epoch: row.epoch, phase: Phase::Switch, why: Why::Balance });
    map
}

/// A later map in which this node has no replica of the shard, as of a revision of its members.
fn without_me(test: &Test, revision: Revision) -> Map {
    let mut map = Map::clone(test.driver.map());
    map.revision += 1;
    let row = map.shards.get_mut(&SHARD).unwrap();
    row.members.retain(|member| member.node != ME);
    (row.revision, row.leader) = (revision, OTHER);
    map
}

fn given(test: &mut Test, map: Map) -> Vec<Work> {
    test.now += 1;
    test.turn(vec![DriverInput::Map(Arc::new(map))])
}

fn wants(test: &mut Test) -> usize {
    test.given(1).iter().filter(|given| given.starts_with("Want")).count()
}

#[test]
fn members_of_a_change_are_wanted_until_the_shard_has_them() {
    let mut test = Test::new(1);
    let mut map = with_change(&test);
    let change = map.changes.get_mut(&SHARD).unwrap();
    change.phase = Phase::Switch;
    let to = change.to.clone();
    given(&mut test, map);
    assert_eq!(wants(&mut test), 1);
    test.sent(1_000_000, vec![]);
    assert_eq!(wants(&mut test), 1, "whoever leads by now hears of it");
    let view = View { revision: Revision(8), members: to, ..test.view() };
    test.hear(1, &Frame::View { shard: SHARD, view });
    test.given(1);
    test.sent(1_000_000, vec![]);
    assert_eq!(wants(&mut test), 0);
}

#[test]
fn members_of_a_change_that_is_given_up_are_wanted_no_more() {
    let mut test = Test::new(1);
    let first = test.driver.map().clone();
    let map = with_change(&test);
    given(&mut test, map);
    let learner =
        Member { node: NodeId(9), replica: ReplicaId(4), duty: Duty::Learner, ..test.view().members[0] };
    let mut view = View { revision: Revision(8), ..test.view() };
    view.members.push(learner);
    test.hear(1, &Frame::View { shard: SHARD, view });
    test.given(1);
    given(&mut test, Map { revision: 3, ..Map::clone(&first) });
    let wanted = test.given(1);
    let back = |given: &String| given.starts_with("Want") && !given.contains("NodeId(9)");
    assert!(wanted.iter().any(back), "{wanted:?}");
}

#[test]
fn nothing_is_wanted_by_a_map_that_is_known_to_be_old() {
    let mut test = Test::new(1);
    let map = with_change(&test);
    let later = Announcement { map: map.revision + 1, ..Announcement::default() };
    test.hear(1, &Frame::Announce(later));
    given(&mut test, map);
    assert_eq!(wants(&mut test), 0);
}

#[test]
fn replica_that_counts_among_members_the_map_does_not_know_stays_until_it_does() {
    let mut test = Test::new(1);
    let map = without_me(&test, Revision(6));
    given(&mut test, map);
    assert!(test.driver.replica_status(SHARD).is_some(), "a majority may be none without it");
    let map = without_me(&test, Revision(7));
    given(&mut test, map);
    assert!(test.driver.replica_status(SHARD).is_none());
}

#[test]
fn completions_for_a_dropped_replica_end_in_nothing() {
    let mut test = Test::new(1);
    test.turn(vec![DriverInput::Snapshot {
        stream: 3,
        from: OTHER,
        shard: SHARD,
        part: SnapshotPart::Begin(Bytes::new()),
    }]);
    test.turn(vec![put(), get(Level::Local)]);
    let Driver { node, core, .. } = &mut test.driver;
    let at = Position::new(1, 1);
    core.output(
        node,
        SHARD,
        Output::Append { ticket: Ticket(1), records: vec![Bytes::new()], install: false },
    );
    core.output(node, SHARD, Output::Apply { at, entry: Bytes::new(), tokens: vec![], copies: 1 });
    let map = without_me(&test, OWN.1);
    let work = given(&mut test, map);
    let broken = |work: &Work| matches!(work, Work::SnapshotTaken { stream: 3, taken: false });
    assert!(work.iter().any(broken), "who sends the snapshot hears of it");
    let ticket = work.iter().filter_map(|work| match work {
        Work::Append { ticket, .. } => Some(*ticket),
        _ => None,
    });
    let ticket = ticket.max().unwrap();
    let read = storage::Read::Done { result: Ok(Answer::Row(None)), last: Version::ZERO, hidden: false };
    let (shard, generation) = (SHARD, 1);
    for done in [
        Done::Applied {
            shard,
            index: Index(1),
            last: Version::ZERO,
            due: None,
            changes: vec![],
            results: vec![],
        },
        Done::Read { shard, token: 1, read },
        Done::Installed { shard, generation, result: Ok(()) },
        Done::Loaded { shard, generation, last: Version::ZERO, due: None },
        Done::Forgot { shard, generation, more: false },
        Done::Closed { shard },
    ] {
        test.now += 1;
        test.turn(vec![DriverInput::Done(done)]);
    }
    test.now += 1;
    let sent = DriverInput::SnapshotSent { shard, to: OTHER, arrived: true };
    let work = test.turn(vec![DriverInput::Durable { ticket }, sent]);
    let forgets = work.iter().filter(|work| matches!(work, Work::Run(Job::Forget { .. }))).count();
    assert_eq!(forgets, 2, "now its rows go");
    assert_eq!(test.given(1).last().map(String::as_str), Some("propose 1"), "nothing came to it since");
}
