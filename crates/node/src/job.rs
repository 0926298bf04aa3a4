//! Jobs: what the driver wants done with the table, and what comes back.
//!
//! The driver hands out [`Job`]s in order; the owner runs them in that order with an [`Executor`] (on its own thread where
//! the engine touches a disk, in the same thread where it does not, in the simulator when it likes) and gives back
//! [`Done`]s. A job that takes long ends in [`Ran::Later`]: that part may run beside the following jobs.

use bytes::Bytes;
use kv::keyspace::Standing;
use kv::merged::{Found, Look};
use kv::watch::Change;
use kv::{Answer, Entry, Error, Index, Op, Position, Protocol, ShardId, Share, Version};
use replication::Ticket;
use storage::{Clock, Cut, EngineError, Layout, Looked, Orphaned, Read, ShardSnapshot, Table};

/// Something to do with the table.
#[derive(Debug)]
pub enum Job {
    /// Evaluate an entry. Ends in [`Done::Applied`].
    Apply {
        /// Its shard.
        shard: ShardId,
        /// Where it stands.
        at: Position,
        /// [`kv::Entry`] bytes; empty = nothing to evaluate.
        entry: Bytes,
    },
    /// Read. Ends in [`Done::Read`].
    Read {
        /// The shard.
        shard: ShardId,
        /// The driver's name for it.
        token: u64,
        /// What to read.
        op: Op,
        /// What the reader takes for expired.
        clock: Clock,
        /// What the answer is counted against; without room there it is not read.
        charge: Share,
    },
    /// Look what a copy in the merged layout holds. Ends in [`Done::Looked`].
    Look {
        /// The shard.
        shard: ShardId,
        /// The replica's name for it.
        ticket: Ticket,
        /// What to look for.
        what: Look,
    },
    /// Find what a copy has above a version, a piece at a time. Ends in [`Done::Orphaned`].
    Orphaned {
        /// The shard.
        shard: ShardId,
        /// The driver's name for it.
        number: u64,
        /// The version.
        base: Version,
        /// What was looked through before.
        after: Option<Looked>,
    },
    /// Take a snapshot of a shard. Ends in [`Done::Snapshot`].
    Snapshot {
        /// The shard.
        shard: ShardId,
        /// For which node.
        to: kv::NodeId,
    },
    /// Freeze a shard that is cut. Ends in [`Done::Frozen`].
    Freeze {
        /// The shard.
        shard: ShardId,
        /// The core that drives the parts for which it is.
        core: usize,
    },
    /// Take a step of a pass that brings a shard's rows to its parts. Ends in [`Done::Cut`].
    Cut {
        /// The shard that is cut.
        from: ShardId,
        /// The pass.
        cut: Box<Cut>,
    },
    /// Make room for a copy of a shard that is coming in. Ends in [`Done::Installed`].
    InstallBegin {
        /// The shard.
        shard: ShardId,
        /// The new copy's generation.
        generation: u32,
    },
    /// Rows of that copy. Ends in [`Done::Installed`].
    InstallChunk {
        /// The shard.
        shard: ShardId,
        /// The new copy's generation.
        generation: u32,
        /// The rows.
        chunk: Bytes,
    },
    /// Switch to a generation. Ends in [`Done::Loaded`].
    Load {
        /// The shard.
        shard: ShardId,
        /// The generation.
        generation: u32,
        /// How its rows lie, where it is empty.
        layout: Layout,
    },
    /// Let go of a shard: nothing more is asked of it before it is loaded again. Ends in [`Done::Closed`].
    Close {
        /// The shard.
        shard: ShardId,
    },
    /// Remove a generation that is no more current, a piece at a time. Ends in [`Done::Forgot`].
    Forget {
        /// The shard.
        shard: ShardId,
        /// The generation.
        generation: u32,
    },
    /// Make everything that was written so far survive a power loss. Ends in [`Done::Flushed`].
    Flush {
        /// The driver's name for it.
        token: u64,
    },
}

/// What came of a job.
pub enum Done {
    /// An entry was applied.
    Applied {
        /// Its shard.
        shard: ShardId,
        /// Its index.
        index: Index,
        /// The shard's newest version.
        last: Version,
        /// When an advance finds something to remove, see [`Table::due`].
        due: Option<u64>,
        /// What the shard goes by, and what it holds.
        standing: Standing,
        /// What it has changed, for those who watch; nothing of the directory's shard.
        changes: Vec<Change>,
        /// The results of its ops.
        results: Vec<(Result<Answer, Error>, Version)>,
    },
    /// A read was made.
    Read {
        /// The shard.
        shard: ShardId,
        /// Its name.
        token: u64,
        /// What it found.
        read: Read,
    },
    /// A copy was looked at.
    Looked {
        /// The shard.
        shard: ShardId,
        /// The replica's name for it.
        ticket: Ticket,
        /// What was found.
        found: Found,
        /// The shard's newest version.
        last: Version,
    },
    /// What a copy has above a version was looked for.
    Orphaned {
        /// The shard.
        shard: ShardId,
        /// Its name.
        number: u64,
        /// What was found.
        found: Orphaned,
    },
    /// A snapshot was taken.
    Snapshot {
        /// The shard.
        shard: ShardId,
        /// For which node.
        to: kv::NodeId,
        /// The state, frozen.
        snapshot: Box<ShardSnapshot>,
    },
    /// A shard that is cut was frozen.
    Frozen {
        /// The shard.
        shard: ShardId,
        /// The core that drives the parts for which it is.
        core: usize,
        /// The state, frozen.
        snapshot: Box<ShardSnapshot>,
    },
    /// A step of a pass was taken.
    Cut {
        /// The shard that is cut.
        from: ShardId,
        /// The pass.
        cut: Box<Cut>,
        /// There are more steps to take.
        more: bool,
    },
    /// A step of an install was made.
    Installed {
        /// The shard.
        shard: ShardId,
        /// The generation.
        generation: u32,
        /// What went wrong.
        result: Result<(), String>,
    },
    /// A generation is current.
    Loaded {
        /// The shard.
        shard: ShardId,
        /// The generation.
        generation: u32,
        /// The shard's newest version there.
        last: Version,
        /// When an advance finds something to remove, see [`Table::due`].
        due: Option<u64>,
        /// What the shard goes by there, and what it holds.
        standing: Standing,
    },
    /// A shard was let go of.
    Closed {
        /// The shard.
        shard: ShardId,
    },
    /// A piece of a generation was removed.
    Forgot {
        /// The shard.
        shard: ShardId,
        /// The generation.
        generation: u32,
        /// There is more to remove.
        more: bool,
    },
    /// A flush ended.
    Flushed {
        /// Its name.
        token: u64,
        /// What may pass is told; anything else ends the process.
        result: Result<(), String>,
    },
}

/// How the rows of a shard lie under a protocol.
pub fn layout_of(protocol: Protocol) -> Layout {
    if protocol.is_merged() { Layout::Merged } else { Layout::Ordered }
}

/// What running a job gives.
pub enum Ran {
    /// It is done.
    Done(Done),
    /// Its long part is to be run, on any thread; the following jobs need not wait.
    Later(Box<dyn FnOnce() -> Result<Done, EngineError> + Send>),
}

/// Runs jobs on a table.
pub struct Executor {
    table: Table,
}

impl Executor {
    /// Over this table.
    pub fn new(table: Table) -> Executor {
        Executor { table }
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The table, for maintenance.
    pub fn table_mut(&mut self) -> &mut Table {
        &mut self.table
    }

    /// Runs one job. An error is one that the process must not outlive: what is in memory may be wrong now.
    pub fn run(&mut self, job: Job) -> Result<Ran, EngineError> {
        Ok(Ran::Done(match job {
            Job::Apply { shard, at, entry } => self.apply(shard, at, &entry)?,
            Job::Read { shard, token, op, clock, charge } => {
                Done::Read { shard, token, read: self.read(shard, &op, clock, &charge)? }
            }
            Job::Look { shard, ticket, what } => {
                let found = self.table.look(shard, &what)?;
                Done::Looked { shard, ticket, found, last: self.table.applied(shard).last }
            }
            Job::Orphaned { shard, number, base, after } => {
                let found = self.table.orphaned(shard, base, after.as_ref())?;
                Done::Orphaned { shard, number, found }
            }
            Job::Snapshot { shard, to } => {
                Done::Snapshot { shard, to, snapshot: Box::new(self.table.snapshot(shard)) }
            }
            Job::Freeze { shard, core } => {
                Done::Frozen { shard, core, snapshot: Box::new(self.table.freeze(shard, core)) }
            }
            Job::Cut { from, mut cut } => {
                let more = self.table.cut(&mut cut)?;
                Done::Cut { from, cut, more }
            }
            Job::InstallBegin { shard, generation } => {
                self.table.install_begin(shard, generation)?;
                Done::Installed { shard, generation, result: Ok(()) }
            }
            Job::InstallChunk { shard, generation, chunk } => {
                let result = self.table.install_chunk(shard, generation, &chunk);
                let result = result.map(|_| ()).map_err(|error| error.to_string());
                Done::Installed { shard, generation, result }
            }
            Job::Load { shard, generation, layout } => {
                let storage::Applied { last, standing, .. } =
                    self.table.load_as(shard, generation, layout)?;
                Done::Loaded { shard, generation, last, due: self.table.due(shard), standing }
            }
            Job::Close { shard } => {
                self.table.close(shard);
                Done::Closed { shard }
            }
            Job::Forget { shard, generation } => {
                Done::Forgot { shard, generation, more: self.table.forget(shard, generation)? }
            }
            Job::Flush { token } => {
                let flush = self.table.flush();
                return Ok(Ran::Later(Box::new(move || match flush.run() {
                    Ok(()) => Ok(Done::Flushed { token, result: Ok(()) }),
                    Err(error) if error.may_pass() => {
                        Ok(Done::Flushed { token, result: Err(error.to_string()) })
                    }
                    Err(error) => Err(error),
                })));
            }
        }))
    }

    /// Reads if there is room for what is found, which only reading tells: so the last one with room may pass the limit.
    fn read(&self, shard: ShardId, op: &Op, clock: Clock, charge: &Share) -> Result<Read, EngineError> {
        let nothing =
            |error| Read::Done { result: Err(error), last: self.table.applied(shard).last, hidden: false };
        if !charge.has_room() {
            return Ok(nothing(Error::no_room(true)));
        }
        let read = self.table.read(shard, op, clock);
        match &read {
            Ok(Read::Done { result: Ok(answer), .. }) => charge.add(answer.bytes()),
            Err(error) if error.may_pass() => return Ok(nothing(Error::Unavailable(error.to_string()))),
            _ => {}
        }
        read
    }

    fn apply(&mut self, shard: ShardId, at: Position, entry: &Bytes) -> Result<Done, EngineError> {
        tracing::trace!("a job applies an entry");
        let (index, term) = (at.index.0, at.term.0);
        let results = if entry.is_empty() {
            self.table.apply_empty(shard, index, term)?;
            Vec::new()
        } else {
            // Its bytes passed a checksum in the log and were made by this program: other bytes are a defect.
            let entry = Entry::decode(entry).expect("an entry of the log decodes");
            let results = self.table.apply(shard, index, term, &entry)?;
            assert_eq!(results.len(), entry.ops.len(), "every op has its result");
            results
        };
        let results = results.into_iter().map(|done| (done.result, done.version)).collect();
        let applied = self.table.applied(shard);
        assert_eq!((applied.index, applied.term), (index, term), "the table is where the entry took it");
        let storage::Applied { last, standing, .. } = applied;
        let changes = match shard {
            ShardId::DIRECTORY => Vec::new(),
            shard => self.table.take_changes(shard),
        };
        let due = self.table.due(shard);
        Ok(Done::Applied { shard, index: at.index, last, due, standing, changes, results })
    }
}
