//! The words of nodes on a bus that is no network of their own: under which topics, and in which pieces.
//!
//! # The problem
//!
//! Replicas under `broadcast` tell all others what they have written. Between nodes that have connections with each other that
//! is one frame to each. A message broker does it with one: whoever has *subscribed* to a *topic* gets what is *published* there
//! (Oki, Pfluegl, Siegel, Skeen: The Information Bus, 1993; MQTT 3.1.1 and 5, OASIS). But a broker takes
//! no message of any size, is shared with strangers, and promises at most that a message comes once *or more*.
//!
//! # Topics
//!
//! ```text
//!   capstan / 5f0c..e1 / orders / 0-4095 / all
//!   prefix    cluster    keyspace slots    to every replica
//! ```
//!
//! Nothing of a key or a value is in them: brokers log topics and show them to each other. What a message is about, the frame in it says
//! ([`crate::wire::Frame`]), fenced by epoch as on any connection; the topic is for brokers and people.
//!
//! # Pieces
//!
//! A message that is larger than a broker takes leaves in pieces, each with who sent it, the number of its message, its place
//! and a checksum over all that ([`pieces`]). Who receives them puts them together again ([`Joining`]), in whatever order and how often they come.
//!
//! # Caveats
//!
//! A message of which a piece is lost is lost, as any may be: the protocol above finds what is missing. Nothing is
//! encrypted or signed here: whoever may publish under the prefix is believed.

mod pieces;

use kv::ClusterId;

pub use pieces::{Joining, MESSAGE_BYTES_MAX, PIECE_HEAD_BYTES, Received, Sender, pieces};

/// Where what replicas of a shard tell all others is published: `slots` are the first and the last one of its.
pub fn topic(prefix: &str, cluster: ClusterId, keyspace: &str, slots: (u16, u16)) -> String {
    let (first, last) = slots;
    format!("{prefix}/{cluster}/{keyspace}/{first}-{last}/all")
}

/// What a node with replicas of a keyspace subscribes to: the topics of all its shards, however they are cut.
pub fn filter(prefix: &str, cluster: ClusterId, keyspace: &str) -> String {
    format!("{prefix}/{cluster}/{keyspace}/+/all")
}
