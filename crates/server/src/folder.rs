//! The data folder: whose it is, and that only one process has it.
//!
//! A node may have none ([`Folder::Nowhere`]). Then its identity is drawn at each start, nothing is written, and all that it
//! stores ends with its process. Only a cluster of one can be so: a member that forgets would break what it had promised.
//!
//! `identity.json` is written at every start: the node's name and id, the nodes that the cluster was founded with, the cluster it
//! belongs to, a random incarnation, how often the folder was started, and the options that cannot change later. Who is to join a
//! cluster has neither id nor cluster nor options until it is given them ([`Joining`]). It is written again when the node has
//! learned which cluster that is, when its log has begun, and when the others found it to be a copy. `peers.json` remembers the
//! lives in which the other nodes were met last, so that a node that comes back under its id with a folder that was wiped, copied or
//! restored from an old copy is noticed.
//! What they say and when is decided by [`node::identity`]; here is how they look. `lock` is held for the life of the process.
//!
//! # Formats
//!
//! Every file says the number of its format, and is refused with what to do when that is another: `identity.json`, which
//! stands for the folder as a whole, `peers.json`, each segment of the log (`wal`), the engine's files (`storage`: a file
//! `format` for the rows of the table, a byte in each checkpoint of engine `memory`).
//!
//! # What is missing is refused
//!
//! A log or an engine without `identity.json`, and an identity whose log has begun without one, are what is left of a folder:
//! what this node had promised is gone, and it would start as if it never had. It refuses, and says how to come back. A log
//! that reaches back further than the engine needs nothing; an engine that lacks what the log no longer holds is noticed when
//! the replicas begin.
//!
//! # Who may read it
//!
//! The process makes everything for its own user alone: folders with mode 700, files with 600. A folder that was made earlier
//! with a looser mode is closed to others when it is opened, and the journal tells so; one that holds other things too is not
//! this node's to close, so it stays as it is, and only what the node makes in it is closed.

mod format;
pub(crate) mod fuzz;
mod identity;
mod peers;

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kv::cluster::Terms;
use kv::{ClusterId, NodeId};
use node::identity::{Identity, Joiner, Kept, Lives, come_back};
use rustix::fs::{FlockOperation, flock};
use storage::Kind;

use self::identity::{Fixed, Found};
use crate::{Config, Failure};

/// The mode of a folder that is closed to other users.
const CLOSED: u32 = 0o700;

/// Where a node keeps who it is and what it stores.
#[derive(Debug)]
pub(crate) enum Folder {
    /// An open data folder.
    Held(Box<Held>),
    /// None: this identity ends with the process.
    Nowhere(Box<Identity>, Terms),
}

/// What is in a data folder that was opened.
#[derive(Debug)]
pub(crate) enum Opened {
    /// It is of a node that has an id.
    Node(Folder),
    /// It is of one that the cluster is to give one.
    Joining(Joining),
}

/// An open data folder of a node with an id.
#[derive(Debug)]
pub(crate) struct Held {
    place: Place,
    /// As it was when the folder was opened, and this start was counted.
    identity: Identity,
    fixed: Fixed,
}

/// An open data folder of a node that is to be given an id.
#[derive(Debug)]
pub(crate) struct Joining {
    place: Place,
    joiner: Joiner,
    engine: Kind,
}

/// A folder that this process has, and no other.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// What the journal should say of opening it.
    note: Option<String>,
    _lock: File,
}

impl Opened {
    /// Opens the folder that the settings name, or makes it at the first start. A start is counted in it before anything is said.
    pub fn open(config: &Config) -> Result<Opened, Failure> {
        let Some(path) = &config.data else {
            return Ok(Opened::Node(Folder::Nowhere(Box::new(identity::new(config)), config.terms())));
        };
        let place = Place::claim(path)?;
        let text = read(&place.path.join(IDENTITY)).map_err(|error| refused("read", path, &error))?;
        let found = match text {
            Some(text) => started(identity::check(path, &text, config)?, config),
            None => nothing_without_identity(path, config).map(|()| begun(config))?,
        };
        match found {
            Found::Node(identity, fixed) => {
                let held = Held { place, identity: *identity, fixed };
                held.count()?;
                Ok(Opened::Node(Folder::Held(Box::new(held))))
            }
            Found::Joiner(joiner) => {
                check_peer(config)?;
                let joining = Joining { place, joiner, engine: config.engine };
                joining.place.note_start(&identity::encode_joiner(&joining.joiner))?;
                Ok(Opened::Joining(joining))
            }
        }
    }

    /// Where the journal's daily files are.
    pub fn journal(&self) -> Option<PathBuf> {
        self.place().map(|place| place.path.join("journal"))
    }

    /// What the journal should say of opening it.
    pub fn note(&self) -> Option<&str> {
        self.place().and_then(|place| place.note.as_deref())
    }

    fn place(&self) -> Option<&Place> {
        match self {
            Opened::Node(Folder::Held(held)) => Some(&held.place),
            Opened::Node(Folder::Nowhere(..)) => None,
            Opened::Joining(joining) => Some(&joining.place),
        }
    }
}

impl Joining {
    /// Who asks.
    pub fn joiner(&self) -> &Joiner {
        &self.joiner
    }

    /// Keeps what the cluster gave the node, which is one of it from then on.
    pub fn joined(self, me: NodeId, cluster: ClusterId, terms: Terms) -> Result<Folder, Failure> {
        let identity = self.joiner.joined(me, cluster, terms.to_string());
        let held = Held { place: self.place, identity, fixed: Fixed { terms, engine: self.engine } };
        held.count()?;
        Ok(Folder::Held(Box::new(held)))
    }
}

impl Folder {
    /// Who the node is, as it was when the folder was opened.
    pub fn identity(&self) -> &Identity {
        match self {
            Folder::Held(held) => &held.identity,
            Folder::Nowhere(identity, _) => identity,
        }
    }

    /// What its cluster has in common for ever.
    pub fn terms(&self) -> Terms {
        match self {
            Folder::Held(held) => held.fixed.terms,
            Folder::Nowhere(_, terms) => *terms,
        }
    }

    /// Where the log's segments are.
    pub fn log(&self) -> Option<PathBuf> {
        self.part("log")
    }

    /// Where the engine's files are.
    pub fn engine(&self) -> Option<PathBuf> {
        self.part("engine")
    }

    fn part(&self, name: &str) -> Option<PathBuf> {
        match self {
            Folder::Held(held) => Some(held.place.path.join(name)),
            Folder::Nowhere(..) => None,
        }
    }

    /// The lives that the other nodes were met in last.
    pub fn lives(&self) -> Result<Lives, Failure> {
        match self {
            Folder::Held(held) => held.lives(),
            Folder::Nowhere(..) => Ok(Lives::new()),
        }
    }

    /// Keeps this from now on, also over a power loss.
    pub fn keep(&self, kept: &Kept) -> io::Result<()> {
        match self {
            Folder::Held(held) => held.keep(kept),
            Folder::Nowhere(..) => Ok(()),
        }
    }

    /// What to say when the engine has applied entries of a shard of which the log knows nothing.
    pub fn log_is_lost(&self) -> Failure {
        match self {
            Folder::Held(held) => log_is_lost(&held.place.path, &held.identity),
            Folder::Nowhere(..) => unreachable!("an engine that begins empty has applied nothing"),
        }
    }
}

impl Place {
    fn claim(path: &Path) -> Result<Place, Failure> {
        DirBuilder::new()
            .recursive(true)
            .mode(CLOSED)
            .create(path)
            .map_err(|error| refused("make", path, &error))?;
        let note = close(path).map_err(|error| refused("read", path, &error))?;
        let lock = File::create(path.join("lock")).map_err(|error| refused("write in", path, &error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Failure::Refused(format!(
                "the data folder {} is in use by another process: stop that one, or give --data another folder",
                path.display()
            ))
        })?;
        Ok(Place { path: path.to_owned(), note, _lock: lock })
    }

    /// Keeps who the node is in this start.
    fn note_start(&self, identity: &[u8]) -> Result<(), Failure> {
        write(&self.path.join(IDENTITY), identity).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::Failed(format!(
                "cannot count this start in the data folder {}: {error}; it can start when there is room",
                self.path.display()
            )),
            _ => refused("write in", &self.path, &error),
        })
    }
}

fn refused(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::Refused(format!("cannot {what} the data folder {}: {error}", path.display()))
}

/// Whoever is to join says where other nodes reach it.
fn check_peer(config: &Config) -> Result<(), Failure> {
    match config.peer() {
        Some(_) => Ok(()),
        None => Err(Failure::Refused(
            "--join: the nodes of the cluster must reach this one; say where by --listen-peer HOST:PORT, and by \
             --advertise-peer HOST:PORT where that is another address"
                .into(),
        )),
    }
}

/// Of a new folder.
fn begun(config: &Config) -> Found {
    match config.join.is_empty() {
        true => Found::Node(Box::new(identity::new(config)), Fixed::new(config)),
        false => {
            let zone = config.zone.as_deref().unwrap_or_default();
            Found::Joiner(Joiner::new(&config.name, zone, &mut crate::random))
        }
    }
}

/// At another start of a folder.
fn started(found: Found, config: &Config) -> Found {
    let zone = |before: String| config.zone.clone().unwrap_or(before);
    match found {
        Found::Node(identity, fixed) => {
            let identity = identity.started(&mut crate::random);
            Found::Node(Box::new(Identity { zone: zone(identity.zone.clone()), ..identity }), fixed)
        }
        Found::Joiner(joiner) => {
            let joiner = joiner.started(&mut crate::random);
            Found::Joiner(Joiner { zone: zone(joiner.zone.clone()), ..joiner })
        }
    }
}

impl Held {
    /// Keeps who the node is in this start.
    fn count(&self) -> Result<(), Failure> {
        if self.identity.begun && !has_log(&self.place.path) {
            return Err(log_is_lost(&self.place.path, &self.identity));
        }
        self.place.note_start(&identity::encode(&self.identity, &self.fixed))
    }

    fn lives(&self) -> Result<Lives, Failure> {
        let file = self.place.path.join(PEERS);
        let failed = |error: io::Error| Failure::Refused(format!("cannot read {}: {error}", file.display()));
        match read(&file).map_err(failed)? {
            Some(text) => peers::read(&file, &text, &self.identity.name),
            None => Ok(Lives::new()),
        }
    }

    fn keep(&self, kept: &Kept) -> io::Result<()> {
        match kept {
            Kept::Identity(identity) => {
                write(&self.place.path.join(IDENTITY), &identity::encode(identity, &self.fixed))
            }
            Kept::Lives(lives) => write(&self.place.path.join(PEERS), &peers::encode(lives)),
        }
    }
}

const IDENTITY: &str = "identity.json";
const PEERS: &str = "peers.json";
/// What may be in a folder before its node made anything in it: of file systems, and of who starts the node.
const NOT_OURS: &[&str] = &["lock", "lost+found", "stderr.log"];

/// Closes the folder to other users, if it is this node's; returns what to tell of it.
fn close(path: &Path) -> io::Result<Option<String>> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(None);
    }
    let mut others = fs::read_dir(path)?.filter_map(|entry| Some(entry.ok()?.file_name()));
    let is_ours =
        path.join(IDENTITY).exists() || others.all(|name| NOT_OURS.iter().any(|ours| name == **ours));
    Ok(Some(if !is_ours {
        format!(
            "it holds other things too, so its mode {mode:o} stays; what this node makes in it is closed to others"
        )
    } else {
        match fs::set_permissions(path, Permissions::from_mode(CLOSED)) {
            Ok(()) => format!("it is closed to other users now: its mode was {mode:o} and is {CLOSED:o}"),
            Err(error) => format!(
                "other users may look into it: its mode is {mode:o}, and it cannot be closed: {error}"
            ),
        }
    }))
}

/// Whether the log has a segment.
fn has_log(path: &Path) -> bool {
    let is_segment = |entry: fs::DirEntry| entry.path().extension().is_some_and(|suffix| suffix == "log");
    fs::read_dir(path.join("log")).is_ok_and(|entries| entries.flatten().any(is_segment))
}

/// A folder without an identity is new; one with data is damaged.
fn nothing_without_identity(path: &Path, config: &Config) -> Result<(), Failure> {
    match ["log", "engine"].into_iter().find(|part| path.join(part).exists()) {
        None => Ok(()),
        Some(part) => Err(Failure::Refused(format!(
            "the data folder {} has a folder '{part}' and no {IDENTITY}: it is damaged; restore the file; or move the \
             folder away, {}",
            path.display(),
            come_back(&config.name)
        ))),
    }
}

fn log_is_lost(path: &Path, identity: &Identity) -> Failure {
    let what_to_do = match identity.founders.len() {
        1 => "restore the whole data folder from a copy, or give --data a new folder to begin with nothing"
            .into(),
        _ => {
            let come_back = come_back(&identity.name);
            format!("restore its files; or move the whole data folder away, {come_back}")
        }
    };
    Failure::Refused(format!(
        "the log in {} is lost: the node had begun one, and it is empty or gone, and with it what was acknowledged and not in \
         the engine yet, and what this node had promised to others; {what_to_do}",
        path.join("log").display()
    ))
}

fn read(file: &Path) -> io::Result<Option<String>> {
    match File::open(file) {
        Ok(mut file) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(Some(text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces a file so that after a power loss it is the old one or the new one.
fn write(file: &Path, content: &[u8]) -> io::Result<()> {
    let folder = file.parent().expect("a file of the data folder is in it");
    let new = file.with_extension("new");
    let mut writer = File::create(&new)?;
    writer.write_all(content)?;
    writer.sync_all()?;
    fs::rename(&new, file)?;
    File::open(folder)?.sync_all()
}
