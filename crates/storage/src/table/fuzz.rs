//! The decoders of this crate as plain functions over bytes, for the crate `fuzz`, and sound bytes to begin with.
//!
//! Where a checksum stands before what it protects, it is made right first: what lies behind it must be checked, too.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kv::codec::{self, Reader};
use kv::fuzz::round_trip;
use kv::merged::{BUCKETS, Found, Look, Named, Row};
use kv::{Answer, Class, Direction, Entry, Key, Op, Range, ReplicaId, Revision, ShardId, Stamped, Version};

use super::layout::Layout;
use super::older::Places;
use super::record::{Head, Record};
use super::sessions;
use super::shard::State;
use super::{Applied, Clock, History, Options, Read, Table};
use crate::engine::{Engine, EngineError};
use crate::memory::{Memory, checkpoint};

const SHARD: ShardId = ShardId(1);
/// Entries of one input that are applied: more take time and find nothing more.
const ENTRIES_MAX: usize = 64;
/// Pages that a range of a test table can have: it has fewer rows.
const PAGES_MAX: usize = 10_000;

/// A table over an engine without files, with one empty shard.
pub fn table() -> Table {
    table_as(Layout::Ordered)
}

fn table_as(layout: Layout) -> Table {
    let mut table = Table::open(engine(), Options::of(History::Count(3)));
    table.load_as(SHARD, 0, layout).expect("an empty copy loads");
    table
}

/// An engine without files.
pub fn engine() -> Arc<dyn Engine> {
    Arc::new(Memory::volatile())
}

/// A revision as it is stored.
pub fn row(bytes: &[u8]) {
    let decode = |bytes: &Bytes| Record::decode(bytes.clone()).map(|record| (record.head, record.value()));
    round_trip(bytes, decode, |(head, value)| head.encode(&[value]));
}

/// A shard's state as it is stored.
pub fn state(bytes: &[u8]) {
    round_trip(bytes, |bytes| State::decode(bytes.clone()), State::encode);
}

/// A remembered request as it is stored.
pub fn session(bytes: &[u8]) {
    sessions::decode_whole(Bytes::copy_from_slice(bytes));
}

/// A list of entries, applied one after the other to two tables of each layout: they are alike, every read is answered, and a snapshot of
/// one is a third that is alike.
pub fn apply(bytes: &[u8]) {
    let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
    let Ok(entries) = reader.list(Reader::bytes) else { return };
    for layout in [Layout::Ordered, Layout::Merged] {
        apply_as(layout, &entries);
    }
}

fn apply_as(layout: Layout, entries: &[Bytes]) {
    let (mut one, mut other) = (table_as(layout), table_as(layout));
    let sound = entries.iter().take(ENTRIES_MAX).filter_map(|entry| Entry::decode(entry).ok());
    for (index, entry) in (1..).zip(sound) {
        let done = one.apply(SHARD, index, 1, &entry).expect("an engine in memory does not fail");
        assert_eq!(done.len(), entry.ops.len(), "each op has its result");
        assert_eq!(other.apply(SHARD, index, 1, &entry).expect("as the first"), done);
        for Stamped { op, .. } in &entry.ops {
            op.for_each_key(&mut |key| {
                read(&one, &Op::Get { key: key.clone(), at: None }).expect("memory does not fail");
                read_history(&one, key).expect("memory does not fail");
            });
        }
        assert_eq!(one.audit(SHARD), Ok(()), "expiry is as it must be");
    }
    assert_eq!(digest(&one), digest(&other), "the same entries, the same rows");
    read_all(&one).expect("memory does not fail");
    if layout == Layout::Merged {
        look_at_all(&one).expect("memory does not fail");
    }
    assert_eq!(digest(&copy(&mut one)), digest(&one), "a snapshot holds all");
}

/// Looks at all rows, by their names and one at a time: they are the same.
fn look_at_all(table: &Table) -> Result<(), EngineError> {
    let range = |limit, after| {
        let (from, to, direction) = (Key::new(), None, Direction::Forward);
        table.look(SHARD, &Look::Range { from, to, direction, limit, after })
    };
    let Found::Rows { rows: all, next: None } = range(0, None)? else { return Ok(()) };
    let (mut single, mut after) = (Vec::new(), None);
    while let Found::Rows { rows, next } = range(1, after)? {
        single.extend(rows);
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(single, all, "rows one at a time");
    let names: Vec<Named> = all.iter().map(|row| (row.key.clone(), row.rank())).collect();
    assert_eq!(table.look(SHARD, &Look::Rows(names.clone()))?, Found::Rows { rows: all.clone(), next: None });
    let listed = table.look(SHARD, &Look::Buckets { buckets: (0..BUCKETS).collect(), after: None })?;
    assert_eq!(listed, Found::Names { names: names.clone(), next: None });
    let sum = names.iter().fold(0u64, |sum, (key, rank)| sum.wrapping_add(kv::merged::digest(key, *rank)));
    let root = table.look(SHARD, &Look::Digests { first: 0, count: BUCKETS, width: BUCKETS })?;
    assert_eq!(root, Found::Digests(vec![sum]), "the digest of all");
    let dead = all.iter().filter(|row| row.value.is_none()).map(|row| (row.key.clone(), row.rank()));
    assert_eq!(
        table.look(SHARD, &Look::Tombstones { after: None })?,
        Found::Names { names: dead.collect(), next: None }
    );
    Ok(())
}

/// An op, read at a table with some rows; of a range all pages.
pub fn ask(bytes: &[u8]) {
    let Ok(Stamped { op, .. }) = Stamped::decode(&Bytes::copy_from_slice(bytes)) else { return };
    let table = filled();
    read(&table, &op).expect("memory does not fail");
    let _ = table
        .read(SHARD, &op, Clock::Orders(Version::new(2_000, ReplicaId(1))))
        .expect("memory does not fail");
}

/// Chunks of a snapshot (a list), each without its checksum: installed or refused. What is installed whole loads, and
/// goes on; rows that do not fit together are told as damage when they are read.
pub fn snapshot(bytes: &[u8]) {
    let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
    let Ok(chunks) = reader.list(Reader::bytes) else { return };
    let mut table = table();
    table.install_begin(SHARD, 1).expect("memory does not fail");
    for chunk in &chunks {
        match table.install_chunk(SHARD, 1, &sealed(chunk)) {
            Err(_) => return,
            Ok(None) => continue,
            Ok(Some(applied)) => {
                assert_eq!(table.load(SHARD, 1).expect("a snapshot that was taken loads"), applied);
                copy(&mut table);
                let _ = read_all(&table);
                let _ = expire_all(&mut table, applied);
                return;
            }
        }
    }
}

/// The content of a checkpoint file, as it is.
pub fn checkpoint(bytes: &[u8]) {
    let Ok(rows) = checkpoint::read_rows(&mut &bytes[..]) else { return };
    let mut written = Vec::new();
    checkpoint::write_rows(&mut written, &rows).expect("a buffer takes everything");
    let again = checkpoint::read_rows(&mut &written[..]).expect("what was written is read");
    assert!(again == rows, "written and read again");
}

/// Rows of all kinds.
pub fn row_samples() -> Vec<Bytes> {
    let version = Version::new(1_000, ReplicaId(1));
    let live = Head {
        tombstone: false,
        first: true,
        version,
        created: version,
        changes: 300,
        ordinal: 6,
        kept: 2,
        deadline: None,
        places: None,
        merged: None,
    };
    let expiring = Head { deadline: Some(9), first: false, ..live };
    let laid = Head { places: Some(Places::of(17).until(5)), ..live };
    let merged = kv::fuzz::rows().into_iter().map(|row| {
        let value = row.value.clone().unwrap_or_default();
        Head { kept: 2, ..Head::of_merged(&row) }.encode(&[&value])
    });
    let ordered = [
        laid.encode(&[b"value"]),
        live.encode(&[b"value"]),
        expiring.encode(&[b""]),
        Head::tombstone(version, 7, 1, None).encode(&[]),
    ];
    ordered.into_iter().chain(merged).collect()
}

/// States.
pub fn state_samples() -> Vec<Bytes> {
    let last = Version::new(1_000, ReplicaId(1));
    let moved = State { applied: 9, term: 2, last, floor: last, ..State::default() };
    vec![State::default().encode(), moved.encode(), State { layout: Layout::Merged, ..moved }.encode()]
}

/// Remembered requests.
pub fn session_samples() -> Vec<Bytes> {
    sessions::samples()
}

/// Lists of entries.
pub fn apply_samples() -> Vec<Bytes> {
    let entries = kv::fuzz::entry_samples();
    let puts: Vec<Bytes> =
        (1..4).map(|time| Entry::encode(Version::new(time * 100, ReplicaId(1)), &puts())).collect();
    let merges: Vec<Bytes> = kv::fuzz::rows()
        .into_iter()
        .flat_map(|row| [Row { deadline: Some(400), ..row.clone() }, row])
        .filter(|row| row.check().is_ok())
        .flat_map(|row| {
            let version = Version::new(row.version.micros() / 2, ReplicaId(2));
            [row.clone(), Row { version, created: row.created.min(version), replaced: None, ..row }]
        })
        .map(|row| Entry::encode(Version::ZERO, &[stamped(Op::Merge { rows: vec![row] })]))
        .collect();
    let last = Entry::encode(Version::ZERO, &[stamped(Op::Advance { to: Version::MAX, rules: None })]);
    let merges = [merges, vec![last]].concat();
    vec![list(&entries), list(&puts), list(&[puts, entries].concat()), list(&merges)]
}

/// Ops.
pub fn ask_samples() -> Vec<Bytes> {
    let range = |direction, page: Option<&'static str>| Range {
        direction,
        limit: 2,
        page: page.map(Bytes::from),
        ..Range::default()
    };
    let ranges = [range(Direction::Forward, None), range(Direction::Backward, Some("k3"))];
    let ranges = ranges.map(|range| Stamped { id: None, op: Op::Range(range) }.encode());
    let ops = kv::fuzz::ops().into_iter().filter(|op| op.class() == Class::Read);
    ranges.into_iter().chain(ops.map(|op| Stamped { id: None, op }.encode())).collect()
}

/// Snapshots.
pub fn snapshot_samples() -> Vec<Bytes> {
    [table(), filled(), merged()]
        .iter_mut()
        .flat_map(|table| [60, 1 << 20].map(|bytes| list(&unsealed(table, bytes))))
        .collect()
}

/// Checkpoints.
pub fn checkpoint_samples() -> Vec<Bytes> {
    let sample = |count: u8| {
        let rows = (0..count).map(|row| (Bytes::from(vec![row; 4]), Bytes::from(vec![row; 9]))).collect();
        let mut written = Vec::new();
        checkpoint::write_rows(&mut written, &rows).expect("a buffer takes everything");
        Bytes::from(written)
    };
    vec![sample(0), sample(5)]
}

/// A table in the merged layout, with rows, history, deadlines and tombstones.
fn merged() -> Table {
    let mut table = table_as(Layout::Merged);
    let merge = Stamped { id: None, op: Op::Merge { rows: kv::fuzz::rows() } };
    let entry = Entry { proposed: Version::ZERO, ops: vec![merge] };
    table.apply(SHARD, 1, 1, &entry).expect("memory does not fail");
    table
}

fn stamped(op: Op) -> Bytes {
    Stamped { id: None, op }.encode()
}

/// A table with rows, history, deadlines and sessions.
fn filled() -> Table {
    let mut table = table();
    for (index, time) in (1..4).zip([100, 200, 300]) {
        let entry = Entry::encode(Version::new(time, ReplicaId(1)), &puts());
        let entry = Entry::decode(&entry).expect("what was encoded decodes");
        table.apply(SHARD, index, 1, &entry).expect("memory does not fail");
    }
    table
}

fn puts() -> Vec<Bytes> {
    let id = |sequence| kv::RequestId { client: 7, sequence, valid_until: Version::MAX, answered_below: 1 };
    let put = |number: u64| Op::Put {
        key: format!("k{number}").into(),
        value: format!("v{number}").into(),
        deadline: (number == 4).then_some(1_000),
        previous: false,
    };
    let delete = Op::Delete { key: "k2".into(), previous: false };
    let ops = (1..6).map(|number| Stamped { id: Some(id(number)), op: put(number) });
    ops.chain([Stamped { id: None, op: delete }]).map(|stamped| stamped.encode()).collect()
}

fn list(items: &[Bytes]) -> Bytes {
    let mut into = BytesMut::new();
    codec::put_list(&mut into, items, |into, item| codec::put_bytes(into, item));
    into.freeze()
}

fn digest(table: &Table) -> u64 {
    table.digest(SHARD).expect("memory does not fail")
}

/// Reads what an op asks; of a range all pages, which come to an end.
fn read(table: &Table, op: &Op) -> Result<(), EngineError> {
    let Op::Range(range) = op else {
        return table.read(SHARD, op, Clock::Shard).map(drop);
    };
    let mut range = range.clone();
    for _ in 0..PAGES_MAX {
        let read = table.read(SHARD, &Op::Range(range.clone()), Clock::Shard)?;
        let Read::Done { result: Ok(Answer::Page(page)), .. } = read else { return Ok(()) };
        let is_within =
            |row: &kv::Row| row.key >= range.from && range.to.as_ref().is_none_or(|to| row.key < to);
        assert!(range.limit == 0 || range.count_only || page.rows.len() <= range.limit as usize);
        assert!(page.rows.iter().all(is_within));
        range.page = page.next;
        if range.page.is_none() {
            return Ok(());
        }
    }
    panic!("the range has no last page");
}

/// Reads the history of a key in pages of one: they come to an end, and are together what one page holds.
fn read_history(table: &Table, key: &Key) -> Result<(), EngineError> {
    let (mut whole, _) = history(table, key, 0, None)?;
    let mut before = None;
    loop {
        let (revisions, next) = history(table, key, 1, before)?;
        assert_eq!(revisions.as_slice(), whole.drain(..revisions.len()).as_slice());
        if next.is_none() {
            assert!(whole.is_empty(), "no revision is left out");
            return Ok(());
        }
        assert!(!revisions.is_empty(), "a page that goes on has a revision");
        before = next;
    }
}

/// A page of a history, and where it goes on; nothing of what is no key.
fn history(
    table: &Table,
    key: &Key,
    limit: u32,
    before: Option<Version>,
) -> Result<(Vec<Revision>, Option<Version>), EngineError> {
    match table.read(SHARD, &Op::History { key: key.clone(), limit, before }, Clock::Shard)? {
        Read::Done { result: Ok(Answer::History { revisions, next }), .. } => Ok((revisions, next)),
        _ => Ok((Vec::new(), None)),
    }
}

fn read_all(table: &Table) -> Result<(), EngineError> {
    for direction in [Direction::Forward, Direction::Backward] {
        for (limit, at) in [(0, None), (1, None), (2, Some(table.applied(SHARD).last))] {
            read(table, &Op::Range(Range { direction, limit, at, ..Range::default() }))?;
        }
    }
    Ok(())
}

/// Lets all expire that has a deadline, and forgets all sessions.
fn expire_all(table: &mut Table, applied: Applied) -> Result<(), EngineError> {
    let advance = Stamped { id: None, op: Op::Advance { to: Version::MAX, rules: None } };
    for index in (applied.index..u64::MAX).take(3) {
        let entry = Entry { proposed: Version::ZERO, ops: vec![advance.clone()] };
        table.apply(SHARD, index + 1, applied.term, &entry)?;
    }
    read_all(table)
}

/// Another table, made by a snapshot of this one.
fn copy(table: &mut Table) -> Table {
    let mut copy = self::table();
    copy.install_begin(SHARD, 1).expect("memory does not fail");
    let mut snapshot = table.snapshot(SHARD);
    while let Some(chunk) = snapshot.next_chunk(200).expect("memory does not fail") {
        copy.install_chunk(SHARD, 1, &chunk).expect("a chunk of a table is taken");
    }
    copy.load(SHARD, 1).expect("a snapshot of a table loads");
    copy
}

/// The chunks of a table's snapshot without their checksums.
fn unsealed(table: &mut Table, bytes_max: usize) -> Vec<Bytes> {
    let mut snapshot = table.snapshot(SHARD);
    let mut chunks = Vec::new();
    while let Some(chunk) = snapshot.next_chunk(bytes_max).expect("memory does not fail") {
        chunks.push(chunk.slice(..chunk.len() - 4));
    }
    chunks
}

fn sealed(chunk: &[u8]) -> Bytes {
    Bytes::from([chunk, &crc32c::crc32c(chunk).to_be_bytes()].concat())
}
