//! The data commands: each is one op of the store, asked once; ranges and stores of many keys go on page by page.

mod ask;
mod command;
mod lines;
mod op;
mod run;
#[cfg(test)]
mod tests;
pub mod txn;
mod watch;

pub use command::Command;
pub use run::{dump, run};
