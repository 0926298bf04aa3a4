//! The name of a server's node is the text that it was joined by, with what no name may have written as %XX.

use kv::Error;
use kv::admin::TEXT_BYTES_MAX;

/// What cannot be in a name, and the sign of the escape.
const ESCAPED: [char; 4] = ['%', '=', ',', '/'];

/// The name of the server that was joined by a text. [`Error::Invalid`] when that is no HOST:PORT, or too long.
pub(super) fn of_text(text: &str) -> Result<String, Error> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    if !port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0)) {
        let shown = text.escape_debug();
        return Err(Error::Invalid(format!("'{shown}' is no server: give HOST:PORT, as in localhost:50052")));
    }
    let mut name = String::with_capacity(text.len());
    for letter in text.chars() {
        match ESCAPED.contains(&letter) {
            true => name.push_str(&format!("%{:02X}", u32::from(letter))),
            false => name.push(letter),
        }
    }
    match name.len() {
        ..=TEXT_BYTES_MAX => Ok(name),
        bytes => Err(Error::TooLarge {
            what: "the address of a server".into(),
            size: bytes as u64,
            limit: TEXT_BYTES_MAX as u64,
        }),
    }
}

/// The text that a server was joined by.
pub(super) fn text(name: &str) -> String {
    let mut parts = name.split('%');
    let mut text = String::from(parts.next().unwrap_or_default());
    for part in parts {
        let code = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(code) => {
                text.push(char::from(code));
                text.push_str(&part[2..]);
            }
            None => text.push_str(part),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_as_it_was_given() {
        for given in ["localhost:50052", "[::1]:1", "dns:///h:7", "a=b,c%2:9", "ü:1"] {
            let name = of_text(given).unwrap();
            assert!(!name.contains(['=', ',', '/']), "{name}");
            assert_eq!(text(&name), given);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for given in ["", "localhost", ":1", "h:", "h:0", "h:x", "h:65536"] {
            assert!(matches!(of_text(given), Err(Error::Invalid(_))), "{given}");
        }
        assert!(matches!(of_text(&format!("{}:1", "h".repeat(254))), Err(Error::TooLarge { .. })));
    }
}
