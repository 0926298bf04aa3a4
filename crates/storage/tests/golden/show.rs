//! Answers as text.

use kv::{Answer, Error, Row, Version};

pub fn version(version: Version) -> String {
    match version.replica().0 {
        1 => version.micros().to_string(),
        node => format!("{}.{node}", version.micros()),
    }
}

pub fn result(result: &Result<Answer, Error>) -> String {
    match result {
        Ok(found) => answer(found),
        Err(Error::Trimmed { asked, oldest }) => {
            format!("trimmed: asked {}, oldest {}", version(*asked), version(*oldest))
        }
        Err(Error::Future { asked, newest }) => {
            format!("future: asked {}, newest {}", version(*asked), version(*newest))
        }
        Err(error) => {
            let debug = format!("{error:?}");
            let name = debug.split(['(', ' ']).next().unwrap().to_lowercase();
            format!("{name}: {error}")
        }
    }
}

fn answer(answer: &Answer) -> String {
    let found = |name: &str, found: &Option<Row>| match found {
        Some(found) => format!("{name}, {}", row(found)),
        None => name.into(),
    };
    match answer {
        Answer::Row(None) => "none".into(),
        Answer::Row(Some(found)) => row(found),
        Answer::Many(keys) => {
            let one = |key: &kv::KeyAnswer| match &key.result {
                Ok(Some(found)) => row(found),
                Ok(None) => format!("{} none", text(&key.key)),
                Err(error) => format!("{} {}", text(&key.key), result(&Err(error.clone()))),
            };
            keys.iter().map(one).collect::<Vec<_>>().join("; ")
        }
        Answer::Page(page) => {
            let mut parts: Vec<String> = page.rows.iter().map(row).collect();
            parts.push(format!("count {}", page.count));
            parts.extend(page.next.as_ref().map(|next| format!("next {}", text(next))));
            parts.join("; ")
        }
        Answer::History { revisions, next } => {
            let one = |revision: &kv::Revision| {
                let value = revision.value.as_ref().map_or("deleted".into(), |value| text(value));
                format!("{value} @{}", version(revision.version))
            };
            let mut parts: Vec<String> = revisions.iter().map(one).collect();
            parts.extend(next.map(|next| format!("next {}", version(next))));
            if parts.is_empty() { "empty".into() } else { parts.join("; ") }
        }
        Answer::Put { previous } => found("put", previous),
        Answer::Deleted { count, previous, next } => {
            let next = next.as_ref().map_or(String::new(), |next| format!(", next {}", text(next)));
            format!("{}{next}", found(&format!("deleted {count}"), previous))
        }
        Answer::Trimmed { count, next } => {
            let next = next.as_ref().map_or(String::new(), |next| format!(", next {}", text(next)));
            format!("trimmed {count}{next}")
        }
        Answer::Expire(there) => format!("expire {there}"),
        Answer::Length(bytes) => format!("length {bytes}"),
        Answer::Popped(None) => "popped nothing".into(),
        Answer::Popped(Some(value)) => format!("popped {}", text(value)),
        Answer::Number(number) => format!("number {number}"),
        Answer::Condition { met, current } => found(if *met { "met" } else { "not met" }, current),
        Answer::Transaction { succeeded, answers } => {
            let answers: Vec<String> = answers.iter().map(self::answer).collect();
            format!("{}: [{}]", if *succeeded { "then" } else { "otherwise" }, answers.join(" | "))
        }
    }
}

fn row(row: &Row) -> String {
    let deadline = row.deadline.map_or(String::new(), |deadline| format!(" until {deadline}"));
    let (at, created) = (version(row.version), version(row.created));
    format!(
        "{}={} @{at} (created {created}, changes {}{deadline})",
        text(&row.key),
        text(&row.value),
        row.changes
    )
}

fn text(bytes: &[u8]) -> String {
    if bytes.is_empty() { "''".into() } else { bytes.escape_ascii().to_string() }
}
