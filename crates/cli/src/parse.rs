//! The small notations of the command line: keys, values, durations, sizes, addresses, histories.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use clap::builder::{OsStringValueParser, TypedValueParser, ValueParser, ValueParserFactory};

use crate::escape;

/// A key as an argument: its bytes, with the escapes of [`crate::escape`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyWord(pub Bytes);

/// A value as an argument: its bytes as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueWord(pub Bytes);

impl ValueParserFactory for KeyWord {
    type Parser = ValueParser;

    fn value_parser() -> ValueParser {
        OsStringValueParser::new().try_map(|word| key_of(word).map(KeyWord)).into()
    }
}

impl ValueParserFactory for ValueWord {
    type Parser = ValueParser;

    fn value_parser() -> ValueParser {
        OsStringValueParser::new().map(|word| ValueWord(word.into_vec().into())).into()
    }
}

/// The key of an argument.
pub fn key_of(word: OsString) -> Result<Bytes, String> {
    escape::read(word.into_vec().into())
}

/// How much of the past of a key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// So many revisions, the newest included. At least 1.
    Count(u32),
    /// All.
    All,
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            History::Count(count) => write!(f, "{count}"),
            History::All => f.write_str("all"),
        }
    }
}

impl FromStr for History {
    type Err = String;

    fn from_str(text: &str) -> Result<History, String> {
        match text.parse() {
            Ok(count) if count > 0 => Ok(History::Count(count)),
            _ if text == "all" => Ok(History::All),
            _ => Err("a history is a count of revisions of 1 or more, or all".into()),
        }
    }
}

/// How long the revisions of a deleted key are kept: a duration, or for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// In microseconds; `u64::MAX` = for ever.
    pub micros: u64,
}

impl Deleted {
    /// When nothing else is said.
    pub const USUAL: Deleted = Deleted { micros: server::Config::DELETED_MICROS };
}

impl fmt::Display for Deleted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.micros {
            u64::MAX => f.write_str("all"),
            micros => f.write_str(&kv::keyspace::duration(micros)),
        }
    }
}

impl FromStr for Deleted {
    type Err = String;

    fn from_str(text: &str) -> Result<Deleted, String> {
        if text == "all" {
            return Ok(Deleted { micros: u64::MAX });
        }
        let kept = duration(text).map_err(|error| format!("{error}; or all, for ever"))?;
        Ok(Deleted { micros: kept.as_micros() as u64 })
    }
}

/// Where a node keeps its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// In memory, with checkpoint files and the log on disk.
    Memory,
    /// On disk.
    Disk,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Memory => "memory",
            Engine::Disk => "disk",
        })
    }
}

/// A duration: a number with `us`, `ms`, `s`, `m`, `h` or `d` behind it; without, seconds. Not zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let micros = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" | "" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return Err("a duration is a number and us, ms, s, m, h or d, as in 10s".into()),
    };
    match number.parse().ok().and_then(|number: u64| number.checked_mul(micros)) {
        Some(0) => Err("a duration is longer than nothing".into()),
        Some(micros) => Ok(Duration::from_micros(micros)),
        None => Err("a duration is a whole number and its unit, as in 10s or 500ms".into()),
    }
}

/// How long a request waits: a duration within the store's limit.
pub fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = duration(text)?;
    if timeout > Duration::from_millis(kv::TIMEOUT_MILLIS_MAX) {
        return Err(format!("a request waits for at most {} s", kv::TIMEOUT_MILLIS_MAX / 1000));
    }
    Ok(timeout)
}

/// A time to live: a duration, or `never`.
pub fn deadline(text: &str) -> Result<Deadline, String> {
    if text == "never" { Ok(Deadline::Never) } else { duration(text).map(Deadline::In) }
}

/// When a key expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// Not at all.
    Never,
    /// So long from now.
    In(Duration),
}

/// A size in bytes: a number with `K`, `M` or `G` (powers of 1024) behind it, `KiB` and the like as well.
pub fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split_unit(text);
    let shift = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        _ => {
            return Err("a size is a number of bytes, with K, M or G behind it if you like, as in 64M".into());
        }
    };
    let bytes = number.parse().ok().and_then(|number: usize| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "a size is a whole number of bytes, as in 64M".into())
}

/// How many revisions of a key a keyspace keeps: a count, `all`, or a duration with its unit.
pub fn keyspace_history(text: &str) -> Result<kv::keyspace::History, String> {
    use kv::keyspace::History;
    match text.parse::<u32>() {
        Ok(count) if count > 0 => Ok(History::Count(count)),
        Ok(_) => Err("a history is of 1 revision or more, the newest included".into()),
        Err(_) if text == "all" => Ok(History::All),
        Err(_) => duration(text).map(|time| History::Micros(time.as_micros() as u64)).map_err(|_| {
            "a history is a count of revisions, all, or a duration with its unit, as in 100 or 7d".into()
        }),
    }
}

/// For how many secondaries a write waits.
pub fn sync(text: &str) -> Result<kv::keyspace::Secondaries, String> {
    use kv::keyspace::Secondaries;
    match text {
        "all" => Ok(Secondaries::All),
        number => number.parse().map(Secondaries::Count).map_err(|_| {
            "a write waits for all replicas in sync, or for a number of them beside the primary: all, or 0, 1, 2 ..".into()
        }),
    }
}

/// What replicas weigh: numbers with commas between.
pub fn weights(text: &str) -> Result<kv::keyspace::Weights, String> {
    let each: Result<Vec<u32>, _> = text.split(',').map(|word| word.trim().parse()).collect();
    let each = each
        .map_err(|_| "give a weight for each replica, in the order of their nodes, as in 1,2,1".to_owned())?;
    kv::keyspace::Weights::new(&each)
}

/// A limit of bytes, or `none`, which is 0.
pub fn quota_bytes(text: &str) -> Result<u64, String> {
    if text == "none" {
        return Ok(0);
    }
    match size(text)? {
        0 => Err("a quota is of 1 byte or more, or none".into()),
        bytes => Ok(bytes as u64),
    }
}

/// A limit of keys, or `none`, which is 0.
pub fn quota_keys(text: &str) -> Result<u64, String> {
    let keys = if text == "none" { Some(0) } else { text.parse().ok().filter(|keys| *keys > 0) };
    keys.ok_or_else(|| "a quota is of 1 key or more, or none".into())
}

/// How many shards the first keyspace has.
pub fn shards(text: &str) -> Result<u32, String> {
    let shards = text.parse().ok().filter(|shards| (1..=SHARDS_MAX).contains(shards));
    shards.ok_or_else(|| format!("a keyspace has 1 to {SHARDS_MAX} shards"))
}

/// More than this cost more than they bring: each has elections and heartbeats.
const SHARDS_MAX: u32 = 1024;

/// How many replicas each shard of a keyspace has.
pub fn replicas(text: &str) -> Result<u16, String> {
    let most = server::Config::REPLICAS_MAX;
    let replicas = text.parse().ok().filter(|replicas| (1..=most).contains(replicas));
    replicas.ok_or_else(|| format!("a shard has 1 to {most} replicas"))
}

/// With fewer copies no write is taken.
pub fn min_copies(text: &str) -> Result<u16, String> {
    replicas(text).map_err(|_| "min-copies is 1 to as many as there are replicas".into())
}

/// How many cores a node uses.
pub fn cores(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&cores| cores > 0).ok_or_else(|| "a node uses 1 core or more".into())
}

/// How many shards change nodes at once.
pub fn moves(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&moves| moves > 0).ok_or_else(|| "1 move at a time or more".into())
}

/// An address: HOST:PORT.
pub fn address(text: &str) -> Result<String, String> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) => Ok(text.into()),
        _ => Err("an address is HOST:PORT, as in 127.0.0.1:7401".into()),
    }
}

/// The name of a node: up to 64 letters, digits, `-`, `_` and `.`.
pub fn name(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.chars().all(fine) || text.starts_with('.') {
        return Err("a name is 1 to 64 letters, digits, '-', '_' and '.', as in n1".into());
    }
    Ok(text.into())
}

/// What fails together: up to 64 printable characters.
pub fn zone(text: &str) -> Result<String, String> {
    let is_fine = (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    match is_fine && text.trim() == text {
        true => Ok(text.into()),
        false => Err("a zone is 1 to 64 printable characters, as in rack-1".into()),
    }
}

/// One member of a cluster: NAME=HOST:PORT.
pub fn peer(text: &str) -> Result<(String, String), String> {
    let (who, at) = text.split_once('=').ok_or("a peer is NAME=HOST:PORT, as in n1=127.0.0.1:7421")?;
    Ok((name(who)?, address(at)?))
}

/// A name stands in tables and in file names.
const NAME_BYTES_MAX: usize = 64;

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_with_each_unit_is_read() {
        assert_eq!(duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86400)));
    }

    #[test]
    fn duration_that_is_none_is_refused() {
        for text in ["", "s", "0s", "-1s", "1.5s", "10x", "99999999999999999999s", "9999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn size_with_each_unit_is_read() {
        assert_eq!((size("7"), size("1K"), size("64M")), (Ok(7), Ok(1024), Ok(64 << 20)));
        assert_eq!((size("1KiB"), size("2GB"), size("0")), (Ok(1024), Ok(2 << 30), Ok(0)));
        assert!(size("x").is_err() && size("1T").is_err() && size("99999999999999999999").is_err());
    }

    #[test]
    fn address_without_host_or_port_is_refused() {
        assert_eq!(address("[::1]:7401"), Ok("[::1]:7401".into()));
        for text in ["", "host", ":7401", "host:", "host:x", "host:70000"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn deleted_is_written_as_it_is_read() {
        for text in ["5m", "90s", "1h", "36h", "2d", "250ms", "7us", "all"] {
            assert_eq!(text.parse::<Deleted>().map(|kept| kept.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(Deleted::USUAL.to_string(), "5m");
        assert!("0s".parse::<Deleted>().is_err() && "never".parse::<Deleted>().is_err());
    }

    #[test]
    fn history_zero_is_refused() {
        assert_eq!("3".parse(), Ok(History::Count(3)));
        assert_eq!("all".parse(), Ok(History::All));
        assert!("0".parse::<History>().is_err() && "some".parse::<History>().is_err());
    }

    #[test]
    fn history_and_quotas_of_a_keyspace_are_read() {
        use kv::keyspace::History;
        assert_eq!(keyspace_history("3"), Ok(History::Count(3)));
        assert_eq!(keyspace_history("all"), Ok(History::All));
        assert_eq!(keyspace_history("2h"), Ok(History::Micros(7_200_000_000)));
        assert!(["0", "", "some", "0s"].iter().all(|text| keyspace_history(text).is_err()));
        assert_eq!((quota_bytes("2G"), quota_bytes("none"), quota_keys("7")), (Ok(2 << 30), Ok(0), Ok(7)));
        assert!(quota_bytes("0").is_err() && quota_keys("0").is_err() && quota_keys("x").is_err());
    }

    #[test]
    fn peer_is_name_and_address() {
        assert_eq!(peer("n1=127.0.0.1:7421"), Ok(("n1".into(), "127.0.0.1:7421".into())));
        assert!(peer("127.0.0.1:7421").is_err() && peer("a b=h:1").is_err() && peer("../n1=h:1").is_err());
    }
}
