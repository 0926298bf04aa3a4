//! What nodes are to do from now on.

use kv::NodeId;
use kv::admin::Ask;
use kv::cluster::{NodeDuty, Status};
use serde_json::json;

use super::ask;
use super::command::Change;
use super::moves;
use super::names::Names;
use super::wait::{Goal, Pace, wait};
use crate::connect::Store;
use crate::exit::{Code, Error};
use crate::options::Options;
use crate::print::Output;

/// What a node is to do.
#[derive(Clone, Copy, Debug)]
pub enum Wish {
    /// Take replicas.
    Serve,
    /// Give its replicas away; even where there are fewer then.
    Drain { fewer: bool },
    /// Give its replicas away, and be no node of the cluster any more; even where there are fewer then.
    Leave { fewer: bool },
    /// It is dead, and given up; even where that loses data.
    Replace { lose: bool },
}

impl Wish {
    fn ask(self, change: &Change) -> Ask {
        let (name, dry_run) = (change.name.clone(), change.dry_run);
        match self {
            Wish::Serve => Ask::Node { name, duty: NodeDuty::Serve, fewer: false, dry_run },
            Wish::Drain { fewer } => Ask::Node { name, duty: NodeDuty::Drain, fewer, dry_run },
            Wish::Leave { fewer } => Ask::Node { name, duty: NodeDuty::Leave, fewer, dry_run },
            Wish::Replace { lose } => Ask::Replace { name, lose, dry_run },
        }
    }

    fn duty(self) -> NodeDuty {
        match self {
            Wish::Serve => NodeDuty::Serve,
            Wish::Drain { .. } => NodeDuty::Drain,
            Wish::Leave { .. } => NodeDuty::Leave,
            Wish::Replace { .. } => NodeDuty::Gone,
        }
    }

    /// What it comes to; `None` = the node was not known a moment ago.
    fn goal(self, change: &Change, status: &Status) -> Option<Goal> {
        let id: NodeId = status.nodes.iter().find(|node| node.name == change.name)?.id;
        Some(match self {
            Wish::Serve => Goal::Still,
            Wish::Drain { .. } => Goal::Empty(id),
            Wish::Leave { .. } | Wish::Replace { .. } => Goal::Absent(id),
        })
    }
}

/// Asks for the change, or what it would move, and waits for the replicas where that is wanted.
pub async fn run(
    change: &Change,
    wish: Wish,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    // Before it is asked: afterwards a node of this name may be another one.
    let status = store.status().await?;
    let ask = wish.ask(change);
    if change.dry_run {
        let planned = ask::moves(ask, store, options.timeout()).await?;
        moves::print(&planned, true, &Names::of(&status), out)?;
        return Ok(Code::Done);
    }
    if matches!(wish, Wish::Serve) && !status.nodes.iter().any(|node| node.name == change.name) {
        return Err(is_new(&change.name));
    }
    ask::done(ask, store, options.timeout()).await?;
    tell(change, wish, out)?;
    match wish.goal(change, &status) {
        Some(goal) if change.wait => wait(&goal, Pace::USUAL, store, out).await,
        _ => Ok(Code::Done),
    }
}

/// Whoever asks this of a node that the cluster does not have may well have a new one.
fn is_new(name: &str) -> Error {
    Error::Usage(format!(
        "no node is named '{name}': cluster nodes lists them. A new one joins when it is started: capstan serve --name {name} --data \
         FOLDER --listen HOST:PORT --listen-peer HOST:PORT --join HOST:PORT"
    ))
}

fn tell(change: &Change, wish: Wish, out: &mut Output<'_>) -> Result<(), Error> {
    let name = &change.name;
    if out.json {
        out.object(&json!({"name": name, "duty": wish.duty().name()}))?;
        return Ok(());
    }
    let what = match wish {
        Wish::Serve => format!("{name} takes replicas from now on"),
        Wish::Drain { .. } => format!("{name} is being drained"),
        Wish::Leave { .. } => format!("{name} leaves when its replicas have moved"),
        Wish::Replace { .. } => format!("{name} is given up, and its replicas are made again"),
    };
    let hint = if change.wait { "" } else { ": cluster moves --wait shows how far it is" };
    out.note(&format!("{what}{hint}"))?;
    Ok(())
}
