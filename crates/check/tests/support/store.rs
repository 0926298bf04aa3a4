//! A store written plainly and apart from the models, so that the two can be held against each other.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::{Answer, Error, Expect, Function, Key, KeyAnswer, Op, Page, ReplicaId, Row, Side, Value, Version};

/// One copy of the data, one op after the other.
#[derive(Clone, Default)]
pub struct Store {
    rows: BTreeMap<Key, Row>,
    clock: u64,
}

impl Store {
    /// Runs an op; one that is refused changes nothing.
    pub fn apply(&mut self, op: &Op) -> Result<Answer, Error> {
        self.clock += 1;
        let before = self.clone();
        let result = self.run(op);
        if result.is_err() {
            *self = before;
        }
        result
    }

    fn run(&mut self, op: &Op) -> Result<Answer, Error> {
        Ok(match op {
            Op::Get { key, .. } => Answer::Row(self.rows.get(key).cloned()),
            Op::GetAll { keys, .. } => {
                let row = |key: &Key| KeyAnswer { key: key.clone(), result: Ok(self.rows.get(key).cloned()) };
                Answer::Many(keys.iter().map(row).collect())
            }
            Op::Put { key, value, previous, .. } => {
                let before = self.put(key, value.clone());
                Answer::Put { previous: before.filter(|_| *previous) }
            }
            Op::PutAll { rows } => {
                let mut answers = Vec::new();
                for (key, value) in rows {
                    self.put(key, value.clone());
                    let stored = Row { value: Bytes::new(), ..self.rows[key].clone() };
                    answers.push(KeyAnswer { key: key.clone(), result: Ok(Some(stored)) });
                }
                Answer::Many(answers)
            }
            Op::Delete { key, previous } => {
                let before = self.rows.remove(key);
                let count = u64::from(before.is_some());
                Answer::Deleted { count, previous: before.filter(|_| *previous), next: None }
            }
            Op::Range(range) => {
                let rows: Vec<Row> =
                    self.rows.range(range.from.clone()..).map(|(_, row)| row.clone()).collect();
                let count = rows.len() as u64;
                Answer::Page(Page { rows, next: None, count })
            }
            Op::Update { key, function } => self.update(key, function)?,
            Op::Transaction { conditions, then, otherwise } => {
                let succeeded =
                    conditions.iter().all(|condition| self.holds(&condition.key, &condition.expect));
                let ops = if succeeded { then } else { otherwise };
                let answers = ops.iter().map(|op| self.run(op)).collect::<Result<_, _>>()?;
                Answer::Transaction { succeeded, answers }
            }
            other => panic!("the store of the tests knows no {other:?}"),
        })
    }

    fn update(&mut self, key: &Key, function: &Function) -> Result<Answer, Error> {
        let found: Option<Value> = self.rows.get(key).map(|row| row.value.clone());
        Ok(match function {
            Function::Append { side, value } => {
                let found = found.unwrap_or_default();
                let parts = if *side == Side::Left { [value, &found] } else { [&found, value] };
                let joined = parts.map(|part| part.to_vec()).concat();
                let length = joined.len() as u64;
                self.put(key, joined.into());
                Answer::Length(length)
            }
            Function::Pop { side, count } => {
                let Some(found) = found else { return Ok(Answer::Popped(None)) };
                let chars: Vec<char> = std::str::from_utf8(&found).expect("texts only").chars().collect();
                let count = chars.len().min(*count as usize);
                let at = if *side == Side::Left { count } else { chars.len() - count };
                let text = |chars: &[char]| Bytes::from(chars.iter().collect::<String>());
                let (left, right) = (text(&chars[..at]), text(&chars[at..]));
                let (popped, rest) = if *side == Side::Left { (left, right) } else { (right, left) };
                self.put(key, rest);
                Answer::Popped(Some(popped))
            }
            Function::Increment { by } => {
                let found = found.map_or(Ok(0), |found| String::from_utf8_lossy(&found).parse::<i64>());
                let number = found.map_err(|_| Error::Conflict("the value is no number".into()))? + by;
                self.put(key, number.to_string().into());
                Answer::Number(number)
            }
            Function::Insert { value, .. } => self.store_if(key, &Expect::Absent, value),
            Function::CompareAndPut { expect, value, .. } => self.store_if(key, expect, value),
        })
    }

    fn store_if(&mut self, key: &Key, expect: &Expect, value: &Value) -> Answer {
        if self.holds(key, expect) {
            self.put(key, value.clone());
            return Answer::Condition { met: true, current: None };
        }
        Answer::Condition { met: false, current: self.rows.get(key).cloned() }
    }

    fn holds(&self, key: &Key, expect: &Expect) -> bool {
        let found = self.rows.get(key);
        match expect {
            Expect::Absent => found.is_none(),
            Expect::Present => found.is_some(),
            Expect::Value(value) => found.is_some_and(|row| row.value == value),
            Expect::Version(version) => found.is_some_and(|row| row.version == *version),
        }
    }

    fn put(&mut self, key: &Key, value: Value) -> Option<Row> {
        let version = Version::new(self.clock, ReplicaId(1));
        let (created, changes) = self.rows.get(key).map_or((version, 0), |row| (row.created, row.changes));
        let row = Row { key: key.clone(), value, version, created, changes: changes + 1, deadline: None };
        self.rows.insert(key.clone(), row)
    }
}
