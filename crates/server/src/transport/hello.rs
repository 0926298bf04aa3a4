//! Who is there: the first frame in both directions of every connection between nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Mutex;

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
    pub newcomer: bool,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Welcome {
    /// Come in; this is my incarnation.
    Yes { incarnation: u64, newcomer: bool },
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
        into.put_u8(u8::from(self.newcomer));
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
            newcomer: reader.bool()?,
        })
    }
}

impl Welcome {
    pub fn encode(&self) -> Bytes {
        let mut into = BytesMut::new();
        match self {
            Welcome::Yes { incarnation, newcomer } => {
                into.put_u8(1);
                into.put_u64(*incarnation);
                into.put_u8(u8::from(*newcomer));
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
            Welcome::Yes { incarnation: reader.u64()?, newcomer: reader.bool()? }
        } else {
            Welcome::No(reader.text()?)
        })
    }
}

/// This node's identity, and those of the others it has met.
///
/// A folder that was begun with --rejoin is a newcomer: the others know this node under the folder that was lost. It says so
/// until each of them has welcomed it, which may be long after it was made whole: one may be down or cut off meanwhile, and
/// must not refuse it for another when it is back.
pub(crate) struct Identities {
    folder: Folder,
    me: NodeId,
    /// As it is written in the folder.
    own: Mutex<Identity>,
    /// The others that a newcomer has not been welcomed by.
    unmet: Mutex<BTreeSet<NodeId>>,
    known: Mutex<BTreeMap<String, u64>>,
}

impl Identities {
    pub fn new(folder: Folder, me: NodeId) -> Result<Identities, crate::Failure> {
        let known = Mutex::new(folder.known_peers()?);
        let own = folder.identity.clone();
        let others = (1..=own.nodes.len() as u16).map(NodeId).filter(|node| *node != me);
        let unmet = Mutex::new(others.filter(|_| own.newcomer || own.rejoining).collect());
        Ok(Identities { own: Mutex::new(own), unmet, folder, me, known })
    }

    fn identity(&self) -> &Identity {
        &self.folder.identity
    }

    fn is_newcomer(&self) -> bool {
        !self.unmet.lock().expect("no holder of the unmet panics").is_empty()
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
            newcomer: self.is_newcomer(),
        }
    }

    /// What to answer to a hello. An error is this node's own: the caller is to try again.
    pub fn answer(&self, hello: &Hello) -> io::Result<Welcome> {
        Ok(match self.check(hello)? {
            Ok(()) => Welcome::Yes { incarnation: self.identity().incarnation, newcomer: self.is_newcomer() },
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
        self.meet(&hello.name, hello.incarnation, hello.newcomer)
    }

    /// Compares a node's incarnation with the one it was known under, or remembers it. The inner error is the node's fault,
    /// the outer one this node's: it is not known yet then.
    pub fn meet(&self, name: &str, incarnation: u64, newcomer: bool) -> io::Result<Result<(), String>> {
        let mut known = self.known.lock().expect("no holder of the incarnations panics");
        match known.get(name) {
            Some(&before) if before == incarnation => return Ok(Ok(())),
            Some(_) if !newcomer => {
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

    /// Another node has welcomed this one, and knows its folder from now on.
    pub fn welcomed(&self, by: NodeId) -> io::Result<()> {
        let mut unmet = self.unmet.lock().expect("no holder of the unmet panics");
        if unmet.len() == 1 && unmet.contains(&by) {
            self.write(|own| own.newcomer = false)?;
        }
        unmet.remove(&by);
        Ok(())
    }

    /// This node is whole again.
    pub fn rejoined(&self) -> io::Result<()> {
        self.write(|own| own.rejoining = false)
    }

    fn write(&self, change: impl FnOnce(&mut Identity)) -> io::Result<()> {
        let mut own = self.own.lock().expect("no holder of the identity panics");
        change(&mut own);
        self.folder.remember_identity(&own)
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
    use std::path::Path;

    use super::*;

    #[test]
    fn hello_and_welcome_round_trip() {
        let hello = Hello {
            purpose: Purpose::Bulk,
            from: NodeId(3),
            name: "n3".into(),
            cluster: "nodes=n1,n2,n3".into(),
            incarnation: 7,
            newcomer: true,
        };
        assert_eq!(Hello::decode(hello.encode()), Ok(hello));
        for welcome in [Welcome::Yes { incarnation: 5, newcomer: false }, Welcome::No("why".into())] {
            assert_eq!(Welcome::decode(welcome.encode()), Ok(welcome));
        }
    }

    /// Node `name` of three, in a folder of its own.
    fn identities(under: &Path, folder: &str, name: &str, rejoin: bool) -> Identities {
        let names = ["n1", "n2", "n3"];
        let config = crate::Config {
            name: name.into(),
            data: under.join(folder),
            listen: String::new(),
            peers: names.map(|name| (name.to_owned(), String::new())).to_vec(),
            engine: storage::Kind::Memory,
            history: storage::History::All,
            shards: 1,
            cores: None,
            entry_cache_bytes: 0,
            rejoin,
            journal_stderr: false,
        };
        let me = names.iter().position(|other| *other == name).unwrap() as u16 + 1;
        Identities::new(Folder::open(&config).unwrap(), NodeId(me)).unwrap()
    }

    fn is_welcome(at: &Identities, who: &Identities) -> bool {
        matches!(at.answer(&who.hello(Purpose::Ordered)).unwrap(), Welcome::Yes { .. })
    }

    #[test]
    fn hello_of_another_folder_is_refused_unless_it_is_a_newcomer_until_all_have_met_it() {
        let under = tempfile::tempdir().unwrap();
        let open = |folder: &str, name: &str, rejoin| identities(under.path(), folder, name, rejoin);
        let (one, three) = (open("1", "n1", false), open("3", "n3", false));
        let lost = open("2", "n2", false);
        assert!(is_welcome(&one, &lost) && is_welcome(&three, &lost));
        let wiped = open("2 wiped", "n2", false);
        assert!(!is_welcome(&one, &wiped) && !is_welcome(&three, &wiped));

        // It is made whole while the third node is away, and started once more.
        let new = open("2 new", "n2", true);
        assert!(is_welcome(&one, &new));
        new.welcomed(NodeId(1)).unwrap();
        new.rejoined().unwrap();
        drop(new);
        let new = open("2 new", "n2", false);
        assert!(!new.identity().rejoining && is_welcome(&three, &new), "it is no other than the first met");
        for node in [NodeId(1), NodeId(3)] {
            new.welcomed(node).unwrap();
        }
        drop(new);
        let new = open("2 new", "n2", false);
        assert!(!new.hello(Purpose::Ordered).newcomer && is_welcome(&one, &new) && is_welcome(&three, &new));
        assert!(!is_welcome(&three, &lost), "the lost folder must not come back");
    }
}
