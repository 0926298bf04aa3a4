//! The rows as a picture: a bar of throughput and, beside it, one of wrong reads.

use super::picture::{BLUE, Bar, Column, GREEN, INK, Picture, RED, Row as Line};
use super::report::Row;

/// A picture in SVG of these rows, which so many clients made.
pub fn plot(rows: &[Row], clients: usize) -> String {
    let most = rows.iter().map(|row| row.ops_per_second).max().unwrap_or(0) as f64;
    let line = |(index, row): (usize, &Row)| Line {
        name: row.form.into(),
        is_apart: index > 0 && row.is_group() != rows[index - 1].is_group(),
        bars: [
            Bar { value: row.ops_per_second as f64, words: row.ops_per_second.to_string(), colour: INK },
            wrong(row),
        ],
    };
    let picture = Picture {
        title: "What consistency costs",
        columns: [
            Column { head: "puts and gets a second", colour: BLUE, left: 160, longest: 300, most },
            Column {
                head: "wrong reads, % of all gets (old by at most, of what is allowed)",
                colour: RED,
                left: 540,
                longest: 220,
                most: 100.0,
            },
        ],
        rows: rows.iter().enumerate().map(line).collect(),
        legend: legend(rows, clients),
    };
    picture.svg()
}

fn wrong(row: &Row) -> Bar {
    let (words, colour) = words(row);
    Bar { value: row.wrong_percent(), words, colour }
}

/// What stands behind the bar of wrong reads.
fn words(row: &Row) -> (String, plotters::style::RGBColor) {
    if row.wrong_reads == 0 {
        return ("none".into(), GREEN);
    }
    let millis = |micros: u64| micros.div_ceil(1000);
    let (by, bound) = (millis(row.wrong_by_micros), millis(row.bound_micros));
    let words = format!("{:.1} % ({by} ms of {bound} ms)", row.wrong_percent());
    if row.untrue > 0 { (format!("{words} BROKEN"), RED) } else { (words, INK) }
}

fn legend(rows: &[Row], clients: usize) -> Vec<String> {
    let copies = rows.iter().map(|row| row.replicas).max().unwrap_or(1);
    vec![
        format!(
            "{clients} clients, half puts, half gets. Above: shards of one copy. Below: groups of {copies} copies; sync-K: a put waits for K \
             secondaries,"
        ),
        "gets go to any member; strong: a put waits for all. Wrong: older than a put that was acknowledged before the get began."
            .into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::report;

    #[test]
    fn each_form_has_its_name_and_its_figures() {
        let rows = report::tests::rows();
        let svg = plot(&rows, 16);
        assert!(svg.starts_with("<svg "), "{svg}");
        let has = |words: &str| svg.lines().any(|line| line.trim() == words);
        for row in &rows {
            assert!(has(row.form) && has(&row.ops_per_second.to_string()), "{row:?}\n{svg}");
        }
        assert!(has("36.4 % (124 ms of 301 ms)"), "{svg}");
        assert_eq!(svg.lines().filter(|line| line.trim() == "none").count(), 5, "shards and strong");
        assert!(!svg.contains("BROKEN"), "{svg}");
    }

    #[test]
    fn untrue_answers_are_said() {
        let mut rows = report::tests::rows();
        rows[4].untrue = 1;
        assert!(plot(&rows, 16).contains("BROKEN"));
    }
}
