//! Keyspaces: how they are named, and what they are asked to be.

/// The longest name of a keyspace, in bytes: that of a label in the names of hosts, so that tools take it.
pub const NAME_BYTES_MAX: usize = 63;

/// Whether this can be the name of a keyspace that clients ask; the text says what can.
pub fn check_name(name: &str) -> Result<(), String> {
    let shown = name.escape_debug();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(fits) {
        return Err(format!(
            "'{shown}' is no name for a keyspace: use 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' and '.'"
        ));
    }
    if name.starts_with(['_', '.', '-']) {
        return Err(format!(
            "'{shown}' is no name for a keyspace: it begins with a letter or a digit ('_' is for the store's own)"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_letters_digits_and_marks_is_one() {
        for name in ["default", "a", "7", "Orders-2026_v1.1", &"n".repeat(NAME_BYTES_MAX)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn name_that_is_reserved_too_long_or_of_other_letters_is_refused_with_what_can_be() {
        for name in ["", "_directory", "_", ".", "-a", "a b", "a/b", "ä", &"n".repeat(NAME_BYTES_MAX + 1)] {
            let refused = check_name(name).expect_err(name);
            assert!(refused.contains("is no name for a keyspace: "), "{refused}");
        }
    }
}
