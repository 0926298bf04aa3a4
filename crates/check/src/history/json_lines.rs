//! Histories as JSON lines: one event per line, in the order in which they were seen.
//!
//! ```text
//! {"process":1,"type":"invoke","f":"put","key":"a","value":"1","time":10}
//! {"process":2,"type":"invoke","f":"get","key":"a","time":12}
//! {"process":1,"type":"ok","f":"put","time":15}
//! {"process":2,"type":"ok","f":"get","value":"1","time":17}
//! ```
//!
//! | field | meaning |
//! |---|---|
//! | `process` | who: a whole number of 0 or more, with one op under way at a time |
//! | `type` | `invoke`: asks; `ok`: it happened; `fail`: it did not and never will; `info`: unknown |
//! | `f` | what; may be left out of completions |
//! | `time` | microseconds since the start of the recording; may be left out |
//! | `clock` | of an `ok`: `[from, to]`, what the store's clock showed when it ran, in microseconds since 1970; may be left out, and then what has a deadline may vanish at any time |
//!
//! Texts (`key`, `value`, `previous`, `current`, `expect`, `from`, `to`, `next`, `page`) are strings, in whatever escapes. What
//! is not UTF-8 stands in `key_base64`, `value_base64` and so on instead. A number may stand for a text: numbers are equal as
//! numbers (`1` and `1.0`), exactly and at any size, and `1` is not `"1"`; but in a history with functions of texts (`append`,
//! `append-left`, `pop-left`, `pop-right`, `increment`), which see digits only, a number is the text of its digits. The other
//! fields by `f`, of the invocation and of the `ok`; where an answer is left out it is not judged, only that the op happened:
//!
//! | `f` | asks | answers |
//! |---|---|---|
//! | `get` or `read` | `key` (empty when left out, as in all that follow) | `value`: text, or null = not found |
//! | `put` or `write` | `key`, `value`; `deadline`, `previous: true` | `previous`: text or null, when asked for |
//! | `delete` | `key`; `previous: true` | `count`; `previous` |
//! | `append`, `append-left` | `key`, `value` | `length` in bytes |
//! | `pop-left`, `pop-right` | `key`; `count` (1) | `value`: text, or null = not found |
//! | `increment` | `key`; `by` (1) | `number` |
//! | `insert` | `key`, `value`; `deadline` | `met`: true or false; `current`: what was found instead |
//! | `compare-and-put` or `cas` | `key`, `value`, and `expect`: text, `expect_absent: true`, `expect_present: true` or `expect_version`; or `value: [expected, new]` | as `insert` |
//! | `get-all` | `rows`: list of `{key}` | `rows`: list of `{key, value}` or `{key, error}` |
//! | `put-all` | `rows`: list of `{key, value}` | `rows` as above, when some failed; `error` is `failed` or `unknown` |
//! | `transaction` | `conditions`: list of `{key, expect..}`; `then`, `otherwise`: lists of ops | `succeeded`; `answers`: list of answers |
//! | `range`, `delete-range` | `from`, `to`; of a range also `limit`, `page`, `backward`, `keys_only`, `count_only`, `at` | `rows`, `next`, `count` |
//! | `expire` | `key`, `deadline` | `found` |
//! | `trim`, `trim-range`, `history`, `advance` | `key`, `below`; `from`, `to`, `below`; `key`, `limit`, `before`; `at` | nothing that is judged |
//!
//! Events without an invocation before them are errors, except `info`; so is an invocation of a process that has an op
//! under way. Empty lines are skipped, and so is the `info` of a process with a name, such as `nemesis`, but for its `shards`: keys
//! were dealt to so many shards, and an op over several keys was atomic in each. Other fields are ignored.

use std::collections::HashMap;
use std::io::{self, Write};

use serde_json::{Map, Value as Json, json};

use super::{Clock, History, Operation, OperationId, Outcome, Unreadable, words};

/// Writes a history, one event per line.
pub fn write(history: &History, to: &mut dyn Write) -> io::Result<()> {
    let mut events: Vec<(usize, &Operation, bool)> = Vec::with_capacity(history.events());
    for operation in history.operations() {
        events.push((operation.called.index, operation, true));
        events.extend(operation.returned.map(|returned| (returned.index, operation, false)));
    }
    events.sort_by_key(|(index, ..)| *index);
    if let Some(shards) = history.shards() {
        serde_json::to_writer(&mut *to, &json!({"process": "keyspace", "type": "info", "shards": shards}))?;
        to.write_all(b"\n")?;
    }
    for (_, operation, invokes) in events {
        let line = if invokes { invocation(operation) } else { completion(operation) };
        serde_json::to_writer(&mut *to, &Json::Object(line))?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads a history.
pub fn read(from: &[u8]) -> Result<History, Unreadable> {
    let mut reader = Reader { numbers_are_texts: lines(from).any(has_text_function), ..Reader::default() };
    for (index, line) in lines(from).enumerate() {
        let line = std::str::from_utf8(line).map_err(|error| format!("this is no text in UTF-8: {error}"));
        line.and_then(|line| reader.line(line)).map_err(|why| Unreadable { line: index + 1, why })?;
    }
    Ok(reader.history)
}

/// The value that stands in a file like this; `None` when none does.
pub fn value(written: &str) -> Option<kv::Value> {
    words::scalar("value", &serde_json::from_str(written).ok()?).ok()
}

fn lines(from: &[u8]) -> impl Iterator<Item = &[u8]> {
    from.split_inclusive(|byte| *byte == b'\n')
}

#[derive(Default)]
struct Reader {
    history: History,
    pending: HashMap<u64, OperationId>,
    numbers_are_texts: bool,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.trim().is_empty() {
            return Ok(());
        }
        let mut event: Map<String, Json> = serde_json::from_str(line).map_err(|error| no_object(&error))?;
        if self.numbers_are_texts {
            event.iter_mut().for_each(|(field, json)| numbers_to_texts(field, json));
        }
        if is_of_no_client(&event) {
            return self.keyspace(&event);
        }
        let process = words::unsigned(&event, "process")?.ok_or("the event lacks its 'process'")?;
        let micros = words::unsigned(&event, "time")?;
        match event.get("type").and_then(Json::as_str) {
            Some("invoke") => self.invoke(process, &event, micros),
            Some("ok") => self.complete(process, &event, micros, Kind::Ok),
            Some("fail") => self.complete(process, &event, micros, Kind::Fail),
            Some("info") => self.complete(process, &event, micros, Kind::Info),
            Some(other) => Err(format!("'{other}' is no type: use invoke, ok, fail or info")),
            None => Err("the event lacks its 'type': invoke, ok, fail or info".into()),
        }
    }

    fn keyspace(&mut self, event: &Map<String, Json>) -> Result<(), String> {
        if let Some(shards) = words::unsigned(event, "shards")? {
            let is_one = |count: &u32| (1..=u32::from(kv::SLOTS)).contains(count);
            let count = u32::try_from(shards).ok().filter(is_one);
            self.history
                .set_shards(count.ok_or_else(|| format!("'shards' is {shards}: use 1 to {}", kv::SLOTS))?);
        }
        Ok(())
    }

    fn invoke(&mut self, process: u64, event: &Map<String, Json>, micros: Option<u64>) -> Result<(), String> {
        if self.pending.contains_key(&process) {
            return Err(format!("process {process} asks again before its last op has an outcome"));
        }
        let op = words::read_op(event)?;
        self.pending.insert(process, self.history.invoke(process, op, micros));
        Ok(())
    }

    fn complete(
        &mut self,
        process: u64,
        event: &Map<String, Json>,
        micros: Option<u64>,
        kind: Kind,
    ) -> Result<(), String> {
        let Some(id) = self.pending.remove(&process) else {
            return if kind == Kind::Info {
                Ok(())
            } else {
                Err(format!("process {process} has an outcome but asked nothing"))
            };
        };
        let op = &self.history.operations()[id.0].op;
        if let Some(f) = event.get("f").and_then(Json::as_str) {
            words::check_same(op, f)?;
        }
        let outcome = match kind {
            Kind::Ok => Outcome::Done(words::read_answer(op, event)?),
            Kind::Fail => Outcome::Failed,
            Kind::Info => Outcome::Unknown,
        };
        if kind == Kind::Ok {
            self.history.set_clock(id, clock(event)?);
        }
        self.history.complete(id, outcome, micros);
        Ok(())
    }
}

/// Fields that hold a text.
const TEXTS: &[&str] = &["key", "value", "previous", "current", "expect", "from", "to", "next", "page"];
/// Functions that know texts only.
const TEXT_FUNCTIONS: &[&str] =
    &["append", "append-left", "append-right", "pop-left", "pop-right", "increment"];

/// Numbers where texts are, as their digits. One that has none is refused when it is read.
fn numbers_to_texts(field: &str, json: &mut Json) {
    match json {
        Json::Number(number) if TEXTS.contains(&field) => {
            if let Some(digits) = super::value::decimal(&number.to_string()) {
                *json = Json::String(digits);
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| numbers_to_texts(field, item)),
        Json::Object(fields) => fields.iter_mut().for_each(|(field, json)| numbers_to_texts(field, json)),
        _ => {}
    }
}

fn has_text_function(line: &[u8]) -> bool {
    let Ok(line) = std::str::from_utf8(line) else { return false };
    // Few lines are parsed twice.
    TEXT_FUNCTIONS.iter().any(|f| line.contains(f))
        && serde_json::from_str(line).is_ok_and(|event| asks_text_function("", &event))
}

fn asks_text_function(field: &str, json: &Json) -> bool {
    match json {
        Json::String(text) => field == "f" && TEXT_FUNCTIONS.contains(&text.as_str()),
        Json::Array(items) => items.iter().any(|item| asks_text_function(field, item)),
        Json::Object(fields) => fields.iter().any(|(field, json)| asks_text_function(field, json)),
        _ => false,
    }
}

fn clock(event: &Map<String, Json>) -> Result<Clock, String> {
    let Some(clock) = event.get("clock") else { return Ok(Clock::default()) };
    let times: Option<Vec<u64>> = clock.as_array().and_then(|times| times.iter().map(Json::as_u64).collect());
    match times.as_deref() {
        Some([from, to]) if from <= to => Ok(Clock { from: *from, to: *to }),
        _ => Err(format!("'clock' is {clock}: use [from, to], two times in microseconds since 1970")),
    }
}

/// The lines of the file are counted here, not by `serde_json`.
fn no_object(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let why = text.split(" at line ").next().expect("a split has a first part");
    format!("no event as a JSON object: {why}, column {}", error.column())
}

/// Whether it only tells something of a process that has a name, as `nemesis` has.
fn is_of_no_client(event: &Map<String, Json>) -> bool {
    let of = event.get("process").and_then(Json::as_str);
    let is_info = event.get("type").and_then(Json::as_str) == Some("info");
    is_info && of.is_some_and(|name| name.parse::<u64>().is_err())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ok,
    Fail,
    Info,
}

fn invocation(operation: &Operation) -> Map<String, Json> {
    let mut line = words::write_op(&operation.op);
    line.insert("process".into(), json!(operation.process));
    line.insert("type".into(), json!("invoke"));
    line.extend(operation.called.micros.map(|micros| ("time".into(), json!(micros))));
    line
}

fn completion(operation: &Operation) -> Map<String, Json> {
    let (kind, mut line) = match &operation.outcome {
        Outcome::Done(Some(answer)) => ("ok", words::write_answer(answer)),
        Outcome::Done(None) => ("ok", Map::new()),
        Outcome::Failed => ("fail", Map::new()),
        Outcome::Unknown => ("info", Map::new()),
    };
    line.insert("process".into(), json!(operation.process));
    line.insert("type".into(), json!(kind));
    line.insert("f".into(), json!(words::name(&operation.op)));
    if matches!(operation.outcome, Outcome::Done(_)) && operation.clock != Clock::default() {
        line.insert("clock".into(), json!([operation.clock.from, operation.clock.to]));
    }
    let micros = operation.returned.and_then(|moment| moment.micros);
    line.extend(micros.map(|micros| ("time".into(), json!(micros))));
    line
}
