//! The driver over replicas that do as a test says: which of them it calls, and what it makes of their words.

mod hosting;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kv::cluster::Role;
use kv::{
    Charge, Class, Epoch, Error, Index, Level, NodeId, Op, Position, Protocol, ReplicaId, ShardId, Term,
    Version,
};
use placement::map::Map;
use placement::{Founder, Founding};
use replication::{Input, Instant, Output, Replicate, Revision, Route, View};

use super::core::Core;
use super::kept::KeptMaps;
use super::replica::Replica;
use super::{Driver, Part, Work};
use crate::node::Node;
use crate::record::Made;
use crate::recovery::Begun;
use crate::wire::{Announced, Announcement, Frame, Greeting, Newcomers};
use crate::{Config, Now};

const ME: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);
const SHARD: ShardId = ShardId(1);
/// The epoch and the revision of every replica.
const OWN: (Epoch, Revision) = (Epoch(4), Revision(7));

/// What a test sets and sees of a replica.
struct Script {
    due: Instant,
    route: Route,
    /// Reads are turned away.
    refuses: bool,
    /// What it was given, a word each.
    given: Vec<String>,
    /// What it was asked to route.
    asked: Vec<(Class, Level)>,
}

struct Fake {
    script: Arc<Mutex<Script>>,
    view: View,
}

impl Replicate for Fake {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        let mut script = self.script.lock().unwrap();
        script.given.push(match &input {
            Input::Tick { .. } => "tick".into(),
            Input::Message { from, revision, body } => format!("message {from} {revision} {body:?}"),
            Input::Connected { node, hello } => format!("connected {node} {hello:?}"),
            Input::View(view) => format!("view {}", view.revision),
            Input::Read { level, .. } => format!("read {level}"),
            Input::Propose { ops } => format!("propose {}", ops.len()),
            other => format!("{other:?}"),
        });
        match input {
            Input::View(view) => self.view = view,
            Input::Read { token, .. } if script.refuses => {
                out.push(Output::Refuse { token, error: Error::WrongNode { try_next: None } });
            }
            _ => {}
        }
    }

    fn route(&self, class: Class, level: Level) -> Route {
        let mut script = self.script.lock().unwrap();
        script.asked.push((class, level));
        script.route
    }

    fn hello(&self, to: NodeId) -> Bytes {
        format!("hello {to}").into()
    }

    fn due(&self) -> Instant {
        self.script.lock().unwrap().due
    }

    fn checkpoint(&self) -> Vec<Bytes> {
        Vec::new()
    }

    fn view(&self) -> &View {
        &self.view
    }

    fn status(&self) -> replication::Status {
        let (index, term) = (Index::default(), Term::default());
        let (role, leader) = (Role::Follower, None);
        replication::Status {
            role,
            leader,
            term,
            last: index,
            durable: index,
            commit: index,
            applied: index,
            members: vec![],
            wants_the_gone: false,
            lease_reads: 0,
            counts: Default::default(),
        }
    }
}

/// Of three nodes that have a replica of each of so many shards, and no directory.
fn map(shards: u32) -> Map {
    let founder = |id| Founder { name: format!("n{id}"), peer: String::new() };
    let (nodes, protocol) = ((1..=3).map(founder).collect(), Protocol::Raft);
    let mut map = Map::founding(&Founding { cluster: None, nodes, shards, replicas: 3, protocol });
    map.shards.remove(&ShardId::DIRECTORY);
    map.shards.values_mut().for_each(|row| (row.epoch, row.revision) = OWN);
    map
}

struct Test {
    driver: Driver,
    scripts: Vec<Arc<Mutex<Script>>>,
    now: u64,
}

impl Test {
    /// A node of three with so many shards, whose replicas want nothing of their own accord.
    fn new(shards: u32) -> Test {
        let config = Config::new(ME, Arc::new(map(shards)));
        let script = || Script {
            due: Instant::MAX,
            route: Route::Here,
            refuses: false,
            given: Vec::new(),
            asked: Vec::new(),
        };
        let scripts: Vec<_> = (0..shards).map(|_| Arc::new(Mutex::new(script()))).collect();
        let mut core = Core::new(&config, Instant(0));
        for (place, script) in scripts.iter().enumerate() {
            let shard = ShardId(place as u32 + 1);
            let view = config.map.shards[&shard].view();
            let replica = Box::new(Fake { script: script.clone(), view });
            let made = Made { number: ReplicaId(1), revision: 1, generation: 0 };
            let begun = Begun { protocol: Protocol::Raft, made, replica };
            core.begin_replica(Replica::new(shard, begun, Position::ZERO, Version::ZERO), false);
            core.expiries.set(shard, None);
        }
        let node = Node::new(config, 0, Version::ZERO, Now::default());
        let mut test =
            Test { driver: Driver { node, core, office: None, kept: KeptMaps::new(1) }, scripts, now: 0 };
        test.turn(vec![]);
        test.scripts.iter().for_each(|script| script.lock().unwrap().given.clear());
        test
    }

    fn turn(&mut self, mut inputs: Vec<super::Input>) -> Vec<Work> {
        let (instant, wall) = (Instant(self.now), 1_700_000_000_000_000 + self.now);
        let mut work = Vec::new();
        self.driver.turn(Now { instant, wall }, &mut inputs, &mut work);
        work
    }

    /// What a turn of a moment later sends to the other node, announcements apart.
    fn sent(&mut self, micros: u64, inputs: Vec<super::Input>) -> Vec<Frame> {
        self.now += micros;
        let sent = self.turn(inputs).into_iter().filter_map(|work| match work {
            Work::Send { to: OTHER, frame, .. } => Some(Frame::decode(&frame).unwrap()),
            _ => None,
        });
        sent.filter(|frame| !matches!(frame, Frame::Announce(_))).collect()
    }

    fn hear(&mut self, micros: u64, frame: &Frame) -> Vec<Frame> {
        self.sent(micros, vec![super::Input::Frame { from: OTHER, bytes: frame.encode() }])
    }

    fn script(&mut self, shard: u32) -> std::sync::MutexGuard<'_, Script> {
        self.scripts[shard as usize - 1].lock().unwrap()
    }

    /// What a replica was given since this was last asked.
    fn given(&mut self, shard: u32) -> Vec<String> {
        std::mem::take(&mut self.script(shard).given)
    }

    fn view(&self) -> View {
        self.driver.core.replicas[&SHARD].view().clone()
    }
}

fn part(op: Op, level: Option<Level>) -> super::Input {
    let part = Part {
        shard: SHARD,
        op,
        level,
        id: None,
        timeout_micros: 1_000_000,
        charge: Charge::default(),
        in_doubt: false,
        here: false,
    };
    super::Input::Part { client: 9, part }
}

fn get(level: Level) -> super::Input {
    part(Op::Get { key: "k".into(), at: None }, Some(level))
}

fn put() -> super::Input {
    part(Op::Put { key: "k".into(), value: "v".into(), deadline: None, previous: false }, None)
}

fn message(epoch: u64, revision: u64) -> Frame {
    let (epoch, revision) = (Epoch(epoch), Revision(revision));
    Frame::Protocol { shard: SHARD, epoch, revision, body: Bytes::from_static(b"m") }
}

fn announce(epoch: u64, revision: u64) -> Frame {
    let (epoch, revision) = (Epoch(epoch), Revision(revision));
    let (role, leader) = (Role::Follower, None);
    let (members, newcomers, copied) = (1, Newcomers::Behind, Vec::new());
    let replica = Announced {
        shard: SHARD,
        epoch,
        revision,
        members,
        newcomers,
        role,
        leader,
        term: 1,
        applied: 1,
        lease_reads: 1 << 30,
        usage: Default::default(),
        copied,
        heirs: Vec::new(),
    };
    Frame::Announce(Announcement { replicas: vec![replica], ..Announcement::default() })
}

fn greet(epoch: u64) -> Frame {
    let greeting = Greeting { shard: SHARD, epoch: Epoch(epoch), hello: Bytes::from_static(b"h") };
    Frame::Greet { greetings: vec![greeting], wants: false }
}

#[test]
fn replica_that_wants_no_time_is_not_stepped() {
    let mut test = Test::new(100);
    test.script(42).due = Instant(500_000);
    // It is asked when it wants the time after something happened to it.
    test.turn(vec![super::Input::SnapshotSent { shard: ShardId(42), to: OTHER, arrived: true }]);
    test.given(42);
    for _ in 0..100 {
        test.sent(10_000, vec![]);
    }
    let given: Vec<usize> = (1..=100).map(|shard| test.given(shard).len()).collect();
    assert_eq!(given.iter().filter(|given| **given > 0).count(), 1);
    assert_eq!(given[41], 51, "from its time on, in each turn until it wants another");
}

#[test]
fn replica_is_told_the_time_before_what_happens_to_it() {
    let mut test = Test::new(2);
    test.hear(1, &message(4, 7));
    assert_eq!(test.given(1), ["tick", "message 2 7 b\"m\""]);
    assert_eq!(test.given(2), [""; 0]);
}

#[test]
fn replica_is_asked_when_it_wants_the_time_after_each_turn_that_it_has_a_part_in() {
    let mut test = Test::new(1);
    test.hear(1, &message(4, 7));
    // Another turn at the same moment: what it takes in makes it want the time.
    test.script(1).due = Instant(100);
    test.hear(0, &message(4, 7));
    test.given(1);
    test.sent(98, vec![]);
    assert_eq!(test.given(1), [""; 0]);
    test.sent(1, vec![]);
    assert_eq!(test.given(1), ["tick"]);
}

#[test]
fn message_of_an_earlier_epoch_is_answered_with_the_members() {
    let mut test = Test::new(1);
    let view = test.view();
    // A later revision of an earlier epoch is earlier.
    for frame in [message(3, 9), message(3, 7), greet(3), announce(3, 9)] {
        assert_eq!(test.hear(1, &frame), [Frame::View { shard: SHARD, view: view.clone() }]);
        assert_eq!(test.given(1), [""; 0], "it is not for this replica");
    }
}

#[test]
fn message_of_a_later_epoch_has_its_members_asked_for() {
    for frame in [message(5, 1), greet(5), announce(5, 1)] {
        let mut test = Test::new(1);
        assert_eq!(test.hear(1, &frame), [Frame::WantView { shard: SHARD }]);
        assert_eq!(test.hear(1, &frame), [], "they were asked for a moment ago");
        assert_eq!(test.hear(super::fence::ASK_MICROS, &frame), [Frame::WantView { shard: SHARD }]);
        assert_eq!(test.given(1), [""; 0], "it is not for this replica");
    }
}

#[test]
fn message_of_a_later_revision_is_taken_and_its_members_are_asked_for() {
    let mut test = Test::new(1);
    assert_eq!(test.hear(1, &message(4, 8)), [Frame::WantView { shard: SHARD }]);
    assert_eq!(test.given(1), ["tick", "message 2 8 b\"m\""]);
    let view = View { revision: Revision(8), ..test.view() };
    test.hear(1, &Frame::View { shard: SHARD, view: view.clone() });
    assert_eq!(test.given(1), ["tick", "view 8"]);
    for frame in [message(4, 8), announce(4, 8)] {
        assert_eq!(test.hear(super::fence::ASK_MICROS, &frame), [], "they are known now");
    }
    // Who asks is answered with the same.
    assert_eq!(test.hear(1, &Frame::WantView { shard: SHARD }), [Frame::View { shard: SHARD, view }]);
}

#[test]
fn members_that_are_no_news_or_of_another_epoch_are_not_taken() {
    let mut test = Test::new(1);
    for (epoch, revision) in [(4, 7), (4, 6), (3, 9), (5, 1)] {
        let view = View { epoch: Epoch(epoch), revision: Revision(revision), ..test.view() };
        assert_eq!(test.hear(1, &Frame::View { shard: SHARD, view }), []);
        assert_eq!(test.given(1), [""; 0]);
    }
}

#[test]
fn connection_begins_with_the_hello_of_each_replica() {
    let mut test = Test::new(2);
    let greeting = |shard| Greeting { shard: ShardId(shard), epoch: OWN.0, hello: "hello 2".into() };
    let sent = test.sent(1, vec![super::Input::PeerUp { node: OTHER }]);
    assert_eq!(sent, [Frame::Greet { greetings: vec![greeting(1), greeting(2)], wants: true }]);
    test.hear(1, &greet(4));
    assert_eq!(test.given(1), ["tick", "connected 2 b\"h\""]);
}

#[test]
fn part_goes_where_its_replica_says() {
    let mut test = Test::new(1);
    test.script(1).route = Route::To(OTHER);
    assert_eq!(test.sent(1, vec![put()]), [], "the way to it does not stand");
    let sent = test.sent(1, vec![super::Input::PeerUp { node: OTHER }]);
    assert!(matches!(&sent[..], [Frame::Greet { .. }]), "{sent:?}");
    let sent = test.sent(100_000, vec![]);
    assert!(matches!(&sent[..], [Frame::Forward { shard: SHARD, .. }]), "{sent:?}");
    test.given(1);
    test.script(1).route = Route::Here;
    assert_eq!(test.sent(1, vec![put(), get(Level::Local)]), []);
    assert_eq!(test.given(1), ["tick", "read local", "propose 1"]);
}

#[test]
fn part_that_nobody_serves_is_told_why() {
    let mut test = Test::new(1);
    test.script(1).route = Route::Nobody("its members are on holiday");
    assert_eq!(test.sent(1, vec![put()]), []);
    test.now += 2_000_000;
    let answers: Vec<String> = test
        .turn(vec![])
        .iter()
        .filter_map(|work| match work {
            Work::Answer { client: 9, result: Err(error @ Error::Unavailable(_)) } => Some(error.to_string()),
            _ => None,
        })
        .collect();
    assert!(matches!(&answers[..], [why] if why.contains("on holiday")), "{answers:?}");
}

#[test]
fn read_that_was_turned_away_wants_what_every_replica_trusts() {
    let mut test = Test::new(1);
    test.script(1).refuses = true;
    test.sent(1, vec![get(Level::Local)]);
    test.sent(1_000, vec![]);
    test.sent(100_000, vec![]);
    let asked = std::mem::take(&mut test.script(1).asked);
    let reads: Vec<Level> =
        asked.into_iter().filter(|(class, _)| *class == Class::Read).map(|(_, level)| level).collect();
    assert_eq!(reads, [Level::Local, Level::Linearizable]);
    assert!(test.given(1).contains(&"read local".to_string()), "at the level that was asked for");
}

#[test]
fn forwarded_part_is_turned_away_where_it_is_not_served() {
    let mut test = Test::new(1);
    test.script(1).route = Route::To(NodeId(3));
    let op = kv::Stamped { id: None, op: Op::Delete { key: "k".into(), previous: false } }.encode();
    let forward =
        Frame::Forward { token: 5, shard: SHARD, level: Level::Linearizable, millis: 100, again: false, op };
    let wrong = Frame::Answer { token: 5, shard: SHARD, result: Err(Error::WrongNode { try_next: None }) };
    assert_eq!(test.hear(1, &forward), [wrong]);
    assert_eq!(test.given(1), [""; 0]);
    test.script(1).route = Route::Here;
    assert_eq!(test.hear(1, &forward), []);
    assert_eq!(test.given(1), ["tick", "propose 1"]);
}

#[test]
fn time_of_clients_is_not_behind_a_shard_that_is_ahead_of_all_clocks() {
    let mut test = Test::new(2);
    let clock = test.driver.clock_micros();
    assert_eq!(test.driver.clients_micros(), clock);
    let ahead = Version::end_of(clock + 1_000_000_000);
    let Driver { node, core, .. } = &mut test.driver;
    let at = kv::Position::new(1, 1);
    core.output(node, SHARD, Output::Apply { at, entry: Bytes::new(), tokens: vec![], copies: 1 });
    core.applied(node, SHARD, at.index, ahead, vec![]);
    assert_eq!((test.driver.clock_micros(), test.driver.clients_micros()), (clock, ahead.micros()));
}
