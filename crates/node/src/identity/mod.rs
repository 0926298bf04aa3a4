//! Which cluster this is, and who its nodes are: what nodes agree on before anything else flows between them.
//!
//! # The problem
//!
//! Addresses and names say little: `127.0.0.1:7401` is another cluster on another machine, and every cluster has an `n1`. A
//! client or a node that follows an address to a cluster that is not its own must find out before anything is written
//! there. So each cluster has an id, a random number ([`kv::ClusterId`]), and two nodes, or a client and a node, that do not
//! have the same have nothing to say to each other.
//!
//! # How nodes agree on it
//!
//! One node draws it: the founder, whose name sorts first, at its first start in a new folder. All others begin without one.
//! The first frame in both directions of every connection ([`Hello`], [`Welcome`]) says it:
//!
//! ```text
//!   n1, the founder, has 5e     n2, new, has none           n3, new, has none
//!     │ ── hello, 5e ─────────────▶ │                            │
//!     │         writes 5e, syncs it │                            │
//!     │ ◀────── welcome to 5e ───── │                            │
//!     │ ── frames ────────────────▶ │ ◀──── hello, none ──────── │
//!     │                             │ ───── welcome to 5e ─────▶ │  writes 5e, syncs it
//!     │                             │ ◀──── frames ───────────── │
//! ```
//!
//! - Whoever has none takes the one that the other has, from the founder or from any node that took it before, and has it on
//!   disk before it answers, or before it sends a frame. Two that have none part and try again.
//! - Frames flow, in either direction, on no connection whose ends have not both written the same id. So nobody is elected,
//!   and nothing is acknowledged, but by a majority that has agreed on the id.
//! - Two that have different ones refuse each other. Which of the two is wrong at this address they cannot tell: a node ends
//!   for it only if it has no place yet (it has no id), or so many others call it a stranger that those left and it are no
//!   majority. A stray node can therefore not take a cluster down by answering at one of its addresses.
//! - An id that is written never changes. Until then the node serves nobody, and says whom it waits for.
//!
//! # Ids of nodes
//!
//! They are given, once: when a cluster is founded, to its nodes in the order of their names, from 1; later by the map, from the
//! next one on. The folder of a founder keeps the list of the founding, and a node's id stays what it was, whatever the place of
//! its name among others. The folder of a node that joins later ([`Joiner`]) has no id until the directory gave it one, which it
//! does once for each incarnation, however often it is asked. While the map is that of the founding, nodes whose lists differ are not of the same cluster.
//!
//! # Who belongs to it
//!
//! The map says so ([`Nodes`]), and it may change at any time. An id that it does not have was taken away, if it is below the
//! next one to be given: whoever comes with it has left, or was given up. Its folder notes that, and never starts again; its process
//! goes on, if it was let in before, and says to clients where else to go. Or it was not given yet as of this map: then the map here is
//! the one that is behind, and the caller is to try again. The map comes by the connections that there are. Should a node have
//! missed so much that it knows none of those that are left, then they know it: they call it, are unknown, and say at the next
//! call who there is.
//!
//! ```text
//!   n1, revision 5: n1 n2 n3              n4, revision 9: n1 n4 n5
//!     │ ◀────────────────────── hello, n4 ─── │
//!     │ ─── n4 is unknown as of revision 5 ─▶ │
//!     │ ◀── hello, n4; who there is as of 9 ─ │
//!     │ ─── welcome ────────────────────────▶ │   and calls n4 and n5, and n2 and n3 no more
//! ```
//!
//! # Lives
//!
//! A folder has a random incarnation, counts its starts, and each process draws a random number: together its [`Life`]. A start
//! is on disk before anything is said, and the folder keeps the numbers of the processes before ([`Lineage`]). Nodes remember in
//! which life they met each other last, and compare:
//!
//! | beside the life that was met last | is | is answered |
//! |---|---|---|
//! | the same, or a later start that came after it | the node, as ever | welcome |
//! | another incarnation | a folder that was wiped, or another node's | no |
//! | an earlier start | a folder that was restored from an old copy | a copy |
//! | the same or a later start, and that start was another process | a folder that was copied | a copy |
//!
//! Who is refused has forgotten what it had promised, and ends. A folder that is a copy is noted as one and never starts again,
//! so that nobody tries until those who know better are away. Nobody ends for the word of a node that itself comes with an old
//! copy: it remembers the others as they were. When a node is met in a later life, all that stood with an earlier one is over.
//!
//! Who joins has met nobody, and would take the first folder that comes under an id for the node. So with its id and the map it
//! is told the lives that who let it in knows ([`Greeter::acquaintances`]), and knows them before it meets anybody ([`introduced`]):
//!
//! ```text
//!   n4, new                      n1, which met n2 at start 9           n2, at start 9       an old copy of n2, at start 4
//!     │ ◀── id 4, map, n2: 9 ────── │                                      │                     │
//!     │ ◀── hello, n2, start 4 ─────────────────────────────────────────────────────────────────│
//!     │ ─── a copy: n2 was met as of start 9 ──────────────────────────────────────────────────▶ │   and never starts again
//!     │ ◀── hello, n2, start 10 ──────────────────────────────────────────── │
//!     │ ─── welcome ───────────────────────────────────────────────────────▶ │
//! ```
//!
//! Whose folder is lost for good comes back as a new node of the same name, with another id: the directory retires the old one,
//! and what comes with that id from then on is gone for good.
//!
//! A founder that lost its folder and is started as before draws another id for the cluster. It says that it is founding, having
//! met nobody, and the first node that has an id answers that its folder was wiped. Called by such a node, it says nothing against the
//! other: it is the one that is wrong.
//!
//! # The machine
//!
//! A [`Greeter`] decides, and has no files. Each of its decisions is a [`Step`]: either something is said, or something must be
//! written first. Its owner writes that, reports it ([`Greeter::written`]) and asks again. What is not reported has no effect:
//! after a failed write the greeter is as it was. The server and the simulator drive the same greeter over the same bytes.
//!
//! # Caveats
//!
//! - A founder that is lost before it has met anybody keeps the others waiting: start it anew. Once one other has the id, the
//!   founder is a node like any other.
//! - Those who know nothing cannot contradict: when a founder is wiped and started as before, every node that has the id is
//!   cut off, and the rest are as new as it is, then they found another cluster. It is told apart as soon as the others are
//!   back, and by every client of before, but what was acknowledged is with the others only. The same holds for a node that
//!   never met the one that was wiped.
//! - Those who were away, or are founded and have met nobody yet, know no better than what they met. Where a copy comes to them before
//!   the true folder does, and before one that knows better comes to the copy, then what they agreed on with it stands, and the
//!   true folder is a copy to them. Nobody can say which of the two to keep but who started them both.
//! - A copy that was made while the folder's last process ran is not told from that process' next start: what it lacks shows
//!   when the replicas say how far their logs reach (`replication`). The same holds when nobody is left who met a later life, and
//!   of a copy that was started [`Lineage::EARLIER_MAX`] times more before it met anybody.
//! - A new node belongs to the first cluster that lists its name and welcomes it: check --peers.
//! - The id is no secret, and proves nothing to who does not mean well.

mod greeter;
mod hello;
mod life;
mod nodes;
mod own;
#[cfg(test)]
mod tests;

pub use greeter::{Greeter, Kept, Met, Step, Write, come_back};
pub(crate) use hello::fuzz;
pub use hello::{Hello, Purpose, Refusal, Welcome};
pub(crate) use life::fuzz as lives_fuzz;
pub use life::{Life, Lineage, Lives, decode_lives, encode_lives, introduced};
pub use nodes::{Member, Nodes, Place};
pub use own::{Identity, Joiner, Start};
