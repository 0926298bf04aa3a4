//! Answers as fields of a JSON object, and back. Only what is judged is kept.

use kv::{Answer, Error, Function, Key, KeyAnswer, Op, Page, Row};
use serde_json::{Value as Json, json};

use super::{Fields, count, flag, list, signed, text, unsigned};
use crate::history::row;

/// An answer as fields.
pub(in crate::history) fn write_answer(answer: &Answer) -> Fields {
    let mut fields = Fields::new();
    match answer {
        Answer::Row(row) => put_value(&mut fields, "value", row.as_ref()),
        Answer::Many(rows) => drop(fields.insert("rows".into(), rows.iter().map(write_key_answer).collect())),
        Answer::Page(page) => write_page(&mut fields, page),
        Answer::Put { previous } => {
            // Without it the reader could not tell "was not asked for" from "was not there": the op knows.
            put_value(&mut fields, "previous", previous.as_ref());
        }
        Answer::Deleted { count, previous, next } => {
            fields.insert("count".into(), json!(count));
            put_value(&mut fields, "previous", previous.as_ref());
            next.iter().for_each(|next| text::put(&mut fields, "next", next));
        }
        Answer::Expire(found) => drop(fields.insert("found".into(), json!(found))),
        Answer::Length(length) => drop(fields.insert("length".into(), json!(length))),
        Answer::Popped(value) => text::put_or_null(&mut fields, "value", value.as_ref()),
        Answer::Number(number) => drop(fields.insert("number".into(), json!(number))),
        Answer::Condition { met, current } => {
            fields.insert("met".into(), json!(met));
            current.iter().for_each(|row| text::put(&mut fields, "current", &row.value));
        }
        Answer::Transaction { succeeded, answers } => {
            fields.insert("succeeded".into(), json!(succeeded));
            let answers = answers.iter().map(|answer| Json::Object(write_answer(answer)));
            fields.insert("answers".into(), answers.collect());
        }
        Answer::History { .. } | Answer::Trimmed { .. } => {}
    }
    fields
}

/// The answer to an op from fields; `None` = the fields do not tell.
pub(in crate::history) fn read_answer(op: &Op, fields: &Fields) -> Result<Option<Answer>, String> {
    let answer = match op {
        Op::Get { key, .. } => {
            text::get(fields, "value")?.map(|value| Answer::Row(value.map(|v| row(key, v))))
        }
        Op::GetAll { .. } => read_many(fields, false)?,
        Op::PutAll { .. } => Some(read_many(fields, true)?.unwrap_or(Answer::Many(Vec::new()))),
        Op::Range(_) => read_page(fields)?,
        Op::Put { previous: true, .. } if !told(fields, "previous") => None,
        Op::Put { key, .. } => Some(Answer::Put { previous: read_row(fields, "previous", key)? }),
        Op::Delete { previous: true, .. } if !told(fields, "previous") => None,
        Op::Delete { key, .. } => match unsigned(fields, "count")? {
            Some(count) => {
                Some(Answer::Deleted { count, previous: read_row(fields, "previous", key)?, next: None })
            }
            None => None,
        },
        Op::DeleteRange { .. } => match unsigned(fields, "count")? {
            Some(count) => {
                let next = text::get(fields, "next")?.flatten();
                Some(Answer::Deleted { count, previous: None, next })
            }
            None => None,
        },
        Op::Expire { .. } => flag(fields, "found")?.map(Answer::Expire),
        Op::Update { key, function } => read_updated(function, key, fields)?,
        Op::Transaction { then, otherwise, .. } => read_transaction(then, otherwise, fields)?,
        Op::Trim { .. }
        | Op::TrimRange { .. }
        | Op::History { .. }
        | Op::Advance { .. }
        | Op::Note(_)
        | Op::Merge { .. }
        | Op::Collect { .. } => None,
    };
    Ok(answer)
}

fn read_updated(function: &Function, key: &Key, fields: &Fields) -> Result<Option<Answer>, String> {
    Ok(match function {
        Function::Append { .. } => unsigned(fields, "length")?.map(Answer::Length),
        Function::Pop { .. } => text::get(fields, "value")?.map(Answer::Popped),
        Function::Increment { .. } => signed(fields, "number")?.map(Answer::Number),
        Function::Insert { .. } | Function::CompareAndPut { .. } => match flag(fields, "met")? {
            Some(met) => Some(Answer::Condition { met, current: read_row(fields, "current", key)? }),
            None => None,
        },
    })
}

fn read_transaction(then: &[Op], otherwise: &[Op], fields: &Fields) -> Result<Option<Answer>, String> {
    let Some(succeeded) = flag(fields, "succeeded")? else { return Ok(None) };
    let ops = if succeeded { then } else { otherwise };
    let answers = list(fields, "answers")?;
    if answers.len() != ops.len() {
        let (got, want) = (answers.len(), ops.len());
        return Err(format!("the transaction has {got} answers, but the branch that ran has {want} ops"));
    }
    let mut read = Vec::with_capacity(ops.len());
    for (op, answer) in ops.iter().zip(&answers) {
        let known = read_answer(op, answer)?;
        read.push(known.ok_or("an answer inside the transaction says nothing: leave all answers out")?);
    }
    Ok(Some(Answer::Transaction { succeeded, answers: read }))
}

fn put_value(fields: &mut Fields, field: &str, row: Option<&Row>) {
    text::put_or_null(fields, field, row.map(|row| &row.value));
}

fn read_row(fields: &Fields, field: &str, key: &Key) -> Result<Option<Row>, String> {
    Ok(text::get(fields, field)?.flatten().map(|value| row(key, value)))
}

fn write_key_answer(answer: &KeyAnswer) -> Json {
    let mut fields = Fields::new();
    text::put(&mut fields, "key", &answer.key);
    match &answer.result {
        Ok(row) => put_value(&mut fields, "value", row.as_ref()),
        Err(error) => {
            let outcome = if error.outcome() == kv::Outcome::Failed { "failed" } else { "unknown" };
            fields.insert("error".into(), outcome.into());
        }
    }
    Json::Object(fields)
}

fn read_many(fields: &Fields, written: bool) -> Result<Option<Answer>, String> {
    if !fields.contains_key("rows") {
        return Ok(None);
    }
    let rows = list(fields, "rows")?;
    let answers = rows.iter().map(|fields| read_key_answer(fields, written)).collect::<Result<_, _>>()?;
    Ok(Some(Answer::Many(answers)))
}

/// Whether a text is there, be it null.
fn told(fields: &Fields, field: &str) -> bool {
    fields.contains_key(field) || fields.contains_key(&format!("{field}_base64"))
}

fn read_key_answer(fields: &Fields, written: bool) -> Result<KeyAnswer, String> {
    let key = text::must(fields, "key")?;
    let result = match fields.get("error").and_then(Json::as_str) {
        Some("failed") => Err(Error::Unavailable("not recorded".into())),
        Some("unknown") => Err(Error::InDoubt("not recorded".into())),
        Some(other) => return Err(format!("'error' is '{other}', but must be failed or unknown")),
        None => match text::get(fields, "value")? {
            Some(value) => Ok(value.map(|value| row(&key, value))),
            None if written => Ok(None),
            None => return Err("a row lacks its 'value' (null = not found)".into()),
        },
    };
    Ok(KeyAnswer { key, result })
}

fn write_page(fields: &mut Fields, page: &Page) {
    let row = |row: &Row| {
        let mut fields = Fields::new();
        text::put(&mut fields, "key", &row.key);
        text::put(&mut fields, "value", &row.value);
        Json::Object(fields)
    };
    fields.insert("rows".into(), page.rows.iter().map(row).collect());
    fields.insert("count".into(), json!(page.count));
    page.next.iter().for_each(|next| text::put(fields, "next", next));
}

fn read_page(fields: &Fields) -> Result<Option<Answer>, String> {
    if !fields.contains_key("rows") {
        return Ok(None);
    }
    let read = |fields: &Fields| {
        let key = text::must(fields, "key")?;
        Ok::<_, String>(row(&key, text::get(fields, "value")?.flatten().unwrap_or_default()))
    };
    let rows: Vec<Row> = list(fields, "rows")?.iter().map(read).collect::<Result<_, _>>()?;
    let count = count(fields, "count")?.map_or(rows.len() as u64, u64::from);
    Ok(Some(Answer::Page(Page { rows, next: text::get(fields, "next")?.flatten(), count })))
}
