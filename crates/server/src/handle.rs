//! What the dialects see of a node: the waist.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use kv::cluster::{Cluster, Location, Status};
use kv::{Charge, ClusterId, Completions, Error, Key, KeyValue, Reply, Request, Slot, TIMEOUT_MILLIS_MAX};
use node::Part;
use node::route::{Plan, ShardMap};
use tokio::sync::watch;

use crate::inbox::{Inbox, Message, Sink};

/// A node, to those who ask it.
pub(crate) struct Handle {
    inbox: Arc<Inbox>,
    map: ShardMap,
    view: Arc<View>,
    membership: Membership,
}

/// Which cluster the node belongs to, once it knows.
pub(crate) struct Membership {
    pub cluster: watch::Receiver<Option<ClusterId>>,
    /// What it does until then.
    pub waits: String,
}

/// What the driver shows of itself after its turns.
#[derive(Default)]
pub(crate) struct View {
    pub status: Mutex<Status>,
    pub clock: AtomicU64,
}

impl Handle {
    pub fn new(inbox: Arc<Inbox>, map: ShardMap, view: Arc<View>, membership: Membership) -> Handle {
        Handle { inbox, map, view, membership }
    }

    /// The version clock, in microseconds since 1970.
    pub fn clock(&self) -> u64 {
        self.view.clock.load(Ordering::Relaxed)
    }

    fn ask(&self, request: Request, charge: Charge, answer: Sink) {
        if request.keyspace != Request::KEYSPACE {
            return answer(Err(Error::NoKeyspace(request.keyspace)));
        }
        let timeout_micros = (request.timeout.as_micros() as u64).min(TIMEOUT_MILLIS_MAX * 1000);
        let mut plan = match Plan::new(&self.map, request.op) {
            Ok(plan) => plan,
            Err(error) => return answer(Err(error)),
        };
        tracing::trace!("a request has become parts");
        let (level, id) = (request.level, request.id);
        let ask = |shard, op, sink| {
            let part = Part { shard, op, level, id, timeout_micros, charge: charge.clone() };
            self.inbox.push(Message::Ask { part, sink });
        };
        if let Some((shard, op)) = plan.take_single() {
            return ask(shard, op, answer);
        }
        let parts = plan.parts.clone();
        let gather = Arc::new(Mutex::new(Gather::new(plan, answer)));
        for (index, (shard, op)) in parts.into_iter().enumerate() {
            let gather = gather.clone();
            ask(shard, op, Box::new(move |result| Gather::put(&gather, index, result)));
        }
    }
}

impl KeyValue for Handle {
    fn submit(&self, mut requests: Vec<Request>, mut completions: Box<dyn Completions>) {
        let charge = completions.charge();
        if requests.len() == 1 {
            let request = requests.remove(0);
            return self.ask(request, charge, Box::new(move |result| completions.complete(0, result)));
        }
        let completions = Arc::new(Mutex::new(completions));
        for (index, request) in requests.into_iter().enumerate() {
            let completions = completions.clone();
            let complete = move |result| {
                completions.lock().expect("no completion panics").complete(index, result);
            };
            self.ask(request, charge.clone(), Box::new(complete));
        }
    }
}

impl Cluster for Handle {
    fn id(&self) -> Result<ClusterId, Error> {
        let known = *self.membership.cluster.borrow();
        known.ok_or_else(|| Error::Unavailable(self.membership.waits.clone()))
    }

    fn status(&self) -> Status {
        self.view.status.lock().expect("no holder of the status panics").clone()
    }

    fn locate(&self, key: &Key) -> Location {
        let shard = self.map.shard_of(key);
        let status = self.status();
        let leader = status.shards.iter().find(|known| known.id == shard).and_then(|known| known.leader);
        let address = status.nodes.into_iter().find(|node| Some(node.id) == leader).map(|node| node.address);
        Location { slot: Slot::of(key), shard, leader, address }
    }
}

/// Collects the results of a request's parts.
struct Gather {
    plan: Option<Plan>,
    results: Vec<Option<Result<Reply, Error>>>,
    answer: Option<Sink>,
}

impl Gather {
    fn new(plan: Plan, answer: Sink) -> Gather {
        Gather { results: vec![None; plan.parts.len()], plan: Some(plan), answer: Some(answer) }
    }

    fn put(gather: &Mutex<Gather>, index: usize, result: Result<Reply, Error>) {
        let mut inner = gather.lock().expect("no gathering panics");
        inner.results[index] = Some(result);
        if inner.results.iter().any(Option::is_none) {
            return;
        }
        let results = inner.results.drain(..).flatten().collect();
        let (plan, answer) = (inner.plan.take(), inner.answer.take());
        drop(inner);
        if let (Some(plan), Some(answer)) = (plan, answer) {
            answer(plan.merge(results));
        }
    }
}
