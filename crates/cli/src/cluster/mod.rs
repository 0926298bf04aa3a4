//! The commands on the cluster: how it is, where keys are, and what its nodes are to do.
//!
//! A change is decided when its command returns; the replicas then move while the cluster serves. `--wait` waits for them,
//! `--dry-run` prints what would move and changes nothing.

mod ask;
mod change;
mod command;
mod health;
mod location;
mod moves;
mod names;
mod status;
#[cfg(test)]
mod tests;
mod wait;

use kv::ShardId;
use kv::admin::{Ask, Move, Row};
use serde_json::json;

use crate::connect::Store;
use crate::exit::{Code, Error};
use crate::fault;
use crate::options::Options;
use crate::print::Output;
use change::Wish;
use command::SendAway;
pub use names::Names;
use wait::{Goal, Pace, wait};

pub use command::{Command, EXAMPLES};

/// Runs a command and prints its answer.
pub async fn run(
    command: &Command,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    match command {
        Command::Status { all } => {
            let status = store.status().await?;
            let faults = fault::all(&status, store).await;
            status::print(store.cluster().await?, &status, &faults, *all, out)?;
        }
        Command::Nodes => {
            let status = store.status().await?;
            status::print_nodes(&status, &fault::all(&status, store).await, out)?;
        }
        Command::Query { key } => {
            let location = store.locate(options.keyspace(), key.0.clone()).await?;
            location::print(&key.0, &location, &store.status().await?, out)?;
        }
        Command::Join(change) => return change::run(change, Wish::Serve, store, options, out).await,
        Command::Drain(SendAway { change, fewer_replicas: fewer }) => {
            return change::run(change, Wish::Drain { fewer: *fewer }, store, options, out).await;
        }
        Command::Leave(SendAway { change, fewer_replicas: fewer }) => {
            return change::run(change, Wish::Leave { fewer: *fewer }, store, options, out).await;
        }
        Command::Replace { change, lose_data: lose } => {
            return change::run(change, Wish::Replace { lose: *lose }, store, options, out).await;
        }
        Command::Moves { wait: true, .. } => return wait(&Goal::Still, Pace::USUAL, store, out).await,
        Command::Moves { abort: Some(shard), .. } => abort(*shard, store, options, out).await?,
        Command::Moves { all, .. } => print_moves(*all, store, options, out).await?,
        Command::Dump => dump(store, options, out).await?,
    }
    Ok(Code::Done)
}

async fn print_moves(
    all: bool,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<(), Error> {
    let found = ask::moves(Ask::Moves, store, options.timeout()).await?;
    moves::print(&found, all, &Names::of(&store.status().await?), out)
}

/// What would move for a change that is asked as a dry run.
pub async fn planned(ask: Ask, store: &dyn Store, options: &Options) -> Result<Vec<Move>, Error> {
    ask::moves(ask, store, options.timeout()).await
}

/// Prints what would move.
pub async fn print_planned(planned: &[Move], store: &dyn Store, out: &mut Output<'_>) -> Result<(), Error> {
    moves::print(planned, true, &Names::of(&store.status().await?), out)
}

async fn abort(
    shard: ShardId,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<(), Error> {
    ask::done(Ask::Abort { shard }, store, options.timeout()).await?;
    match out.json {
        true => out.object(&json!({"shard": shard.0, "aborted": true}))?,
        false => out.note(&format!("the move of shard {shard} is given up"))?,
    }
    Ok(())
}

async fn dump(store: &dyn Store, options: &Options, out: &mut Output<'_>) -> Result<(), Error> {
    for Row { key, value } in ask::rows(store, options.timeout()).await? {
        match out.json {
            true => out.object(&json!({"key": key, "value": value}))?,
            false => out.row(&[key.as_bytes(), value.as_bytes()])?,
        }
    }
    Ok(())
}
