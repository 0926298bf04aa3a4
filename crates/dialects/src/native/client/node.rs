//! One node of the cluster, and the connections to it.
//!
//! A connection is made when it is first needed, by one task for all that wait for it, and is forgotten when a request on
//! it fails in the transport, or when the node closed it. So a failure to connect is known as such: the request has not left.
//! It is used only when the node has said that it is of the client's cluster.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use kv::{ClusterId, Error};
use tokio::runtime::Handle;

use super::Options;
use super::attempt::Failure;
use super::ours::Ours;
use crate::grpc;
use crate::native::cluster_id;

/// After a failure in the transport others are preferred for so long.
const AVOID: Duration = Duration::from_millis(500);
/// One node, by its address.
pub(super) struct Node {
    pub(super) address: String,
    place: grpc::Address,
    connect_timeout: Duration,
    runtime: Handle,
    connections: Vec<Connection>,
    turn: AtomicUsize,
    born: Instant,
    /// Milliseconds since `born`; 0 = it never failed.
    avoid_until: AtomicU64,
    /// It failed, and has not been reached since.
    lost: AtomicBool,
    ours: Arc<Ours>,
    /// The number of the other cluster that was last found there; 0 = it is of ours, or was never asked.
    stranger: AtomicU64,
}

/// A connection, when it is open.
#[derive(Default)]
struct Connection {
    open: RwLock<Option<Open>>,
    /// Held by whoever connects. The time and kind of the last failure: those who waited meanwhile share it.
    connecting: tokio::sync::Mutex<Option<(Instant, Failure)>>,
}

#[derive(Clone)]
struct Open {
    /// Its requests say which cluster they are for.
    connection: grpc::Connection,
    /// Tells this connection from those before it.
    serial: u64,
}

/// A connection in use.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) node: Arc<Node>,
    pub(super) connection: grpc::Connection,
    index: usize,
    serial: u64,
}

impl Node {
    /// The node at an address. [`Error::Invalid`] when that is none.
    pub(super) fn new(
        address: &str,
        options: &Options,
        ours: &Arc<Ours>,
        runtime: Handle,
    ) -> Result<Node, Error> {
        Ok(Node {
            address: address.into(),
            place: grpc::Address::new(address)?,
            connect_timeout: options.connect_timeout,
            runtime,
            connections: (0..options.connections.max(1)).map(|_| Connection::default()).collect(),
            turn: AtomicUsize::new(0),
            born: Instant::now(),
            avoid_until: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            ours: ours.clone(),
            stranger: AtomicU64::new(0),
        })
    }

    /// The other cluster that was last found there.
    pub(super) fn other_cluster(&self) -> Option<ClusterId> {
        ClusterId::new(self.stranger.load(Ordering::Relaxed))
    }

    /// Whether it failed lately, so that others are preferred.
    pub(super) fn is_avoided(&self) -> bool {
        let until = self.avoid_until.load(Ordering::Relaxed);
        until > 0 && self.millis() < until
    }

    /// Whether it failed, however long ago, and has not been reached since.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// A connection to it: an open one, or a new one. The failure tells why there is none; nothing was asked then.
    pub(super) async fn link(self: &Arc<Node>) -> Result<Link, Failure> {
        let index = self.turn();
        match self.at_hand(index) {
            Some(link) => Ok(link),
            None => Box::pin(self.connect(index)).await,
        }
    }

    /// Which of its connections is next.
    pub(super) fn turn(&self) -> usize {
        match self.connections.len() {
            1 => 0,
            count => self.turn.fetch_add(1, Ordering::Relaxed) % count,
        }
    }

    /// A connection, if it is open.
    pub(super) fn at_hand(self: &Arc<Node>, index: usize) -> Option<Link> {
        let open = self.connections[index].open()?;
        Some(self.over(open, index))
    }

    /// A new connection, unless somebody else has just made it.
    pub(super) async fn connect(self: &Arc<Node>, index: usize) -> Result<Link, Failure> {
        let asked = Instant::now();
        let connection = &self.connections[index];
        let mut last = connection.connecting.lock().await;
        if let Some(link) = self.at_hand(index) {
            return Ok(link);
        }
        if let Some((_, failure)) = last.as_ref().filter(|(when, _)| *when > asked) {
            return Err(failure.clone());
        }
        match self.open(index).await {
            Ok(open) => {
                *connection.open.write().expect("no holder of the lock panics") = Some(open.clone());
                Ok(self.over(open, index))
            }
            Err(failure) => {
                *last = Some((Instant::now(), failure.clone()));
                self.avoid();
                Err(failure)
            }
        }
    }

    fn over(self: &Arc<Node>, open: Open, index: usize) -> Link {
        let Open { connection, serial } = open;
        Link { node: self.clone(), connection, index, serial }
    }

    /// Connects, and asks which cluster is there.
    async fn open(self: &Arc<Node>, index: usize) -> Result<Open, Failure> {
        let connection = self.dial().await.map_err(Failure::unsent)?;
        let serial = super::random();
        let link = Link { node: self.clone(), connection, index, serial };
        let told = match tokio::time::timeout(self.connect_timeout, link.status()).await {
            Ok(told) => told.map_err(|failure| Failure { may_have_run: false, ..failure })?,
            Err(_) => {
                let (address, limit) = (&self.address, self.connect_timeout);
                return Err(Failure::unsent(format!("{address} does not tell its cluster within {limit:?}")));
            }
        };
        if self.ours.meet(told.cluster) != told.cluster {
            return Err(self.stranger(told.cluster));
        }
        self.stranger.store(0, Ordering::Relaxed);
        self.lost.store(false, Ordering::Relaxed);
        let (name, value) = cluster_id::header(told.cluster);
        Ok(Open { connection: link.connection.with_header(name, value), serial })
    }

    /// What it comes to that a node of another cluster is there: nothing was run.
    pub(super) fn stranger(&self, theirs: ClusterId) -> Failure {
        self.stranger.store(theirs.get(), Ordering::Relaxed);
        let ours = self.ours.id().map_or_else(String::new, |id| id.to_string());
        Failure::unsent(format!(
            "{} is a node of cluster {theirs}, and this client asks cluster {ours}: if that one was made anew, connect anew; if \
             not, a node of it announces an address that is not its own (see --advertise)",
            self.address
        ))
    }

    async fn dial(&self) -> Result<grpc::Connection, String> {
        let (place, limit) = (self.place.clone(), self.connect_timeout);
        // On the client's own runtime: the connection outlives the request that made it.
        let dial = self.runtime.spawn(async move { grpc::Connection::open(&place, limit).await });
        match dial.await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(why)) => Err(format!("cannot connect to {}: {why}", self.address)),
            Err(_) => Err("the client's tokio runtime has ended: keep it as long as the client".into()),
        }
    }

    fn avoid(&self) {
        self.lost.store(true, Ordering::Relaxed);
        self.avoid_until.store(self.millis() + AVOID.as_millis() as u64, Ordering::Relaxed);
    }

    fn millis(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }
}

impl Connection {
    fn open(&self) -> Option<Open> {
        let open = self.open.read().expect("no holder of the lock panics");
        open.as_ref().filter(|open| !open.connection.is_closed()).cloned()
    }
}

impl Link {
    /// Gives the connection up: the next request makes a new one, and prefers other nodes meanwhile.
    pub(super) fn broken(&self) {
        let mut open = self.node.connections[self.index].open.write().expect("no holder of the lock panics");
        if open.as_ref().is_some_and(|open| open.serial == self.serial) {
            *open = None;
            self.node.avoid();
        }
    }
}
