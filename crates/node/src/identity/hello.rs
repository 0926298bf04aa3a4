//! Who is there: the first frame in both directions of every connection between nodes.

use bytes::{BufMut, Bytes, BytesMut};
use kv::cluster::PEER_VERSION;
use kv::codec::{Malformed, Reader, put_bytes, put_option, put_uint};
use kv::{ClusterId, NodeId};

use super::life::{Lineage, put_lineage, read_lineage};
use super::nodes::{Nodes, put_nodes, read_nodes};

/// The first bytes of a hello: what speaks here, and its version.
fn magic() -> String {
    format!("capstan peer {PEER_VERSION}")
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Frames of all shards, in order.
    Ordered,
    /// One snapshot.
    Bulk,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What it wants.
    pub purpose: Purpose,
    /// Its id.
    pub from: NodeId,
    /// The node that it calls.
    pub to: NodeId,
    /// Its name.
    pub name: String,
    /// What must be the same on all nodes of a cluster for ever: [`super::Identity::terms`].
    pub terms: String,
    /// The nodes that the cluster is founded with, in text; empty when it has a later map.
    pub founders: String,
    /// Its cluster; `None` = it has not learned that yet.
    pub cluster: Option<ClusterId>,
    /// Its life, and those before.
    pub lineage: Lineage,
    /// It has drawn the id of the cluster itself, and met nobody yet.
    pub founding: bool,
    /// The nodes of the cluster, for one that has said that it knows an earlier map.
    pub nodes: Option<Nodes>,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Welcome {
    /// Come in.
    Yes {
        /// The cluster of both, on disk on this side.
        cluster: ClusterId,
        /// The life of who was called, and those before.
        lineage: Lineage,
    },
    /// Not now, for this reason: try again.
    Later(String),
    /// Not now: who was called knows the nodes of the cluster as of this revision, and the caller is not yet among them.
    Unknown {
        /// Of its map.
        revision: u64,
        /// For people.
        why: String,
    },
    /// The two do not belong together, and either may be the one that is wrong here.
    Stranger(String),
    /// The caller was a member, and is none any more.
    Gone(String),
    /// The caller must not run like this.
    No(Refusal),
    /// The caller's folder is a copy: of an earlier state, or of one that was started beside it. It must never start again.
    Copy(Refusal),
}

/// Why a caller must not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The life of who says so, and those before: it may itself be the one that is wrong.
    pub by: Lineage,
    /// For people.
    pub why: String,
}

const NO: u8 = 0;
const YES: u8 = 1;
const LATER: u8 = 2;
const STRANGER: u8 = 3;
const UNKNOWN: u8 = 4;
const COPY: u8 = 5;
const GONE: u8 = 6;

impl Hello {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let mut into = BytesMut::new();
        put_bytes(&mut into, magic().as_bytes());
        into.put_u8(u8::from(self.purpose == Purpose::Bulk));
        put_uint(&mut into, self.from.0);
        put_uint(&mut into, self.to.0);
        put_bytes(&mut into, self.name.as_bytes());
        put_bytes(&mut into, self.terms.as_bytes());
        put_bytes(&mut into, self.founders.as_bytes());
        into.put_u64(self.cluster.map_or(0, ClusterId::get));
        put_lineage(&mut into, &self.lineage);
        into.put_u8(u8::from(self.founding));
        put_option(&mut into, self.nodes.as_ref(), put_nodes);
        into.freeze()
    }

    /// From bytes.
    pub fn decode(bytes: Bytes) -> Result<Hello, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.bytes()? != magic() {
            return Err(Malformed("it is no node of this version"));
        }
        Ok(Hello {
            purpose: if reader.bool()? { Purpose::Bulk } else { Purpose::Ordered },
            from: NodeId(reader.uint()?),
            to: NodeId(reader.uint()?),
            name: reader.text()?,
            terms: reader.text()?,
            founders: reader.text()?,
            cluster: ClusterId::new(reader.u64()?),
            lineage: read_lineage(&mut reader)?,
            founding: reader.bool()?,
            nodes: reader.option(read_nodes)?,
        })
    }
}

impl Welcome {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let mut into = BytesMut::new();
        let (tag, why) = match self {
            Welcome::Yes { cluster, lineage } => {
                into.put_u8(YES);
                into.put_u64(cluster.get());
                put_lineage(&mut into, lineage);
                return into.freeze();
            }
            Welcome::Unknown { revision, why } => {
                into.put_u8(UNKNOWN);
                put_uint(&mut into, *revision);
                put_bytes(&mut into, why.as_bytes());
                return into.freeze();
            }
            Welcome::Later(why) => (LATER, why),
            Welcome::Stranger(why) => (STRANGER, why),
            Welcome::Gone(why) => (GONE, why),
            Welcome::No(refusal) => return refusal.encode(NO),
            Welcome::Copy(refusal) => return refusal.encode(COPY),
        };
        into.put_u8(tag);
        put_bytes(&mut into, why.as_bytes());
        into.freeze()
    }

    /// From bytes.
    pub fn decode(bytes: Bytes) -> Result<Welcome, Malformed> {
        let mut reader = Reader::new(bytes);
        Ok(match reader.u8()? {
            YES => Welcome::Yes {
                cluster: ClusterId::new(reader.u64()?).ok_or(Malformed("a welcome is to no cluster"))?,
                lineage: read_lineage(&mut reader)?,
            },
            UNKNOWN => Welcome::Unknown { revision: reader.uint()?, why: reader.text()? },
            LATER => Welcome::Later(reader.text()?),
            STRANGER => Welcome::Stranger(reader.text()?),
            GONE => Welcome::Gone(reader.text()?),
            NO => Welcome::No(Refusal::decode(&mut reader)?),
            COPY => Welcome::Copy(Refusal::decode(&mut reader)?),
            _ => return Err(Malformed("a welcome has an unknown tag")),
        })
    }
}

impl Refusal {
    fn encode(&self, tag: u8) -> Bytes {
        let mut into = BytesMut::new();
        into.put_u8(tag);
        put_lineage(&mut into, &self.by);
        put_bytes(&mut into, self.why.as_bytes());
        into.freeze()
    }

    fn decode(reader: &mut Reader) -> Result<Refusal, Malformed> {
        Ok(Refusal { by: read_lineage(reader)?, why: reader.text()? })
    }
}

/// The codec as plain functions over bytes; see [`crate::fuzz`].
pub(crate) mod fuzz {
    use kv::fuzz::round_trip;

    use super::super::life::Life;
    use super::super::nodes::Member;
    use super::*;

    /// The first frame of a caller.
    pub fn hello(bytes: &[u8]) {
        round_trip(bytes, |bytes| Hello::decode(bytes.clone()), Hello::encode);
    }

    /// The first frame of who is called.
    pub fn welcome(bytes: &[u8]) {
        round_trip(bytes, |bytes| Welcome::decode(bytes.clone()), Welcome::encode);
    }

    /// Hellos.
    pub fn hello_samples() -> Vec<Bytes> {
        let member = |id| {
            (NodeId(id), Member { name: format!("n{id}"), address: format!("n{id}:7421"), incarnation: id })
        };
        let nodes = Nodes { revision: 300, members: [1, 3].map(member).into(), next: NodeId(4) };
        let hello = |purpose| Hello {
            purpose,
            from: NodeId(3),
            to: NodeId(1),
            name: "n3".into(),
            terms: "shards=4 history=1".into(),
            founders: "1:n1,2:n2,3:n3".into(),
            cluster: ClusterId::new(0xabc).filter(|_| purpose == Purpose::Bulk),
            lineage: lineage(),
            founding: purpose == Purpose::Ordered,
            nodes: (purpose == Purpose::Bulk).then(|| nodes.clone()),
        };
        [Purpose::Ordered, Purpose::Bulk].map(|purpose| hello(purpose).encode()).to_vec()
    }

    /// Welcomes.
    pub fn welcome_samples() -> Vec<Bytes> {
        let cluster = ClusterId::new(0xabc).expect("it is not 0");
        let welcomes = [
            Welcome::Yes { cluster, lineage: lineage() },
            Welcome::No(Refusal { by: lineage(), why: "another data folder".into() }),
            Welcome::Later("n1 founds the cluster".into()),
            Welcome::Stranger("another cluster".into()),
            Welcome::Gone("it was removed".into()),
            Welcome::Unknown { revision: 300, why: "it is not known yet".into() },
            Welcome::Copy(Refusal { by: lineage(), why: "an old copy".into() }),
        ];
        welcomes.map(|welcome| welcome.encode()).to_vec()
    }

    fn lineage() -> Lineage {
        Lineage { life: Life { incarnation: 7, starts: 300, process: u64::MAX }, earlier: vec![0, 5] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_and_welcome_round_trip() {
        for bytes in fuzz::hello_samples() {
            assert_eq!(Hello::decode(bytes.clone()).unwrap().encode(), bytes);
        }
        for bytes in fuzz::welcome_samples() {
            assert_eq!(Welcome::decode(bytes.clone()).unwrap().encode(), bytes);
        }
    }

    #[test]
    fn hello_with_nodes_that_cannot_be_is_refused() {
        let hello = Hello::decode(fuzz::hello_samples().pop().unwrap()).unwrap();
        let nodes = hello.nodes.clone().unwrap();
        let lists = |nodes: Nodes| Hello { nodes: Some(nodes), ..hello.clone() }.encode();
        assert!(Hello::decode(lists(nodes.clone())).is_ok());
        assert!(Hello::decode(lists(Nodes { next: NodeId(3), ..nodes })).is_err(), "3 was not given yet");
    }

    #[test]
    fn hello_with_more_starts_than_are_known_is_refused() {
        let hello = Hello::decode(fuzz::hello_samples().pop().unwrap()).unwrap();
        let says = |earlier| {
            let lineage = Lineage { earlier, ..hello.lineage.clone() };
            Hello::decode(Hello { lineage, ..hello.clone() }.encode())
        };
        assert!(says(vec![1; Lineage::EARLIER_MAX]).is_ok());
        assert!(says(vec![1; Lineage::EARLIER_MAX + 1]).is_err());
    }

    #[test]
    fn welcome_to_no_cluster_is_refused() {
        let mut into = BytesMut::new();
        into.put_u8(YES);
        into.put_u64(0);
        put_lineage(&mut into, &Lineage::new(&mut || 5));
        assert!(Welcome::decode(into.freeze()).is_err());
    }
}
