//! A server of one map, or one that fails always: what tests ask in place of a process.

use std::collections::BTreeMap;
use std::sync::Mutex;

use kv::Error;

use super::servers::{Central, Pair};
use crate::connect::Pending;

/// Answers from a map, or with an error.
#[derive(Default)]
pub struct Fake {
    rows: Mutex<BTreeMap<i32, String>>,
    error: Option<Error>,
}

impl Fake {
    /// One with these rows.
    pub fn of(rows: &[(i32, &str)]) -> Fake {
        let rows = rows.iter().map(|(key, text)| (*key, text.to_string())).collect();
        Fake { rows: Mutex::new(rows), error: None }
    }

    /// One that answers always with this.
    pub fn failing(error: Error) -> Fake {
        Fake { error: Some(error), ..Fake::default() }
    }

    /// One that cannot be reached.
    pub fn away(why: &str) -> Fake {
        Fake::failing(Error::Unavailable(why.into()))
    }

    fn answer<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&mut BTreeMap<i32, String>) -> T,
    ) -> Pending<'_, T> {
        let result = match &self.error {
            Some(error) => Err(error.clone()),
            None => Ok(answer(&mut self.rows.lock().unwrap())),
        };
        Box::pin(std::future::ready(result))
    }
}

impl Pair for Fake {
    fn insert(&self, key: i32, text: String) -> Pending<'_, bool> {
        self.answer(|rows| {
            let is_new = !rows.contains_key(&key);
            rows.entry(key).or_insert(text);
            is_new
        })
    }

    fn consult(&self, key: i32) -> Pending<'_, String> {
        self.answer(|rows| rows.get(&key).cloned().unwrap_or_default())
    }

    fn activate(&self, _: String) -> Pending<'_, i32> {
        self.answer(|rows| rows.len() as i32)
    }

    fn terminate(&self) -> Pending<'_, i32> {
        self.answer(|_| 0)
    }
}

impl Central for Fake {
    fn map(&self, key: i32) -> Pending<'_, String> {
        self.answer(|rows| rows.get(&key).cloned().unwrap_or_default())
    }

    fn terminate(&self) -> Pending<'_, i32> {
        self.answer(|rows| rows.len() as i32)
    }
}
