//! Pieces of a cluster for the tests: three nodes, each a member of every shard.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Mutex;
use std::time::Duration;

use kv::admin::{Answer, Ask, Move, Phase, Why};
use kv::cluster::{
    Liveness, Location, NodeDuty, NodeStatus, ReplicaStatus, Role, ShardStatus, Status, Terms,
};
use kv::fault::{Fault, Faults};
use kv::view::View;
use kv::watch::{Watcher, Watching};
use kv::{ClusterId, Epoch, Error, Key, NodeId, Protocol, Reply, Request, ShardId, Slot, SlotRange};

use crate::connect::{Pending, Store};

/// The cluster that every test is of.
pub const CLUSTER: ClusterId = ClusterId(NonZeroU64::new(0xabc).unwrap());

/// The node of this number: alive, and a member of 20 shards.
pub fn node(id: u64) -> NodeStatus {
    NodeStatus {
        id: NodeId(id),
        name: format!("n{id}"),
        address: format!("127.0.0.1:{}", 7400 + id),
        pid: 4240 + id as u32,
        state: Liveness::Alive,
        leads: u32::from(id == 1),
        replicas: 20,
        peer: format!("127.0.0.1:{}", 7420 + id),
        zone: String::new(),
        duty: NodeDuty::Serve,
    }
}

/// The shard of this number, which the first of three nodes leads.
pub fn shard(id: u32) -> ShardStatus {
    let nodes = [1, 2, 3].map(NodeId);
    let role = |node: NodeId| if node == NodeId(1) { Role::Leader } else { Role::Follower };
    ShardStatus {
        id: ShardId(id),
        keyspace: Request::KEYSPACE.into(),
        slots: SlotRange { first: Slot(0), last: Slot(16383) },
        protocol: Protocol::Raft,
        epoch: Epoch(1),
        leader: Some(NodeId(1)),
        term: 3,
        replicas: nodes
            .map(|node| ReplicaStatus { node, role: role(node), applied: 7, lease_reads: 0 })
            .to_vec(),
        members: View::of(Epoch(1), &nodes).members,
    }
}

/// A move of the shard of this number to a fourth node.
pub fn moved(id: u32) -> Move {
    Move {
        shard: ShardId(id),
        keyspace: "default".into(),
        from: Some(NodeId(1)),
        to: Some(NodeId(4)),
        phase: Phase::Copy,
        why: Why::Leaves(NodeId(1)),
        bytes_done: 10 << 20,
        bytes_total: 40 << 20,
        elapsed_micros: 2_000_000,
    }
}

/// A cluster that says what a test has it say: one answer after the other, the last again and again.
pub struct Operated {
    views: Mutex<VecDeque<Status>>,
    answers: Mutex<VecDeque<Result<Answer, Error>>>,
    asked: Mutex<Vec<Ask>>,
    faults: Mutex<Vec<(String, Option<Fault>)>>,
    faulty: Box<Faulty>,
}

/// What the node at an address says to a fault.
type Faulty = dyn Fn(&str, Option<&Fault>) -> Result<Faults, Error> + Send + Sync;

impl Operated {
    /// Of these states, and these answers as an admin. At least one of each.
    pub fn new(
        views: impl IntoIterator<Item = Status>,
        answers: impl IntoIterator<Item = Result<Answer, Error>>,
    ) -> Operated {
        Operated {
            views: Mutex::new(views.into_iter().collect()),
            answers: Mutex::new(answers.into_iter().collect()),
            asked: Mutex::default(),
            faults: Mutex::default(),
            faulty: Box::new(|_, _| Ok(Faults::default())),
        }
    }

    /// With nodes that say this to faults.
    pub fn with_faults(
        self,
        faulty: impl Fn(&str, Option<&Fault>) -> Result<Faults, Error> + Send + Sync + 'static,
    ) -> Operated {
        Operated { faulty: Box::new(faulty), ..self }
    }

    /// Which faults were put where.
    pub fn faults(&self) -> Vec<(String, Option<Fault>)> {
        self.faults.lock().expect("no test panics inside").clone()
    }

    /// What it was asked as an admin.
    pub fn asked(&self) -> Vec<Ask> {
        self.asked.lock().expect("no test panics inside").clone()
    }
}

/// The first, which goes unless it is the only one.
fn next<T: Clone>(list: &Mutex<VecDeque<T>>) -> T {
    let mut list = list.lock().expect("no test panics inside");
    let first = list.front().cloned().expect("a test gives at least one");
    if list.len() > 1 {
        list.pop_front();
    }
    first
}

impl Store for Operated {
    fn call(&self, _: Request, _: Option<Duration>) -> Pending<'_, Reply> {
        unreachable!("no command on the cluster asks for keys")
    }

    fn cluster(&self) -> Pending<'_, ClusterId> {
        Box::pin(async { Ok(CLUSTER) })
    }

    fn terms(&self) -> Pending<'_, Terms> {
        Box::pin(async { Ok(Terms { shards: 1, replicas: 3, history: Some(16), deleted_micros: u64::MAX }) })
    }

    fn status(&self) -> Pending<'_, Status> {
        Box::pin(async { Ok(next(&self.views)) })
    }

    fn locate(&self, _: &str, key: Key) -> Pending<'_, Location> {
        let location = Location { slot: Slot::of(&key), shard: ShardId(1), leader: None, address: None };
        Box::pin(async { Ok(location) })
    }

    fn administer(&self, ask: Ask, _: Duration) -> Pending<'_, Answer> {
        self.asked.lock().expect("no test panics inside").push(ask);
        Box::pin(async { next(&self.answers) })
    }

    fn fault(&self, address: &str, fault: Option<Fault>, _: Duration) -> Pending<'_, Faults> {
        let said = (self.faulty)(address, fault.as_ref());
        self.faults.lock().expect("no test panics inside").push((address.into(), fault));
        Box::pin(async { said })
    }

    fn watch(&self, _: Watching) -> Box<dyn Watcher> {
        unreachable!("no command on the cluster watches keys")
    }

    fn health_check(&self) -> Pending<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}
