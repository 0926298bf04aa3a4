//! An heir, step by step.

use kv::view::View;
use kv::{NodeId, Op, Protocol, ReplicaId, Stamped};
use replication::Instant;

use super::heir::{CopyHeader, Heir, Question, Stage};
use super::*;

const STREAM: u64 = 7;
const SECOND: u64 = 1_000_000;

fn at(index: u64) -> Position {
    Position::new(index, 0)
}

fn heir() -> Heir {
    let view = View::of(Epoch(4), &[NodeId(2)]);
    let (protocol, number, inherits) = (Protocol::Single, ReplicaId(1), Some(Epoch(3)));
    let seat = Seat { protocol, view, number, revision: 9, inherits };
    Heir::new(seat, Gone { revision: 0, since: 0, generation: 2 }, 5)
}

/// One that has a copy as of 40.
fn following() -> Heir {
    let mut heir = heir();
    assert!(heir.begins(STREAM, &CopyHeader { epoch: Epoch(3), at: at(40) }));
    assert_eq!(heir.installed(), STREAM);
    assert!(heir.ended(STREAM) && heir.flushed(STREAM));
    assert_eq!(heir.loaded(Version::ZERO, None), STREAM);
    heir
}

fn entries(indexes: &[u64]) -> Option<Vec<(Position, bytes::Bytes)>> {
    let op = Stamped { id: None, op: Op::Delete { key: "k".into(), previous: false } }.encode();
    let entry = kv::Entry::encode(Version::ZERO, &[op]);
    Some(indexes.iter().map(|index| (at(*index), entry.clone())).collect())
}

fn take(heir: &mut Heir, above: u64, indexes: &[u64], sealed: Option<u64>) -> Vec<u64> {
    let taken = heir.take_tail(at(above), entries(indexes), sealed.map(at)).unwrap();
    taken.iter().map(|(at, _)| at.index.0).collect()
}

fn apply(heir: &mut Heir, index: u64) {
    heir.applied(Index(index), Version::ZERO, None);
}

#[test]
fn heir_asks_for_a_copy_when_the_log_knows_of_it_and_again_without_an_answer() {
    let mut heir = heir();
    assert_eq!(heir.question(4, Instant(SECOND)), None, "its rows would be nobody's after a crash");
    let asked = [1, 1, 2].map(|seconds| heir.question(5, Instant(seconds * SECOND)));
    assert_eq!(asked, [Some(Question::Copy), None, Some(Question::Copy)]);
    assert_eq!(heir.turns, 1, "another one may have it");
    assert!(!heir.begins(STREAM, &CopyHeader { epoch: Epoch(2), at: at(40) }), "of an epoch before");
    assert!(heir.begins(STREAM, &CopyHeader { epoch: Epoch(3), at: at(40) }));
    assert!(!heir.begins(STREAM + 1, &CopyHeader { epoch: Epoch(3), at: at(41) }), "one at a time");
    assert_eq!(heir.question(5, Instant(9 * SECOND)), None);
}

#[test]
fn heir_follows_in_order_and_asks_for_more_when_it_has_applied_what_came() {
    let mut heir = following();
    let question = |heir: &mut Heir| heir.question(5, Instant(SECOND));
    assert_eq!(question(&mut heir), Some(Question::Tail { above: at(40) }));
    assert_eq!(take(&mut heir, 40, &[41, 42], None), [41, 42]);
    assert_eq!(take(&mut heir, 40, &[41, 42], None), [0; 0], "it comes twice");
    assert_eq!(question(&mut heir), None);
    [41, 42].into_iter().for_each(|index| apply(&mut heir, index));
    assert_eq!(take(&mut heir, 40, &[41, 42], None), [0; 0], "it comes late");
    assert_eq!(question(&mut heir), Some(Question::Tail { above: at(42) }));
}

#[test]
fn heir_needs_another_copy_when_what_comes_does_not_follow_its_own() {
    let mut wrong = vec![None, entries(&[42]), entries(&[41, 43])];
    let garbled = Some(vec![(at(41), bytes::Bytes::from_static(b"\xff"))]);
    wrong.push(garbled);
    for entries in wrong {
        assert!(following().take_tail(at(40), entries, None).is_err());
    }
    assert!(following().take_tail(at(40), entries(&[]), Some(at(39))).is_err(), "it has more than there was");
}

#[test]
fn heir_ends_with_all_that_was_ordered_and_only_when_nobody_else_goes_on() {
    let mut heir = following();
    assert_eq!(take(&mut heir, 40, &[41], Some(42)), [41]);
    apply(&mut heir, 41);
    heir.may_open = true;
    assert!(!heir.has_everything(), "42 is missing");
    assert_eq!(take(&mut heir, 41, &[42], Some(42)), [42]);
    assert!(!heir.has_everything(), "42 is not applied");
    apply(&mut heir, 42);
    heir.may_open = false;
    assert!(
        !heir.has_everything(),
        "the change may be given up, and another node be the heir of the same epoch"
    );
    assert_eq!(heir.question(5, Instant(SECOND)), None, "there is nothing more to be asked");
    heir.may_open = true;
    assert!(heir.has_everything());
    heir.end();
    heir.goes_on();
    assert!(heir.has_everything(), "a flush that came to nothing is tried again");
    heir.end();
    assert_eq!(heir.inherit(8), at(42));
    assert_eq!(heir.stage, Stage::Inheriting { at: at(42), ticket: 8 });
    assert_eq!(heir.made().generation, 2);
}

#[test]
fn header_of_a_copy_is_told_from_one_of_a_protocol() {
    let header = CopyHeader { epoch: Epoch(300), at: Position::new(1 << 40, 7) };
    let bytes = header.encode();
    assert_eq!(CopyHeader::decode(&bytes), Ok(header));
    assert!((0..bytes.len()).all(|cut| CopyHeader::decode(&bytes.slice(..cut)).is_err()));
    for header in replication::raft::fuzz::message_samples() {
        assert!(CopyHeader::decode(&header).is_err());
    }
}
