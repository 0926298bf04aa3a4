//! What a shard goes by from an entry of its log on: another history, a time to live, a keyspace that is full.

use kv::keyspace::{Full, History as Kept, Keep, Quota, Rules, Usage};
use kv::{Answer, Error, Function, Key, Op, ReplicaId, Side, Version};
use storage::{History, Options};

use super::store::{Store, key, put};

fn rules(micros: u64, rules: Rules) -> Op {
    Op::Advance { to: Version::new(micros, ReplicaId(1)), rules: Some(rules) }
}

fn history(kept: Kept) -> Rules {
    Rules { keep: Keep { history: Some(kept), ..Keep::default() }, full: None }
}

fn full(quota: Quota, usage: Usage) -> Rules {
    Rules { full: quota.full(usage), ..Rules::default() }
}

/// The numbers of a key's kept revisions, the newest first.
fn kept(store: &Store, key: &Key) -> Vec<u64> {
    let op = Op::History { key: key.clone(), limit: 0, before: None };
    let Ok(Answer::History { revisions, .. }) = store.read(&op) else { panic!("a history is read") };
    revisions.iter().map(|revision| revision.version.micros()).collect()
}

/// The next of some numbers that look random (Knuth's generator).
fn next(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

#[test]
fn history_altered_again_and_again_keeps_the_newest_revisions_that_fit() {
    for seed in 0..16 {
        let mut random = seed;
        let first =
            [History::Count(1), History::Count(3), History::Count(100), History::All][seed as usize % 4];
        let mut store = Store::new(first);
        let mut most = match first {
            History::Count(count) => count as usize,
            _ => usize::MAX,
        };
        let mut written: Vec<u64> = Vec::new();
        for micros in 1..700 {
            if next(&mut random, 100) == 0 {
                let count = [1, 2, 3, 17, 64, 65, 100, 300][next(&mut random, 8) as usize];
                let to = if next(&mut random, 5) == 0 { Kept::All } else { Kept::Count(count) };
                most = if to == Kept::All { usize::MAX } else { count as usize };
                store.apply(micros, rules(micros, history(to))).unwrap();
                continue;
            }
            let before = kept(&store, &key(1)).len();
            store.apply(micros, put(key(1), micros.to_string().into())).unwrap();
            written.push(micros);
            let now = kept(&store, &key(1));
            assert!(now.iter().eq(written.iter().rev().take(now.len())), "seed {seed}: {now:?}");
            let shed = (before + 1).saturating_sub(now.len());
            assert!(now.len() >= most.min(before + 1), "seed {seed} at {micros}: {} of {before}", now.len());
            assert!(now.len() <= most || shed > 1, "seed {seed} at {micros}: {} of {most}", now.len());
            assert!(next(&mut random, 50) > 0 || store.read(&Op::Get { key: key(1), at: None }).is_ok());
        }
        store.audit();
        store.apply(2_000, Op::Trim { key: key(1), below: None }).unwrap();
        store.apply(2_001, Op::Delete { key: key(1), previous: false }).unwrap();
        store.apply(2_002, Op::Trim { key: key(1), below: None }).unwrap();
        // Its state alone: no older revision was left where nobody looks.
        assert_eq!(store.rows(), 1, "seed {seed}");
    }
}

#[test]
fn history_of_a_time_forgets_what_was_replaced_before_it_with_later_writes() {
    let mut store = Store::new(History::Count(3));
    store.apply(1, rules(1, history(Kept::Micros(100)))).unwrap();
    for micros in (10..1000).step_by(10) {
        store.apply(micros, put(key(1), "v".into())).unwrap();
    }
    let now = kept(&store, &key(1));
    assert_eq!((now[0], now.last()), (990, Some(&880)), "{now:?}");
    store.audit();
}

#[test]
fn value_without_a_deadline_lasts_as_long_as_its_keyspace_says() {
    let mut store = Store::new(History::Count(1));
    let keep = Keep { ttl_micros: Some(500), ..Keep::default() };
    store.apply(10, rules(10, Rules { keep, full: None })).unwrap();
    let deadline = |store: &Store, number| match store.read(&Op::Get { key: key(number), at: None }) {
        Ok(Answer::Row(row)) => row.and_then(|row| row.deadline),
        other => panic!("{other:?}"),
    };
    let update = |number, function| Op::Update { key: key(number), function };
    let append = || Function::Append { side: Side::Right, value: "v".into() };
    store.apply(100, put(key(1), "v".into())).unwrap();
    store.apply(200, update(1, append())).unwrap();
    store.apply(300, update(2, append())).unwrap();
    store
        .apply(400, Op::Put { key: key(3), value: "v".into(), deadline: Some(9_000), previous: false })
        .unwrap();
    store.apply(500, Op::PutAll { rows: vec![(key(4), "v".into())] }).unwrap();
    store.apply(550, put(key(5), "v".into())).unwrap();
    store.apply(560, Op::Expire { key: key(5), deadline: None }).unwrap();
    let told: Vec<_> = (1..=5).map(|number| deadline(&store, number)).collect();
    assert_eq!(told, [Some(600), Some(800), Some(9_000), Some(1_000), None]);
    store.audit();
}

#[test]
fn keyspace_that_is_full_refuses_what_adds_and_takes_all_else() {
    let mut store = Store::with(Options::of(History::All));
    for number in 1..=3 {
        store.apply(number, put(key(number as usize), "1234".into())).unwrap();
    }
    let usage = store.table.applied(super::store::SHARD).standing.usage;
    assert_eq!(usage, Usage { bytes: 36, keys: 3 });
    let quota = Quota { bytes: Some(36), keys: None };
    store.apply(10, rules(10, full(quota, usage))).unwrap();
    let append =
        Op::Update { key: key(1), function: Function::Append { side: Side::Left, value: "x".into() } };
    let both = |value: &'static str| Op::Transaction {
        conditions: Vec::new(),
        then: vec![put(key(1), "12".into()), put(key(2), value.into())],
        otherwise: Vec::new(),
    };
    for op in [put(key(4), "".into()), put(key(1), "12345".into()), append, both("1234567")] {
        let refused = store.apply(20, op.clone());
        assert!(matches!(refused, Err(Error::OverQuota(_))), "{op:?}: {refused:?}");
        store.audit();
        assert_eq!(store.table.applied(super::store::SHARD).standing.usage, usage);
    }
    for op in [put(key(1), "abcd".into()), both("123456"), Op::Delete { key: key(3), previous: false }] {
        store.apply(30, op.clone()).unwrap_or_else(|error| panic!("{op:?}: {error}"));
        store.audit();
    }
    store.apply(40, rules(40, Rules::default())).unwrap();
    store.apply(50, put(key(9), "1234".into())).unwrap();
    store.audit();
}

#[test]
fn rules_and_what_is_held_go_along_with_a_start_and_with_a_snapshot() {
    let full = Full { quota: Quota { bytes: None, keys: Some(1) }, usage: Usage { bytes: 9, keys: 1 } };
    let given = Rules { keep: history(Kept::Count(2)).keep, full: Some(full) };
    let mut store = Store::new(History::Count(1));
    store.apply(1, put(key(1), "v".into())).unwrap();
    store.apply(2, rules(2, given)).unwrap();
    let standing = store.table.applied(super::store::SHARD).standing;
    assert_eq!((standing.rules, standing.usage), (given, Usage { bytes: 9, keys: 1 }));
    store.reopen(Options::of(History::Count(1)));
    assert_eq!(store.table.applied(super::store::SHARD).standing, standing);
    let mut other = Store::new(History::Count(1));
    let mut snapshot = store.table.snapshot(super::store::SHARD);
    other.table.install_begin(super::store::SHARD, 2).unwrap();
    while let Some(chunk) = snapshot.next_chunk(10).unwrap() {
        other.table.install_chunk(super::store::SHARD, 2, &chunk).unwrap();
    }
    other.table.load(super::store::SHARD, 2).unwrap();
    assert_eq!(other.table.applied(super::store::SHARD).standing, standing);
    other.audit();
}
