//! What is asked of several shards: how it is split, and one answer out of theirs.

mod drawn;
#[path = "../../../check/tests/support/receipt.rs"]
mod receipt;

use kv::{Answer, Direction, Error, Key, Op, Page, Range, ReplicaId, Reply, Row, Version};
use node::route::{Plan, ShardMap};

fn version(micros: u64) -> Version {
    Version::new(micros, ReplicaId(1))
}

fn reply(answer: Answer) -> Result<Reply, Error> {
    Ok(receipt::reply(answer))
}

/// One answer out of those of so many shards.
fn merge(op: Op, answers: Vec<Result<Reply, Error>>) -> Result<Answer, Error> {
    let plan = Plan::new(&ShardMap::of(answers.len() as u32), op).expect("the op is within its limits");
    plan.merge(answers).map(|reply| reply.answer)
}

fn row(key: &'static str) -> Row {
    Row {
        key: key.into(),
        value: "v".into(),
        version: version(1),
        created: version(1),
        changes: 1,
        deadline: None,
    }
}

/// A shard's page.
fn page(keys: &[&'static str], next: Option<&'static str>) -> Result<Reply, Error> {
    let rows: Vec<Row> = keys.iter().map(|key| row(key)).collect();
    reply(Answer::Page(Page { count: rows.len() as u64, rows, next: next.map(Key::from) }))
}

/// The keys of a merged page, and its next.
fn merged(range: Range, pages: Vec<Result<Reply, Error>>) -> (Vec<Key>, Option<Key>) {
    match merge(Op::Range(range), pages) {
        Ok(Answer::Page(page)) => (page.rows.into_iter().map(|row| row.key).collect(), page.next),
        other => panic!("{other:?} is no page"),
    }
}

fn trim_range(below: Option<Version>) -> Op {
    Op::TrimRange { from: "a".into(), to: Some("z".into()), below }
}

fn trimmed(count: u64, next: Option<&'static str>) -> Result<Reply, Error> {
    reply(Answer::Trimmed { count, next: next.map(Key::from) })
}

#[test]
fn page_ends_where_the_first_shard_ends_its_own() {
    let pages = || vec![page(&["a", "d"], Some("d")), page(&["b", "e"], None), page(&["c"], Some("c"))];
    assert_eq!(
        merged(Range::default(), pages()),
        (vec!["a".into(), "b".into(), "c".into()], Some("c".into()))
    );
    let range = Range { direction: Direction::Backward, ..Range::default() };
    let pages = vec![page(&["d", "a"], None), page(&["e", "b"], Some("b"))];
    assert_eq!(merged(range, pages), (vec!["e".into(), "d".into(), "b".into()], Some("b".into())));
}

#[test]
fn page_with_a_limit_goes_on_after_its_last_row() {
    let range = Range { limit: 3, ..Range::default() };
    let pages = vec![page(&["a", "d"], None), page(&["b", "e"], None)];
    assert_eq!(merged(range, pages), (vec!["a".into(), "b".into(), "d".into()], Some("d".into())));
}

#[test]
fn page_without_rows_tells_where_a_shard_goes_on() {
    let pages = vec![page(&[], Some("m")), page(&["x"], None)];
    assert_eq!(merged(Range::default(), pages), (vec![], Some("m".into())));
}

#[test]
fn trim_range_asks_every_shard_the_same() {
    let plan = Plan::new(&ShardMap::of(3), trim_range(Some(version(7)))).unwrap();
    let parts: Vec<u32> = plan.parts.iter().map(|(shard, _)| shard.0).collect();
    assert_eq!(parts, [1, 2, 3]);
    assert!(plan.parts.iter().all(|(_, op)| *op == trim_range(Some(version(7)))));
}

#[test]
fn trim_range_goes_on_where_the_first_shard_stopped() {
    let answers = vec![trimmed(3, Some("m")), trimmed(4, None), trimmed(0, Some("k"))];
    let expect = Answer::Trimmed { count: 7, next: Some("k".into()) };
    assert_eq!(merge(trim_range(None), answers), Ok(expect));
    let answers = vec![trimmed(3, None), trimmed(4, None)];
    assert_eq!(merge(trim_range(None), answers), Ok(Answer::Trimmed { count: 7, next: None }));
    let answers = vec![trimmed(3, Some("m"))];
    let expect = Answer::Trimmed { count: 3, next: Some("m".into()) };
    assert_eq!(merge(trim_range(None), answers), Ok(expect), "of one shard its own");
}

#[test]
fn delete_range_goes_on_where_the_first_shard_stopped() {
    let deleted = |count, next: Option<&'static str>| {
        reply(Answer::Deleted { count, previous: None, next: next.map(Key::from) })
    };
    let op = Op::DeleteRange { from: "a".into(), to: None };
    let answers = vec![deleted(1, None), deleted(2, Some("n")), deleted(0, Some("c"))];
    let expect = Answer::Deleted { count: 3, previous: None, next: Some("c".into()) };
    assert_eq!(merge(op, answers), Ok(expect));
}

#[test]
fn trim_range_half_done_is_in_doubt_and_says_what_to_do() {
    let failed = || Err(Error::Unavailable("no leader".into()));
    match merge(trim_range(None), vec![trimmed(3, None), failed()]) {
        Err(Error::InDoubt(why)) => assert!(why.contains("trim the same range again"), "{why}"),
        other => panic!("{other:?} hides that a part was done"),
    }
    let nothing = merge(trim_range(None), vec![failed(), failed()]);
    assert_eq!(nothing, Err(Error::Unavailable("no leader".into())), "nothing was done");
}

#[test]
fn history_and_trim_are_asked_of_the_shard_of_their_key_alone() {
    let map = ShardMap::of(4);
    let history = Op::History { key: "k".into(), limit: 3, before: Some(version(9)) };
    for op in [history, Op::Trim { key: "k".into(), below: None }] {
        let mut plan = Plan::new(&map, op.clone()).unwrap();
        assert_eq!(plan.take_single(), Some((map.shard_of(b"k"), op)));
    }
}

#[test]
fn trim_range_inside_a_transaction_is_refused() {
    let op = Op::Transaction { conditions: vec![], then: vec![trim_range(None)], otherwise: vec![] };
    assert!(matches!(Plan::new(&ShardMap::of(1), op), Err(Error::Invalid(_))));
}
