//! Rows of merged stores: the merge, what ops make and answer, and their bytes.

use bytes::Bytes;
use kv::merged::{self, Look, Newest, Rank, Row};
use kv::{Answer, Class, Direction, Key, Op, Page, Protocol, Range, ReplicaId, Scope, Version};

fn at(micros: u64) -> Version {
    Version::new(micros, ReplicaId(1))
}

fn put(key: &'static str, value: &'static str, deadline: Option<u64>) -> Op {
    Op::Put { key: key.into(), value: value.into(), deadline, previous: false }
}

fn delete(key: &'static str) -> Op {
    Op::Delete { key: key.into(), previous: false }
}

/// A store in which ops follow each other.
#[derive(Default)]
struct Store(Newest);

impl Store {
    fn write(&mut self, micros: u64, op: Op) -> Option<Answer> {
        let answer = merged::answer(&op, at(micros), &self.0);
        for row in merged::make(&op, at(micros), &self.0) {
            assert_eq!(row.check(), Ok(()), "{row}");
            assert!(self.0.add(row), "what is made is the newest");
        }
        answer
    }

    fn row(&self, key: &str) -> String {
        self.0.get(key.as_bytes()).map_or("-".into(), Row::to_string)
    }
}

fn deleted(count: u64) -> Option<Answer> {
    Some(Answer::Deleted { count, previous: None, next: None })
}

#[test]
fn make_counts_the_writes_of_a_key_since_it_came_to_be() {
    let mut store = Store::default();
    store.write(1, put("k", "a", None));
    store.write(2, put("k", "b", Some(9)));
    let (one, two) = (at(1), at(2));
    assert_eq!(store.row("k"), format!("k@{two}=b created={one} changes=2 deadline=9 replaced={one}"));
    assert_eq!(store.write(3, delete("k")), deleted(1));
    assert_eq!(store.row("k"), format!("k@{} deleted replaced={two}", at(3)));
    assert_eq!(store.write(4, delete("k")), deleted(0), "there is nothing to delete");
    assert_eq!(store.row("k"), format!("k@{} deleted replaced={two}", at(3)), "so nothing was made");
    store.write(5, put("k", "c", None));
    let five = at(5);
    assert_eq!(store.row("k"), format!("k@{five}=c created={five} changes=1 replaced={}", at(3)));
}

#[test]
fn make_deadline_that_has_passed_removes() {
    let mut store = Store::default();
    store.write(5, put("new", "a", Some(5)));
    assert_eq!(store.row("new"), "-");
    store.write(6, put("old", "a", None));
    store.write(7, put("old", "b", Some(7)));
    assert_eq!(store.row("old"), format!("old@{} deleted replaced={}", at(7), at(6)));
}

#[test]
fn make_after_the_deadline_begins_a_new_life() {
    let mut store = Store::default();
    store.write(1, put("k", "a", Some(5)));
    store.write(5, put("k", "b", None));
    let (first, second) = (at(1), at(5));
    assert_eq!(store.row("k"), format!("k@{second}=b created={second} changes=1 replaced={first}"));
}

#[test]
fn make_of_a_put_all_takes_the_last_of_equal_keys() {
    let rows = vec![("k".into(), "a".into()), ("j".into(), "b".into()), ("k".into(), "c".into())];
    let made = merged::make(&Op::PutAll { rows }, at(3), &Newest::default());
    let three = at(3);
    let shown: Vec<String> = made.iter().map(Row::to_string).collect();
    let expect = |key, value| format!("{key}@{three}={value} created={three} changes=1");
    assert_eq!(shown, [expect("j", "b"), expect("k", "c")]);
}

#[test]
fn expiry_ranks_above_its_value_and_below_every_later_write() {
    let mut store = Store::default();
    store.write(1, put("k", "a", Some(5)));
    let value = store.0.get(b"k").cloned().expect("it was put");
    let expiry = value.expire().expect("it has a deadline");
    assert_eq!(value.expire(), value.expire(), "whoever makes it makes the same");
    assert_eq!(expiry.to_string(), format!("k@{0} expired created={0} changes=1 deadline=5", at(1)));
    let later = Rank::of(value.version.next(), false);
    assert!(value.rank() < expiry.rank() && expiry.rank() < later);
    assert_eq!(expiry.expire(), None);
    assert!(store.0.add(expiry) && !store.0.add(value), "a value does not come back after its expiry");
}

#[test]
fn answer_leaves_out_what_is_deleted_and_what_has_expired() {
    let mut store = Store::default();
    store.write(1, put("a", "1", None));
    store.write(2, put("b", "2", Some(9)));
    store.write(3, put("c", "3", None));
    store.write(4, delete("c"));
    let all = Op::Range(Range::default());
    let keys = |micros| match merged::answer(&all, at(micros), &store.0) {
        Some(Answer::Page(Page { rows, count, next: None })) => {
            assert_eq!(rows.len() as u64, count);
            rows.into_iter().map(|row| row.key).collect::<Vec<Key>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!((keys(8), keys(9)), (vec!["a".into(), "b".into()], vec![Key::from("a")]));
    let get = |key: &'static str| merged::answer(&Op::Get { key: key.into(), at: None }, at(8), &store.0);
    assert!(matches!(get("a"), Some(Answer::Row(Some(row))) if row.value == "1"));
    assert_eq!((get("c"), get("d")), (Some(Answer::Row(None)), Some(Answer::Row(None))));
}

#[test]
fn pages_of_several_replicas_end_where_the_first_of_them_ends() {
    let row = |key: &'static str, micros| {
        merged::make(&put(key, "v", None), at(micros), &Newest::default()).remove(0)
    };
    for (direction, reach, found) in
        [(Direction::Forward, "c", ["a", "b"]), (Direction::Backward, "b", ["d", "c"])]
    {
        let mut newest = Newest::of(direction);
        newest.add_page(vec![row("a", 1), row("b", 1), row("c", 1), row("d", 1)], None);
        newest.add_page(found.map(|key| row(key, 2)).to_vec(), Some(reach.into()));
        let range = Range { direction, ..Range::default() };
        let Some(Answer::Page(page)) = merged::answer(&Op::Range(range), at(9), &newest) else { panic!() };
        let keys: Vec<_> = page.rows.iter().map(|row| (row.key.clone(), row.version.micros())).collect();
        let mut expected: Vec<(Key, u64)> = found.map(|key| (key.into(), 2)).to_vec();
        expected.push((reach.into(), 1));
        assert_eq!(
            keys, expected,
            "{direction:?}: what the shorter page does not have is not there, up to its end"
        );
        assert_eq!(page.next.as_deref(), Some(reach.as_bytes()));
    }
}

#[test]
fn delete_range_goes_on_behind_what_was_looked_at() {
    let mut newest = Newest::default();
    let row = |key| merged::make(&put(key, "v", None), at(1), &Newest::default()).remove(0);
    newest.add_page(vec![row("a"), row("b")], Some("b".into()));
    let op = Op::DeleteRange { from: Key::new(), to: None };
    assert_eq!(merged::make(&op, at(2), &newest).len(), 2);
    let next = Some(Bytes::from_static(b"b\0"));
    assert_eq!(merged::answer(&op, at(2), &newest), Some(Answer::Deleted { count: 2, previous: None, next }));
}

#[test]
fn refusal_of_what_needs_an_order_names_protocols_that_have_one() {
    let ops: Vec<Op> = kv::fuzz::ops().into_iter().filter(|op| !matches!(op, Op::Note(_))).collect();
    for protocol in [Protocol::Quorum, Protocol::Broadcast] {
        let refused = |op: &Op| {
            let why = merged::refusal(protocol, op);
            assert!(
                why.is_none_or(|why| op.is_own() || why.contains("single, raft, primary")),
                "{protocol}: {why:?}"
            );
            let is_of_rows = !matches!(op, Op::Range(range) if range.ledger);
            let is_of_now = op.at().is_none() && !matches!(op, Op::History { .. });
            let is_looked_at = merged::look(op).is_some();
            assert!(why.is_some() || is_looked_at == (is_of_rows && is_of_now), "{protocol}: {op:?}");
            why.is_some()
        };
        let served = ops.iter().filter(|op| !refused(op)).count();
        assert!((3..ops.len()).contains(&served), "some are served: {served}");
        assert!(!refused(&put("k", "v", None)) && !refused(&Op::Get { key: "k".into(), at: None }));
        assert!(refused(&Op::Expire { key: "k".into(), deadline: None }));
        let of_history = [
            Op::Get { key: "k".into(), at: Some(at(1)) },
            Op::History { key: "k".into(), limit: 0, before: None },
            Op::Put { key: "k".into(), value: "v".into(), deadline: None, previous: true },
            Op::Trim { key: "k".into(), below: None },
        ];
        let is_own_copy = protocol == Protocol::Broadcast;
        assert!(of_history.iter().all(|op| refused(op) != is_own_copy), "{protocol}: a member's own history");
    }
}

#[test]
fn trim_makes_the_rows_that_stay_again_with_a_floor() {
    let mut store = Store::default();
    store.write(1, put("k", "a", None));
    store.write(2, put("k", "b", None));
    store.write(3, put("other", "c", None));
    let trim = |below: Option<Version>| Op::Trim { key: "k".into(), below };
    let trimmed = |count| Some(Answer::Trimmed { count, next: None });
    assert_eq!(store.write(4, trim(Some(at(1)))), trimmed(0), "what came later is not what was looked for");
    assert_eq!(store.write(4, trim(None)), trimmed(1));
    let (one, two) = (at(1), at(2));
    let row = format!("k@{two}=b created={one} changes=2 replaced={one} floor={two}");
    assert_eq!(store.row("k"), row, "its version stays");
    assert_eq!(store.write(5, trim(None)), trimmed(0), "there is nothing left to trim");
    assert!(!store.row("other").contains("floor"), "{}", store.row("other"));
    store.write(6, put("k", "d", None));
    assert!(store.row("k").ends_with(&format!("floor={two}")), "a floor stays with its key");
    store.write(7, delete("k"));
    assert!(store.row("k").ends_with(&format!("floor={two}")), "{}", store.row("k"));
    assert_eq!(store.write(8, trim(None)), trimmed(1));
    let (seven, eight) = (at(7), at(8));
    assert_eq!(
        store.row("k"),
        format!("k@{eight} deleted replaced={seven} floor={eight}"),
        "a tombstone of its own"
    );
    assert_eq!(store.write(9, trim(None)), trimmed(0));
}

#[test]
fn newest_takes_the_highest_floor_whichever_row_it_comes_with() {
    let row = |micros, floor| Row { floor, ..Row::tombstone("k".into(), at(micros), None) };
    for rows in [[row(9, at(2)), row(5, at(5))], [row(5, at(5)), row(9, at(2))]] {
        let mut newest = Newest::default();
        assert!(rows.iter().cloned().all(|row| newest.add(row)), "each is news");
        assert!(rows.iter().cloned().all(|row| !newest.add(row)), "and once");
        assert_eq!(newest.get(b"k"), Some(&row(9, at(5))));
    }
}

#[test]
fn ops_of_rows_are_the_store_s_own() {
    let rows = kv::fuzz::rows();
    let names = rows.iter().map(|row| (row.key.clone(), row.rank())).collect();
    for op in [Op::Merge { rows: rows.clone() }, Op::Collect { tombstones: names }] {
        assert!(op.is_own() && op.class() == Class::Blind);
        assert!(matches!(op.scope(), Scope::Keys(keys) if keys.len() == rows.len()));
        assert_eq!(op.validate(), Ok(()));
        let inner = Op::Transaction { conditions: Vec::new(), then: vec![op], otherwise: Vec::new() };
        assert!(inner.validate().is_err(), "nor can a transaction hold it");
    }
    let impossible = Row { changes: 0, ..rows[0].clone() };
    assert!(Op::Merge { rows: vec![impossible] }.validate().is_err());
}

#[test]
fn rows_that_cannot_be_are_told() {
    let [value, expiry, _, tombstone, ..] = &kv::fuzz::rows()[..] else { panic!("of each kind one") };
    for row in [
        Row { key: Key::new(), ..value.clone() },
        Row { version: Version::ZERO, ..tombstone.clone() },
        Row { replaced: Some(value.version), ..value.clone() },
        Row { created: value.version.next(), ..value.clone() },
        Row { value: value.value.clone(), ..expiry.clone() },
        Row { deadline: None, ..expiry.clone() },
        Row { changes: 1, ..tombstone.clone() },
        Row { deadline: Some(value.version.micros()), ..value.clone() },
        Row { floor: value.version.next(), ..value.clone() },
        Row { known: true, ..value.clone() },
    ] {
        assert!(row.check().is_err(), "{row}");
    }
}

#[test]
fn digests_tell_ranks_and_keys_apart_and_buckets_are_even() {
    let (low, high) = (Rank::of(at(1), false), Rank::of(at(1), true));
    assert_ne!(merged::digest(b"k", low), merged::digest(b"k", high));
    assert_ne!(merged::digest(b"k", low), merged::digest(b"j", low));
    let trimmed = Rank { floor: at(1), ..low };
    assert_ne!(merged::digest(b"k", low), merged::digest(b"k", trimmed), "a trim is a difference too");
    assert!(low < trimmed && trimmed < high);
    let mut counts = vec![0; usize::from(merged::BUCKETS)];
    for number in 0..100 * u32::from(merged::BUCKETS) {
        counts[usize::from(merged::bucket(format!("key-{number}").as_bytes()))] += 1;
    }
    assert!(counts.iter().all(|count| (50..150).contains(count)), "{counts:?}");
}

#[test]
fn look_beyond_the_limits_is_no_look() {
    let buckets = |buckets| Look::Buckets { buckets, after: None };
    assert!(buckets(vec![1, 2]).check().is_ok());
    for look in [buckets(vec![2, 1]), buckets(vec![1024]), Look::Digests { first: 0, count: 1, width: 0 }] {
        assert!(look.check().is_err(), "{look:?}");
    }
    assert!(Look::Keys(vec!["k".into(); 10_001]).check().is_err());
}
