//! The commands on faults: each node that is concerned is told at its own address, so they work while nodes do not hear each other.

mod command;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use kv::cluster::{Liveness, NodeStatus, Status};
use kv::fault::{Fault, Faults};
use serde_json::{Value, json};

use crate::connect::Store;
use crate::exit::{Code, Error};
use crate::options::Options;
use crate::print::Output;
use command::Sides;

pub use command::{Command, EXAMPLES};

/// A node that does not answer is not waited for much longer when it is only shown which faults it has.
const SHOW_WAIT: Duration = Duration::from_millis(500);

/// Runs a command and says what is so from now on.
pub async fn run(
    command: &Command,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    let status = store.status().await?;
    let told = match command {
        Command::Slow { node, micros } => {
            put(&[(find(node, &status)?, Fault::Slow { micros: *micros })], store, options).await?
        }
        Command::Restore { node } => put(&[(find(node, &status)?, Fault::Restore)], store, options).await?,
        Command::Kill { node } => put(&[(find(node, &status)?, Fault::Kill)], store, options).await?,
        Command::Partition { sides } => put(&cuts(sides, &status)?, store, options).await?,
        Command::Heal => {
            let all: Vec<_> = status.nodes.iter().map(|node| (node, Fault::Heal)).collect();
            put_each(&all, store, options).await?
        }
    };
    match out.json {
        true => told.iter().try_for_each(|faults| out.object(&object(faults)))?,
        false => out.note(&now(command))?,
    }
    Ok(Code::Done)
}

/// What is so from now on.
fn now(command: &Command) -> String {
    match command {
        Command::Slow { node, micros } => {
            let late = seconds(*micros);
            format!("{node} is slow: its responses leave {late} s late, until 'fault restore {node}'")
        }
        Command::Restore { node } => format!("{node} answers at once again"),
        Command::Partition { sides: Sides { one, other } } => format!(
            "nothing passes between {} and {} until 'fault heal'; clients reach all of them",
            one.join(", "),
            other.join(", ")
        ),
        Command::Heal => "no node is cut off from another any more".into(),
        Command::Kill { node } => format!("{node} is killed; 'capstan up' starts it again"),
    }
}

/// Which node is to be cut off from whom.
fn cuts<'a>(sides: &Sides, status: &'a Status) -> Result<Vec<(&'a NodeStatus, Fault)>, Error> {
    let Sides { one, other } = sides;
    let cut = |names: &[String], from: &[String]| {
        let each = names.iter().map(|name| Ok((find(name, status)?, Fault::Cut { from: from.to_vec() })));
        each.collect::<Result<Vec<_>, Error>>()
    };
    Ok([cut(one, other)?, cut(other, one)?].concat())
}

/// Puts faults on nodes: on all of them, or on none when one takes no faults or cannot be asked.
async fn put(
    faults: &[(&NodeStatus, Fault)],
    store: &dyn Store,
    options: &Options,
) -> Result<Vec<Faults>, Error> {
    for (node, _) in faults {
        let shown = ask(node, None, store, options.timeout()).await;
        let shown = shown.map_err(|error| said(&node.name, error, "nothing is changed"))?;
        if !shown.lab {
            return Err(no_lab(&node.name));
        }
    }
    put_each(faults, store, options).await
}

/// Puts faults on those nodes that can be asked. An error says which ones could not be, and that the others were.
async fn put_each(
    faults: &[(&NodeStatus, Fault)],
    store: &dyn Store,
    options: &Options,
) -> Result<Vec<Faults>, Error> {
    let (mut told, mut failed) = (Vec::new(), None);
    for (node, fault) in faults {
        match ask(node, Some(fault.clone()), store, options.timeout()).await {
            Ok(faults) => told.push(faults),
            Err(error) => failed = failed.or(Some((&node.name, error))),
        }
    }
    let Some((name, error)) = failed else { return Ok(told) };
    let done: Vec<&str> = told.iter().map(|faults| faults.node.as_str()).collect();
    let rest = match done.is_empty() {
        true => "nothing is changed".to_owned(),
        false => format!("it is done at {}; ask again for the rest", done.join(", ")),
    };
    Err(said(name, error, &rest))
}

/// Asks one node. `None` = which faults it has.
async fn ask(
    node: &NodeStatus,
    fault: Option<Fault>,
    store: &dyn Store,
    time: Duration,
) -> Result<Faults, kv::Error> {
    if node.address.is_empty() {
        return Err(kv::Error::Unavailable("it was never heard of where it is".into()));
    }
    store.fault(&node.address, fault, time).await
}

/// An error of a node, and what that leaves.
fn said(name: &str, error: kv::Error, rest: &str) -> Error {
    let text = format!("{name}: {error}; {rest}");
    match crate::exit::code_of(&error) {
        Code::Usage => Error::Usage(text),
        _ => Error::Unavailable(text),
    }
}

fn no_lab(name: &str) -> Error {
    Error::Usage(format!(
        "{name} takes no faults: they are for labs. Start the cluster with 'capstan up --lab', or its nodes with 'capstan serve --lab'"
    ))
}

fn find<'a>(name: &str, status: &'a Status) -> Result<&'a NodeStatus, Error> {
    let known = status.nodes.iter().find(|node| node.name == name);
    known.ok_or_else(|| {
        let names: Vec<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
        Error::Usage(format!("no node is named '{name}': there are {}", names.join(", ")))
    })
}

/// The faults of all nodes that have some, as far as they can be asked. Of clusters that are no lab: none.
pub async fn all(status: &Status, store: &dyn Store) -> Vec<Faults> {
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    let alive = status.nodes.iter().filter(|node| node.state == Liveness::Alive);
    // One that is cut off from the node at hand seems dead, and is asked as well.
    let others = status.nodes.iter().filter(|node| node.state != Liveness::Alive);
    for node in alive.chain(others).filter(|node| seen.insert(node.id)) {
        match ask(node, None, store, SHOW_WAIT).await {
            // Nodes are started alike.
            Ok(faults) if !faults.lab => return Vec::new(),
            Ok(faults) if faults.is_any() => all.push(faults),
            Ok(_) | Err(_) => {}
        }
    }
    all.sort_by(|one, other| one.node.cmp(&other.node));
    all
}

/// What is wrong with a node on purpose, in a sentence each.
pub fn sentences(faults: &Faults) -> Vec<String> {
    let node = &faults.node;
    let slow = (faults.slow_micros > 0)
        .then(|| format!("{node} is slow: its responses leave {} s late", seconds(faults.slow_micros)));
    let cut = (!faults.cut.is_empty()).then(|| format!("{node} is cut off from {}", faults.cut.join(", ")));
    slow.into_iter().chain(cut).collect()
}

/// The faults of a node, for scripts.
pub fn object(faults: &Faults) -> Value {
    json!({
        "name": faults.node,
        "slow_seconds": faults.slow_micros as f64 / 1e6,
        "cut_off_from": faults.cut,
    })
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
