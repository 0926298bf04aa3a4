//! What a line of a command file asks for.
//!
//! A line is `LETTER,rest` or `T` alone, in any bytes, with a CR at its end taken off. What is none of these is no command, and
//! files have such lines: they are ignored. A command whose key or text cannot be one is wrong, and its user must know.

use kv::VALUE_BYTES_MAX;

/// A line, read.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// `I,key,text`: store a text where the key has none.
    Insert(i32, &'a str),
    /// `C,key`: what is stored under the key.
    Consult(i32),
    /// `A,host:port`: register all keys at the central server there.
    Activate(&'a str),
    /// `T`: end the server.
    Terminate,
    /// No command.
    Ignored,
    /// A command that cannot be done, and why.
    Wrong(String),
}

/// A line for a pair server, without its LF.
pub fn pair(line: &[u8]) -> Line<'_> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line {
        b"T" => Line::Terminate,
        [b'C', b',', key @ ..] => with_key(key, Line::Consult),
        [b'A', b',', host @ ..] => match std::str::from_utf8(host) {
            Ok(host) => Line::Activate(host.trim()),
            Err(_) => Line::Wrong("the address is not UTF-8".into()),
        },
        [b'I', b',', rest @ ..] => match rest.iter().position(|byte| *byte == b',') {
            Some(comma) => insert(&rest[..comma], &rest[comma + 1..]),
            None => Line::Ignored,
        },
        _ => Line::Ignored,
    }
}

/// A line for a central server, without its LF: it has `C` and `T` alone.
pub fn central(line: &[u8]) -> Line<'_> {
    match line.first() {
        Some(b'C' | b'T') => pair(line),
        _ => Line::Ignored,
    }
}

fn insert<'a>(key: &[u8], text: &'a [u8]) -> Line<'a> {
    with_key(key, |key| {
        if text.len() > VALUE_BYTES_MAX {
            let bytes = text.len();
            return Line::Wrong(format!(
                "the text has {bytes} bytes, and a text has at most {VALUE_BYTES_MAX}"
            ));
        }
        match std::str::from_utf8(text) {
            Ok(text) => Line::Insert(key, text),
            Err(error) => {
                let at = error.valid_up_to() + 1;
                Line::Wrong(format!("the text is not UTF-8 from its byte {at} on: convert the file"))
            }
        }
    })
}

fn with_key<'a>(key: &[u8], line: impl FnOnce(i32) -> Line<'a>) -> Line<'a> {
    let Some(word) = number(key) else { return Line::Ignored };
    match word.parse() {
        Ok(key) => line(key),
        Err(_) => {
            Line::Wrong(format!("the key {} is none: keys are {} to {}", brief(word), i32::MIN, i32::MAX))
        }
    }
}

/// A whole number as it is written, with or without a sign, without the blanks around it.
fn number(key: &[u8]) -> Option<&str> {
    let word = std::str::from_utf8(key.trim_ascii()).ok()?;
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(word)
}

/// As much of a number as a line of a terminal takes.
fn brief(digits: &str) -> String {
    const SHOWN_MAX: usize = 24;
    match digits.len() {
        ..=SHOWN_MAX => digits.into(),
        length => format!("{}.. of {length} characters", &digits[..SHOWN_MAX]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_a_pair_server_are_read() {
        for (line, expect) in [
            (&b"I,1,one"[..], Line::Insert(1, "one")),
            (b"I,1,", Line::Insert(1, "")),
            (b"I,1, a, b,,c \t", Line::Insert(1, " a, b,,c \t")),
            (b"I,1,C,2", Line::Insert(1, "C,2")),
            ("I,1,ä\0\u{1b}".as_bytes(), Line::Insert(1, "ä\0\u{1b}")),
            (b"C,1", Line::Consult(1)),
            (b"A,localhost:5000", Line::Activate("localhost:5000")),
            (b"A, [::1]:5000 ", Line::Activate("[::1]:5000")),
            (b"A,", Line::Activate("")),
            (b"T", Line::Terminate),
        ] {
            assert_eq!(pair(line), expect, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn carriage_return_belongs_to_the_line_end() {
        assert_eq!(pair(b"I,1,one\r"), Line::Insert(1, "one"));
        assert_eq!(pair(b"I,1,one\r\r"), Line::Insert(1, "one\r"));
        assert_eq!(pair(b"C,1\r"), Line::Consult(1));
        assert_eq!(pair(b"A,h:1\r"), Line::Activate("h:1"));
        assert_eq!(pair(b"T\r"), Line::Terminate);
        assert_eq!(pair(b"\r"), Line::Ignored);
    }

    #[test]
    fn key_is_a_number_of_32_bits() {
        for (key, expect) in [
            ("0", 0),
            ("-0", 0),
            ("+7", 7),
            (" 7", 7),
            ("\t-7 ", -7),
            ("0000000000000007", 7),
            ("2147483647", i32::MAX),
            ("-2147483648", i32::MIN),
        ] {
            assert_eq!(pair(format!("C,{key}").as_bytes()), Line::Consult(expect), "{key}");
            assert_eq!(pair(format!("I,{key},x").as_bytes()), Line::Insert(expect, "x"), "{key}");
        }
    }

    #[test]
    fn key_beyond_32_bits_is_wrong() {
        let long = "9".repeat(100_000);
        for key in ["2147483648", "-2147483649", "+2147483648", "99999999999999999999999", &long] {
            for line in [format!("C,{key}"), format!("I,{key},x")] {
                let Line::Wrong(why) = pair(line.as_bytes()) else { panic!("{key} is taken") };
                assert!(why.contains("keys are -2147483648 to 2147483647"), "{why}");
                assert!(why.len() < 120, "{why}");
            }
        }
    }

    #[test]
    fn text_that_cannot_be_stored_is_wrong() {
        assert_eq!(
            pair(b"I,1,a\xff"),
            Line::Wrong("the text is not UTF-8 from its byte 2 on: convert the file".into())
        );
        assert_eq!(pair(b"A,\xff:1"), Line::Wrong("the address is not UTF-8".into()));
        let mut line = b"I,1,".to_vec();
        line.resize(4 + VALUE_BYTES_MAX, b'x');
        assert!(matches!(pair(&line), Line::Insert(1, text) if text.len() == VALUE_BYTES_MAX));
        line.push(b'x');
        let expect = "the text has 8388609 bytes, and a text has at most 8388608";
        assert_eq!(pair(&line), Line::Wrong(expect.into()));
    }

    #[test]
    fn anything_else_is_ignored() {
        for line in [
            &b""[..],
            b" ",
            b"x",
            b"T ",
            b" T",
            b"t",
            b"T,",
            b"TT",
            b"I",
            b"I,",
            b"I,1",
            b"I,,x",
            b"I,one,x",
            b"I,1.0,x",
            b"I,1 2,x",
            b"I,0x1,x",
            b"I,1_0,x",
            b"I,--1,x",
            b"I,+,x",
            b"I ,1,x",
            b"i,1,x",
            b"C",
            b"C,",
            b"C,x",
            b"C,1,2",
            b"C,1;",
            b"c,1",
            b"C\0,1",
            b"C,\xff",
            b"C,\xd9\xa1", // a digit, but of another script
            b"A",
            b"# I,1,x",
            b"\xff\xfe\0\x01",
            b"\xef\xbb\xbfC,1",
        ] {
            assert_eq!(pair(line), Line::Ignored, "{}", line.escape_ascii());
            assert_eq!(central(line), Line::Ignored, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn central_server_is_asked_for_keys_alone() {
        assert_eq!(central(b"C,-5\r"), Line::Consult(-5));
        assert_eq!(central(b"T"), Line::Terminate);
        assert!(matches!(central(b"C,2147483648"), Line::Wrong(_)));
        for line in [&b"I,1,x"[..], b"I,2147483648,x", b"I,1,\xff", b"A,h:1", b"A,\xff"] {
            assert_eq!(central(line), Line::Ignored, "{}", line.escape_ascii());
        }
    }
}
