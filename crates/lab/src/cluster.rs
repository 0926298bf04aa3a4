//! The cluster of a run: one of its own, whose nodes are processes that it starts and ends; or one that is there, on which it puts
//! faults as any user may.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dialects::native::{Client, Options};
use kv::admin::{Answer, Ask};
use kv::cluster::{Liveness, Status};
use kv::fault::Fault;
use kv::keyspace::Wish;
use kv::{NodeId, SlotRange};
use tokio::time::sleep;

use crate::{Error, Pinned, ports};

/// How long something may take that takes a second on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(50);
/// How long a fault may take to be put on a node, and an ask of the directory.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// A replica this far behind (in entries) keeps up: what it announces is up to a second old.
const LAG_MAX: u64 = 5_000;

/// A cluster.
pub struct Cluster {
    nodes: Vec<Node>,
    client: Client,
    own: Option<Own>,
}

/// A node of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where its clients connect.
    pub address: String,
}

/// A shard and its nodes, by their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    /// Its slots.
    pub slots: SlotRange,
    /// Who leads it.
    pub leader: usize,
    /// Who has a copy, the leader too.
    pub members: Vec<usize>,
}

/// What starts and ends the nodes.
struct Own {
    program: PathBuf,
    folder: PathBuf,
    base: u16,
    /// Those that are to run.
    children: RefCell<Vec<Option<Child>>>,
}

impl Cluster {
    /// Starts one of so many nodes in a folder.
    pub async fn start(program: &Path, folder: &Path, nodes: u16) -> Result<Cluster, Error> {
        let base = ports::free_base(nodes, random).ok_or_else(|| {
            Error::Unavailable(format!(
                "no free ports for {nodes} nodes are found on 127.0.0.1: end what listens there"
            ))
        })?;
        let node = |number: u16| Node { name: format!("n{number}"), address: address(base + number) };
        let nodes: Vec<Node> = (1..=nodes).map(node).collect();
        let client = client(nodes.iter().map(|node| node.address.clone()).collect())?;
        let children = RefCell::new(nodes.iter().map(|_| None).collect());
        let own = Own { program: program.into(), folder: folder.into(), base, children };
        let mut cluster = Cluster { nodes, client, own: Some(own) };
        for node in 0..cluster.nodes.len() {
            cluster.spawn(node)?;
        }
        cluster.is_well().await?;
        Ok(cluster)
    }

    /// Takes the one that has these addresses. Its nodes take faults, and are started again by somebody else.
    pub async fn join(addresses: &[String]) -> Result<Cluster, Error> {
        let client = client(addresses.to_vec())?;
        let status = client.status().await?;
        let node =
            |node: &kv::cluster::NodeStatus| Node { name: node.name.clone(), address: node.address.clone() };
        let mut nodes: Vec<Node> = status.nodes.iter().map(node).collect();
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        if nodes.len() < 3 {
            let count = nodes.len();
            return Err(Error::Invalid(format!(
                "the cluster has {count} nodes: to cut one off from the others takes 3 or more"
            )));
        }
        if let Some(node) = status.nodes.iter().find(|node| node.state != Liveness::Alive) {
            let (name, state) = (&node.name, node.state.name());
            return Err(Error::Unavailable(format!(
                "{name} is {state}: the faults are for a cluster that is well"
            )));
        }
        for node in &nodes {
            let faults = client.fault(&node.address, None, ASK_TIMEOUT).await?;
            if !faults.lab {
                return Err(Error::Invalid(format!(
                    "{} takes no faults: start the cluster with 'capstan up --lab', or leave --connect out and the lab starts one of its own",
                    node.name
                )));
            }
            if faults.is_any() {
                return Err(Error::Invalid(format!(
                    "{} has a fault already: take it off with 'capstan fault heal' and 'capstan fault restore {}'",
                    node.name, node.name
                )));
            }
        }
        let cluster = Cluster { nodes, client, own: None };
        cluster.is_well().await?;
        Ok(cluster)
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Creates a keyspace, or takes the one that is there and is like that, and waits until each node serves it.
    pub async fn create(&self, name: &str, wish: Wish) -> Result<(), Error> {
        let ask = Ask::CreateKeyspace { name: name.into(), wish };
        match self.client.administer(&ask, ASK_TIMEOUT).await? {
            Answer::Done => self.serves(name).await,
            other => Err(Error::Unavailable(format!("the cluster answered {other:?} to another question"))),
        }
    }

    /// Waits until all nodes are alive to each other, and each takes a write of this keyspace and reads it.
    pub async fn serves(&self, keyspace: &str) -> Result<(), Error> {
        self.is_well().await?;
        for node in &self.nodes {
            let mut pinned = Pinned::new(&node.address)?;
            let mut last = None;
            self.until(
                &format!("{} takes no writes of keyspace {keyspace}", node.name),
                async || match probe(&mut pinned, keyspace).await {
                    Ok(()) => true,
                    Err(error) => {
                        last = Some(error);
                        false
                    }
                },
            )
            .await
            .map_err(|error| error.after(last))?;
        }
        Ok(())
    }

    /// Waits until each node sees all others alive, a leader of every shard, and no replica far behind.
    async fn is_well(&self) -> Result<(), Error> {
        for node in &self.nodes {
            let client = client(vec![node.address.clone()])?;
            let what = format!("{} does not see all nodes alive and all shards led", node.name);
            self.until(&what, async || {
                client.status().await.is_ok_and(|status| is_well(&status, self.nodes.len()))
            })
            .await?;
        }
        Ok(())
    }

    /// Looks again and again until it holds.
    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) -> Result<(), Error> {
        let end = Instant::now() + PATIENCE;
        while !holds().await {
            if let Some(ended) = self.ended() {
                return Err(Error::Unavailable(ended));
            }
            if Instant::now() >= end {
                return Err(Error::Unavailable(format!("{what}, and that for {PATIENCE:?}")));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// The node that leads the one shard of a keyspace.
    pub async fn leader(&self, keyspace: &str) -> Result<usize, Error> {
        let mut found = None;
        self.until(&format!("nobody leads keyspace {keyspace}"), async || {
            found = match self.client.status().await {
                Ok(status) => self.leads(&status, keyspace),
                Err(_) => None,
            };
            found.is_some()
        })
        .await?;
        Ok(found.expect("it was waited for"))
    }

    fn leads(&self, status: &Status, keyspace: &str) -> Option<usize> {
        let leader = status.shards.iter().find(|shard| shard.keyspace == keyspace)?.leader?;
        self.place(status, leader)
    }

    /// A node's place among the nodes.
    fn place(&self, status: &Status, node: NodeId) -> Option<usize> {
        let name = &status.nodes.iter().find(|known| known.id == node)?.name;
        self.nodes.iter().position(|node| node.name == *name)
    }

    /// Who leads the shards of a keyspace, and who else has a copy.
    pub async fn led(&self, keyspace: &str) -> Result<Vec<Led>, Error> {
        let mut found = None;
        self.until(&format!("not all shards of keyspace {keyspace} are led"), async || {
            found = match self.client.status().await {
                Ok(status) => self.all_led(&status, keyspace),
                Err(_) => None,
            };
            found.is_some()
        })
        .await?;
        Ok(found.expect("it was waited for"))
    }

    fn all_led(&self, status: &Status, keyspace: &str) -> Option<Vec<Led>> {
        let shards = status.shards.iter().filter(|shard| shard.keyspace == keyspace);
        let led = |shard: &kv::cluster::ShardStatus| {
            let members = shard.members.iter().map(|member| self.place(status, member.node));
            let members = members.collect::<Option<Vec<usize>>>().filter(|members| !members.is_empty())?;
            Some(Led { slots: shard.slots, leader: self.place(status, shard.leader?)?, members })
        };
        shards.map(led).collect::<Option<Vec<Led>>>().filter(|led| !led.is_empty())
    }

    /// Cuts a node off from all others.
    pub async fn cut(&self, node: usize) -> Result<(), Error> {
        for (at, end) in self.nodes.iter().enumerate() {
            let is_other = |(other, _): &(usize, &Node)| (at == node) != (*other == node);
            let from = self.nodes.iter().enumerate().filter(is_other);
            let from = from.map(|(_, node)| node.name.clone()).collect();
            self.client.fault(&end.address, Some(Fault::Cut { from }), ASK_TIMEOUT).await?;
        }
        Ok(())
    }

    /// Has all nodes hear each other again.
    pub async fn heal(&self) -> Result<(), Error> {
        for node in &self.nodes {
            self.client.fault(&node.address, Some(Fault::Heal), ASK_TIMEOUT).await?;
        }
        Ok(())
    }

    /// Has what a node answers leave late, to clients and to other nodes.
    pub async fn slow(&self, node: usize, late: Duration) -> Result<(), Error> {
        let micros = late.as_micros() as u64;
        self.client.fault(&self.nodes[node].address, Some(Fault::Slow { micros }), ASK_TIMEOUT).await?;
        Ok(())
    }

    /// Has what a node answers leave at once again.
    pub async fn restore(&self, node: usize) -> Result<(), Error> {
        self.client.fault(&self.nodes[node].address, Some(Fault::Restore), ASK_TIMEOUT).await?;
        Ok(())
    }

    /// Ends a node's process without warning.
    pub async fn kill(&mut self, node: usize) -> Result<(), Error> {
        match &mut self.own {
            Some(own) => {
                own.kill(node);
                Ok(())
            }
            // It may be gone before it has answered.
            None => {
                match self.client.fault(&self.nodes[node].address, Some(Fault::Kill), ASK_TIMEOUT).await {
                    Ok(_) | Err(kv::Error::InDoubt(_)) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Starts a node again that was killed. A cluster that is there does so by itself.
    pub fn restart(&mut self, node: usize) -> Result<(), Error> {
        if self.own.is_some() { self.spawn(node) } else { Ok(()) }
    }

    fn spawn(&mut self, node: usize) -> Result<(), Error> {
        let nodes = &self.nodes;
        let Some(own) = &mut self.own else { return Ok(()) };
        let cannot =
            |error: std::io::Error| Error::Unavailable(format!("starting {}: {error}", nodes[node].name));
        let child = own.command(node, nodes).and_then(|mut command| command.spawn()).map_err(cannot)?;
        own.children.get_mut()[node] = Some(child);
        Ok(())
    }

    /// That a node has ended by itself, and what it wrote last.
    fn ended(&self) -> Option<String> {
        let own = self.own.as_ref()?;
        let mut children = own.children.borrow_mut();
        let ended = |child: &mut Option<Child>| child.as_mut()?.try_wait().ok().flatten();
        let (node, status) = self
            .nodes
            .iter()
            .zip(children.iter_mut())
            .find_map(|(node, child)| Some((node, ended(child)?)))?;
        let text = std::fs::read_to_string(own.log(&node.name)).unwrap_or_default();
        let words = text.lines().next_back().unwrap_or("it wrote nothing");
        Some(format!("{} has ended by itself ({status}): {words}", node.name))
    }
}

impl Own {
    fn command(&self, node: usize, nodes: &[Node]) -> std::io::Result<Command> {
        let Node { name, address: listen } = &nodes[node];
        let peer = |(number, node): (usize, &Node)| {
            format!("{}={}", node.name, address(self.base + ports::PEER_OFFSET + number as u16 + 1))
        };
        let peers: Vec<String> = nodes.iter().enumerate().map(peer).collect();
        let mut command = Command::new(&self.program);
        command.args(["serve", "--lab", "--cores", "1", "--shards", "1"]);
        command.args(["--name", name, "--listen", listen, "--peers", &peers.join(",")]);
        // It ends with this process, however that ends.
        command.args(["--parent", &std::process::id().to_string()]).arg("--data").arg(self.folder.join(name));
        let log =
            File::options().create(true).append(true).open(self.folder.join(format!("{name}.stderr")))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// What a node writes on standard error, all its lives.
    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.stderr"))
    }

    fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.children.get_mut()[node].take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        (0..self.children.get_mut().len()).for_each(|node| self.kill(node));
    }
}

fn client(addresses: Vec<String>) -> Result<Client, Error> {
    Ok(Client::connect(addresses, Options::default())?)
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Writes a key that no workload has, and reads it.
async fn probe(pinned: &mut Pinned, keyspace: &str) -> Result<(), kv::Error> {
    let key = kv::Key::from_static(b"probe");
    let put = kv::Op::Put { key: key.clone(), value: key.clone(), deadline: None, previous: false };
    for op in [put, kv::Op::Get { key, at: None }] {
        pinned.call(kv::Request { keyspace: keyspace.into(), ..kv::Request::new(op) }).await?;
    }
    Ok(())
}

/// Whether a node sees so many alive, a leader of every shard, and no replica far behind.
fn is_well(status: &Status, nodes: usize) -> bool {
    let living = status.nodes.iter().filter(|node| node.state == Liveness::Alive).count();
    let is_level = |shard: &kv::cluster::ShardStatus| {
        let applied = shard.replicas.iter().map(|replica| replica.applied);
        applied.clone().max().unwrap_or(0) - applied.min().unwrap_or(0) <= LAG_MAX
    };
    living == nodes
        && !status.shards.is_empty()
        && status.shards.iter().all(|shard| shard.leader.is_some() && is_level(shard))
}

/// A random number: a hash under the random keys that the standard library draws for each hasher.
pub fn random() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(())
}
