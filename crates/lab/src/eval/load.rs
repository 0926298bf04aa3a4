//! Clients at work on the keyspace of a form.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use check::generate::Rng;
use kv::{Key, Level, Op, Request, Slot, Value};
use tokio::task::JoinHandle;

use super::form::Form;
use crate::cluster::{self, Cluster, Led};
use crate::seen::{Came, Kind, Seen};
use crate::{Error, Pinned};

/// How many keys there are: 0 to 100, as the seed had them.
pub const KEYS: u64 = 101;
/// Bytes of a value.
const VALUE_BYTES: usize = 128;
/// How long a request may take: much longer than any does while all is well.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A pause after a failure: a node that refuses at once says nothing new.
const PACE_AFTER_FAILURE: Duration = Duration::from_millis(20);

/// Clients at work.
pub struct Load {
    shared: Rc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the clients have in common.
struct Shared {
    form: Form,
    began: Instant,
    stop: Cell<bool>,
    nodes: Vec<Pinned>,
    shards: Vec<Led>,
    keys: Vec<Key>,
    value: Value,
    seen: RefCell<Vec<Seen>>,
}

impl Load {
    /// Puts every key once and starts so many clients. Must be called within a set of local tasks.
    pub async fn start(cluster: &Cluster, form: &Form, clients: usize) -> Result<Load, Error> {
        let shards = cluster.led(form.keyspace).await?;
        let nodes = cluster.nodes().iter().map(|node| Pinned::new(&node.address));
        let shared = Rc::new(Shared {
            form: form.clone(),
            began: Instant::now(),
            stop: Cell::new(false),
            nodes: nodes.collect::<Result<_, _>>()?,
            shards,
            keys: (0..KEYS).map(|number| Key::from(number.to_string().into_bytes())).collect(),
            value: vec![b'v'; VALUE_BYTES].into(),
            seen: RefCell::default(),
        });
        for (turn, key) in shared.keys.iter().enumerate() {
            shared.put(key, turn).await;
        }
        let start = |number| tokio::task::spawn_local(work(shared.clone(), number));
        let tasks = (0..clients).map(start).collect();
        Ok(Load { shared, tasks })
    }

    /// The time since it was started, in microseconds.
    pub fn micros(&self) -> u64 {
        self.shared.micros()
    }

    /// The nodes that lead a shard, by their places.
    pub fn leaders(&self) -> BTreeSet<usize> {
        self.shared.shards.iter().map(|shard| shard.leader).collect()
    }

    /// Stops the clients; all that they saw.
    pub async fn end(self) -> Vec<Seen> {
        self.shared.stop.set(true);
        for task in self.tasks {
            task.await.expect("a client does not panic");
        }
        self.shared.seen.take()
    }
}

/// A client: one request at a time, until it is to stop.
async fn work(shared: Rc<Shared>, number: usize) {
    let mut rng = Rng::new(cluster::random());
    let mut turn = number;
    while !shared.stop.get() {
        let key = &shared.keys[rng.below(KEYS) as usize];
        turn += 1;
        let came = if rng.percent(50) { shared.put(key, turn).await } else { shared.get(key, turn).await };
        if !came.is_done() {
            tokio::time::sleep(PACE_AFTER_FAILURE).await;
        }
    }
}

impl Shared {
    fn micros(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Where nobody leads, each member has its turn.
    async fn put(&self, key: &Key, turn: usize) -> Came {
        let op = Op::Put { key: key.clone(), value: self.value.clone(), deadline: None, previous: false };
        let Led { leader, members, .. } = self.shard(key);
        let node = if self.form.has_leader() { *leader } else { members[turn % members.len()] };
        self.ask(node, key, op, None).await
    }

    /// Each member of the key's shard has its turn.
    async fn get(&self, key: &Key, turn: usize) -> Came {
        let members = &self.shard(key).members;
        let op = Op::Get { key: key.clone(), at: None };
        self.ask(members[turn % members.len()], key, op, Some(self.form.level)).await
    }

    fn shard(&self, key: &Key) -> &Led {
        let slot = Slot::of(key);
        let shard = self.shards.iter().find(|shard| shard.slots.contains(slot));
        shard.expect("the shards have all slots between them")
    }

    async fn ask(&self, node: usize, key: &Key, op: Op, level: Option<Level>) -> Came {
        let keyspace = self.form.keyspace.into();
        let request = Request { keyspace, level, timeout: TIMEOUT, ..Request::new(op) };
        let kind = Kind::of(&request);
        let mut pinned = self.nodes[node].clone();
        let called = self.micros();
        let result = pinned.call(request).await;
        let returned = self.micros();
        let came = Came::of(kind, &result);
        self.seen.borrow_mut().push(Seen { node, kind, key: key.clone(), called, returned, came });
        came
    }
}
