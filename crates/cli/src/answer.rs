//! How answers look: as text for people and pipes, as one JSON object per result, as an exit code.

use kv::{Answer, Function, KeyAnswer, Op, Receipt, Revision, Row, Version};
use serde_json::{Map, Value, json};

use crate::escape;
use crate::exit::{Code, Error, code_of};
use crate::hint::Hint;
use crate::options::Options;
use crate::print::{Output, put_bytes};

/// Prints the answer to an op.
pub fn print(op: &Op, answer: &Answer, version: Version, out: &mut Output<'_>) -> Result<(), Error> {
    let printed = print_data(op, answer, version, out);
    if let Answer::Many(many) = answer {
        // They are told even where data cannot be written.
        print_failures(many, out)?;
    }
    printed
}

fn print_data(op: &Op, answer: &Answer, version: Version, out: &mut Output<'_>) -> Result<(), Error> {
    match (answer, out.json) {
        (Answer::Many(many), true) => {
            for each in many {
                out.object(&key_answer_object(op, each))?;
            }
        }
        (Answer::History { revisions, next }, true) => {
            revision_objects(op, revisions, *next).iter().try_for_each(|object| out.object(object))?;
        }
        (Answer::Page(page), true) => page.rows.iter().try_for_each(|row| print_row(row, false, out))?,
        (_, true) => out.object(&object(op, answer, version))?,
        (_, false) => text(op, answer, version, out)?,
    }
    Ok(())
}

/// Prints a row of a range.
pub fn print_row(row: &Row, keys_only: bool, out: &mut Output<'_>) -> Result<(), Error> {
    if out.json {
        let mut object = Map::new();
        put_bytes(&mut object, "key", &row.key);
        if !keys_only {
            put_bytes(&mut object, "value", &row.value);
        }
        object.insert("version".into(), row.version.to_string().into());
        out.object(&object.into())?;
    } else if keys_only {
        out.row(&[&row.key])?;
    } else {
        out.row(&[&row.key, &row.value])?;
    }
    Ok(())
}

/// Prints a number of rows; of what a write removed, with its version.
pub fn print_count(count: u64, version: Option<Version>, out: &mut Output<'_>) -> Result<(), Error> {
    match (out.json, version) {
        (true, Some(version)) => {
            out.object(&json!({"count": count, "version": version.to_string()}))?;
        }
        (true, None) => out.object(&json!({"count": count}))?,
        (false, _) => out.line(&count.to_string())?,
    }
    Ok(())
}

/// Tells what was achieved.
pub fn print_receipt(receipt: &Receipt, out: &mut Output<'_>) -> Result<(), Error> {
    let Receipt { version, shard, protocol, epoch, asked, reached, copies, staleness_micros, node } = receipt;
    let stale = match staleness_micros {
        &u64::MAX => "nobody knows how stale".into(),
        micros => format!("at most {micros} us stale"),
    };
    let text = format!(
        "receipt: version {version}, {protocol}, shard {shard}, epoch {epoch}, asked {asked}, reached {reached}, \
         synced on {copies} nodes, {stale}, served by node {node}"
    );
    out.note(&text)?;
    Ok(())
}

/// How a command ends that asked only this.
pub fn code(op: &Op, answer: &Answer) -> Code {
    let fine = match answer {
        Answer::Many(many) => return many.iter().map(|each| key_code(op, each)).fold(Code::Done, worse),
        Answer::Row(row) => row.is_some(),
        Answer::History { revisions, .. } => !revisions.is_empty(),
        Answer::Deleted { count, .. } => *count > 0 || matches!(op, Op::DeleteRange { .. }),
        Answer::Expire(found) => *found,
        Answer::Popped(popped) => popped.is_some(),
        Answer::Condition { met, .. } => *met,
        Answer::Transaction { succeeded, .. } => *succeeded,
        Answer::Page(_) | Answer::Put { .. } | Answer::Trimmed { .. } => true,
        Answer::Length(_) | Answer::Number(_) => true,
    };
    if fine { Code::Done } else { Code::NotMet }
}

fn key_code(op: &Op, each: &KeyAnswer) -> Code {
    match &each.result {
        Ok(None) if matches!(op, Op::GetAll { .. }) => Code::NotMet,
        Ok(_) => Code::Done,
        Err(error) => code_of(error),
    }
}

/// The worse of two ends.
pub fn worse(one: Code, other: Code) -> Code {
    if other as u8 > one as u8 { other } else { one }
}

fn key_of(op: &Op) -> &[u8] {
    match op {
        Op::Get { key, .. } | Op::History { key, .. } | Op::Put { key, .. } | Op::Delete { key, .. } => key,
        Op::Trim { key, .. } | Op::Expire { key, .. } | Op::Update { key, .. } => key,
        _ => &[],
    }
}

fn text(op: &Op, answer: &Answer, version: Version, out: &mut Output<'_>) -> Result<(), Error> {
    match answer {
        Answer::Row(Some(row)) => out.value(&row.value)?,
        Answer::Many(many) => many.iter().try_for_each(|each| key_text(op, each, out))?,
        Answer::Page(page) => page.rows.iter().try_for_each(|row| print_row(row, false, out))?,
        Answer::History { revisions, next } if !revisions.is_empty() => {
            revisions.iter().try_for_each(|revision| revision_text(revision, out))?;
            next.map_or(Ok(()), |next| more("history", key_of(op), Some(next), out))?;
        }
        Answer::Put { previous } if asks_previous(op) => previous_text(previous.as_ref(), out)?,
        Answer::Deleted { count: 1.., previous, .. } if asks_previous(op) => {
            previous_text(previous.as_ref(), out)?;
        }
        Answer::Deleted { count, .. } => out.line(&count.to_string())?,
        Answer::Put { .. } | Answer::Expire(true) | Answer::Condition { met: true, .. } => {
            out.line(&version.to_string())?;
        }
        Answer::Trimmed { count, next } => {
            out.line(&count.to_string())?;
            next.as_ref().map_or(Ok(()), |key| more("trim", key, None, out))?;
        }
        Answer::Length(length) => out.line(&length.to_string())?,
        Answer::Popped(Some(value)) => out.value(value)?,
        Answer::Number(number) => out.line(&number.to_string())?,
        Answer::Condition { met: false, current } => out.note(&unmet(op, current.as_ref()))?,
        Answer::Transaction { succeeded, answers } => {
            transaction_text(op, *succeeded, answers, version, out)?
        }
        Answer::Row(None) | Answer::History { .. } | Answer::Expire(false) | Answer::Popped(None) => {
            out.note(&not_found(key_of(op)))?;
        }
    }
    Ok(())
}

fn key_text(op: &Op, each: &KeyAnswer, out: &mut Output<'_>) -> Result<(), Error> {
    match (&each.result, op) {
        (Ok(Some(row)), Op::PutAll { .. }) => {
            out.row(&[&each.key, row.version.to_string().as_bytes()])?;
        }
        (Ok(Some(row)), _) => out.row(&[&each.key, &row.value])?,
        (Ok(None), Op::GetAll { .. }) => out.note(&not_found(&each.key))?,
        (Ok(None), _) => out.row(&[&each.key])?,
        (Err(_), _) => {}
    }
    Ok(())
}

fn revision_text(revision: &Revision, out: &mut Output<'_>) -> Result<(), Error> {
    let version = revision.version.to_string();
    match &revision.value {
        Some(value) => out.row(&[version.as_bytes(), value])?,
        // No second field: an empty value has one.
        None => out.row(&[version.as_bytes()])?,
    }
    Ok(())
}

fn previous_text(previous: Option<&Row>, out: &mut Output<'_>) -> Result<(), Error> {
    match previous {
        Some(row) => out.value(&row.value)?,
        None => out.note("there was no value before")?,
    }
    Ok(())
}

fn transaction_text(
    op: &Op,
    succeeded: bool,
    answers: &[Answer],
    version: Version,
    out: &mut Output<'_>,
) -> Result<(), Error> {
    out.line(if succeeded { "then" } else { "else" })?;
    branch(op, succeeded).iter().zip(answers).try_for_each(|(op, answer)| text(op, answer, version, out))
}

fn branch(op: &Op, succeeded: bool) -> &[Op] {
    match op {
        Op::Transaction { then, .. } if succeeded => then,
        Op::Transaction { otherwise, .. } => otherwise,
        _ => &[],
    }
}

fn print_failures(many: &[KeyAnswer], out: &mut Output<'_>) -> Result<(), Error> {
    let mut noted = Ok(());
    for KeyAnswer { key, result } in many {
        if let Err(error) = result {
            noted = noted.and(out.note(&format!("error: {}: {error}", escape::write(key))));
        }
    }
    Ok(noted?)
}

fn not_found(key: &[u8]) -> String {
    format!("not found: {}", escape::write(key))
}

/// Tells that a step of a transaction stopped at its limit, and the command that goes on.
fn more(name: &str, key: &[u8], before: Option<Version>, out: &mut Output<'_>) -> Result<(), Error> {
    let options = Options::default();
    let hint = Hint::new(name, &options).key(key).option("--before", before).options(&options);
    Ok(out.note(&format!("there is more: {hint}"))?)
}

fn unmet(op: &Op, current: Option<&Row>) -> String {
    let key = escape::write(key_of(op));
    match (op, current) {
        (Op::Update { function: Function::Insert { .. }, .. }, None) => {
            format!("not stored: {key} is there already")
        }
        (_, None) => format!("not stored: {key} has no value"),
        (_, Some(row)) => {
            format!("not stored: {key} is {} at version {}", escape::write(&row.value), row.version)
        }
    }
}

fn asks_previous(op: &Op) -> bool {
    matches!(op, Op::Put { previous: true, .. } | Op::Delete { previous: true, .. })
}

fn object(op: &Op, answer: &Answer, version: Version) -> Value {
    let mut object = Map::new();
    match answer {
        Answer::Row(row) => return found_object(key_of(op), row.as_ref()),
        Answer::Transaction { succeeded, answers } => {
            let inner =
                branch(op, *succeeded).iter().zip(answers).map(|(op, answer)| inner(op, answer, version));
            let answers: Vec<Value> = inner.collect();
            return json!({"succeeded": succeeded, "version": version.to_string(), "answers": answers});
        }
        _ => put_bytes(&mut object, "key", key_of(op)),
    }
    object.insert("version".into(), version.to_string().into());
    put_result(&mut object, op, answer);
    object.into()
}

/// What a write tells beside its key and version.
fn put_result(object: &mut Map<String, Value>, op: &Op, answer: &Answer) {
    match answer {
        Answer::Put { previous } if asks_previous(op) => put_row(object, "previous", previous.as_ref()),
        Answer::Deleted { count, previous, .. } => {
            object.insert("count".into(), (*count).into());
            if asks_previous(op) {
                put_row(object, "previous", previous.as_ref());
            }
        }
        Answer::Trimmed { count, next } => {
            object.insert("count".into(), (*count).into());
            if next.is_some() {
                object.insert("more".into(), true.into());
            }
        }
        Answer::Expire(found) => drop(object.insert("found".into(), (*found).into())),
        Answer::Length(length) => drop(object.insert("length".into(), (*length).into())),
        Answer::Number(number) => drop(object.insert("number".into(), (*number).into())),
        Answer::Popped(popped) => {
            object.insert("found".into(), popped.is_some().into());
            match popped {
                Some(value) => put_bytes(object, "value", value),
                None => drop(object.insert("value".into(), Value::Null)),
            }
        }
        Answer::Condition { met, current } => {
            object.insert("met".into(), (*met).into());
            if !met {
                put_row(object, "current", current.as_ref());
            }
        }
        _ => {}
    }
}

/// An answer inside a transaction: one object, whatever it is.
fn inner(op: &Op, answer: &Answer, version: Version) -> Value {
    match answer {
        Answer::Many(many) => many.iter().map(|each| key_answer_object(op, each)).collect(),
        Answer::History { revisions, next } => revision_objects(op, revisions, *next).into(),
        answer => object(op, answer, version),
    }
}

fn key_answer_object(op: &Op, each: &KeyAnswer) -> Value {
    let mut object = Map::new();
    match (&each.result, op) {
        (Ok(row), Op::GetAll { .. }) => return found_object(&each.key, row.as_ref()),
        (Ok(row), _) => {
            put_bytes(&mut object, "key", &each.key);
            let version = row.as_ref().map(|row| row.version.to_string());
            object.insert("version".into(), version.into());
        }
        (Err(error), _) => {
            put_bytes(&mut object, "key", &each.key);
            object.insert("error".into(), error.to_string().into());
        }
    }
    object.into()
}

fn found_object(key: &[u8], row: Option<&Row>) -> Value {
    let mut object = Map::new();
    object.insert("found".into(), row.is_some().into());
    put_bytes(&mut object, "key", key);
    match row {
        Some(row) => put_bytes(&mut object, "value", &row.value),
        None => drop(object.insert("value".into(), Value::Null)),
    }
    object.insert("version".into(), row.map(|row| row.version.to_string()).into());
    object.into()
}

/// An object a revision; the last one tells with what to go on, if there is more.
fn revision_objects(op: &Op, revisions: &[Revision], next: Option<Version>) -> Vec<Value> {
    let mut objects: Vec<Value> = revisions.iter().map(|revision| revision_object(op, revision)).collect();
    if let (Some(next), Some(last)) = (next, objects.last_mut()) {
        last["next"] = next.to_string().into();
    }
    objects
}

fn revision_object(op: &Op, revision: &Revision) -> Value {
    let mut object = Map::new();
    put_bytes(&mut object, "key", key_of(op));
    object.insert("version".into(), revision.version.to_string().into());
    match &revision.value {
        Some(value) => put_bytes(&mut object, "value", value),
        None => drop(object.insert("value".into(), Value::Null)),
    }
    object.into()
}

fn put_row(object: &mut Map<String, Value>, name: &str, row: Option<&Row>) {
    let row = row.map(|row| {
        let mut object = Map::new();
        put_bytes(&mut object, "value", &row.value);
        object.insert("version".into(), row.version.to_string().into());
        Value::from(object)
    });
    object.insert(name.into(), row.into());
}

#[cfg(test)]
mod tests {
    use kv::{Epoch, Level, NodeId, Protocol, ShardId};

    use super::*;

    fn said(staleness_micros: u64) -> String {
        let receipt = Receipt {
            version: Version::ZERO,
            shard: ShardId(1),
            protocol: Protocol::Raft,
            epoch: Epoch(1),
            asked: Level::Local,
            reached: Level::Local,
            copies: 2,
            staleness_micros,
            node: NodeId(3),
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output { out: &mut out, err: &mut err, terminal: false, json: false };
        print_receipt(&receipt, &mut output).expect("a buffer takes everything");
        String::from_utf8_lossy(&err).into_owned()
    }

    #[test]
    fn receipt_says_how_stale_an_answer_may_be_or_that_nobody_knows() {
        assert!(
            said(40).contains("synced on 2 nodes, at most 40 us stale, served by node 3"),
            "{}",
            said(40)
        );
        assert!(said(u64::MAX).contains("2 nodes, nobody knows how stale, served"), "{}", said(u64::MAX));
    }
}
