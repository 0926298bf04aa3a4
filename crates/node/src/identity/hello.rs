//! Who is there: the first frame in both directions of every connection between nodes.

use bytes::{BufMut, Bytes, BytesMut};
use kv::codec::{Malformed, Reader, put_bytes, put_uint};
use kv::{ClusterId, NodeId};

/// The first bytes of a hello: what speaks here, and its version.
const MAGIC: &[u8] = b"capstan peer 4";

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
    /// What must be the same on all nodes of a cluster: [`super::Identity::terms`].
    pub terms: String,
    /// Its cluster; `None` = it has not learned that yet.
    pub cluster: Option<ClusterId>,
    /// The life of its data folder.
    pub incarnation: u64,
    /// The folder replaced one that was lost, and not all have met it.
    pub newcomer: bool,
    /// It has drawn the id of the cluster itself, and met nobody yet.
    pub founding: bool,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Welcome {
    /// Come in.
    Yes {
        /// The cluster of both, on disk on this side.
        cluster: ClusterId,
        /// The life of the folder of who was called.
        incarnation: u64,
        /// That folder replaced one that was lost, and not all have met it.
        newcomer: bool,
    },
    /// Not now, for this reason: try again.
    Later(String),
    /// The two do not belong together, and either may be the one that is wrong here.
    Stranger(String),
    /// The caller must not run like this.
    No(String),
}

const NO: u8 = 0;
const YES: u8 = 1;
const LATER: u8 = 2;
const STRANGER: u8 = 3;

impl Hello {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let mut into = BytesMut::new();
        put_bytes(&mut into, MAGIC);
        into.put_u8(u8::from(self.purpose == Purpose::Bulk));
        put_uint(&mut into, self.from.0);
        put_uint(&mut into, self.to.0);
        put_bytes(&mut into, self.name.as_bytes());
        put_bytes(&mut into, self.terms.as_bytes());
        into.put_u64(self.cluster.map_or(0, ClusterId::get));
        into.put_u64(self.incarnation);
        into.put_u8(u8::from(self.newcomer));
        into.put_u8(u8::from(self.founding));
        into.freeze()
    }

    /// From bytes.
    pub fn decode(bytes: Bytes) -> Result<Hello, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.bytes()? != MAGIC {
            return Err(Malformed("it is no node of this version"));
        }
        Ok(Hello {
            purpose: if reader.bool()? { Purpose::Bulk } else { Purpose::Ordered },
            from: NodeId(reader.uint()?),
            to: NodeId(reader.uint()?),
            name: reader.text()?,
            terms: reader.text()?,
            cluster: ClusterId::new(reader.u64()?),
            incarnation: reader.u64()?,
            newcomer: reader.bool()?,
            founding: reader.bool()?,
        })
    }
}

impl Welcome {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let mut into = BytesMut::new();
        let (tag, why) = match self {
            Welcome::Yes { cluster, incarnation, newcomer } => {
                into.put_u8(YES);
                into.put_u64(cluster.get());
                into.put_u64(*incarnation);
                into.put_u8(u8::from(*newcomer));
                return into.freeze();
            }
            Welcome::Later(why) => (LATER, why),
            Welcome::Stranger(why) => (STRANGER, why),
            Welcome::No(why) => (NO, why),
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
                incarnation: reader.u64()?,
                newcomer: reader.bool()?,
            },
            LATER => Welcome::Later(reader.text()?),
            STRANGER => Welcome::Stranger(reader.text()?),
            NO => Welcome::No(reader.text()?),
            _ => return Err(Malformed("a welcome has an unknown tag")),
        })
    }
}

/// The codec as plain functions over bytes; see [`crate::fuzz`].
pub(crate) mod fuzz {
    use kv::fuzz::round_trip;

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
        let hello = |purpose| Hello {
            purpose,
            from: NodeId(3),
            to: NodeId(1),
            name: "n3".into(),
            terms: "nodes=1:n1,2:n2,3:n3 shards=4 history=1".into(),
            cluster: ClusterId::new(0xabc).filter(|_| purpose == Purpose::Bulk),
            incarnation: 7,
            newcomer: purpose == Purpose::Bulk,
            founding: purpose == Purpose::Ordered,
        };
        [Purpose::Ordered, Purpose::Bulk].map(|purpose| hello(purpose).encode()).to_vec()
    }

    /// Welcomes.
    pub fn welcome_samples() -> Vec<Bytes> {
        let cluster = ClusterId::new(0xabc).expect("it is not 0");
        let welcomes = [
            Welcome::Yes { cluster, incarnation: 5, newcomer: true },
            Welcome::No("another data folder".into()),
            Welcome::Later("n1 founds the cluster".into()),
            Welcome::Stranger("another cluster".into()),
        ];
        welcomes.map(|welcome| welcome.encode()).to_vec()
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
    fn welcome_to_no_cluster_is_refused() {
        let mut into = BytesMut::new();
        into.put_u8(YES);
        into.put_u64(0);
        into.put_u64(5);
        into.put_u8(0);
        assert!(Welcome::decode(into.freeze()).is_err());
    }
}
