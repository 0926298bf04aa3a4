//! Keys and values of files as bytes, such that two are the same bytes when their format means the same by them.
//!
//! A text is its bytes. Whatever else a format knows (numbers, keywords, lists) is a mark and the one way to write it, so
//! that the number `1` is neither the text `1` nor another notation of something else.

use bytes::Bytes;

/// Begins what is no text: no text in UTF-8 holds these bytes.
const MARK: &[u8] = b"\xff\xfe";

/// Numbers with more zeros than this at one end are written with an exponent.
const ZEROS_MAX: usize = 40;

/// What is no text, in the one way to write it.
pub(super) fn marked(written: &str) -> Bytes {
    [MARK, written.as_bytes()].concat().into()
}

/// How it is written, when it is no text.
pub(super) fn written(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes.strip_prefix(MARK)?).ok()
}

/// The element of a list: lists are what appends of their elements leave.
pub(super) fn element(written: &str) -> Bytes {
    marked(&format!("{written},"))
}

/// A key or value for people: texts in quotes.
pub(crate) fn show(bytes: &[u8]) -> String {
    match (written(bytes), elements(bytes)) {
        (_, Some(elements)) => format!("[{}]", elements.join(" ")),
        (Some(written), _) => written.to_owned(),
        _ => format!("\"{}\"", bytes.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'")),
    }
}

fn elements(mut bytes: &[u8]) -> Option<Vec<&str>> {
    let mut elements = Vec::new();
    while let Some(rest) = bytes.strip_prefix(MARK) {
        let end = rest.windows(MARK.len()).position(|window| window == MARK).unwrap_or(rest.len());
        elements.push(std::str::from_utf8(&rest[..end]).ok()?.strip_suffix(',')?);
        bytes = &rest[end..];
    }
    (bytes.is_empty() && !elements.is_empty()).then_some(elements)
}

/// The one way to write a decimal number, whatever its zeros, sign of zero and exponent: equal numbers are written alike.
/// `None` when it is no number, or its exponent is beyond 64 bits.
pub(super) fn decimal(text: &str) -> Option<String> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if whole.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let (right, digits) = (digits.trim_start_matches('0'), digits.trim_matches('0'));
    if digits.is_empty() {
        return Some("0".into());
    }
    let zeros = (right.len() - digits.len()) as i64;
    let exponent = exponent.checked_sub(fraction.len() as i64)?.checked_add(zeros)?;
    Some(format!("{sign}{}", scaled(digits, exponent)))
}

/// Digits and a power of ten, with a point where there are few zeros.
fn scaled(digits: &str, exponent: i64) -> String {
    let zeros = usize::try_from(exponent.unsigned_abs()).unwrap_or(usize::MAX);
    if zeros > ZEROS_MAX {
        return format!("{digits}e{exponent}");
    }
    if exponent >= 0 {
        return format!("{digits}{}", "0".repeat(zeros));
    }
    match digits.len().checked_sub(zeros) {
        Some(whole @ 1..) => format!("{}.{}", &digits[..whole], &digits[whole..]),
        _ => format!("0.{digits:0>zeros$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_equal_numbers_are_written_alike() {
        for (texts, written) in [
            (&["5", "+5", "5.0", "5e0", "0.5e1", "50E-1", "05"][..], "5"),
            (&["0", "-0", "0.00", "0e9"], "0"),
            (&["-0.25", "-25e-2", "-0.2500"], "-0.25"),
            (&["0.001", "1e-3"], "0.001"),
            (&["1200", "1.2e3"], "1200"),
            (&["1e50", "10e49"], "1e50"),
            (&["1e-50", "0.1e-49"], "1e-50"),
            (&["123456789012345678901234567890"], "123456789012345678901234567890"),
        ] {
            for text in texts {
                assert_eq!(decimal(text).as_deref(), Some(written), "{text}");
            }
        }
        assert_ne!(decimal("18446744073709551617"), decimal("18446744073709551618"));
        for text in ["", "-", ".5", "1e", "1e99999999999999999999", "x", "1.2.3", "--1", "0x1"] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }

    #[test]
    fn values_of_each_kind_are_shown_as_they_are_written() {
        let list = [element("1"), element("\"a, b\"")].concat();
        for (bytes, shown) in
            [(&b"1"[..], "\"1\""), (&marked("1"), "1"), (&marked(":a"), ":a"), (&list, "[1 \"a, b\"]")]
        {
            assert_eq!(show(bytes), shown);
        }
        assert_eq!(show(b"\xff\xfe1,\xff\xfe2"), "\"\\xff\\xfe1,\\xff\\xfe2\"");
    }
}
