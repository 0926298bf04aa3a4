//! Splits a line into words, by the rules people know from their shell.
//!
//! Blanks separate. Between single quotes all is literal. Between double quotes `\"`, `\\`, `\n`, `\r`, `\t` stand for
//! one character. Outside quotes a backslash makes the next character literal. Quoted and bare parts that touch are one
//! word. A line that begins with `#` is a comment.

use std::iter::Peekable;
use std::str::Chars;

/// The words of a line; why it has none when a quote is left open.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut chars = line.trim().chars().peekable();
    if chars.peek() == Some(&'#') {
        return Ok(words);
    }
    while skip_blanks(&mut chars) {
        words.push(word(&mut chars)?);
    }
    Ok(words)
}

fn skip_blanks(chars: &mut Peekable<Chars>) -> bool {
    while chars.next_if(|c| c.is_whitespace()).is_some() {}
    chars.peek().is_some()
}

fn word(chars: &mut Peekable<Chars>) -> Result<String, String> {
    let mut word = String::new();
    while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
        match c {
            '\'' => single_quoted(chars, &mut word)?,
            '"' => double_quoted(chars, &mut word)?,
            '\\' => word.push(chars.next().ok_or("a backslash at the end stands for nothing: write \\\\")?),
            c => word.push(c),
        }
    }
    Ok(word)
}

fn single_quoted(chars: &mut Peekable<Chars>, word: &mut String) -> Result<(), String> {
    for c in chars {
        if c == '\'' {
            return Ok(());
        }
        word.push(c);
    }
    Err("a ' is not closed: put another at the end, or write \\' for the character itself".into())
}

fn double_quoted(chars: &mut Peekable<Chars>, word: &mut String) -> Result<(), String> {
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('"', _) => return Ok(()),
            ('\\', Some(&escaped)) => {
                chars.next();
                unescape(escaped, word);
            }
            _ => word.push(c),
        }
    }
    Err("a \" is not closed: put another at the end, or write \\\" for the character itself".into())
}

fn unescape(escaped: char, word: &mut String) {
    match escaped {
        'n' => word.push('\n'),
        'r' => word.push('\r'),
        't' => word.push('\t'),
        '"' | '\\' => word.push(escaped),
        other => word.extend(['\\', other]),
    }
}

/// A word as it is to be typed, here or at a system's shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_.:/,@%+=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: &[&str]) {
        assert_eq!(split(line).expect(line), expect, "{line}");
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
        check(r#"put k "a\tb\n\"c\\""#, &["put", "k", "a\tb\n\"c\\"]);
        check(r"put k 'a\n'", &["put", "k", r"a\n"]);
        check(r#"put k "\d""#, &["put", "k", r"\d"]);
    }

    #[test]
    fn words_of_a_comment_are_none() {
        check("# put a b", &[]);
        check("put a #b", &["put", "a", "#b"]);
    }

    #[test]
    fn words_quoted_are_split_again_as_they_were() {
        for word in ["a", "user:7", "", "a b", "it's", "'", r"a\n", "#a", "{7}x", "$a*", "ö"] {
            check(&format!("get {}", quoted(word)), &["get", word]);
        }
        assert_eq!((quoted("user:7"), quoted("a b")), ("user:7".into(), "'a b'".into()));
    }

    #[test]
    fn words_with_an_open_quote_are_refused() {
        for line in ["put 'a", "put \"a", "put a\\", "it's"] {
            assert!(split(line).is_err(), "{line}");
        }
    }
}
