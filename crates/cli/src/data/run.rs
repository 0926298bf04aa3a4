//! Asks and prints: one op, or page after page.

use std::io::{BufRead, BufReader};

use bytes::Bytes;
use kv::{Answer, Key, Op, PAGE_ROWS_MAX, Page, Range, Reply, Value};

use super::Command;
use super::op::{Asked, Input};
use crate::answer;
use crate::args::Options;
use crate::connect::Store;
use crate::exit::{Code, Error};
use crate::print::Output;

/// Runs a command and prints what it answers.
pub async fn run(
    command: &Command,
    store: &dyn Store,
    options: &Options,
    input: Input<'_>,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    match (command, input) {
        (Command::PutAll { rows }, Some(input)) if rows.is_empty() => {
            put_lines(&mut BufReader::new(input), store, options, out).await
        }
        (Command::PutAll { rows }, None) if rows.is_empty() => {
            Err(Error::Usage("there is nothing to store: give KEY VALUE by turns".into()))
        }
        (_, input) => asked(command, command.asked(input)?, store, options, out).await,
    }
}

/// Prints all rows there are.
pub async fn dump(store: &dyn Store, options: &Options, out: &mut Output<'_>) -> Result<Code, Error> {
    rows(Range::default(), None, store, options, out).await
}

/// Rows of one step of a store from lines: enough to be quick, few enough for one op.
const STEP_ROWS: usize = 1000;
/// Bytes after which a step of a store from lines ends: with one largest key and value more it still is one op.
const STEP_BYTES: usize = 32 << 10;

async fn asked(
    command: &Command,
    asked: Asked,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    match (asked.op, command) {
        (Op::Range(range), Command::Range { count: true, .. }) => count(range, store, options, out).await,
        (Op::Range(range), Command::Range { limit, .. }) => rows(range, *limit, store, options, out).await,
        (Op::DeleteRange { from, to }, _) => delete_range(from, to, store, options, out).await,
        (op @ Op::History { .. }, _) => history(op, store, options, out).await,
        (op @ (Op::Trim { .. } | Op::TrimRange { .. }), _) => trim(op, store, options, out).await,
        (op, Command::Get { raw: true, .. }) if !out.json => raw(op, store, options, out).await,
        (op, _) => one(Asked { op, ttl: asked.ttl }, store, options, out).await,
    }
}

async fn ask(
    asked: Asked,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Reply, Error> {
    asked.op.validate()?;
    let reply = store.call(options.request(asked.op), asked.ttl).await?;
    if options.receipt {
        answer::print_receipt(&reply.receipt, out)?;
    }
    Ok(reply)
}

async fn one(
    asked: Asked,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    let op = asked.op.clone();
    let reply = ask(asked, store, options, out).await?;
    answer::print(&op, &reply.answer, reply.receipt.version, out)
}

async fn raw(op: Op, store: &dyn Store, options: &Options, out: &mut Output<'_>) -> Result<Code, Error> {
    let reply = ask(Asked { op: op.clone(), ttl: None }, store, options, out).await?;
    match &reply.answer {
        Answer::Row(Some(row)) => {
            out.out.write_all(&row.value)?;
            Ok(Code::Done)
        }
        answer => answer::print(&op, answer, reply.receipt.version, out),
    }
}

async fn page(
    range: Range,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Page, Error> {
    let reply = ask(Asked { op: Op::Range(range), ttl: None }, store, options, out).await?;
    match reply.answer {
        Answer::Page(page) => Ok(page),
        other => Err(unexpected("a page", &other)),
    }
}

async fn rows(
    mut range: Range,
    limit: Option<u64>,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    let mut left = limit.unwrap_or(u64::MAX);
    loop {
        // Without a limit the store decides how much a page is.
        range.limit = limit.map_or(0, |_| left.min(PAGE_ROWS_MAX as u64) as u32);
        let page = page(range.clone(), store, options, out).await?;
        for row in &page.rows {
            answer::print_row(row, range.keys_only, out)?;
        }
        out.out.flush()?;
        left = left.saturating_sub(page.rows.len() as u64);
        match page.next {
            Some(next) if left > 0 => range.page = Some(next),
            Some(next) if out.terminal => {
                out.note(&format!("there is more: --page {}", next.escape_ascii()))?;
                return Ok(Code::Done);
            }
            _ => return Ok(Code::Done),
        }
    }
}

async fn count(
    mut range: Range,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    let mut count = 0;
    loop {
        let page = page(range.clone(), store, options, out).await?;
        count += page.count;
        match page.next {
            Some(next) => range.page = Some(next),
            None => break,
        }
    }
    answer::print_count(count, None, out)?;
    Ok(Code::Done)
}

async fn delete_range(
    mut from: Key,
    to: Option<Key>,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    let mut deleted = 0;
    loop {
        let asked = Asked { op: Op::DeleteRange { from, to: to.clone() }, ttl: None };
        let reply = ask(asked, store, options, out).await?;
        let Answer::Deleted { count, next, .. } = reply.answer else {
            return Err(unexpected("a count", &reply.answer));
        };
        deleted += count;
        match next {
            Some(next) => from = next,
            None => {
                answer::print_count(deleted, Some(reply.receipt.version), out)?;
                return Ok(Code::Done);
            }
        }
    }
}

/// Prints the history that an op asks for, page by page; a limit of 0 is none.
async fn history(op: Op, store: &dyn Store, options: &Options, out: &mut Output<'_>) -> Result<Code, Error> {
    let Op::History { key, limit, mut before } = op.clone() else { unreachable!("it is a history") };
    let mut left = if limit == 0 { u64::MAX } else { limit.into() };
    let mut printed = None;
    loop {
        let limit = left.min(PAGE_ROWS_MAX as u64) as u32;
        let asked = Asked { op: Op::History { key: key.clone(), limit, before }, ttl: None };
        let Reply { answer, receipt } = ask(asked, store, options, out).await?;
        let Answer::History { revisions, next } = answer else {
            return Err(unexpected("a history", &answer));
        };
        if let Some(code) = printed.filter(|_| revisions.is_empty()) {
            // What was there when the page before told so was trimmed meanwhile.
            return Ok(code);
        }
        left -= revisions.len() as u64;
        // Only of the last page it is told that there is more.
        let page = Answer::History { revisions, next: next.filter(|_| left == 0) };
        let code = answer::print(&op, &page, receipt.version, out)?;
        out.out.flush()?;
        if next.is_none() || left == 0 {
            return Ok(code);
        }
        (before, printed) = (next, Some(code));
    }
}

/// Trims step by step, and prints how many revisions are gone.
async fn trim(mut op: Op, store: &dyn Store, options: &Options, out: &mut Output<'_>) -> Result<Code, Error> {
    let mut trimmed = 0;
    loop {
        let Reply { answer, receipt } = ask(Asked { op: op.clone(), ttl: None }, store, options, out).await?;
        let Answer::Trimmed { count, next } = answer else { return Err(unexpected("a count", &answer)) };
        trimmed += count;
        match (next, &mut op) {
            (Some(next), Op::TrimRange { from, .. }) => *from = next,
            (Some(_), _) => {}
            (None, Op::TrimRange { .. }) => {
                answer::print_count(trimmed, Some(receipt.version), out)?;
                return Ok(Code::Done);
            }
            (None, op) => {
                let all = Answer::Trimmed { count: trimmed, next: None };
                return answer::print(op, &all, receipt.version, out);
            }
        }
    }
}

async fn put_lines(
    lines: &mut dyn BufRead,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    let mut worst = Code::Done;
    let mut number = 0;
    loop {
        let rows = step(lines, &mut number)?;
        if rows.is_empty() {
            return Ok(worst);
        }
        let code = one(Asked { op: Op::PutAll { rows }, ttl: None }, store, options, out).await?;
        worst = if code == Code::Done { worst } else { code };
    }
}

/// The rows of the next lines; none at the end.
fn step(lines: &mut dyn BufRead, number: &mut u64) -> Result<Vec<(Key, Value)>, Error> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    let mut line = Vec::new();
    while rows.len() < STEP_ROWS && bytes < STEP_BYTES {
        line.clear();
        let read = lines.read_until(b'\n', &mut line);
        if read.map_err(|error| Error::Usage(format!("reading standard input: {error}")))? == 0 {
            break;
        }
        *number += 1;
        bytes += line.len();
        rows.push(row(&line, *number)?);
    }
    Ok(rows)
}

fn row(line: &[u8], number: u64) -> Result<(Key, Value), Error> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let tab = line.iter().position(|&byte| byte == b'\t').ok_or_else(|| {
        Error::Usage(format!(
            "line {number} of standard input is not KEY<TAB>VALUE; the rows that were printed are stored"
        ))
    })?;
    Ok((Bytes::copy_from_slice(&line[..tab]), Bytes::copy_from_slice(&line[tab + 1..])))
}

fn unexpected(wanted: &str, answer: &Answer) -> Error {
    Error::Unavailable(format!(
        "the store answered {answer:?} instead of {wanted}: are client and server of one version?"
    ))
}
