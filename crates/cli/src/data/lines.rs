//! A store of many rows from lines: what `range` prints is read back to the same keys and values.
//!
//! Rows are stored in steps. Where a line is wrong, the rows before it are stored first, and nothing of it and behind it; what
//! is stored is told with the error. Output that cannot be written stops nothing: the exit code tells how the rows fared.

use std::io::{self, BufRead, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use kv::{Answer, Key, Op, Reply, Value};
use serde::Deserialize;

use super::ask::ask;
use super::op::Asked;
use crate::answer;
use crate::connect::Store;
use crate::escape;
use crate::exit::{Code, Error};
use crate::lines::{Line, Lines, too_long};
use crate::options::Options;
use crate::print::Output;

/// Rows of one step: enough to be quick, few enough for one op.
const STEP_ROWS: usize = 1000;
/// Bytes of keys and values after which a step ends: with one largest key and value more it still is one op.
const STEP_BYTES: usize = 32 << 10;

/// Stores the rows of all lines.
pub async fn put(
    lines: &mut dyn BufRead,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    let mut progress = Progress { stored: 0, next: 1, worst: Code::Done, unwritten: None };
    let result = progress.go_on(&mut Lines::new(lines), store, options, out).await;
    progress.end(result, out)
}

/// What became of the lines so far.
struct Progress {
    /// Rows that are stored.
    stored: u64,
    /// The first line whose row was not handed over, or of those that were when that failed.
    next: u64,
    /// The worst end of a row.
    worst: Code,
    /// Why what happened cannot be printed any more.
    unwritten: Option<io::Error>,
}

impl Progress {
    async fn go_on(
        &mut self,
        lines: &mut Lines<'_>,
        store: &dyn Store,
        options: &Options,
        out: &mut Output<'_>,
    ) -> Result<(), Error> {
        loop {
            let Step { rows, next, end } = step(lines, options.json);
            if !rows.is_empty() {
                self.store(Op::PutAll { rows }, store, options, out).await?;
            }
            self.next = next;
            if let Some(end) = end {
                return end;
            }
        }
    }

    async fn store(
        &mut self,
        op: Op,
        store: &dyn Store,
        options: &Options,
        out: &mut Output<'_>,
    ) -> Result<(), Error> {
        let Reply { answer, receipt } = ask(Asked { op: op.clone(), ttl: None }, store, options, out).await?;
        self.worst = answer::worse(self.worst, answer::code(&op, &answer));
        if let Answer::Many(many) = &answer {
            self.stored += many.iter().filter(|each| each.result.is_ok()).count() as u64;
        }
        // Nothing is printed behind a gap.
        let mut nowhere = io::sink();
        let to: &mut dyn Write = if self.unwritten.is_some() { &mut nowhere } else { out.out };
        let mut out = Output { out: to, err: out.err, ..*out };
        let printed = answer::print(&op, &answer, receipt.version, &mut out);
        match printed.and_then(|()| Ok(out.out.flush()?)) {
            Err(Error::Output(error)) => self.unwritten = Some(error),
            printed => printed?,
        }
        Ok(())
    }

    fn end(self, result: Result<(), Error>, out: &mut Output<'_>) -> Result<Code, Error> {
        let Progress { stored, next, worst: code, unwritten } = self;
        let unwritten = unwritten.map(|error| Error::Untold { code, error });
        let Err(error) = result else { return unwritten.map_or(Ok(code), Err) };
        let mut tell = |text: String| {
            // What this could fail with is told itself.
            let _ = out.note(&text);
        };
        unwritten.iter().for_each(|unwritten| tell(format!("error: {unwritten}")));
        tell(format!("{stored} rows are stored, of the lines before line {next}"));
        if answer::worse(error.code(), code) == error.code() {
            return Err(error);
        }
        tell(format!("error: {error}"));
        Ok(code)
    }
}

/// The rows of some lines.
struct Step {
    rows: Vec<(Key, Value)>,
    /// The line behind those of the rows.
    next: u64,
    /// Why there are no more; `None` = there may be.
    end: Option<Result<(), Error>>,
}

fn step(lines: &mut Lines<'_>, json: bool) -> Step {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while rows.len() < STEP_ROWS && bytes < STEP_BYTES {
        let next = lines.number() + 1;
        let row = match lines.next() {
            Ok(Some(Line::Whole(line))) => row(line, json),
            Ok(Some(Line::TooLong)) => Err(too_long()),
            Ok(None) => return Step { rows, next, end: Some(Ok(())) },
            Err(error) => Err(format!("reading it: {error}")),
        };
        match row {
            Ok((key, value)) => {
                bytes += key.len() + value.len();
                rows.push((key, value));
            }
            Err(why) => {
                let error = Error::Usage(format!("line {next} of standard input: {why}"));
                return Step { rows, next, end: Some(Err(error)) };
            }
        }
    }
    Step { rows, next: lines.number() + 1, end: None }
}

fn row(line: Vec<u8>, json: bool) -> Result<(Key, Value), String> {
    let (key, value) = if json { object(&line)? } else { fields(line.into())? };
    let op = Op::Put { key: key.clone(), value: value.clone(), deadline: None, previous: false };
    op.validate().map_err(|error| error.to_string())?;
    Ok((key, value))
}

fn fields(line: Bytes) -> Result<(Key, Value), String> {
    let tab = line.iter().position(|&byte| byte == b'\t');
    let tab = tab.ok_or("it is not KEY<TAB>VALUE; lines of JSON are read with --json")?;
    Ok((escape::read(line.slice(..tab))?, escape::read(line.slice(tab + 1..))?))
}

/// A row in JSON; its other fields do not matter.
#[derive(Deserialize)]
struct Object {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
}

fn object(line: &[u8]) -> Result<(Key, Value), String> {
    let object: Object = serde_json::from_slice(line).map_err(|error| {
        let text = error.to_string();
        // It is the first of its own lines only.
        let why = text.split(" at line ").next().unwrap_or_default();
        format!("it is no JSON object with key and value: {why}, column {}", error.column())
    })?;
    let key = either("key", object.key, object.key_base64)?;
    Ok((key, either("value", object.value, object.value_base64)?))
}

fn either(name: &str, text: Option<String>, base64: Option<String>) -> Result<Bytes, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into()),
        (None, Some(base64)) => match BASE64_STANDARD.decode(base64) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => Err(format!("its {name}_base64 is none: {error}")),
        },
        (None, None) => Err(format!("it has no {name}")),
        (Some(_), Some(_)) => Err(format!("it has both {name} and {name}_base64")),
    }
}
