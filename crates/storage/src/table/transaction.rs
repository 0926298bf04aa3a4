//! Transactions: conditions, then one of two lists of ops, wholly or not at all.
//!
//! Ops write to the engine as they go, so later ones see earlier ones; an error takes all of it back.

use bytes::Bytes;
use kv::{Answer, Condition, Op};

use super::Stop;
use super::read::Room;
use super::update::holds;
use super::write::Writer;
use crate::engine::EngineError;
use crate::keys::{Part, RowSet};

impl Writer<'_> {
    pub fn transaction(
        &mut self,
        conditions: &[Condition],
        then: &[Op],
        otherwise: &[Op],
    ) -> Result<Answer, Stop> {
        assert!(self.undo.is_none(), "a transaction is not within another");
        let (floor, changes) = (self.state.floor, self.changes.len());
        self.undo = Some(Vec::new());
        let result = self.branch(conditions, then, otherwise);
        let undo = self.undo.take().unwrap_or_default();
        if result.is_err() {
            undo.into_iter().rev().for_each(|(row, before)| self.take_back(row, before));
            self.state.floor = floor;
            self.changes.truncate(changes);
        }
        result
    }

    fn take_back(&mut self, row: Bytes, before: Option<Bytes>) {
        let in_index = Part::of(&RowSet::suffix(&row)) == Some(Part::Expiry);
        match before {
            Some(value) => {
                if in_index {
                    self.deadlines.put(&row);
                }
                // Copied: a row must not hold on to the block it was read from.
                self.fresh.put(row, Bytes::copy_from_slice(&value));
            }
            None => {
                if in_index {
                    self.deadlines.removed(&row);
                }
                self.fresh.remove(row);
            }
        }
    }

    fn branch(&mut self, conditions: &[Condition], then: &[Op], otherwise: &[Op]) -> Result<Answer, Stop> {
        let succeeded = self.all_hold(conditions)?;
        let mut room = Room::new("the answer to the transaction (read fewer rows in it)");
        let mut answers = Vec::new();
        for op in if succeeded { then } else { otherwise } {
            let answer = self.evaluate(op)?;
            room.take(answer.bytes())?;
            answers.push(answer);
        }
        Ok(Answer::Transaction { succeeded, answers })
    }

    fn all_hold(&mut self, conditions: &[Condition]) -> Result<bool, EngineError> {
        for condition in conditions {
            let found = self.current(&condition.key)?;
            if !holds(&condition.expect, found.as_ref()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
