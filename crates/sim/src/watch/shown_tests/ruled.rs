//! What a shard keeps, and how long its values last, by the entries that said so.

use kv::keyspace::{History as Kept, Keep, Rules};

use super::*;

fn keeps(rows: &mut Rows, micros: u64, keep: Keep) {
    let rules = Some(Rules { keep, full: None });
    let nothing = Answer::Trimmed { count: 0, next: None };
    assert!(apply(rows, micros, Op::Advance { to: version(micros), rules }, nothing));
}

#[test]
fn revisions_are_kept_as_the_rules_said_at_each_version() {
    let count = |count| Keep { history: Some(Kept::Count(count)), ..Keep::default() };
    let mut rows = kept_by(Options::of(History::Count(3)));
    (10..15).for_each(|micros| assert!(apply(&mut rows, micros, put(None), PUT)));
    keeps(&mut rows, 20, count(2));
    let v = Some("v");
    let whole = |rows: &Rows, at, shown: &[(u64, Option<&'static str>)]| {
        let reply = Reply { answer: revisions(shown, None), receipt: receipt(at) };
        rows.read(&history(0, None), &reply, Bounds { low: at, high: at }).is_none()
    };
    for shown in [&[(14, v), (13, v), (12, v)][..], &[(14, v), (13, v)]] {
        assert!(whole(&rows, 20, shown), "nothing was written since: {shown:?}");
    }
    assert!(whole(&rows, 19, &[(14, v), (13, v), (12, v)]) && !whole(&rows, 19, &[(14, v), (13, v)]));
    assert!(apply(&mut rows, 21, put(None), PUT));
    assert!(whole(&rows, 21, &[(21, v), (14, v)]) && !whole(&rows, 21, &[(21, v), (14, v), (13, v)]));
    keeps(&mut rows, 22, count(9));
    assert!(apply(&mut rows, 23, put(None), PUT));
    assert!(whole(&rows, 23, &[(23, v), (21, v), (14, v)]) && !whole(&rows, 23, &[(23, v), (21, v)]));
    assert!(!whole(&rows, 23, &[(23, v), (21, v), (14, v), (13, v)]), "what is forgotten stays so");
    keeps(&mut rows, 24, Keep { history: Some(Kept::Micros(3)), ..Keep::default() });
    assert!(apply(&mut rows, 25, put(None), PUT));
    assert!(whole(&rows, 25, &[(25, v), (23, v), (21, v)]) && !whole(&rows, 25, &[(25, v), (23, v)]));
}

#[test]
fn value_without_a_deadline_lasts_as_the_rules_said_when_it_was_stored() {
    let mut rows = kept_by(Options::of(History::All));
    assert!(apply(&mut rows, 10, put(None), PUT));
    keeps(&mut rows, 20, Keep { ttl_micros: Some(5), ..Keep::default() });
    assert!(apply(&mut rows, 30, put_key("l", None), PUT));
    let shows = |key: &'static str, at, row: Option<Row>| {
        let reply = Reply { answer: Answer::Row(row), receipt: receipt(at) };
        rows.read(&Op::Get { key: key.into(), at: None }, &reply, Bounds { low: at, high: at }).is_none()
    };
    assert!(shows("k", 40, Some(row_of("k", 10, None))) && !shows("k", 40, None));
    let row = || Some(row_of("l", 30, Some(35)));
    assert!(shows("l", 34, row()) && !shows("l", 34, None) && !shows("l", 34, Some(row_of("l", 30, None))));
    assert!(shows("l", 35, None) && !shows("l", 35, row()));
}
