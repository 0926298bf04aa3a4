//! What all files of the folder that people can read have in common: a format number, and incarnations as text.

use serde::Deserialize;

/// What says whether the rest can be read.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// The format number of a file. An error says why there is none.
pub(super) fn number(text: &str) -> Result<u32, String> {
    serde_json::from_str(text).map(|Format { format }| format).map_err(|error| error.to_string())
}

/// An incarnation as the log's errors show it: 16 hexadecimal digits.
pub(super) fn incarnation_text(incarnation: u64) -> String {
    format!("{incarnation:016x}")
}

/// An incarnation from its text.
pub(super) fn incarnation(text: &str) -> Result<u64, String> {
    let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u64::from_str_radix(text, 16).ok().filter(|number| digits && *number != 0);
    number.ok_or_else(|| format!("'{}' is no incarnation: 16 hexadecimal digits", text.escape_debug()))
}
