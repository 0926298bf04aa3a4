//! Feeds, who waits at them, and one watch over several shards.

use kv::watch::{Batch, Change, Filter, Reach, Start, Watching, What};
use kv::{Error, Key, ShardId, Slot, SlotRange, Version};
use replication::Instant;

use super::{
    FEED_BYTES_MAX, FEED_MICROS_MAX, Feeds, Given, Held, Lately, Pull, Pulled, Source, Waits, Watched,
};
use crate::route::ShardMap;

const SHARD: ShardId = ShardId(7);

fn version(number: i64) -> Version {
    Version::from_i64(number).unwrap()
}

fn change(key: &'static str, number: i64) -> Change {
    Change { key: Key::from_static(key.as_bytes()), version: version(number), what: What::Deleted }
}

fn large(number: i64, bytes: usize) -> Change {
    let what = What::Put { value: vec![1; bytes].into(), deadline: None };
    Change { key: Key::from_static(b"large"), version: version(number), what }
}

fn all() -> Filter {
    Filter::Prefix(Key::new())
}

fn feeds() -> Feeds {
    let mut feeds = Feeds::new(1);
    feeds.begin(SHARD, Source::Here, version(10));
    feeds
}

fn versions(held: Held) -> (Vec<i64>, i64) {
    let Held::Given(Given { changes, through }) = held else { panic!("{held:?}") };
    (changes.iter().map(|change| change.version.as_i64()).collect(), through.as_i64())
}

#[test]
fn feed_gives_what_comes_after_a_version_and_then_waits() {
    let mut feeds = feeds();
    assert_eq!(feeds.read(SHARD, &all(), Some(version(10))), Held::Waits);
    feeds.push(SHARD, vec![change("a", 11), change("b", 11), change("a", 13)], version(14), Instant(1));
    assert_eq!(versions(feeds.read(SHARD, &all(), Some(version(10)))), (vec![11, 11, 13], 14));
    assert_eq!(versions(feeds.read(SHARD, &all(), Some(version(11)))), (vec![13], 14));
    assert_eq!(versions(feeds.read(SHARD, &Filter::Key("b".into()), Some(version(10)))), (vec![11], 14));
    assert_eq!(feeds.read(SHARD, &all(), Some(version(15))), Held::Behind);
    let nothing = [(all(), 14), (Filter::Key("b".into()), 11)];
    for (filter, after) in nothing {
        assert_eq!(feeds.read(SHARD, &filter, Some(version(after))), Held::Waits, "after {after}");
    }
    assert_eq!(
        versions(feeds.read(SHARD, &all(), None)),
        (vec![], 14),
        "who begins now is where the shard is"
    );
    assert_eq!(feeds.read(ShardId(8), &all(), None), Held::Nothing);
}

#[test]
fn feed_that_lacks_what_comes_next_says_where_to_begin() {
    let mut feeds = feeds();
    assert_eq!(feeds.read(SHARD, &all(), Some(version(9))), Held::Trimmed { oldest: version(11) });
    feeds.push(SHARD, vec![change("a", 11)], version(11), Instant(1));
    feeds.push(SHARD, vec![change("a", 12)], version(12), Instant(2));
    feeds.trim(Instant(1 + FEED_MICROS_MAX));
    assert_eq!(feeds.read(SHARD, &all(), Some(version(10))), Held::Trimmed { oldest: version(12) });
    assert_eq!(versions(feeds.read(SHARD, &all(), Some(version(11)))), (vec![12], 12));
    // A snapshot came in: what is between is not known.
    feeds.begin(SHARD, Source::Here, version(20));
    assert_eq!(feeds.read(SHARD, &all(), Some(version(12))), Held::Trimmed { oldest: version(21) });
}

#[test]
fn feeds_hold_no_more_than_their_limit_and_what_came_last() {
    let mut feeds = feeds();
    for number in 11..=14 {
        feeds.push(SHARD, vec![large(number, FEED_BYTES_MAX / 3)], version(number), Instant(number as u64));
        feeds.trim(Instant(20));
    }
    assert_eq!(feeds.read(SHARD, &all(), Some(version(11))), Held::Trimmed { oldest: version(13) });
    assert_eq!(versions(feeds.read(SHARD, &all(), Some(version(12)))), (vec![13], 13), "one answer");
    feeds.push(SHARD, vec![large(15, 2 * FEED_BYTES_MAX)], version(15), Instant(21));
    feeds.trim(Instant(21));
    assert_eq!(versions(feeds.read(SHARD, &all(), Some(version(14)))), (vec![15], 15));
}

#[test]
fn answer_ends_between_two_versions_however_much_there_is() {
    let mut feeds = feeds();
    let changes = vec![large(11, 40 << 10), large(12, 40 << 10), large(12, 40 << 10), large(13, 1)];
    feeds.push(SHARD, changes, version(13), Instant(1));
    assert_eq!(versions(feeds.read(SHARD, &all(), Some(version(10)))), (vec![11, 12, 12], 12));
    let many = (0..5000).map(|number| change("a", 20 + number)).collect();
    feeds.push(SHARD, many, version(9000), Instant(2));
    let (given, through) = versions(feeds.read(SHARD, &Filter::Key("b".into()), Some(version(13))));
    assert_eq!((given.len(), through), (0, 19 + 4096), "it was looked through so far");
}

#[test]
fn feed_of_a_replica_that_left_is_read_to_its_end() {
    let mut feeds = feeds();
    feeds.push(SHARD, vec![change("a", 11)], version(12), Instant(1));
    assert!(feeds.keeps_from(SHARD, version(11)) && feeds.keeps_from(SHARD, version(13)), "more comes");
    assert!(!feeds.keeps_from(SHARD, version(10)));
    feeds.leave(SHARD, Instant(5));
    assert!(feeds.keeps_from(SHARD, version(12)) && !feeds.keeps_from(SHARD, version(13)), "nothing comes");
    assert_eq!(versions(feeds.read(SHARD, &all(), Some(version(10)))), (vec![11], 12));
    assert_eq!(versions(feeds.read(SHARD, &Filter::Key("b".into()), Some(version(10)))), (vec![], 12));
    assert_eq!(feeds.read(SHARD, &all(), Some(version(12))), Held::Over);
    assert_eq!(feeds.read(SHARD, &all(), None), Held::Nothing, "nobody begins there");
    feeds.sweep(Instant(5 + FEED_MICROS_MAX));
    assert_eq!(feeds.read(SHARD, &all(), Some(version(10))), Held::Nothing);
    // One that is to be a replica serves nobody, and has what it followed when it is one.
    feeds.begin(SHARD, Source::Heir, version(20));
    feeds.push(SHARD, vec![change("a", 21)], version(21), Instant(9));
    assert_eq!(feeds.read(SHARD, &all(), Some(version(20))), Held::Nothing);
    assert!(!feeds.keeps_from(SHARD, version(21)));
    feeds.begin(SHARD, Source::Here, version(21));
    assert_eq!(versions(feeds.read(SHARD, &all(), Some(version(20)))), (vec![21], 21));
}

#[test]
fn waits_are_found_by_what_changed_each_filter_once() {
    let mut waits = Waits::default();
    let filters = [Filter::Key("ab".into()), Filter::Prefix("a".into()), Filter::Prefix("b".into()), all()];
    for (name, filter) in (1..).zip(filters.iter().cycle().take(8)) {
        waits.add(SHARD, filter, name);
    }
    let changes = [change("ab", 1), change("ac", 2)];
    let mut taken = waits.take(SHARD, changes.iter());
    taken.sort();
    let expected = [(filters[0].clone(), vec![1, 5]), (all(), vec![4, 8]), (filters[1].clone(), vec![2, 6])];
    assert_eq!(taken, expected);
    assert!(waits.take(SHARD, changes.iter()).is_empty());
    waits.remove(SHARD, &filters[2], 3);
    assert_eq!(waits.take_all(SHARD), [7]);
    assert!(!waits.has(SHARD));
}

/// A watch of all keys, on so many shards.
fn watched(shards: u32, from: Start) -> Watched {
    let watching = Watching { from, ..Watching::prefix(Key::new()) };
    Watched::begin(watching, &ShardMap::of(shards), 1 << 40).unwrap()
}

fn given(through: i64, changes: Vec<Change>) -> Pulled {
    Pulled::Given(Given { changes: changes.into(), through: version(through) })
}

fn take(watched: &mut Watched) -> (i64, Option<i64>, usize) {
    let Batch { reach, progress, changes, .. } = watched.take().expect("there is one").unwrap();
    (reach.through.as_i64(), progress.map(Version::as_i64), changes.len())
}

/// A key of this half of the slots.
fn key_in(half: u16) -> &'static str {
    ["a", "b", "c", "d", "e"].into_iter().find(|key| Slot::of(key.as_bytes()).0 / 8192 == half).unwrap()
}

#[test]
fn watch_begins_now_where_each_shard_is_and_progress_waits_for_the_last() {
    let map = ShardMap::of(2);
    let mut watched = watched(2, Start::Now);
    let [(one, pull), (other, _)] = &watched.pulls()[..] else { panic!("two shards") };
    assert_eq!((pull.after, pull.wait_micros), (None, 0));
    assert!(watched.pulls().is_empty(), "both are asked");
    watched.answered(*one, given(50, vec![]), &map);
    assert_eq!(take(&mut watched), (50, None, 0));
    watched.answered(*other, given(40, vec![]), &map);
    assert_eq!(take(&mut watched), (40, Some(40), 0));
    let [(one, pull), (other, _)] = &watched.pulls()[..] else { panic!("two shards") };
    assert_eq!((pull.after, pull.wait_micros > 0), (Some(version(50)), true));
    watched.answered(*one, given(60, vec![change(key_in(0), 60)]), &map);
    assert_eq!(take(&mut watched), (60, Some(40), 1));
    watched.answered(*other, given(40, vec![]), &map);
    assert!(watched.take().is_none(), "nothing is new");
    watched.answered(*one, given(70, vec![]), &map);
    assert!(watched.take().is_none(), "it was answered already");
}

#[test]
fn watch_of_a_shard_that_is_split_goes_on_with_its_children() {
    let mut watched = watched(1, Start::Version(version(31)));
    let [(name, pull)] = &watched.pulls()[..] else { panic!("one shard") };
    assert_eq!(pull.after, Some(version(30)));
    watched.answered(*name, Pulled::Gone, &ShardMap::of(2));
    let pulls = watched.pulls();
    let asked = |(_, pull): &(u64, Pull)| (pull.shard, pull.after);
    assert_eq!(
        pulls.iter().map(asked).collect::<Vec<_>>(),
        [1, 2].map(|shard| (ShardId(shard), Some(version(30))))
    );
    // What a shard has beside the slots of its part is not given.
    let both = vec![change(key_in(0), 32), change(key_in(1), 33)];
    watched.answered(pulls[0].0, given(35, both), &ShardMap::of(2));
    assert_eq!(take(&mut watched), (35, Some(30), 1));
}

#[test]
fn watch_goes_on_from_what_each_slot_had_reached() {
    let reach = |first, last, through| Reach {
        slots: SlotRange { first: Slot(first), last: Slot(last) },
        through: version(through),
    };
    let mut watched = watched(2, Start::Reached(vec![reach(0, 99, 5), reach(100, 10_000, 9)]));
    let asked: Vec<_> = watched.pulls().into_iter().map(|(_, pull)| (pull.shard.0, pull.after)).collect();
    let [five, nine] = [5, 9].map(|number| Some(version(number)));
    assert_eq!(asked, [(1, five), (1, nine), (2, nine), (2, None)]);
}

#[test]
fn watch_ends_when_what_comes_next_is_surely_gone_or_nobody_is_there() {
    let map = ShardMap::of(1);
    let trimmed = |is_sure| Pulled::Trimmed { oldest: version(90), is_sure };
    let mut watched = watched(1, Start::Version(version(31)));
    let name = watched.pulls()[0].0;
    watched.answered(name, given(30, vec![]), &map);
    assert_eq!(take(&mut watched), (30, Some(30), 0));
    for _ in 0..3 {
        let name = watched.pulls()[0].0;
        watched.answered(name, trimmed(false), &map);
        assert!(watched.take().is_none(), "who is away may have it");
    }
    let failed = || Pulled::Failed(Error::Unavailable("nobody is there".into()));
    for _ in 0..3 {
        let name = watched.pulls()[0].0;
        watched.answered(name, failed(), &map);
        assert!(watched.take().is_none());
    }
    let name = watched.pulls()[0].0;
    watched.answered(name, trimmed(true), &map);
    let error = Error::Trimmed { asked: version(31), oldest: version(90) };
    assert_eq!(watched.take(), Some(Err(error)));
    assert!(watched.pulls().is_empty());
}

#[test]
fn watch_from_the_future_is_refused() {
    let from = Start::Version(Version::end_of((1 << 40) + 2_000_000));
    let watching = Watching { from, ..Watching::prefix(Key::new()) };
    let refused = Watched::begin(watching, &ShardMap::of(1), 1 << 40).err();
    assert!(matches!(refused, Some(Error::Future { .. })), "{refused:?}");
}

/// A feed of a later start whose table is at a version, with what an earlier one left behind.
fn resumed(before: &Feeds, table: i64) -> Feeds {
    let mut feeds = Feeds::new(1);
    feeds.begin(SHARD, Source::Here, version(table));
    let mut left: Option<Lately> = None;
    for (shard, piece) in before.lately() {
        let mut bytes = bytes::BytesMut::new();
        piece.encode(&mut bytes);
        let read = Lately::decode(&mut kv::codec::Reader::new(bytes.freeze()));
        assert_eq!((shard, read.as_ref()), (SHARD, Ok(&piece)));
        left.get_or_insert_default().extend(piece);
    }
    feeds.resume(SHARD, left.unwrap(), Instant(9));
    feeds
}

#[test]
fn feed_of_the_next_start_goes_on_from_where_its_table_is() {
    let mut before = feeds();
    for number in 11..40 {
        before.push(SHARD, vec![large(number, 9_000), change("a", number)], version(number), Instant(1));
    }
    before.push(SHARD, Vec::new(), version(45), Instant(2));
    assert!(before.lately().len() > 3, "it is in pieces");
    let mut feeds = resumed(&before, 37);
    let key = Filter::Key("a".into());
    assert_eq!(versions(feeds.read(SHARD, &key, Some(version(10)))), ((11..38).collect(), 37));
    feeds.push(SHARD, vec![large(38, 10), change("a", 38)], version(38), Instant(9));
    assert_eq!(versions(feeds.read(SHARD, &key, Some(version(36)))), (vec![37, 38], 38));
    assert_eq!(feeds.read(SHARD, &key, Some(version(9))), Held::Trimmed { oldest: version(11) });
    let feeds = resumed(&before, 45);
    assert_eq!(versions(feeds.read(SHARD, &key, Some(version(38)))), (vec![39], 45));
}

#[test]
fn feed_of_a_start_whose_table_is_elsewhere_is_empty() {
    let mut before = feeds();
    before.push(SHARD, vec![change("a", 12)], version(13), Instant(1));
    for table in [9, 14] {
        let feeds = resumed(&before, table);
        let trimmed = Held::Trimmed { oldest: version(table + 1) };
        assert_eq!(feeds.read(SHARD, &all(), Some(version(table - 1))), trimmed);
    }
}

#[test]
fn stop_leaves_the_newest_changes_of_all_shards_and_no_part_of_an_entry() {
    let mut feeds = feeds();
    feeds.begin(ShardId(8), Source::Here, version(10));
    let bytes = FEED_BYTES_MAX / 16;
    for number in 11..21 {
        feeds.push(SHARD, vec![large(number, bytes), large(number, 9)], version(number), Instant(1));
        feeds.push(ShardId(8), vec![change("b", number)], version(number), Instant(1));
    }
    let of = |shard| {
        let pieces = feeds.lately().into_iter().filter(move |(of, _)| *of == shard);
        let mut all = Lately::default();
        pieces.for_each(|(_, piece)| all.extend(piece));
        (all.floor.as_i64(), all.changes.len(), all.through.as_i64())
    };
    assert_eq!((of(SHARD), of(ShardId(8))), ((17, 6, 20), (16, 4, 20)));
}
