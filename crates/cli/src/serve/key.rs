//! The values of the file: each is the text that its option takes, or a number where that is one.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::parse::{self, Deleted, Engine, History};

/// The key of its name, as all others here.
pub fn name<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    text(value, parse::name).map(Some)
}

pub fn peers<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<(String, String)>, D::Error> {
    let peers: Vec<Peer> = Deserialize::deserialize(value)?;
    Ok(peers.into_iter().map(|Peer(peer)| peer).collect())
}

pub fn addresses<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<String>, D::Error> {
    let addresses: Vec<Address> = Deserialize::deserialize(value)?;
    Ok(addresses.into_iter().map(|Address(address)| address).collect())
}

pub fn address<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    text(value, parse::address).map(Some)
}

pub fn zone<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    text(value, parse::zone).map(Some)
}

pub fn engine<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Engine>, D::Error> {
    text(value, |name| Engine::from_str(name, false).map_err(|_| "an engine is memory or disk".into()))
        .map(Some)
}

pub fn history<'de, D: Deserializer<'de>>(value: D) -> Result<Option<History>, D::Error> {
    word(value, str::parse).map(Some)
}

pub fn deleted_history<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Deleted>, D::Error> {
    word(value, str::parse).map(Some)
}

pub fn shards<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u32>, D::Error> {
    word(value, parse::shards).map(Some)
}

pub fn replicas<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u16>, D::Error> {
    word(value, parse::replicas).map(Some)
}

pub fn cores<'de, D: Deserializer<'de>>(value: D) -> Result<Option<usize>, D::Error> {
    word(value, parse::cores).map(Some)
}

pub fn size<'de, D: Deserializer<'de>>(value: D) -> Result<Option<usize>, D::Error> {
    word(value, parse::size).map(Some)
}

pub fn duration<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    word(value, parse::duration).map(Some)
}

pub fn moves<'de, D: Deserializer<'de>>(value: D) -> Result<Option<usize>, D::Error> {
    word(value, parse::moves).map(Some)
}

/// HOST:PORT.
#[derive(Clone, Debug)]
pub struct Address(pub String);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Address, D::Error> {
        text(value, parse::address).map(Address)
    }
}

/// NAME=HOST:PORT.
struct Peer((String, String));

impl<'de> Deserialize<'de> for Peer {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Peer, D::Error> {
        text(value, parse::peer).map(Peer)
    }
}

/// What a text means.
pub type Parse<T> = fn(&str) -> Result<T, String>;

/// A text that `parse` takes.
pub fn text<'de, D: Deserializer<'de>, T>(value: D, parse: Parse<T>) -> Result<T, D::Error> {
    value.deserialize_str(Text(parse))
}

/// A text or a whole number that `parse` takes.
fn word<'de, D: Deserializer<'de>, T>(value: D, parse: Parse<T>) -> Result<T, D::Error> {
    value.deserialize_any(Word(parse))
}

/// It parses while it visits, so that an error is one of the very value, and has its line.
struct Text<T>(Parse<T>);

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

struct Word<T>(Parse<T>);

impl<T> Visitor<'_> for Word<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a whole number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}
