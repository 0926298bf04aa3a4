//! The words of histories in JSON: ops and answers as fields. `json_lines` documents them.

mod answer;
mod op;
mod text;

use kv::{Function, Op, Side};
use serde_json::{Map, Value as Json};

pub(super) use answer::{read_answer, write_answer};
pub(super) use op::{read_op, write_op};
pub(super) use text::scalar;

pub(super) type Fields = Map<String, Json>;

/// What `f` says of an op.
pub(super) fn name(op: &Op) -> &'static str {
    match op {
        Op::Get { .. } => "get",
        Op::GetAll { .. } => "get-all",
        Op::Range(_) => "range",
        Op::History { .. } => "history",
        Op::Put { .. } => "put",
        Op::PutAll { .. } => "put-all",
        Op::Delete { .. } => "delete",
        Op::DeleteRange { .. } => "delete-range",
        Op::Trim { .. } => "trim",
        Op::TrimRange { .. } => "trim-range",
        Op::Expire { .. } => "expire",
        Op::Update { function, .. } => function_name(function),
        Op::Transaction { .. } => "transaction",
        Op::Advance { .. } => "advance",
        Op::Note(_) => "note",
        Op::Merge { .. } => "merge",
        Op::Collect { .. } => "collect",
    }
}

/// Checks that a completion's `f` is that of its invocation.
pub(super) fn check_same(op: &Op, f: &str) -> Result<(), String> {
    let asked = name(op);
    if canonical(f) == asked {
        Ok(())
    } else {
        Err(format!("this process asked '{asked}', but its outcome is of '{f}'"))
    }
}

/// A whole number of 0 or more; `None` when it is not there.
pub(super) fn unsigned(fields: &Fields, field: &str) -> Result<Option<u64>, String> {
    match fields.get(field) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(digits)) if digits.parse::<u64>().is_ok() => Ok(digits.parse().ok()),
        Some(other) => other
            .as_u64()
            .map(Some)
            .ok_or_else(|| format!("'{field}' is {other}, but must be a whole number of 0 or more")),
    }
}

fn canonical(f: &str) -> &str {
    match f {
        "read" => "get",
        "write" => "put",
        "cas" => "compare-and-put",
        "append-right" => "append",
        other => other,
    }
}

fn function_name(function: &Function) -> &'static str {
    match function {
        Function::Append { side: Side::Left, .. } => "append-left",
        Function::Append { side: Side::Right, .. } => "append",
        Function::Pop { side: Side::Left, .. } => "pop-left",
        Function::Pop { side: Side::Right, .. } => "pop-right",
        Function::Increment { .. } => "increment",
        Function::Insert { .. } => "insert",
        Function::CompareAndPut { .. } => "compare-and-put",
    }
}

fn flag(fields: &Fields, field: &str) -> Result<Option<bool>, String> {
    match fields.get(field) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(format!("'{field}' is {other}, but must be true or false")),
    }
}

fn signed(fields: &Fields, field: &str) -> Result<Option<i64>, String> {
    match fields.get(field) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(digits)) if digits.parse::<i64>().is_ok() => Ok(digits.parse().ok()),
        Some(other) => other
            .as_i64()
            .map(Some)
            .ok_or_else(|| format!("'{field}' is {other}, but must be a whole number")),
    }
}

fn count(fields: &Fields, field: &str) -> Result<Option<u32>, String> {
    let Some(number) = unsigned(fields, field)? else { return Ok(None) };
    u32::try_from(number).map(Some).map_err(|_| format!("'{field}' is {number}, which is too large"))
}

fn version(fields: &Fields, field: &str) -> Result<Option<kv::Version>, String> {
    let Some(number) = signed(fields, field)? else { return Ok(None) };
    kv::Version::from_i64(number)
        .map(Some)
        .ok_or_else(|| format!("'{field}' is {number}, which is no version"))
}

/// A list of objects; a string in it counts as an object with that key.
fn list(fields: &Fields, field: &str) -> Result<Vec<Fields>, String> {
    let items = match fields.get(field) {
        None | Some(Json::Null) => return Ok(Vec::new()),
        Some(Json::Array(items)) => items,
        Some(other) => return Err(format!("'{field}' is {other}, but must be a list")),
    };
    let object = |item: &Json| match item {
        Json::Object(fields) => Ok(fields.clone()),
        Json::String(key) => Ok(Fields::from_iter([("key".into(), Json::String(key.clone()))])),
        other => Err(format!("'{field}' holds {other}, but must be a list of objects")),
    };
    items.iter().map(object).collect()
}
