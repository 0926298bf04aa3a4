//! Keys and values in JSON: strings, base64 where they are not UTF-8, and numbers.

use bytes::Bytes;
use serde_json::Value as Json;

use super::Fields;
use crate::history::value;

/// Writes a text.
pub(super) fn put(fields: &mut Fields, field: &str, text: &Bytes) {
    let number = value::written(text).filter(|written| value::decimal(written).as_deref() == Some(written));
    match (number.and_then(|number| number.parse().ok()), std::str::from_utf8(text)) {
        (Some(number), _) => fields.insert(field.into(), Json::Number(number)),
        (None, Ok(text)) => fields.insert(field.into(), text.into()),
        (None, Err(_)) => fields.insert(format!("{field}_base64"), encode(text).into()),
    };
}

/// Writes a text, or null.
pub(super) fn put_or_null(fields: &mut Fields, field: &str, text: Option<&Bytes>) {
    match text {
        Some(text) => put(fields, field, text),
        None => drop(fields.insert(field.into(), Json::Null)),
    }
}

/// Reads a text that may be left out (`None`) or null (`Some(None)`).
pub(super) fn get(fields: &Fields, field: &str) -> Result<Option<Option<Bytes>>, String> {
    if let Some(encoded) = fields.get(&format!("{field}_base64")) {
        let decoded = encoded.as_str().and_then(decode);
        return decoded
            .map(|text| Some(Some(text)))
            .ok_or_else(|| format!("'{field}_base64' is {encoded}, which is no base64"));
    }
    match fields.get(field) {
        None => Ok(None),
        Some(Json::Null) => Ok(Some(None)),
        Some(json) => scalar(field, json).map(|text| Some(Some(text))),
    }
}

/// Reads a text that must be there.
pub(super) fn must(fields: &Fields, field: &str) -> Result<Bytes, String> {
    get(fields, field)?.flatten().ok_or_else(|| format!("the event lacks its '{field}'"))
}

/// A string, or a number: equal numbers are the same, and no string is.
pub(in crate::history) fn scalar(field: &str, json: &Json) -> Result<Bytes, String> {
    match json {
        Json::String(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        Json::Number(number) => {
            let number = number.to_string();
            let written = value::decimal(&number)
                .ok_or_else(|| format!("'{field}' is {number}, whose exponent is too large"))?;
            Ok(value::marked(&written))
        }
        other => Err(format!("'{field}' is {other}, but must be a text or a number")),
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding (RFC 4648, section 4).
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let sextet = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= chunk.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}

fn decode(text: &str) -> Option<Bytes> {
    let digits = text.trim_end_matches('=').as_bytes();
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for chunk in digits.chunks(4) {
        let mut bits = 0;
        for digit in chunk {
            bits = bits << 6 | ALPHABET.iter().position(|known| known == digit)? as u32;
        }
        bits <<= 6 * (4 - chunk.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_rfc_4648_vectors() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(encode(plain.as_bytes()), coded);
            assert_eq!(decode(coded), Some(Bytes::from(plain)));
        }
    }

    #[test]
    fn base64_garbled_is_refused() {
        for text in ["Zg", "Z===", "Zg=a", "Z!==", "===="] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
