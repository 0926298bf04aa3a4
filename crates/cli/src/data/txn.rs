//! The notation of a transaction: conditions, and commands as they stand on the command line.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Parser;
use kv::{Condition, Expect, Op, Value};

use super::command::Command;
use crate::exit::Error;
use crate::{escape, parse, words};

/// The condition of a text: `KEY = VALUE`, `KEY absent`, `KEY present` or `KEY version VERSION`.
pub fn condition(text: &[u8]) -> Result<Condition, Error> {
    let words = split(text)?;
    let wrong = |why: String| Error::Usage(format!("'{}' is no condition: {why}", escape::write(text)));
    let expect = match words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>()[..] {
        [_, b"=", value] => Expect::Value(Value::copy_from_slice(value)),
        [_, b"absent"] => Expect::Absent,
        [_, b"present"] => Expect::Present,
        [_, b"version", version] => {
            Expect::Version(String::from_utf8_lossy(version).parse().map_err(Error::Usage)?)
        }
        _ => {
            let why = "write KEY = VALUE, KEY absent, KEY present or KEY version VERSION";
            return Err(wrong(why.into()));
        }
    };
    let key = words.into_iter().next().expect("every condition begins with its key");
    Ok(Condition { key: parse::key_of(key).map_err(wrong)?, expect })
}

/// The op of a text such as `put a 1`.
pub fn op(text: &[u8]) -> Result<Op, Error> {
    let line = Line::try_parse_from(split(text)?).map_err(|error| refusal(text, &error))?;
    let asked = line.command.asked(None)?;
    if asked.ttl.is_some() {
        let text = escape::write(text);
        return Err(Error::Usage(format!(
            "'{text}': a transaction sets no time to live; use expire after it"
        )));
    }
    Ok(asked.op)
}

#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

fn split(text: &[u8]) -> Result<Vec<OsString>, Error> {
    words::split(text).map_err(|error| Error::Usage(format!("in '{}': {error}", escape::write(text))))
}

fn refusal(text: &[u8], error: &clap::Error) -> Error {
    let (text, whole) = (escape::write(text), error.to_string());
    let reason = whole.lines().next().unwrap_or_default().trim_start_matches("error: ");
    Error::Usage(format!("'{text}' cannot be part of a transaction: {reason}"))
}
