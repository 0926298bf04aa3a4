//! What the events of Jepsen mean, as ops and answers.

use bytes::Bytes;
use kv::{Answer, Expect, Function, Key, Op, Side};

use super::{Event, FailedCas, Kind, Nil, Reading, cut};
use crate::history::edn::Form;
use crate::history::{Outcome, row, value};

/// The key of a register that has no name.
const REGISTER: &[u8] = b"";

/// Translates events, knowing the whole history.
pub(super) struct Translator {
    reading: Reading,
    /// Every client op names its key in a pair.
    pairs: bool,
}

/// An op and its answer, as far as one event tells.
type Meaning = (Op, Option<Answer>);

impl Translator {
    pub(super) fn new(clients: &[&Event], reading: Reading) -> Translator {
        Translator { reading, pairs: all_pairs(clients) }
    }

    /// What an invocation asks.
    pub(super) fn op(&self, event: &Event) -> Result<Op, String> {
        self.meaning(event, event).map(|(op, _)| op)
    }

    /// What a completed op asked (a transaction without the reads that told nothing), and its outcome.
    pub(super) fn done(&self, asked: &Event, done: &Event) -> Result<(Op, Outcome), String> {
        if ["write", "put", "w", "cas", "append"].contains(&asked.f.as_str()) {
            self.check_repeated(asked, done)?;
        }
        if asked.f == "txn" {
            check_same_steps(&asked.value, &done.value)?;
        }
        let (op, answer) = self.meaning(asked, done)?;
        Ok((op, Outcome::Done(answer)))
    }

    /// The outcome of an op that failed.
    pub(super) fn failed(&self, asked: &Event) -> Outcome {
        if asked.f == "cas" && self.reading.failed_cas == FailedCas::Compared {
            return Outcome::Done(Some(Answer::Condition { met: false, current: None }));
        }
        Outcome::Failed
    }

    fn meaning(&self, asked: &Event, told: &Event) -> Result<Meaning, String> {
        if asked.f == "txn" {
            // The completion repeats the transaction with its reads filled in.
            let value = if told.value == Form::Nil { &asked.value } else { &told.value };
            return self.transaction(value, told.kind == Kind::Ok);
        }
        let (key, argument) = self.key_and_value(asked, &asked.value)?;
        match asked.f.as_str() {
            "read" | "get" | "r" => {
                let (_, read) = self.key_and_value(told, &told.value)?;
                // Some recorders fill the value in when they know it, and only in the invocation.
                let read = if *read == Form::Nil { argument } else { read };
                let answer = self.read_answer(&key, read);
                Ok((Op::Get { key, at: None }, answer))
            }
            "write" | "put" | "w" => Ok((put(key, text(argument)), Some(Answer::Put { previous: None }))),
            "cas" => {
                let Some([expect, new]) = argument.list() else {
                    return Err(format!(
                        "the value of :cas is {}, but must be [expected new]",
                        cut(argument)
                    ));
                };
                let expect = if *expect == Form::Nil { Expect::Absent } else { Expect::Value(text(expect)) };
                let function = Function::CompareAndPut { expect, value: text(new), deadline: None };
                Ok((Op::Update { key, function }, Some(Answer::Condition { met: true, current: None })))
            }
            "append" => Ok((append(key, plain(argument)), None)),
            "acquire" => {
                let function = Function::Insert { value: Bytes::from_static(b"held"), deadline: None };
                Ok((Op::Update { key, function }, Some(Answer::Condition { met: true, current: None })))
            }
            "release" => {
                let answer = Answer::Deleted { count: 1, previous: None, next: None };
                Ok((Op::Delete { key, previous: false }, Some(answer)))
            }
            other => Err(format!(
                "':{other}' is no function known here: use :read, :write, :cas, :get, :put, :append, :txn, :acquire or \
                 :release"
            )),
        }
    }

    /// Outcomes of writes repeat what was asked, if they tell a value at all. Where one tells another list (as registers with
    /// versions do), the history means something that is not known here.
    fn check_repeated(&self, asked: &Event, done: &Event) -> Result<(), String> {
        let (_, argument) = self.key_and_value(asked, &asked.value)?;
        let (_, repeated) = self.key_and_value(done, &done.value)?;
        if repeated.list().is_none() || text(repeated.untagged()) == text(argument.untagged()) {
            return Ok(());
        }
        let (f, argument, repeated) = (&asked.f, cut(argument), cut(repeated));
        Err(format!("the outcome is of :{f} {repeated}, but what was asked is :{f} {argument}"))
    }

    fn read_answer(&self, key: &Key, read: &Form) -> Option<Answer> {
        match (read, self.reading.nil) {
            (Form::Nil, Nil::Wildcard) => None,
            (Form::Nil, Nil::Value) => Some(Answer::Row(None)),
            (value, _) => Some(Answer::Row(Some(row(key, text(value))))),
        }
    }

    fn key_and_value<'e>(&self, event: &'e Event, value: &'e Form) -> Result<(Key, &'e Form), String> {
        if let Some(key) = &event.key {
            return Ok((text(key), value));
        }
        let tagged = matches!(value, Form::Tagged(tag, _) if tag.to_lowercase().ends_with("tuple"));
        if !self.pairs && !tagged {
            return Ok((Bytes::from_static(REGISTER), value));
        }
        match value.list() {
            Some([key, value]) => Ok((text(key), value)),
            // A completion may leave the pair out.
            _ if event.kind != Kind::Invoke => Ok((Bytes::new(), value)),
            _ => Err(format!("the value is {}, but must be [key value] as in the other lines", cut(value))),
        }
    }

    fn transaction(&self, value: &Form, done: bool) -> Result<Meaning, String> {
        let steps =
            value.list().ok_or_else(|| format!("the value of :txn is {}, but must be a list", cut(value)))?;
        let mut then = Vec::with_capacity(steps.len());
        let mut answers = Vec::with_capacity(steps.len());
        for step in steps {
            let Some([Form::Keyword(f), key, value]) = step.list() else {
                return Err(format!("{} is no step of a transaction: it is [:r key value]", cut(step)));
            };
            let key = text(key);
            match f.as_str() {
                "r" | "read" => {
                    let answer = self.read_answer(&key, value);
                    // A read that tells nothing constrains nothing.
                    if answer.is_some() || !done {
                        then.push(Op::Get { key, at: None });
                        answers.extend(answer);
                    }
                }
                "w" | "write" => {
                    then.push(put(key, text(value)));
                    answers.push(Answer::Put { previous: None });
                }
                "append" => {
                    then.push(append(key, element(value)));
                    // The length is not told. A transaction's answers are all or nothing, so it answers like a put.
                    answers.push(Answer::Put { previous: None });
                }
                other => {
                    return Err(format!("':{other}' is no step of a transaction: use :r, :w or :append"));
                }
            }
        }
        let answer = done.then_some(Answer::Transaction { succeeded: true, answers });
        Ok((Op::Transaction { conditions: Vec::new(), then, otherwise: Vec::new() }, answer))
    }
}

/// Whether all register ops are pairs `[key value]`: then they come from `jepsen.independent`.
fn all_pairs(clients: &[&Event]) -> bool {
    let mut invocations = clients
        .iter()
        .filter(|event| event.kind == Kind::Invoke && event.key.is_none() && event.f != "txn")
        .peekable();
    invocations.peek().is_some()
        && invocations.all(|event| match (event.f.as_str(), event.value.list()) {
            ("cas", Some([_, pair])) => pair.list().is_some_and(|pair| pair.len() == 2),
            (_, Some([_, _])) => true,
            _ => false,
        })
}

fn put(key: Key, value: Bytes) -> Op {
    Op::Put { key, value, deadline: None, previous: false }
}

fn append(key: Key, value: Bytes) -> Op {
    Op::Update { key, function: Function::Append { side: Side::Right, value } }
}

/// A key or value. A list is what appends of its elements leave.
pub(super) fn text(form: &Form) -> Bytes {
    match (form, form.list()) {
        (Form::Text(text), _) => text.clone().into(),
        (_, Some(items)) => items.iter().flat_map(element).collect(),
        _ => value::marked(&form.to_string()),
    }
}

/// What is added to a text: a text too.
fn plain(form: &Form) -> Bytes {
    match form {
        Form::Text(text) => text.clone().into(),
        form => form.to_string().into(),
    }
}

/// The outcome of a transaction repeats its steps; only what its reads tell is new.
fn check_same_steps(asked: &Form, done: &Form) -> Result<(), String> {
    let (Some(asked_steps), Some(done_steps)) = (asked.list(), done.list()) else { return Ok(()) };
    let asks = |step: &Form| match step.list() {
        Some([f @ Form::Keyword(name), key, _]) if ["r", "read"].contains(&name.as_str()) => {
            format!("{f} {key}")
        }
        _ => step.untagged().to_string(),
    };
    if asked_steps.iter().map(asks).eq(done_steps.iter().map(asks)) {
        return Ok(());
    }
    Err(format!("the outcome is of :txn {}, but what was asked is :txn {}", cut(done), cut(asked)))
}

fn element(form: &Form) -> Bytes {
    value::element(&form.to_string())
}
