//! Every decoder of the house as a plain function over bytes, and how to try them.
//!
//! [`TARGETS`] is the one list: each decoder lives in its own crate (`kv::fuzz`, `wal::fuzz`, ..) and panics when something
//! does not hold that must hold for all bytes: nothing panics or allocates without bound, what decodes is the same after
//! encoding and decoding, what is refused changes nothing. Two runners use the list:
//!
//! - `cargo test -p fuzz`, on every toolchain: the kept corpus (`corpus/NAME/*`) and seeded mutations of it. `INPUTS=N` tries
//!   N mutations a target, `SEED=S` begins elsewhere, `TARGET=NAME` tries one target only. What fails is printed in hex with
//!   the file to keep it in.
//! - `cargo fuzz` in the folder `fuzz` of the repository, guided by coverage; its README tells how.
//!
//! The corpus has two kinds of files. `valid-*` were made by the encoders: `REGENERATE=1 cargo test -p fuzz` makes them anew,
//! and a test fails when they are not what the encoders make, so a change of a format is seen. All others were written
//! by hand, or found: they are kept.
//!
//! # Caveats
//!
//! Mutations know nothing of a format but what [`Mutator`] guesses (lengths, varints, quotes). What lies behind a checksum
//! is reached by targets that make the checksum right first (`wal-sealed`, `storage-snapshot`).

mod mutate;

use bytes::Bytes;
use dialects::classic::pairs::fuzz as pairs;
use dialects::classic::shards::fuzz as shards;
use dialects::classic::store::fuzz as store;
use dialects::classic::versioned::fuzz as versioned;

pub use mutate::Mutator;

/// A decoder to be tried.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of its folder in the corpus, and of its cargo-fuzz target.
    pub name: &'static str,
    /// Decodes bytes and checks what must hold. Panics when it does not.
    pub run: fn(&[u8]),
    /// What the encoders make; nothing where there is no encoder.
    pub samples: fn() -> Vec<Bytes>,
}

/// All decoders.
pub const TARGETS: &[Target] = &[
    target("kv-stamped", kv::fuzz::stamped, kv::fuzz::stamped_samples),
    target("kv-entry", kv::fuzz::entry, kv::fuzz::entry_samples),
    target("kv-reply", kv::fuzz::reply, kv::fuzz::reply_samples),
    target("kv-ask", kv::fuzz::ask, kv::fuzz::ask_samples),
    target("kv-asked", kv::fuzz::asked, kv::fuzz::asked_samples),
    target("kv-look", kv::fuzz::look, kv::fuzz::look_samples),
    target("kv-found", kv::fuzz::found, kv::fuzz::found_samples),
    target("wal-header", wal::fuzz::header, wal::fuzz::header_samples),
    target("wal-records", wal::fuzz::records, wal::fuzz::records_samples),
    target("wal-folder", wal::fuzz::folder, wal::fuzz::folder_samples),
    target("wal-sealed", wal::fuzz::sealed, wal::fuzz::folder_samples),
    target("storage-row", storage::fuzz::row, storage::fuzz::row_samples),
    target("storage-state", storage::fuzz::state, storage::fuzz::state_samples),
    target("storage-session", storage::fuzz::session, storage::fuzz::session_samples),
    target("storage-apply", storage::fuzz::apply, storage::fuzz::apply_samples),
    target("storage-ask", storage::fuzz::ask, storage::fuzz::ask_samples),
    target("storage-snapshot", storage::fuzz::snapshot, storage::fuzz::snapshot_samples),
    target("storage-checkpoint", storage::fuzz::checkpoint, storage::fuzz::checkpoint_samples),
    target("placement-map", placement::fuzz::map, placement::fuzz::map_samples),
    target("raft-message", replication::raft::fuzz::message, replication::raft::fuzz::message_samples),
    target("raft-hello", replication::raft::fuzz::hello, replication::raft::fuzz::hello_samples),
    target("raft-record", replication::raft::fuzz::record, replication::raft::fuzz::record_samples),
    target("raft-recovery", replication::raft::fuzz::recovery, replication::raft::fuzz::recovery_samples),
    target(
        "primary-message",
        replication::primary::fuzz::message,
        replication::primary::fuzz::message_samples,
    ),
    target("quorum-message", replication::quorum::fuzz::message, replication::quorum::fuzz::message_samples),
    target("quorum-hello", replication::quorum::fuzz::hello, replication::quorum::fuzz::hello_samples),
    target(
        "broadcast-message",
        replication::broadcast::fuzz::message,
        replication::broadcast::fuzz::message_samples,
    ),
    target(
        "two-phase-message",
        replication::two_phase::fuzz::message,
        replication::two_phase::fuzz::message_samples,
    ),
    target(
        "two-phase-hello",
        replication::two_phase::fuzz::hello,
        replication::two_phase::fuzz::hello_samples,
    ),
    target("node-frame", node::fuzz::frame, node::fuzz::frame_samples),
    target("node-piece", node::fuzz::piece, node::fuzz::piece_samples),
    target("node-frames", node::fuzz::frames, node::fuzz::frames_samples),
    target("node-recovery", node::fuzz::recovery, node::fuzz::recovery_samples),
    target("node-hello", node::fuzz::hello, node::fuzz::hello_samples),
    target("node-welcome", node::fuzz::welcome, node::fuzz::welcome_samples),
    target("node-lives", node::fuzz::lives, node::fuzz::lives_samples),
    target("server-frames", server::fuzz::frames, server::fuzz::frames_samples),
    target("server-bulk", server::fuzz::bulk, server::fuzz::bulk_samples),
    target("server-identity", server::fuzz::identity, server::fuzz::identity_samples),
    target("server-peers", server::fuzz::peers, server::fuzz::peers_samples),
    target("native-request", dialects::native::fuzz::asked, dialects::native::fuzz::asked_samples),
    target("native-reply", dialects::native::fuzz::answered, dialects::native::fuzz::answered_samples),
    target("native-batch", dialects::native::fuzz::batched, dialects::native::fuzz::batched_samples),
    target("native-error", dialects::native::fuzz::details, dialects::native::fuzz::details_samples),
    target("native-status", dialects::native::fuzz::told, dialects::native::fuzz::told_samples),
    target(
        "native-admin",
        dialects::native::fuzz::administered,
        dialects::native::fuzz::administered_samples,
    ),
    target("native-watch", dialects::native::fuzz::watched, dialects::native::fuzz::watched_samples),
    target("pairs-key", pairs::key, pairs::key_samples),
    target("pairs-host", pairs::host, pairs::host_samples),
    target("pairs-message", pairs::message, pairs::message_samples),
    target("store-message", store::message, store::message_samples),
    target("store-value", store::value, Vec::new),
    target("shards-message", shards::message, shards::message_samples),
    target("shards-key", shards::key, shards::key_samples),
    target("shards-joined", shards::joined, Vec::new),
    target("versioned-message", versioned::message, versioned::message_samples),
    target("history-json", check::fuzz::json, Vec::new),
    target("history-edn", check::fuzz::edn, Vec::new),
    target("history-log", check::fuzz::log, Vec::new),
    target("history-any", check::fuzz::any, Vec::new),
    target("cli-line", cli::fuzz::line, Vec::new),
    target("cli-transaction", cli::fuzz::transaction, Vec::new),
    target("cli-notation", cli::fuzz::notation, Vec::new),
    target("cli-config", cli::fuzz::config, Vec::new),
    target("cli-pairs", cli::fuzz::pairs, Vec::new),
    target("cli-store", cli::fuzz::store, Vec::new),
    target("cli-cluster", cli::fuzz::cluster, Vec::new),
];

/// Runs a target by its name.
///
/// # Panics
/// When there is no such target, or what must hold does not.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("there is no target {name}")).run)(bytes);
}

const fn target(name: &'static str, run: fn(&[u8]), samples: fn() -> Vec<Bytes>) -> Target {
    Target { name, run, samples }
}
