//! The lines of standard input: any bytes, but not without end.

use std::io::{self, BufRead};

use kv::{KEYS_PER_OP_MAX, OP_BYTES_MAX};

/// The longest line: the largest op, with six characters for each byte (`\u0001` in JSON; other notations have less), and
/// room for the blanks and quotes around its words.
pub const LINE_BYTES_MAX: usize = 6 * OP_BYTES_MAX + 8 * KEYS_PER_OP_MAX;

/// The lines of an input.
pub struct Lines<'a> {
    from: &'a mut dyn BufRead,
    longest: usize,
    number: u64,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Without its line end.
    Whole(Vec<u8>),
    /// It was longer than [`LINE_BYTES_MAX`] and is skipped.
    TooLong,
}

impl Lines<'_> {
    /// The lines that are read from here.
    pub fn new(from: &mut dyn BufRead) -> Lines<'_> {
        Lines { from, longest: LINE_BYTES_MAX, number: 0 }
    }

    /// The number of the line that was read last. The first has 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line; `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        // One more for the line end, one more to see that it is too long.
        let most = self.longest as u64 + 2;
        if io::Read::take(&mut *self.from, most).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if line.pop_if(|byte| *byte == b'\n').is_none() && line.len() > self.longest {
            drop(line);
            self.from.skip_until(b'\n')?;
            return Ok(Some(Line::TooLong));
        }
        Ok(Some(if line.len() > self.longest { Line::TooLong } else { Line::Whole(line) }))
    }
}

/// What is wrong with a line that is too long.
pub fn too_long() -> String {
    format!("it is longer than {LINE_BYTES_MAX} bytes, which is more than the largest op takes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut input: &[u8], longest: usize) -> Vec<Option<Vec<u8>>> {
        let mut lines = Lines { longest, ..Lines::new(&mut input) };
        std::iter::from_fn(|| lines.next().expect("a slice can be read"))
            .map(|line| match line {
                Line::Whole(line) => Some(line),
                Line::TooLong => None,
            })
            .collect()
    }

    #[test]
    fn lines_of_any_bytes_are_read_whole() {
        let lines = read(b"a\xff\n\n\r\nlast", 10);
        assert_eq!(
            lines,
            [Some(b"a\xff".to_vec()), Some(vec![]), Some(b"\r".to_vec()), Some(b"last".to_vec())]
        );
    }

    #[test]
    fn line_that_is_too_long_is_skipped_and_the_next_is_read() {
        for long in ["abcd", "abcde", "abcdefgh"] {
            assert_eq!(read(format!("{long}\nabc\n").as_bytes(), 3), [None, Some(b"abc".to_vec())], "{long}");
            assert_eq!(read(long.as_bytes(), 3), [None], "{long}");
        }
    }
}
