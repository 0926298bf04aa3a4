//! Members are sealed while others read, write, crash and come back, under a seed: those among whom the shard goes on end with one state, in
//! which is all that was acknowledged or shown; and nobody else acknowledges or shows anything from then on.

use kv::{Epoch, NodeId, Version};
use replication::Input;

use super::random::Run;

/// So many runs.
const SEEDS: u64 = 200;

/// Members that weigh so much that the others can neither read nor write.
fn among(run: &mut Run) -> Vec<u64> {
    let ids = run.cluster.ids();
    let weight =
        |run: &Run, ids: &mut dyn Iterator<Item = u64>| -> u32 { ids.map(|id| run.cluster.weight(id)).sum() };
    loop {
        let chosen: Vec<u64> = ids.iter().copied().filter(|_| run.random.chance(70)).collect();
        let others = weight(run, &mut ids.iter().copied().filter(|id| !chosen.contains(id)));
        if others < run.votes.read && others < run.votes.write && !chosen.is_empty() {
            return chosen;
        }
    }
}

fn seal(run: &mut Run, id: u64, among: &[u64]) {
    let among = among.iter().map(|id| NodeId(*id)).collect();
    run.cluster.step(id, Input::Seal { next: Epoch(2), among });
}

fn check(run: &Run, among: &[u64]) {
    let (first, seed) = (among[0], run.seed);
    let table = &run.cluster.node(first).table;
    for id in among {
        let other = &run.cluster.node(*id).table;
        assert!(run.sealed.contains(id), "seed {seed}: n{id} of {among:?} does not say where it ended");
        assert_eq!((&other.rows, other.last), (&table.rows, table.last), "seed {seed}: n{first} and n{id}");
    }
    for (key, known) in &run.known {
        let is_gone = |version: &Version| run.made[&(key.clone(), *version)].value.is_none();
        let later = run.made.range((key.clone(), *known)..=(key.clone(), Version::MAX));
        let is_there = match table.rows.get(key) {
            Some(row) => row.version >= *known,
            None => later.map(|((_, version), _)| *version).any(|version| is_gone(&version)),
        };
        assert!(is_there, "seed {seed}: {key:?} at {known} is not among {among:?}: {:?}", table.rows);
        assert!(table.last >= *known, "seed {seed}: {known} is above all");
    }
}

#[test]
fn sealed_members_end_with_one_state_in_which_is_all_that_was_acknowledged() {
    let mut fewer = 0;
    for seed in 1..=SEEDS {
        let mut run = Run::new(seed);
        (0..900).for_each(|_| run.act());
        let among = among(&mut run);
        fewer += usize::from(among.len() < run.cluster.ids().len());
        for _ in 0..600 {
            let id = run.random.pick(&among);
            if run.random.chance(3) && run.cluster.member(id).is_some() {
                seal(&mut run, id, &among);
            }
            run.act();
        }
        for id in among.clone() {
            if run.cluster.member(id).is_none() {
                run.cluster.start(id);
            }
            seal(&mut run, id, &among);
        }
        run.cluster.connect_all();
        (0..20).for_each(|_| run.settle());
        check(&run, &among);
        let before = (run.seen.acknowledged, run.seen.reads);
        (0..300).for_each(|_| run.act());
        assert_eq!((run.seen.acknowledged, run.seen.reads), before, "seed {seed}: the others go on");
    }
    assert!(fewer > 20, "in some runs not all go on: {fewer}");
}
