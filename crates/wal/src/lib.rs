//! The write-ahead log of a node: one log for all its shards and protocols.
//!
//! # The problem
//!
//! A node says "it is stored" to clients and to other nodes, and must keep that word after its process is killed or its
//! machine loses power. What a program writes to a file is at first in the memory of the operating system. A *sync*
//! (`fdatasync`) brings it to the disk. A sync takes as long as many requests take together, so a store that syncs once
//! for each request is slow.
//!
//! After a crash, three things look alike: a write that never reached the disk, a write that reached it in part (*torn*),
//! and a write that was synced and that the disk has damaged since. The first two were never promised to anyone, so they
//! can be cut off. The third was promised, and cutting it off would lose it without a word.
//!
//! # How it is solved
//!
//! The owner appends [`Record`]s and gets a ticket for each append. The log takes all that came while it was busy, makes
//! one *batch* of it, writes the batch, syncs it, and only then begins the next one. [`Log::durable`] is the highest
//! ticket that is safe. So one sync serves many requests, the more the busier the node is, and no timer is needed. What a
//! record means, the log never knows.
//!
//! Batches lie one after the other in *segments*, files of one length. A segment is made of written zeros before it is
//! needed (a *spare*): a full disk shows when the spare is made, not in the middle of a batch, and a sync has no file
//! length to write. When the owner has stored elsewhere what the oldest segments say, it calls [`Log::release`], and they
//! are removed.
//!
//! ```text
//! segment 7   | header | batch 41 | batch 42      | 43 |  zeros: 44 had no room here    |
//! segment 8   | header | batch 44          | 45 |  zeros, where 46 will be              |   <- newest
//! segment 9   |  zeros: the spare                                                       |
//!             0       4 KiB: every batch begins on a multiple of 4 KiB
//!
//! append a ── ticket 1 ─┐
//! append b ── ticket 2 ─┴▶ batch 45 ─▶ write ─▶ sync ─▶ durable = 2
//! append c ── ticket 3 ────── waits ─────────────────┴▶ batch 46 ─▶ ...
//! ```
//!
//! Every batch says where it belongs: the id of its log, its segment, its offset, its number, and the checksum of the batch
//! before it. So batches form a chain, and only one batch in the world fits behind another. [`Log::open`] follows the
//! chain from the oldest segment and hands every record to the owner. Where the chain stops, it looks at what lies
//! behind. An example, with a node that loses power while it writes batch 46:
//!
//! ```text
//! | 45 | 46, half of it |  zeros     nothing sound behind it: 46 was torn. It is cut, and the log goes on with a new 46
//! | 45 | bad | 47 | 48  |  zeros     47 was begun when 46 was synced: 46 is damaged. The log is refused
//! | 45 | 46 of another history |     sound, of this log and place, but its chain does not fit. The log is refused
//! | 45 | 12, left by earlier use |   sound, but of another place: as good as garbage. It is cut
//! ```
//!
//! The log is a state machine over a [`Disk`] of submission and completion. It starts no thread and reads no clock: the
//! server drives it from a thread of its own over a [`FileDisk`], a simulation from a seed over a [`MemoryDisk`]. Over
//! [`Nowhere`] the same log keeps nothing at all: its node begins with nothing at each start, and none of the guarantees below
//! outlives its process. The owner's loop: [`Log::append`] what came, [`Log::turn`], look at [`Log::durable`], wait for more records or for the
//! disk's wake-up. One turn right after the opening has the first segments made before anyone waits for them.
//!
//! # Guarantees
//!
//! - A durable append is given back by every later `open`, in the order of the appends, until it is released. Nothing is
//!   given back that was not appended.
//! - What was appended and did not become durable may be given back; then so is everything before it. `open` makes durable
//!   whatever it gives back, before it returns.
//! - A torn write never touches acknowledged bytes: a batch begins in a block of its own, and only when the one before it
//!   is synced.
//! - A torn end is cut, and [`Recovered`] says so. Damage before the end is [`OpenError::Corrupt`]: nothing is served and
//!   nothing is changed on the disk.
//! - Segments that do not belong together are refused: one is missing between others, has another number than its name says,
//!   is of another log, comes from an older copy, or from another history of this log (a folder that was copied and went on
//!   twice). It does not fit behind the segment before it, or the one behind does not fit to it.
//! - A full disk shows early ([`Log::is_full`]); what is there stays readable. A file that cannot be opened for want of
//!   descriptors or memory is the same case: nothing was done, and it is tried again.
//!
//! # Caveats
//!
//! - Damage to the very newest batch looks like a torn write, so it is cut, although it may have been acknowledged. The
//!   same holds when the newest segments are deleted or put back from an older copy: nothing here says that there was more.
//!   The owner's peers must notice it and repair it.
//! - A folder that is put back as a whole from an older copy is sound. Only others can know better.
//! - The records of one append share a batch, so a crash keeps all of them or none; an append that alone is longer than a
//!   batch is split.
//! - The queue has no bound of its own: the owner bounds what it appends and has not yet seen durable.
//! - Every failed sync is final ([`Fatal`]): nobody knows what the disk kept. The process ends, and recovers at its next
//!   start.
//! - No lock is taken: the owner sees to it that a folder has one log.

mod disk;
mod file;
pub mod format;
#[doc(hidden)]
pub mod fuzz;
mod log;
mod memory;
mod nowhere;
mod queue;
mod reader;
mod record;
mod recovery;
mod segments;

pub use disk::{Disk, DiskError, Io, Operation, segment_file_name};
pub use file::{FileDisk, set_aside};
pub use log::{Config, Fatal, Log};
pub use memory::{Crash, MemoryDisk};
pub use nowhere::Nowhere;
pub use record::{Position, RECORD_BYTES_MAX, Record};
pub use recovery::{Cut, OpenError, Recovered};
