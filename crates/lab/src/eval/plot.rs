//! The rows as a picture: a bar of throughput and, beside it, one of wrong reads.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::Row;

/// Width of the picture, in pixels.
const WIDTH: u32 = 1000;
/// Height of a row.
const ROW: i32 = 32;
/// Height of a bar.
const BAR: i32 = 20;
/// Between the shards of one copy and the groups.
const GAP: i32 = 26;
/// Where the first row is, and what is left below the last.
const TOP: i32 = 92;
const BOTTOM: i32 = 66;
/// Where the bars of throughput begin, and how long the longest is.
const OPS_LEFT: i32 = 160;
const OPS_LONGEST: i32 = 300;
/// Where the bars of wrong reads begin, and how long one of 100 percent is.
const WRONG_LEFT: i32 = 540;
const WRONG_LONGEST: i32 = 220;

/// Two colours that the colour-blind tell apart, too (Okabe and Ito), and one for what is good.
const OPS: RGBColor = RGBColor(0, 114, 178);
const WRONG: RGBColor = RGBColor(213, 94, 0);
const NONE: RGBColor = RGBColor(0, 128, 96);
const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(110, 110, 110);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A picture in SVG of these rows, which so many clients made.
pub fn plot(rows: &[Row], clients: usize) -> String {
    let mut svg = String::new();
    {
        let last = rows.len().checked_sub(1).map_or(TOP, |last| middle(rows, last) + ROW);
        let area = SVGBackend::with_string(&mut svg, (WIDTH, (last + BOTTOM) as u32)).into_drawing_area();
        draw(&area, rows, clients, last).expect("a text takes everything");
    }
    svg
}

/// Where a row's middle is, in pixels from above.
fn middle(rows: &[Row], index: usize) -> i32 {
    let is_behind = rows[0].is_group() != rows[index].is_group();
    TOP + ROW * index as i32 + if is_behind { GAP } else { 0 }
}

/// How long a bar is in pixels, where the longest stands for so much.
fn length(value: f64, most: f64, longest: i32) -> i32 {
    if most <= 0.0 { 0 } else { (value / most * f64::from(longest)).round() as i32 }
}

fn draw(area: &Area<'_>, rows: &[Row], clients: usize, last: i32) -> Result<(), Box<dyn std::error::Error>> {
    area.fill(&WHITE)?;
    text(area, "What consistency costs", (20, 28), 24, INK, HPos::Left)?;
    text(area, "puts and gets a second", (OPS_LEFT, 62), 15, OPS, HPos::Left)?;
    text(
        area,
        "wrong reads, % of all gets (old by at most, of what is allowed)",
        (WRONG_LEFT, 62),
        15,
        WRONG,
        HPos::Left,
    )?;
    let most = rows.iter().map(|row| row.ops_per_second).max().unwrap_or(0) as f64;
    for (index, row) in rows.iter().enumerate() {
        let y = middle(rows, index);
        text(area, row.form, (OPS_LEFT - 10, y), 15, INK, HPos::Right)?;
        let ops = length(row.ops_per_second as f64, most, OPS_LONGEST);
        bar(area, OPS_LEFT, ops, y, OPS)?;
        text(area, &row.ops_per_second.to_string(), (OPS_LEFT + ops + 6, y), 14, INK, HPos::Left)?;
        let wrong = length(row.wrong_percent(), 100.0, WRONG_LONGEST);
        bar(area, WRONG_LEFT, wrong, y, WRONG)?;
        let (words, colour) = words(row);
        text(area, &words, (WRONG_LEFT + wrong + 6, y), 14, colour, HPos::Left)?;
    }
    for left in [OPS_LEFT, WRONG_LEFT] {
        area.draw(&PathElement::new([(left, TOP - ROW / 2), (left, last - ROW / 2)], FAINT))?;
    }
    for (line, words) in legend(rows, clients).iter().enumerate() {
        text(area, words, (20, last + 10 + 19 * line as i32), 13, FAINT, HPos::Left)?;
    }
    area.present()?;
    Ok(())
}

/// What stands behind the bar of wrong reads.
fn words(row: &Row) -> (String, RGBColor) {
    if row.wrong_reads == 0 {
        return ("none".into(), NONE);
    }
    let millis = |micros: u64| micros.div_ceil(1000);
    let (by, bound) = (millis(row.wrong_by_micros), millis(row.bound_micros));
    let words = format!("{:.1} % ({by} ms of {bound} ms)", row.wrong_percent());
    if row.untrue > 0 { (format!("{words} BROKEN"), WRONG) } else { (words, INK) }
}

fn legend(rows: &[Row], clients: usize) -> [String; 2] {
    let copies = rows.iter().map(|row| row.replicas).max().unwrap_or(1);
    [
        format!(
            "{clients} clients, half puts, half gets. Above: shards of one copy. Below: groups of {copies} copies; sync-K: a put waits for K \
             secondaries,"
        ),
        "gets go to any member; strong: a put waits for all. Wrong: older than a put that was acknowledged before the get began."
            .into(),
    ]
}

fn bar(
    area: &Area<'_>,
    left: i32,
    length: i32,
    y: i32,
    colour: RGBColor,
) -> Result<(), Box<dyn std::error::Error>> {
    let corners = [(left, y - BAR / 2), (left + length, y + BAR / 2)];
    Ok(area.draw(&Rectangle::new(corners, colour.filled()))?)
}

fn text(
    area: &Area<'_>,
    words: &str,
    at: (i32, i32),
    size: u32,
    colour: RGBColor,
    anchor: HPos,
) -> Result<(), Box<dyn std::error::Error>> {
    let style = ("sans-serif", size).into_font().color(&colour).pos(Pos::new(anchor, VPos::Center));
    Ok(area.draw(&Text::new(words.to_string(), at, style))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::report;

    #[test]
    fn bars_are_as_long_as_what_they_stand_for() {
        assert_eq!(length(50.0, 100.0, 300), 150);
        assert_eq!(length(100.0, 100.0, 300), 300);
        assert_eq!(length(0.0, 100.0, 300), 0);
        assert_eq!(length(0.0, 0.0, 300), 0, "where nothing was answered there is nothing to draw");
    }

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
