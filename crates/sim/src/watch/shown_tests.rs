//! The judges of what is answered: each sees a wrong answer, and lets the right ones pass.

use kv::{Direction, Entry, Function, Key, Page, Range, Receipt, ReplicaId, Revision, Row, Side, Stamped};
use storage::{History, Options};

use super::*;

mod ruled;

const SHARD: ShardId = ShardId(1);
const PUT: Answer = Answer::Put { previous: None };

fn version(micros: u64) -> Version {
    Version::new(micros, ReplicaId(1))
}

/// Rows that are kept so.
fn kept_by(options: Options) -> Rows {
    let mut rows = Rows::default();
    rows.kept_by(options);
    rows
}

/// An entry of one op, at a time and under an id, is applied, on two nodes: what is wrong with its answer.
fn apply_as(
    rows: &mut Rows,
    shard: ShardId,
    id: Option<RequestId>,
    micros: u64,
    op: Op,
    answer: Answer,
) -> Vec<String> {
    let entry = Entry::encode(version(micros), &[Stamped { id, op }.encode()]);
    let results = [(Ok(answer), version(micros))];
    let wrong = rows.applied(shard, micros, &entry, &results);
    assert_eq!(rows.applied(shard, micros, &entry, &results), [""; 0], "it is judged once");
    wrong
}

fn apply(rows: &mut Rows, micros: u64, op: Op, answer: Answer) -> bool {
    apply_as(rows, SHARD, None, micros, op, answer).is_empty()
}

/// Rows after ops that each ran at the time that is given.
fn rows(ops: &[(u64, Op, Answer)]) -> Rows {
    let mut rows = Rows::default();
    for (micros, op, answer) in ops {
        assert!(apply(&mut rows, *micros, op.clone(), answer.clone()), "{op:?}");
    }
    rows
}

fn put_key(key: &'static str, deadline: Option<u64>) -> Op {
    Op::Put { key: key.into(), value: "v".into(), deadline, previous: false }
}

fn put(deadline: Option<u64>) -> Op {
    put_key("k", deadline)
}

fn row_of(key: &'static str, micros: u64, deadline: Option<u64>) -> Row {
    let (version, created) = (version(micros), version(micros));
    Row { key: key.into(), value: "v".into(), version, created, changes: 1, deadline }
}

fn row(micros: u64, deadline: Option<u64>) -> Row {
    row_of("k", micros, deadline)
}

fn receipt(micros: u64) -> Receipt {
    super::tests::receipt_of(version(micros), Level::Local, 0)
}

/// Whether a read of the shard at time 20 may be answered so, by a clock between two times.
fn fits(rows: &Rows, op: &Op, answer: Answer, (low, high): (u64, u64)) -> bool {
    rows.read(op, &Reply { answer, receipt: receipt(20) }, Bounds { low, high }).is_none()
}

/// The same where nothing expires.
fn shows(rows: &Rows, op: &Op, answer: Answer) -> bool {
    fits(rows, op, answer, (20, 20))
}

fn page(rows: impl IntoIterator<Item = Row>, next: Option<&'static str>) -> Answer {
    let rows = Vec::from_iter(rows);
    Answer::Page(Page { count: rows.len() as u64, rows, next: next.map(Key::from) })
}

fn counted(count: u64) -> Answer {
    Answer::Page(Page { rows: Vec::new(), count, next: None })
}

fn get() -> Op {
    Op::Get { key: "k".into(), at: None }
}

fn revisions(shown: &[(u64, Option<&'static str>)], next: Option<u64>) -> Answer {
    let revision = |(micros, value): &(u64, Option<&'static str>)| {
        let replica = if value.is_some() { ReplicaId(1) } else { ReplicaId(0) };
        Revision { version: Version::new(*micros, replica), value: value.map(Into::into) }
    };
    Answer::History { revisions: shown.iter().map(revision).collect(), next: next.map(version) }
}

fn history(limit: u32, before: Option<u64>) -> Op {
    Op::History { key: "k".into(), limit, before: before.map(version) }
}

#[test]
fn value_is_shown_until_its_deadline_and_not_after() {
    let rows = rows(&[(10, put(Some(30)), PUT)]);
    let (there, gone) = (|| Answer::Row(Some(row(10, Some(30)))), || Answer::Row(None));
    assert!(fits(&rows, &get(), there(), (29, 29)) && !fits(&rows, &get(), gone(), (29, 29)));
    assert!(!fits(&rows, &get(), there(), (30, 30)) && fits(&rows, &get(), gone(), (30, 30)));
    assert!(fits(&rows, &get(), there(), (25, 35)) && fits(&rows, &get(), gone(), (25, 35)));
    assert!(!fits(&rows, &get(), Answer::Row(Some(row(9, Some(30)))), (25, 25)), "another row");
    assert!(!fits(&rows, &get(), Answer::Row(Some(row(10, None))), (25, 25)), "another deadline");
    let other = Row { value: "w".into(), ..row(10, Some(30)) };
    assert!(!fits(&rows, &get(), Answer::Row(Some(other)), (25, 25)), "another value");
    let (live, dead) = (revisions(&[(10, Some("v"))], None), revisions(&[(30, None), (10, Some("v"))], None));
    assert!(fits(&rows, &history(0, None), live.clone(), (29, 29)));
    assert!(!fits(&rows, &history(0, None), live, (30, 30)));
    assert!(fits(&rows, &history(0, None), dead, (30, 30)));
}

#[test]
fn deadline_is_that_of_the_last_op_that_set_or_kept_it() {
    let shown = |ops: &[(u64, Op, Answer)], at, deadline, clock, value: &'static str| {
        let row = Row { value: value.into(), ..row(at, deadline) };
        fits(&rows(ops), &get(), Answer::Row(Some(row)), (clock, clock))
    };
    let append = Function::Append { side: Side::Right, value: "w".into() };
    let append = (11, Op::Update { key: "k".into(), function: append }, Answer::Length(2));
    let first = (10, put(Some(30)), PUT);
    assert!(shown(&[first.clone(), append.clone()], 11, Some(30), 29, "vw"));
    assert!(!shown(&[first.clone(), append.clone()], 11, Some(30), 29, "v"), "it was appended to");
    assert!(!shown(&[first.clone(), append], 11, Some(30), 30, "vw"));
    let expire = |deadline| (11, Op::Expire { key: "k".into(), deadline }, Answer::Expire(true));
    assert!(shown(&[first.clone(), expire(None)], 11, None, 99, "v"));
    assert!(shown(&[first.clone(), expire(Some(30))], 10, Some(30), 29, "v"), "nothing changed");
    assert!(!shown(&[first.clone(), expire(Some(50))], 11, None, 29, "v"), "it has a deadline");
    assert!(!shown(&[first, (11, put(Some(11)), PUT)], 11, Some(11), 11, "v"), "it had passed");
}

/// A shard with rows of a to d.
fn four() -> Rows {
    rows(&["a", "b", "c", "d"].map(|key| (10 + u64::from(key.as_bytes()[0] - b'a'), put_key(key, None), PUT)))
}

fn four_rows() -> [Row; 4] {
    [("a", 10), ("b", 11), ("c", 12), ("d", 13)].map(|(key, micros)| row_of(key, micros, None))
}

#[test]
fn range_that_leaves_out_doubles_or_invents_a_row_is_seen() {
    let (four, [a, b, c, d]) = (four(), four_rows());
    let all = Op::Range(Range::default());
    assert!(shows(&four, &all, page([a.clone(), b.clone(), c.clone(), d.clone()], None)));
    assert!(!shows(&four, &all, page([a.clone(), c.clone(), d.clone()], None)), "b is missing");
    assert!(!shows(&four, &all, page([a.clone(), b.clone(), b.clone(), c.clone(), d.clone()], None)));
    assert!(!shows(&four, &all, page([b.clone(), a.clone(), c.clone(), d.clone()], None)), "out of order");
    let [invented, earlier] = [row_of("e", 10, None), row_of("d", 12, None)];
    assert!(!shows(&four, &all, page([a.clone(), b.clone(), c.clone(), d.clone(), invented], None)));
    assert!(!shows(&four, &all, page([a, b, c, earlier], None)), "of another version");
}

#[test]
fn page_that_ends_or_goes_on_where_it_should_not_is_seen() {
    let (four, [a, b, c, d]) = (four(), four_rows());
    let range = |direction, page: Option<&'static str>| {
        Op::Range(Range { direction, limit: 2, page: page.map(Key::from), ..Range::default() })
    };
    let (forward, backward) = (Direction::Forward, Direction::Backward);
    let first = |next| shows(&four, &range(forward, None), page([a.clone(), b.clone()], next));
    assert!(first(Some("b")));
    assert!(!first(None) && !first(Some("c")) && !first(Some("a")), "it goes on behind its last row");
    let last = |next| shows(&four, &range(forward, Some("b")), page([c.clone(), d.clone()], next));
    assert!(last(None) && !last(Some("d")), "there is no more");
    assert!(!shows(&four, &range(forward, Some("b")), page([d.clone()], None)), "c is on no page");
    assert!(
        !shows(&four, &range(forward, Some("b")), page([b.clone(), c.clone()], Some("c"))),
        "b is on two"
    );
    assert!(!shows(&four, &range(forward, None), page([a.clone()], Some("a"))), "it is not full");
    assert!(
        !shows(&four, &range(forward, None), page([a, b.clone(), c.clone()], Some("c"))),
        "beyond the limit"
    );
    assert!(shows(&four, &range(backward, None), page([d.clone(), c.clone()], Some("c"))));
    assert!(!shows(&four, &range(backward, None), page([c.clone(), d.clone()], Some("d"))), "forward");
    assert!(!shows(&four, &range(backward, Some("c")), page([b], None)), "a is on no page");
}

#[test]
fn count_of_too_many_or_too_few_is_seen() {
    let rows = rows(&[(10, put(Some(30)), PUT)]);
    let count = Op::Range(Range { count_only: true, ..Range::default() });
    for (told, clock, expected) in [(1, 29, true), (0, 29, false), (1, 30, false), (0, 30, true)] {
        assert_eq!(fits(&rows, &count, counted(told), (clock, clock)), expected);
    }
}

#[test]
fn history_that_misses_a_revision_or_stops_too_early_is_seen() {
    let four = rows(&[10, 11, 12, 13].map(|micros| (micros, put(None), PUT)));
    let v = Some("v");
    let whole =
        |shown: &[(u64, Option<&'static str>)]| shows(&four, &history(0, None), revisions(shown, None));
    assert!(whole(&[(13, v), (12, v), (11, v), (10, v)]));
    assert!(!whole(&[(13, v), (11, v), (10, v)]) && !whole(&[(12, v), (11, v), (10, v)]));
    assert!(!whole(&[(13, v), (12, v), (11, v)]), "the oldest is kept");
    let paged = |before, shown: &[(u64, Option<&'static str>)], next| {
        shows(&four, &history(2, before), revisions(shown, next))
    };
    assert!(paged(None, &[(13, v), (12, v)], Some(12)));
    assert!(!paged(None, &[(13, v), (12, v)], Some(11)), "11 would be on no page");
    assert!(!paged(None, &[(13, v), (12, v)], None) && !paged(None, &[(13, v)], Some(13)));
    assert!(paged(Some(12), &[(11, v), (10, v)], None));
    assert!(!paged(Some(12), &[(10, v)], None) && !paged(Some(12), &[(12, v), (11, v)], Some(11)));
    assert!(!paged(Some(12), &[(11, v), (10, v)], Some(10)), "there is no more");
}

#[test]
fn revisions_are_kept_as_the_options_say() {
    let mut three = kept_by(Options { deleted_micros: 5, ..Options::of(History::Count(3)) });
    (10..15).for_each(|micros| assert!(apply(&mut three, micros, put(None), PUT)));
    let v = Some("v");
    let whole = |rows: &Rows, shown: &[(u64, Option<&'static str>)]| {
        shows(rows, &history(0, None), revisions(shown, None))
    };
    assert!(whole(&three, &[(14, v), (13, v), (12, v)]));
    assert!(!whole(&three, &[(14, v), (13, v), (12, v), (11, v)]) && !whole(&three, &[(14, v), (13, v)]));
    let deleted = Answer::Deleted { count: 1, previous: None, next: None };
    assert!(apply(&mut three, 15, Op::Delete { key: "k".into(), previous: false }, deleted));
    assert!(whole(&three, &[]), "at 20 it may be swept");
    let nothing = Answer::History { revisions: Vec::new(), next: None };
    let at_19 = Reply { answer: nothing, receipt: receipt(19) };
    assert!(three.read(&history(0, None), &at_19, Bounds { low: 0, high: 0 }).is_some(), "at 19 not yet");
}

#[test]
fn delete_range_that_removes_or_counts_wrongly_is_seen() {
    let delete = Op::DeleteRange { from: "b".into(), to: Some("d".into()) };
    let told = |count, next: Option<&'static str>| Answer::Deleted {
        count,
        previous: None,
        next: next.map(Key::from),
    };
    for (answer, expected) in [(told(2, None), true), (told(1, None), false), (told(3, None), false)] {
        assert_eq!(apply(&mut four(), 14, delete.clone(), answer), expected);
    }
    assert!(!apply(&mut four(), 14, delete.clone(), told(1, Some("c"))), "it stops before its limit");
    let (mut rows, [a, b, c, d]) = (four(), four_rows());
    rows.kept_by(Options { step_max: 1, ..Options::of(History::All) });
    assert!(apply(&mut rows, 14, delete.clone(), told(1, Some("c"))));
    let all = Op::Range(Range::default());
    assert!(shows(&rows, &all, page([a.clone(), c.clone(), d.clone()], None)));
    assert!(!shows(&rows, &all, page([a, b, c, d], None)), "b was removed");
    assert!(!apply(&mut rows, 15, delete, told(1, Some("d"))), "d is beyond it");
}

#[test]
fn trim_that_forgets_too_much_or_too_little_is_seen() {
    let four = || rows(&[10, 11, 12, 13].map(|micros| (micros, put(None), PUT)));
    let trim = |below: Option<u64>| Op::Trim { key: "k".into(), below: below.map(version) };
    let told = |count| Answer::Trimmed { count, next: None };
    for (below, right) in [(None, 3), (Some(12), 2), (Some(10), 0), (Some(9), 0), (Some(99), 3)] {
        for count in 0..5 {
            assert_eq!(apply(&mut four(), 14, trim(below), told(count)), count == right, "{below:?} {count}");
        }
        let range = Op::TrimRange { from: Key::new(), to: None, below: below.map(version) };
        assert!(!apply(&mut four(), 14, range.clone(), told(right + 1)));
        assert!(apply(&mut four(), 14, range, told(right)));
    }
    let mut trimmed = four();
    assert!(apply(&mut trimmed, 14, trim(Some(12)), told(2)));
    let whole =
        |shown: &[(u64, Option<&'static str>)]| shows(&trimmed, &history(0, None), revisions(shown, None));
    let v = Some("v");
    assert!(whole(&[(13, v), (12, v)]) && !whole(&[(13, v)]) && !whole(&[(13, v), (12, v), (11, v)]));
}

#[test]
fn read_at_a_version_shows_that_version_or_what_is_trimmed() {
    let mut rows = rows(&[10, 11, 12, 13].map(|micros| (micros, put(None), PUT)));
    let map = ShardMap::of(1);
    let at = |micros| Op::Get { key: "k".into(), at: Some(version(micros)) };
    assert!(shows(&rows, &at(12), Answer::Row(Some(row(12, None)))));
    assert!(
        !shows(&rows, &at(12), Answer::Row(Some(row(13, None)))) && !shows(&rows, &at(12), Answer::Row(None))
    );
    let range = |micros| Op::Range(Range { at: Some(version(micros)), ..Range::default() });
    assert!(
        shows(&rows, &range(12), page([row(12, None)], None)) && !shows(&rows, &range(12), page([], None))
    );
    let refused = |rows: &Rows, op: &Op, asked| {
        let error = Error::Trimmed { asked: version(asked), oldest: version(12) };
        !rows.refused(&map, op, &Err(error)).is_empty()
    };
    assert!(refused(&rows, &at(11), 11) && refused(&rows, &range(11), 11), "all is kept");
    let trim = Op::Trim { key: "k".into(), below: Some(version(12)) };
    assert!(apply(&mut rows, 14, trim, Answer::Trimmed { count: 2, next: None }));
    assert!(!refused(&rows, &at(11), 11), "that is forgotten");
    assert!(refused(&rows, &at(12), 12) && refused(&rows, &at(11), 10), "that is not, nor was it asked");
    let get_all = |micros| Op::GetAll { keys: vec!["k".into()], at: Some(version(micros)) };
    let in_part = |micros| {
        let error = Error::Trimmed { asked: version(micros), oldest: version(12) };
        let answer = Answer::Many(vec![kv::KeyAnswer { key: "k".into(), result: Err(error) }]);
        !rows.refused(&map, &get_all(micros), &Ok(Reply { answer, receipt: receipt(20) })).is_empty()
    };
    assert!(in_part(12) && !in_part(11));
    let future = |micros| {
        let error = Error::Future { asked: version(micros), newest: version(9) };
        !rows.refused(&map, &at(micros), &Err(error)).is_empty()
    };
    assert!(future(14) && !future(15), "14 was told");
}

#[test]
fn revision_that_an_expiry_displaces_may_be_trimmed() {
    let mut rows = kept_by(Options::of(History::Count(2)));
    for (micros, op) in [(10, put(None)), (11, put(Some(13))), (14, put_key("other", None))] {
        assert!(apply(&mut rows, micros, op, PUT));
    }
    let refused = |micros| {
        let at = Op::Get { key: "k".into(), at: Some(version(micros)) };
        let error = Error::Trimmed { asked: version(micros), oldest: version(11) };
        !rows.refused(&ShardMap::of(1), &at, &Err(error)).is_empty()
    };
    assert!(!refused(10) && refused(11), "its deletion and the one before are kept");
}

/// Two shards with a row each, told at 5; the keys a and b.
fn two_shards() -> (ShardMap, Watch) {
    let (map, mut watch) = (ShardMap::of(2), Watch::new());
    for (micros, key) in [(10, "a"), (11, "b")] {
        let shard = map.shard_of(key.as_bytes());
        apply_as(&mut watch.rows, shard, None, micros, put_key(key, None), PUT);
        let reply = Reply {
            answer: PUT,
            receipt: Receipt {
                shard,
                asked: Level::Linearizable,
                reached: Level::Linearizable,
                ..receipt(micros)
            },
        };
        assert_eq!(told(&mut watch, &map, &put_key(key, None), reply), [""; 0]);
    }
    assert_ne!(map.shard_of(b"a"), map.shard_of(b"b"), "each shard has one");
    (map, watch)
}

/// A client that asked a read at 10 and is answered at 20, or a write before.
fn told(watch: &mut Watch, map: &ShardMap, op: &Op, reply: Reply) -> Vec<String> {
    let (id, level, reply) = (None, reply.receipt.asked, &reply);
    let times = if op.class() == kv::Class::Read { (10, 15, 20) } else { (0, 3, 5) };
    let (asked_at, left, now) = times;
    watch.told(map, &Told { op, id, level, reply, asked_at, left, now, clock: 0 })
}

#[test]
fn answer_of_several_shards_that_loses_a_row_is_seen() {
    let (map, mut watch) = two_shards();
    let mut shows = |op: &Op, answer| {
        let receipt = Receipt { asked: Level::Linearizable, reached: Level::Linearizable, ..receipt(11) };
        told(&mut watch, &map, op, Reply { answer, receipt }).is_empty()
    };
    let (a, b) = (row_of("a", 10, None), row_of("b", 11, None));
    let range = |direction, limit| Op::Range(Range { direction, limit, ..Range::default() });
    let (forward, backward) = (Direction::Forward, Direction::Backward);
    assert!(shows(&range(forward, 0), page([a.clone(), b.clone()], None)));
    assert!(!shows(&range(forward, 0), page([a.clone()], None)), "b is missing");
    assert!(shows(&range(forward, 1), page([a.clone()], Some("a"))));
    assert!(!shows(&range(forward, 1), page([b.clone()], Some("b"))), "a is missing");
    assert!(shows(&range(backward, 0), page([b.clone(), a.clone()], None)));
    assert!(!shows(&range(backward, 0), page([a.clone(), b.clone()], None)), "forward");
    let count = Op::Range(Range { count_only: true, ..Range::default() });
    assert!(shows(&count, counted(2)) && !shows(&count, counted(1)) && !shows(&count, counted(3)));
    let get_all = Op::GetAll { keys: vec!["b".into(), "a".into()], at: None };
    let many = |rows: [(&'static str, Option<Row>); 2]| {
        Answer::Many(
            rows.into_iter().map(|(key, row)| kv::KeyAnswer { key: key.into(), result: Ok(row) }).collect(),
        )
    };
    assert!(shows(&get_all, many([("b", Some(b.clone())), ("a", Some(a.clone()))])));
    assert!(!shows(&get_all, many([("b", Some(b.clone())), ("a", None)])), "a is there");
    assert!(!shows(&get_all, many([("a", Some(a)), ("b", Some(b))])), "in another order");
}

#[test]
fn write_that_is_answered_with_something_else_than_it_did_is_seen() {
    let (map, mut watch) = two_shards();
    let id = |sequence| Some(RequestId { client: 7, sequence, valid_until: Version::MAX, answered_below: 0 });
    let delete = Op::DeleteRange { from: Key::new(), to: None };
    let deleted = |count, next: Option<&'static str>| Answer::Deleted {
        count,
        previous: None,
        next: next.map(Key::from),
    };
    watch.rows.kept_by(Options { step_max: 0, ..Options::of(History::All) });
    let (of_a, of_b) = (map.shard_of(b"a"), map.shard_of(b"b"));
    apply_as(&mut watch.rows, of_a, id(1), 12, delete.clone(), deleted(0, Some("a")));
    apply_as(&mut watch.rows, of_b, id(1), 13, delete.clone(), deleted(1, None));
    let single = Op::Delete { key: "b".into(), previous: false };
    apply_as(&mut watch.rows, of_b, id(2), 14, single.clone(), deleted(0, None));
    let fits = |op: &Op, id, answer, micros| {
        let reply = &Reply { answer, receipt: Receipt { shard: of_b, ..receipt(micros) } };
        let (level, asked_at, left, now, clock) = (Level::Linearizable, 0, 3, 5, 0);
        watch.rows.told(&map, &Told { op, id, level, reply, asked_at, left, now, clock }).is_none()
    };
    assert!(fits(&delete, id(1), deleted(1, Some("a")), 13));
    assert!(!fits(&delete, id(1), deleted(2, Some("a")), 13), "one was deleted");
    assert!(!fits(&delete, id(1), deleted(1, None), 13), "a shard stopped");
    assert!(!fits(&delete, id(3), deleted(1, Some("a")), 13), "that never ran");
    assert!(fits(&single, id(2), deleted(0, None), 14));
    assert!(!fits(&single, id(2), deleted(1, None), 14) && !fits(&single, id(2), deleted(0, None), 15));
}

#[test]
fn level_weaker_than_asked_and_staleness_beyond_its_bound_are_seen() {
    let fits = |asked, receipt: Receipt| {
        let (reply, mut watch) = (&Reply { answer: Answer::Row(None), receipt }, Watch::new());
        let (asked_at, left, now, clock, id) = (10, 15, 20, 0, None);
        let told = Told { op: &get(), id, level: asked, reply, asked_at, left, now, clock };
        watch.told(&ShardMap::of(1), &told).is_empty()
    };
    let reached =
        |asked, reached, staleness_micros| Receipt { asked, reached, staleness_micros, ..receipt(1) };
    let (best, bounded, local) = (Level::Linearizable, Level::Bounded, Level::Local);
    for (asked, got, staleness, expected) in [
        (best, best, 0, true),
        (best, best, 1, false),
        (best, bounded(1), 0, false),
        (best, local, 0, false),
        (bounded(5), best, 0, true),
        (bounded(5), bounded(5), 5_000, true),
        (bounded(5), bounded(5), 5_001, false),
        (bounded(5), bounded(6), 0, false),
        (bounded(5), local, 0, false),
        (local, local, u64::MAX, true),
    ] {
        assert_eq!(fits(asked, reached(asked, got, staleness)), expected, "{asked} {got} {staleness}");
    }
    assert!(!fits(local, reached(best, best, 0)), "another level was asked for");
}

#[test]
fn copies_that_are_not_synced_are_seen() {
    let mut watch = Watch::new();
    let (entry, node) = (Bytes::new(), NodeId);
    for id in [1, 2, 3] {
        let record = Record::Entry(Position::new(1, if id == 3 { 1 } else { 2 }));
        watch.see(&Seen::Record { node: node(id), shard: SHARD, record, body: &entry });
        watch.see(&Seen::Appended { node: node(id), ticket: 1 });
    }
    let first = Index(1);
    let synced = |watch: &mut Watch, id| {
        watch.see(&Seen::Durable { node: node(id), ticket: 1 });
        let (role, leader, term, applied) = (kv::cluster::Role::Follower, None, kv::Term(2), Index::ZERO);
        let status = Status {
            role,
            leader,
            term,
            last: first,
            durable: first,
            commit: first,
            applied,
            members: vec![],
            wants_the_gone: false,
            lease_reads: 0,
            counts: Default::default(),
        };
        watch.see(&Seen::Status { node: node(id), shard: SHARD, status: &status });
    };
    synced(&mut watch, 1);
    let (last, asked, results) = (version(5), Asked::default(), &[]);
    let (node_1, shard, entry) = (node(1), SHARD, &entry);
    watch.see(&Seen::Applied { node: node_1, shard, index: first, entry, last, results, asked });
    let told = |watch: &Watch, copies| watch.copies_told(&Receipt { copies, ..receipt(5) }).is_some();
    assert!(!told(&watch, 1) && told(&watch, 2));
    synced(&mut watch, 3);
    assert!(told(&watch, 2), "that node holds another entry");
    synced(&mut watch, 2);
    assert!(!told(&watch, 2) && told(&watch, 3));
    watch.see(&Seen::Wiped { node: node(2) });
    assert!(!told(&watch, 2), "it was synced when the leader learned of it");
}
