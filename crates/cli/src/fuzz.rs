//! What people type, and the file of a local cluster, as plain functions over bytes, for the crate `fuzz`.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use reedline::Completer;

use crate::data::txn;
use crate::shell::{complete, line};
use crate::up::folder;
use crate::{escape, parse, words};

/// A line of the shell; and its completion wherever the cursor stands.
pub fn line(bytes: &[u8]) {
    if let Ok(words) = words::split(bytes) {
        let _ = line::parse(words);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut completion = complete::Words::new(line::definition());
    for (at, _) in text.char_indices() {
        completion.complete(text, at);
    }
    completion.complete(text, text.len());
}

/// A condition or an op of a transaction.
pub fn transaction(bytes: &[u8]) {
    let _ = txn::condition(bytes);
    if let Ok(op) = txn::op(bytes) {
        let _ = op.validate();
    }
}

/// The small notations.
pub fn notation(bytes: &[u8]) {
    let _ = escape::read(bytes.to_vec().into());
    let written = escape::write(bytes).into_owned();
    assert_eq!(escape::read(written.into()).as_deref(), Ok(bytes));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = (parse::duration(text), parse::timeout(text), parse::deadline(text), parse::size(text));
    let _ = (parse::address(text), parse::name(text), parse::peer(text));
    printed_parses::<parse::History>(text);
    printed_parses::<kv::Version>(text);
    printed_parses::<kv::Level>(text);
    printed_parses::<kv::Protocol>(text);
}

fn printed_parses<T: FromStr<Err = String> + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse(), Ok(value));
    }
}

/// `cluster.json`.
pub fn cluster(bytes: &[u8]) {
    let _ = folder::parse(bytes);
}
