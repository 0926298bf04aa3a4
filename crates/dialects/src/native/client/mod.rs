//! The client of the dialect `native`.
//!
//! It is given any addresses of a cluster and connects when first asked. From Cluster.Status it learns which node leads
//! which shard and sends each request where its (first) key is led; requests without one key, and reads that may be stale
//! (`local`, `bounded`: what the node at hand has), go to the first given address that answers. Whatever the map says, any
//! node answers for any key, so a stale map costs a hop and no more; it is learned again when an answer shows it wrong. Nodes
//! come and go: the given addresses are where it begins, and from then on it knows the nodes that the map names.
//!
//! A write gets a request id, and what failed without a definite answer is asked again under it: at the node that was
//! named, at the others, then after a growing pause, until the request's timeout. The id makes that happen once. Reads are
//! repeated freely. In the end the caller has an answer, a failure (no attempt can have been run) or
//! [`kv::Error::InDoubt`] (one may have been).
//!
//! # One cluster
//!
//! An address says little: it is given to other nodes in time, and 127.0.0.1 is another machine's on each. So a client asks
//! one cluster only, the one whose id the first given node told. Every connection begins with the question which cluster is
//! there, and every request carries the id, because what forwards connections may lead them elsewhere; a node of another
//! cluster refuses it. Such a node counts as unreachable, and the error that is told in the end names it. At its first request
//! a client asks all given nodes, and refuses everything when they are of different clusters. A cluster that was wiped and made
//! anew at the same addresses is another one: make a new client.
//!
//! # Caveats
//!
//! A client belongs to the tokio runtime it was made on: its connections end with it. What is retried and gives up at last
//! is told as one error, of the last attempt; the addresses that were tried stand in it. In doubt is final: the request id
//! is used up, so read before writing again.

mod admin;
mod attempt;
mod batch;
mod call;
mod fault;
mod node;
mod ours;
mod session;
mod topology;
mod watch;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use kv::admin::{Admin, Answer, Answered, Ask};
use kv::cluster::{Location, PEER_VERSION, Status, Terms};
use kv::fault::{Fault, Faults};
use kv::watch::{Watch, Watcher, Watching};
use kv::{ClusterId, Completions, Error, Key, KeyValue, Reply, Request};
use tokio::runtime::Handle;

use call::Call;
use node::{Link, Node};
use session::Sessions;
use topology::Topology;

/// How a client connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Connections to each node, used in turn. One is right but for load generators. At least 1.
    pub connections: usize,
    /// How long to wait for a connection before another address is tried.
    pub connect_timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options { connections: 1, connect_timeout: Duration::from_secs(1) }
    }
}

/// How long a question about the cluster may take at one node before the next is asked.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(1);

/// A client of a cluster. Clones share its connections and sessions.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What the requests of a client have in common.
struct Shared {
    runtime: Handle,
    topology: Arc<Topology>,
    sessions: Arc<Sessions>,
}

impl Client {
    /// A client of the cluster that has these addresses (HOST:PORT each, the nearest first). Connects when first asked.
    /// Must be called on a tokio runtime; [`Error::Invalid`] elsewhere, or when an address is none.
    pub fn connect(addresses: Vec<String>, options: Options) -> Result<Client, Error> {
        let runtime = Handle::try_current()
            .map_err(|_| Error::Invalid("connect outside of a tokio runtime: enter one before".into()))?;
        let topology = Arc::new(Topology::new(addresses, options, runtime.clone())?);
        let sessions = Arc::new(Sessions::default());
        Ok(Client { shared: Arc::new(Shared { runtime, topology, sessions }) })
    }

    /// Asks one request.
    pub async fn call(&self, request: Request) -> Result<Reply, Error> {
        Call::new(&self.shared, request, None)?.run().await
    }

    /// Asks one request whose value is to expire so long after a node accepted it, by the cluster's clock: the `ttl`
    /// (at least a millisecond, rounded up to whole ones) takes the place of the op's deadline. [`Error::Invalid`] when the op
    /// has none: it is for put, insert, compare-and-put and expire.
    pub async fn call_with_ttl(&self, request: Request, ttl: Duration) -> Result<Reply, Error> {
        Call::new(&self.shared, request, Some(ttl))?.run().await
    }

    /// The cluster as the first node that answers sees it.
    pub async fn status(&self) -> Result<Status, Error> {
        self.shared.topology.ask_any(|link| async move { link.status().await }).await.map(|told| told.status)
    }

    /// The id of the cluster, which is the same for the client's whole life: of the first given node that ever answered.
    pub async fn cluster(&self) -> Result<ClusterId, Error> {
        let topology = &self.shared.topology;
        match topology.cluster() {
            Some(cluster) => topology.check_given().map(|()| cluster),
            None => {
                topology.ask_any(|link| async move { link.status().await }).await.map(|told| told.cluster)
            }
        }
    }

    /// What the nodes of the cluster have in common, for a node that wants to be one of them. [`Error::Invalid`] when they are
    /// of another version than this client, so that it cannot be.
    pub async fn terms(&self) -> Result<Terms, Error> {
        let told = self.shared.topology.ask_any(|link| async move { link.status().await }).await?;
        told.terms.filter(|_| told.peer_version == PEER_VERSION).ok_or_else(|| {
            Error::Invalid(format!(
                "the nodes of cluster {} say version {} to each other, and this capstan says version {PEER_VERSION}: take the \
                 version of capstan that they run",
                told.cluster, told.peer_version
            ))
        })
    }

    /// Where a key of a keyspace is, as the first node that answers sees it.
    pub async fn locate(&self, keyspace: &str, key: Key) -> Result<Location, Error> {
        super::cluster::check_key(&key)?;
        self.shared
            .topology
            .ask_any(|link| {
                let (keyspace, key) = (keyspace.to_owned(), key.clone());
                async move { link.locate(keyspace, key).await }
            })
            .await
    }

    /// Asks the cluster's directory one thing, at any node, until there is an answer or the time is over.
    pub async fn administer(&self, ask: &Ask, timeout: Duration) -> Result<Answer, Error> {
        admin::administer(&self.shared, ask, timeout).await
    }

    /// Puts a fault on the node at this address, or takes it off, and says which are in force then; `None` = says that only. No
    /// other node is asked. It may be asked again whatever became of it.
    pub async fn fault(
        &self,
        address: &str,
        fault: Option<Fault>,
        timeout: Duration,
    ) -> Result<Faults, Error> {
        fault::put(&self.shared, address, fault, timeout).await
    }

    /// Whether any node wants requests (grpc.health.v1), the nearest asked first; [`Error::Unavailable`] when none does.
    pub async fn health_check(&self) -> Result<(), Error> {
        self.shared.topology.ask_any(|link| async move { link.check().await }).await
    }
}

impl KeyValue for Client {
    /// Several requests travel in one message for each node that leads keys of theirs.
    fn submit(&self, requests: Vec<Request>, mut completions: Box<dyn Completions>) {
        if requests.len() > 1 {
            return batch::submit(&self.shared, requests, completions);
        }
        let client = self.clone();
        self.shared.runtime.spawn(async move {
            for request in requests {
                completions.complete(0, client.call(request).await);
            }
        });
    }
}

impl Watch for Client {
    /// A node that fails is left for another one, from where the watch was: whoever watches does not notice.
    fn watch(&self, asked: Watching) -> Box<dyn Watcher> {
        Box::new(watch::Watcher::begin(&self.shared, asked))
    }
}

impl Admin for Client {
    fn administer(&self, ask: Ask, timeout: Duration, answer: Answered) {
        let client = self.clone();
        self.shared.runtime.spawn(async move { answer(client.administer(&ask, timeout).await) });
    }
}

/// A random number: a hash under the random keys that the standard library draws for each hasher.
fn random() -> u64 {
    RandomState::new().hash_one(())
}
