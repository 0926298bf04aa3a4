//! The same commands on the merged layout: each op is made into rows, as whoever takes it would, and these are merged.

use kv::merged::{self, Found, Look, Newest, Rank, Row};
use kv::{Direction, Error, Key, Op, Protocol, ShardId, Version};
use storage::{Clock, Done, Read, Table};

use super::{parse, show};

/// Makes rows of an op, at a version after the newest, and what it answers of what the shard holds; an op that makes none advances the shard.
/// A read of what was is one of the table.
pub fn make(
    table: &Table,
    (shard, protocol): (ShardId, Protocol),
    proposed: Version,
    op: &Op,
) -> (Vec<Op>, Option<Done>) {
    if op.is_own() {
        return (vec![op.clone()], None);
    }
    let version = proposed.after(table.applied(shard).last);
    if let Some(why) = merged::refusal(protocol, op) {
        return (Vec::new(), Some(Done { result: Err(Error::Invalid(why.into())), version }));
    }
    let Some(look) = merged::look(op) else {
        let Read::Done { result, last, .. } = table.read(shard, op, Clock::Shard).unwrap() else {
            panic!("the shard's clock needs no advance")
        };
        return (Vec::new(), Some(Done { result, version: last }));
    };
    let Found::Rows { rows, next } = table.look(shard, &look).unwrap() else { panic!("rows are found") };
    let mut before = Newest::of(match &look {
        Look::Range { direction, .. } => *direction,
        _ => Direction::Forward,
    });
    before.add_page(rows, next);
    let rows = merged::make(op, version, &before);
    let answer = merged::answer(op, version, &before).expect("what is not refused is answered");
    let own = match rows.is_empty() {
        true => Op::Advance { to: version, rules: None },
        false => Op::Merge { rows },
    };
    (vec![own], Some(Done { result: Ok(answer), version }))
}

/// `merge ROW..`, `collect NAME..`; a row is `K@MICROS=V`, `K@MICROS~` (deleted) or `K@MICROS+` (expired), and behind it, with commas,
/// `until=MICROS`, `created=MICROS`, `changes=N`, `was=MICROS`, `floor=MICROS` and `known=yes`; a name has its floor behind a slash.
pub fn op(text: &str) -> Option<Op> {
    let (verb, rest) = text.split_once(' ')?;
    match verb {
        "merge" => Some(Op::Merge { rows: rest.split(' ').map(row).collect() }),
        "collect" => Some(Op::Collect { tombstones: rest.split(' ').map(name).collect() }),
        _ => None,
    }
}

fn row(text: &str) -> Row {
    let mut parts = text.split(',');
    let head = parts.next().unwrap();
    let (key, rest) = head.split_once('@').unwrap();
    let end = rest.find(['=', '~', '+']).unwrap();
    let version = parse::version(&rest[..end]);
    let value = rest[end..].strip_prefix('=').map(|value| value.to_owned().into());
    let mut row = Row::tombstone(key.to_owned().into(), version, None);
    if value.is_some() || rest[end..].starts_with('+') {
        row = Row { value, created: version, changes: 1, expired: rest[end..].starts_with('+'), ..row };
    }
    for part in parts {
        let (what, said) = part.split_once('=').unwrap();
        match what {
            "until" => row.deadline = said.parse().ok(),
            "created" => row.created = parse::version(said),
            "changes" => row.changes = said.parse().unwrap(),
            "floor" => row.floor = parse::version(said),
            "known" => row.known = said == "yes",
            "was" => row.replaced = Some(parse::version(said)),
            other => panic!("a row has no {other}"),
        }
    }
    row
}

fn name(text: &str) -> (Key, Rank) {
    let (key, rest) = text.split_once('@').unwrap();
    let (rest, floor) = rest.split_once('/').unwrap_or((rest, "0.0"));
    let version = parse::version(rest.trim_end_matches('+'));
    let rank = Rank { floor: parse::version(floor), ..Rank::of(version, rest.ends_with('+')) };
    (key.to_owned().into(), rank)
}

/// `look keys K..`, `look range FROM TO [limit=N] [after=K] [back]`, `look rows NAME..`, `look as-of MICROS FROM TO`, `look tombstones`, `look bucket of K`, `look sum of K`,
/// and `state`.
pub fn look(table: &Table, shard: ShardId, text: &str) -> Option<String> {
    let words: Vec<&str> = text.split(' ').collect();
    let key = |word: &str| Key::from(word.to_owned());
    let option = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
    let look = match words[..] {
        ["state"] => return Some(state(table, shard)),
        ["look", "keys", ..] => Look::Keys(words[2..].iter().map(|word| key(word)).collect()),
        ["look", "rows", ..] => Look::Rows(words[2..].iter().map(|word| name(word)).collect()),
        ["look", "range", from, to, ..] => Look::Range {
            from: key(from.trim_matches('\'')),
            to: (to != "-").then(|| key(to)),
            direction: if words.contains(&"back") { Direction::Backward } else { Direction::Forward },
            limit: option("limit=").map_or(0, |limit| limit.parse().unwrap()),
            after: option("after=").map(key),
        },
        ["look", "as-of", at, from, to] => Look::AsOf {
            from: key(from.trim_matches('\'')),
            to: (to != "-").then(|| key(to)),
            at: Some(parse::version(at)),
        },
        ["look", "tombstones"] => Look::Tombstones { after: None },
        ["look", "bucket", "of", of] => {
            Look::Buckets { buckets: vec![merged::bucket(of.as_bytes())], after: None }
        }
        ["look", "sum", "of", of] => {
            Look::Digests { first: merged::bucket(of.as_bytes()), count: 1, width: 1 }
        }
        _ => return None,
    };
    Some(found(&table.look(shard, &look).unwrap()))
}

fn state(table: &Table, shard: ShardId) -> String {
    let applied = table.applied(shard);
    let usage = applied.standing.usage;
    let (last, floor) = (show::version(applied.last), show::version(table.floor(shard)));
    format!("last {last}, floor {floor}, {} keys of {} bytes", usage.keys, usage.bytes)
}

fn found(found: &Found) -> String {
    let (mut shown, next): (Vec<String>, _) = match found {
        Found::Rows { rows, next } => (rows.iter().map(row_text).collect(), next),
        Found::Names { names, next } => {
            (names.iter().map(|(key, rank)| name_text(key, *rank)).collect(), next)
        }
        Found::Digests(sums) => (sums.iter().map(|sum| format!("{sum:016x}")).collect(), &None),
    };
    if shown.is_empty() {
        shown.push("nothing".into());
    }
    shown.extend(next.as_ref().map(|next| format!("next {}", next.escape_ascii())));
    shown.join("; ")
}

fn name_text(key: &Key, rank: Rank) -> String {
    let floor =
        if rank.floor > Version::ZERO { format!("/{}", show::version(rank.floor)) } else { String::new() };
    let expired = if rank.expired { "+" } else { "" };
    format!("{}@{}{expired}{floor}", key.escape_ascii(), show::version(rank.version))
}

fn row_text(row: &Row) -> String {
    let name = name_text(&row.key, row.rank());
    let mut text = match &row.value {
        Some(value) => format!("{name}={}", value.escape_ascii()),
        None if row.expired => name,
        None => format!("{name}~"),
    };
    if row.changes > 0 {
        text.push_str(&format!(" (created {}, changes {})", show::version(row.created), row.changes));
    }
    text.extend(row.deadline.map(|deadline| format!(" until {deadline}")));
    text.extend(row.replaced.map(|replaced| format!(" was {}", show::version(replaced))));
    text
}
