//! What the table looks like, of a run that is made up: `REGENERATE=1 cargo test -p lab` writes it anew.

use check::history::{History, Outcome};
use kv::{Answer, Key, Op, ReplicaId, Value, Version};

use super::*;
use crate::Choice;
use crate::cluster::Node;
use crate::seen::{Came, Kind, Seen};
use crate::tally::{Phase, What};
use crate::workers::Recorded;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/table.txt");
const OBJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/object.json");
const SECOND: u64 = 1_000_000;
/// From a request to the next.
const EVERY: u64 = 50_000;

fn nodes() -> Vec<Node> {
    (1..=3).map(|number| Node { name: format!("n{number}"), address: String::new() }).collect()
}

fn phases() -> Vec<Phase> {
    let all = [What::Calm, What::Cut(1), What::Healed(1), What::Killed(0), What::Back(0), What::CalmAgain];
    let phase = |(at, what): (usize, What)| {
        let from = at as u64 * 5 * SECOND;
        Phase { what, from, to: from + 5 * SECOND }
    };
    all.into_iter().enumerate().map(phase).collect()
}

/// Requests of every node, all along. `came` says what they come to.
fn seen(came: impl Fn(usize, Kind, u64) -> Came) -> Vec<Seen> {
    let mut seen = Vec::new();
    for called in (0..30 * SECOND).step_by(EVERY as usize) {
        for node in 0..3 {
            for kind in [Kind::Write, Kind::Read, Kind::Bounded(500), Kind::Local] {
                let returned = called + 1_000;
                seen.push(Seen {
                    node,
                    kind,
                    key: "k".into(),
                    called,
                    returned,
                    came: came(node, kind, called),
                });
            }
        }
    }
    seen
}

fn version(at: u64) -> Version {
    Version::new(at + 1, ReplicaId(1))
}

fn read(at: u64, staleness_micros: u64) -> Came {
    Came::Read { version: version(at), staleness_micros }
}

/// A read of what every client has seen.
fn fresh() -> Came {
    Came::Read { version: Version::MAX, staleness_micros: 0 }
}

fn history(holds: bool) -> History {
    let (key, value) = (Key::from_static(b"k"), Value::from_static(b"v"));
    let mut history = History::new();
    let put = history.invoke(1, Op::Put { key: key.clone(), value, deadline: None, previous: false }, None);
    let outcome = if holds { Outcome::Unknown } else { Outcome::Done(Some(Answer::Put { previous: None })) };
    history.complete(put, outcome, None);
    let get = history.invoke(2, Op::Get { key, at: None }, None);
    history.complete(get, Outcome::Done(Some(Answer::Row(None))), None);
    history
}

fn report(name: &str, seen: Vec<Seen>, left: Version, holds: bool) -> Report {
    let choice = Choice::named(name).expect("it is one");
    let recorded = Recorded { seen, history: history(holds), left: vec![("k".into(), left)], listed: None };
    Report::of(&choice, &nodes(), &phases(), &recorded).0
}

/// A majority goes on after 1.2 s; the one that is cut off serves what is stale; 2 s later so does the one that comes back.
fn raft(node: usize, kind: Kind, called: u64) -> Came {
    let (cut, killed) = (5 * SECOND..10 * SECOND, 15 * SECOND..20 * SECOND);
    let begin = if killed.contains(&called) { killed.start } else { cut.start };
    let is_down = killed.contains(&called) && node == 0;
    let is_alone = cut.contains(&called) && node == 1;
    let waits = (cut.contains(&called) || killed.contains(&called)) && called < begin + 1_200_000;
    match kind {
        Kind::Write if is_down => Came::InDoubt,
        _ if is_down => Came::Failed,
        Kind::Write if is_alone && called == cut.start => Came::InDoubt,
        Kind::Local if is_alone => read(cut.start - EVERY, called - cut.start),
        _ if is_alone || waits => Came::Failed,
        Kind::Write => Came::Written(version(called)),
        _ => fresh(),
    }
}

/// Nobody writes while one is away; of reads one in ten is not answered.
fn two_phase(_: usize, kind: Kind, called: u64) -> Came {
    let is_one_away =
        (5 * SECOND..10 * SECOND).contains(&called) || (15 * SECOND..20 * SECOND).contains(&called);
    match kind {
        Kind::Write if is_one_away => Came::Failed,
        Kind::Write => Came::Written(version(called)),
        _ if is_one_away && called.is_multiple_of(10 * EVERY) => Came::Failed,
        _ => fresh(),
    }
}

#[test]
fn table_shows_what_each_did_and_what_it_costs() {
    let well = |_: usize, kind: Kind, called: u64| match kind {
        Kind::Write => Came::Written(version(called)),
        _ => fresh(),
    };
    let mut lossy = report("single", seen(well), version(29 * SECOND), false);
    lossy.files = vec!["/tmp/lab/single.jsonl".into(), "/tmp/lab/single.html".into()];
    let reports = [
        lossy,
        report("raft", seen(raft), Version::MAX, true),
        report("two-phase", seen(two_phase), Version::MAX, true),
    ];
    assert_eq!(reports.each_ref().map(Report::is_broken), [true, false, false]);
    let text = render(&reports);
    // A sentence of the judge may be longer.
    let is_table = |line: &&str| !line.contains("not linearizable:");
    let wide: Vec<&str> = text.lines().filter(is_table).filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    golden(TABLE, &text);
}

#[test]
fn object_for_scripts_has_every_count_by_phase_and_side() {
    let mut report = report("raft", seen(raft), Version::MAX, true);
    report.phases.retain(|phase| phase.phase == "cut");
    golden(OBJECT, &(serde_json::to_string_pretty(&report).unwrap() + "\n"));
}

fn golden(file: &str, text: &str) {
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(file, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(file).unwrap());
}

#[test]
fn served_is_one_word() {
    let counts = |done, failed, wait, still| Counts {
        done,
        failed,
        wait_micros: Some(wait),
        waits_still_micros: Some(still),
        ..Counts::default()
    };
    let phase = 5 * SECOND;
    assert_eq!(served(&counts(100, 0, 20_000, 10_000), phase), "yes");
    assert_eq!(served(&counts(90, 10, 20_000, 10_000), phase), "90 %");
    assert_eq!(served(&counts(90, 10, 1_240_000, 10_000), phase), "1.2 s");
    assert_eq!(served(&counts(90, 0, 1_300_000, 1_300_000), phase), "no", "it waits still");
    assert_eq!(served(&counts(90, 0, 600_000, 600_000), phase), "0.6 s", "that may be chance");
    assert_eq!(served(&counts(90, 0, 600_000, 600_000), SECOND), "no");
    assert_eq!(served(&counts(0, 10, 100_000, 100_000), SECOND), "no");
    assert_eq!(served(&Counts::default(), SECOND), "-", "nobody asked");
}
