//! The notation of a transaction: conditions, and commands as they stand on the command line.

use clap::Parser;
use kv::{Condition, Expect, Op};

use super::{Command, op};
use crate::exit::Error;
use crate::words;

/// The condition of a text: `KEY = VALUE`, `KEY absent`, `KEY present` or `KEY version VERSION`.
pub fn condition(text: &str) -> Result<Condition, Error> {
    let words = split(text)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (key, expect) = match words[..] {
        [key, "=", value] => (key, Expect::Value(op::bytes(value))),
        [key, "absent"] => (key, Expect::Absent),
        [key, "present"] => (key, Expect::Present),
        [key, "version", version] => (key, Expect::Version(version.parse().map_err(Error::Usage)?)),
        _ => {
            return Err(Error::Usage(format!(
                "'{text}' is no condition: write KEY = VALUE, KEY absent, KEY present or KEY version VERSION"
            )));
        }
    };
    Ok(op::condition(key, expect))
}

/// The op of a text such as `put a 1`.
pub fn op(text: &str) -> Result<Op, Error> {
    let line = Line::try_parse_from(split(text)?).map_err(|error| refusal(text, &error))?;
    let asked = line.command.asked(None)?;
    if asked.ttl.is_some() {
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

fn split(text: &str) -> Result<Vec<String>, Error> {
    words::split(text).map_err(|error| Error::Usage(format!("in '{text}': {error}")))
}

fn refusal(text: &str, error: &clap::Error) -> Error {
    let whole = error.to_string();
    let reason = whole.lines().next().unwrap_or_default().trim_start_matches("error: ");
    Error::Usage(format!("'{text}' cannot be part of a transaction: {reason}"))
}
