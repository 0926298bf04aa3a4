//! How the replicas of a shard agree: the contract of a protocol, and the protocols.
//!
//! # The problem
//!
//! A shard has copies on several nodes, so that it outlives any of them. The copies must take in the same changes, and what a
//! client was answered must stay true whatever fails next. How that is done is a *protocol*; there are several, because each
//! buys something else with what it costs. A node knows none of them: it knows this contract.
//!
//! # The contract
//!
//! A replica is a deterministic state machine, [`Replicate`]. It is given [`Input`]s, one at a time, and hands out
//! [`Output`]s; it touches no engine, no log, no socket and no clock. Its owner (the driver of a node) carries the outputs out
//! and brings their completions back as inputs. One instance serves one replica of one shard in one epoch.
//!
//! ```text
//!   Propose ─▶ Append ─▶ (log) ─▶ Durable ─▶ Apply ─▶ (table) ─▶ Applied        the owner answers the tokens of Apply
//!   Read ────▶ Fetch ──▶ (table) ─▶ Fetched ─▶ Answer                           it checks its lease again after the rows
//!   Gather ──▶ Look ───▶ (table) ─▶ Looked ──▶ Reply                            the rows are those of several replicas
//!   Message ─▶ Send / Append / Apply ...
//! ```
//!
//! Nothing in it is one protocol's own. The owner asks [`Replicate::route`] where a request is served, never who leads. What a
//! replica must know of another when their nodes connect is in its [`Replicate::hello`]; what it writes to the log begins with
//! its protocol and epoch, and [`Recovery`] picks the reader by them. A replica that waits for nothing is not called at all:
//! [`Replicate::due`] says when it wants the time.
//!
//! Who belongs to a shard is its [`View`]: members under an epoch and a revision. The owner fences messages by epoch, so a
//! replica hears of its own epoch only. Where a protocol can change members itself it is asked to by [`Input::Want`].
//!
//! A shard whose protocol cannot change its members itself, and one whose bounds change, is *handed over*: the replicas of an epoch are sealed ([`Input::Seal`]), and
//! their heirs, which have the state of where they were sealed, begin the next one from [`inherited`]. What is proposed or read
//! at a sealed replica is refused as by one that does not lead, so it waits with its node until the heirs serve.
//!
//! # An example
//!
//! One write on three nodes, under `raft`. `n1` leads; time goes down:
//!
//! ```text
//!        n1 (leads)               n2                  n3
//!   Propose [t7: put k]
//!   Append #4 ── Send entry ────▶ Message             Message
//!     │ sync                      Append              Append
//!     ▼                             │ sync              │ sync
//!   Durable #4                    Durable             Durable
//!   Message ◀── has entry 4 ───── Send                Send
//!   Apply 4 [t7], on 2 nodes
//!     │ table
//!     ▼
//!   Applied 4                     the owner answers t7 with the table's result
//! ```
//!
//! # The rules
//!
//! 1. Deterministic: the same state and inputs give the same outputs. Randomness comes from a seed, time from [`Input::Tick`].
//! 2. Durable before visible: an answer, a vote, an acknowledgement leaves after the log holds what it promises. What is
//!    safe earlier (a leader's append) leaves at once; a leader counts its own copy only after its own sync.
//! 3. A weak network: messages are lost, duplicated, delayed and reordered.
//! 4. One answer per token at most, definite or in doubt; never a guess.
//! 5. Epochs fence: a message of another epoch never reaches a replica.
//! 6. Everything queued is bounded in count and bytes, and refuses beyond.
//! 7. A protocol knows an op by its class and its keys only. The table evaluates it at Apply, the same way on every replica.
//!
//! Batching needs no timer: at most [`UNSYNCED_MAX`] entries of a shard are on their way to the disk; what arrives
//! meanwhile becomes the next entry, of at most [`ENTRY_OPS_MAX`] ops or [`ENTRY_BYTES_MAX`] bytes.
//!
//! # Caveats
//!
//! Inputs of one replica must be given in the order in which they happened; `Durable` and `Applied` each rise. An output
//! may not be dropped, except [`Output::Send`] and [`Output::Publish`].

mod batch;
pub mod broadcast;
mod entries;
mod follow;
mod issue;
mod journal;
mod known;
mod lease;
mod number;
pub mod observe;
pub mod primary;
mod proposals;
pub mod quorum;
pub mod raft;
mod random;
mod record;
mod recovery;
pub mod single;
mod transfer;
pub mod two_phase;
mod waits;

use std::sync::Arc;

use bytes::Bytes;
use kv::cluster::Role;
use kv::keyspace::Awaited;
use kv::merged::{Found, Look, Newest};
use kv::{
    Answer, Class, Epoch, Error, Index, Level, NodeId, Position, ReplicaId, RequestId, Scope, Term, Version,
};

pub use kv::view::{Change, Duty, Member, Revision, View};
pub use number::{Instant, Ticket, Token};
pub use recovery::{Recovery, Unfit, inherited};

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
    /// Who belongs to the shard now. A revision that is no later than the known one says nothing new.
    View(View),
    /// The directory wants the shard to have these members, in the order of their nodes. A protocol that changes members
    /// itself goes there step by step; how far it is, its [`Replicate::view`] tells. Given again, it says nothing new. It is
    /// for the replica that leads, which forgets it when it leads no more: so it is given again and again, to whoever leads.
    ///
    /// They are there when a majority of them has a [`Replicate::view`] that names them and nobody else. Not before that may
    /// the replicas of those that left be dropped, and not before that are other members wanted than those that were.
    Want {
        /// Whom it is to have: voters, and learners that are brought up to date for later. Those that stay keep their numbers.
        members: Vec<Member>,
    },
    /// For whom a write waits from now on. Only [`primary`] knows of it.
    Sync(Awaited),
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
        /// Which keys it looks at.
        scope: Scope,
        /// How fresh.
        level: Level,
    },
    /// The rows of a read that was let go by [`Output::Fetch`] are here.
    Fetched {
        /// Whose they are.
        token: Token,
    },
    /// What do the replicas hold of these, all that a turn has for this replica: they share a question. Each ends in [`Output::Reply`] or
    /// [`Output::Refuse`]. Only protocols without an order know of it; the others answer [`Input::Read`].
    Gather {
        /// Whose each is, [`Look::Keys`] or [`Look::Range`], and how fresh.
        reads: Vec<(Token, Look, Level)>,
    },
    /// What [`Output::Look`] asked for.
    Looked {
        /// Its ticket.
        ticket: Ticket,
        /// What was found.
        found: Found,
        /// No row that the table ever held has a later version, though it may be collected by now.
        last: Version,
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
        /// The revision that it knew when it said this.
        revision: Revision,
        /// [`Output::Send`]'s body.
        body: Bytes,
    },
    /// All appends up to this ticket are synced.
    Durable {
        /// A ticket of [`Output::Append`].
        ticket: Ticket,
    },
    /// The table has applied all entries up to this index.
    Applied {
        /// Of an [`Output::Apply`].
        index: Index,
    },
    /// The connection to a node stands. What was sent before may be lost.
    Connected {
        /// The node.
        node: NodeId,
        /// What its replica says first: [`Replicate::hello`] there.
        hello: Bytes,
    },
    /// The connection to a node broke.
    Disconnected {
        /// The node.
        node: NodeId,
    },
    /// The snapshot that [`Output::MakeSnapshot`] asked for is taken (`at`: the last entry in it), or failed (`None`).
    SnapshotMade {
        /// For whom.
        to: NodeId,
        /// The last entry that it holds.
        at: Option<Position>,
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
    /// A node has said nothing for so long that it may be gone, though the connection to it stands.
    Silent {
        /// The node.
        node: NodeId,
    },
    /// Hand the role that others depend on (to lead, to order) to this node, if there is one and it can take it now.
    Yield {
        /// The node.
        to: NodeId,
    },
    /// What this replica has and others lack was taken over by them: it may begin anew. Only [`primary`] knows of it.
    Released,
    /// The shard goes on in a later epoch, with other replicas: order nothing more in this one, and serve no more reads. Ends in
    /// [`Output::Sealed`], which is said once more whenever this is given again. A seal is never undone.
    Seal {
        /// In which one.
        next: Epoch,
        /// On which of its nodes, in order. Where entries have an order all replicas end with the same rows; only [`quorum`] has to bring
        /// together what these have.
        among: Vec<NodeId>,
    },
}

/// What a replica wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Write these records to the log, in one batch, and sync it: then give [`Input::Durable`].
    Append {
        /// Rises by one per append, from 1.
        ticket: Ticket,
        /// The protocol's own records; [`Recovery`] reads them.
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
    /// Send this to the shard's replicas on all other nodes, over the bus of the keyspace. May be lost, also for some only.
    Publish {
        /// For [`Input::Message`].
        body: Bytes,
    },
    /// Apply this entry, in order; then give [`Input::Applied`] and answer its tokens with the results of its ops.
    Apply {
        /// Its place, which rises by one, and the term it was ordered in (0 where the protocol has none).
        at: Position,
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
        /// On how many nodes what they show is synced, as far as is known here.
        copies: u32,
    },
    /// Look what the table holds, as it is when all that was given before is applied; then give [`Input::Looked`].
    Look {
        /// Rises by one with each, from 1.
        ticket: Ticket,
        /// What to look for.
        what: Look,
    },
    /// Here is what was asked for by [`Input::Gather`], or that a write is done: answer the token.
    Reply {
        /// Which.
        token: Token,
        /// What it is answered with.
        outcome: Gathered,
        /// Of a write, its version; of a read, the newest that was seen.
        version: Version,
        /// The level that was kept.
        reached: Level,
        /// As of [`Output::Answer`].
        staleness_micros: u64,
        /// On how many nodes that is synced, as far as is known here.
        copies: u32,
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
    /// Ask the directory for other members, or other duties of them. May be lost; its effect, or that of another one's, comes as
    /// [`Input::View`].
    Ask(Change),
    /// What was ordered in this epoch ends here, and it is known to the log and applied: no later entry will ever be acknowledged.
    Sealed {
        /// The last entry.
        at: Position,
    },
    /// This replica lacks entries that it had acknowledged, up to this one: until [`Output::Whole`] it promises nothing.
    Lacking {
        /// The last of them.
        last: Index,
    },
    /// It has again all that it had acknowledged.
    Whole,
    /// The replica on another node lacks entries that it had acknowledged here: for people, what follows is the replicas' own.
    PeerLacks {
        /// The node.
        node: NodeId,
        /// The last entry that it had acknowledged.
        acknowledged: Index,
        /// The last that it has.
        last: Index,
    },
}

/// What a request without an order is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gathered {
    /// Of a read: what was found, tombstones left in, as of a moment: what expires up to it is gone.
    Rows {
        /// The newest rows, those among them that others of the same question asked for.
        newest: Arc<Newest>,
        /// The moment.
        moment: Version,
    },
    /// Of a write.
    Written(Answer),
}

/// Where a request is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// By this replica.
    Here,
    /// By the replica on this node.
    To(NodeId),
    /// By nobody that is known here, at present: why.
    Nobody(&'static str),
}

/// What a replica is at present, for people and for the watch of a simulation: nothing is decided by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Leader, follower or candidate.
    pub role: Role,
    /// Who leads, as far as is known here.
    pub leader: Option<NodeId>,
    /// The term; 0 where the protocol has none.
    pub term: Term,
    /// The last entry of its log.
    pub last: Index,
    /// The last entry of its log that is synced here.
    pub durable: Index,
    /// All entries up to here are agreed on, as far as is known here.
    pub commit: Index,
    /// All entries up to here are applied here.
    pub applied: Index,
    /// How far each member is, as a leader knows it; of others, and where there is no other, empty.
    pub members: Vec<MemberStatus>,
    /// It leads, and the members that it was last asked for ([`Input::Want`]) will never be there: one of them was a member
    /// before, and is not taken again under its number.
    pub wants_the_gone: bool,
    /// Another one orders, and it has answered so many linearizable reads without asking anybody, since it began.
    pub lease_reads: u64,
    /// Where writes have no order: what it did since it began.
    pub counts: quorum::Counts,
}

/// How far a member is, as its leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Where it is.
    pub node: NodeId,
    /// Its number in the shard.
    pub replica: ReplicaId,
    /// What it is there for.
    pub duty: Duty,
    /// It has synced the entries up to here.
    pub matched: Index,
    /// It is behind the log, and a snapshot is made for it or on its way.
    pub snapshot: bool,
    /// It has caught up: a learner may come to count.
    pub ready: bool,
    /// Of the entries that the leader has in memory, how many bytes it has synced, as if all were as large, and all of them.
    pub log_bytes: (u64, u64),
}

/// A replica of a shard, whatever its protocol. See the rules at the top.
pub trait Replicate: Send {
    /// Takes one input; adds what is to be done to `out`, in order.
    fn step(&mut self, input: Input, out: &mut Vec<Output>);

    /// Where a request of this class is served that wants this level.
    fn route(&self, class: Class, level: Level) -> Route;

    /// What to say to the replica on a node first of all, when the connection to it stands: [`Input::Connected`] there.
    fn hello(&self, to: NodeId) -> Bytes;

    /// Whether what it wants sent ([`Output::Send`]'s body) answers another replica: a vote, an acknowledgement, how far a read must
    /// wait. Nothing is decided by it but how late that leaves from a node that is slow on purpose.
    fn is_response(&self, _body: &[u8]) -> bool {
        false
    }

    /// When it wants to know the time next, [`Instant::MAX`] = not of its own accord. Other inputs may change it.
    fn due(&self) -> Instant;

    /// The records that stand for all earlier ones once the table has flushed what is applied now: written at the log's
    /// head they let the older segments go.
    fn checkpoint(&self) -> Vec<Bytes>;

    /// Whether a write that comes again under this id, and may have been run before, happens once if it is proposed here. Where entries
    /// are ordered the table remembers it, on every replica. Where they are not, the one alone that took it knows, for as long as it runs.
    fn remembers(&self, _id: &RequestId) -> bool {
        true
    }

    /// Who belongs to the shard, as far as is known here: it will be known after a restart as well.
    fn view(&self) -> &View;

    /// What it is at present.
    fn status(&self) -> Status;
}
