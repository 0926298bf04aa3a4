//! The write-ahead log of a node: one log for all its shards and protocols.
//!
//! **What.** [`Log`] takes [`Record`]s, gathers all that came while it was busy into one batch, writes the batch,
//! syncs it, and says through [`Log::durable`] which appends are safe. After a restart [`Log::open`] gives back
//! every record in order. What a record means, the log never knows.
//!
//! **How.** The log is a state machine over a [`Disk`] of submission and completion. It starts no thread and
//! reads no clock: the server drives it from the log's thread over a [`FileDisk`], a simulation from a seed over
//! a [`MemoryDisk`]. The owner's loop is: `append` what came, `turn`, look at `durable`, wait for more records or
//! for the disk's wake-up. One `turn` right after `open` has the first segments made before anyone waits for them.
//!
//! ```text
//! segment 7          | header | batch 41 | batch 42      | 43 |  zeros (no room for 44)  |
//! segment 8          | header | batch 44          | 45 |  zeros, where 46 will be        |   <- newest
//! segment 9          |  zeros: the spare                                                 |
//!                    0       4 KiB, as every boundary is a multiple of 4 KiB
//! ```
//!
//! **Guarantees.**
//! - A durable append is given back by every later `open`, in the order of the appends, until it was released;
//!   nothing is given back that was not appended. What was appended and did not become durable may be given back,
//!   and then so is everything before it. `open` makes durable whatever it gives back before it returns.
//! - A batch begins on a 4 KiB boundary and only behind a synced one, so a torn write never touches acknowledged
//!   bytes. Each batch names its log, segment, offset and sequence number and repeats the checksum of the batch
//!   before it, so bytes from elsewhere or from earlier never look valid.
//! - A bad batch with nothing behind it is a torn write: it is cut, which [`Recovered`] tells. A bad batch with
//!   later ones behind it is damage: [`OpenError::Corrupt`], nothing behind it is served.
//! - Segments are made of written zeros before they are needed, so a full disk shows when the spare is made
//!   ([`Log::is_full`]), not in the middle of a batch, and a sync has no metadata to write.
//! - A file that cannot be opened for want of descriptors or memory is as a full disk: nothing was done, and it is tried again.
//!
//! **CAVEATS.**
//! - Damage to the very newest batch looks like a torn write and is cut, although it may have been acknowledged.
//!   The same holds when the newest segment files are deleted. The owner's peers must notice and repair it.
//! - The records of one append share a batch, so a crash keeps all or none, unless they alone are longer than a batch.
//! - The queue has no bound of its own: the owner bounds what it appends and has not yet seen durable.
//! - Every failed sync is final ([`Fatal`]): nobody knows what the disk kept, so the process ends and recovers.
//! - No lock is taken: the owner sees to it that a folder has one log.

mod disk;
mod file;
pub mod format;
#[doc(hidden)]
pub mod fuzz;
mod log;
mod memory;
mod queue;
mod reader;
mod record;
mod recovery;
mod segments;

pub use disk::{Disk, DiskError, Io, Operation, segment_file_name};
pub use file::{FileDisk, set_aside};
pub use log::{Config, Fatal, Log};
pub use memory::{Crash, MemoryDisk};
pub use record::{Position, RECORD_BYTES_MAX, Record};
pub use recovery::{Cut, OpenError, Recovered};
