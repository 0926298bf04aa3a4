//! How the replicas of a shard agree: the contract of a protocol, and the protocols.
//!
//! A protocol is a deterministic state machine. It is given [`Input`]s, one at a time, and hands out [`Output`]s; it
//! touches no engine, no log, no socket and no clock. Its owner (the driver of a node) carries the outputs out and
//! brings their completions back as inputs. One instance serves one replica of one shard in one epoch.
//!
//! ```text
//!   Propose ─▶ Append ─▶ (log) ─▶ Durable ─▶ Apply ─▶ (table) ─▶ Applied        the owner answers the tokens of Apply
//!   Read ────▶ Fetch ──▶ (table) ─▶ Fetched ─▶ Answer                           it checks its lease again after the rows
//!   Message ─▶ Send / Append / Apply ...
//! ```
//!
//! # The rules
//!
//! 1. Deterministic: the same state and inputs give the same outputs. Randomness comes from a seed, time from [`Input::Tick`].
//! 2. Durable before visible: an answer, a vote, an acknowledgement leaves after the log holds what it promises. What is
//!    safe earlier (a leader's append) leaves at once; a leader counts its own copy only after its own sync.
//! 3. A weak network: messages are lost, duplicated, delayed and reordered.
//! 4. One answer per token at most, definite or in doubt; never a guess.
//! 5. Everything queued is bounded in count and bytes, and refuses beyond.
//! 6. A protocol knows an op by its class only. The table evaluates it at Apply, the same way on every replica.
//!
//! Batching needs no timer: at most [`UNSYNCED_MAX`] entries of a shard are on their way to the disk; what arrives
//! meanwhile becomes the next entry, of at most [`ENTRY_OPS_MAX`] ops or [`ENTRY_BYTES_MAX`] bytes.
//!
//! # Caveats
//!
//! Inputs of one replica must be given in the order in which they happened; `Durable` and `Applied` each rise. An output
//! may not be dropped, except [`Output::Send`].

mod batch;
mod entries;
pub mod raft;
mod random;
mod record;
mod recovery;
pub mod single;

use bytes::Bytes;
use kv::cluster::Role;
use kv::{Error, Level, NodeId, Version};

pub use recovery::describe as describe_record;

/// At most so many entries of a shard are appended and not yet synced.
pub const UNSYNCED_MAX: usize = 2;
/// An entry holds at most so many ops: it is applied in one go.
pub const ENTRY_OPS_MAX: usize = 512;
/// An entry holds at most so many bytes, unless a single op is larger.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;
/// So many ops of a shard may wait for their entry; more are refused.
pub const QUEUE_OPS_MAX: usize = 8192;
/// So many bytes of ops of a shard may wait for their entry; more are refused.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;
/// While so many bytes of entries wait to be applied, no more are appended: they stay in memory until then.
pub const UNAPPLIED_BYTES_MAX: usize = 64 << 20;
/// So many reads of a shard may wait; more are refused.
pub const READS_MAX: usize = 8192;

/// Microseconds on a clock that never jumps and counts on while the machine sleeps (CLOCK_BOOTTIME).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// So many microseconds later.
    pub fn plus(self, micros: u64) -> Instant {
        Instant(self.0.saturating_add(micros))
    }

    /// Microseconds since an earlier instant; 0 when that is later.
    pub fn since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The owner's name for a request. Unique among the open ones of a replica.
pub type Token = u64;

/// What happens to a replica.
#[derive(Clone, Debug)]
pub enum Input {
    /// It is now; first of all in every turn. `clock` is the version clock: the proposed version of the next entry.
    Tick {
        /// The monotonic time.
        now: Instant,
        /// The version clock.
        clock: Version,
    },
    /// Order these ops ([`kv::Stamped`] bytes), all that a turn has for this replica: they share an entry. Each ends in the
    /// tokens of an [`Output::Apply`], or in [`Output::Refuse`].
    Propose {
        /// Whose each is, and the op.
        ops: Vec<(Token, Bytes)>,
    },
    /// May a read be served here, at this level? Ends in [`Output::Answer`] or [`Output::Refuse`].
    Read {
        /// Whose it is.
        token: Token,
        /// How fresh.
        level: Level,
    },
    /// The rows of a read that was let go by [`Output::Fetch`] are here.
    Fetched {
        /// Whose they are.
        token: Token,
    },
    /// Nobody waits for this token any more. Its op may still happen, and the token then come in an [`Output::Apply`]: it is
    /// not given a second time.
    Forget {
        /// Which.
        token: Token,
    },
    /// A message of the same shard's replica on another node, of this epoch.
    Message {
        /// The other node.
        from: NodeId,
        /// [`Output::Send`]'s body.
        body: Bytes,
    },
    /// All appends up to this ticket are synced.
    Durable {
        /// A ticket of [`Output::Append`].
        ticket: u64,
    },
    /// The table has applied all entries up to this index.
    Applied {
        /// Index of an [`Output::Apply`].
        index: u64,
    },
    /// The connection to a node stands. What was sent before may be lost.
    Connected {
        /// The node.
        node: NodeId,
        /// The last index its replica has in its synced log, as its hello told.
        last: u64,
    },
    /// The connection to a node broke.
    Disconnected {
        /// The node.
        node: NodeId,
    },
    /// A leader knows that this replica may have acknowledged entries up to `index`: until it has them it is not whole, and
    /// neither votes nor campaigns; what leaders of earlier terms say is not believed.
    ///
    /// `u64::MAX` = it lost everything, and how much that was is yet to be told. Until then nothing is believed: it has
    /// forgotten in which term it was, and would acknowledge to a leader that it had helped to depose.
    WholeAt {
        /// The index.
        index: u64,
        /// The leader's term.
        term: u64,
    },
    /// The snapshot that [`Output::MakeSnapshot`] asked for is taken (`at`: applied index and term), or failed (`None`).
    SnapshotMade {
        /// For whom.
        to: NodeId,
        /// The index and term of the state in it.
        at: Option<(u64, u64)>,
    },
    /// The snapshot of [`Output::SendSnapshot`] has arrived and is installed there, or not.
    SnapshotSent {
        /// To whom.
        to: NodeId,
        /// Whether it has arrived.
        arrived: bool,
    },
    /// A snapshot was received whole; its rows are flushed under a generation of their own, not yet switched to.
    /// Ends in an [`Output::Append`] with `install`, or in [`Output::DiscardSnapshot`] when it is not needed any more.
    SnapshotReceived {
        /// [`Output::SendSnapshot`]'s header.
        header: Bytes,
    },
    /// Hand the leadership to this node, if it can be done.
    Transfer {
        /// The node.
        to: NodeId,
    },
}

/// What a replica wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Write these records to the log, in one batch, and sync it: then give [`Input::Durable`].
    Append {
        /// Rises by one per append, from 1.
        ticket: u64,
        /// The protocol's own records; its `recover` reads them.
        records: Vec<Bytes>,
        /// The received snapshot is taken: switch to its generation in the same batch of the log. No [`Output::Apply`]
        /// follows before that batch is durable.
        install: bool,
    },
    /// Send this to the shard's replica on a node. May be lost.
    Send {
        /// The node.
        to: NodeId,
        /// For [`Input::Message`].
        body: Bytes,
    },
    /// Apply this entry, in order; then give [`Input::Applied`] and answer its tokens with the results of its ops.
    Apply {
        /// Its index. Rises by one.
        index: u64,
        /// Its term; 0 where the protocol has none.
        term: u64,
        /// [`kv::Entry`] bytes; empty = nothing to evaluate.
        entry: Bytes,
        /// The tokens of its ops in order; empty when its proposer is not here.
        tokens: Vec<Token>,
        /// On how many nodes it is synced, as far as is known here.
        copies: u32,
    },
    /// The rows of these reads may be read now; then give [`Input::Fetched`].
    Fetch {
        /// Which reads.
        tokens: Vec<Token>,
    },
    /// The rows that were fetched for this read may be answered.
    Answer {
        /// Which read.
        token: Token,
        /// The level they keep.
        reached: Level,
        /// They may miss what was acknowledged in so many last microseconds; 0 = nothing.
        staleness_micros: u64,
    },
    /// This request is not done here, or its outcome is unknown.
    Refuse {
        /// Which.
        token: Token,
        /// Why.
        error: Error,
    },
    /// Take a snapshot of the table for a node whose log is too far behind; then give [`Input::SnapshotMade`].
    MakeSnapshot {
        /// For whom.
        to: NodeId,
    },
    /// Send the snapshot taken for that node, this header before it; then give [`Input::SnapshotSent`].
    SendSnapshot {
        /// To whom.
        to: NodeId,
        /// For [`Input::SnapshotReceived`] there.
        header: Bytes,
    },
    /// The received snapshot is not needed: its rows can go.
    DiscardSnapshot,
}

/// What a replica is at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Leader, follower or candidate.
    pub role: Role,
    /// Who leads, as far as is known here.
    pub leader: Option<NodeId>,
    /// The term; 0 where the protocol has none.
    pub term: u64,
    /// The last index of its log.
    pub last: u64,
    /// The last index of its log that is synced here.
    pub durable: u64,
    /// All entries up to this index are agreed on, as far as is known here.
    pub commit: u64,
    /// All entries up to this index are applied here.
    pub applied: u64,
}

/// A replica of a shard, whatever its protocol. See the rules at the top.
pub trait Protocol: Send {
    /// Takes one input; adds what is to be done to `out`, in order.
    fn step(&mut self, input: Input, out: &mut Vec<Output>);

    /// What it is at present.
    fn status(&self) -> Status;

    /// As a leader: the last index that a node's replica has acknowledged.
    fn acknowledged(&self, node: NodeId) -> Option<u64>;

    /// The records that stand for all earlier ones once the table has flushed what is applied now: written at the log's
    /// head they let the older segments go.
    fn checkpoint(&self) -> Vec<Bytes>;
}
