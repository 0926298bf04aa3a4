//! Where a node listens: the key `listen` of its file, and the options `--listen` and `--advertise`.
//!
//! A node has any number of listeners, each with a dialect. The first native one is where clients and tools find the node: it
//! comes first, and the short form stands for it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use dialects::native::Native;
use kv::Request;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use server::Listen;
use toml::Spanned;

use super::key::{self, Address};
use crate::parse;

/// The value of the key `listen`.
#[derive(Debug)]
pub enum Key {
    /// The short form: the HOST:PORT of one native listener.
    Native(String),
    /// Tables `[[listen]]`.
    Each(Vec<Spanned<Table>>),
}

/// A table `[[listen]]`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, expecting = "a table [[listen]]")]
pub struct Table {
    dialect: Option<Spanned<String>>,
    address: Spanned<Address>,
    advertise: Option<Address>,
    #[serde(default = "usual_keyspace", deserialize_with = "keyspace")]
    keyspace: String,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default)]
    may_end: bool,
}

/// What is wrong, and at which bytes of the file.
pub type Wrong = (Range<usize>, String);

impl Key {
    /// The listeners.
    pub fn listeners(self) -> Result<Vec<Listen>, Wrong> {
        let tables = match self {
            Key::Native(address) => return Ok(vec![native(address)]),
            Key::Each(tables) => tables,
        };
        let mut listeners = Vec::new();
        for table in tables {
            let span = table.get_ref().address.span();
            listeners.push(listener(table)?);
            check(&listeners).map_err(|why| (span, why))?;
        }
        Ok(listeners)
    }
}

/// All listeners of a node: those of its file, and what the short form says of the first native one.
pub fn all(
    mut listeners: Vec<Listen>,
    address: Option<String>,
    advertise: Option<String>,
) -> Result<Vec<Listen>, String> {
    let first = listeners.iter().position(|listener| listener.dialect.name() == NATIVE);
    let mut first = match (first, address) {
        (Some(first), None) => listeners.remove(first),
        (Some(first), Some(address)) => Listen { address, ..listeners.remove(first) },
        (None, Some(address)) => native(address),
        (None, None) => return Err(NO_NATIVE.into()),
    };
    first.advertise = advertise.or(first.advertise);
    listeners.insert(0, first);
    check(&listeners)?;
    Ok(listeners)
}

/// Their sockets are among the few files that a node keeps for itself, apart from those of connections.
const LISTENERS_MAX: usize = 16;
const NATIVE: &str = "native";
const NO_NATIVE: &str = "this node has no listener of the dialect native, by which clients and tools find it: give --listen \
                         HOST:PORT, or a table [[listen]] without a dialect";

fn native(address: String) -> Listen {
    Listen::new(Arc::new(Native::new()), address)
}

fn listener(table: Spanned<Table>) -> Result<Listen, Wrong> {
    let whole = table.span();
    let Table { dialect, address, advertise, keyspace, options, may_end } = table.into_inner();
    let dialect = dialect.unwrap_or_else(|| Spanned::new(whole, NATIVE.into()));
    let named = dialects::named(dialect.get_ref(), &options).map_err(|why| (dialect.span(), why))?;
    let Address(address) = address.into_inner();
    let advertise = advertise.map(|Address(address)| address);
    Ok(Listen { dialect: named, address, advertise, keyspace, may_end })
}

/// That they are not too many, and none is where another one is. What else the names of hosts stand for shows when they are
/// listened on.
fn check(listeners: &[Listen]) -> Result<(), String> {
    if listeners.len() > LISTENERS_MAX {
        return Err(format!("a node has at most {LISTENERS_MAX} listeners"));
    }
    for (index, Listen { address, .. }) in listeners.iter().enumerate() {
        let others = listeners[..index].iter().map(|other| &other.address);
        if let Some(other) = others.into_iter().find(|other| overlap(other, address)) {
            return Err(format!(
                "a listener at {other}, and another one at {address}: give one of them another port"
            ));
        }
    }
    Ok(())
}

/// Whether two addresses have one port, and one host or every one. Port 0 is a free one each time.
fn overlap(one: &str, other: &str) -> bool {
    let parts = |address: &str| {
        let (host, port) = address.rsplit_once(':')?;
        Some((host.to_ascii_lowercase(), port.parse::<u16>().ok()?))
    };
    match (parts(one), parts(other)) {
        (Some((host, port)), Some((other_host, other_port))) => {
            let is_every = host == "*" || other_host == "*";
            port == other_port && port != 0 && (host == other_host || is_every)
        }
        _ => false,
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_any(OfKey)
    }
}

struct OfKey;

impl<'de> Visitor<'de> for OfKey {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"HOST:PORT\", or tables [[listen]]")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Key, E> {
        parse::address(text).map(Key::Native).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, tables: A) -> Result<Key, A::Error> {
        Deserialize::deserialize(SeqAccessDeserializer::new(tables)).map(Key::Each)
    }
}

fn keyspace<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    key::text(value, |name| kv::keyspace::check_name(name).map(|()| name.to_owned()))
}

fn usual_keyspace() -> String {
    Request::KEYSPACE.into()
}
