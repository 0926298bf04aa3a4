//! Who is there: the first frame in both directions of every connection between nodes.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use kv::codec::{Malformed, Reader, put_bytes, put_uint};
use kv::{ClusterId, NodeId};

/// The first bytes of a hello: what speaks here, and its version.
const MAGIC: &[u8] = b"capstan peer 2";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Ordered,
    Bulk,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub purpose: Purpose,
    pub from: NodeId,
    pub name: String,
    /// What must be the same on all nodes of a cluster.
    pub options: String,
    /// Its cluster; `None` = it has not learned that yet.
    pub cluster: Option<ClusterId>,
    pub incarnation: u64,
    pub newcomer: bool,
    /// It has drawn the id of the cluster itself, and met nobody yet.
    pub founding: bool,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Welcome {
    /// Come in: this is the cluster of both, durably so on this side, and my incarnation.
    Yes { cluster: ClusterId, incarnation: u64, newcomer: bool },
    /// Neither knows the cluster: try again.
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
    pub fn encode(&self) -> Bytes {
        let mut into = BytesMut::new();
        put_bytes(&mut into, MAGIC);
        into.put_u8(u8::from(self.purpose == Purpose::Bulk));
        put_uint(&mut into, self.from.0);
        put_bytes(&mut into, self.name.as_bytes());
        put_bytes(&mut into, self.options.as_bytes());
        into.put_u64(self.cluster.map_or(0, ClusterId::get));
        into.put_u64(self.incarnation);
        into.put_u8(u8::from(self.newcomer));
        into.put_u8(u8::from(self.founding));
        into.freeze()
    }

    pub fn decode(bytes: Bytes) -> Result<Hello, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.bytes()? != MAGIC {
            return Err(Malformed("it is no node of this version"));
        }
        Ok(Hello {
            purpose: if reader.bool()? { Purpose::Bulk } else { Purpose::Ordered },
            from: NodeId(reader.uint()?),
            name: reader.text()?,
            options: reader.text()?,
            cluster: ClusterId::new(reader.u64()?),
            incarnation: reader.u64()?,
            newcomer: reader.bool()?,
            founding: reader.bool()?,
        })
    }
}

impl Welcome {
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

/// A hello or welcome that makes no sense, as an error of the connection.
pub(crate) fn malformed(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_and_welcome_round_trip() {
        for (purpose, cluster) in [(Purpose::Bulk, ClusterId::new(8)), (Purpose::Ordered, None)] {
            let hello = Hello {
                purpose,
                from: NodeId(3),
                name: "n3".into(),
                options: "nodes=n1,n2,n3".into(),
                cluster,
                incarnation: 7,
                newcomer: true,
                founding: cluster.is_none(),
            };
            assert_eq!(Hello::decode(hello.encode()), Ok(hello));
        }
        let cluster = ClusterId::new(8).unwrap();
        for welcome in [
            Welcome::Yes { cluster, incarnation: 5, newcomer: false },
            Welcome::Later("why".into()),
            Welcome::Stranger("why".into()),
            Welcome::No("why".into()),
        ] {
            assert_eq!(Welcome::decode(welcome.encode()), Ok(welcome));
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
