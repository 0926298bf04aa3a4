//! The laboratory: what each protocol does under faults, and what was observed of a store, judged.

mod check;
mod eval;
mod faults;

use crate::exit::{Code, Error};
use crate::options::Connect;
use crate::print::Output;

/// `capstan lab ...`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Put each protocol through the same faults; print what it did
    Faults(faults::Args),
    /// Measure what consistency costs; print a table, draw a plot
    #[command(subcommand)]
    Eval(eval::Command),
    /// Judge a recorded history: is it linearizable?
    Check(check::Args),
}

/// Runs `capstan lab ...`
pub fn run(command: &Command, connect: &Connect, out: &mut Output<'_>) -> Result<Code, Error> {
    match command {
        Command::Faults(args) => faults::run(args, connect, out),
        Command::Eval(command) => eval::run(command, connect, out),
        Command::Check(args) => check::run(args, out),
    }
}
