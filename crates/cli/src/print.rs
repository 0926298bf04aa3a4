//! Where a command prints: data to `out`, all else to `err`; as text or as JSON.
//!
//! Keys and values in rows are escaped ([`crate::escape`]), so that a row is one line and can be read back. A value on its own
//! goes to a pipe byte by byte as it is; a terminal gets its control characters and bytes that are no UTF-8 escaped, so that
//! no value can play tricks with it. JSON has `value_base64` in place of `value` where a value is not UTF-8, and versions as
//! strings, since many readers of JSON have no 64-bit integers.

use std::io::{self, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

use crate::escape;
use crate::exit::{Code, Error};

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
        if self.terminal {
            self.out.write_all(escape::soften(value).as_bytes())?;
        } else {
            self.out.write_all(value)?;
        }
        self.out.write_all(b"\n")
    }

    /// Fields with tabs between them.
    pub fn row(&mut self, fields: &[&[u8]]) -> io::Result<()> {
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                self.out.write_all(b"\t")?;
            }
            self.out.write_all(escape::write(field).as_bytes())?;
        }
        self.out.write_all(b"\n")
    }

    /// A JSON object on a line of its own.
    pub fn object(&mut self, object: &Value) -> io::Result<()> {
        writeln!(self.out, "{object}")
    }

    /// A line that is no data. Fails when the data before it cannot be written; nobody is left to tell when it cannot itself.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        let flushed = self.out.flush();
        let _ = writeln!(self.err, "{text}");
        flushed
    }

    /// Prints what became of something that is done by now: when that fails, the code still tells how it went.
    pub fn told(
        &mut self,
        code: Code,
        print: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<Code, Error> {
        let printed = print(self).and_then(|()| Ok(self.out.flush()?));
        match printed {
            Err(Error::Output(error)) => Err(Error::Untold { code, error }),
            printed => printed.map(|()| code),
        }
    }

    /// The end of a command: what is left of its output is written.
    pub fn end(&mut self, result: Result<Code, Error>) -> Result<Code, Error> {
        let flushed = self.out.flush();
        match (result?, flushed) {
            (code, Ok(())) => Ok(code),
            // Data that does not arrive is all that such a command is for.
            (Code::Done, Err(error)) => Err(Error::Output(error)),
            (code, Err(error)) => Err(Error::Untold { code, error }),
        }
    }

    /// Lines of columns, as wide as their widest field; the last column is wrapped at the width of a small terminal.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        self.columns_within(TABLE_COLUMNS, head, rows)
    }

    /// Lines of columns; the last is as it is.
    pub fn columns(&mut self, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        self.columns_within(usize::MAX, head, rows)
    }

    fn columns_within(&mut self, width: usize, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let widths = widths(head, rows);
        let head: Vec<String> = head.iter().map(ToString::to_string).collect();
        for row in std::iter::once(&head).chain(rows) {
            let (last, columns) = row.split_last().expect("a table has columns");
            let start: String =
                columns.iter().zip(&widths).map(|(field, width)| format!("{field:width$}  ")).collect();
            let indent = start.chars().count();
            let lines = wrap(last, width.saturating_sub(indent));
            let line = format!("{start}{}", lines[0]);
            writeln!(self.out, "{}", if last.is_empty() { line.trim_end() } else { &line })?;
            for line in &lines[1..] {
                writeln!(self.out, "{:indent$}{line}", "")?;
            }
        }
        Ok(())
    }
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
    if text.chars().count() <= width {
        return vec![text.into()];
    }
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
        assert_eq!(String::from_utf8(out).unwrap(), "ä\\x1b[2J\n\tb\n");
        assert_eq!(printed(true, |out| out.value(b"\xff").unwrap()), b"\\xff\n");
    }

    #[test]
    fn row_is_one_line_wherever_it_goes() {
        for terminal in [true, false] {
            let row = printed(terminal, |out| out.row(&[b"k", b"a\nb\tc\\\xff"]).unwrap());
            assert_eq!(row, b"k\ta\\nb\\tc\\\\\\xff\n");
        }
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
