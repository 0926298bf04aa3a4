//! Where everything is, and where it should be: the directory's state as a value, and what follows from it.
//!
//! - [`map`]: the state: nodes, keyspaces, shards, changes under way. Its bytes are [`rows`]; [`founding`] makes the first one.
//! - [`event`]: what happens to it: nodes join, leave, die and are replaced; changes of shards go on. Each gives the next map or a
//!   [`Refusal`].
//!   What only people can decide about the members of a shard is [`map::Map::ruled`].
//! - [`mod@plan`]: what is to be done now, so that in the end every shard is where it should be.
//!
//! Who holds the map (the leader of the directory) gives it the events, asks for the plan after each, and writes the
//! difference as one transaction ([`map::Map::transaction`]). Everybody else acts on the map alone.
//!
//! Nothing here does I/O, reads a clock or draws a random number.

mod check;
mod dead;
mod dropped;
pub mod event;
mod force;
pub mod founding;
#[doc(hidden)]
pub mod fuzz;
mod keyspaces;
mod layout;
mod living;
pub mod map;
pub mod plan;
mod recast;
mod refusal;
mod revise;
pub mod rows;
mod ruling;
mod split;

pub use event::Event;
pub use founding::{Founder, Founding};
pub use living::needed;
pub use plan::{Limits, plan};
pub use recast::opens_whole;
pub use refusal::Refusal;
