//! Both forms of a store, with nobody slow and with each node slow in turn: an object in JSON, a line of a table, two bars.

use serde::Serialize;

use super::form::{self, STORE_WEIGHTS};
use super::load::KEYS;
use super::measure::{self, Measured, Plan, Progress};
use super::picture::{BLUE, Bar, Column, GREEN, INK, Picture, RED, Row as Line};
use super::report::millis;
use crate::Error;

/// What one form came to while one node was slow, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `centralized` or `decentralized`.
    pub form: &'static str,
    /// How its nodes agree.
    pub protocol: String,
    /// Which node is slow; `None` = none.
    pub slow: Option<String>,
    /// What that one is: `master`, `slave`, or what it `weighs`.
    pub slow_is: Option<String>,
    /// How late its answers leave, in microseconds.
    pub slow_micros: u64,
    /// How long it was measured, in microseconds.
    pub micros: u64,
    /// Puts that were acknowledged.
    pub puts: u64,
    /// Gets that were answered.
    pub gets: u64,
    /// Requests that failed, or of which nobody knows.
    pub failed: u64,
    /// Puts that were acknowledged in a second.
    pub puts_per_second: u64,
    /// Gets that were answered in a second.
    pub gets_per_second: u64,
    /// Half of the puts took no longer, in microseconds; 0 = there was none.
    pub put_p50_micros: u64,
    /// 99 of 100 puts took no longer.
    pub put_p99_micros: u64,
    /// Half of the gets took no longer.
    pub get_p50_micros: u64,
    /// 99 of 100 gets took no longer.
    pub get_p99_micros: u64,
    /// Gets whose answer was older than a put that was acknowledged before the get began: a promise that was not kept.
    pub untrue: u64,
}

const HEAD: [&str; 2] = [
    "                            ---- puts, millis ---  ---- gets, millis ---",
    "FORM          SLOW         A SECOND    P50    P99 A SECOND    P50    P99  FAILED",
];

/// Measures both; what came of it. `stop` ends it early and says why; `say` hears how far it is. On
/// [`STORE_NODES`](super::STORE_NODES) nodes.
///
/// # Errors
/// [`Error::Unavailable`] when the nodes do not start or do not serve; what they wrote is kept then.
pub async fn run(
    plan: &Plan,
    stop: impl Future<Output = String>,
    say: impl FnMut(Progress),
) -> Result<Vec<Row>, Error> {
    let measured = measure::run(plan, &form::store(), stop, say).await?;
    let late = plan.slow.map_or(0, |late| late.as_micros() as u64);
    Ok(measured.iter().map(|measured| Row::of(measured, late)).collect())
}

impl Row {
    /// Of what was measured, where a node that is slow is so by so much.
    fn of(measured: &Measured, late: u64) -> Row {
        let Measured { form, slow, leaders, figures } = measured;
        let is = |node: &usize| match form.has_leader() {
            true if leaders.contains(node) => "master".into(),
            true => "slave".into(),
            false => format!("weighs {}", STORE_WEIGHTS[*node]),
        };
        Row {
            form: form.name,
            protocol: form.protocol().to_string(),
            slow: slow.map(|node| format!("n{}", node + 1)),
            slow_is: slow.as_ref().map(is),
            slow_micros: if slow.is_some() { late } else { 0 },
            micros: figures.micros,
            puts: figures.puts,
            gets: figures.gets,
            failed: figures.failed,
            puts_per_second: figures.per_second(figures.puts),
            gets_per_second: figures.per_second(figures.gets),
            put_p50_micros: figures.put_p50_micros,
            put_p99_micros: figures.put_p99_micros,
            get_p50_micros: figures.get_p50_micros,
            get_p99_micros: figures.get_p99_micros,
            untrue: figures.untrue,
        }
    }

    /// Who is slow, for people.
    fn who(&self) -> String {
        self.slow
            .iter()
            .zip(&self.slow_is)
            .next()
            .map_or("nobody".into(), |(node, is)| format!("{node}, {is}"))
    }
}

/// The table of these rows, which so many clients made.
pub fn render(rows: &[Row], clients: usize) -> String {
    let mut lines = HEAD.map(str::to_owned).to_vec();
    for (index, row) in rows.iter().enumerate() {
        let is_first = index == 0 || rows[index - 1].form != row.form;
        if is_first && index > 0 {
            lines.push(String::new());
        }
        lines.push(line(row, is_first));
    }
    lines.push(String::new());
    lines.extend(legend(rows, clients));
    let broken = rows.iter().filter(|row| row.untrue > 0);
    lines.extend(broken.map(|row| {
        let Row { form, untrue, .. } = row;
        format!(
            "{form}, {} slow: {untrue} gets were older than a put before them: a promise is broken",
            row.who()
        )
    }));
    lines.join("\n") + "\n"
}

fn line(row: &Row, is_first: bool) -> String {
    let form = if is_first { row.form } else { "" };
    let [put_p50, put_p99, get_p50, get_p99] =
        [row.put_p50_micros, row.put_p99_micros, row.get_p50_micros, row.get_p99_micros]
            .map(|micros| if micros == 0 { "-".into() } else { millis(micros, 1) });
    let Row { puts_per_second, gets_per_second, failed, .. } = row;
    let who = row.who();
    format!(
        "{form:13} {who:13} {puts_per_second:7} {put_p50:>6} {put_p99:>6}  {gets_per_second:7} {get_p50:>6} {get_p99:>6} {failed:7}"
    )
}

fn legend(rows: &[Row], clients: usize) -> Vec<String> {
    let late = rows.iter().map(|row| row.slow_micros).max().unwrap_or(0) / 1000;
    [
        &format!(
            "{clients} clients put and get, half and half, {KEYS} keys of three copies on this machine."
        ),
        &format!("slow: what the node answers leaves {late} ms late, to clients and to the others."),
        "centralized: puts at the master, which waits for all; gets at any node.",
        "decentralized: both at any node; of weights 1, 2, 1 a put needs 3, a get 2.",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// A picture in SVG of these rows, which so many clients made.
pub fn plot(rows: &[Row], clients: usize) -> String {
    let most = |of: fn(&Row) -> u64| rows.iter().map(of).max().unwrap_or(0) as f64;
    let line = |(index, row): (usize, &Row)| Line {
        name: format!("{}, slow: {}", row.form, row.who()),
        is_apart: index > 0 && rows[index - 1].form != row.form,
        bars: [
            bar(row, row.puts_per_second, (row.put_p50_micros, row.put_p99_micros)),
            bar(row, row.gets_per_second, (row.get_p50_micros, row.get_p99_micros)),
        ],
    };
    let column = |head, colour, left, most| Column { head, colour, left, longest: 190, most };
    let picture = Picture {
        title: "A store with a slow node",
        columns: [
            column("puts a second (p50, p99 in ms)", BLUE, 280, most(|row| row.puts_per_second)),
            column("gets a second (p50, p99 in ms)", GREEN, 640, most(|row| row.gets_per_second)),
        ],
        rows: rows.iter().enumerate().map(line).collect(),
        legend: legend(rows, clients),
    };
    picture.svg()
}

fn bar(row: &Row, per_second: u64, (p50, p99): (u64, u64)) -> Bar {
    let words = format!("{per_second} ({}, {})", millis(p50, 1), millis(p99, 1));
    let (words, colour) = if row.untrue > 0 { (words + " BROKEN", RED) } else { (words, INK) };
    Bar { value: per_second as f64, words, colour }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::figures::Figures;

    /// Rows as a run makes them.
    fn rows() -> Vec<Row> {
        let figures = |slow: bool| Figures {
            micros: 2_000_000,
            puts: if slow { 160 } else { 4_000 },
            gets: 5_000,
            put_p50_micros: if slow { 100_900 } else { 1_240 },
            put_p99_micros: if slow { 201_000 } else { 3_000 },
            get_p50_micros: 460,
            get_p99_micros: 2_000,
            ..Figures::default()
        };
        let of = |form: form::Form| {
            [None, Some(0), Some(1), Some(2)].map(|slow| {
                let figures = figures(slow.is_some());
                Row::of(&Measured { form: form.clone(), slow, leaders: [0].into(), figures }, 100_000)
            })
        };
        form::store().into_iter().flat_map(of).collect()
    }

    #[test]
    fn table_has_a_line_for_each_slow_node_of_each_form_and_fits_a_small_terminal() {
        let text = render(&rows(), 16);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let fields = |begin: &str| -> Vec<&str> {
            let line = text.lines().find(|line| line.trim_start().starts_with(begin)).expect(begin);
            line.split_whitespace().collect()
        };
        let well = ["centralized", "nobody", "2000", "1.2", "3.0", "2500", "0.5", "2.0", "0"];
        assert_eq!(fields("centralized "), well);
        assert_eq!(
            fields("n1, master"),
            ["n1,", "master", "80", "100.9", "201.0", "2500", "0.5", "2.0", "0"]
        );
        assert_eq!(fields("n2, slave")[1], "slave");
        assert_eq!(fields("n2, weighs 2")[3], "80");
        assert!(text.contains("leaves 100 ms late") && !text.contains("broken"), "{text}");
    }

    #[test]
    fn broken_promise_is_said_in_table_and_picture() {
        let mut rows = rows();
        rows[6].untrue = 3;
        let text = render(&rows, 16);
        assert!(text.contains("decentralized, n2, weighs 2 slow: 3 gets were older"), "{text}");
        assert!(plot(&rows, 16).contains("BROKEN"));
    }

    #[test]
    fn picture_has_two_bars_for_each_row() {
        let svg = plot(&rows(), 16);
        let has = |words: &str| svg.lines().filter(|line| line.trim() == words).count();
        assert_eq!(has("decentralized, slow: n2, weighs 2"), 1, "{svg}");
        assert_eq!((has("2000 (1.2, 3.0)"), has("80 (100.9, 201.0)")), (2, 6), "{svg}");
        assert_eq!(has("2500 (0.5, 2.0)"), 8, "{svg}");
    }
}
