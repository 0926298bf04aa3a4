//! What came of a form: an object in JSON, a line of a table of 80 columns.

use std::fmt::Write;

use kv::keyspace::Secondaries;
use serde::Serialize;

use super::form::BOUND_MILLIS;
use super::load::KEYS;
use super::measure::Measured;

/// What one form came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its name.
    pub form: &'static str,
    /// How its replicas agree.
    pub protocol: String,
    /// How many shards there are.
    pub shards: u32,
    /// How many copies of each.
    pub replicas: u16,
    /// How many secondaries a put waits for.
    pub waits_for: u16,
    /// How many nodes lead a shard.
    pub leaders: u16,
    /// How gets were asked.
    pub level: String,
    /// How long it was measured, in microseconds.
    pub micros: u64,
    /// Puts and gets that were answered in a second.
    pub ops_per_second: u64,
    /// Puts that were acknowledged.
    pub puts: u64,
    /// Gets that were answered.
    pub gets: u64,
    /// Requests that failed, or of which nobody knows.
    pub failed: u64,
    /// Half of the puts took no longer, in microseconds.
    pub put_p50_micros: u64,
    /// Half of the gets took no longer, in microseconds.
    pub get_p50_micros: u64,
    /// Gets whose answer was older than a put that was acknowledged before the get began.
    pub wrong_reads: u64,
    /// By how much at most, in microseconds.
    pub wrong_by_micros: u64,
    /// By how much they might be, in microseconds: the most that the level and a receipt allowed.
    pub bound_micros: u64,
    /// Gets that were older than their level and their receipt allow: a promise that was not kept.
    pub untrue: u64,
}

const HEAD: [&str; 2] = [
    "                                 P50, MILLIS     WRONG READS    OLD BY, MILLIS",
    "FORM           NODES COPIES  OPS/S    put    get   count       %    most   bound",
];

impl Row {
    /// Of what was measured.
    pub(super) fn of(Measured { form, leaders, figures, .. }: &Measured) -> Row {
        let waits_for = match form.wish.sync {
            Some(Secondaries::Count(count)) => count,
            Some(Secondaries::All) => form.replicas() - 1,
            None => 0,
        };
        Row {
            form: form.name,
            protocol: form.protocol().to_string(),
            shards: form.shards(),
            replicas: form.replicas(),
            waits_for,
            leaders: leaders.len() as u16,
            level: form.level.to_string(),
            micros: figures.micros,
            ops_per_second: figures.per_second(figures.puts + figures.gets),
            puts: figures.puts,
            gets: figures.gets,
            failed: figures.failed,
            put_p50_micros: figures.put_p50_micros,
            get_p50_micros: figures.get_p50_micros,
            wrong_reads: figures.wrong,
            wrong_by_micros: figures.wrong_by_micros,
            bound_micros: figures.bound_micros,
            untrue: figures.untrue,
        }
    }

    /// Of a hundred gets so many were wrong.
    pub fn wrong_percent(&self) -> f64 {
        self.wrong_reads as f64 * 100.0 / self.gets.max(1) as f64
    }

    /// Whether each shard has more than one copy.
    pub(super) fn is_group(&self) -> bool {
        self.replicas > 1
    }
}

/// The table of these rows, which so many clients made.
pub fn render(rows: &[Row], clients: usize) -> String {
    let mut text = HEAD.join("\n") + "\n";
    let groups = rows.iter().position(Row::is_group).unwrap_or(rows.len());
    for (index, row) in rows.iter().enumerate() {
        if index == groups && index > 0 {
            text.push('\n');
        }
        line(&mut text, row);
    }
    text.push('\n');
    legend(&mut text, rows, clients);
    rows.iter().for_each(|row| faults(&mut text, row));
    text
}

fn line(text: &mut String, row: &Row) {
    let bound = if row.bound_micros == 0 { "none".into() } else { millis(row.bound_micros, 0) };
    let by = if row.wrong_reads == 0 { "-".into() } else { millis(row.wrong_by_micros, 0) };
    let Row { form, leaders, replicas, ops_per_second, wrong_reads, .. } = row;
    let (put, get) = (millis(row.put_p50_micros, 2), millis(row.get_p50_micros, 2));
    let percent = row.wrong_percent();
    let line = format_args!(
        "{form:14} {leaders:5} {replicas:6} {ops_per_second:6} {put:>6} {get:>6} {wrong_reads:7} {percent:7.2} {by:>7} {bound:>7}\n"
    );
    text.write_fmt(line).expect("a text takes everything");
}

/// Rounded up where nothing is left behind the point: a time that there was is not 0.
pub(super) fn millis(micros: u64, digits: usize) -> String {
    match digits {
        0 => micros.div_ceil(1000).to_string(),
        digits => format!("{:.digits$}", micros as f64 / 1000.0),
    }
}

fn legend(text: &mut String, rows: &[Row], clients: usize) {
    let secondaries = rows.iter().map(|row| row.replicas).max().unwrap_or(1) - 1;
    let legend = format!(
        "\
{clients} clients put and get, half and half, {KEYS} keys on nodes of this machine. nodes:
they lead the shards. sync-K: a put waits for K of {secondaries} secondaries, and gets are
asked at any member, at the level local or bounded({BOUND_MILLIS} ms); strong: a put waits
for all, and gets are linearizable at any. wrong: older than a put that was
acknowledged before the get began. most: by so much; bound: what the level and
the receipts of these gets allow.
"
    );
    *text += &legend;
}

fn faults(text: &mut String, row: &Row) {
    let Row { form, failed, untrue, .. } = row;
    if *failed > 0 {
        *text += &format!("{form}: {failed} requests failed or are in doubt\n");
    }
    if *untrue > 0 {
        *text += &format!(
            "{form}: {untrue} gets were older than their level and receipt allow: a promise is broken\n"
        );
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::eval::figures::Figures;
    use crate::eval::form::{self, Form};

    /// Rows as a run makes them: the weaker, the quicker, and the more is wrong.
    pub fn rows() -> Vec<Row> {
        let forms = form::shards(form::NODES_MIN);
        let row = |(index, form): (usize, &Form)| {
            let is_weak = form.level != kv::Level::Linearizable;
            let figures = Figures {
                micros: 5_000_000,
                puts: 30_000 - 2_000 * index as u64,
                gets: 30_000 - 2_000 * index as u64,
                put_p50_micros: 900 + 100 * index as u64,
                get_p50_micros: 412,
                wrong: if is_weak { 12_000 - 1_000 * index as u64 } else { 0 },
                wrong_by_micros: if is_weak { 123_456 } else { 0 },
                bound_micros: if is_weak { 300_001 } else { 0 },
                ..Figures::default()
            };
            Row::of(&Measured { form: form.clone(), slow: None, leaders: [0].into(), figures })
        };
        forms.iter().enumerate().map(row).collect()
    }

    #[test]
    fn table_has_a_line_for_each_form_and_fits_a_small_terminal() {
        let rows = rows();
        let text = render(&rows, 16);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let strong = text.lines().find(|line| line.starts_with("strong ")).expect("it has a line");
        let fields: Vec<&str> = strong.split_whitespace().collect();
        assert_eq!(fields, ["strong", "1", "4", "4000", "1.90", "0.41", "0", "0.00", "-", "none"]);
        let weak = text.lines().find(|line| line.starts_with("sync-0-local ")).expect("it has a line");
        let fields: Vec<&str> = weak.split_whitespace().collect();
        assert_eq!(fields, ["sync-0-local", "1", "4", "8800", "1.30", "0.41", "8000", "36.36", "124", "301"]);
        assert!(!text.contains("broken"), "{text}");
    }

    #[test]
    fn broken_promise_and_failures_have_a_line() {
        let mut rows = rows();
        (rows[10].untrue, rows[10].failed) = (3, 1);
        let text = render(&rows, 16);
        assert!(text.contains("strong: 3 gets were older than"), "{text}");
        assert!(text.contains("strong: 1 requests failed"), "{text}");
    }
}
