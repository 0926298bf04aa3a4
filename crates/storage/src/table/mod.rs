//! The versioned table: shards of a node in its engine, and the evaluation of every op.
//!
//! # The problem
//!
//! A key has more than its value: when it was written, what it held before, until when it lasts, whether a request that
//! comes again has been run already. All of it must be the same on every replica, be found without a search, and cost
//! no more however much was written and removed before.
//!
//! # How it is solved
//!
//! The owner loads one copy (generation) of a shard, then applies entries in the order of the shard's log. Each op gets a
//! *version* of its own: the one its entry proposes, or the next after the shard's newest (`last`), whichever is higher.
//! Versions carry the time, so `last` is the shard's clock too: a value has expired when `last` has reached its deadline.
//! A row is evaluated as of the op's version: what expires at it is gone for it.
//!
//! Three kinds of rows belong to a key, one to a request that is remembered, and one to the shard itself (`keys` has the
//! bytes). The rows of one key, with times in seconds:
//!
//! ```text
//! put k=a          at 10      current  k          value a, version 10, ordinal 0, nothing kept before it
//! put k=b, ttl 5   at 20      current  k          value b, version 20, ordinal 1, one kept before it, deadline 25
//!                             older    k, place 0 value a, version 10
//!                             deadline 25, k      (the expiry index)
//! advance          to 31      current  k          deleted at 25, ordinal 2, two kept, to be forgotten at 31 + deleted_micros
//!                             older    k, place 0 value a;   k, place 1  value b
//!                             deadline 31 + deleted_micros, k
//! later                       nothing of k, and the shard's floor is 25
//! ```
//!
//! - The newest revision of a key is one lookup. Those before it lie in a ring (`older`): the next one to become old is
//!   written over the oldest, and nothing has to be removed.
//! - What is due is found in the expiry index, and removed by a bounded sweep at the end of each entry (`expiry`).
//! - What a request answered is remembered beside the rows it changed (`sessions`), so a retry is answered and not run.
//!
//! This is the *ordered* layout. Where writes have no order rows come with their version, and their copies have another one (`merged`):
//! what they promise alike is the same for whoever reads.
//!
//! # Revisions
//!
//! Of each key the newest [`History`] revisions are kept, deletions and changes of the deadline counted; those of a deleted
//! key for [`Options::deleted_micros`] only. With `Count(1)`, and after that time, a deleted key leaves nothing but the
//! shard's `floor`: the highest version at which a key was wholly forgotten. A read at a version answers with the newest
//! revision at or below it. When there is none, the answer is `not found` if the key surely was absent, else `trimmed`.
//!
//! # Guarantees
//!
//! - Versions rise within a shard, and every write of one op has the op's version. What an entry has changed is told in that order
//!   ([`Table::take_changes`]), what its sweep has expired at the newest version: no later entry changes anything at one up to it.
//! - The index has a row for each deadline of a newest revision, and no other; nothing that is overdue outlives a sweep that
//!   had room for it ([`Table::audit`] checks both).
//! - What an entry costs follows from its ops: no scan over what others removed, and nothing that grows with a history.
//! - A request under an id runs once, while it is valid.
//!
//! # Caveats
//!
//! - Asking about a shard that was not loaded is a bug of the owner, and panics; so does an entry that is not the next one.
//! - All replicas of a shard need the same [`Options`]; what it keeps otherwise, an entry says ([`kv::keyspace::Rules`]).
//! - An expired value is gone for every reader at once, but its row stays until a write or a sweep comes to it. A shard that is
//!   idle needs an [`Op::Advance`] for that ([`Table::due`] says when).

mod audit;
mod expiry;
mod forget;
pub mod fuzz;
mod history;
mod layout;
mod ledger;
mod merged;
mod older;
mod range;
mod read;
mod record;
mod sessions;
mod several;
mod shard;
mod snapshot;
mod split;
mod transaction;
mod translate;
mod trim;
mod update;
mod usage;
mod write;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;
use kv::keyspace::{self, Keep, Standing};
use kv::watch::Change;
use kv::{Answer, Entry, Error, KEYS_PER_OP_MAX, Op, ShardId, TRIM_REVISIONS_MAX, Version};
use mutant::Mutant;

use self::forget::Leftovers;
use self::older::Places;
use self::read::Reader;
use self::shard::{Shard, State};
use crate::engine::{Engine, EngineError, Flush, Maintenance, View};
use crate::fresh::{Asked, Fresh};
use crate::keys::RowSet;

pub use self::expiry::EXPIRED_PER_APPLY_MAX;
pub use self::layout::Layout;
pub use self::ledger::{Looked, Orphaned};
pub use self::sessions::{ANSWER_BYTES_KEPT, SESSION_BYTES_MAX};
pub use self::snapshot::{InstallError, ShardSnapshot};
pub use self::split::Cut;

/// What one step of a delete-range or trim takes.
pub const STEP_MAX: usize = KEYS_PER_OP_MAX;
const _: () = assert!(STEP_MAX == TRIM_REVISIONS_MAX);

/// How the table keeps its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many revisions of each key.
    pub history: History,
    /// The same of copies in the merged layout whose rules say nothing of it; `None` = as of others.
    pub merged_history: Option<History>,
    /// How long those of a deleted key are kept, in microseconds; `u64::MAX` = for ever.
    pub deleted_micros: u64,
    /// Bytes that a shard's remembered requests may take, in memory and in rows.
    pub session_bytes_max: u64,
    /// Keys that one step of a delete-range or trim takes, and revisions that it forgets: [`STEP_MAX`], but in tests.
    pub step_max: usize,
}

impl Options {
    /// How older revisions lie of which nothing else is said.
    fn places(self) -> Places {
        Places::of(self.history.keep())
    }

    /// So many revisions, and those of deleted keys for ever.
    pub fn of(history: History) -> Options {
        let (session_bytes_max, step_max) = (SESSION_BYTES_MAX, STEP_MAX);
        let deleted_micros = u64::MAX;
        Options { history, merged_history: None, deleted_micros, session_bytes_max, step_max }
    }
}

/// How many revisions of a key are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// The newest so many, at least 1.
    Count(u32),
    /// All.
    All,
    /// Those that were the newest at some time in so many microseconds before now, and some that were before.
    Micros(u64),
}

impl History {
    fn keep(self) -> u64 {
        match self {
            History::Count(count) => u64::from(count.max(1)),
            History::All | History::Micros(_) => u64::MAX,
        }
    }
}

impl Options {
    /// These, but for what a shard's own rules say.
    pub fn ruled_by(self, keep: &Keep) -> Options {
        let history = keep.history.map_or(self.history, |history| match history {
            keyspace::History::Count(count) => History::Count(count),
            keyspace::History::All => History::All,
            keyspace::History::Micros(micros) => History::Micros(micros),
        });
        Options { history, deleted_micros: keep.deleted_micros.unwrap_or(self.deleted_micros), ..self }
    }
}

/// Up to where a shard has applied its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The index of the newest entry. 0 = none.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The newest version.
    pub last: Version,
    /// What the shard goes by, and what it holds.
    pub standing: Standing,
}

/// What became of one op of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Its answer; of a repeated request, the first one's.
    pub result: Result<Answer, Error>,
    /// Its version; of a repeated request, the first one's; of one that was refused unrun, the shard's newest.
    pub version: Version,
}

/// The clock that a read counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// None: what has expired by the shard's newest version is gone, and nothing else.
    #[default]
    Shard,
    /// Of a reader who can order an advance: what is due on it, or asked at a version between the shard's newest and it, needs
    /// the shard to advance first.
    Orders(Version),
    /// Of a reader who cannot: what is due on it is left out, and the read says that something was.
    Hides(Version),
}

/// What became of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// It was made.
    Done {
        /// What was found.
        result: Result<Answer, Error>,
        /// The shard's newest version when it was read.
        last: Version,
        /// Something was left out that has expired by the reader's clock only ([`Clock::Hides`]), or a version up to that clock
        /// was refused: other readers may find it yet.
        hidden: bool,
    },
    /// The shard has to reach this version first: order [`Op::Advance`] to it, and ask again.
    NeedsAdvance(Version),
}

/// Why an evaluation ended without an answer.
#[derive(Debug)]
enum Stop {
    Refused(Error),
    Engine(EngineError),
    NeedsAdvance(Version),
}

/// All shards of a core of a node.
pub struct Table {
    fresh: Fresh,
    options: Options,
    shards: BTreeMap<ShardId, Shard>,
    /// The next chunk of each install under way.
    installs: BTreeMap<RowSet, u32>,
    leftovers: Leftovers,
    /// The error that left an entry half applied.
    stopped: Option<String>,
}

impl Table {
    /// Over an engine, which other tables may share, each with other shards; no shard is loaded yet.
    pub fn open(engine: Arc<dyn Engine>, options: Options) -> Table {
        let (fresh, (shards, installs, leftovers)) = (Fresh::over(engine), Default::default());
        Table { fresh, options, shards, installs, leftovers, stopped: None }
    }

    /// Makes a copy of a shard the current one. A copy without rows is an empty shard.
    pub fn load(&mut self, shard: ShardId, generation: u32) -> Result<Applied, EngineError> {
        self.load_as(shard, generation, Layout::Ordered)
    }

    /// The same; a copy without rows is an empty shard in this layout.
    pub fn load_as(&mut self, shard: ShardId, generation: u32, new: Layout) -> Result<Applied, EngineError> {
        let set = RowSet { shard, generation };
        let loaded = Shard::load(&self.fresh, set, new)?;
        self.installs.remove(&set);
        self.leftovers.forget(set);
        let applied = loaded.state.told();
        let before = self.shards.insert(shard, loaded).filter(|before| before.set != set);
        before.iter().for_each(|before| self.fresh.note_no_more(&before.set.prefix()));
        self.leftovers.note(before);
        Ok(applied)
    }

    /// Applies an entry; one result per op. An entry that is applied already is skipped: no results.
    ///
    /// After an error the table is stopped: see the caveat of the crate.
    pub fn apply(
        &mut self,
        shard: ShardId,
        index: u64,
        term: u64,
        entry: &Entry,
    ) -> Result<Vec<Done>, EngineError> {
        self.check()?;
        let shard = loaded_mut(&mut self.shards, shard);
        let State { applied, term: before, .. } = shard.state;
        if index <= applied {
            return Ok(Vec::new());
        }
        assert_eq!(index, applied + 1, "the entry that comes next: none is left out");
        assert!(term >= before, "entry {index} has term {term}, the one before it {before}");
        tracing::trace!("an entry is evaluated");
        let result = shard.apply(&mut self.fresh, self.options, (index, term), entry);
        result.inspect_err(|error| self.stopped = Some(error.to_string()))
    }

    /// Applies an entry that holds no ops (the protocol's own).
    pub fn apply_empty(&mut self, shard: ShardId, index: u64, term: u64) -> Result<(), EngineError> {
        self.apply(shard, index, term, &Entry { proposed: Version::ZERO, ops: Vec::new() }).map(|_| ())
    }

    /// Takes what the newest entry of a shard has changed: in the order of its ops, and of the keys of each; what has expired last.
    pub fn take_changes(&mut self, shard: ShardId) -> Vec<Change> {
        std::mem::take(&mut loaded_mut(&mut self.shards, shard).changes)
    }

    /// Reads a shard as it is, by a clock.
    pub fn read(&self, shard: ShardId, op: &Op, clock: Clock) -> Result<Read, EngineError> {
        let Shard { set, state, .. } = self.loaded(shard);
        let keep = state.keeps(self.options).history.keep();
        let (usual, hidden) = (self.options.places(), Cell::new(false));
        let reader = Reader { rows: &self.fresh, set: *set, state, clock, keep, usual, hidden };
        let result = match op.validate().map_err(Stop::from).and_then(|()| reader.evaluate(op)) {
            Ok(answer) => Ok(answer),
            Err(Stop::Refused(error)) => Err(error),
            Err(Stop::NeedsAdvance(version)) => return Ok(Read::NeedsAdvance(version)),
            Err(Stop::Engine(error)) => return Err(error),
        };
        Ok(Read::Done { result, last: state.last, hidden: reader.hidden.get() })
    }

    /// Whether a read finds all it needs in memory: it does not wait for the engine.
    pub fn is_in_memory(&self, shard: ShardId, op: &Op) -> bool {
        let Op::Get { key, at: None } = op else { return false };
        self.fresh.in_memory(&self.loaded(shard).set.current(key)).is_some()
    }

    /// Up to where a shard has applied its log.
    pub fn applied(&self, shard: ShardId) -> Applied {
        self.loaded(shard).state.told()
    }

    /// When a shard has something to remove (what has expired, what is left of deleted keys, requests that are out of
    /// date), in microseconds since 1970: an [`Op::Advance`] to that time removes some of it. `None` = nothing ever is.
    pub fn due(&self, shard: ShardId) -> Option<u64> {
        self.loaded(shard).due()
    }

    /// How many sessions a shard remembers.
    pub fn sessions(&self, shard: ShardId) -> usize {
        self.loaded(shard).sessions.len()
    }

    /// The copy of a shard as it is now, to be read on any thread.
    pub fn snapshot(&mut self, shard: ShardId) -> ShardSnapshot {
        let Shard { set, state, .. } = *self.loaded(shard);
        ShardSnapshot::new(self.fresh.view(), set, state)
    }

    /// Prepares another copy of a shard for the chunks of a snapshot, and removes what an earlier attempt left in it.
    pub fn install_begin(&mut self, shard: ShardId, generation: u32) -> Result<(), EngineError> {
        while self.forget(shard, generation)? {}
        self.installs.insert(RowSet { shard, generation }, 0);
        Ok(())
    }

    /// Writes a chunk; after the last one tells where the copy is. It is current when it is loaded.
    pub fn install_chunk(
        &mut self,
        shard: ShardId,
        generation: u32,
        chunk: &Bytes,
    ) -> Result<Option<Applied>, InstallError> {
        self.check()?;
        let set = RowSet { shard, generation };
        let Some(next) = self.installs.get_mut(&set) else {
            return Err(InstallError::Malformed {
                shard,
                what: "the install was not begun, or is done".into(),
            });
        };
        let state = snapshot::install(&mut self.fresh, set, *next, chunk)?;
        *next += 1;
        if state.is_some() {
            let chunks = self.installs.remove(&set);
            assert!(chunks.is_some_and(|chunks| chunks > 0), "a copy came in whole with {chunks:?} chunks");
        }
        Ok(state.map(|state| state.told()))
    }

    /// Whether a copy of a shard is the current one.
    pub fn is_loaded(&self, shard: ShardId) -> bool {
        self.shards.contains_key(&shard)
    }

    /// A hash of all that a shard's copy holds: equal for equal copies that applied the same entries.
    pub fn digest(&self, shard: ShardId) -> Result<u64, EngineError> {
        let Shard { set, state, .. } = self.loaded(shard);
        let mut hash = Fnv::default();
        hash.add(&state.encode());
        let (from, to) = (set.current(b""), set.end());
        // It is no work of the table.
        self.fresh.peek().scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |row, value| {
            hash.add(&RowSet::suffix(&row));
            hash.add(&value);
            ControlFlow::Continue(())
        })?;
        Ok(hash.0)
    }

    /// See [`Fresh::flush`]. A stopped table's flush fails: what it holds must not outlive it.
    pub fn flush(&mut self) -> Box<dyn Flush> {
        match &self.stopped {
            Some(why) => Box::new(Refused(why.clone())),
            None if mutant::is(Mutant::SessionLostAtFlush) => {
                sessions::flush_without(&mut self.fresh, self.shards.values().map(|shard| shard.set))
            }
            None => self.fresh.flush(),
        }
    }

    /// See [`Fresh::let_go`].
    pub fn let_go(&mut self) -> Option<Maintenance> {
        self.fresh.let_go()
    }

    /// See [`Engine::maintain`].
    pub fn maintain(&self) -> Option<Maintenance> {
        self.fresh.maintain()
    }

    /// See [`Fresh::bytes_unflushed`].
    pub fn bytes_unflushed(&self) -> u64 {
        self.fresh.bytes_unflushed()
    }

    /// See [`Fresh::take_asked`].
    #[doc(hidden)]
    pub fn take_asked(&self) -> Asked {
        self.fresh.take_asked()
    }

    fn check(&self) -> Result<(), EngineError> {
        self.stopped.as_ref().map_or(Ok(()), |why| Err(EngineError::Stopped(why.clone())))
    }

    fn loaded(&self, shard: ShardId) -> &Shard {
        self.shards.get(&shard).unwrap_or_else(|| not_loaded(shard))
    }
}

fn loaded_mut(shards: &mut BTreeMap<ShardId, Shard>, shard: ShardId) -> &mut Shard {
    shards.get_mut(&shard).unwrap_or_else(|| not_loaded(shard))
}

fn not_loaded(shard: ShardId) -> ! {
    panic!("shard {shard} is asked about before it was loaded")
}

struct Refused(String);

impl Flush for Refused {
    fn run(self: Box<Self>) -> Result<(), EngineError> {
        Err(EngineError::Stopped(self.0))
    }
}

/// FNV-1a with 64 bits (draft-eastlake-fnv): small, and good enough to compare copies that nobody forges.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in (bytes.len() as u64).to_be_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Refused(error)
    }
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Stop {
        Stop::Engine(error)
    }
}
