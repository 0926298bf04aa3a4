//! The ledger of a shard: what a copy that went another way has and the shard lacks, found, taken in, listed and kept.

#![allow(clippy::unwrap_used)] // a test fails by panicking

#[path = "limits/store.rs"]
#[allow(dead_code)] // others use the rest
mod store;

use bytes::Bytes;
use kv::ledger::{LEDGER_ROWS_MAX, Line, Lost, Note, Orphans};
use kv::{Answer, NodeId, Op, Range, ReplicaId, Version};
use storage::{Clock, History, Looked, Read};
use store::{SHARD, Store};

fn put(store: &mut Store, micros: u64, key: &'static str, value: &'static str) {
    let op = Op::Put { key: key.into(), value: value.into(), deadline: None, previous: false };
    store.apply(micros, op).unwrap();
}

fn version(micros: u64) -> Version {
    Version::new(micros, ReplicaId(1))
}

fn lost(key: &'static str, at: u64, replaced: Option<u64>, value: Option<&'static str>) -> Lost {
    let (version, replaced) = (version(at), replaced.map(version));
    Lost { key: key.into(), version, replaced, value: value.map(Bytes::from) }
}

fn orphans(offset: u64, rows: Vec<Lost>, is_end: bool) -> Op {
    let (from, node, last) = (ReplicaId(7), NodeId(3), version(900));
    Op::Note(Note::Orphans(Orphans { from, node, offset, rows, skipped: 0, last, is_end }))
}

fn lines(store: &Store, limit: u32) -> Vec<Line> {
    let (mut lines, mut page) = (Vec::new(), None);
    loop {
        let op = Op::Range(Range { ledger: true, limit, page: page.take(), ..Range::default() });
        let Read::Done { result: Ok(Answer::Page(found)), .. } =
            store.table.read(SHARD, &op, Clock::Shard).unwrap()
        else {
            panic!("it is a page")
        };
        lines.extend(found.rows.iter().map(|row| Line::decode(&row.value).unwrap()));
        page = found.next;
        if page.is_none() {
            return lines;
        }
    }
}

#[test]
fn what_a_copy_has_above_a_version_names_what_it_replaced() {
    let mut store = Store::new(History::Count(4));
    put(&mut store, 10, "a", "1");
    put(&mut store, 20, "b", "1");
    put(&mut store, 30, "a", "2");
    put(&mut store, 40, "a", "3");
    put(&mut store, 50, "c", "1");
    store.apply(60, Op::Delete { key: "b".into(), previous: false }).unwrap();
    let found = store.table.orphaned(SHARD, version(20), None).unwrap();
    let rows = vec![
        lost("a", 30, Some(10), Some("2")),
        lost("a", 40, Some(30), Some("3")),
        lost("b", 60, Some(20), None),
        lost("c", 50, None, Some("1")),
    ];
    let lines = Looked::Lines(Bytes::new());
    assert_eq!((found.rows, found.skipped, found.next), (rows.clone(), 0, Some(lines.clone())));
    let rest = store.table.orphaned(SHARD, version(20), Some(&Looked::Keys("b".into()))).unwrap();
    assert_eq!(rest.rows, rows[3..]);
    assert_eq!(store.table.orphaned(SHARD, version(60), None).unwrap().rows, []);
    assert_eq!(store.table.orphaned(SHARD, version(20), Some(&lines)).unwrap(), Default::default());
}

#[test]
fn what_was_told_to_a_copy_above_a_version_goes_along_with_it() {
    let mut store = Store::new(History::Count(2));
    store.apply(20, Op::Note(Note::Fork { astray: vec![ReplicaId(7)] })).unwrap();
    let (first, second) = (lost("a", 15, None, Some("x")), lost("b", 16, Some(10), None));
    store.apply(30, orphans(0, vec![first.clone()], false)).unwrap();
    let before = store.table.applied(SHARD).last;
    store.apply(1_000, orphans(1, vec![second.clone()], true)).unwrap();
    let told = |base, after: &str| {
        let after = Looked::Lines(Bytes::copy_from_slice(after.as_bytes()));
        store.table.orphaned(SHARD, base, Some(&after)).unwrap().rows
    };
    assert_eq!(told(Version::ZERO, ""), [first, second.clone()]);
    assert_eq!(told(before, ""), [second], "who orders now has heard of the first");
    assert_eq!(told(Version::ZERO, "\u{2}"), [], "this was all");
}

#[test]
fn lines_that_are_taken_off_are_gone_and_others_stay() {
    let mut store = Store::new(History::Count(2));
    store.apply(20, Op::Note(Note::Fork { astray: vec![ReplicaId(7)] })).unwrap();
    let all = [lost("a", 15, None, Some("x")), lost("a", 16, None, None), lost("ab", 15, None, None)];
    store.apply(30, orphans(0, all.to_vec(), true)).unwrap();
    let mut clear = |at, key: &'static str, lost: &[u64]| {
        let lost = lost.iter().copied().map(version).collect();
        match store.apply(at, Op::Note(Note::Clear { key: key.into(), lost })).unwrap() {
            Answer::Trimmed { count, next: None } => (count, lines(&store, 0)),
            other => panic!("{other:?}"),
        }
    };
    let listed = |told: &[Line]| told.iter().filter(|line| matches!(line, Line::Lost { .. })).count();
    let (count, told) = clear(40, "a", &[15, 99]);
    assert_eq!((count, listed(&told)), (1, 2), "one of them was not listed");
    assert_eq!(clear(50, "a", &[15]).0, 0, "it is gone");
    let (_, told) = clear(60, "a", &[16]);
    assert!(
        matches!(&told[..], [Line::Astray { .. }, Line::Lost { lost, .. }] if *lost == all[2]),
        "{told:?}"
    );
    assert!(matches!(&clear(70, "ab", &[15]).1[..], [Line::Astray { is_done: true, .. }]));
}

#[test]
fn ledger_lists_each_lost_write_once_whatever_comes_twice() {
    let mut store = Store::new(History::Count(2));
    put(&mut store, 10, "a", "1");
    let fork =
        |astray: &[u16]| Op::Note(Note::Fork { astray: astray.iter().copied().map(ReplicaId).collect() });
    store.apply(20, fork(&[7, 8])).unwrap();
    put(&mut store, 30, "a", "2");
    store.apply(40, fork(&[7, 8])).unwrap();
    let astray = |replica, told, is_done| Line::Astray {
        replica: ReplicaId(replica),
        base: version(10),
        told,
        beyond: 0,
        is_done,
    };
    assert_eq!(lines(&store, 0), [astray(7, 0, false), astray(8, 0, false)], "the first base stays");
    let (first, second) = (lost("b", 15, None, Some("x")), lost("a", 16, Some(10), None));
    store.apply(50, orphans(0, vec![first.clone()], false)).unwrap();
    store.apply(60, orphans(5, vec![lost("z", 17, None, None)], false)).unwrap();
    store.apply(70, orphans(0, vec![first], false)).unwrap();
    store.apply(80, orphans(1, vec![second], true)).unwrap();
    store.apply(90, orphans(0, vec![lost("z", 17, None, None)], false)).unwrap();
    store.apply(100, fork(&[8])).unwrap();
    let told = lines(&store, 1);
    let keys: Vec<&[u8]> = told
        .iter()
        .filter_map(|line| match line {
            Line::Lost { lost, node: NodeId(3), .. } => Some(&lost.key[..]),
            _ => None,
        })
        .collect();
    assert_eq!(keys, [b"a", b"b"]);
    assert_eq!((told.len(), &told[0]), (3, &astray(8, 0, false)));
    assert!(store.table.applied(SHARD).last > version(900), "what is written now is above all that was lost");
    let before = store.table.digest(SHARD).unwrap();
    store.reopen(storage::Options::of(History::Count(2)));
    assert_eq!((lines(&store, 0), store.table.digest(SHARD).unwrap()), (told, before));
    store.table.audit(SHARD).unwrap();
}

#[test]
fn ledger_beyond_its_limit_counts_what_it_does_not_list() {
    let mut store = Store::new(History::Count(2));
    store.apply(20, Op::Note(Note::Fork { astray: vec![ReplicaId(7)] })).unwrap();
    let row = |number: u64| Lost { key: number.to_string().into(), ..lost("", 15, None, None) };
    let all: Vec<Lost> = (0..LEDGER_ROWS_MAX + 5).map(row).collect();
    let last = all.len() / 1000 * 1000;
    for (place, rows) in all.chunks(1000).enumerate() {
        let offset = place as u64 * 1000;
        store.apply(30 + offset, orphans(offset, rows.to_vec(), offset as usize == last)).unwrap();
    }
    let told = lines(&store, 0);
    let listed = told.iter().filter(|line| matches!(line, Line::Lost { .. })).count();
    assert_eq!(listed as u64, LEDGER_ROWS_MAX);
    let (node, replica) = (NodeId(3), ReplicaId(7));
    assert_eq!(told.last(), Some(&Line::Beyond { node, replica, count: 5 }));
    for row in &all[..LEDGER_ROWS_MAX as usize] {
        let clear = Note::Clear { key: row.key.clone(), lost: vec![row.version] };
        store.apply(100_000, Op::Note(clear)).unwrap();
    }
    assert_eq!(lines(&store, 0).len(), 1, "with the last line goes the count of the others");
}
