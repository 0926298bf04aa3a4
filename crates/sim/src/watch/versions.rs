//! A read at a version is repeatable: the same row each time, or refused as trimmed (the guarantee of `storage`). A value
//! that was put at a version is what a read at it finds.

use std::collections::BTreeMap;

use kv::{Answer, Error, Key, Op, Reply, Value, Version};

use super::Told;
use crate::random::Random;

/// So many keys and versions are remembered to be read again.
const REMEMBERED_MAX: usize = 4096;

/// What was read and put at which version.
#[derive(Default)]
pub(crate) struct Versions {
    told: Vec<(Key, Version)>,
    found: BTreeMap<(Key, Version), Option<(Value, Version)>>,
    put: BTreeMap<(Key, Version), Value>,
}

impl Versions {
    /// A client got an answer: its version can be read at.
    pub fn told(&mut self, told: &Told<'_>) {
        let version = told.reply.receipt.version;
        let key = match told.op {
            Op::Get { key, at: None } | Op::Update { key, .. } | Op::Delete { key, .. } => key,
            Op::Put { key, value, deadline, .. } => {
                // One whose deadline had passed is not there.
                let passed = deadline.is_some_and(|deadline| deadline <= version.micros());
                if !passed {
                    self.put.insert((key.clone(), version), value.clone());
                }
                key
            }
            _ => return,
        };
        if self.told.len() < REMEMBERED_MAX {
            self.told.push((key.clone(), version));
        }
    }

    /// A key and a version to read at: mostly a late one.
    pub fn draw(&self, random: &mut Random) -> Option<(Key, Version)> {
        let count = self.told.len() as u64;
        let recent = count.min(if random.percent(80) { 20 } else { count });
        (count > 0).then(|| self.told[(count - 1 - random.below(recent)) as usize].clone())
    }

    /// A read at a version was answered: what is wrong with it.
    pub fn read(&mut self, op: &Op, result: &Result<Reply, Error>) -> Option<String> {
        let (Op::Get { key, at: Some(at) }, Ok(reply)) = (op, result) else { return None };
        let Answer::Row(row) = &reply.answer else { return None };
        let place = (key.clone(), *at);
        let now = row.as_ref().map(|row| (row.value.clone(), row.version));
        let put = self.put.get(&place);
        if put.is_some() && put != now.as_ref().map(|(value, _)| value) {
            return Some(format!(
                "reads at a version: {key:?} at {at} is {now:?}, and {put:?} was put there"
            ));
        }
        if now.as_ref().is_some_and(|(_, version)| version > at) {
            return Some(format!("reads at a version: {key:?} at {at} is {now:?}, which is later"));
        }
        let first = self.found.entry(place).or_insert_with(|| now.clone());
        (*first != now).then(|| {
            format!("reads at a version are repeatable: {key:?} at {at} was {first:?} and is {now:?}")
        })
    }
}
