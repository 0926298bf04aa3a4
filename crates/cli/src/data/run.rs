//! Asks and prints: one op, or page after page.

use std::io::BufReader;

use kv::{Answer, Class, Key, Op, PAGE_ROWS_MAX, Page, Range, Reply, Version};

use super::ask::ask;
use super::command::Command;
use super::lines;
use super::op::{Asked, Input};
use super::watch;
use crate::answer;
use crate::connect::Store;
use crate::exit::{Code, Error};
use crate::hint::Hint;
use crate::options::Options;
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
            lines::put(&mut BufReader::new(input), store, options, out).await
        }
        (Command::PutAll { rows }, None) if rows.is_empty() => {
            Err(Error::Usage("there is nothing to store: give KEY VALUE by turns".into()))
        }
        (Command::Watch(args), input) => watch::run(args, store, options, input.is_none(), out).await,
        (_, input) => asked(command, command.asked(input)?, store, options, out).await,
    }
}

/// Prints all rows there are.
pub async fn dump(store: &dyn Store, options: &Options, out: &mut Output<'_>) -> Result<Code, Error> {
    rows(Range::default(), None, store, options, &|_| None, out).await
}

async fn asked(
    command: &Command,
    asked: Asked,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    match (asked.op, command) {
        (Op::Range(range), Command::Range { count: true, .. }) => count(range, store, options, out).await,
        (Op::Range(range), Command::Range { limit, .. }) => {
            rows(range, *limit, store, options, &|next| command.next_page(next, options), out).await
        }
        (Op::DeleteRange { from, to }, _) => delete_range(from, to, store, options, out).await,
        (op @ Op::History { .. }, _) => history(op, store, options, out).await,
        (op @ (Op::Trim { .. } | Op::TrimRange { .. }), _) => trim(op, store, options, out).await,
        (op, Command::Get { raw: true, .. }) if !out.json => raw(op, store, options, out).await,
        (op, _) => one(Asked { op, ttl: asked.ttl }, store, options, out).await,
    }
}

async fn one(
    asked: Asked,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    let op = asked.op.clone();
    let Reply { answer, receipt } = ask(asked, store, options, out).await?;
    let code = answer::code(&op, &answer);
    let print = |out: &mut Output<'_>| answer::print(&op, &answer, receipt.version, out);
    match (op.class(), code) {
        // Data that does not arrive is not done.
        (Class::Read, Code::Done) => print(out).map(|()| code),
        _ => out.told(code, print),
    }
}

async fn raw(op: Op, store: &dyn Store, options: &Options, out: &mut Output<'_>) -> Result<Code, Error> {
    let reply = ask(Asked { op: op.clone(), ttl: None }, store, options, out).await?;
    match &reply.answer {
        Answer::Row(Some(row)) => out.out.write_all(&row.value)?,
        answer => answer::print(&op, answer, reply.receipt.version, out)?,
    }
    Ok(answer::code(&op, &reply.answer))
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
    go_on: &dyn Fn(&Key) -> Option<String>,
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
                go_on(&next).map_or(Ok(()), |hint| out.note(&format!("there is more: {hint}")))?;
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
        let asked = Asked { op: Op::DeleteRange { from: from.clone(), to: to.clone() }, ttl: None };
        let reply = match ask(asked, store, options, out).await {
            Err(error) if deleted > 0 => {
                let hint = rest_of_range(&from, to.as_ref(), options);
                out.note(&format!("{deleted} keys are removed; to go on: {hint}"))?;
                return Err(error);
            }
            reply => reply?,
        };
        let Answer::Deleted { count, next, .. } = reply.answer else {
            return Err(unexpected("a count", &reply.answer));
        };
        deleted += count;
        match next {
            Some(next) => from = next,
            None => {
                let version = Some(reply.receipt.version);
                return out.told(Code::Done, |out| answer::print_count(deleted, version, out));
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
        // Only of the last page it is told that there is more; as text by a whole command, below.
        let page = Answer::History { revisions, next: next.filter(|_| left == 0 && out.json) };
        let code = answer::code(&op, &page);
        answer::print(&op, &page, receipt.version, out)?;
        out.out.flush()?;
        match next {
            Some(_) if left > 0 => (before, printed) = (next, Some(code)),
            Some(next) if !out.json => {
                out.note(&format!("there is more: {}", rest_of_history(&op, next, options)))?;
                return Ok(code);
            }
            _ => return Ok(code),
        }
    }
}

/// The command that goes on with a history.
fn rest_of_history(op: &Op, next: Version, options: &Options) -> String {
    let Op::History { key, limit, .. } = op else { unreachable!("it is a history") };
    let limit = Some(limit).filter(|limit| **limit > 0);
    Hint::new("history", options)
        .key(key)
        .option("--limit", limit)
        .option("--before", Some(next))
        .options(options)
}

/// Trims step by step, and prints how many revisions are gone.
async fn trim(mut op: Op, store: &dyn Store, options: &Options, out: &mut Output<'_>) -> Result<Code, Error> {
    let mut trimmed = 0;
    loop {
        let reply = match ask(Asked { op: op.clone(), ttl: None }, store, options, out).await {
            Err(error) if trimmed > 0 => {
                let hint = rest_of_trim(&op, options);
                out.note(&format!("{trimmed} revisions are forgotten; to go on: {hint}"))?;
                return Err(error);
            }
            reply => reply?,
        };
        let Reply { answer, receipt } = reply;
        let Answer::Trimmed { count, next } = answer else { return Err(unexpected("a count", &answer)) };
        trimmed += count;
        match (next, &mut op) {
            (Some(next), Op::TrimRange { from, .. }) => *from = next,
            (Some(_), _) => {}
            (None, Op::TrimRange { .. }) => {
                let version = Some(receipt.version);
                return out.told(Code::Done, |out| answer::print_count(trimmed, version, out));
            }
            (None, op) => {
                let all = Answer::Trimmed { count: trimmed, next: None };
                return out.told(Code::Done, |out| answer::print(op, &all, receipt.version, out));
            }
        }
    }
}

/// The command that goes on with a trim.
fn rest_of_trim(op: &Op, options: &Options) -> String {
    let hint = Hint::new("trim", options);
    let (hint, below) = match op {
        Op::TrimRange { from, to: Some(to), below } => (hint.key(from).key(to), below),
        Op::TrimRange { from, to: None, below } => (hint.key(from).flag("--all", true), below),
        Op::Trim { key, below } => (hint.key(key), below),
        _ => unreachable!("it is a trim"),
    };
    hint.option("--below", below.as_ref()).options(options)
}

/// The command that removes what is left of a range.
fn rest_of_range(from: &Key, to: Option<&Key>, options: &Options) -> String {
    let hint = Hint::new("delrange", options).key(from);
    let hint = match to {
        Some(to) => hint.key(to),
        None => hint.flag("--all", true),
    };
    hint.options(options)
}

impl Command {
    /// The command that goes on behind a page of this range.
    fn next_page(&self, next: &Key, options: &Options) -> Option<String> {
        let Command::Range { from, to, prefix, limit, reverse, keys_only, at, .. } = self else {
            return None;
        };
        let hint = Hint::new("range", options).key(&from.0);
        let hint = match to {
            Some(to) => hint.key(&to.0),
            None => hint,
        };
        let hint = hint.flag("--prefix", *prefix).flag("--reverse", *reverse).flag("--keys-only", *keys_only);
        let hint = hint.option("--limit", limit.as_ref()).option("--at", at.as_ref());
        Some(hint.flag("--page", true).key(next).options(options))
    }
}

fn unexpected(wanted: &str, answer: &Answer) -> Error {
    Error::Unavailable(format!(
        "the store answered {answer:?} instead of {wanted}: are client and server of one version?"
    ))
}
