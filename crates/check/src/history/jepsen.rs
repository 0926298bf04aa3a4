//! Histories as Jepsen and its kin write them: EDN op maps, and lines of its text log.
//!
//! ```text
//! {:process 0, :type :invoke, :f :cas, :value [1 2], :time 1000, :index 4}
//! INFO  jepsen.util - 0    :invoke    :cas    [1 2]
//! ```
//!
//! Op maps stand one after the other or in one vector or list, with any tags. `:type` is `:invoke`, `:ok`, `:fail` or
//! `:info`; `:time` is in nanoseconds; the order in the file is the order of events. Of a log, the lines with a process, a
//! type and a function are read, whatever stands before them; the others are skipped, and so are lines with nothing before
//! the process where other lines have something, and what stands after the value of an outcome. Processes that are not numbers
//! (`:nemesis`) are skipped; since only their `:info` is, no client is overlooked.
//!
//! | `:f` | `:value` | becomes |
//! |---|---|---|
//! | `:read`, `:get`, `:r` | what was read | get |
//! | `:write`, `:put`, `:w` | what to write | put |
//! | `:cas` | `[expected new]` | compare-and-put |
//! | `:append` | text to append | append |
//! | `:acquire`, `:release` | - | a mutex: insert and delete of one key |
//! | `:txn` | `[[:r k v] [:w k v] ..]`, or `:read`, `:write`, `:append` | transaction; an appended element is its text and a comma |
//!
//! An outcome repeats what was asked, or tells nothing of it; where it tells another list or other steps, the file is refused: it
//! means something that is not known here, such as a register with versions.
//!
//! The key is `:key`, or comes from a pair `[key value]` as `jepsen.independent` writes it (where every client op has one,
//! or with a tag that ends in `tuple`), or is the one key of a register.
//!
//! Values and keys are equal as EDN has it ([`edn`]): `5` is neither `"5"` nor `5.0`, `:a` is not `"a"`. What is added to a text
//! by `:append` is the text as it is written. An empty list and an empty text are one: what appends begin with.
//!
//! Two things are read differently by different tools; [`Reading`] chooses.

mod event;
mod log;

use std::collections::HashMap;

use super::{History, OperationId, Outcome, Unreadable, edn};
use edn::Form;
use event::Translator;

/// How to read what the formats leave open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What a read of `nil` tells.
    pub nil: Nil,
    /// What the `:fail` of a `:cas` tells.
    pub failed_cas: FailedCas,
}

/// What a read of `nil` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nil {
    /// Nothing: the value was not recorded (Knossos).
    Wildcard,
    /// That there was no value (Porcupine).
    Value,
}

/// What the `:fail` of a `:cas` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedCas {
    /// It did not happen; why is not told (Knossos).
    Dropped,
    /// It found another value than it expected (Porcupine, Horn and Kroening).
    Compared,
}

/// A history and what of the file was not one.
#[derive(Clone, Debug)]
pub struct Read {
    /// The history.
    pub history: History,
    /// Events in the file, those of other processes than clients too.
    pub events: usize,
    /// Lines of a log that hold no event.
    pub skipped: usize,
}

/// Reads EDN op maps.
pub fn read_edn(text: &str, reading: Reading) -> Result<Read, Unreadable> {
    let forms = edn::read(text)?;
    let mut events = Vec::new();
    for form in &forms {
        match form.list() {
            Some(items) => items.iter().try_for_each(|item| collect(item, &mut events))?,
            None => collect(form, &mut events)?,
        }
    }
    Ok(Read { history: translate(&events, reading)?, events: events.len(), skipped: 0 })
}

/// Reads lines of the text log.
pub fn read_log(text: &str, reading: Reading) -> Result<Read, Unreadable> {
    let prefixed = text.lines().any(log::is_prefixed);
    let mut events = Vec::new();
    let mut skipped = 0;
    for (index, line) in text.lines().enumerate() {
        // A log with prefixes may end with an analysis, which repeats events without them.
        let repeats = prefixed && !log::is_prefixed(line);
        let event = if repeats { Ok(None) } else { log::event(line, index + 1) };
        match event.map_err(|why| Unreadable { line: index + 1, why })? {
            Some(event) => events.push(event),
            None => skipped += usize::from(!line.trim().is_empty()),
        }
    }
    Ok(Read { history: translate(&events, reading)?, events: events.len(), skipped })
}

/// The value that stands in a file like this; `None` when none does.
pub fn value(written: &str) -> Option<kv::Value> {
    match &edn::read(written).ok()?[..] {
        [form] => Some(event::text(form)),
        _ => None,
    }
}

/// One event, in whichever notation it was.
struct Event {
    line: usize,
    process: Form,
    kind: Kind,
    f: String,
    key: Option<Form>,
    value: Form,
    micros: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

impl Kind {
    fn named(name: &str) -> Result<Kind, String> {
        match name {
            "invoke" => Ok(Kind::Invoke),
            "ok" => Ok(Kind::Ok),
            "fail" => Ok(Kind::Fail),
            "info" => Ok(Kind::Info),
            _ => Err(format!("':{name}' is no type: use :invoke, :ok, :fail or :info")),
        }
    }
}

fn collect(form: &Form, events: &mut Vec<Event>) -> Result<(), Unreadable> {
    let Form::Map(_, line) = form.untagged() else {
        let line = events.last().map_or(1, |event: &Event| event.line);
        return Err(Unreadable {
            line,
            why: format!("'{}' is no op map, here or in the lines after", cut(form)),
        });
    };
    let event = event_of_map(form, *line).map_err(|why| Unreadable { line: *line, why })?;
    events.push(event);
    Ok(())
}

fn event_of_map(map: &Form, line: usize) -> Result<Event, String> {
    let process = map.get("process").ok_or("the op lacks its :process")?.clone();
    let kind = Kind::named(&name(map, "type")?.ok_or("the op lacks its :type")?)?;
    if !is_client(&process) && kind != Kind::Info {
        let process = cut(&process);
        return Err(format!(
            "the process {process} is no whole number of 0 or more: of such only :info is read"
        ));
    }
    let f = match name(map, "f") {
        Ok(Some(name)) => name,
        _ if !is_client(&process) => String::new(),
        Ok(None) => return Err("the op lacks its :f".into()),
        Err(why) => return Err(why),
    };
    let nanos = map.get("time").and_then(|time| time.to_string().parse::<u64>().ok());
    Ok(Event {
        line,
        process,
        kind,
        f,
        key: map.get("key").filter(|key| **key != Form::Nil).cloned(),
        value: map.get("value").cloned().unwrap_or(Form::Nil),
        micros: nanos.map(|nanos| nanos / 1000),
    })
}

/// A keyword of an op, or its text: other languages write it so.
fn name(op: &Form, field: &str) -> Result<Option<String>, String> {
    match op.get(field) {
        Some(Form::Keyword(name) | Form::Text(name)) => Ok(Some(name.clone())),
        Some(Form::Nil) | None => Ok(None),
        Some(other) => Err(format!("the op's :{field} is {}, but must be a keyword", cut(other))),
    }
}

fn is_client(process: &Form) -> bool {
    matches!(process, Form::Number(number) if number.parse::<u64>().is_ok())
}

fn translate(events: &[Event], reading: Reading) -> Result<History, Unreadable> {
    let clients: Vec<&Event> = events.iter().filter(|event| is_client(&event.process)).collect();
    let translator = Translator::new(&clients, reading);
    let mut history = History::new();
    let mut pending: HashMap<u64, (OperationId, &Event)> = HashMap::new();
    for event in clients {
        let step = pair(event, &translator, &mut history, &mut pending);
        step.map_err(|why| Unreadable { line: event.line, why })?;
    }
    Ok(history)
}

fn pair<'e>(
    event: &'e Event,
    translator: &Translator,
    history: &mut History,
    pending: &mut HashMap<u64, (OperationId, &'e Event)>,
) -> Result<(), String> {
    let process: u64 = event.process.to_string().parse().expect("checked to be a number");
    if event.kind == Kind::Invoke {
        if let Some((_, earlier)) = pending.get(&process) {
            let line = earlier.line;
            return Err(format!("process {process} asks again before its op of line {line} has an outcome"));
        }
        let id = history.invoke(process, translator.op(event)?, event.micros);
        pending.insert(process, (id, event));
        return Ok(());
    }
    let Some((id, asked)) = pending.remove(&process) else {
        return match event.kind {
            Kind::Info => Ok(()),
            _ => Err(format!("process {process} has an outcome but asked nothing")),
        };
    };
    if asked.f != event.f {
        let (line, asked) = (asked.line, &asked.f);
        return Err(format!(
            "process {process} asked :{asked} in line {line}, but its outcome is of :{}",
            event.f
        ));
    }
    let outcome = match event.kind {
        Kind::Info => Outcome::Unknown,
        Kind::Fail => translator.failed(asked),
        _ => {
            let (op, outcome) = translator.done(asked, event)?;
            history.operations[id.0].op = op;
            outcome
        }
    };
    history.complete(id, outcome, event.micros);
    Ok(())
}

/// The form, short enough for an error.
fn cut(form: &Form) -> String {
    let text = form.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}
