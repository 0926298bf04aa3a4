//! Ops and answers in a few words.

use kv::{Answer, Condition, Expect, Function, Key, KeyAnswer, Op, Row, Side};

use crate::model::show;

/// Longer texts are cut in the middle.
const TEXT_MAX: usize = 120;

/// What is asked.
pub(super) fn op(op: &Op) -> String {
    cut(&long_op(op))
}

/// What is answered.
pub(super) fn answer(answer: &Answer) -> String {
    cut(&long_answer(answer))
}

/// The text, with its middle left out when it is long: of long values the ends tell most.
pub(super) fn cut(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= TEXT_MAX {
        return text.to_owned();
    }
    let half = TEXT_MAX / 2;
    let (left, right): (String, String) =
        (chars[..half].iter().collect(), chars[chars.len() - half..].iter().collect());
    format!("{left} .. {right}")
}

fn long_op(op: &Op) -> String {
    match op {
        Op::Get { key, .. } => named("get", key),
        Op::GetAll { keys, .. } => format!("get-all {}", listed(keys.iter().map(show))),
        Op::Put { key, value, .. } => format!("{} = {}", named("put", key), show(value)),
        Op::PutAll { rows } => {
            format!(
                "put-all {}",
                listed(rows.iter().map(|(key, value)| format!("{} = {}", show(key), show(value))))
            )
        }
        Op::Delete { key, .. } => named("delete", key),
        Op::Update { key, function } => update(key, function),
        Op::Transaction { conditions, then, otherwise } => transaction(conditions, then, otherwise),
        Op::Range(range) => format!("range from {}{}", show(&range.from), until(range.to.as_ref())),
        Op::DeleteRange { from, to } => format!("delete-range from {}{}", show(from), until(to.as_ref())),
        Op::Expire { key, .. } => named("expire", key),
        Op::Trim { key, .. } => named("trim", key),
        Op::TrimRange { from, to, .. } => format!("trim-range from {}{}", show(from), until(to.as_ref())),
        Op::History { key, .. } => named("history", key),
        Op::Advance { .. } => "advance".into(),
        Op::Note(_) => "note".into(),
        Op::Merge { .. } => "merge".into(),
        Op::Collect { .. } => "collect".into(),
    }
}

fn update(key: &Key, function: &Function) -> String {
    match function {
        Function::Append { side: Side::Right, value } => format!("{} {}", named("append", key), show(value)),
        Function::Append { side: Side::Left, value } => {
            format!("{} {}", named("append-left", key), show(value))
        }
        Function::Pop { side: Side::Right, count } => format!("{} {count}", named("pop-right", key)),
        Function::Pop { side: Side::Left, count } => format!("{} {count}", named("pop-left", key)),
        Function::Increment { by } => format!("{} by {by}", named("increment", key)),
        Function::Insert { value, .. } => format!("{} = {}", named("insert", key), show(value)),
        Function::CompareAndPut { expect, value, .. } => {
            format!("{} = {} if {}", named("put", key), show(value), expected(expect))
        }
    }
}

fn transaction(conditions: &[Condition], then: &[Op], otherwise: &[Op]) -> String {
    let ops = |ops: &[Op]| ops.iter().map(long_op).collect::<Vec<_>>().join("; ");
    let mut text = String::from("transaction");
    if !conditions.is_empty() {
        let conditions = conditions.iter().map(|c| format!("{} is {}", show(&c.key), expected(&c.expect)));
        text += &format!(" if {}", listed(conditions));
    }
    text += &format!(" {{{}}}", ops(then));
    if !otherwise.is_empty() {
        text += &format!(" else {{{}}}", ops(otherwise));
    }
    text
}

fn expected(expect: &Expect) -> String {
    match expect {
        Expect::Absent => "absent".into(),
        Expect::Present => "present".into(),
        Expect::Value(value) => show(value),
        Expect::Version(version) => format!("of version {version}"),
    }
}

fn long_answer(answer: &Answer) -> String {
    match answer {
        Answer::Row(found) => row(found.as_ref()),
        Answer::Many(rows) if rows.is_empty() => "ok".into(),
        Answer::Many(rows) => listed(rows.iter().map(key_answer)),
        Answer::Page(page) => {
            listed(page.rows.iter().map(|found| format!("{}: {}", show(&found.key), show(&found.value))))
        }
        Answer::Put { previous: None } => "ok".into(),
        Answer::Put { previous } => format!("ok, instead of {}", row(previous.as_ref())),
        Answer::Deleted { count, .. } => format!("{count} deleted"),
        Answer::Expire(true) => "ok".into(),
        Answer::Expire(false) => "not found".into(),
        Answer::Length(length) => format!("length {length}"),
        Answer::Popped(value) => value.as_ref().map_or("not found".into(), show),
        Answer::Number(number) => number.to_string(),
        Answer::Condition { met: true, .. } => "ok".into(),
        Answer::Condition { met: false, current: None } => "condition not met".into(),
        Answer::Condition { met: false, current } => format!("condition not met: {}", row(current.as_ref())),
        Answer::Transaction { succeeded, answers } => {
            let answers = answers.iter().map(long_answer).collect::<Vec<_>>().join("; ");
            format!("{}{{{answers}}}", if *succeeded { "" } else { "else " })
        }
        Answer::History { .. } | Answer::Trimmed { .. } => "done".into(),
    }
}

fn key_answer(answer: &KeyAnswer) -> String {
    let result = match &answer.result {
        Ok(found) => row(found.as_ref()),
        Err(error) => error.to_string(),
    };
    format!("{}: {result}", show(&answer.key))
}

fn row(row: Option<&Row>) -> String {
    row.map_or("not found".into(), |row| show(&row.value))
}

/// The key of a register has no name.
fn named(what: &str, key: &Key) -> String {
    if key.is_empty() { what.into() } else { format!("{what} {}", show(key)) }
}

fn until(to: Option<&Key>) -> String {
    to.map_or(String::new(), |to| format!(" to {}", show(to)))
}

fn listed(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}
