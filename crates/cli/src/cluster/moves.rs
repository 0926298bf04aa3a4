//! Replicas on their way: a line each, or an object.

use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration};
use kv::NodeId;
use kv::admin::{Move, Phase, Why};
use serde_json::{Value, json};

use super::names::Names;
use crate::exit::Error;
use crate::print::Output;

/// More moves than these are not listed unless that is asked for, but for those that have begun.
const MOVES_LISTED: usize = 16;

/// Prints moves, all or as many as fit on a screen; where there are none, says so.
pub fn print(moves: &[Move], all: bool, names: &Names<'_>, out: &mut Output<'_>) -> Result<(), Error> {
    if out.json {
        moves.iter().try_for_each(|moved| out.object(&object(moved, names)))?;
        return Ok(());
    }
    if moves.is_empty() {
        out.note("nothing moves")?;
        return Ok(());
    }
    let has_begun = |moved: &&Move| moved.phase != Phase::Planned;
    let room =
        if all { moves.len() } else { MOVES_LISTED.saturating_sub(moves.iter().filter(has_begun).count()) };
    let waiting: Vec<&Move> = moves.iter().filter(|moved| !has_begun(moved)).collect();
    let (shown, rest) = waiting.split_at(room.min(waiting.len()));
    let mut listed: Vec<&Move> = moves.iter().filter(has_begun).chain(shown.iter().copied()).collect();
    listed.sort_by_key(|moved| moved.shard);
    let rows: Vec<_> = listed.into_iter().map(|moved| row(moved, names)).collect();
    out.table(&["SHARD", "FROM", "TO", "PHASE", "COPIED", "LEFT", "WHY"], &rows)?;
    if !rest.is_empty() {
        out.line(&format!("\n{} more are planned: cluster moves --all lists them.", rest.len()))?;
    }
    Ok(())
}

fn row(moved: &Move, names: &Names<'_>) -> Vec<String> {
    let left = time_left(moved).map_or_else(|| "-".into(), |left| HumanDuration(left).to_string());
    vec![
        moved.shard.to_string(),
        node(moved.from, names).unwrap_or_else(|| "-".into()),
        node(moved.to, names).unwrap_or_else(|| "-".into()),
        moved.phase.name().into(),
        copied(moved),
        left,
        why(moved.why, names),
    ]
}

fn copied(moved: &Move) -> String {
    match (moved.bytes_done, moved.bytes_total) {
        (0, 0) => "-".into(),
        (done, 0) => HumanBytes(done).to_string(),
        (done, total) => format!("{} of {}", HumanBytes(done), HumanBytes(total)),
    }
}

/// How far a move is, in a few words beside its bar.
pub fn progress(moved: &Move) -> String {
    let left = time_left(moved).map_or_else(String::new, |left| format!(" {:#}", HumanDuration(left)));
    format!("{}{left} {}", copied(moved), moved.phase.name())
}

/// How much of the bar of a move is full: the part, and the whole, which is never 0.
pub fn filled(moved: &Move) -> (u64, u64) {
    match (moved.phase, moved.bytes_total) {
        (Phase::Switch, _) => (1, 1),
        (_, 0) => (0, 1),
        (_, total) => (moved.bytes_done, total),
    }
}

/// A move as scripts see it.
pub fn object(moved: &Move, names: &Names<'_>) -> Value {
    json!({
        "shard": moved.shard.0,
        "from": node(moved.from, names),
        "to": node(moved.to, names),
        "phase": moved.phase.name(),
        "bytes_done": moved.bytes_done,
        "bytes_total": moved.bytes_total,
        "keyspace": moved.keyspace,
        "why": why(moved.why, names),
        "elapsed_ms": moved.elapsed_micros / 1000,
        "left_ms": time_left(moved).map(|left| left.as_millis() as u64),
    })
}

/// What a move is, in a few words.
pub fn words(moved: &Move, names: &Names<'_>) -> String {
    let shard = moved.shard;
    match (node(moved.from, names), node(moved.to, names)) {
        (Some(from), Some(to)) => format!("shard {shard} {from} > {to}"),
        (None, Some(to)) => format!("shard {shard} > {to}"),
        (Some(from), None) => format!("shard {shard} off {from}"),
        (None, None) => format!("shard {shard}"),
    }
}

fn why(why: Why, names: &Names<'_>) -> String {
    match why {
        Why::Balance => "balance".into(),
        Why::Leaves(node) => format!("{} leaves", names.name(node)),
        Why::Lost(node) => format!("{} is lost", names.name(node)),
        Why::Repair => "repair".into(),
        Why::Split => "split".into(),
        Why::Protocol => "protocol".into(),
    }
}

fn node(node: Option<NodeId>, names: &Names<'_>) -> Option<String> {
    node.map(|node| names.name(node))
}

/// How long the copy takes if it goes on as so far; `None` = that cannot be said, or there is nothing left to copy.
fn time_left(moved: &Move) -> Option<Duration> {
    let left = moved.bytes_total.checked_sub(moved.bytes_done).filter(|left| *left > 0)?;
    if moved.phase != Phase::Copy || moved.bytes_done == 0 {
        return None;
    }
    let micros = u128::from(moved.elapsed_micros) * u128::from(left) / u128::from(moved.bytes_done);
    Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
}
