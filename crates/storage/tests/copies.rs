//! Copies of shards: snapshots, installs, forgetting; several shards in one engine.

// What cannot go on fails the test.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use kv::keyspace::{Standing, Usage};
use kv::{
    Answer, Entry, Function, Op, Range, ReplicaId, RequestId, ShardId, Slot, SlotRange, Stamped, Version,
};
use storage::{Applied, Asked, Clock, Cut, History, InstallError, Kind, Options, Read, Table};

const A: ShardId = ShardId(1);
const B: ShardId = ShardId(2);

fn open(kind: Kind, folder: &tempfile::TempDir) -> Table {
    Table::open(storage::open(kind, folder.path()).unwrap(), Options::of(History::Count(3)))
}

fn put(key: &str, value: impl Into<Bytes>, deadline: Option<u64>) -> Op {
    Op::Put { key: key.to_string().into(), value: value.into(), deadline, previous: false }
}

fn apply(table: &mut Table, shard: ShardId, index: u64, ops: Vec<Op>) {
    let ops = ops.into_iter().map(|op| Stamped { id: None, op }).collect();
    table.apply(shard, index, 4, &Entry { proposed: Version::new(index, ReplicaId(1)), ops }).unwrap();
}

fn fill(table: &mut Table, shard: ShardId, entries: u64) {
    for index in 1..=entries {
        let key = format!("key{}", index % 50);
        apply(
            table,
            shard,
            index,
            vec![put(&key, vec![index as u8; index as usize], Some(1_000_000 + index))],
        );
    }
}

fn chunks(table: &mut Table, shard: ShardId, bytes_max: usize) -> Vec<Bytes> {
    let mut snapshot = table.snapshot(shard);
    std::iter::from_fn(|| snapshot.next_chunk(bytes_max).unwrap()).collect()
}

fn install(table: &mut Table, shard: ShardId, generation: u32, chunks: &[Bytes]) {
    for chunk in chunks {
        table.install_chunk(shard, generation, chunk).unwrap();
    }
}

fn count(table: &Table, shard: ShardId) -> u64 {
    match table.read(shard, &Op::Range(Range { count_only: true, ..Range::default() }), Clock::Shard).unwrap()
    {
        Read::Done { result: Ok(Answer::Page(page)), .. } => page.count,
        other => panic!("{other:?} is no page"),
    }
}

#[test]
fn snapshot_says_how_many_bytes_it_will_send() {
    for kind in [Kind::Disk, Kind::Memory] {
        let folder = tempfile::tempdir().unwrap();
        let mut table = open(kind, &folder);
        [A, B].into_iter().for_each(|shard| {
            table.load(shard, 0).unwrap();
        });
        fill(&mut table, A, 500);
        let said = table.snapshot(A).bytes().unwrap();
        let sent: u64 = chunks(&mut table, A, 1 << 20).iter().map(|chunk| chunk.len() as u64).sum();
        assert!(said > sent / 2 && said <= sent, "{said} of {sent}: their lengths are not counted");
        assert!(table.snapshot(B).bytes().unwrap() < 100);
    }
}

#[test]
fn shards_in_one_engine_do_not_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = open(Kind::Disk, &folder);
    table.load(A, 1).unwrap();
    table.load(B, 1).unwrap();
    fill(&mut table, A, 10);
    let before = table.digest(A).unwrap();
    fill(&mut table, B, 99);
    assert_eq!((count(&table, A), count(&table, B)), (10, 50));
    apply(&mut table, B, 100, vec![Op::DeleteRange { from: Bytes::new(), to: None }]);
    assert_eq!((count(&table, A), count(&table, B)), (10, 0));
    assert_eq!(table.digest(A).unwrap(), before);
}

#[test]
fn snapshot_chunks_keep_to_their_size_and_the_state_when_it_was_taken() {
    for kind in [Kind::Memory, Kind::Disk] {
        let folder = tempfile::tempdir().unwrap();
        let mut table = open(kind, &folder);
        table.load(A, 1).unwrap();
        fill(&mut table, A, 100);
        let (digest, due) = (table.digest(A).unwrap(), table.due(A));
        assert!(due.is_some());
        let mut snapshot = table.snapshot(A);
        assert_eq!(snapshot.applied, table.applied(A));
        apply(&mut table, A, 101, vec![Op::DeleteRange { from: Bytes::new(), to: None }]);
        table.flush().run().unwrap();
        let sent: Vec<Bytes> = std::thread::scope(|scope| {
            let read = move || std::iter::from_fn(|| snapshot.next_chunk(1000).unwrap()).collect();
            scope.spawn(read).join().unwrap()
        });
        assert!(sent.len() > 5 && sent.iter().all(|chunk| chunk.len() <= 1100));
        table.install_begin(A, 2).unwrap();
        let told: Vec<_> = sent.iter().map(|chunk| table.install_chunk(A, 2, chunk).unwrap()).collect();
        let last = Version::new(100, ReplicaId(1));
        let told = told.last().unwrap().expect("the last chunk tells where the copy is");
        assert_eq!((told.index, told.term, told.last), (100, 4, last));
        assert_eq!(count(&table, A), 0, "the copy is invisible until it is loaded");
        table.load(A, 2).unwrap();
        assert_eq!((table.digest(A).unwrap(), table.due(A)), (digest, due));
    }
}

#[test]
fn install_in_part_is_a_shard_that_applied_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = open(Kind::Disk, &folder);
    table.load(A, 1).unwrap();
    fill(&mut table, A, 100);
    let sent = chunks(&mut table, A, 1000);
    table.install_begin(A, 2).unwrap();
    for chunk in &sent[..sent.len() - 1] {
        assert_eq!(table.install_chunk(A, 2, chunk).unwrap(), None);
    }
    table.flush().run().unwrap();
    drop(table);
    let mut table = open(Kind::Disk, &folder);
    assert_eq!(table.load(A, 2).unwrap(), Applied::default());
    // Another attempt removes what the first left.
    table.load(A, 1).unwrap();
    let digest = table.digest(A).unwrap();
    apply(&mut table, A, 101, vec![Op::DeleteRange { from: Bytes::new(), to: None }]);
    let sent_anew = chunks(&mut table, A, 1000);
    table.install_begin(A, 2).unwrap();
    install(&mut table, A, 2, &sent_anew);
    let expected = table.digest(A).unwrap();
    table.load(A, 2).unwrap();
    assert_eq!(table.digest(A).unwrap(), expected);
    assert_ne!(expected, digest);
}

#[test]
fn install_wrong_chunks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = open(Kind::Memory, &folder);
    table.load(A, 1).unwrap();
    fill(&mut table, A, 30);
    let sent = chunks(&mut table, A, 300);
    let refused = |table: &mut Table, chunk: &Bytes, why: &str| match table.install_chunk(A, 2, chunk) {
        Err(InstallError::Malformed { what, .. }) => assert!(what.contains(why), "{what}, not {why}"),
        other => panic!("{other:?}, not {why}"),
    };
    refused(&mut table, &sent[0], "not begun");
    table.install_begin(A, 2).unwrap();
    refused(&mut table, &sent[1], "chunk 1 came, and 0 is the next");
    refused(&mut table, &Bytes::new(), "too short");
    for at in 0..sent[0].len() {
        let mut flipped = sent[0].to_vec();
        flipped[at] ^= 4;
        refused(&mut table, &flipped.into(), "checksum");
    }
    install(&mut table, A, 2, &sent);
    refused(&mut table, &sent[0], "not begun, or is done");
}

#[test]
fn install_bytes_of_any_kind_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = open(Kind::Memory, &folder);
    table.install_begin(A, 2).unwrap();
    let mut random = 3u64;
    for length in 0..2000usize {
        let mut chunk: Vec<u8> = (0..length % 90)
            .map(|_| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 57) as u8 % 24
            })
            .collect();
        // As if it were sent so: the head of a first chunk, and the right checksum.
        if chunk.len() > 10 {
            let head = [1, 0, 0, 0, 0, chunk[5] & 1, 0, 0, 0, chunk[9] & 3];
            chunk[..10].copy_from_slice(&head);
        }
        chunk.extend_from_slice(&crc32c::crc32c(&chunk).to_be_bytes());
        if table.install_chunk(A, 2, &chunk.into()).is_ok() {
            table.install_begin(A, 2).unwrap();
        }
    }
}

#[test]
fn forget_removes_a_copy_in_steps_and_no_other() {
    for kind in [Kind::Memory, Kind::Disk] {
        let folder = tempfile::tempdir().unwrap();
        let mut table = open(kind, &folder);
        table.load(A, 1).unwrap();
        table.load(B, 1).unwrap();
        fill(&mut table, B, 20);
        for index in 1..=3u64 {
            let rows = (0..1000).map(|key| (format!("{key}").into(), index.to_string().into())).collect();
            apply(&mut table, A, index, vec![Op::PutAll { rows }]);
        }
        let sent = chunks(&mut table, A, 1 << 20);
        table.install_begin(A, 2).unwrap();
        install(&mut table, A, 2, &sent);
        table.load(A, 2).unwrap();
        let (a, b) = (table.digest(A).unwrap(), table.digest(B).unwrap());
        let steps = std::iter::from_fn(|| table.forget(A, 1).unwrap().then_some(())).count();
        assert_eq!(steps, 2, "3001 rows are over 1024 twice");
        assert!(!table.forget(A, 1).unwrap());
        assert_eq!((table.digest(A).unwrap(), table.digest(B).unwrap()), (a, b));
        assert_eq!(table.load(A, 1).unwrap(), Applied::default());
        assert_eq!(count(&table, A), 0);
    }
}

#[test]
#[should_panic(expected = "the current copy of shard 1 is not to be forgotten")]
fn forget_the_current_copy_is_a_bug() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = open(Kind::Memory, &folder);
    table.load(A, 1).unwrap();
    let _ = table.forget(A, 1);
}

#[test]
#[should_panic(expected = "shard 2 is asked about before it was loaded")]
fn shard_not_loaded_is_a_bug() {
    let folder = tempfile::tempdir().unwrap();
    open(Kind::Memory, &folder).applied(B);
}

#[test]
fn apply_empty_moves_applied_alone_and_survives() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = open(Kind::Disk, &folder);
    table.load(A, 1).unwrap();
    apply(&mut table, A, 1, vec![put("a", "1", None)]);
    let Applied { last, standing, .. } = table.applied(A);
    table.apply_empty(A, 2, 5).unwrap();
    table.flush().run().unwrap();
    drop(table);
    let mut table = open(Kind::Disk, &folder);
    assert_eq!(table.load(A, 1).unwrap(), Applied { index: 2, term: 5, last, standing });
    assert!(table.apply(A, 2, 5, &Entry { proposed: last, ops: vec![] }).unwrap().is_empty());
}

/// The halves of all slots, as parts of a shard.
fn halves(generation: u32) -> [(ShardId, u32, SlotRange); 2] {
    [(ShardId(11), generation, SlotRange::nth(0, 2)), (ShardId(12), generation, SlotRange::nth(1, 2))]
}

/// Brings a shard to its parts. `earlier`: they have a copy of up to there. How many rows were looked at, if not all.
fn cut(table: &mut Table, generation: u32, earlier: Option<u64>) -> Option<usize> {
    let mut cut = Cut::new((table.freeze(A, 0), SlotRange::nth(0, 1)), halves(generation), earlier);
    let changes = cut.changes();
    while table.cut(&mut cut).unwrap() {}
    changes
}

fn keys(table: &Table, shard: ShardId) -> Vec<Bytes> {
    match table.read(shard, &Op::Range(Range::default()), Clock::Shard).unwrap() {
        Read::Done { result: Ok(Answer::Page(page)), .. } => {
            page.rows.into_iter().map(|row| row.key).collect()
        }
        other => panic!("{other:?} is no page"),
    }
}

#[test]
fn cut_shard_goes_to_its_parts_each_key_to_one_and_what_it_remembers_to_all() {
    for kind in [Kind::Disk, Kind::Memory] {
        let folder = tempfile::tempdir().unwrap();
        let mut table = open(kind, &folder);
        table.load(A, 0).unwrap();
        fill(&mut table, A, 120);
        let id = RequestId {
            client: 7,
            sequence: 1,
            valid_until: Version::new(9_000_000, ReplicaId(1)),
            answered_below: 1,
        };
        let append = Op::Update {
            key: "key1".into(),
            function: Function::Append { side: kv::Side::Right, value: "!".into() },
        };
        let stamped = Stamped { id: Some(id), op: append.clone() };
        let entry = Entry { proposed: Version::new(121, ReplicaId(1)), ops: vec![stamped.clone()] };
        let first = table.apply(A, 121, 4, &entry).unwrap();
        cut(&mut table, 3, None);
        let all = keys(&table, A);
        let (mut found, mut held) = (Vec::new(), 0);
        for (part, generation, slots) in halves(3) {
            let (own, whole) = (table.load(part, generation).unwrap(), table.applied(A));
            let usage = Usage::default();
            let without =
                |applied: Applied| Applied { standing: Standing { usage, ..applied.standing }, ..applied };
            assert_eq!(without(own), without(whole), "all but what it holds");
            held += own.standing.usage.keys;
            assert_eq!(table.sessions(part), 1);
            let own = keys(&table, part);
            assert!(
                !own.is_empty() && own.iter().all(|key| (slots.first..=slots.last).contains(&Slot::of(key)))
            );
            found.extend(own);
            assert!(table.audit(part).is_ok());
        }
        found.sort();
        assert_eq!((found, held), (all.clone(), all.len() as u64));
        // What was run before it was cut is answered, and not run again, by the part that has its key.
        let owner =
            halves(3).into_iter().find(|(.., slots)| (slots.first..=slots.last).contains(&Slot::of(b"key1")));
        let again = Entry { proposed: Version::new(122, ReplicaId(1)), ops: vec![stamped] };
        assert_eq!(table.apply(owner.unwrap().0, 122, 4, &again).unwrap(), first);
    }
}

#[test]
fn cut_again_writes_what_differs_and_comes_to_the_same() {
    for kind in [Kind::Disk, Kind::Memory] {
        let folder = tempfile::tempdir().unwrap();
        let mut table = open(kind, &folder);
        table.load(A, 0).unwrap();
        fill(&mut table, A, 1500);
        cut(&mut table, 3, None);
        let copied = table.applied(A).index;
        // Some keys change, some go, some come, some expire.
        for (index, number) in (1501..).zip(0..20) {
            let op = match number % 3 {
                0 => put(&format!("key{number}"), "new", None),
                1 => Op::Delete { key: format!("key{number}").into(), previous: false },
                _ => put(&format!("more{number}"), "new", Some(2_000_000)),
            };
            apply(&mut table, A, index, vec![op]);
        }
        table.take_asked();
        // The parts of another core had theirs before any of it, and another one, which is of no use to these.
        let looked_at = cut(&mut table, 3, Some(copied)).expect("what was written meanwhile was noted");
        let Asked { read, written } = table.take_asked();
        assert!(looked_at < 200, "{looked_at} rows were looked at for what 20 entries have changed");
        assert!(read + written < 800, "{read} were read and {written} written for it");
        cut(&mut table, 4, None);
        assert_eq!(cut(&mut table, 5, None).or(cut(&mut table, 5, Some(copied))), None, "all rows are read");
        for (part, ..) in halves(3) {
            let digests = [3, 4, 5].map(|generation| {
                let held = table.load(part, generation).unwrap().standing.usage;
                assert!(table.audit(part).is_ok());
                (held, table.digest(part).unwrap())
            });
            assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
        }
    }
}
