//! Splits a line into words, by the rules people know from their shell.
//!
//! Blanks separate. Between single quotes all is literal. Between double quotes `\"`, `\\`, `\n`, `\r`, `\t` stand for
//! one character. Outside quotes a backslash makes the next character literal. Quoted and bare parts that touch are one
//! word. A line that begins with `#` is a comment. Lines and words are any bytes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The words of a line; why it has none when a quote is left open.
pub fn split(line: &[u8]) -> Result<Vec<OsString>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    if rest.starts_with(b"#") {
        return Ok(words);
    }
    while !rest.is_empty() {
        words.push(OsString::from_vec(word(&mut rest)?));
        rest = rest.trim_ascii_start();
    }
    Ok(words)
}

/// Takes a word off the front.
fn word(rest: &mut &[u8]) -> Result<Vec<u8>, String> {
    let mut word = Vec::new();
    while let Some(byte) = next(rest).filter(|byte| !byte.is_ascii_whitespace()) {
        match byte {
            b'\'' => single_quoted(rest, &mut word)?,
            b'"' => double_quoted(rest, &mut word)?,
            b'\\' => word.push(next(rest).ok_or("a backslash at the end stands for nothing: write \\\\")?),
            byte => word.push(byte),
        }
    }
    Ok(word)
}

fn next(rest: &mut &[u8]) -> Option<u8> {
    rest.split_off_first().copied()
}

fn single_quoted(rest: &mut &[u8], word: &mut Vec<u8>) -> Result<(), String> {
    while let Some(byte) = next(rest) {
        if byte == b'\'' {
            return Ok(());
        }
        word.push(byte);
    }
    Err("a ' is not closed: put another at the end, or write \\' for the character itself".into())
}

fn double_quoted(rest: &mut &[u8], word: &mut Vec<u8>) -> Result<(), String> {
    while let Some(byte) = next(rest) {
        match (byte, rest.first()) {
            (b'"', _) => return Ok(()),
            (b'\\', Some(&escaped)) => {
                next(rest);
                unescape(escaped, word);
            }
            _ => word.push(byte),
        }
    }
    Err("a \" is not closed: put another at the end, or write \\\" for the character itself".into())
}

fn unescape(escaped: u8, word: &mut Vec<u8>) {
    match escaped {
        b'n' => word.push(b'\n'),
        b'r' => word.push(b'\r'),
        b't' => word.push(b'\t'),
        b'"' | b'\\' => word.push(escaped),
        other => word.extend([b'\\', other]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: &[&str]) {
        assert_eq!(split(line.as_bytes()).expect(line), expect, "{line}");
    }

    #[test]
    fn words_are_split_at_blanks() {
        check("", &[]);
        check("   ", &[]);
        check("get a", &["get", "a"]);
        check("  put\ta   b  ", &["put", "a", "b"]);
    }

    #[test]
    fn words_in_quotes_stay_together() {
        check("put k 'a b'", &["put", "k", "a b"]);
        check(r#"put k "a b""#, &["put", "k", "a b"]);
        check(r#"put k '{"a": 1}'"#, &["put", "k", r#"{"a": 1}"#]);
        check("range ''", &["range", ""]);
        check("a'b c'd", &["ab cd"]);
    }

    #[test]
    fn words_with_backslashes_are_unescaped() {
        check(r"put k a\ b", &["put", "k", "a b"]);
        check(r"put k a\ ", &["put", "k", "a "]);
        check(r#"put k "a\tb\n\"c\\""#, &["put", "k", "a\tb\n\"c\\"]);
        check(r"put k 'a\n'", &["put", "k", r"a\n"]);
        check(r#"put k "\d""#, &["put", "k", r"\d"]);
    }

    #[test]
    fn words_that_are_no_text_are_their_bytes() {
        let words = split(b"put b\xe9 '\xff \xfe'").expect("the quotes are closed");
        let bytes: Vec<Vec<u8>> = words.into_iter().map(OsString::into_vec).collect();
        assert_eq!(bytes, [&b"put"[..], b"b\xe9", b"\xff \xfe"]);
    }

    #[test]
    fn words_of_a_comment_are_none() {
        check("# put a b", &[]);
        check("put a #b", &["put", "a", "#b"]);
    }

    #[test]
    fn words_with_an_open_quote_are_refused() {
        for line in ["put 'a", "put \"a", "put a\\", "it's"] {
            assert!(split(line.as_bytes()).is_err(), "{line}");
        }
    }
}
