//! A write is answered with what it did, however often it was sent: the answer and the version that its shard's table gave it when
//! it ran, and of several shards their sum.

use std::collections::BTreeMap;

use kv::{Answer, KeyAnswer, Op, ShardId};
use node::route::{Plan, ShardMap};

use super::Told;
use super::rows::{Ran, Rows};

impl Rows {
    /// What is wrong with what a write was answered that has an id.
    pub(super) fn told(&self, map: &ShardMap, told: &Told<'_>) -> Option<String> {
        let id = told.id?;
        let nowhere = BTreeMap::new();
        let ran = self.done.get(&(id.client, id.sequence)).unwrap_or(&nowhere);
        let of = |shard: ShardId| {
            let ran = self.line_of(shard).find_map(|shard| Some((shard, ran.get(&shard)?)));
            ran.ok_or_else(|| format!("it never ran in shard {shard}"))
        };
        let wrong = check(map, told, of).err()?;
        Some(format!(
            "a write is answered with what it did: {:?} was answered {:?} with {:?}: {wrong}",
            told.op, told.reply.answer, told.reply.receipt
        ))
    }
}

/// `of`: what the request did in a shard, or in which one that this was cut from.
fn check<'a>(
    map: &ShardMap,
    told: &Told<'_>,
    of: impl Fn(ShardId) -> Result<(ShardId, &'a Ran), String>,
) -> Result<(), String> {
    let shards: Vec<ShardId> = Plan::new(map, told.op.clone())
        .map(|plan| plan.parts.iter().map(|(shard, _)| *shard).collect())
        .unwrap_or_default();
    if let [shard] = shards[..] {
        let (_, (version, answer)) = of(shard)?;
        let fits = (version, answer) == (&told.reply.receipt.version, &told.reply.answer);
        return if fits { Ok(()) } else { Err(format!("at {version} it did {answer:?}")) };
    }
    match (told.op, &told.reply.answer) {
        (Op::DeleteRange { .. }, Answer::Deleted { count, next, .. })
        | (Op::TrimRange { .. }, Answer::Trimmed { count, next }) => {
            let (mut sum, mut first) = (0, None);
            // What a shard did before it was cut is told once, by all its parts together.
            let ran: BTreeMap<ShardId, &Ran> =
                shards.iter().map(|shard| of(*shard)).collect::<Result<_, _>>()?;
            for (_, answer) in ran.values() {
                let (Answer::Deleted { count, next, .. } | Answer::Trimmed { count, next }) = answer else {
                    return Err("it was something else".into());
                };
                sum += count;
                first = first.into_iter().chain(next).min();
            }
            let fits = (sum, first) == (*count, next.as_ref());
            if fits { Ok(()) } else { Err(format!("together they did {sum}, and go on at {first:?}")) }
        }
        (Op::PutAll { .. }, Answer::Many(answers)) => answers.iter().try_for_each(|told| {
            let done =
                told.result.as_ref().map_or(Ok(true), |_| is_among(&of(map.shard_of(&told.key))?.1.1, told));
            if done? { Ok(()) } else { Err(format!("its shard answered something else for {:?}", told.key)) }
        }),
        _ => Ok(()),
    }
}

fn is_among(answer: &Answer, told: &KeyAnswer) -> Result<bool, String> {
    Ok(matches!(answer, Answer::Many(answers) if answers.contains(told)))
}
