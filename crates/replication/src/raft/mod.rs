//! `raft`: consensus of a majority.
//!
//! # The problem
//!
//! Three nodes hold copies of one shard. Clients write through any of them; nodes crash, restart, stop for a while, and lose
//! sight of each other. All copies must take in the same writes in the same order, a write that was acknowledged must never be
//! lost, and the shard must go on while any two of the nodes are up and see each other.
//!
//! Two facts make it hard. Nobody can tell a node that is down from one that cannot be reached: whoever takes over must be safe
//! from a leader that still believes it leads. And an entry that is on one disk only may or may not be known to others: whoever
//! takes over must keep what was acknowledged, and may drop the rest.
//!
//! # How raft solves it
//!
//! Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014), and Ongaro, "Consensus: Bridging Theory and
//! Practice" (2014). Everything rests on one piece of arithmetic: any two majorities have a member in common.
//!
//! - **Terms.** Time is cut into terms, numbered from 1. A term has at most one leader, because a leader needs the votes of a
//!   majority and nobody votes twice in a term: term and vote are synced before a vote leaves. Every message carries its sender's
//!   term. Who hears of a later one follows it, so a leader of an earlier term ends at the first word of a member that voted later.
//! - **The log.** The leader gives each entry the next index and its term, and sends it with the index and term of the entry
//!   before. A follower takes it only behind that same entry. So two logs that have an entry of the same index and term are the
//!   same up to there, whoever wrote them.
//! - **Commit.** An entry is committed when it is synced on a majority and is of the leader's own term; all before it are committed
//!   with it. Only what is committed is applied and acknowledged.
//! - **Elections.** A follower that hears nothing for an election timeout asks to be elected. Members vote only for a log that
//!   reaches as far as their own: later term of its last entry, then longer. A committed entry is in a majority of logs, so every
//!   majority of voters has a member that refuses who lacks it. That is why leaders never lack what was acknowledged.
//!
//! # An example
//!
//! `n1` leads in term 1. Logs are drawn with the term of each entry; `|` is the commit.
//!
//! ```text
//!   1. A write becomes entry 3. n1 and n2 sync it; the message to n3 is lost. Two of three have it: n1 commits and answers.
//!
//!        n1  1 1 1|          n2  1 1|1           n3  1 1|
//!
//!   2. Another write becomes entry 4. n1 syncs it and is cut off before it has sent it. Its client waits.
//!
//!        n1  1 1 1|1         n2  1 1|1           n3  1 1|          <- n1 still believes that it leads
//!
//!   3. n2 and n3 hear nothing. n3 asks first: n2 refuses, for n3's log ends at 2 and its own at 3. n2 asks, n3 votes for it:
//!      n2 leads in term 2, with an empty entry of that term. It sends n3 what it lacks, and commits 3 and 4 together.
//!
//!        n1  1 1 1|1         n2  1 1 1 2|        n3  1 1 1 2|
//!
//!   4. n1 is back. The first message of term 2 ends its leadership. Its entry 4 does not match, goes, and n2's comes in its
//!      place: the write of step 2 has failed, and its client is answered so, or that it is in doubt if it did not wait.
//!
//!        n1  1 1 1 2|        n2  1 1 1 2|        n3  1 1 1 2|
//! ```
//!
//! Entry 3 was acknowledged in step 1 and is in every log. Entry 4 of term 1 was not, and is in none.
//!
//! # Reads
//!
//! A read must not miss what was acknowledged before it was asked, and a leader cannot know by itself that it still leads. It
//! has two proofs, and neither needs an entry:
//!
//! - **A round** (ReadIndex, dissertation §6.4): the leader notes its commit, asks all members whether they still follow it, and
//!   when a majority says so, reads once that commit is applied. All reads that came before the round began share it. A
//!   follower asks the leader for the index, and serves the read itself.
//! - **A lease** (§6.4.1): a majority that answered a round has promised not to take part in an election for an election
//!   timeout. Until that is over, by a clock that may run some percent wrong, nobody else leads: the leader reads at once. The
//!   lease is looked at again when the rows are there, so a pause in between does no harm.
//!
//! # What a node that comes back may do
//!
//! A restarted replica has forgotten whom it promised to keep still for, so it keeps still for one election timeout. A replica
//! whose log is shorter than what it acknowledged would elect a leader that lacks entries: it keeps still until it has them
//! ([`loss`]). A follower behind the leader's log gets a snapshot of the table, and the log goes on behind it.
//!
//! # Members that change
//!
//! A shard moves when nodes come, go or fail: other replicas become its members while it serves. What makes that hard is that members
//! hear of it at different times. If each counted by what it has heard, there could be two majorities without a member in common:
//!
//! ```text
//!   n1 n2 n3 are to be n1 n4 n5. n3 has not heard of it, n1 has:
//!
//!        n2 n3 are two of n1 n2 n3          n1 n4 are two of n1 n4 n5        <- two leaders in one term
//! ```
//!
//! So in between both sets count (joint consensus, dissertation §4.3), and a member comes as a learner first, which counts nowhere
//! until it has caught up. Each step is an entry that says who the members are from there on. It counts from the moment that a
//! replica knows that it is agreed on, and the next step is taken only when the leader has applied the one before:
//!
//! ```text
//!   1. learn    entry 41: n1 n2 n3, n4 and n5 learn          2 of n1 n2 n3            n4 and n5 get a snapshot, then entries
//!   2. join     entry 57: n2 and n3 leave, n4 and n5 join    2 of n1 n2 n3 and 2 of n1 n4 n5
//!   3. leave    entry 58: n1 n4 n5                           2 of n1 n4 n5
//!
//!   n1 fails between 2 and 3. n4 asks to be elected. It has entry 57, so it needs two of each set: n2's vote and n5's. It
//!   leads, commits an entry of its term, and takes step 3: which step is next follows from the members, not from who began.
//!   Had n3 not heard of entry 57 it would ask n1 and n2 only, and n2 has a longer log and says no.
//! ```
//!
//! That argument needs that whoever has entry 58 counts both sets at least. It does: entry 58 is sent by a leader that has applied
//! 57, so it comes with the word that 57 is agreed on, and that word is written with it. After a restart a replica begins with
//! the members as of what its table has applied ([`crate::Recovery`]), takes what it knows to be agreed on at once, and asks
//! nobody to elect it before its table has applied that.
//!
//! # A group that nobody needs
//!
//! It sleeps: nobody sends heartbeats, nobody waits for them, and no clock is looked at, until something is wanted or the node of
//! the leader falls silent ([`sleep`]).
//!
//! # Guarantee
//!
//! Linearizable. It serves while a majority of the members is up and connected; what was acknowledged is synced on a majority.
//! After its leader is lost a shard is without one for one to two election timeouts, half a second to a second.
//!
//! # The rooms
//!
//! The consensus itself is the raft crate's ([`core`] alone names its types). Around it stands what a store needs and the crate
//! leaves open, each in a room of its own, as plain data and arithmetic:
//!
//! | room | what |
//! |---|---|
//! | `replica` | inputs to outputs: what the other rooms say, in the order that keeps the promises |
//! | `message` | what replicas say to each other, and what of it is believed |
//! | `outbox` | what may leave only when the log is synced |
//! | `reads`, `rounds` | the reads that wait, and the rounds that prove them |
//! | `lease` | until when a leader may read without a round |
//! | `guard` | when a replica may vote, and the ticks |
//! | `members` | who belongs to the group, and how that changes |
//! | `addresses` | on which node a replica is |
//! | `seal` | how an epoch ends: nothing more is ordered, and others go on |
//! | `sleep` | when the group may sleep, and what wakes it |
//! | `loss` | what a replica that lost entries says, and what it is answered |
//! | `install` | a snapshot that comes in |
//! | `observe`, `describe` | what messages say and what a replica is, for whoever watches |
//!
//! # The rules it keeps beside raft's own
//!
//! - A message leaves before the sync only from a leader, and not when term or vote changed in the same step.
//! - A replica does not vote or campaign for one election timeout after its start and after its leader's last message, unless
//!   the leader itself asked for the election. The leases rest on it.
//! - A leader that asked another to campaign reads by rounds for the rest of its term.
//! - A replica that lost acknowledged entries neither votes nor campaigns until it has them again. Commits beyond its log are
//!   not believed.
//! - Each issue of a round has a number of its own: late answers to an earlier issue prove nothing.
//! - Ticks that were missed are skipped.
//! - Replicas know each other by numbers that are never given twice. A message for another number is not for this replica.
//! - A leader that leaves hands its role over before the last step. A change of members ends its lease, and so does sleep.
//! - Once members have changed, a replica with nothing gets a snapshot: the first entries would lead it through members of
//!   long ago. The snapshot is of no time before it was a member, and carries the members of its place.
//! - A replica says who the members are ([`crate::Replicate::view`]) when it has synced that they are agreed on.
//!
//! # Caveats
//!
//! The replica of a member that has left may be needed until a majority of the others says that it has left: those that do not
//! know yet ask it for its vote. Whoever drops replicas must wait for that. A change that can never be completed (a new member that
//! does not catch up) waits until other members are wanted. Which numbers were given is remembered by a replica for its life only:
//! the directory gives them. While one member cannot be reached its group does not sleep.
//!
//! A read that needs a leader waits until there is one, and a write that was appended until its fate is
//! known: whoever cannot wait any longer forgets it. The staleness of a local read is the time since the last round that was
//! confirmed and applied here, `u64::MAX` when there was none; while such reads come, rounds go on in the background. A snapshot
//! that was made for a follower and is not sent, because the leadership went elsewhere, is never asked for again.

mod addresses;
mod core;
mod describe;
#[doc(hidden)]
pub mod fuzz;
mod guard;
mod install;
mod lease;
mod loss;
mod members;
mod message;
pub mod observe;
mod outbox;
mod reads;
mod replica;
mod rounds;
mod seal;
mod sleep;

use kv::NodeId;

use crate::View;
pub use replica::{Raft, describe};

/// A group, as one of its members sees it. All members have the same, but for `id` and `seed`, and `view` when it joined later.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node of this replica.
    pub id: NodeId,
    /// The members, when the log names none: this replica is one of them.
    pub view: View,
    /// Decides the election timeouts and the names of the rounds. Not the same in two lives of a replica.
    pub seed: u64,
    /// The unit of the other times.
    pub tick_micros: u64,
    /// A follower that hears nothing for so long, up to twice as long, campaigns.
    pub election_ticks: usize,
    /// A leader is heard of at least so often.
    pub heartbeat_ticks: usize,
    /// So many bytes of applied entries stay in memory for followers that are behind.
    pub cache_bytes: usize,
    /// By how much two clocks may differ over an election timeout.
    pub drift_percent: u64,
}

/// No leader reads under a lease for longer than this after a majority heard of it last, by the clock of any other.
pub const LEASE_MICROS_MAX: u64 = TICK_MICROS * ELECTION_TICKS as u64;

const TICK_MICROS: u64 = 50_000;
const ELECTION_TICKS: usize = 10;

impl Config {
    /// A group with the usual times: elections after 0.5 to 1 s, 10 heartbeats a second.
    pub fn new(id: NodeId, view: View, seed: u64) -> Config {
        Config {
            id,
            view,
            seed,
            tick_micros: TICK_MICROS,
            election_ticks: ELECTION_TICKS,
            heartbeat_ticks: 2,
            cache_bytes: 64 << 20,
            drift_percent: 10,
        }
    }
}
