//! Where a command prints: data to `out`, all else to `err`; as text or as JSON.
//!
//! Text goes to a pipe byte by byte as it is. A terminal gets control characters and bytes that are no UTF-8 escaped, so
//! that no value can play tricks with it. JSON has `value_base64` in place of `value` where a value is not UTF-8, and
//! versions as strings, since many readers of JSON have no 64-bit integers.

use std::io::{self, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

/// Where to print, and how.
pub struct Output<'a> {
    /// Takes the data.
    pub out: &'a mut dyn Write,
    /// Takes all else.
    pub err: &'a mut dyn Write,
    /// `out` is a terminal.
    pub terminal: bool,
    /// Print JSON.
    pub json: bool,
}

impl Output<'_> {
    /// A line of data.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// A value on its own. A terminal breaks its lines.
    pub fn value(&mut self, value: &[u8]) -> io::Result<()> {
        self.bytes(value, &['\n', '\t'])?;
        self.out.write_all(b"\n")
    }

    /// Fields with tabs between them.
    pub fn row(&mut self, fields: &[&[u8]]) -> io::Result<()> {
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                self.out.write_all(b"\t")?;
            }
            self.bytes(field, &[])?;
        }
        self.out.write_all(b"\n")
    }

    /// A JSON object on a line of its own.
    pub fn object(&mut self, object: &Value) -> io::Result<()> {
        writeln!(self.out, "{object}")
    }

    /// A line that is no data.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        self.out.flush()?;
        writeln!(self.err, "{text}")
    }

    /// Lines of columns, as wide as their widest field; the last column is wrapped at the width of a small terminal.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let widths = widths(head, rows);
        let head: Vec<String> = head.iter().map(ToString::to_string).collect();
        for row in std::iter::once(&head).chain(rows) {
            let (last, columns) = row.split_last().expect("a table has columns");
            let start: String =
                columns.iter().zip(&widths).map(|(field, width)| format!("{field:width$}  ")).collect();
            let indent = start.chars().count();
            let lines = wrap(last, TABLE_COLUMNS.saturating_sub(indent));
            writeln!(self.out, "{}", format!("{start}{}", lines[0]).trim_end())?;
            for line in &lines[1..] {
                writeln!(self.out, "{:indent$}{line}", "")?;
            }
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8], kept: &[char]) -> io::Result<()> {
        if self.terminal {
            self.out.write_all(escaped(bytes, kept).as_bytes())
        } else {
            self.out.write_all(bytes)
        }
    }
}

/// Bytes as a text that is safe on a terminal; the control characters in `kept` stay.
pub fn escaped(bytes: &[u8], kept: &[char]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() && !kept.contains(&c) { text.extend(c.escape_default()) } else { text.push(c) }
        }
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text
}

/// Puts bytes into a JSON object: as `name` when they are UTF-8, else in base64 as `name_base64`.
pub fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.into(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), BASE64_STANDARD.encode(bytes).into()),
    };
}

/// The width of a small terminal.
const TABLE_COLUMNS: usize = 80;

fn widths(head: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    let width = |index: usize| {
        let fields = rows.iter().map(|row| row[index].chars().count());
        fields.chain([head[index].len()]).max().unwrap_or(0)
    };
    (0..head.len()).map(width).collect()
}

/// Lines of whole words; a word that is wider stands alone. At least one line.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a line from the start");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.into());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(terminal: bool, print: impl FnOnce(&mut Output<'_>)) -> Vec<u8> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        print(&mut Output { out: &mut out, err: &mut err, terminal, json: false });
        assert!(err.is_empty());
        out
    }

    #[test]
    fn value_to_a_pipe_is_its_bytes() {
        assert_eq!(printed(false, |out| out.value(b"a\x1b\xff\0b").unwrap()), b"a\x1b\xff\0b\n");
    }

    #[test]
    fn value_to_a_terminal_is_escaped() {
        let out = printed(true, |out| out.value("ä\x1b[2J\n\tb".as_bytes()).unwrap());
        assert_eq!(String::from_utf8(out).unwrap(), "ä\\u{1b}[2J\n\tb\n");
        assert_eq!(printed(true, |out| out.value(b"\xff").unwrap()), b"\\xff\n");
    }

    #[test]
    fn row_to_a_terminal_stays_one_line() {
        assert_eq!(printed(true, |out| out.row(&[b"k", b"a\nb\tc"]).unwrap()), b"k\ta\\nb\\tc\n");
        assert_eq!(printed(false, |out| out.row(&[b"k", b"v"]).unwrap()), b"k\tv\n");
    }

    #[test]
    fn bytes_in_json_are_text_or_base64() {
        let mut object = Map::new();
        put_bytes(&mut object, "a", "ö".as_bytes());
        put_bytes(&mut object, "b", b"\xff");
        assert_eq!(Value::from(object).to_string(), r#"{"a":"ö","b_base64":"/w=="}"#);
    }

    #[test]
    fn table_wraps_its_last_column() {
        let row = vec!["1".to_string(), ["word"; 20].join(" ")];
        let out = printed(false, |out| out.table(&["A", "LAST"], &[row]).unwrap());
        let lines: Vec<_> = std::str::from_utf8(&out).unwrap().lines().collect();
        assert_eq!(lines[0], "A  LAST");
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.len() <= 80));
        assert!(lines[2].starts_with("   word"));
    }
}
