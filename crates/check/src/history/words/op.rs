//! Ops as fields of a JSON object, and back.

use kv::{Condition, Direction, Expect, Function, Op, Range, Side};
use serde_json::{Value as Json, json};

use super::{Fields, canonical, count, flag, list, name, signed, text, unsigned, version};

/// An op as fields, `f` among them.
pub(in crate::history) fn write_op(op: &Op) -> Fields {
    let mut fields = Fields::new();
    fields.insert("f".into(), name(op).into());
    match op {
        Op::Get { key, at } => {
            text::put(&mut fields, "key", key);
            put_version(&mut fields, "at", *at);
        }
        Op::GetAll { keys, at } => {
            let rows = keys.iter().map(|key| object(|row| text::put(row, "key", key)));
            fields.insert("rows".into(), rows.collect());
            put_version(&mut fields, "at", *at);
        }
        Op::Range(range) => write_range(&mut fields, range),
        Op::History { key, limit, before } => {
            text::put(&mut fields, "key", key);
            fields.insert("limit".into(), json!(limit));
            put_version(&mut fields, "before", *before);
        }
        Op::Put { key, value, deadline, previous } => {
            text::put(&mut fields, "key", key);
            text::put(&mut fields, "value", value);
            put_deadline(&mut fields, *deadline);
            put_flag(&mut fields, "previous", *previous);
        }
        Op::PutAll { rows } => {
            let row = |(key, value): &(kv::Key, kv::Value)| {
                object(|row| {
                    text::put(row, "key", key);
                    text::put(row, "value", value);
                })
            };
            fields.insert("rows".into(), rows.iter().map(row).collect());
        }
        Op::Delete { key, previous } => {
            text::put(&mut fields, "key", key);
            put_flag(&mut fields, "previous", *previous);
        }
        Op::DeleteRange { from, to } => put_bounds(&mut fields, from, to.as_ref()),
        Op::Trim { key, below } => {
            text::put(&mut fields, "key", key);
            put_version(&mut fields, "below", *below);
        }
        Op::TrimRange { from, to, below } => {
            put_bounds(&mut fields, from, to.as_ref());
            put_version(&mut fields, "below", *below);
        }
        Op::Expire { key, deadline } => {
            text::put(&mut fields, "key", key);
            put_deadline(&mut fields, *deadline);
        }
        Op::Update { key, function } => {
            text::put(&mut fields, "key", key);
            write_function(&mut fields, function);
        }
        Op::Transaction { conditions, then, otherwise } => {
            fields.insert("conditions".into(), conditions.iter().map(write_condition).collect());
            let ops = |ops: &[Op]| ops.iter().map(|op| Json::Object(write_op(op))).collect::<Json>();
            fields.insert("then".into(), ops(then));
            fields.insert("otherwise".into(), ops(otherwise));
        }
        Op::Advance { to, .. } => put_version(&mut fields, "at", Some(*to)),
        Op::Note(_) | Op::Merge { .. } | Op::Collect { .. } => {}
    }
    fields
}

/// An op from fields.
pub(in crate::history) fn read_op(fields: &Fields) -> Result<Op, String> {
    let f = fields.get("f").and_then(Json::as_str).ok_or("the event lacks its 'f': what is asked")?;
    let key = || Ok::<_, String>(text::get(fields, "key")?.flatten().unwrap_or_default());
    let op = match canonical(f) {
        "get" => Op::Get { key: key()?, at: version(fields, "at")? },
        "get-all" => Op::GetAll {
            keys: list(fields, "rows")?.iter().map(|row| text::must(row, "key")).collect::<Result<_, _>>()?,
            at: version(fields, "at")?,
        },
        "range" => Op::Range(read_range(fields)?),
        "history" => Op::History {
            key: key()?,
            limit: count(fields, "limit")?.unwrap_or(0),
            before: version(fields, "before")?,
        },
        "put" => Op::Put {
            key: key()?,
            value: text::must(fields, "value")?,
            deadline: unsigned(fields, "deadline")?,
            previous: flag(fields, "previous")?.unwrap_or(false),
        },
        "put-all" => {
            let row = |row: &Fields| Ok::<_, String>((text::must(row, "key")?, text::must(row, "value")?));
            Op::PutAll { rows: list(fields, "rows")?.iter().map(row).collect::<Result<_, _>>()? }
        }
        "delete" => Op::Delete { key: key()?, previous: flag(fields, "previous")?.unwrap_or(false) },
        "delete-range" => Op::DeleteRange {
            from: text::get(fields, "from")?.flatten().unwrap_or_default(),
            to: text::get(fields, "to")?.flatten(),
        },
        "trim" => Op::Trim { key: key()?, below: version(fields, "below")? },
        "trim-range" => Op::TrimRange {
            from: text::get(fields, "from")?.flatten().unwrap_or_default(),
            to: text::get(fields, "to")?.flatten(),
            below: version(fields, "below")?,
        },
        "expire" => Op::Expire { key: key()?, deadline: unsigned(fields, "deadline")? },
        "transaction" => Op::Transaction {
            conditions: list(fields, "conditions")?.iter().map(read_condition).collect::<Result<_, _>>()?,
            then: list(fields, "then")?.iter().map(read_op).collect::<Result<_, _>>()?,
            otherwise: list(fields, "otherwise")?.iter().map(read_op).collect::<Result<_, _>>()?,
        },
        "advance" => {
            Op::Advance { to: version(fields, "at")?.ok_or("the event lacks its 'at'")?, rules: None }
        }
        other => Op::Update { key: key()?, function: read_function(other, fields)? },
    };
    Ok(op)
}

fn write_function(fields: &mut Fields, function: &Function) {
    match function {
        Function::Append { value, .. } => text::put(fields, "value", value),
        Function::Pop { count, .. } => drop(fields.insert("count".into(), json!(count))),
        Function::Increment { by } => drop(fields.insert("by".into(), json!(by))),
        Function::Insert { value, deadline } => {
            text::put(fields, "value", value);
            put_deadline(fields, *deadline);
        }
        Function::CompareAndPut { expect, value, deadline } => {
            write_expect(fields, expect);
            text::put(fields, "value", value);
            put_deadline(fields, *deadline);
        }
    }
}

fn read_function(f: &str, fields: &Fields) -> Result<Function, String> {
    let side = if f.ends_with("-left") { Side::Left } else { Side::Right };
    match f {
        "append" | "append-left" => Ok(Function::Append { side, value: text::must(fields, "value")? }),
        "pop-left" | "pop-right" => Ok(Function::Pop { side, count: count(fields, "count")?.unwrap_or(1) }),
        "increment" => Ok(Function::Increment { by: signed(fields, "by")?.unwrap_or(1) }),
        "insert" => Ok(Function::Insert {
            value: text::must(fields, "value")?,
            deadline: unsigned(fields, "deadline")?,
        }),
        "compare-and-put" => read_compare(fields),
        _ => Err(format!(
            "'{f}' is no op known here: use get, put, delete, append, append-left, pop-left, pop-right, increment, \
             insert, compare-and-put, get-all, put-all, transaction, range, delete-range or expire"
        )),
    }
}

fn read_compare(fields: &Fields) -> Result<Function, String> {
    let deadline = unsigned(fields, "deadline")?;
    if let Some(Json::Array(pair)) = fields.get("value") {
        let [expect, value] = pair.as_slice() else {
            return Err(
                "the 'value' of a compare is a list of two: what is expected, and what to store".into()
            );
        };
        let expect = match expect {
            Json::Null => Expect::Absent,
            expect => Expect::Value(text::scalar("value", expect)?),
        };
        return Ok(Function::CompareAndPut { expect, value: text::scalar("value", value)?, deadline });
    }
    let value = text::must(fields, "value")?;
    Ok(Function::CompareAndPut { expect: read_expect(fields)?, value, deadline })
}

fn write_condition(condition: &Condition) -> Json {
    object(|fields| {
        text::put(fields, "key", &condition.key);
        write_expect(fields, &condition.expect);
    })
}

fn read_condition(fields: &Fields) -> Result<Condition, String> {
    Ok(Condition { key: text::must(fields, "key")?, expect: read_expect(fields)? })
}

fn write_expect(fields: &mut Fields, expect: &Expect) {
    match expect {
        Expect::Absent => put_flag(fields, "expect_absent", true),
        Expect::Present => put_flag(fields, "expect_present", true),
        Expect::Value(value) => text::put(fields, "expect", value),
        Expect::Version(version) => put_version(fields, "expect_version", Some(*version)),
    }
}

fn read_expect(fields: &Fields) -> Result<Expect, String> {
    if let Some(value) = text::get(fields, "expect")? {
        return Ok(value.map_or(Expect::Absent, Expect::Value));
    }
    if let Some(version) = version(fields, "expect_version")? {
        return Ok(Expect::Version(version));
    }
    match (flag(fields, "expect_absent")?, flag(fields, "expect_present")?) {
        (Some(true), None | Some(false)) => Ok(Expect::Absent),
        (None | Some(false), Some(true)) => Ok(Expect::Present),
        _ => {
            Err("a compare lacks what it expects: expect, expect_absent, expect_present or expect_version"
                .into())
        }
    }
}

fn write_range(fields: &mut Fields, range: &Range) {
    put_bounds(fields, &range.from, range.to.as_ref());
    fields.insert("limit".into(), json!(range.limit));
    range.page.iter().for_each(|page| text::put(fields, "page", page));
    put_flag(fields, "backward", range.direction == Direction::Backward);
    put_flag(fields, "keys_only", range.keys_only);
    put_flag(fields, "count_only", range.count_only);
    put_version(fields, "at", range.at);
}

fn read_range(fields: &Fields) -> Result<Range, String> {
    let backward = flag(fields, "backward")?.unwrap_or(false);
    Ok(Range {
        from: text::get(fields, "from")?.flatten().unwrap_or_default(),
        to: text::get(fields, "to")?.flatten(),
        direction: if backward { Direction::Backward } else { Direction::Forward },
        limit: count(fields, "limit")?.unwrap_or(0),
        page: text::get(fields, "page")?.flatten(),
        keys_only: flag(fields, "keys_only")?.unwrap_or(false),
        count_only: flag(fields, "count_only")?.unwrap_or(false),
        at: version(fields, "at")?,
        ledger: false,
    })
}

fn put_bounds(fields: &mut Fields, from: &kv::Key, to: Option<&kv::Key>) {
    text::put(fields, "from", from);
    to.into_iter().for_each(|to| text::put(fields, "to", to));
}

fn put_version(fields: &mut Fields, field: &str, version: Option<kv::Version>) {
    fields.extend(version.map(|version| (field.into(), version.to_string().into())));
}

fn put_deadline(fields: &mut Fields, deadline: Option<u64>) {
    fields.extend(deadline.map(|deadline| ("deadline".into(), json!(deadline))));
}

fn put_flag(fields: &mut Fields, field: &str, flag: bool) {
    if flag {
        fields.insert(field.into(), json!(true));
    }
}

fn object(fill: impl FnOnce(&mut Fields)) -> Json {
    let mut fields = Fields::new();
    fill(&mut fields);
    Json::Object(fields)
}
