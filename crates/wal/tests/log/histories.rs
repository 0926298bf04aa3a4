//! Segments and blocks of another history are refused: they are sound in themselves, and of this log by their name, and do
//! not go on where the ones before them end.
//!
//! Two lives of one log have a beginning in common, as after a folder was copied, or put back from an older copy. From there
//! on each has batches of its own, of the same lengths, so that everything of one has its place in the other.

use wal::{Config, Crash, MemoryDisk, OpenError, Record};

use crate::harness::{BLOCK, Random, config, open, open_as, places, record, reopen, write};

/// Batches of each life: over four segments.
const BATCHES: u32 = 14;
/// Segments that a life may have, the spare included.
const SEGMENTS: u64 = 6;

/// One life of the log.
struct Life {
    disk: MemoryDisk,
    /// What it appended, a batch each.
    batches: Vec<Vec<Record>>,
}

impl Life {
    fn records(&self) -> Vec<Record> {
        self.batches.iter().flatten().cloned().collect()
    }
}

/// A batch of one to three blocks; lives differ in what it says, not in how long it is.
fn batch(life: &str, number: u32) -> Vec<Record> {
    let length = 100 + 2900 * (number as usize % 4);
    vec![record(number, format!("{life}{number}")), record(number, vec![life.as_bytes()[0]; length])]
}

/// Two lives of a log that have the first `common` batches in common.
fn lives(common: u32) -> [Life; 2] {
    let mut disk = MemoryDisk::new();
    let mut log = reopen(&mut disk).log;
    for number in 0..common {
        write(&mut log, &mut disk, batch("=", number));
    }
    disk.crash(Crash::Power, &mut || false);
    ["a", "b"].map(|life| {
        let mut disk = disk.clone();
        let mut log = reopen(&mut disk).log;
        for number in common..BATCHES {
            write(&mut log, &mut disk, batch(life, number));
        }
        disk.crash(Crash::Power, &mut || false);
        let name = |number| if number < common { "=" } else { life };
        Life { disk, batches: (0..BATCHES).map(|number| batch(name(number), number)).collect() }
    })
}

/// All ways to take each segment of one life, of the other, or of none.
fn mixtures() -> impl Iterator<Item = Vec<Option<usize>>> {
    let count = 3usize.pow(SEGMENTS as u32);
    (0..count).map(|number| {
        let pick = |place| [None, Some(0), Some(1)][number / 3usize.pow(place) % 3];
        (0..SEGMENTS as u32).map(pick).collect()
    })
}

fn mix(lives: &[Life; 2], picks: &[Option<usize>]) -> MemoryDisk {
    let mut disk = MemoryDisk::new();
    for (segment, life) in (1..).zip(picks) {
        if let Some(bytes) = life.and_then(|life| lives[life].disk.bytes(segment)) {
            disk.put(segment, bytes);
        }
    }
    disk
}

/// Whether records stand one after the other in a life.
fn is_run_of(records: &[Record], life: &Life) -> bool {
    let all = life.records();
    records.is_empty() || all.windows(records.len()).any(|run| run == records)
}

#[test]
fn segments_of_two_lives_are_never_served_together() {
    for common in [0, 1, 4, 5, 9, BATCHES - 1] {
        let lives = lives(common);
        let (mut opened_whole, mut refused) = (0, 0);
        for picks in mixtures() {
            let mut disk = mix(&lives, &picks);
            let what = format!("{common} batches in common, segments of {picks:?}");
            let there = places(&disk).len() as u64;
            match open(&mut disk) {
                Ok(opened) => {
                    let records = opened.records();
                    assert!(
                        lives.iter().any(|life| is_run_of(&records, life)),
                        "{what}: a mixture is served"
                    );
                    assert_eq!(opened.recovered.batches, there, "{what}: some of what is there is left out");
                    opened_whole += u32::from(records == lives[0].records());
                }
                Err(OpenError::Corrupt { .. }) => refused += 1,
                Err(error) => panic!("{what}: {error}"),
            }
        }
        assert!(opened_whole > 0, "each life by itself is sound");
        assert!(refused > 100, "{refused} mixtures are refused");
    }
}

#[test]
fn blocks_of_another_life_are_never_served_among_others() {
    let all: Vec<[Life; 2]> = (0..BATCHES).map(lives).collect();
    for seed in 0..1500 {
        let mut random = Random(seed);
        let lives = &all[random.below(u64::from(BATCHES)) as usize];
        let mut disk = lives[0].disk.clone();
        for _ in 0..=random.below(2) {
            let segment = 1 + random.below(SEGMENTS);
            let (Some(own), Some(other)) = (disk.bytes(segment), lives[1].disk.bytes(segment)) else {
                continue;
            };
            let mut bytes = own.to_vec();
            let blocks = bytes.len().min(other.len()) / BLOCK as usize;
            let start = random.below(blocks as u64) as usize;
            let end = (start + 1 + random.below(4) as usize).min(blocks);
            let range = start * BLOCK as usize..end * BLOCK as usize;
            bytes[range.clone()].copy_from_slice(&other[range]);
            disk.put(segment, &bytes);
        }
        match open(&mut disk) {
            Ok(opened) => {
                let records = opened.records();
                let is_of = |life: &Life| life.records().starts_with(&records);
                assert!(lives.iter().any(is_of), "seed {seed}: a mixture is served");
            }
            Err(error) => assert!(matches!(error, OpenError::Corrupt { .. }), "seed {seed}: {error}"),
        }
    }
}

#[test]
fn segment_of_another_life_names_where_the_chain_breaks() {
    let lives = lives(0);
    let picks = [Some(0), Some(1), Some(0), Some(0), Some(0), Some(0)];
    let Err(error) = open(&mut mix(&lives, &picks)) else { panic!("was opened") };
    let message = error.to_string();
    assert!(message.starts_with("log file 0000000000000001.log is damaged at offset "), "{message}");
    assert!(message.contains("but 0000000000000002.log goes on with batch"), "{message}");
}

#[test]
fn segment_of_a_life_before_it_was_set_aside_is_refused() {
    let [before, now] = lives(0);
    let mut disk = now.disk.clone();
    let newest = places(&disk).last().unwrap().0;
    disk.put(newest, before.disk.bytes(newest).unwrap());
    assert!(matches!(open(&mut disk), Err(OpenError::Corrupt { .. })));
}

#[test]
fn segment_of_another_log_among_others_is_refused_wherever_it_lies() {
    let [own, other] = lives(0);
    let mut foreign = MemoryDisk::new();
    let config = Config { log_id: 7, ..config() };
    let mut log = open_as(&mut foreign, config).unwrap().log;
    other.batches.iter().for_each(|batch| write(&mut log, &mut foreign, batch.clone()));
    for segment in 1..=places(&foreign).last().unwrap().0 {
        let mut disk = own.disk.clone();
        disk.put(segment, foreign.bytes(segment).unwrap());
        let Err(error) = open(&mut disk) else { panic!("segment {segment} was opened") };
        let file = wal::segment_file_name(segment);
        assert_eq!(error, OpenError::Foreign { file, found: 7, expected: 0xCA95 });
    }
}

#[test]
fn newest_segment_put_back_from_an_older_copy_opens_with_what_it_had_then() {
    // Nothing on this disk says that there was more: the peers must notice.
    let [life, _] = lives(0);
    let mut older = MemoryDisk::new();
    let mut log = reopen(&mut older).log;
    let newest = places(&life.disk).last().unwrap().0;
    let mut batches = life.batches.iter();
    while log.head().segment < newest {
        write(&mut log, &mut older, batches.next().expect("the last segment has batches").clone());
    }
    let written = BATCHES as usize - batches.len();
    assert!(written < BATCHES as usize, "the older copy lacks some");
    let mut disk = life.disk.clone();
    disk.put(newest, older.bytes(newest).unwrap());
    assert_eq!(reopen(&mut disk).records(), life.batches[..written].concat());
}
