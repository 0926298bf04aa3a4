//! What the models allow, told by small histories of ops and answers.

#[path = "support/receipt.rs"]
mod receipt;

use check::history::{Clock, History, Outcome, Recorder};
use check::linear::{self, Budget, Verdict};
use check::model::{Atomicity, Batch, Initial, Kv, Model};
use kv::{
    Answer, Condition, Direction, Error, Expect, Function, Key, KeyAnswer, Level, Op, Page, Range, Receipt,
    Reply, Request, Row, Side, Version,
};
use receipt::reply;

fn row(key: &str, value: &str) -> Row {
    let (key, value) = (Key::from(key.to_owned()), kv::Value::from(value.to_owned()));
    Row { key, value, version: Version::ZERO, created: Version::ZERO, changes: 1, deadline: None }
}

fn get(key: &'static str) -> Op {
    Op::Get { key: key.into(), at: None }
}

fn put(key: &'static str, value: &'static str) -> Op {
    Op::Put { key: key.into(), value: value.into(), deadline: None, previous: false }
}

fn update(function: Function) -> Op {
    Op::Update { key: "k".into(), function }
}

fn found(key: &str, value: &str) -> Answer {
    Answer::Row(Some(row(key, value)))
}

const PUT: Answer = Answer::Put { previous: None };

/// One op after the other, all answered.
fn serial(steps: &[(Op, Answer)]) -> History {
    let mut history = History::new();
    for (op, answer) in steps {
        let id = history.invoke(0, op.clone(), None);
        history.complete(id, Outcome::Done(Some(answer.clone())), None);
    }
    history
}

fn holds<M: Model>(model: &M, history: &History) -> bool {
    match linear::check(model, history, &mut Budget::default()).verdict {
        Verdict::Holds => true,
        Verdict::Violated(_) => false,
        Verdict::Undecided(why) => panic!("undecided: {why}"),
    }
}

/// In this order, the last answer is allowed and the other one is not.
fn assert_answers(before: &[(Op, Answer)], op: Op, right: Answer, wrong: Answer) {
    for (answer, expected) in [(right, true), (wrong, false)] {
        let history = serial(&[before, &[(op.clone(), answer.clone())]].concat());
        assert_eq!(holds(&Kv::default(), &history), expected, "kv: {op:?} answered {answer:?}");
        assert_eq!(holds(&Batch::default(), &history), expected, "batch: {op:?} answered {answer:?}");
    }
}

#[test]
fn kv_each_op_answers_what_it_found() {
    let before = [(put("k", "5é"), PUT)];
    let pop = |side, count| update(Function::Pop { side, count });
    let popped = |value: &'static str| Answer::Popped(Some(value.into()));
    let append = |side| update(Function::Append { side, value: "x".into() });
    let met = |met| Answer::Condition { met, current: None };
    let deleted = |count| Answer::Deleted { count, previous: None, next: None };
    assert_answers(&before, get("k"), found("k", "5é"), Answer::Row(None));
    assert_answers(&[], get("k"), Answer::Row(None), found("k", "5é"));
    assert_answers(&before, pop(Side::Right, 1), popped("é"), popped("5"));
    assert_answers(&before, pop(Side::Left, 9), popped("5é"), popped("5"));
    assert_answers(&[], pop(Side::Left, 1), Answer::Popped(None), popped(""));
    assert_answers(&before, append(Side::Left), Answer::Length(4), Answer::Length(1));
    let appended = [(put("k", "a"), PUT), (append(Side::Left), Answer::Length(2))];
    assert_answers(&appended, get("k"), found("k", "xa"), found("k", "ax"));
    assert_answers(&[], update(Function::Increment { by: -2 }), Answer::Number(-2), Answer::Number(2));
    let insert = update(Function::Insert { value: "n".into(), deadline: None });
    assert_answers(&before, insert.clone(), met(false), met(true));
    assert_answers(&[], insert, met(true), met(false));
    let compare = |expect| update(Function::CompareAndPut { expect, value: "n".into(), deadline: None });
    assert_answers(&before, compare(Expect::Present), met(true), met(false));
    assert_answers(&before, compare(Expect::Absent), met(false), met(true));
    assert_answers(&before, compare(Expect::Value("5é".into())), met(true), met(false));
    let current = |value| Answer::Condition { met: false, current: Some(row("k", value)) };
    assert_answers(&before, compare(Expect::Value("6".into())), current("5é"), current("6"));
    assert_answers(&before, Op::Delete { key: "k".into(), previous: false }, deleted(1), deleted(0));
    let previous = |value| Answer::Deleted { count: 1, previous: Some(row("k", value)), next: None };
    assert_answers(&before, Op::Delete { key: "k".into(), previous: true }, previous("5é"), previous("6"));
    let expire = Op::Expire { key: "k".into(), deadline: None };
    assert_answers(&before, expire, Answer::Expire(true), Answer::Expire(false));
}

#[test]
fn kv_increment_of_a_text_cannot_be_answered() {
    let history =
        serial(&[(put("k", "text"), PUT), (update(Function::Increment { by: 1 }), Answer::Number(1))]);
    assert!(!holds(&Kv::default(), &history));
}

/// One op after the other, each at a known time of the store's clock.
fn timed(steps: &[(u64, u64, Op, Answer)]) -> History {
    let mut history = History::new();
    for (from, to, op, answer) in steps {
        let id = history.invoke(0, op.clone(), None);
        history.set_clock(id, Clock { from: *from, to: *to });
        history.complete(id, Outcome::Done(Some(answer.clone())), None);
    }
    history
}

#[test]
fn value_is_gone_once_the_clock_of_an_op_has_reached_its_deadline_and_not_before() {
    let mortal = |deadline| Op::Put { key: "k".into(), value: "v".into(), deadline, previous: false };
    let judge = |steps: &[(u64, u64, Op, Answer)]| {
        let history = timed(steps);
        let alike = holds(&Kv::default(), &history);
        assert_eq!(alike, holds(&Batch::default(), &history), "{steps:?}");
        alike
    };
    let (there, gone) = (|| found("k", "v"), || Answer::Row(None));
    let put = (1, 1, mortal(Some(7)), PUT);
    let at = |from, to, answer| judge(&[put.clone(), (from, to, get("k"), answer)]);
    assert!(at(6, 6, there()) && !at(6, 6, gone()), "before the deadline it is there");
    assert!(!at(7, 7, there()) && at(7, 7, gone()), "from the deadline on it is not");
    assert!(at(6, 8, there()) && at(6, 8, gone()), "either, where the clock is not known so well");
    assert!(at(0, u64::MAX, there()) && at(0, u64::MAX, gone()));
    let seen = |next: Answer| {
        judge(&[put.clone(), (6, 8, get("k"), gone()), (6, 8, get("k"), next), (5, 5, get("j"), gone())])
    };
    assert!(seen(gone()) && !seen(there()), "what was gone does not come back");
    let stillborn = (7, 7, mortal(Some(7)), PUT);
    assert!(judge(&[stillborn.clone(), (0, u64::MAX, get("k"), gone())]));
    assert!(!judge(&[stillborn, (0, u64::MAX, get("k"), there())]), "its deadline had passed already");
    let expire = |deadline| (2, 2, Op::Expire { key: "k".into(), deadline }, Answer::Expire(true));
    assert!(judge(&[put.clone(), expire(None), (9, 9, get("k"), there())]), "it lives on");
    assert!(judge(&[put.clone(), expire(Some(2)), (3, 3, get("k"), gone())]), "it ends at once");
    let insert =
        Op::Update { key: "k".into(), function: Function::Insert { value: "w".into(), deadline: None } };
    let met = |met| Answer::Condition { met, current: None };
    assert!(judge(&[put.clone(), (7, 7, insert.clone(), met(true))]));
    assert!(!judge(&[put.clone(), (7, 7, insert.clone(), met(false))]));
    assert!(!judge(&[put.clone(), (6, 6, insert.clone(), met(true))]));
}

#[test]
fn insert_in_doubt_may_find_that_the_value_expired() {
    let mortal = Op::Put { key: "k".into(), value: "v".into(), deadline: Some(7), previous: false };
    let insert = update(Function::Insert { value: "w".into(), deadline: None });
    let mut history = timed(&[(1, 1, mortal, PUT)]);
    history.invoke(1, insert, None);
    let read = history.invoke(0, get("k"), None);
    history.complete(read, Outcome::Done(Some(found("k", "w"))), None);
    assert!(holds(&Kv::default(), &history));
    assert!(holds(&Batch::default(), &history));
}

#[test]
fn kv_value_with_deadline_may_vanish_once() {
    let mortal = Op::Put { key: "k".into(), value: "v".into(), deadline: Some(7), previous: false };
    let (here, gone) = ((get("k"), found("k", "v")), (get("k"), Answer::Row(None)));
    let judge = |steps: &[(Op, Answer)]| holds(&Kv::default(), &serial(steps));
    assert!(judge(&[(mortal.clone(), PUT), here.clone(), gone.clone()]));
    assert!(!judge(&[(mortal.clone(), PUT), gone.clone(), here.clone()]), "it does not come back");
    let stays = (Op::Expire { key: "k".into(), deadline: None }, Answer::Expire(true));
    assert!(!judge(&[(mortal, PUT), stays, gone.clone()]), "it has no deadline any more");
    assert!(!judge(&[(put("k", "v"), PUT), gone]));
}

#[test]
fn kv_compare_with_a_version_may_go_either_way() {
    let expect = Expect::Version(Version::MAX);
    let compare = update(Function::CompareAndPut { expect, value: "n".into(), deadline: None });
    for (met, left) in [(true, "n"), (false, "v")] {
        let answer = Answer::Condition { met, current: None };
        let steps = [(put("k", "v"), PUT), (compare.clone(), answer), (get("k"), found("k", left))];
        assert!(holds(&Kv::default(), &serial(&steps)), "{met}");
    }
}

#[test]
fn kv_initial_value_is_read_first() {
    let history = serial(&[(get("k"), found("k", "0")), (put("k", "1"), PUT), (get("k"), found("k", "1"))]);
    assert!(!holds(&Kv::default(), &history));
    assert!(holds(&Kv { initial: Initial::Value("0".into()), ..Kv::default() }, &history));
    assert!(holds(&Kv { initial: Initial::Unknown, ..Kv::default() }, &history));
    let late = serial(&[(put("k", "1"), PUT), (get("k"), found("k", "0"))]);
    assert!(!holds(&Kv { initial: Initial::Unknown, ..Kv::default() }, &late));
}

#[test]
fn kv_ops_of_several_keys_are_undecided_not_passed() {
    let rows = vec![("a".into(), "1".into()), ("b".into(), "1".into())];
    let history = serial(&[(Op::PutAll { rows }, Answer::Many(vec![]))]);
    let judgement = linear::check(&Kv::default(), &history, &mut Budget::default());
    assert!(matches!(judgement.verdict, Verdict::Undecided(_)), "{judgement:?}");
    assert!(holds(&Batch::default(), &history));
}

#[test]
fn reads_at_a_version_are_counted_as_unjudged() {
    let past = Op::Get { key: "k".into(), at: Some(Version::MAX) };
    let history = serial(&[(put("k", "v"), PUT), (past, Answer::Row(None))]);
    let judgement = linear::check(&Kv::default(), &history, &mut Budget::default());
    assert_eq!((judgement.verdict, judgement.unjudged), (Verdict::Holds, 1));
}

fn get_all(values: &[(&'static str, Option<&str>)]) -> (Op, Answer) {
    let keys = values.iter().map(|(key, _)| (*key).into()).collect();
    let answers = values
        .iter()
        .map(|(key, value)| KeyAnswer { key: (*key).into(), result: Ok(value.map(|value| row(key, value))) });
    (Op::GetAll { keys, at: None }, Answer::Many(answers.collect()))
}

fn put_all(values: &[(&'static str, &'static str)]) -> Op {
    Op::PutAll { rows: values.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect() }
}

#[test]
fn batch_half_a_put_all_is_never_seen() {
    let mut history = History::new();
    let writing = history.invoke(0, put_all(&[("a", "1"), ("b", "1")]), None);
    let (op, answer) = get_all(&[("a", Some("1")), ("b", None)]);
    let reading = history.invoke(1, op, None);
    history.complete(reading, Outcome::Done(Some(answer)), None);
    history.complete(writing, Outcome::Done(Some(Answer::Many(vec![]))), None);
    assert!(!holds(&Batch::default(), &history));
    assert!(holds(&Batch { atomicity: Atomicity::Key, ..Batch::default() }, &history));
    assert!(!holds(&Batch { atomicity: Atomicity::Shard(1), ..Batch::default() }, &history));
    assert!(holds(&Batch { atomicity: Atomicity::Shard(16_384), ..Batch::default() }, &history));
}

#[test]
fn batch_key_that_failed_or_is_in_doubt_is_judged_apart() {
    let history = |error: Error, seen: Option<&str>| {
        let answers = vec![
            KeyAnswer { key: "a".into(), result: Ok(None) },
            KeyAnswer { key: "b".into(), result: Err(error) },
        ];
        serial(&[
            (put_all(&[("a", "1"), ("b", "1")]), Answer::Many(answers)),
            get_all(&[("a", Some("1")), ("b", seen)]),
        ])
    };
    let (failed, in_doubt) = (Error::Unavailable("no".into()), Error::InDoubt("perhaps".into()));
    assert!(holds(&Batch::default(), &history(failed.clone(), None)));
    assert!(!holds(&Batch::default(), &history(failed, Some("1"))));
    assert!(holds(&Batch::default(), &history(in_doubt.clone(), None)));
    assert!(holds(&Batch::default(), &history(in_doubt, Some("1"))));
}

#[test]
fn batch_transaction_runs_the_branch_of_its_conditions() {
    let transaction = Op::Transaction {
        conditions: vec![Condition { key: "a".into(), expect: Expect::Value("1".into()) }],
        then: vec![put("b", "then"), get("b")],
        otherwise: vec![get("a")],
    };
    let ran = |succeeded, answers| Answer::Transaction { succeeded, answers };
    let then = ran(true, vec![PUT, found("b", "then")]);
    let otherwise = ran(false, vec![Answer::Row(None)]);
    let judge = |steps: &[(Op, Answer)]| holds(&Batch::default(), &serial(steps));
    assert!(judge(&[
        (put("a", "1"), PUT),
        (transaction.clone(), then.clone()),
        (get("b"), found("b", "then"))
    ]));
    assert!(!judge(&[
        (put("a", "1"), PUT),
        (transaction.clone(), then.clone()),
        (get("b"), Answer::Row(None))
    ]));
    assert!(!judge(&[(transaction.clone(), then)]));
    assert!(judge(&[(transaction.clone(), otherwise.clone())]));
    assert!(!judge(&[(put("a", "1"), PUT), (transaction, otherwise)]));
}

#[test]
fn batch_range_sees_all_keys_and_delete_range_removes_them() {
    let range = |from: &'static str, limit| Op::Range(Range { from: from.into(), limit, ..Range::default() });
    let page = |rows: &[(&str, &str)], next: Option<&'static str>| {
        let rows: Vec<Row> = rows.iter().map(|(key, value)| row(key, value)).collect();
        Answer::Page(Page { count: rows.len() as u64, rows, next: next.map(Key::from) })
    };
    let before = [(put("a", "1"), PUT), (put("b", "2"), PUT), (put("c", "3"), PUT)];
    let judge =
        |op: Op, answer: Answer| holds(&Batch::default(), &serial(&[&before[..], &[(op, answer)]].concat()));
    assert!(judge(range("b", 0), page(&[("b", "2"), ("c", "3")], None)));
    assert!(!judge(range("b", 0), page(&[("b", "2")], None)), "a row is missing");
    assert!(judge(range("", 1), page(&[("a", "1")], Some("a"))));
    assert!(judge(range("", 0), page(&[("a", "1")], Some("a"))), "a page may end early when it says so");
    assert!(!judge(range("", 1), page(&[("b", "2")], Some("b"))), "the first row is missing");
    let delete = Op::DeleteRange { from: "a".into(), to: Some("c".into()) };
    let deleted = |count| Answer::Deleted { count, previous: None, next: None };
    assert!(judge(delete.clone(), deleted(2)));
    assert!(!judge(delete, deleted(3)));
}

#[test]
fn range_and_delete_range_over_shards_are_judged_key_by_key() {
    let range = |limit, direction| Op::Range(Range { limit, direction, ..Range::default() });
    let page = |rows: &[(&str, &str)], next: Option<&'static str>| {
        let rows: Vec<Row> = rows.iter().map(|(key, value)| row(key, value)).collect();
        Answer::Page(Page { count: rows.len() as u64, rows, next: next.map(Key::from) })
    };
    let deleted = |count, next: Option<&'static str>| {
        let delete = Op::DeleteRange { from: "a".into(), to: Some("c".into()) };
        (delete, Answer::Deleted { count, previous: None, next: next.map(Key::from) })
    };
    let all = Op::PutAll { rows: ["a", "b", "c"].map(|key| (key.into(), "1".into())).into() };
    let before = [(all, Answer::Many(vec![]))];
    let judge = |steps: &[(Op, Answer)]| {
        let history = serial(&[&before[..], steps].concat());
        let judged = holds(&Kv { divides: true, ..Kv::default() }, &history);
        for atomicity in [Atomicity::Shard(4), Atomicity::Key] {
            assert_eq!(holds(&Batch { atomicity, ..Batch::default() }, &history), judged, "{steps:?}");
        }
        judged
    };
    let (forward, backward) = (Direction::Forward, Direction::Backward);
    assert!(judge(&[(range(0, forward), page(&[("a", "1"), ("b", "1"), ("c", "1")], None))]));
    assert!(!judge(&[(range(0, forward), page(&[("a", "1"), ("c", "1")], None))]), "b is missing");
    assert!(!judge(&[(range(0, forward), page(&[("a", "1"), ("b", "2"), ("c", "1")], None))]), "another b");
    assert!(judge(&[(range(2, backward), page(&[("c", "1"), ("b", "1")], Some("b")))]));
    assert!(!judge(&[(range(2, backward), page(&[("c", "1"), ("a", "1")], Some("a")))]), "b is missing");
    let left = |rows: &[(&str, &str)]| (range(0, forward), page(rows, None));
    assert!(judge(&[deleted(2, None), left(&[("c", "1")])]));
    assert!(!judge(&[deleted(2, None), left(&[("b", "1"), ("c", "1")])]), "b was deleted");
    assert!(judge(&[deleted(1, Some("b")), left(&[("b", "1"), ("c", "1")])]), "it did not come to b");
    assert!(judge(&[deleted(2, Some("b")), left(&[("c", "1")])]), "another shard had come to b");
    assert!(!judge(&[deleted(1, Some("b")), left(&[("a", "1"), ("c", "1")])]), "it had come to a");
    assert!(!judge(&[deleted(0, None), left(&[("a", "1"), ("b", "1"), ("c", "1")])]), "it found nothing");
}

#[test]
fn trim_of_a_range_changes_no_value_and_leaves_a_history_judged() {
    let trim = Op::TrimRange { from: Key::new(), to: None, below: None };
    let trimmed = Answer::Trimmed { count: 7, next: Some("b".into()) };
    let steps = |seen| [(put("a", "1"), PUT), (trim.clone(), trimmed.clone()), (get("a"), found("a", seen))];
    for (seen, expected) in [("1", true), ("2", false)] {
        let history = serial(&steps(seen));
        let judgement = linear::check(&Kv::default(), &history, &mut Budget::default());
        assert_eq!(judgement.unjudged, 0, "it makes nothing doubtful");
        assert_eq!(holds(&Kv::default(), &history), expected);
        assert_eq!(holds(&Batch::default(), &history), expected);
        let shards = Batch { atomicity: Atomicity::Shard(4), ..Batch::default() };
        assert_eq!(holds(&shards, &history), expected);
    }
}

#[test]
fn recorder_tells_failed_from_in_doubt_and_keeps_no_answer_of_weak_reads() {
    let mut recorder = Recorder::new();
    let ask = |recorder: &mut Recorder, op: Op, reached: Level, result: Result<Answer, Error>| {
        let ticket = recorder.invoke(7, &Request { level: Some(Level::Bounded(5)), ..Request::new(op) }, 1);
        let reply = |answer| {
            let reply = reply(answer);
            Reply { receipt: Receipt { reached, ..reply.receipt }, ..reply }
        };
        recorder.complete(ticket, &result.map(reply), 2);
    };
    ask(&mut recorder, put("k", "1"), Level::Linearizable, Ok(PUT));
    ask(&mut recorder, put("k", "2"), Level::Linearizable, Err(Error::Unavailable("no leader".into())));
    ask(&mut recorder, put("k", "3"), Level::Linearizable, Err(Error::InDoubt("no answer".into())));
    ask(&mut recorder, get("k"), Level::Bounded(5), Ok(Answer::Row(None)));
    ask(&mut recorder, get("k"), Level::Linearizable, Ok(found("k", "3")));
    let history = recorder.into_history();
    let processes: Vec<u64> = history.operations().iter().map(|op| op.process).collect();
    assert_eq!(processes, [0, 0, 0, 1, 1], "a process in doubt is not used again");
    let outcomes: Vec<&Outcome> = history.operations().iter().map(|op| &op.outcome).collect();
    assert_eq!(outcomes[1..4], [&Outcome::Failed, &Outcome::Unknown, &Outcome::Done(None)]);
    assert_eq!(outcomes[4], &Outcome::Done(Some(found("k", "3"))), "it was answered better than it asked");
    assert!(holds(&Kv::default(), &history));
}
