//! Who is there: the first frame in both directions of every connection between nodes.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use kv::NodeId;
use kv::codec::{Malformed, Reader, put_bytes, put_uint};

use crate::folder::{Folder, Identity};

/// The first bytes of a hello: what speaks here, and its version.
const MAGIC: &[u8] = b"capstan peer 1";

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
    pub cluster: String,
    pub incarnation: u64,
    pub rejoining: bool,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Welcome {
    /// Come in; this is my incarnation.
    Yes { incarnation: u64, rejoining: bool },
    /// The caller must not run like this.
    No(String),
}

impl Hello {
    pub fn encode(&self) -> Bytes {
        let mut into = BytesMut::new();
        put_bytes(&mut into, MAGIC);
        into.put_u8(u8::from(self.purpose == Purpose::Bulk));
        put_uint(&mut into, u64::from(self.from.0));
        put_bytes(&mut into, self.name.as_bytes());
        put_bytes(&mut into, self.cluster.as_bytes());
        into.put_u64(self.incarnation);
        into.put_u8(u8::from(self.rejoining));
        into.freeze()
    }

    pub fn decode(bytes: Bytes) -> Result<Hello, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.bytes()? != MAGIC {
            return Err(Malformed("it is no node of this version"));
        }
        Ok(Hello {
            purpose: if reader.bool()? { Purpose::Bulk } else { Purpose::Ordered },
            from: NodeId(reader.u16()?),
            name: reader.text()?,
            cluster: reader.text()?,
            incarnation: reader.u64()?,
            rejoining: reader.bool()?,
        })
    }
}

impl Welcome {
    pub fn encode(&self) -> Bytes {
        let mut into = BytesMut::new();
        match self {
            Welcome::Yes { incarnation, rejoining } => {
                into.put_u8(1);
                into.put_u64(*incarnation);
                into.put_u8(u8::from(*rejoining));
            }
            Welcome::No(why) => {
                into.put_u8(0);
                put_bytes(&mut into, why.as_bytes());
            }
        }
        into.freeze()
    }

    pub fn decode(bytes: Bytes) -> Result<Welcome, Malformed> {
        let mut reader = Reader::new(bytes);
        Ok(if reader.bool()? {
            Welcome::Yes { incarnation: reader.u64()?, rejoining: reader.bool()? }
        } else {
            Welcome::No(reader.text()?)
        })
    }
}

/// This node's identity, and those of the others it has met.
pub(crate) struct Identities {
    folder: Folder,
    me: NodeId,
    rejoining: AtomicBool,
    known: Mutex<BTreeMap<String, u64>>,
}

impl Identities {
    pub fn new(folder: Folder, me: NodeId) -> Result<Identities, crate::Failure> {
        let known = Mutex::new(folder.known_peers()?);
        let rejoining = AtomicBool::new(folder.identity.rejoining);
        Ok(Identities { folder, me, rejoining, known })
    }

    fn identity(&self) -> &Identity {
        &self.folder.identity
    }

    /// What to say first.
    pub fn hello(&self, purpose: Purpose) -> Hello {
        let identity = self.identity();
        Hello {
            purpose,
            from: self.me,
            name: identity.name.clone(),
            cluster: identity.cluster(),
            incarnation: identity.incarnation,
            rejoining: self.rejoining.load(Ordering::Relaxed),
        }
    }

    /// What to answer to a hello. An error is this node's own: the caller is to try again.
    pub fn answer(&self, hello: &Hello) -> io::Result<Welcome> {
        Ok(match self.check(hello)? {
            Ok(()) => {
                let identity = self.identity();
                Welcome::Yes {
                    incarnation: identity.incarnation,
                    rejoining: self.rejoining.load(Ordering::Relaxed),
                }
            }
            Err(why) => Welcome::No(why),
        })
    }

    fn check(&self, hello: &Hello) -> io::Result<Result<(), String>> {
        let own = self.identity();
        if hello.cluster != own.cluster() {
            return Ok(Err(format!(
                "node {} belongs to another cluster or was given other options ({}) than node {} ({}): all nodes of \
                 a cluster are started with the same --peers, --shards and --history",
                hello.name,
                hello.cluster,
                own.name,
                own.cluster()
            )));
        }
        if own.nodes.get(usize::from(hello.from.0).wrapping_sub(1)) != Some(&hello.name)
            || hello.from == self.me
        {
            return Ok(Err(format!("node {} is no other node of this cluster", hello.name)));
        }
        self.meet(&hello.name, hello.incarnation, hello.rejoining)
    }

    /// Compares a node's incarnation with the one it was known under, or remembers it. The inner error is the node's fault,
    /// the outer one this node's: it is not known yet then.
    pub fn meet(&self, name: &str, incarnation: u64, rejoining: bool) -> io::Result<Result<(), String>> {
        let mut known = self.known.lock().expect("no holder of the incarnations panics");
        match known.get(name) {
            Some(&before) if before == incarnation => return Ok(Ok(())),
            Some(_) if !rejoining => {
                return Ok(Err(format!(
                    "node {name} comes with another data folder than the one it was known under: the folder was wiped, \
                     or is another node's. What it had acknowledged is missing there. Give it its own folder back, or \
                     start it once with --rejoin on an empty folder: the others then make it whole"
                )));
            }
            _ => {}
        }
        let mut now_known = known.clone();
        now_known.insert(name.to_owned(), incarnation);
        self.folder.remember_peers(&now_known).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot note in the data folder who node {name} is: {error}"),
            )
        })?;
        *known = now_known;
        Ok(Ok(()))
    }

    /// This node is whole again.
    pub fn rejoined(&self) -> io::Result<()> {
        self.rejoining.store(false, Ordering::Relaxed);
        self.folder.rejoined()
    }

    /// The name of a node.
    pub fn name_of(&self, node: NodeId) -> String {
        let place = usize::from(node.0).wrapping_sub(1);
        self.identity().nodes.get(place).cloned().unwrap_or_default()
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
        let hello = Hello {
            purpose: Purpose::Bulk,
            from: NodeId(3),
            name: "n3".into(),
            cluster: "nodes=n1,n2,n3".into(),
            incarnation: 7,
            rejoining: true,
        };
        assert_eq!(Hello::decode(hello.encode()), Ok(hello));
        for welcome in [Welcome::Yes { incarnation: 5, rejoining: false }, Welcome::No("why".into())] {
            assert_eq!(Welcome::decode(welcome.encode()), Ok(welcome));
        }
    }
}
