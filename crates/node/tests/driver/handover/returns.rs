//! A shard goes back to who had it: its heir is gone for good.

use kv::cluster::Role;
use kv::view::Member;
use kv::{Epoch, ReplicaId};
use placement::Event;
use placement::map::Phase;

use super::{HEIR, OTHER, OWNER, Run, SHARD};

/// The directory gives the heir up for good, and names who had the shard the heir of one epoch more.
fn give_heir_up(run: &mut Run) {
    run.decide(|map| {
        let row = map.shards.get_mut(&SHARD).unwrap();
        let member = Member { replica: row.next_replica, ..row.members[0] };
        row.next_replica = ReplicaId(member.replica.0 + 1);
        let change = map.changes.get_mut(&SHARD).unwrap();
        (change.to, change.epoch) = (vec![member], Epoch(change.epoch.0 + 1));
    });
}

/// The owner is sealed, and the heir has not opened.
fn sealed() -> Run {
    let mut run = Run::new();
    run.crashes = true;
    (0..20).for_each(|_| run.step());
    run.begin_move(HEIR);
    run.until_it_follows();
    run.cluster.cut(HEIR);
    run.happen(Event::Progress { shard: SHARD, phase: Phase::Switch });
    (0..60).for_each(|_| run.step());
    assert!(run.announced().iter().all(|replica| replica.role != Role::Leader), "it is sealed");
    run
}

#[test]
fn shard_whose_heir_is_gone_goes_back_and_loses_nothing() {
    let mut run = sealed();
    give_heir_up(&mut run);
    run.run_until(|run| run.cluster.map.changes.is_empty());
    assert_eq!(run.cluster.map.shards[&SHARD].epoch, Epoch(3));
    run.cluster.mend(HEIR);
    run.finish();
    run.check(OWNER);
    run.begin_move(OTHER);
    run.finish();
    run.check(OTHER);
}

#[test]
fn crash_of_the_owner_at_any_point_of_a_way_back_loses_nothing() {
    let way_back = |crash: Option<usize>, checkpoint: Option<usize>| {
        let mut run = sealed();
        let begin = run.cluster.turns;
        run.cluster.crash = crash.map(|turns| (begin + turns, vec![OWNER]));
        run.cluster.checkpoint = checkpoint.map(|turns| (begin + turns, OWNER));
        give_heir_up(&mut run);
        run.run_until(|run| run.cluster.map.changes.is_empty());
        let turns = run.cluster.turns - begin;
        run.cluster.crash(OWNER);
        run.cluster.mend(HEIR);
        run.finish();
        run.check(OWNER);
        turns
    };
    let turns = way_back(None, None);
    for place in (0..turns).step_by(5) {
        way_back(Some(place), None);
        way_back(None, Some(place));
    }
}
