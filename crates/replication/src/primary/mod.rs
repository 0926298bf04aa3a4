//! `primary`: one orders, and all that are in sync have it before it is acknowledged.
//!
//! # The problem
//!
//! A majority needs three copies to outlive the loss of one, and each read at a follower asks the leader. Where somebody else can be
//! asked who belongs to a shard, two copies will do, any one of which has all; and each of them can answer reads by itself. What
//! makes that hard: all have to agree on who "all" are, while some of them fail and none can tell a node that is down from one
//! that cannot be reached.
//!
//! # How it is solved
//!
//! Lin, Yang, Zhang and Zhou, "PacificA: Replication in Log-Based Distributed Storage Systems" (2008). One member orders, the
//! *primary*. Those that have all that was acknowledged are *in sync*. Who is what says the directory of the cluster, which is
//! agreed on by a majority of its own ([`crate::View`]): members with their duties, under a revision.
//!
//! - **The revision is the term.** A revision has one primary, and it is that for one life of its process: that it takes the role is
//!   written before it does, so a primary that restarts asks for another revision, and orders nothing under the one before. Each term
//!   opens with an empty entry of its own.
//! - **The log.** The primary gives each entry the next index and its term and sends it, with the place of the entry before, to all
//!   members. Who has that one takes it; what it has instead goes ([`crate::follow`]).
//! - **Commit.** An entry is agreed on when all that are in sync have synced it. That needs no count and no vote: whoever is in sync
//!   may be the next primary, for it lacks nothing.
//! - **Changes.** Members ask the directory ([`crate::Output::Ask`]): the primary for a member to be in sync no more, or again; a
//!   secondary to be the primary. It is a compare-and-set on epoch and revision, by who asks: of several one comes about. Before
//!   anything is acknowledged without a member, the directory has said that it is not in sync.
//!
//! # An example
//!
//! `n1` is the primary in term 1. Logs are drawn with the term of each entry; `|` is the commit.
//!
//! ```text
//!   1. A write becomes entry 3. n1 and n2 sync it, n3 is down: nobody is answered.
//!
//!        n1  1 1|1           n2  1 1|1           n3  1 1|            directory 1: n1 orders, n2 n3 in sync
//!
//!   2. n3 has promised nothing for a lease. n1 asks for a revision without it, and takes it: 4 opens the term. Both have it: 3 is
//!      answered.
//!
//!        n1  1 1 1 2|        n2  1 1 1 2|        n3  1 1|            directory 2: n1 orders, n2 in sync
//!
//!   3. A write becomes entry 5, and n1 dies before it has sent it. n2 hears nothing for the grace, and asks to be the primary: it
//!      may, for it is in sync. n3 could not.
//!
//!        n1  1 1 1 2|2       n2  1 1 1 2 3|      n3  1 1|            directory 3: n2 orders
//!
//!   4. n3 is back, gets what it lacks, and has it synced: n2 waits for it from then on, and asks for it to be in sync. So does n1: its
//!      entry 5 of term 2 does not match, and goes.
//!
//!        n1  1 1 1 2 3 4 5|  n2  1 1 1 2 3 4 5|  n3  1 1 1 2 3 4 5|  directory 5: n2 orders, n1 n3 in sync
//! ```
//!
//! # Who may be in sync
//!
//! A member that is not gets all that the others get, or a snapshot first ([`crate::transfer`]). Once it lacks little, the primary
//! acknowledges nothing without it; once it has synced all that there was then, the primary asks for it. So whenever the directory's
//! word comes about, be it at once or late, it has all that was acknowledged. The primary goes on waiting for it until it knows of
//! another revision, for its question may come about as long as it does not.
//!
//! # Reads
//!
//! A read must not miss what was acknowledged before it was asked. Nothing is acknowledged that a member in sync has not in its log: so
//! a member that knows that it is in sync may read, and leases say that ([`crate::lease`]).
//!
//! ```text
//!   n2  secondary                       n1  primary                       n3  secondary
//!    │ ◀────────── beat, asked at t ──────│──────── beat, asked at t ──────▶ │
//!    │ ─ I do not take over for a lease ─▶│◀─ I do not take over for a lease │
//!    │                                    │ reads until t + lease            │
//!    │ ── may I read? asked at u ───────▶ │
//!    │ ◀─ I have you in sync for a lease ─│
//!    │ reads until u + lease              │
//! ```
//!
//! - *The primary* reads while all that are in sync, and those it has asked to be, have promised not to take over: nobody else orders, so
//!   its commit is the last word. Without the latter it could be replaced unheard by one that came in sync without its knowing.
//!   A promise binds who gave it: made the primary by whatever question, it neither opens its term nor acknowledges before what it
//!   promised is over. Who restarts has forgotten whom it promised, and a question of its earlier life may still come about: it acts as if
//!   it had promised everybody just then.
//! - *A secondary* reads under a lease of the primary: so long it is in sync, because nobody is taken out under a live lease. It reads
//!   when all that its log holds of this term is applied: what it holds and does not know agreed on may have been acknowledged by now,
//!   so the read waits for the word that it is. While the lease lives no read sends a message; it is asked for again with the
//!   acknowledgements when half is over and somebody reads. A secondary that has nothing of this term yet does not read.
//! - Who takes the role lends what the one before has lent: in its first lease it takes nobody out. (The one before lends nothing once a
//!   promise of the new one is over, and that is before the new one opens its term.)
//! - Rows are read under the lease and looked at again afterwards, so a pause in between does no harm.
//!
//! `bounded` and `local` reads are served from what is applied, at any member. How old that may be is counted from when the primary was last
//! asked for a lease, its answer saying how far was agreed on.
//!
//! # Those that no write waits for
//!
//! Where a write is to wait for `k` secondaries and not for all, `k + 1` members are in sync and the others stay learners. They get what
//! is written every interval, and answer `bounded` and `local` reads: prefixes of what the primary ordered. One of them comes in sync
//! where one is missing ([`few`]).
//!
//! # An election that is forced
//!
//! When all that are in sync are lost, people may have another member order: the directory names it, alone in sync, and all others
//! *astray* ([`Duty::Astray`](crate::Duty::Astray)). Their logs may have gone another way, committed entries too, so no log is
//! matched with them. Who finds itself astray serves nobody, applies what its log holds to the end, and asks the directory to begin anew:
//! as another replica of its node, which has nothing and gets a snapshot. Before that its owner has who orders list what is lost
//! ([`forks`]). Where a write waits for nobody the directory does it by itself, after some seconds.
//!
//! ```text
//!   n1, lost    1 1 1 1|        n2, learner  1 1|           directory 1: n1 orders, n2 learns
//!                               n2 ordered   1 1 2|         directory 2: n2 orders, n1 is astray
//!   n1 again    1 1 1 1| gone   n1, another  1 1 2|         directory 3: n2 orders, n1 (number 3) learns
//! ```
//!
//! # A shard that nobody needs
//!
//! It sleeps: no beats, no leases, no clock ([`sleep`]).
//!
//! # Guarantee
//!
//! Linearizable, at every member in sync. What is acknowledged is synced by all that are in sync, [`Awaited::least`] at least: with
//! fewer in sync writes are refused, and what was under way is answered in doubt. It goes on while one member in sync is up and the
//! directory can be asked when another one fails. A member that fails holds up writes for a lease, a primary all for the grace and the
//! directory's word: about two seconds.
//!
//! # The rooms
//!
//! | room | what |
//! |---|---|
//! | `replica`, `role` | inputs to outputs; the view, and what it makes of a replica |
//! | `order` | what the primary does |
//! | `secondary` | what the others do |
//! | `changes` | what is asked of the directory, and when |
//! | `few` | how many are in sync, and when the others get what is written |
//! | `reads` | the reads that wait |
//! | `seal` | how an epoch ends |
//! | `forks` | an election that the operator forces |
//! | `sleep` | when the shard may sleep, and what wakes it |
//! | `syncs` | what of the log is on the disk |
//! | `message`, `observe`, `describe` | what members say; what that and a replica is, for whoever watches |
//!
//! # Caveats
//!
//! - A member whose disk stands still while its process answers is in sync, and holds up writes until it goes on or is stopped.
//! - A member that lost the end of its log unnoticed (its table is not ahead of it) and restarts counts as in sync until the primary hears
//!   how far its log reaches and takes it out. If the primary is lost in that moment it may take over, and what it lost is lost.
//!   One whose table is ahead of its log knows it, and counts for nothing until it was taken out.
//! - With all members in sync lost the others cannot go on: they lack what was acknowledged. Nobody but people can decide that; who is
//!   cut off and has not heard of it goes on as before meanwhile.
//! - Roles that are handed over make writes wait until what the new primary promised is over, up to a lease.
//! - A pause of all clocks of the cluster's nodes together is no pause. Clocks may differ in rate by [`Config::drift_percent`].
//! - With `sync: k` nobody takes over by itself who is not in sync. With 0 the directory has another one order when the primary is lost, by
//!   a forced election. One that is cut off does not know: it takes writes, and calls its reads linearizable, until it hears of the next one.

mod changes;
mod describe;
mod few;
mod forks;
#[doc(hidden)]
pub mod fuzz;
mod message;
pub mod observe;
mod order;
mod reads;
mod replica;
mod role;
mod seal;
mod secondary;
mod sleep;
mod syncs;

use kv::NodeId;
use kv::keyspace::{Awaited, SyncMode};

use crate::View;
pub use replica::{Primary, describe};

/// A shard, as one of its members sees it. All members have the same, but for `id` and `seed`, and `view` when it joined later.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node of this replica.
    pub id: NodeId,
    /// The members, when the log names none: this replica is one of them, and one of them orders.
    pub view: View,
    /// Names this life of the replica. Not the same in two lives.
    pub seed: u64,
    /// The primary is heard of so often while it is awake.
    pub beat_micros: u64,
    /// For so long a secondary promises not to take over, and a primary to remove nobody that reads.
    pub lease_micros: u64,
    /// A secondary that hears nothing for so long asks to take over. Longer than a lease.
    pub grace_micros: u64,
    /// By how much two clocks may differ over a lease.
    pub drift_percent: u64,
    /// So many bytes of applied entries stay in memory for members that are behind.
    pub cache_bytes: usize,
    /// For whom a write waits.
    pub sync: Awaited,
}

impl Config {
    /// A shard with the usual times: a member that is lost holds up the others for a second.
    pub fn new(id: NodeId, view: View, seed: u64) -> Config {
        Config {
            id,
            view,
            seed,
            beat_micros: 100_000,
            lease_micros: 600_000,
            grace_micros: 1_200_000,
            drift_percent: 10,
            cache_bytes: 64 << 20,
            sync: SyncMode::USUAL.into(),
        }
    }
}
