//! The bytes of what a keyspace is, and is asked to be.

use bytes::{BufMut, BytesMut};

use super::{Malformed, Reader, decode_protocol, encode_protocol, put_bytes, put_list, put_option, put_uint};
use crate::keyspace::{
    Bus, Described, Full, History, Keep, Quota, Rules, Secondaries, Settings, SyncMode, Usage, Votes,
    Weighed, Weights, Wish,
};

/// Writes what a keyspace is.
pub fn encode_settings(into: &mut BytesMut, settings: &Settings) {
    encode_protocol(into, settings.protocol);
    put_uint(into, u64::from(settings.replicas));
    put_option(into, settings.sync, encode_sync);
    put_option(into, settings.weighed, encode_weighed);
    encode_keep(into, &settings.keep);
    put_option(into, settings.quota.bytes, put_uint);
    put_option(into, settings.quota.keys, put_uint);
    encode_bus(into, &settings.bus);
}

/// Writes what carries writes from replica to replica.
pub fn encode_bus(into: &mut BytesMut, bus: &Bus) {
    put_bytes(into, bus.text().as_bytes());
}

/// Reads what carries writes from replica to replica.
pub fn decode_bus(reader: &mut Reader) -> Result<Bus, Malformed> {
    let text = reader.text()?;
    let bus = Bus::parse(&text).ok().filter(|bus| bus.text() == text);
    bus.ok_or(Malformed("a bus is neither the nodes' connections nor the whole address of a broker"))
}

/// Writes whom a write waits for.
pub fn encode_sync(into: &mut BytesMut, sync: SyncMode) {
    match sync {
        SyncMode::All { min_copies } => {
            into.put_u8(1);
            put_uint(into, u64::from(min_copies));
        }
        SyncMode::Some { secondaries, interval_micros } => {
            into.put_u8(2);
            put_uint(into, u64::from(secondaries));
            put_uint(into, interval_micros);
        }
    }
}

/// Reads whom a write waits for.
pub fn decode_sync(reader: &mut Reader) -> Result<SyncMode, Malformed> {
    match reader.u8()? {
        1 => Ok(SyncMode::All { min_copies: reader.u16()? }),
        2 => Ok(SyncMode::Some { secondaries: reader.u16()?, interval_micros: reader.uint()? }),
        _ => Err(Malformed("whom a write waits for has an unknown tag")),
    }
}

/// Writes what members weigh, and what reads and writes need of it.
pub fn encode_weighed(into: &mut BytesMut, weighed: Weighed) {
    encode_weights(into, weighed.weights);
    put_uint(into, u64::from(weighed.votes.read));
    put_uint(into, u64::from(weighed.votes.write));
}

/// Reads what members weigh, and what reads and writes need of it.
pub fn decode_weighed(reader: &mut Reader) -> Result<Weighed, Malformed> {
    let weights = decode_weights(reader)?;
    let votes = Votes { read: reader.u32()?, write: reader.u32()? };
    votes.check(&weights.each()).map_err(|_| Malformed("a read may miss a write"))?;
    Ok(Weighed { weights, votes })
}

fn encode_weights(into: &mut BytesMut, weights: Weights) {
    put_list(into, &weights.each(), |into, weight| put_uint(into, u64::from(*weight)));
}

fn decode_weights(reader: &mut Reader) -> Result<Weights, Malformed> {
    Weights::new(&reader.list(Reader::u32)?).map_err(|_| Malformed("members weigh what none can"))
}

/// Reads what a keyspace is.
pub fn decode_settings(reader: &mut Reader) -> Result<Settings, Malformed> {
    Ok(Settings {
        protocol: decode_protocol(reader)?,
        replicas: reader.u16()?,
        sync: reader.option(decode_sync)?,
        weighed: reader.option(decode_weighed)?,
        keep: decode_keep(reader)?,
        quota: decode_quota(reader)?,
        bus: decode_bus(reader)?,
    })
}

/// Reads a quota: its bytes, and its keys.
pub fn decode_quota(reader: &mut Reader) -> Result<Quota, Malformed> {
    Ok(Quota { bytes: reader.option(Reader::uint)?, keys: reader.option(Reader::uint)? })
}

/// Writes what shards keep.
pub fn encode_keep(into: &mut BytesMut, keep: &Keep) {
    put_option(into, keep.history, encode_history);
    put_option(into, keep.deleted_micros, put_uint);
    put_option(into, keep.ttl_micros, put_uint);
}

/// Reads what shards keep.
pub fn decode_keep(reader: &mut Reader) -> Result<Keep, Malformed> {
    Ok(Keep {
        history: reader.option(decode_history)?,
        deleted_micros: reader.option(Reader::uint)?,
        ttl_micros: reader.option(Reader::uint)?,
    })
}

/// Writes what a shard goes by.
pub fn encode_rules(into: &mut BytesMut, rules: &Rules) {
    encode_keep(into, &rules.keep);
    put_option(into, rules.full, |into, Full { quota, usage }| {
        put_option(into, quota.bytes, put_uint);
        put_option(into, quota.keys, put_uint);
        encode_usage(into, usage);
    });
}

/// Reads what a shard goes by.
pub fn decode_rules(reader: &mut Reader) -> Result<Rules, Malformed> {
    let full = |reader: &mut Reader| Ok(Full { quota: decode_quota(reader)?, usage: decode_usage(reader)? });
    Ok(Rules { keep: decode_keep(reader)?, full: reader.option(full)? })
}

/// Writes what is held.
pub fn encode_usage(into: &mut BytesMut, usage: Usage) {
    put_uint(into, usage.bytes);
    put_uint(into, usage.keys);
}

/// Reads what is held.
pub fn decode_usage(reader: &mut Reader) -> Result<Usage, Malformed> {
    Ok(Usage { bytes: reader.uint()?, keys: reader.uint()? })
}

fn encode_history(into: &mut BytesMut, history: History) {
    match history {
        History::All => into.put_u8(1),
        History::Count(count) => {
            into.put_u8(2);
            put_uint(into, u64::from(count));
        }
        History::Micros(micros) => {
            into.put_u8(3);
            put_uint(into, micros);
        }
    }
}

fn decode_history(reader: &mut Reader) -> Result<History, Malformed> {
    match reader.u8()? {
        1 => Ok(History::All),
        2 => Ok(History::Count(reader.u32()?)),
        3 => Ok(History::Micros(reader.uint()?)),
        _ => Err(Malformed("a history has an unknown tag")),
    }
}

pub(super) fn encode_wish(into: &mut BytesMut, wish: &Wish) {
    put_option(into, wish.protocol, encode_protocol);
    put_option(into, wish.replicas, |into, replicas| put_uint(into, u64::from(replicas)));
    put_option(into, wish.shards, |into, shards| put_uint(into, u64::from(shards)));
    // All, or one more than the number.
    let number = |sync| match sync {
        Secondaries::All => 0,
        Secondaries::Count(count) => u64::from(count) + 1,
    };
    put_option(into, wish.sync.map(number), put_uint);
    put_option(into, wish.min_copies, |into, copies| put_uint(into, u64::from(copies)));
    put_option(into, wish.interval_micros, put_uint);
    put_option(into, wish.weights, encode_weights);
    put_option(into, wish.read, |into, read| put_uint(into, u64::from(read)));
    put_option(into, wish.write, |into, write| put_uint(into, u64::from(write)));
    put_option(into, wish.history, encode_history);
    put_option(into, wish.deleted_micros, put_uint);
    put_option(into, wish.ttl_micros, put_uint);
    put_option(into, wish.quota_bytes, put_uint);
    put_option(into, wish.quota_keys, put_uint);
    put_option(into, wish.bus.as_ref(), encode_bus);
}

pub(super) fn decode_wish(reader: &mut Reader) -> Result<Wish, Malformed> {
    Ok(Wish {
        protocol: reader.option(decode_protocol)?,
        replicas: reader.option(Reader::u16)?,
        shards: reader.option(Reader::u32)?,
        sync: reader.option(decode_secondaries)?,
        min_copies: reader.option(Reader::u16)?,
        interval_micros: reader.option(Reader::uint)?,
        weights: reader.option(decode_weights)?,
        read: reader.option(Reader::u32)?,
        write: reader.option(Reader::u32)?,
        history: reader.option(decode_history)?,
        deleted_micros: reader.option(Reader::uint)?,
        ttl_micros: reader.option(Reader::uint)?,
        quota_bytes: reader.option(Reader::uint)?,
        quota_keys: reader.option(Reader::uint)?,
        bus: reader.option(decode_bus)?,
    })
}

fn decode_secondaries(reader: &mut Reader) -> Result<Secondaries, Malformed> {
    let count = |number: u64| u16::try_from(number).map(Secondaries::Count);
    match reader.uint()?.checked_sub(1) {
        None => Ok(Secondaries::All),
        Some(number) => count(number).map_err(|_| Malformed("a write waits for too many")),
    }
}

pub(super) fn encode_described(into: &mut BytesMut, keyspace: &Described) {
    put_bytes(into, keyspace.name.as_bytes());
    encode_settings(into, &keyspace.settings);
    put_uint(into, u64::from(keyspace.shards));
    put_uint(into, u64::from(keyspace.changing));
    put_uint(into, u64::from(keyspace.under_another));
    put_option(into, keyspace.usage, encode_usage);
}

pub(super) fn decode_described(reader: &mut Reader) -> Result<Described, Malformed> {
    Ok(Described {
        name: reader.text()?,
        settings: decode_settings(reader)?,
        shards: reader.u32()?,
        changing: reader.u32()?,
        under_another: reader.u32()?,
        usage: reader.option(decode_usage)?,
    })
}
