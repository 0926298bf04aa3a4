//! The nodes that a client knows, and its map: which of them leads which shard.
//!
//! The map is a hint. It is learned from whichever node answers first, when an answer shows it wrong and once in a while; of two
//! words on one shard that of the higher (epoch, term) stays, and of two lists of nodes that of the higher revision. At most one
//! question is under way, and the next is asked a little later, however many requests find the map wrong.
//!
//! Nodes that join are known with the next map, and nodes that left are forgotten. A node that is dead for others, and a given
//! address that fails and is nobody's in the map, are asked for nothing but the map, and only in turn: whoever said so may be the
//! one that is cut off.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, Instant, SystemTime};

use kv::cluster::{Liveness, ShardStatus, Status};
use kv::{ClusterId, Epoch, Error, NodeId, ShardId, Slot, SlotRange};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::attempt::Failure;
use super::ours::Ours;
use super::{Link, Node, Options, QUESTION_TIMEOUT, random};
use crate::native::cluster::seen::Told;

/// The map is not learned again sooner than this.
const LEARN_INTERVAL: Duration = Duration::from_millis(100);

/// A map that nothing showed wrong is learned again after so long, and up to as much more, so that clients which started together
/// do not ask together: one that is idle while nodes come and go still knows some.
const REFRESH: Duration = Duration::from_secs(30);

/// When one given node has told its cluster, the others have so long to tell theirs: a node that is well takes a hundredth of it.
const GIVEN_WAIT: Duration = Duration::from_millis(250);

/// Nodes, map and clock of the cluster, as known.
pub(super) struct Topology {
    /// In the order in which they were given.
    given: Vec<Arc<Node>>,
    options: Options,
    ours: Arc<Ours>,
    /// The given addresses are of different clusters: why nothing is asked.
    refused: OnceLock<Error>,
    runtime: Handle,
    map: RwLock<Arc<Map>>,
    /// When the map was last learned, or tried to; held while it is.
    learning: Arc<tokio::sync::Mutex<Option<Instant>>>,
    /// Where the next question begins: so that one bad node does not spoil each.
    turn: AtomicUsize,
    /// What the cluster's version clock is ahead of the time since `born`, in microseconds: a wall clock may jump.
    ahead_micros: AtomicI64,
    born: Instant,
    /// How long a map is good when nothing shows it wrong.
    refresh: Duration,
}

/// Nodes and shards at one time.
pub(super) struct Map {
    /// Who may be asked: the given addresses, in their order, and then those that were learned. At least one.
    pub(super) nodes: Vec<Arc<Node>>,
    /// Who may know more, and is asked for the map alone.
    others: Vec<Arc<Node>>,
    /// Of each keyspace, by their slots.
    shards: BTreeMap<String, Vec<Shard>>,
    /// Of the nodes. 0 = no node ever told one.
    revision: u64,
    /// When it was learned; `None` = no status ever came.
    learned: Option<Instant>,
}

#[derive(Clone)]
struct Shard {
    id: ShardId,
    slots: SlotRange,
    epoch: Epoch,
    term: u64,
    leader: Option<(NodeId, Arc<Node>)>,
}

impl Map {
    /// Who leads the shard of a slot of a keyspace, where that is known.
    pub(super) fn leader(&self, keyspace: &str, slot: Slot) -> Option<(NodeId, &Arc<Node>)> {
        let shards = self.shards.get(keyspace)?;
        let index = shards.partition_point(|shard| shard.slots.last < slot);
        let shard = shards.get(index).filter(|shard| shard.slots.contains(slot))?;
        shard.leader.as_ref().map(|(id, node)| (*id, node))
    }

    /// The node at hand: the first that did not fail lately.
    pub(super) fn home(&self) -> &Arc<Node> {
        self.nodes.iter().find(|node| !node.is_avoided()).unwrap_or(&self.nodes[0])
    }

    /// Whether a status ever came.
    pub(super) fn is_known(&self) -> bool {
        self.learned.is_some()
    }

    /// All that are known, those that may be asked first.
    fn everybody(&self) -> Vec<Arc<Node>> {
        self.nodes.iter().chain(&self.others).cloned().collect()
    }

    /// All addresses, for the texts of errors, and where another cluster was found.
    pub(super) fn addresses(&self) -> String {
        let describe = |node: &Arc<Node>| match node.other_cluster() {
            Some(cluster) => format!("{} (a node of another cluster, {cluster})", node.address),
            None => node.address.clone(),
        };
        self.nodes.iter().map(describe).collect::<Vec<_>>().join(", ")
    }

    fn node(&self, address: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().chain(&self.others).find(|node| node.address == address)
    }
}

impl Topology {
    pub(super) fn new(addresses: Vec<String>, options: Options, runtime: Handle) -> Result<Topology, Error> {
        if addresses.is_empty() {
            return Err(Error::Invalid(
                "no address is given: use HOST:PORT of any node of the cluster".into(),
            ));
        }
        let ours = Arc::new(Ours::default());
        let node = |address: &String| Ok(Arc::new(Node::new(address, &options, &ours, runtime.clone())?));
        let nodes: Vec<_> = addresses.iter().map(node).collect::<Result<_, Error>>()?;
        let given = nodes.clone();
        let map = Map { nodes, others: Vec::new(), shards: BTreeMap::new(), revision: 0, learned: None };
        Ok(Topology {
            given,
            options,
            ours,
            refused: OnceLock::new(),
            runtime,
            map: RwLock::new(Arc::new(map)),
            learning: Arc::default(),
            turn: AtomicUsize::new(0),
            ahead_micros: AtomicI64::new(wall_micros()),
            born: Instant::now(),
            refresh: REFRESH + REFRESH.mul_f64((random() % 1024) as f64 / 1024.0),
        })
    }

    /// What is known now.
    pub(super) fn map(&self) -> Arc<Map> {
        self.map.read().expect("no holder of the lock panics").clone()
    }

    /// The node at an address that another node named; `None` when it is no address.
    pub(super) fn named(&self, address: &str) -> Option<Arc<Node>> {
        let known = self.map().node(address).cloned();
        known.or_else(|| self.node(address))
    }

    fn node(&self, address: &str) -> Option<Arc<Node>> {
        Node::new(address, &self.options, &self.ours, self.runtime.clone()).ok().map(Arc::new)
    }

    /// Which cluster is asked, once a node has told it.
    pub(super) fn cluster(&self) -> Option<ClusterId> {
        self.ours.id()
    }

    /// [`Error::Invalid`] when the given addresses were found to be of different clusters.
    pub(super) fn check_given(&self) -> Result<(), Error> {
        self.refused.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Microseconds since 1970 on the cluster's version clock, as well as it is known.
    pub(super) fn now_micros(&self) -> u64 {
        self.age_micros().saturating_add_signed(self.ahead_micros.load(Ordering::Relaxed))
    }

    fn age_micros(&self) -> u64 {
        self.born.elapsed().as_micros() as u64
    }

    /// Learns the map in the background when it is old, or nobody ever told one.
    pub(super) fn refresh_soon(self: &Arc<Topology>, map: &Map) {
        if map.learned.is_none_or(|learned| learned.elapsed() >= self.refresh) {
            self.learn_soon();
        }
    }

    /// Learns the map in the background, unless that is under way or was done just now.
    pub(super) fn learn_soon(self: &Arc<Topology>) {
        let Ok(mut last) = self.learning.clone().try_lock_owned() else { return };
        if last.is_some_and(|last| last.elapsed() < LEARN_INTERVAL) {
            return;
        }
        let topology = self.clone();
        self.runtime.spawn(async move {
            topology.learn().await;
            *last = Some(Instant::now());
        });
    }

    /// Learns the map if it was never learned. When nobody answers it stays unknown.
    pub(super) async fn learn_first(&self) {
        if self.map().is_known() || self.check_given().is_err() {
            return;
        }
        let asked = Instant::now();
        let mut last = self.learning.lock().await;
        if last.is_none_or(|last| last < asked) {
            self.learn().await;
            *last = Some(Instant::now());
        }
    }

    /// Asks the nodes one after the other until one answers.
    pub(super) async fn ask_any<T, F>(&self, ask: impl Fn(Link) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.learn_first().await;
        self.check_given()?;
        let map = self.map();
        let mut last: Option<Failure> = None;
        for node in prefer(&map.everybody(), 0) {
            match question(&node, &ask).await {
                Ok(answer) => return Ok(answer),
                Err(failure) if !failure.is_transient => return Err(failure.error),
                // What a node said says more than that another one is away.
                Err(failure) if failure.reached => last = Some(failure),
                Err(failure) => last = last.or(Some(failure)),
            }
        }
        match last.expect("a client has at least one address") {
            Failure { reached: true, error, .. } => Err(error),
            failure => Err(Error::Unavailable(unreachable(&map.addresses(), &failure.error))),
        }
    }

    async fn learn(&self) {
        let map = self.map();
        if !map.is_known() {
            return self.meet(&map).await;
        }
        for node in prefer(&map.everybody(), self.turn.fetch_add(1, Ordering::Relaxed)) {
            if let Ok(told) = question(&node, &|link: Link| async move { link.status().await }).await {
                return self.install(&told);
            }
        }
    }

    /// Asks all given nodes at once. The first that answers says which cluster it is; the others may be of another.
    async fn meet(&self, map: &Map) {
        let (send, mut answers) = mpsc::unbounded_channel();
        for node in map.nodes.iter().cloned() {
            let send = send.clone();
            self.runtime.spawn(async move {
                let told = question(&node, &|link: Link| async move { link.status().await }).await;
                // Nobody waits any more for one that is slow.
                let _ = send.send(told.map(|told| (node.address.clone(), told)));
            });
        }
        drop(send);
        let (address, first) = loop {
            match answers.recv().await {
                Some(Ok(first)) => break first,
                Some(Err(_)) => {}
                None => return,
            }
        };
        let rest = async { while answers.recv().await.is_some() {} };
        // One that has not told it by then is asked when it is needed.
        let _ = tokio::time::timeout(GIVEN_WAIT, rest).await;
        let stranger = map.nodes.iter().find_map(|node| Some((node, node.other_cluster()?)));
        if let Some((node, theirs)) = stranger {
            let why = format!(
                "the given addresses are of different clusters: {address} of {}, {} of {theirs}; give addresses of one cluster",
                first.cluster, node.address
            );
            let _ = self.refused.set(Error::Invalid(why));
            return;
        }
        self.install(&first);
    }

    fn install(&self, told: &Told) {
        let ahead = i128::from(told.now_micros) - i128::from(self.age_micros());
        self.ahead_micros.store(ahead as i64, Ordering::Relaxed);
        let mut place = self.map.write().expect("no holder of the lock panics");
        *place = Arc::new(self.next(&place, &told.status));
    }

    /// The map after a node told its own.
    fn next(&self, old: &Map, told: &Status) -> Map {
        let named = self.named_nodes(old, told);
        let is_late = told.revision < old.revision;
        let (nodes, others) =
            if is_late { (old.nodes.clone(), old.others.clone()) } else { self.sort_out(&named, told) };
        let by_id: BTreeMap<ShardId, &ShardStatus> = told.shards.iter().map(|told| (told.id, told)).collect();
        let mut shards: BTreeMap<String, Vec<Shard>> = BTreeMap::new();
        if is_late {
            let newer = |known: &Shard| {
                let told = by_id.get(&known.id);
                told.map_or_else(|| known.clone(), |told| shard(told, &named, Some(known)))
            };
            shards.extend(
                old.shards.iter().map(|(name, known)| (name.clone(), known.iter().map(newer).collect())),
            );
        } else {
            let before: BTreeMap<ShardId, &Shard> =
                old.shards.values().flatten().map(|known| (known.id, known)).collect();
            for told in &told.shards {
                let known = before.get(&told.id).copied();
                shards.entry(told.keyspace.clone()).or_default().push(shard(told, &named, known));
            }
        }
        shards.values_mut().for_each(|shards| shards.sort_by_key(|shard| shard.slots.first));
        let revision = told.revision.max(old.revision);
        Map { nodes, others, shards, revision, learned: Some(Instant::now()) }
    }

    /// The nodes that a status names, those that are known by an address before.
    fn named_nodes(&self, old: &Map, told: &Status) -> Vec<(NodeId, Arc<Node>)> {
        let node = |address: &str| {
            let given = self.given.iter().find(|node| node.address == address);
            given.or_else(|| old.node(address)).cloned().or_else(|| self.node(address))
        };
        let heard_of = told.nodes.iter().filter(|told| !told.address.is_empty());
        heard_of.filter_map(|told| Some((told.id, node(&told.address)?))).collect()
    }

    /// Who may be asked, and who is asked for the map alone.
    fn sort_out(&self, named: &[(NodeId, Arc<Node>)], told: &Status) -> (Vec<Arc<Node>>, Vec<Arc<Node>>) {
        let mut all = self.given.clone();
        for (_, node) in named {
            if !all.iter().any(|known| known.address == node.address) {
                all.push(node.clone());
            }
        }
        let may_be_asked = |node: &Arc<Node>| {
            let state = told.nodes.iter().find(|told| told.address == node.address).map(|told| told.state);
            // An address that is nobody's may be another name of a node, as long as somebody is there.
            state.map_or(!node.is_lost(), |state| state != Liveness::Dead)
        };
        let (nodes, others): (Vec<_>, Vec<_>) = all.into_iter().partition(may_be_asked);
        if nodes.is_empty() { (others, nodes) } else { (nodes, others) }
    }
}

/// What to believe of a shard: what is told now, unless something newer was told before.
fn shard(told: &ShardStatus, named: &[(NodeId, Arc<Node>)], before: Option<&Shard>) -> Shard {
    if let Some(before) = before.filter(|before| (before.epoch, before.term) > (told.epoch, told.term)) {
        return before.clone();
    }
    let leader = told.leader.and_then(|leader| named.iter().find(|(id, _)| *id == leader)).cloned();
    Shard { id: told.id, slots: told.slots, epoch: told.epoch, term: told.term, leader }
}

/// The nodes from the `first`-th on, those that failed lately last.
pub(super) fn prefer(nodes: &[Arc<Node>], first: usize) -> Vec<Arc<Node>> {
    let mut order = nodes.to_vec();
    order.rotate_left(first % nodes.len());
    order.sort_by_key(|node| node.is_avoided());
    order
}

async fn question<T, F>(node: &Arc<Node>, ask: &impl Fn(Link) -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let link = node.link().await?;
    match tokio::time::timeout(QUESTION_TIMEOUT, ask(link.clone())).await {
        Ok(answer) => answer,
        Err(_) => {
            link.broken();
            Err(Failure::lost(format!("no answer from {} within {QUESTION_TIMEOUT:?}", node.address)))
        }
    }
}

/// What to say when nobody answered.
pub(super) fn unreachable(addresses: &str, last: &Error) -> String {
    format!("cannot reach any of {addresses}: is the cluster up? start one with `capstan up` ({last})")
}

fn wall_micros() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
