//! What was lost of what was acknowledged, by elections that were forced.

use std::collections::BTreeMap;

use kv::cluster::Status;
use kv::ledger::{Line, Lost, Note};
use kv::view::Duty;
use kv::{Answer, Key, NodeId, Op, Range, Request, ShardId, Slot, Version};
use serde_json::{Map, Value, json};

use super::{confirm, of_keyspace, tell};
use crate::cluster::Names;
use crate::connect::Store;
use crate::escape;
use crate::exit::{Code, Error};
use crate::options::Options;
use crate::print::{Output, put_bytes};

/// Lines of a key that one request takes off: of more, there are several requests.
const LINES_MAX: usize = 1000;

/// Prints the ledger of a keyspace, and who has not told yet what only it has. Takes the lines off that it has printed, if `clear` says
/// so: whether that is confirmed already.
pub async fn run(
    name: &str,
    clear: Option<bool>,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    let lines = lines(name, store, options).await?;
    let status = store.status().await?;
    let told = Told { keyspace: name, status: &status, names: Names::of(&status), lines: &lines };
    if out.json {
        told.print_objects(out)?
    } else {
        told.print(out)?
    }
    let Some(is_confirmed) = clear else { return Ok(Code::Done) };
    if told.lost().next().is_none() {
        return Ok(Code::Done);
    }
    if !is_confirmed {
        let what =
            format!("Taking {} lines off the ledger of {name} forgets what they say", told.lost().count());
        confirm(name, &what)?;
    }
    let count = take_off(name, told.lost().map(|(.., lost)| lost), store, options).await?;
    tell(name, "cleared", &format!("{count} lines are off the ledger of {name}"), out)
}

/// Takes lines off; how many were there.
async fn take_off(
    name: &str,
    lines: impl Iterator<Item = &Lost>,
    store: &dyn Store,
    options: &Options,
) -> Result<u64, Error> {
    let mut of_keys: BTreeMap<&Key, Vec<Version>> = BTreeMap::new();
    lines.for_each(|lost| of_keys.entry(&lost.key).or_default().push(lost.version));
    let mut taken = 0;
    for (key, versions) in of_keys {
        for lost in versions.chunks(LINES_MAX) {
            let op = Op::Note(Note::Clear { key: key.clone(), lost: lost.to_vec() });
            let request = Request { keyspace: name.into(), timeout: options.timeout(), ..Request::new(op) };
            match store.call(request, None).await?.answer {
                Answer::Trimmed { count, .. } => taken += count,
                other => return Err(nonsense(&format!("{other:?}"))),
            }
        }
    }
    Ok(taken)
}

async fn lines(name: &str, store: &dyn Store, options: &Options) -> Result<Vec<Line>, Error> {
    let (mut lines, mut page) = (Vec::new(), None);
    loop {
        let op = Op::Range(Range { ledger: true, page: page.take(), ..Range::default() });
        let request = Request { keyspace: name.into(), timeout: options.timeout(), ..Request::new(op) };
        let found = match store.call(request, None).await?.answer {
            Answer::Page(found) => found,
            other => return Err(nonsense(&format!("{other:?}"))),
        };
        for row in &found.rows {
            lines.push(Line::decode(&row.value).map_err(|error| nonsense(&error.to_string()))?);
        }
        page = found.next;
        if page.is_none() {
            return Ok(lines);
        }
    }
}

fn nonsense(what: &str) -> Error {
    Error::Unavailable(format!(
        "the cluster told a ledger that is none ({what}): are client and server of one version?"
    ))
}

struct Told<'a> {
    keyspace: &'a str,
    status: &'a Status,
    names: Names<'a>,
    lines: &'a [Line],
}

impl Told<'_> {
    fn lost(&self) -> impl Iterator<Item = (NodeId, Version, &Lost)> {
        self.lines.iter().filter_map(|line| match line {
            Line::Lost { node, told, lost } => Some((*node, *told, lost)),
            _ => None,
        })
    }

    /// How many more there were than are listed, by the node that had them.
    fn beyond(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.lines.iter().filter_map(|line| match line {
            Line::Beyond { node, count, .. } if *count > 0 => Some((*node, *count)),
            _ => None,
        })
    }

    /// Who has not told yet what only it has, of which shard.
    fn silent(&self) -> impl Iterator<Item = (ShardId, NodeId)> {
        let shards = of_keyspace(self.status, self.keyspace);
        shards.flat_map(|shard| {
            let astray = shard.members.iter().filter(|member| member.duty == Duty::Astray);
            astray.map(|member| (shard.id, member.node))
        })
    }

    fn shard_of(&self, key: &[u8]) -> Option<ShardId> {
        let slot = Slot::of(key);
        let mut shards = of_keyspace(self.status, self.keyspace);
        shards.find(|shard| shard.slots.first <= slot && slot <= shard.slots.last).map(|shard| shard.id)
    }

    fn print(&self, out: &mut Output<'_>) -> Result<(), Error> {
        let row = |(node, _, lost): (NodeId, Version, &Lost)| {
            let version = |version: Version| version.to_string();
            vec![
                self.shard_of(&lost.key).map_or_else(|| "-".into(), |shard| shard.to_string()),
                escape::write(&lost.key).into_owned(),
                version(lost.version),
                lost.replaced.map_or_else(|| "-".into(), version),
                self.names.name(node),
                lost.value
                    .as_ref()
                    .map_or_else(|| "(deleted)".into(), |value| escape::write(value).into_owned()),
            ]
        };
        let rows: Vec<_> = self.lost().map(row).collect();
        if rows.is_empty() {
            out.note(&format!("no acknowledged write of {} was lost, as far as is known", self.keyspace))?;
        } else {
            out.table(&["SHARD", "KEY", "LOST", "REPLACED", "FROM", "VALUE"], &rows)?;
        }
        for (node, count) in self.beyond() {
            out.note(&format!("{count} more that {} had are not listed", self.names.name(node)))?;
        }
        for (shard, node) in self.silent() {
            let name = self.names.name(node);
            out.note(&format!(
                "{name} has not told yet what only it has of shard {shard}: it does when it is back"
            ))?;
        }
        Ok(())
    }

    fn print_objects(&self, out: &mut Output<'_>) -> Result<(), Error> {
        for (node, told, lost) in self.lost() {
            let mut object = Map::new();
            object.insert("shard".into(), json!(self.shard_of(&lost.key).map(|shard| shard.0)));
            put_bytes(&mut object, "key", &lost.key);
            object.insert("version".into(), json!(lost.version.to_string()));
            object.insert("replaced".into(), json!(lost.replaced.map(|version| version.to_string())));
            match &lost.value {
                Some(value) => put_bytes(&mut object, "value", value),
                None => drop(object.insert("deleted".into(), json!(true))),
            }
            object.insert("node".into(), json!(self.names.name(node)));
            object.insert("told".into(), json!(told.to_string()));
            out.object(&Value::Object(object))?;
        }
        for (node, count) in self.beyond() {
            out.object(&json!({"beyond": count, "node": self.names.name(node)}))?;
        }
        for (shard, node) in self.silent() {
            out.object(&json!({"silent": self.names.name(node), "shard": shard.0}))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kv::view::Member;
    use kv::{ReplicaId, SlotRange};

    use super::*;
    use crate::fake::{node, printed, shard};

    #[test]
    fn ledger_lists_what_was_lost_and_who_has_not_told_yet() {
        let mut one = shard(1);
        one.slots = SlotRange { first: Slot(0), last: Slot(kv::SLOTS - 1) };
        let member =
            Member { node: NodeId(2), replica: ReplicaId(2), incarnation: 0, duty: Duty::Astray, weight: 1 };
        one.members = vec![member];
        let nodes = (1..=3).map(node).collect();
        let status = Status { nodes, shards: vec![one], directory: None, revision: 3, buses: Vec::new() };
        let version = |micros| Version::new(micros, ReplicaId(1));
        let (key, value) = ("k".into(), Some("v\n".into()));
        let lost = Lost { key, version: version(9), replaced: Some(version(7)), value };
        let deleted = Lost { replaced: None, value: None, ..lost.clone() };
        let (node, replica) = (NodeId(1), ReplicaId(1));
        let line = |lost| Line::Lost { node, told: version(11), lost };
        let lines = [line(lost), line(deleted), Line::Beyond { node, replica, count: 5 }];
        let text = |lines: &[Line], json| {
            let told = Told { keyspace: "default", status: &status, names: Names::of(&status), lines };
            printed(
                json,
                |out| if json { told.print_objects(out).unwrap() } else { told.print(out).unwrap() },
            )
        };
        let table = text(&lines, false);
        for told in [&version(9).to_string(), &version(7).to_string(), "v\\n", "(deleted)", "n1"] {
            assert!(table.contains(told), "{told}:\n{table}");
        }
        let objects = text(&lines, true);
        for told in
            ["\"replaced\":null", "\"deleted\":true", "\"beyond\":5", "\"silent\":\"n2\"", "\"shard\":1"]
        {
            assert!(objects.contains(told), "{told}:\n{objects}");
        }
    }
}
