//! The merged layout: whatever order rows come in, and however often, the copy is the same; and what is kept is what its definition says.

// What cannot go on fails the test.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use kv::merged::{self, Found, Look, Rank, Row};
use kv::{Answer, Entry, Key, Op, Range, ReplicaId, Revision, ShardId, Stamped, Version};
use storage::{Clock, History, Kind, Layout, Options, Read, Table};

const SHARD: ShardId = ShardId(1);
const HISTORIES: [History; 5] =
    [History::Count(1), History::Count(2), History::Count(4), History::All, History::Micros(3_000_000)];
/// Between two versions. The expiry index is looked at by the second.
const STEP_MICROS: u64 = 400_000;
const KEYS: u64 = 4;
const ROWS: u64 = 40;
/// Behind all versions and deadlines.
const END_MICROS: u64 = 1_000 * STEP_MICROS;

/// A random sequence from a seed: SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut hash = self.0;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (hash ^ (hash >> 31)) % end
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index as u64 + 1) as usize);
        }
    }
}

struct Copy {
    table: Table,
    index: u64,
    _folder: tempfile::TempDir,
}

impl Copy {
    fn new(kind: Kind, history: History) -> Copy {
        let folder = tempfile::tempdir().unwrap();
        let engine = storage::open(kind, folder.path()).unwrap();
        let mut table = Table::open(engine, Options::of(history));
        table.load_as(SHARD, 1, Layout::Merged).unwrap();
        Copy { table, index: 0, _folder: folder }
    }

    fn apply(&mut self, op: Op) {
        self.index += 1;
        let entry = Entry { proposed: Version::ZERO, ops: vec![Stamped { id: None, op }] };
        let done = self.table.apply(SHARD, self.index, 1, &entry).unwrap();
        assert!(done[0].result.is_ok(), "{done:?}");
        if self.index.is_multiple_of(8) {
            self.table.audit(SHARD).unwrap();
        }
    }

    /// Rows in entries of a few.
    fn merge(&mut self, mut rows: &[Row], random: &mut Random) {
        while !rows.is_empty() {
            let (some, rest) = rows.split_at((1 + random.below(4) as usize).min(rows.len()));
            self.apply(Op::Merge { rows: some.to_vec() });
            rows = rest;
        }
    }

    /// Lets expire what has, and brings the log to an end of its own.
    fn end(&mut self, index: u64) {
        self.apply(Op::Advance { to: Version::new(END_MICROS, ReplicaId(1)), rules: None });
        while self.index < index {
            self.index += 1;
            self.table.apply_empty(SHARD, self.index, 1).unwrap();
        }
        assert_eq!(self.table.due(SHARD), None, "all has expired");
    }

    fn rows(&self, look: Look) -> Vec<Row> {
        match self.table.look(SHARD, &look).unwrap() {
            Found::Rows { rows, next: None } => rows,
            other => panic!("{other:?}"),
        }
    }

    fn all(&self) -> Vec<Row> {
        let range = Range::default();
        self.rows(Look::Range {
            from: range.from,
            to: None,
            direction: range.direction,
            limit: 0,
            after: None,
        })
    }

    fn sums(&self, width: u16) -> Vec<u64> {
        match self.table.look(SHARD, &Look::Digests { first: 0, count: merged::BUCKETS, width }).unwrap() {
            Found::Digests(sums) => sums,
            other => panic!("{other:?}"),
        }
    }

    fn read(&self, op: &Op) -> Answer {
        match self.table.read(SHARD, op, Clock::Shard).unwrap() {
            Read::Done { result: Ok(answer), .. } => answer,
            other => panic!("{other:?}"),
        }
    }
}

fn key(number: u64) -> Key {
    format!("key-{number}").into()
}

/// Rows of some keys, as several makers could have made them that see some of each other's.
fn rows(random: &mut Random) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for number in 1..=ROWS {
        let version = Version::new(number * STEP_MICROS, ReplicaId(1 + random.below(3) as u16));
        let key = key(random.below(KEYS));
        let known: Vec<&Row> = rows.iter().filter(|row| row.key == key && !row.expired).collect();
        // Its maker may have missed the last ones.
        let seen = known.len().saturating_sub(random.below(3) as usize);
        let replaced = seen.checked_sub(1).map(|last| known[last].version);
        let mut row = Row::tombstone(key, version, replaced);
        if random.below(4) > 0 {
            let deadline = (random.below(3) == 0).then(|| (number + random.below(12)) * STEP_MICROS + 1);
            let value = Some(format!("value-{number}").into());
            row = Row { value, created: version, changes: 1, deadline, ..row };
        }
        let expiry = row.expire().filter(|_| random.below(2) == 0);
        rows.push(row);
        rows.extend(expiry);
    }
    rows
}

/// The same, with trims of some keys: each makes a row again, which may be the newest of its key to who trims, or not.
fn trimmed(rows: &[Row], random: &mut Random) -> Vec<Row> {
    let trims = rows.iter().filter(|_| random.below(6) == 0).map(Row::trim);
    trims.chain(rows.iter().cloned()).collect()
}

/// In another order, and some twice.
fn scrambled(rows: &[Row], random: &mut Random) -> Vec<Row> {
    let mut all = rows.to_vec();
    for _ in 0..rows.len() / 3 {
        all.push(rows[random.below(rows.len() as u64) as usize].clone());
    }
    random.shuffle(&mut all);
    all
}

#[test]
fn rows_in_any_order_and_number_make_the_same_copy() {
    for seed in 0..24 {
        let mut random = Random(seed);
        let rows = rows(&mut random);
        let rows = if seed % 2 == 0 { rows } else { trimmed(&rows, &mut random) };
        for history in HISTORIES {
            let mut first: Option<Copy> = None;
            for _ in 0..3 {
                let mut copy = Copy::new(Kind::Memory, history);
                copy.merge(&scrambled(&rows, &mut random), &mut random);
                copy.end(4 * ROWS);
                copy.table.audit(SHARD).unwrap();
                if let Some(first) = &first {
                    let why = format!("seed {seed}, {history:?}");
                    assert_eq!(copy.all(), first.all(), "{why}: the newest rows");
                    assert_eq!(copy.sums(1), first.sums(1), "{why}: the digests");
                    let digests = (copy.table.digest(SHARD).unwrap(), first.table.digest(SHARD).unwrap());
                    assert_eq!(digests.0, digests.1, "{why}: all rows");
                }
                first.get_or_insert(copy);
            }
        }
    }
}

/// Of each key, what a history keeps of these rows once all has expired: the newest row first.
fn kept(rows: &[Row], history: History) -> BTreeMap<Key, Vec<Row>> {
    let mut by_key: BTreeMap<Key, BTreeMap<Rank, Row>> = BTreeMap::new();
    let mut floors: BTreeMap<Key, Version> = BTreeMap::new();
    for row in rows {
        let floor = floors.entry(row.key.clone()).or_default();
        *floor = row.floor.max(*floor);
        let row = Row { floor: Version::ZERO, ..row.clone() };
        by_key.entry(row.key.clone()).or_default().insert(row.rank(), row);
    }
    for rows in by_key.values_mut() {
        let newest = rows.values().next_back().unwrap();
        if let Some(expiry) = newest.expire() {
            rows.insert(expiry.rank(), expiry);
        }
    }
    let keep = |rows: BTreeMap<Rank, Row>| {
        let mut rows = rows.into_values().rev();
        let newest = rows.next().unwrap();
        let newest = Row { floor: floors[&newest.key], ..newest };
        let older: Vec<Row> = rows.filter(|row| !row.expired && row.version >= newest.floor).collect();
        let begin = match history {
            History::Micros(micros) => newest.version.micros().saturating_sub(micros),
            _ => 0,
        };
        let count = match history {
            History::Count(count) => count as usize - 1,
            _ => older.len(),
        };
        let mut kept = vec![newest];
        for row in older.into_iter().take(count) {
            if kept.last().unwrap().version.micros() < begin {
                break;
            }
            kept.push(row);
        }
        kept
    };
    by_key.into_iter().map(|(key, rows)| (key, keep(rows))).collect()
}

/// What the history of a key shows of the rows that are kept of it.
fn shown(kept: &[Row]) -> Vec<Revision> {
    let since = |row: &Row| match row.deadline {
        Some(deadline) if row.expired => Version::new(deadline, ReplicaId(0)),
        _ => row.version,
    };
    let mut shown: Vec<Revision> = Vec::new();
    for row in kept {
        let expiry = row.deadline.map(|deadline| Version::new(deadline, ReplicaId(0)));
        let newer = shown.last().map(|newer| newer.version);
        if let Some(version) =
            expiry.filter(|expiry| !row.expired && newer.is_some_and(|newer| *expiry < newer))
        {
            shown.push(Revision { version, value: None });
        }
        shown.push(Revision { version: since(row), value: row.value.clone() });
    }
    shown
}

#[test]
fn what_is_kept_is_what_the_history_says() {
    for seed in 100..140 {
        let mut random = Random(seed);
        let rows = rows(&mut random);
        let rows = if seed % 2 == 0 { rows } else { trimmed(&rows, &mut random) };
        for history in HISTORIES {
            let mut copy = Copy::new(Kind::Memory, history);
            copy.merge(&scrambled(&rows, &mut random), &mut random);
            copy.end(4 * ROWS);
            let kept = kept(&rows, history);
            let newest: Vec<Row> = kept.values().map(|rows| rows[0].clone()).collect();
            assert_eq!(copy.all(), newest, "seed {seed}, {history:?}");
            for (key, rows) in &kept {
                let names = rows.iter().map(|row| (key.clone(), row.rank())).collect();
                assert_eq!(copy.rows(Look::Rows(names)), *rows, "seed {seed}, {history:?}: as they came");
                if history == History::Count(1) {
                    continue;
                }
                let answer = copy.read(&Op::History { key: key.clone(), limit: 0, before: None });
                let expected = Answer::History { revisions: shown(rows), next: None };
                assert_eq!(answer, expected, "seed {seed}, {history:?}");
            }
        }
    }
}

#[test]
fn reads_at_a_version_are_right_or_refused() {
    for seed in 200..230 {
        let mut random = Random(seed);
        let rows = rows(&mut random);
        let everything = kept(&rows, History::All);
        let rows = if seed % 2 == 0 { rows } else { trimmed(&rows, &mut random) };
        let is_trimmed = rows.iter().any(|row| row.floor > Version::ZERO);
        for history in HISTORIES {
            let mut copy = Copy::new(Kind::Memory, history);
            copy.merge(&scrambled(&rows, &mut random), &mut random);
            copy.end(4 * ROWS);
            let mut answered = 0;
            for (number, half) in (0..=ROWS + 12).flat_map(|number| [(number, 0), (number, STEP_MICROS / 2)])
            {
                let at = Version::end_of(number * STEP_MICROS + half);
                for (key, rows) in &everything {
                    let op = Op::Get { key: key.clone(), at: Some(at) };
                    let Read::Done { result, .. } = copy.table.read(SHARD, &op, Clock::Shard).unwrap() else {
                        panic!()
                    };
                    let then = rows.iter().find(|row| !row.expired && row.version <= at);
                    let value = then.filter(|row| row.is_live_at(at)).and_then(|row| row.value.clone());
                    match result {
                        Ok(Answer::Row(found)) => {
                            answered += 1;
                            assert_eq!(
                                found.map(|row| row.value),
                                value,
                                "seed {seed}, {history:?}: {} at {}",
                                key.escape_ascii(),
                                at.micros() / STEP_MICROS
                            );
                        }
                        Err(kv::Error::Trimmed { .. }) => {
                            assert!(is_trimmed || history != History::All, "nothing is trimmed")
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert!(answered > 0);
        }
    }
}

#[test]
fn digests_lead_to_the_rows_that_two_copies_differ_in() {
    let mut random = Random(7);
    let rows: Vec<Row> = rows(&mut random);
    let mut one = Copy::new(Kind::Memory, History::Count(1));
    let mut other = Copy::new(Kind::Memory, History::Count(1));
    one.merge(&rows, &mut random);
    other.merge(&rows[..rows.len() / 2], &mut random);
    one.end(4 * ROWS);
    other.end(4 * ROWS);
    assert_ne!(one.sums(merged::BUCKETS), other.sums(merged::BUCKETS));
    let (ours, theirs) = (one.sums(1), other.sums(1));
    let buckets: Vec<u16> =
        (0..merged::BUCKETS).filter(|at| ours[usize::from(*at)] != theirs[usize::from(*at)]).collect();
    assert!(!buckets.is_empty() && buckets.len() <= KEYS as usize);
    let Found::Names { names, next: None } =
        one.table.look(SHARD, &Look::Buckets { buckets, after: None }).unwrap()
    else {
        panic!()
    };
    let missing = one.rows(Look::Rows(names));
    other.apply(Op::Merge { rows: missing });
    assert_eq!(one.sums(1), other.sums(1));
    assert_eq!(one.all(), other.all());
}

#[test]
fn pages_of_looks_lead_to_all_keys() {
    let mut copy = Copy::new(Kind::Disk, History::Count(1));
    let key = |number: u64| Key::from(format!("{number:08}"));
    let row = |number| Row::tombstone(key(number), Version::new(number + 1, ReplicaId(1)), None);
    const COUNT: u64 = 9_000;
    for begin in (0..COUNT).step_by(3_000) {
        copy.index += 1;
        let op = Op::Merge { rows: (begin..begin + 3_000).map(row).collect() };
        let entry = Entry { proposed: Version::ZERO, ops: vec![Stamped { id: None, op }] };
        copy.table.apply(SHARD, copy.index, 1, &entry).unwrap();
    }
    let every = (0..merged::BUCKETS).collect::<Vec<_>>();
    for of in [
        |_: &[u16], after| Look::Tombstones { after },
        |buckets: &[u16], after| Look::Buckets { buckets: buckets.to_vec(), after },
    ] {
        let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let Found::Names { names, next } = copy.table.look(SHARD, &of(&every, after)).unwrap() else {
                panic!()
            };
            found.extend(names.into_iter().map(|(key, _)| key));
            pages += 1;
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert!(pages > 1, "a page ends before it takes long");
        assert_eq!(found, (0..COUNT).map(key).collect::<Vec<_>>());
    }
}

#[test]
fn collect_of_much_history_goes_step_by_step() {
    let folder = tempfile::tempdir().unwrap();
    let engine = storage::open(Kind::Memory, folder.path()).unwrap();
    let options = Options { step_max: 10, ..Options::of(History::All) };
    let mut table = Table::open(engine, options);
    table.load_as(SHARD, 1, Layout::Merged).unwrap();
    let mut copy = Copy { table, index: 0, _folder: folder };
    let at = |micros| Version::new(micros, ReplicaId(1));
    let deleted = |key, micros| Row::tombstone(key, at(micros), None);
    copy.apply(Op::Merge { rows: (1..=26).map(|micros| deleted(key(1), micros)).collect() });
    copy.apply(Op::Merge { rows: vec![deleted(key(2), 30), deleted(key(2), 31), deleted(key(3), 40)] });
    let newest = [(key(1), 26), (key(2), 31), (key(3), 40)];
    let names: Vec<_> = newest.map(|(key, micros)| (key, Rank::of(at(micros), false))).to_vec();
    // The first has 25 before it; in the third step there is room for the second one's too.
    for left in [3, 3, 0] {
        copy.apply(Op::Collect { tombstones: names.clone() });
        copy.table.audit(SHARD).unwrap();
        assert_eq!(copy.all().len(), left);
    }
    assert_eq!(copy.table.floor(SHARD), at(40));
}

#[test]
fn trim_of_much_history_goes_step_by_step_and_is_seen_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let engine = storage::open(Kind::Memory, folder.path()).unwrap();
    let options = Options { step_max: 10, ..Options::of(History::All) };
    let mut table = Table::open(engine, options);
    table.load_as(SHARD, 1, Layout::Merged).unwrap();
    let mut copy = Copy { table, index: 0, _folder: folder };
    let at = |micros| Version::new(micros, ReplicaId(1));
    let row = |micros| Row {
        value: Some(format!("value-{micros}").into()),
        created: at(1),
        changes: micros,
        ..Row::tombstone(key(1), at(micros), None)
    };
    copy.apply(Op::Merge { rows: (1..=26).map(row).collect() });
    copy.apply(Op::Merge { rows: vec![row(26).trim()] });
    let names = (1..=26).map(|micros| (key(1), row(micros).rank())).collect();
    assert_eq!(copy.rows(Look::Rows(names)), [row(26).trim()], "what is left is not seen");
    let history = Op::History { key: key(1), limit: 0, before: None };
    let of = |micros| Revision { version: at(micros), value: row(micros).value };
    assert_eq!(copy.read(&history), Answer::History { revisions: vec![of(26)], next: None });
    let get = Op::Get { key: key(1), at: Some(at(25)) };
    let Read::Done { result, .. } = copy.table.read(SHARD, &get, Clock::Shard).unwrap() else { panic!() };
    assert_eq!(result, Err(kv::Error::Trimmed { asked: at(25), oldest: at(26) }));
    for micros in [27, 28] {
        copy.apply(Op::Merge { rows: vec![Row { floor: at(26), ..row(micros) }] });
        copy.table.audit(SHARD).unwrap();
    }
    let mut other = Copy::new(Kind::Memory, History::All);
    let rows = vec![row(26).trim(), row(27), row(28)];
    rows.into_iter().for_each(|row| other.apply(Op::Merge { rows: vec![row] }));
    other.table.apply_empty(SHARD, 4, 1).unwrap();
    assert_eq!(
        copy.table.digest(SHARD).unwrap(),
        other.table.digest(SHARD).unwrap(),
        "in the end it is gone"
    );
}

#[test]
fn history_of_a_merged_copy_is_what_its_rules_say_and_else_that_of_all_such_copies() {
    let folder = tempfile::tempdir().unwrap();
    let engine = storage::open(Kind::Memory, folder.path()).unwrap();
    let options = Options { merged_history: Some(History::Count(1)), ..Options::of(History::All) };
    let mut table = Table::open(engine, options);
    table.load_as(SHARD, 1, Layout::Merged).unwrap();
    let mut copy = Copy { table, index: 0, _folder: folder };
    let row = |micros| Row::tombstone(key(1), Version::new(micros, ReplicaId(1)), None);
    let write = |copy: &mut Copy, micros: std::ops::Range<u64>| {
        copy.apply(Op::Merge { rows: micros.map(row).collect() });
        copy.table.audit(SHARD).unwrap();
        copy.rows(Look::Rows((0..100).map(|micros| (key(1), row(micros).rank())).collect())).len()
    };
    assert_eq!(write(&mut copy, 1..5), 1);
    let mut rules = copy.table.applied(SHARD).standing.rules;
    rules.keep.history = Some(kv::keyspace::History::Count(3));
    copy.apply(Op::Advance { to: Version::ZERO, rules: Some(rules) });
    assert_eq!(write(&mut copy, 10..15), 3);
    rules.keep.history = None;
    copy.apply(Op::Advance { to: Version::ZERO, rules: Some(rules) });
    assert_eq!(write(&mut copy, 20..21), 1);
}
