//! A shard of protocol `single` moves from one node to another while clients write, whoever crashes meanwhile.

mod returns;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use kv::admin::{self, Ask};
use kv::cluster::{NodeDuty, Role};
use kv::view::{Member, Revision};
use kv::{
    Answer, ClusterId, Epoch, Function, NodeId, Op, Protocol, ReplicaId, RequestId, ShardId, Side, Version,
};
use node::Input;
use node::wire::Announced;
use placement::Event;
use placement::map::{Change, DEFAULT, Map, Phase, Why};

use crate::cluster::Cluster;
use crate::maps::founding;

const SHARD: ShardId = ShardId(1);
/// It has the shard at first, is to have it, and has nothing to do with it.
const OWNER: NodeId = NodeId(1);
const HEIR: NodeId = NodeId(2);
const OTHER: NodeId = NodeId(3);
/// Its rows are of no use: a kind of record, as the log has it.
const KIND_GONE: u8 = 3;
/// A minute: a copy may begin several times.
const STEPS_MAX: usize = 2400;
/// So often all nodes make a checkpoint.
const CHECKPOINT_STEPS: usize = 3;
/// Each writer writes so often once nothing moves any more.
const WRITES_AFTER: u64 = 5;

/// Clients that write, each to its own key, one write after the other, and what the directory does.
struct Run {
    cluster: Cluster,
    writers: Vec<Writer>,
    /// All versions that were answered.
    versions: BTreeSet<Version>,
    /// Somebody crashes in it: writes may be in doubt.
    crashes: bool,
    /// Each writer writes so often.
    writes: u64,
    steps: usize,
    has_checkpoints: bool,
}

struct Writer {
    number: u64,
    node: NodeId,
    /// The write that it is at, and its name while it is asked; how long it has waited for an answer.
    at: u64,
    asked: Option<u64>,
    waited: usize,
    last: Version,
    epoch: Epoch,
}

impl Run {
    fn new() -> Run {
        let mut map = founding(3, 1, 1);
        // The test is the directory: nobody has to be elected for it.
        let directory = map.shards.get_mut(&ShardId::DIRECTORY).unwrap();
        (directory.members, directory.leader) = (vec![directory.members[2]], OTHER);
        let row = map.shards.get_mut(&SHARD).unwrap();
        (row.protocol, row.members[0].node, row.leader) = (Protocol::Single, OWNER, OWNER);
        map.keyspaces.get_mut(DEFAULT).unwrap().protocol = Protocol::Single;
        let mut cluster = Cluster::of_map(&[1; 3], map);
        cluster.trims = true;
        let writer = |(number, node)| Writer {
            number,
            node,
            at: 1,
            asked: None,
            waited: 0,
            last: Version::ZERO,
            epoch: Epoch(1),
        };
        let writers = (1..).zip([OWNER, HEIR, OTHER]).map(writer).collect();
        Run {
            cluster,
            writers,
            versions: BTreeSet::new(),
            crashes: false,
            writes: u64::MAX,
            steps: 0,
            has_checkpoints: true,
        }
    }

    /// The directory decides something: one node hears of it, and all others by and by.
    fn decide(&mut self, change: impl FnOnce(&mut Map)) {
        let mut map = Map::clone(&self.cluster.map);
        let revision = map.revision;
        change(&mut map);
        map.revision = revision + 1;
        let map = Arc::new(map);
        self.cluster.map = map.clone();
        self.cluster.input(OTHER, Input::Map(map));
    }

    fn happen(&mut self, event: Event) {
        self.decide(|map| *map = map.apply(&event).unwrap());
    }

    /// The shard is to go to a node.
    fn begin_move(&mut self, to: NodeId) {
        self.decide(|map| {
            let row = map.shards.get_mut(&SHARD).unwrap();
            let member = Member { node: to, replica: row.next_replica, ..row.members[0] };
            row.next_replica = ReplicaId(member.replica.0 + 1);
            let epoch = Epoch(row.epoch.0 + 1);
            let change = Change { to: vec![member], epoch, phase: Phase::Copy, why: Why::Balance };
            map.changes.insert(SHARD, change);
        });
    }

    /// The directory goes by what nodes announce.
    fn direct(&mut self) {
        let map = self.cluster.map.clone();
        let knows = self.cluster.nodes[&OTHER].driver().status(Vec::new()).revision;
        if knows < map.revision {
            // It has crashed before it was in its log. The directory has it.
            self.cluster.input(OTHER, Input::Map(map.clone()));
        }
        let Some(change) = map.changes.get(&SHARD) else { return };
        let announced = self.announced();
        let has_heir = announced.iter().any(|replica| replica.heirs.contains(&change.to[0].node));
        if change.phase == Phase::Copy && has_heir {
            self.happen(Event::Progress { shard: SHARD, phase: Phase::Switch });
        } else if announced.iter().any(|replica| replica.epoch == change.epoch) {
            assert_eq!(change.phase, Phase::Switch, "nobody opens before the change is certain");
            self.happen(Event::Done { shard: SHARD, revision: Revision(1) });
        }
    }

    /// The replicas of the shard.
    fn announced(&self) -> Vec<Announced> {
        let all = self.cluster.nodes.values().flat_map(|node| node.driver().announced());
        all.filter(|replica| replica.shard == SHARD).collect()
    }

    fn step(&mut self) {
        self.steps += 1;
        if self.has_checkpoints && self.steps.is_multiple_of(CHECKPOINT_STEPS) {
            let nodes = [OWNER, HEIR, OTHER].into_iter();
            nodes.for_each(|id| self.cluster.input(id, Input::Checkpoint));
        }
        self.cluster.step();
        self.cluster.stream_snapshots();
        for place in 0..self.writers.len() {
            self.go_on(place);
        }
        self.check_owners();
    }

    /// A writer takes its answer, or asks.
    fn go_on(&mut self, place: usize) {
        let Run { cluster, writers, versions, crashes, writes, .. } = self;
        let writer = &mut writers[place];
        writer.waited += 1;
        let answer = writer.asked.and_then(|asked| cluster.answers.remove(&asked));
        match answer {
            Some(Ok(reply)) => {
                let receipt = reply.receipt;
                assert!(receipt.version > writer.last, "versions rise");
                assert!(receipt.epoch >= writer.epoch, "no earlier epoch answers after a later one");
                assert!(versions.insert(receipt.version), "versions are unique");
                (writer.last, writer.epoch, writer.asked) = (receipt.version, receipt.epoch, None);
                writer.at += 1;
            }
            Some(Err(error)) => {
                assert!(*crashes, "a write waits and does not fail: {error}");
                writer.asked = None;
            }
            // Its node has crashed with it.
            None if *crashes && writer.waited > 200 => writer.asked = None,
            None => {}
        }
        if writer.asked.is_none() && writer.at <= *writes {
            writer.waited = 0;
            let value = format!("{},", writer.at).into();
            let function = Function::Append { side: Side::Right, value };
            let op = Op::Update { key: key(writer.number), function };
            let id = RequestId {
                client: writer.number,
                sequence: writer.at,
                valid_until: Version::MAX,
                answered_below: writer.at,
            };
            writer.asked = Some(cluster.ask_with(writer.node, op, Some(id)));
        }
    }

    /// One epoch is served, by one node.
    fn check_owners(&self) {
        let owners = self.announced().into_iter().filter(|replica| replica.role == Role::Leader).count();
        assert!(owners <= 1, "{owners} nodes serve the shard");
    }

    /// Until nothing moves any more and all is written.
    fn finish(&mut self) {
        self.writes = u64::MAX;
        self.run_until(|run| run.cluster.map.changes.is_empty());
        let furthest = self.writers.iter().map(|writer| writer.at).max();
        self.writes = furthest.unwrap() + WRITES_AFTER;
        self.run_until(|run| run.writers.iter().all(|writer| writer.at > run.writes));
        self.cluster.steps(80);
    }

    /// Whether the heir has a copy and follows.
    fn is_followed(&self) -> bool {
        self.announced().iter().any(|replica| replica.heirs.contains(&HEIR))
    }

    /// Until the heir follows, and the directory has not noticed yet.
    fn until_it_follows(&mut self) {
        for _ in 0..STEPS_MAX {
            self.step();
            if self.is_followed() {
                return;
            }
        }
        panic!("the heir gets no copy");
    }

    fn run_until(&mut self, is_so: impl Fn(&Run) -> bool) {
        for _ in 0..STEPS_MAX {
            self.step();
            self.direct();
            if is_so(self) {
                return;
            }
        }
        let at: Vec<u64> = self.writers.iter().map(|writer| writer.at).collect();
        panic!("it does not come to an end: the writers are at {at:?}; {:?}", self.cluster.map.changes);
    }

    /// Every write happened once, and the shard is where it should be.
    fn check(&mut self, owner: NodeId) {
        let all: String = (1..=self.writes).map(|number| format!("{number},")).collect();
        for (number, node) in (1..).zip([OWNER, HEIR, OTHER]) {
            let reply = self.cluster.call(node, Op::Get { key: key(number), at: None }).unwrap();
            let Answer::Row(Some(row)) = reply.answer else { panic!("what was written is there") };
            assert_eq!(row.value, all);
            assert_eq!(reply.receipt.node, owner);
            assert_eq!(reply.receipt.epoch, self.cluster.map.shards[&SHARD].epoch);
        }
        assert_eq!(self.replicas(), [owner]);
    }

    fn replicas(&self) -> Vec<NodeId> {
        let has = |id: &NodeId| self.cluster.nodes[id].driver().replica_status(SHARD).is_some();
        self.cluster.nodes.keys().copied().filter(has).collect()
    }
}

fn key(writer: u64) -> bytes::Bytes {
    format!("w{writer}").into()
}

#[test]
fn shard_moves_while_clients_write_and_they_only_wait() {
    let mut run = Run::new();
    (0..20).for_each(|_| run.step());
    run.begin_move(HEIR);
    run.finish();
    run.check(HEIR);
    assert_eq!(run.cluster.map.shards[&SHARD].epoch, Epoch(2));
}

#[test]
fn shard_moves_back_to_where_it_was() {
    let mut run = Run::new();
    (0..20).for_each(|_| run.step());
    for (to, epoch) in [(HEIR, 2), (OWNER, 3), (OTHER, 4), (HEIR, 5)] {
        run.begin_move(to);
        run.finish();
        run.check(to);
        assert_eq!(run.cluster.map.shards[&SHARD].epoch, Epoch(epoch));
    }
}

/// The turns of nodes in which a move begins and is over.
fn turns_of_a_move() -> Range<usize> {
    let mut run = Run::new();
    (0..20).for_each(|_| run.step());
    let begin = run.cluster.turns;
    run.begin_move(HEIR);
    run.run_until(|run| run.cluster.map.changes.is_empty());
    begin..run.cluster.turns
}

/// Nodes crash after so many turns, in every place of a move; `TURNS=1` tries each turn, without it is every so many.
fn crash_in_every_place(nodes: &[NodeId]) {
    let every = std::env::var("TURNS").map_or(7, |every| every.parse().unwrap());
    let places = turns_of_a_move();
    for turns in places.step_by(every) {
        let done = std::panic::catch_unwind(|| {
            let mut run = Run::new();
            run.crashes = true;
            run.cluster.crash = Some((turns, nodes.to_vec()));
            (0..20).for_each(|_| run.step());
            run.begin_move(HEIR);
            run.finish();
            run.check(HEIR);
        });
        assert!(done.is_ok(), "a crash of {nodes:?} after {turns} turns");
    }
}

#[test]
fn crash_of_the_owner_at_any_point_of_a_move_loses_nothing() {
    crash_in_every_place(&[OWNER]);
}

#[test]
fn crash_of_the_heir_at_any_point_of_a_move_loses_nothing() {
    crash_in_every_place(&[HEIR]);
}

#[test]
fn crash_of_all_at_any_point_of_a_move_loses_nothing() {
    crash_in_every_place(&[OWNER, HEIR, OTHER]);
}

/// How many steps a move takes, and twenty before it.
const MOVE_STEPS: usize = 120;

#[test]
fn heir_that_is_cut_off_at_any_point_of_a_move_goes_on_later() {
    for begin in (0..MOVE_STEPS).step_by(11) {
        let mut run = Run::new();
        // A write that is forwarded when the connection breaks is in doubt, and tried again by its node.
        run.begin_move(HEIR);
        for step in 0..MOVE_STEPS + 80 {
            if step == begin {
                run.cluster.cut(HEIR);
            } else if step == begin + 60 {
                run.cluster.mend(HEIR);
            }
            run.crashes = true;
            run.step();
            run.direct();
        }
        run.finish();
        run.check(HEIR);
    }
}

#[test]
fn checkpoint_while_the_heir_opens_keeps_what_it_is() {
    let mut run = Run::new();
    (0..20).for_each(|_| run.step());
    run.begin_move(HEIR);
    run.run_until(|run| run.announced().iter().any(|replica| replica.epoch == Epoch(2)));
    let opened = run.cluster.turns;
    for turns in opened - 20..opened {
        let mut run = Run::new();
        (run.crashes, run.has_checkpoints) = (true, false);
        run.cluster.checkpoint = Some((turns, HEIR));
        (0..20).for_each(|_| run.step());
        run.begin_move(HEIR);
        run.run_until(|run| run.announced().iter().any(|replica| replica.epoch == Epoch(2)));
        run.cluster.crash(HEIR);
        run.finish();
        run.check(HEIR);
    }
}

#[test]
fn heir_opens_only_when_the_log_says_what_it_is() {
    let mut run = Run::new();
    run.has_checkpoints = false;
    run.begin_move(HEIR);
    run.until_it_follows();
    run.cluster.slow.push(HEIR);
    let is_sealed = |run: &Run| run.announced().iter().all(|replica| replica.role != Role::Leader);
    run.run_until(is_sealed);
    for _ in 0..40 {
        run.step();
        assert!(is_sealed(&run), "a crash of the heir would make it none");
    }
    run.cluster.quicken();
    run.finish();
    run.check(HEIR);
}

#[test]
fn checkpoint_keeps_that_the_rows_of_an_heir_are_of_no_use() {
    let mut run = Run::new();
    run.begin_move(HEIR);
    run.until_it_follows();
    let kinds = |run: &Run| -> Vec<u8> {
        let log = run.cluster.nodes[&HEIR].log.iter();
        log.filter(|record| record.stream == SHARD.0).map(|record| record.kind).collect()
    };
    (0..2 * CHECKPOINT_STEPS).for_each(|_| run.step());
    assert!(kinds(&run).contains(&KIND_GONE), "{:?}", kinds(&run));
}

#[test]
fn directory_has_a_shard_handed_over_when_its_node_is_drained() {
    let mut run = Run::new();
    run.has_checkpoints = false;
    for id in [OWNER, HEIR, OTHER] {
        run.cluster.input(id, Input::Cluster(ClusterId::new(7).unwrap()));
    }
    let drain = Ask::Node { name: "n1".into(), duty: NodeDuty::Drain, fewer: false, dry_run: false };
    run.cluster.input(OTHER, Input::Administer { client: 1, ask: drain, timeout_micros: 10_000_000 });
    let row = |run: &Run| {
        let status = run.cluster.nodes[&OTHER].driver().status(Vec::new());
        status.shards.iter().find(|shard| shard.id == SHARD).map(|shard| (shard.members[0].node, shard.epoch))
    };
    (0..STEPS_MAX).find(|_| {
        run.step();
        row(&run).is_some_and(|(node, epoch)| node != OWNER && epoch == Epoch(2))
    });
    assert_eq!(run.cluster.administered[&1], Ok(admin::Answer::Done));
    let (node, epoch) = row(&run).unwrap();
    assert_eq!((node != OWNER, epoch), (true, Epoch(2)), "{:?}", run.announced());
    (0..80).for_each(|_| run.step());
    assert_eq!(run.replicas(), [node]);
    assert!(run.writers.iter().all(|writer| writer.epoch == Epoch(2)), "all writers have found it");
}

#[test]
fn move_that_is_given_up_leaves_nothing_and_a_later_one_succeeds() {
    let mut run = Run::new();
    run.begin_move(HEIR);
    run.until_it_follows();
    run.happen(Event::Abort { shard: SHARD });
    (0..100).for_each(|_| run.step());
    assert!(!run.is_followed(), "nothing is kept for it any more");
    assert!(!run.cluster.nodes[&HEIR].executor().table().is_loaded(SHARD), "its rows are of no use");
    run.begin_move(HEIR);
    run.finish();
    run.check(HEIR);
}
