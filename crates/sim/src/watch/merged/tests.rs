//! Each thing that must hold of a shard without an order is seen when it does not.

use super::*;

const SHARD: ShardId = ShardId(1);
const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// Three members that weigh 1, 2 and 1: a write needs 3.
fn shard() -> Merged {
    let weighed = |(node, weight): (NodeId, u64)| {
        let replica = ReplicaId(u16::try_from(node.0).unwrap_or_default());
        Weighed { node, replica, weight }
    };
    let members = NODES.into_iter().zip([1, 2, 1]).map(weighed).collect();
    Merged { members: BTreeMap::from([(SHARD, members)]), ..Merged::default() }
}

fn at(micros: u64, node: u16) -> Version {
    Version::new(micros, ReplicaId(node))
}

fn row(version: Version, value: &str) -> Row {
    let value = Some(Value::copy_from_slice(value.as_bytes()));
    let (created, deadline) = (version, Some(1 << 40));
    Row { value, created, changes: 1, deadline, ..Row::tombstone("k".into(), version, None) }
}

/// What is wrong when a node writes a row as an entry.
fn comes(merged: &mut Merged, node: u64, index: u64, row: &Row) -> Option<String> {
    merged.comes(NodeId(node), SHARD, Index(index), row.clone())
}

fn hold(merged: &mut Merged, node: u64, row: &Row) {
    let copy = merged.copies.entry((NodeId(node), SHARD)).or_default();
    copy.held.insert(row.key.clone(), row.rank());
}

#[test]
fn two_rows_of_one_version_are_seen() {
    let mut merged = shard();
    assert_eq!(comes(&mut merged, 1, 1, &row(at(5, 1), "a")), None);
    assert_eq!(comes(&mut merged, 2, 1, &row(at(5, 1), "a")), None);
    assert!(comes(&mut merged, 3, 1, &row(at(5, 1), "b")).is_some());
}

#[test]
fn expiry_of_no_value_is_seen() {
    let mut merged = shard();
    let value = row(at(5, 1), "a");
    assert_eq!(comes(&mut merged, 1, 1, &value), None);
    assert_eq!(comes(&mut merged, 1, 2, &value.expire().unwrap_or(value.clone())), None);
    let other = row(at(6, 1), "b");
    assert!(comes(&mut merged, 1, 3, &other.expire().unwrap_or(other.clone())).is_some());
}

#[test]
fn version_that_a_former_life_may_have_issued_is_seen() {
    let mut merged = shard();
    let copy = merged.copies.entry((NodeId(1), SHARD)).or_default();
    copy.ceiling.gathered = Some(at(100, 1));
    copy.ceiling.appended(1);
    copy.ceiling.synced(1);
    copy.ceiling.ended();
    assert_eq!(comes(&mut merged, 2, 1, &row(at(50, 1), "late")), None, "it was on its way");
    assert!(comes(&mut merged, 1, 1, &row(at(60, 1), "again")).is_some());
    assert_eq!(comes(&mut merged, 1, 2, &row(at(101, 1), "new")), None);
}

#[test]
fn row_at_members_that_weigh_too_little_is_seen() {
    let mut merged = shard();
    let row = row(at(5, 1), "a");
    hold(&mut merged, 1, &row);
    hold(&mut merged, 3, &row);
    assert!(merged.lacks(SHARD, &row.key, row.version).is_some(), "1 and 1 are not 3");
    hold(&mut merged, 2, &row);
    assert_eq!(merged.lacks(SHARD, &row.key, row.version), None);
}

#[test]
fn tombstone_that_a_member_lacks_and_what_comes_after_it_are_seen() {
    let mut merged = shard();
    let tombstone = Row::tombstone("k".into(), at(9, 2), Some(at(5, 1)));
    hold(&mut merged, 1, &tombstone);
    hold(&mut merged, 2, &tombstone);
    assert!(merged.goes(SHARD, &tombstone.key, tombstone.rank()).is_some());
    hold(&mut merged, 3, &tombstone);
    assert_eq!(merged.goes(SHARD, &tombstone.key, tombstone.rank()), None);
    let copy = merged.copies.entry((NodeId(1), SHARD)).or_default();
    copy.gone.insert(tombstone.key.clone(), (tombstone.rank(), Index(7)));
    assert_eq!(comes(&mut merged, 1, 6, &row(at(5, 1), "old")), None, "that was before");
    assert!(comes(&mut merged, 1, 8, &row(at(5, 1), "old")).is_some());
    assert_eq!(comes(&mut merged, 1, 8, &row(at(10, 1), "new")), None);
}

#[test]
fn value_that_has_failed_is_seen_whenever_it_is_stored() {
    let mut merged = shard();
    assert_eq!(comes(&mut merged, 1, 1, &row(at(5, 1), "a")), None);
    assert!(merged.failed(&"k".into(), &"a".into()).is_some());
    assert_eq!(merged.failed(&"k".into(), &"b".into()), None);
    assert!(comes(&mut merged, 1, 2, &row(at(6, 1), "b")).is_some());
}

#[test]
fn write_that_runs_twice_is_seen() {
    let mut merged = shard();
    assert_eq!(comes(&mut merged, 1, 1, &row(at(5, 1), "a")), None);
    assert_eq!(comes(&mut merged, 2, 1, &row(at(5, 1), "a")), None);
    assert!(comes(&mut merged, 2, 2, &row(at(6, 2), "a")).is_some());
}

#[test]
fn answer_behind_one_that_was_given_before_is_seen() {
    let mut merged = shard();
    let put = |value: &str| Op::Put {
        key: "k".into(),
        value: Value::from(value.to_owned()),
        deadline: None,
        previous: false,
    };
    let part = |op| Part {
        shard: SHARD,
        op,
        level: None,
        id: None,
        timeout_micros: 0,
        charge: kv::Charge::default(),
        in_doubt: false,
        here: false,
    };
    let stored = row(at(5, 1), "a");
    assert_eq!(comes(&mut merged, 1, 1, &stored), None);
    NODES.into_iter().for_each(|node| hold(&mut merged, node.0, &stored));
    let receipt = |version| kv::Receipt {
        version,
        shard: SHARD,
        protocol: Protocol::Quorum,
        epoch: kv::Epoch(1),
        asked: kv::Level::Linearizable,
        reached: kv::Level::Linearizable,
        copies: 3,
        staleness_micros: 0,
        node: NodeId(1),
    };
    let reply = |version| Reply { answer: Answer::Put { previous: None }, receipt: receipt(version) };
    assert_eq!(merged.floor(&part(put("a"))), Version::ZERO);
    assert_eq!(merged.answered(&put("a"), Version::ZERO, &reply(at(5, 1))), None);
    assert_eq!(merged.floor(&part(put("b"))), at(5, 1));
    assert!(merged.answered(&put("b"), at(5, 1), &reply(at(4, 2))).is_some());
    let again = Part { in_doubt: true, ..part(put("a")) };
    assert_eq!(merged.floor(&again), Version::ZERO, "it may have been run before");
}
