//! How the rows of a copy of a shard lie.

/// The layout of a copy: it is fixed when the copy is made, and kept with its state.
///
/// What is asked of a copy, how it is flushed, forgotten, sent to another node and cut is the same in both. They differ in who fixes a version,
/// hence in where a revision goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// For replicas that agree on an order: applying fixes versions, so what is written is always the newest, and older revisions lie in
    /// a ring. What is deleted is gone, but for what its history keeps.
    #[default]
    Ordered,
    /// For rows that bring their versions along and come in any order (see `merged`): older revisions lie by version, and
    /// tombstones stay until they are collected.
    Merged,
}
