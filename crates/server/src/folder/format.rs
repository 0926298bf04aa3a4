//! What all files of the folder that people can read have in common: a format number, and random numbers as text.

use node::identity::Life;
use serde::{Deserialize, Serialize};

/// What says whether the rest can be read.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// The format number of a file. An error says why there is none.
pub(super) fn of(text: &str) -> Result<u32, String> {
    serde_json::from_str(text).map(|Format { format }| format).map_err(|error| error.to_string())
}

/// A life as both files have it.
#[derive(Serialize, Deserialize)]
pub(super) struct Written {
    /// 16 hexadecimal digits, as the log's segments are told to be of, and not 0.
    incarnation: String,
    starts: u64,
    /// 16 hexadecimal digits.
    process: String,
}

/// A life as it is written.
pub(super) fn written(life: &Life) -> Written {
    Written { incarnation: text(life.incarnation), starts: life.starts, process: text(life.process) }
}

/// A life that was written. An error says what is wrong with it.
pub(super) fn life(written: &Written) -> Result<Life, String> {
    let Written { incarnation, starts, process } = written;
    let life = Life { incarnation: number(incarnation)?, starts: *starts, process: number(process)? };
    match life {
        Life { incarnation: 0, .. } => Err("0 is no incarnation".into()),
        Life { starts: 0, .. } => Err("a folder that was never started has nothing".into()),
        life => Ok(life),
    }
}

/// A random number as people see it: 16 hexadecimal digits.
pub(super) fn text(number: u64) -> String {
    format!("{number:016x}")
}

/// A random number from its text.
pub(super) fn number(text: &str) -> Result<u64, String> {
    let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u64::from_str_radix(text, 16).ok().filter(|_| digits);
    number.ok_or_else(|| format!("'{}' is no number of 16 hexadecimal digits", text.escape_debug()))
}
