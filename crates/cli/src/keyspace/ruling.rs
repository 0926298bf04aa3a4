//! What only people can decide about the members of a keyspace's shards: what it would do, their word for it, and what came of it.

use clap::Args;
use kv::admin::{Answer, Ask, Ruled, Ruling};
use kv::keyspace::{Described, SyncMode};
use serde_json::json;

use super::{all, confirm, unexpected};
use crate::connect::Store;
use crate::exit::{Code, Error};
use crate::options::Options;
use crate::print::Output;

/// What people can decide.
#[derive(Args, Clone, Debug, Default)]
pub struct Decision {
    /// Under primary, when no replica in sync is left: have NODE's replicas order
    /// with what they have. What only the lost ones had is lost, and listed by
    /// keyspace ledger when they are back
    #[arg(long, value_name = "NODE")]
    pub force_primary: Option<String>,
    /// Under two-phase, when NODE is off for good: its shards go on without its replicas
    #[arg(long, value_name = "NODE", conflicts_with = "force_primary")]
    pub declare_dead: Option<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

impl Decision {
    /// What is decided, if anything is.
    pub fn ruling(&self) -> Option<Ruling> {
        let dead = || self.declare_dead.clone().map(|node| Ruling::DeclareDead { node });
        self.force_primary.clone().map(|node| Ruling::ForcePrimary { node }).or_else(dead)
    }
}

/// Shows what a decision would do, has it confirmed, and carries it out.
pub async fn run(
    name: &str,
    decision: &Decision,
    dry_run: bool,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    let Some(ruling) = decision.ruling() else { return Ok(Code::Done) };
    let would = ask(name, &ruling, true, store, options).await?;
    if dry_run {
        print(&would, "WOULD", out)?;
        return Ok(Code::Done);
    }
    if !decision.yes {
        confirm(name, &consequence(name, &ruling, &would))?;
    }
    let done = ask(name, &ruling, false, store, options).await?;
    print(&done, "DONE", out)?;
    let keyspaces = all(store, options).await?;
    let too_few = keyspaces.iter().find(|keyspace| keyspace.name == name).and_then(too_few);
    if let Some(copies) = too_few.filter(|_| !out.json) {
        out.note(&format!(
            "{name} takes writes when {copies} replicas are in sync: start other nodes that have one, or say fewer (keyspace alter {name} \
             --min-copies 1)"
        ))?;
    }
    Ok(Code::Done)
}

async fn ask(
    name: &str,
    ruling: &Ruling,
    dry_run: bool,
    store: &dyn Store,
    options: &Options,
) -> Result<Vec<Ruled>, Error> {
    let ask = Ask::Rule { keyspace: name.into(), ruling: ruling.clone(), dry_run };
    match store.administer(ask, options.timeout()).await? {
        Answer::Ruled(shards) => Ok(shards),
        other => Err(unexpected(&other)),
    }
}

/// What whoever decides it has to know.
fn consequence(name: &str, ruling: &Ruling, would: &[Ruled]) -> String {
    let done: Vec<&Ruled> = would.iter().filter(|shard| shard.done).collect();
    let shards: Vec<String> =
        done.iter().map(|ruled| format!("shard {}: {}", ruled.shard, ruled.why)).collect();
    let of = format!("{} of {} shards of {name}", done.len(), would.len());
    let what = match ruling {
        Ruling::ForcePrimary { node } => format!(
            "Having {node} order {of} loses the acknowledged writes that {node} has not got;\nkeyspace ledger {name} lists them when the \
             nodes that have them are back"
        ),
        Ruling::DeclareDead { node } => format!(
            "{node} has to be off, and stay off: while it runs it may answer what is no longer so. Nothing that was acknowledged is lost \
             by taking it from {of}; what it refused at last may have been done"
        ),
    };
    format!("{}\n{what}", shards.join("\n"))
}

/// So many replicas must be in sync for a write to be taken, if one is not enough.
fn too_few(keyspace: &Described) -> Option<u16> {
    match keyspace.settings.sync {
        Some(SyncMode::All { min_copies }) if min_copies > 1 => Some(min_copies),
        _ => None,
    }
}

fn print(shards: &[Ruled], head: &str, out: &mut Output<'_>) -> Result<(), Error> {
    if out.json {
        let object = |ruled: &Ruled| json!({"shard": ruled.shard.0, "done": ruled.done, "why": ruled.why});
        shards.iter().try_for_each(|ruled| out.object(&object(ruled)))?;
        return Ok(());
    }
    let row = |ruled: &Ruled| {
        let done = if ruled.done { "yes" } else { "no" };
        vec![ruled.shard.to_string(), done.into(), ruled.why.clone()]
    };
    let rows: Vec<_> = shards.iter().map(row).collect();
    out.table(&["SHARD", head, "WHAT"], &rows)?;
    Ok(())
}
