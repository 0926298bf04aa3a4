//! Bytes as text on one line, and back: how keys and values stand in lines, and keys in arguments.
//!
//! | written | means |
//! |---|---|
//! | `\\` | a backslash |
//! | `\t`, `\n`, `\r` | a tab, a line end, a carriage return |
//! | `\xHH` | the byte of these two hexadecimal digits |
//!
//! All else stands for itself. [`write`] escapes backslashes, control characters and bytes that are not UTF-8; [`read`] gives
//! the same bytes back. It also takes what need not be escaped; a backslash before anything else is an error.

use std::borrow::Cow;

use bytes::Bytes;

/// Bytes as text on one line, whatever they are.
pub fn write(bytes: &[u8]) -> Cow<'_, str> {
    escaped(bytes, |c| c == '\\' || c.is_control())
}

/// Bytes as text that cannot play tricks with a terminal, for people only: lines and tabs stay, and so do backslashes.
pub fn soften(bytes: &[u8]) -> Cow<'_, str> {
    escaped(bytes, |c| c.is_control() && c != '\n' && c != '\t')
}

/// The bytes of a text with escapes.
pub fn read(text: Bytes) -> Result<Bytes, String> {
    let Some(first) = text.iter().position(|&byte| byte == b'\\') else { return Ok(text) };
    let mut bytes = text[..first].to_vec();
    let mut rest = &text[first..];
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, length) = if byte == b'\\' { escape(after)? } else { (byte, 1) };
        bytes.push(byte);
        rest = &rest[length..];
    }
    Ok(bytes.into())
}

/// The byte of an escape whose backslash is gone, and how long the whole is.
fn escape(after: &[u8]) -> Result<(u8, usize), String> {
    match after {
        [b'\\', ..] => Ok((b'\\', 2)),
        [b't', ..] => Ok((b'\t', 2)),
        [b'n', ..] => Ok((b'\n', 2)),
        [b'r', ..] => Ok((b'\r', 2)),
        [b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            let digit =
                |byte: u8| char::from(byte).to_digit(16).expect("both are checked to be digits") as u8;
            Ok((digit(*high) << 4 | digit(*low), 4))
        }
        _ => {
            let length = if after.first() == Some(&b'x') { 3 } else { 1 };
            let found = write(&after[..after.len().min(length)]).into_owned();
            Err(format!("\\{found} is no escape: write \\\\ for a backslash, or \\t, \\n, \\r, \\xHH"))
        }
    }
}

fn escaped(bytes: &[u8], is_unsafe: impl Fn(char) -> bool) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.contains(&is_unsafe)
    {
        return text.into();
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                c if !is_unsafe(c) => text.push(c),
                '\\' => text.push_str("\\\\"),
                '\t' => text.push_str("\\t"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                c => push_hex(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut text),
            }
        }
        push_hex(chunk.invalid(), &mut text);
    }
    text.into()
}

fn push_hex(bytes: &[u8], text: &mut String) {
    text.extend(bytes.iter().map(|byte| format!("\\x{byte:02x}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], written: &str) {
        assert_eq!(write(bytes), written);
        assert_eq!(read(written.to_owned().into()).as_deref(), Ok(bytes), "{written}");
    }

    #[test]
    fn bytes_of_every_kind_are_written_and_read_back() {
        check(b"", "");
        check("ключ a'b\"c ".as_bytes(), "ключ a'b\"c ");
        check(b"a\\b\tc\nd\re", "a\\\\b\\tc\\nd\\re");
        check(b"\0\x1b[2J\x7f", "\\x00\\x1b[2J\\x7f");
        check(b"a\xffb\xc3", "a\\xffb\\xc3");
        // A control character that is two bytes in UTF-8.
        check("\u{9b}".as_bytes(), "\\xc2\\x9b");
        let all: Vec<u8> = (0..=u8::MAX).chain((0..=u8::MAX).rev()).collect();
        assert_eq!(read(write(&all).into_owned().into()).as_deref(), Ok(&all[..]));
        assert!(write(&all).bytes().all(|byte| byte >= b' '));
    }

    #[test]
    fn text_of_any_bytes_is_read_as_it_is_but_for_its_escapes() {
        assert_eq!(read(Bytes::from_static(b"a\xff\t\\x41")).as_deref(), Ok(&b"a\xff\tA"[..]));
        assert_eq!(read(Bytes::from_static(b"\\xFf")).as_deref(), Ok(&b"\xff"[..]));
    }

    #[test]
    fn escape_that_is_none_is_refused() {
        for text in ["\\", "a\\", "\\q", "\\x", "\\x4", "\\x4g", "\\u0041", "\\\n", "\\X41", "\\x+1"] {
            let why = read(text.into()).unwrap_err();
            assert!(why.contains("is no escape"), "{why}");
        }
    }

    #[test]
    fn text_for_a_terminal_keeps_its_lines() {
        assert_eq!(soften(b"a\\b\n\tc\r\x1b\xff"), "a\\b\n\tc\\r\\x1b\\xff");
    }
}
