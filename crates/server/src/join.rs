//! How a node becomes one of a cluster that is there: it asks the nodes that `--join` names, until it is given an id or refused.
//!
//! ```text
//!   n4, a new folder: incarnation 7e                              n1, or whoever is asked
//!     │ ── what have your nodes in common? ─────────────────────────▶ │
//!     │ ◀── 4 shards, 16 revisions; version 5 between nodes ───────── │   it fits? else n4 ends
//!     │ ── join: n4, 7e, reached at h4:7424 ────────────────────────▶ │   is it? n1 calls it there (module `reached`)
//!     │                                                               │ ──▶ the directory: the map with n4
//!     │ ◀── id 4, cluster c1, the map of revision 9, all lives ────── │
//!     │  writes id and cluster, then the lives, then the map to its log
//!     │ ── hello, n4 ... to the nodes of the map
//! ```
//!
//! The incarnation is in the folder before anything is asked, and whoever asks again with it is given the same id. So a node may
//! ask as often as it must, and be killed at any time: one that has no id asks for it, and one that has an id and no map yet asks
//! again. From then on it is a node like any other, and what replicas it has, the map says.
//!
//! It asks for as long as nobody decides, and says why in its journal. What cannot be, as a name that is taken, ends it.

use std::fmt::Display;
use std::net::TcpListener;
use std::time::Duration;

use dialects::Outsider;
use kv::admin::{self, Answer, Ask};
use kv::cluster::Terms;
use kv::{ClusterId, Error, NodeId};
use node::identity::{self, Kept, Lineage, Lives};
use placement::map::Map;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::folder::{Folder, Joining};
use crate::inbox::{Inboxes, Message};
use crate::reached::Answering;
use crate::{Config, Failure, listen};

/// How long the directory has for an answer: an election takes a second or two.
const TIMEOUT: Duration = Duration::from_secs(5);
/// It is asked again so long after it gave none.
const AGAIN: Duration = Duration::from_secs(1);

/// When so often in a row no node of Capstan was where one should be, the addresses are wrong.
const STRANGE_MAX: u32 = 3;
/// How long one may take to show that it is none: it does so at once.
const PROBE: Duration = Duration::from_millis(500);
/// How a client begins (RFC 9113, 3.4): the preface, and settings of which none is other than usual.
const HTTP2_BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// How a frame begins: three bytes of length, its type, flags and a stream.
const FRAME_HEADER_BYTES: usize = 9;
const FRAME_TYPE: usize = 3;
/// The type of the first frame of a server.
const SETTINGS: u8 = 4;

/// A node that was let in.
pub(crate) struct Joined {
    pub folder: Folder,
    /// What its cluster looks like, with it.
    pub map: Map,
    /// Where it listens for other nodes: from before it asked, so that they reach it as soon as they hear of it.
    pub listeners: Vec<TcpListener>,
}

/// Has a new node let in; `address` is where its clients connect.
pub(crate) async fn join(config: &Config, joining: Joining, address: &str) -> Result<Joined, Failure> {
    let peer = config.peer().expect("who joins says where nodes reach it, it was checked");
    let listeners = listen::to_nodes(config, peer)?;
    let joiner = joining.joiner();
    let _answering = answering(&listeners, &joiner.lineage)?;
    let given = ask(config, &joiner.lineage, &joiner.zone, address, None).await?;
    let Given { node, cluster, terms, map, lives } = given;
    tracing::info!(%node, %cluster, "this node has joined the cluster");
    let folder = joining.joined(node, cluster, terms)?;
    note_lives(&folder, lives)?;
    Ok(Joined { folder, map, listeners })
}

/// The map once more, for a node that was let in and has not kept it.
pub(crate) async fn map_again(config: &Config, folder: &Folder, address: &str) -> Result<Map, Failure> {
    let own = folder.identity();
    if config.join.is_empty() {
        return Err(Failure::Refused(format!(
            "node {} was given its id and has not heard yet who the others are: start it with --join HOST:PORT of any of them",
            own.name
        )));
    }
    let listeners = config.peer().map_or(Ok(Vec::new()), |peer| listen::to_nodes(config, peer))?;
    let _answering = answering(&listeners, &own.lineage)?;
    let given = ask(config, &own.lineage, &own.zone, address, own.cluster).await?;
    match given.node == own.me {
        true => note_lives(folder, given.lives).map(|()| given.map),
        false => Err(Failure::Refused(format!(
            "node {} was removed from the cluster before it began: remove its data folder, which holds nothing yet, and let it \
             join as a new node",
            own.name
        ))),
    }
}

/// Keeps in which lives the others were met, as it was told, before this node meets anybody.
fn note_lives(folder: &Folder, told: Lives) -> Result<(), Failure> {
    let known = identity::introduced(folder.identity().me, folder.lives()?, told);
    folder.keep(&Kept::Lives(known)).map_err(|error| {
        Failure::Failed(format!(
            "cannot note who the other nodes are in the data folder: {error}; start this node again when there is room, and it goes on"
        ))
    })
}

/// Answers those who see whether it is this node that is reached where it says.
fn answering(listeners: &[TcpListener], lineage: &Lineage) -> Result<Answering, Failure> {
    let answering = Answering::at(listeners, lineage.life.incarnation);
    answering.map_err(|error| Failure::Failed(format!("cannot start: {error}")))
}

/// Ends a node that is one of a cluster, when those that `--join` names are nodes of another one.
pub(crate) async fn check_cluster(join: Vec<String>, name: String, own: ClusterId, inboxes: Inboxes) {
    if join.is_empty() {
        return;
    }
    let asked = async { Outsider::new(&join)?.cluster().await };
    if let Ok(theirs) = asked.await
        && theirs != own
    {
        inboxes.first().push(Message::Fatal(Failure::Refused(other_cluster(&name, own, theirs))));
    }
}

fn other_cluster(name: &str, own: ClusterId, theirs: ClusterId) -> String {
    format!(
        "the data folder of node {name} is of cluster {own}, and --join names nodes of cluster {theirs}, which it cannot join with \
         it: give --data another folder, or leave --join out if it is to stay what it is"
    )
}

/// What a node is given.
struct Given {
    node: NodeId,
    cluster: ClusterId,
    terms: Terms,
    map: Map,
    /// In which lives the others were met last, by the node that was asked.
    lives: Lives,
}

/// Asks until there is an answer. A node that was let in asks its `own` cluster only.
async fn ask(
    config: &Config,
    lineage: &Lineage,
    zone: &str,
    address: &str,
    own: Option<ClusterId>,
) -> Result<Given, Failure> {
    let joining = admin::Joining {
        name: config.name.clone(),
        incarnation: lineage.life.incarnation,
        peer: config.peer().cloned().unwrap_or_default(),
        address: address.into(),
        zone: zone.into(),
    };
    let asked = config.join.join(",");
    tracing::info!(nodes = asked, peer = joining.peer, address, "asking to join a cluster");
    let (mut said, mut strange) = (None, 0);
    loop {
        let why = match ask_once(config, &joining, own).await {
            Ok(given) => return Ok(given),
            Err(error) if error.is_transient() => error.to_string(),
            Err(error) => {
                let name = &config.name;
                return Err(Failure::Refused(format!("node {name} cannot join by way of {asked}: {error}")));
            }
        };
        if said.as_ref() != Some(&why) {
            tracing::warn!(nodes = asked, why, "cannot join the cluster yet; asking on");
            said = Some(why);
        }
        strange = if are_strangers(&config.join).await { strange + 1 } else { 0 };
        if strange == STRANGE_MAX {
            return Err(Failure::Failed(format!(
                "node {} cannot join by way of {asked}: who listens there does not speak gRPC, so it is no node of Capstan, or its \
                 port for other nodes; --join takes the addresses that nodes give to --listen",
                config.name
            )));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn ask_once(config: &Config, joining: &admin::Joining, own: Option<ClusterId>) -> Result<Given, Error> {
    // Anew each time: a cluster may be wiped and founded again meanwhile.
    let outsider = Outsider::new(&config.join)?;
    let (terms, theirs) = (outsider.terms().await?, outsider.cluster().await?);
    if let Some(own) = own.filter(|own| *own != theirs) {
        return Err(Error::Invalid(other_cluster(&config.name, own, theirs)));
    }
    if let Some((option, theirs, ours)) = config.contradicts(&terms) {
        return Err(Error::Invalid(format!(
            "the cluster was founded with {option} {theirs}, and this start says {ours}: leave {option} out, as a node that \
             joins takes over what the others have"
        )));
    }
    let answer = outsider.administer(&Ask::Join(joining.clone()), TIMEOUT).await?;
    let Answer::Joined { node, cluster, map, lives } = answer else {
        unreachable!("who asks to join is answered that it did, or by an error")
    };
    let senseless = |what: &str, error: &dyn Display| {
        Error::Invalid(format!(
            "{what} of the cluster make no sense ({error}): it is of another version of capstan"
        ))
    };
    let map = Map::decode(&map).map_err(|error| senseless("nodes and shards", &error))?;
    let lives = identity::decode_lives(lives).map_err(|error| senseless("lives", &error))?;
    match map.nodes.get(&node).filter(|row| row.incarnation == joining.incarnation) {
        Some(_) if map.cluster == Some(cluster) => Ok(Given { node, cluster, terms, map, lives }),
        _ => Err(Error::Unavailable("the map of the cluster lacks this node".into())),
    }
}

/// Whether all that are asked take connections, and none of them is a server of gRPC.
async fn are_strangers(join: &[String]) -> bool {
    for address in join {
        if !timeout(PROBE, is_stranger(address)).await.is_ok_and(|stranger| stranger) {
            return false;
        }
    }
    true
}

/// Says how connections of gRPC begin, and sees whether it is answered so. Who is only slow is no stranger.
async fn is_stranger(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let mut answer = [0; FRAME_HEADER_BYTES];
    let answered = async {
        stream.write_all(HTTP2_BEGIN).await?;
        stream.read_exact(&mut answer).await
    };
    answered.await.is_err() || answer[FRAME_TYPE] != SETTINGS
}
