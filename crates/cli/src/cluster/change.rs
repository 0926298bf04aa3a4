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

/// Asks for the change, or what it would move, and waits for the replicas where that is wanted.
pub async fn run(
    change: &Change,
    duty: NodeDuty,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    // Before it is asked: afterwards a node of this name may be another one.
    let status = store.status().await?;
    let (name, dry_run) = (change.name.clone(), change.dry_run);
    let ask = match duty {
        NodeDuty::Gone => Ask::Replace { name, dry_run },
        duty => Ask::Node { name, duty, dry_run },
    };
    if dry_run {
        let planned = ask::moves(ask, store, options.timeout()).await?;
        moves::print(&planned, &Names::of(&status), out)?;
        return Ok(Code::Done);
    }
    ask::done(ask, store, options.timeout()).await?;
    tell(change, duty, out)?;
    match goal(change, duty, &status) {
        Some(goal) if change.wait => wait(&goal, Pace::USUAL, store, out).await,
        _ => Ok(Code::Done),
    }
}

fn tell(change: &Change, duty: NodeDuty, out: &mut Output<'_>) -> Result<(), Error> {
    let name = &change.name;
    if out.json {
        out.object(&json!({"name": name, "duty": duty.name()}))?;
        return Ok(());
    }
    let what = match duty {
        NodeDuty::Serve => format!("{name} takes replicas from now on"),
        NodeDuty::Drain => format!("{name} is being drained"),
        NodeDuty::Leave => format!("{name} leaves when its replicas have moved"),
        NodeDuty::Gone => format!("{name} is given up, and its replicas are made again"),
    };
    let hint = if change.wait { "" } else { ": cluster moves --wait shows how far it is" };
    out.note(&format!("{what}{hint}"))?;
    Ok(())
}

/// What such a change comes to; `None` = the node was not known a moment ago.
fn goal(change: &Change, duty: NodeDuty, status: &Status) -> Option<Goal> {
    let id: NodeId = status.nodes.iter().find(|node| node.name == change.name)?.id;
    Some(match duty {
        NodeDuty::Serve => Goal::Still,
        NodeDuty::Drain => Goal::Empty(id),
        NodeDuty::Leave | NodeDuty::Gone => Goal::Absent(id),
    })
}
