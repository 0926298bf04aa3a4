//! The owner of the log over a disk in memory that is full, slow or broken.

use bytes::Bytes;
use wal::{Config, MemoryDisk};

use super::*;

const SEGMENT: u64 = 16 << 10;
const SETTINGS: Settings = Settings { checkpoint_bytes: 8 * SEGMENT, checkpoint_early_bytes: 3 * SEGMENT };

const NOTHING: Report = Report { begun: false, durable: Vec::new(), full: None, checkpoint: false };
const CHECKPOINT: Report = Report { begun: false, durable: Vec::new(), full: None, checkpoint: true };
const FULL: Report = Report { begun: false, durable: Vec::new(), full: Some(true), checkpoint: false };
const ROOM: Report = Report { begun: false, durable: Vec::new(), full: Some(false), checkpoint: false };

fn durable(ticket: u64) -> Report {
    Report { durable: vec![(0, ticket)], ..NOTHING }
}

fn at(millis: u64) -> Instant {
    Instant(millis * 1000)
}

/// An owner, its disk, and a clock in milliseconds.
struct Bench {
    owner: Owner,
    disk: MemoryDisk,
    millis: u64,
    appended: u64,
}

impl Bench {
    /// Over a disk whose work is done at once, or when it is told so.
    fn new(disk: MemoryDisk) -> Bench {
        Bench::of_cores(1, disk)
    }

    /// For so many cores.
    fn of_cores(cores: usize, mut disk: MemoryDisk) -> Bench {
        let config = Config { log_id: 7, segment_bytes: SEGMENT, batch_bytes_max: SEGMENT };
        let (log, _) = Log::open(&mut disk, config, &mut |_, _| {}).unwrap();
        Bench { owner: Owner::new(log, SETTINGS, cores, at(0)), disk, millis: 0, appended: 0 }
    }

    /// With a log that has begun, on a disk whose work is done at once.
    fn begun() -> Bench {
        let mut bench = Bench::new(MemoryDisk::at_once());
        assert!(bench.append().begun);
        bench
    }

    fn turn(&mut self) -> Report {
        self.owner.turn(&mut self.disk, at(self.millis)).unwrap()
    }

    fn ask(&mut self, request: Request) -> Report {
        self.owner.take(request);
        self.turn()
    }

    fn take_append(&mut self, checkpoint: bool) {
        self.appended += 1;
        // With its header it fills a block.
        let record = Record { stream: 1, kind: 1, body: Bytes::from_static(&[7; 3000]) };
        self.owner.take(Request::Append {
            core: 0,
            ticket: self.appended,
            records: vec![record],
            checkpoint,
        });
    }

    fn append(&mut self) -> Report {
        self.take_append(false);
        self.turn()
    }

    /// Its checkpoint begins, as the driver has it.
    fn begin_checkpoint(&mut self) -> Report {
        self.take_append(true);
        self.turn()
    }

    fn grow_to(&mut self, bytes: u64) {
        while self.owner.log.bytes_live() < bytes {
            assert_eq!(self.append().durable, [(0, self.appended)]);
        }
    }

    /// Appends until a checkpoint is asked for.
    fn grow_to_checkpoint(&mut self) {
        while !self.append().checkpoint {}
    }

    fn disk_bytes(&mut self) -> u64 {
        let segments = self.disk.segments().unwrap();
        segments.iter().map(|segment| self.disk.segment_bytes(*segment).unwrap()).sum()
    }

    /// From now on there is no room for more segments than there are. Appends until the log finds out.
    fn fill_disk(&mut self) {
        let bytes = self.disk_bytes();
        self.disk.limit_bytes(Some(bytes));
        while !self.owner.is_full() {
            let report = self.append();
            assert_eq!(report.durable, [(0, self.appended)]);
            assert_eq!(report.full, self.owner.is_full().then_some(true));
        }
    }

    /// Appends until something waits.
    fn fill_log(&mut self) {
        while self.append() == durable(self.appended) {}
        assert!(!self.owner.log.is_idle(), "it waits for room");
    }

    /// Time passes, and the owner has the turns that it wants: when something was reported, and what.
    fn pass(&mut self, millis: u64) -> Vec<(u64, Report)> {
        let end = self.millis + millis;
        let mut reports = Vec::new();
        while let Some(due) = self.owner.due().filter(|due| *due <= at(end)) {
            self.millis = self.millis.max(due.0 / 1000);
            reports.push((self.millis, self.turn()));
            assert!(self.owner.due().is_none_or(|next| next > at(self.millis)), "it waits between two turns");
        }
        self.millis = end;
        reports.retain(|(_, report)| *report != NOTHING);
        reports
    }

    /// The numbers of all records that the next process finds.
    fn found(mut self) -> usize {
        self.disk.crash(wal::Crash::Power, &mut || false);
        let config = Config { log_id: 7, segment_bytes: SEGMENT, batch_bytes_max: SEGMENT };
        let mut found = 0;
        Log::open(&mut self.disk, config, &mut |_, _| found += 1).unwrap();
        found
    }
}

#[test]
fn log_begins_with_the_first_word_that_something_of_it_is_durable() {
    let mut bench = Bench::new(MemoryDisk::at_once());
    bench.appended = 1;
    let nothing = Request::Append { core: 0, ticket: 1, records: Vec::new(), checkpoint: false };
    assert_eq!(bench.ask(nothing), durable(1), "nothing was written");
    assert_eq!(bench.append(), Report { begun: true, ..durable(2) });
    assert_eq!(bench.append(), durable(3));
}

#[test]
fn append_is_durable_after_its_sync_with_all_that_queued_meanwhile() {
    let mut bench = Bench::new(MemoryDisk::new());
    bench.turn();
    while bench.disk.complete_next() {
        bench.turn();
    }
    for _ in 0..3 {
        assert_eq!(bench.append(), NOTHING);
    }
    let mut reports = Vec::new();
    while bench.disk.complete_next() {
        reports.push(bench.turn());
    }
    reports.retain(|report| *report != NOTHING);
    assert_eq!(reports, [Report { begun: true, ..durable(1) }, durable(3)]);
}

#[test]
fn sync_that_failed_makes_nothing_durable_ever_after() {
    let mut bench = Bench::begun();
    bench.disk.fail_next(Operation::Sync, std::io::ErrorKind::Other.into());
    for _ in 0..3 {
        bench.take_append(false);
        let fatal = bench.owner.turn(&mut bench.disk, at(bench.millis)).unwrap_err();
        assert_eq!(fatal.operation, Operation::Sync);
    }
}

#[test]
#[should_panic(expected = "tickets rise by one")]
fn append_out_of_turn_is_a_bug() {
    let mut bench = Bench::begun();
    bench.appended += 1;
    bench.append();
}

#[test]
fn checkpoint_is_asked_for_when_the_log_has_grown_and_gives_back_what_lies_before_its_beginning() {
    let mut bench = Bench::begun();
    bench.grow_to_checkpoint();
    assert!(bench.owner.log.bytes_live() >= SETTINGS.checkpoint_bytes);
    // More comes before it begins, and after.
    bench.append();
    let before = bench.appended as usize;
    bench.begin_checkpoint();
    for _ in 0..8 {
        assert_eq!(bench.append(), durable(bench.appended), "one is under way");
    }
    let long = bench.owner.log.bytes_live();
    assert_eq!(bench.ask(Request::Release { core: 0 }), NOTHING);
    let short = bench.owner.log.bytes_live();
    assert!(short < long, "{short} < {long}");
    bench.grow_to_checkpoint();
    assert!(bench.owner.log.bytes_live() >= short + SETTINGS.checkpoint_bytes);
    let (all, after) = (bench.appended as usize, bench.appended as usize - before);
    let found = bench.found();
    assert!(
        (after..all).contains(&found),
        "{found} of {all}: all {after} behind the mark, and not all before"
    );
}

#[test]
fn checkpoint_of_a_log_that_is_long_from_an_earlier_life_comes_at_once() {
    let mut bench = Bench::begun();
    bench.grow_to(SETTINGS.checkpoint_bytes);
    let next = Bench::new(bench.disk);
    assert_eq!({ next }.turn(), CHECKPOINT);
}

#[test]
fn checkpoint_that_is_wanted_beside_one_under_way_comes_after_it() {
    let mut bench = Bench::begun();
    assert_eq!(bench.ask(Request::CheckpointNow), CHECKPOINT);
    assert_eq!(bench.ask(Request::CheckpointNow), NOTHING, "one is under way");
    bench.begin_checkpoint();
    assert_eq!(bench.ask(Request::Release { core: 0 }), CHECKPOINT);
    bench.begin_checkpoint();
    assert_eq!(bench.ask(Request::Release { core: 0 }), NOTHING, "nobody wants another");
}

#[test]
fn checkpoint_that_a_stopping_node_makes_is_the_one_under_way() {
    let mut bench = Bench::begun();
    bench.begin_checkpoint();
    assert_eq!(bench.ask(Request::CheckpointNow), NOTHING);
    assert_eq!(bench.ask(Request::Release { core: 0 }), CHECKPOINT);
}

#[test]
fn full_disk_is_reported_once_and_tried_until_it_has_room() {
    let mut bench = Bench::begun();
    bench.fill_disk();
    bench.fill_log();
    let (written, waiting) = (bench.appended - 1, bench.appended);
    assert_eq!(bench.pass(60_000), [], "it is tried, and nothing has changed");
    assert_eq!(*bench.owner.refusal(), DiskError::Full);
    bench.disk.limit_bytes(None);
    let began = bench.millis;
    let reports = bench.pass(1000);
    assert_eq!(
        reports[0].1,
        Report { full: Some(false), ..durable(waiting) },
        "{written} were written before"
    );
    assert!(reports[0].0 <= began + RETRY_MICROS / 1000);
    assert_eq!(bench.owner.due(), None);
}

#[test]
fn full_disk_asks_for_a_checkpoint_that_gives_room_back() {
    let mut bench = Bench::begun();
    bench.grow_to(SETTINGS.checkpoint_early_bytes);
    bench.fill_disk();
    let reports = bench.pass(10_000);
    assert_eq!(reports, [(2000, CHECKPOINT)]);
    bench.begin_checkpoint();
    assert_eq!(
        bench.ask(Request::Release { core: 0 }),
        ROOM,
        "a segment is gone, and the next has its place"
    );
}

#[test]
fn full_disk_is_tried_seldom_beside_a_checkpoint() {
    let mut bench = Bench::begun();
    bench.fill_disk();
    assert_eq!(bench.owner.due(), Some(at(200)));
    bench.begin_checkpoint();
    assert_eq!(bench.owner.due(), Some(at(5000)));
}

#[test]
fn checkpoint_that_failed_gives_nothing_back_fills_the_disk_and_is_tried_again() {
    let mut bench = Bench::begun();
    bench.grow_to(2 * SEGMENT);
    assert_eq!(bench.ask(Request::CheckpointNow), CHECKPOINT);
    bench.begin_checkpoint();
    let bytes = bench.owner.log.bytes_live();
    assert_eq!(
        bench.ask(Request::CheckpointFailed { core: 0 }),
        FULL,
        "the log can grow, and the table cannot"
    );
    assert_eq!(bench.owner.log.bytes_live(), bytes);
    for seconds in [2, 4, 6] {
        assert_eq!(bench.pass(2000), [(seconds * 1000, CHECKPOINT)]);
        bench.begin_checkpoint();
        assert_eq!(bench.ask(Request::CheckpointFailed { core: 0 }), NOTHING);
    }
    let all = bench.appended as usize;
    assert_eq!(bench.found(), all);
}

#[test]
fn disk_has_room_again_when_a_checkpoint_has_succeeded() {
    let mut bench = Bench::begun();
    assert_eq!(bench.ask(Request::CheckpointNow), CHECKPOINT);
    bench.begin_checkpoint();
    assert_eq!(bench.ask(Request::CheckpointFailed { core: 0 }), FULL);
    assert_eq!(bench.ask(Request::CheckpointNow), NOTHING, "not at once, however much one is wanted");
    assert_eq!(bench.pass(2000).len(), 1);
    bench.begin_checkpoint();
    assert_eq!(bench.ask(Request::Release { core: 0 }), ROOM);
    assert_eq!(bench.owner.due(), None);
}

#[test]
fn tries_on_a_full_disk_do_not_pile_up() {
    let mut bench = Bench::begun();
    bench.grow_to(SETTINGS.checkpoint_early_bytes);
    bench.fill_disk();
    bench.fill_log();
    let mut asked = 0;
    for _ in 0..100 {
        for (_, report) in bench.pass(10_000) {
            assert_eq!(report, CHECKPOINT);
            asked += 1;
            bench.begin_checkpoint();
            assert_eq!(bench.ask(Request::CheckpointFailed { core: 0 }), NOTHING);
        }
    }
    assert_eq!(asked, 1, "the records of the first wait: another's would wait behind them");
    bench.disk.limit_bytes(None);
    let reports = bench.pass(3000);
    assert_eq!(reports[0].1.durable, [(0, bench.appended)]);
    assert!(reports.iter().any(|(_, report)| report.checkpoint), "and now it is tried again: {reports:?}");
}

#[test]
fn log_that_finishes_writes_what_is_queued_and_takes_no_more() {
    let mut bench = Bench::new(MemoryDisk::new());
    bench.take_append(false);
    bench.take_append(false);
    let asked = bench.ask(Request::Finish);
    assert!(asked == NOTHING && !bench.owner.is_finished(), "the disk has done nothing yet");
    while !bench.owner.is_finished() {
        assert!(bench.disk.complete_next());
        bench.turn();
    }
    assert_eq!(bench.append(), NOTHING);
    assert_eq!(bench.found(), 2);
}

#[test]
fn checkpoint_that_is_asked_for_just_before_the_log_finishes_may_fail() {
    let mut bench = Bench::begun();
    bench.grow_to_checkpoint();
    bench.owner.take(Request::Finish);
    // Its records are not taken any more, and the table finds no room.
    bench.take_append(true);
    assert_eq!(bench.ask(Request::CheckpointFailed { core: 0 }), NOTHING);
    assert!(bench.owner.is_finished());
}

#[test]
fn log_that_finishes_on_a_full_disk_waits_for_no_room() {
    let mut bench = Bench::begun();
    bench.fill_disk();
    bench.fill_log();
    bench.ask(Request::Finish);
    assert!(bench.owner.is_finished());
}

/// An append of a core.
fn append_of(core: usize, ticket: u64, checkpoint: bool) -> Request {
    let record = Record { stream: core as u32 + 1, kind: 1, body: Bytes::from_static(&[7; 3000]) };
    Request::Append { core, ticket, records: vec![record], checkpoint }
}

#[test]
fn appends_of_cores_are_durable_to_each_under_its_own_tickets() {
    let mut bench = Bench::of_cores(3, MemoryDisk::new());
    for (core, ticket) in [(0, 1), (2, 1), (2, 2), (0, 2), (2, 3)] {
        bench.owner.take(append_of(core, ticket, false));
    }
    let mut heard = vec![0; 3];
    loop {
        let report = bench.turn();
        for (core, last) in heard.iter_mut().enumerate() {
            for input in report.inputs(core) {
                let Input::Durable { ticket } = input else { panic!("nothing else happens") };
                assert!(ticket > *last, "it rises");
                *last = ticket;
            }
        }
        if !bench.disk.complete_next() {
            break;
        }
    }
    assert_eq!(heard, [2, 0, 3]);
}

#[test]
fn checkpoint_gives_back_when_the_part_of_every_core_is_complete_and_what_lies_before_the_first() {
    let mut bench = Bench::of_cores(2, MemoryDisk::at_once());
    let mut ticket = 0;
    while !bench.turn().checkpoint {
        ticket += 1;
        bench.owner.take(append_of(0, ticket, false));
    }
    // The parts begin far from each other: the mark is where the first one did.
    bench.owner.take(append_of(1, 1, true));
    let behind_the_mark = 2 + 2 * SEGMENT / 4096;
    for _ in 2..behind_the_mark {
        ticket += 1;
        bench.owner.take(append_of(0, ticket, false));
    }
    ticket += 1;
    bench.owner.take(append_of(0, ticket, true));
    bench.turn();
    let long = bench.owner.log.bytes_live();
    assert!(!bench.ask(Request::Release { core: 0 }).checkpoint);
    assert_eq!(bench.owner.log.bytes_live(), long, "the other core has not flushed");
    bench.ask(Request::Release { core: 1 });
    assert!(bench.owner.log.bytes_live() < long);
    let found = bench.found() as u64;
    assert!((behind_the_mark..ticket).contains(&found), "{found}: all behind the mark, and not all before");
}

#[test]
fn checkpoint_of_which_a_part_failed_gives_nothing_back_and_is_over_when_all_parts_are() {
    let mut bench = Bench::of_cores(2, MemoryDisk::at_once());
    (1..20).for_each(|ticket| bench.owner.take(append_of(0, ticket, false)));
    assert!(bench.ask(Request::CheckpointNow).checkpoint);
    bench.owner.take(append_of(0, 20, true));
    bench.owner.take(append_of(1, 1, true));
    bench.turn();
    let long = bench.owner.log.bytes_live();
    assert_eq!(bench.ask(Request::CheckpointFailed { core: 1 }), NOTHING, "the other part is under way");
    assert_eq!(bench.ask(Request::Release { core: 0 }), FULL);
    assert_eq!(bench.owner.log.bytes_live(), long);
}

#[test]
fn core_that_is_done_with_its_part_when_a_stop_wants_another_makes_it() {
    let mut bench = Bench::of_cores(2, MemoryDisk::at_once());
    assert!(bench.ask(Request::CheckpointNow).checkpoint);
    bench.owner.take(append_of(0, 1, true));
    bench.ask(Request::Release { core: 0 });
    // All cores are asked again before the other one has begun.
    bench.owner.take(append_of(0, 2, true));
    bench.owner.take(append_of(1, 1, true));
    bench.ask(Request::Release { core: 1 });
    assert_eq!(bench.ask(Request::Release { core: 0 }), NOTHING);
    assert!(bench.ask(Request::CheckpointNow).checkpoint, "it is over");
}
