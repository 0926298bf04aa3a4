//! How rows are drawn: each has two bars, of what it is measured by, beside each other.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Width of the picture, in pixels.
const WIDTH: u32 = 1000;
/// Height of a row.
const ROW: i32 = 32;
/// Height of a bar.
const BAR: i32 = 20;
/// Before a row that is of another kind than the one above.
const GAP: i32 = 26;
/// Where the first row is.
const TOP: i32 = 92;
/// Height of a line of the legend, and what is left above and below it.
const LEGEND_LINE: i32 = 19;
const MARGIN: i32 = 14;

/// Colours that the colour-blind tell apart, too (Okabe and Ito).
pub const BLUE: RGBColor = RGBColor(0, 114, 178);
pub const RED: RGBColor = RGBColor(213, 94, 0);
pub const GREEN: RGBColor = RGBColor(0, 128, 96);
pub const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(110, 110, 110);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// What is drawn.
pub struct Picture {
    pub title: &'static str,
    pub columns: [Column; 2],
    pub rows: Vec<Row>,
    /// What is said below, a line each.
    pub legend: Vec<String>,
}

/// Bars below each other.
pub struct Column {
    pub head: &'static str,
    pub colour: RGBColor,
    /// Where they begin, in pixels from the left.
    pub left: i32,
    /// How long the longest is, in pixels.
    pub longest: i32,
    /// What that one stands for.
    pub most: f64,
}

/// A row of the picture.
pub struct Row {
    pub name: String,
    /// It is of another kind than the one above.
    pub is_apart: bool,
    pub bars: [Bar; 2],
}

/// A bar, and what stands behind it.
pub struct Bar {
    pub value: f64,
    pub words: String,
    pub colour: RGBColor,
}

impl Picture {
    /// It as SVG.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        {
            let height = self.last() + LEGEND_LINE * self.legend.len() as i32 + 2 * MARGIN;
            let area = SVGBackend::with_string(&mut svg, (WIDTH, height as u32));
            self.draw(&area.into_drawing_area()).expect("a text takes everything");
        }
        svg
    }

    /// Where a row's middle is, in pixels from above.
    fn middle(&self, index: usize) -> i32 {
        let gaps = self.rows[..=index].iter().filter(|row| row.is_apart).count();
        TOP + ROW * index as i32 + GAP * gaps as i32
    }

    /// Where what is behind the last row begins.
    fn last(&self) -> i32 {
        self.rows.len().checked_sub(1).map_or(TOP, |last| self.middle(last) + ROW)
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        area.fill(&WHITE)?;
        text(area, self.title, (20, 28), 24, INK, HPos::Left)?;
        for Column { head, left, colour, .. } in &self.columns {
            text(area, head, (*left, 62), 15, *colour, HPos::Left)?;
        }
        for (index, row) in self.rows.iter().enumerate() {
            let y = self.middle(index);
            text(area, &row.name, (self.columns[0].left - 10, y), 15, INK, HPos::Right)?;
            for (column, Bar { value, words, colour }) in self.columns.iter().zip(&row.bars) {
                let long = length(*value, column.most, column.longest);
                bar(area, column.left, long, y, column.colour)?;
                text(area, words, (column.left + long + 6, y), 14, *colour, HPos::Left)?;
            }
        }
        let last = self.last();
        for Column { left, .. } in &self.columns {
            area.draw(&PathElement::new([(*left, TOP - ROW / 2), (*left, last - ROW / 2)], FAINT))?;
        }
        for (line, words) in self.legend.iter().enumerate() {
            text(area, words, (20, last + MARGIN + LEGEND_LINE * line as i32), 13, FAINT, HPos::Left)?;
        }
        area.present()?;
        Ok(())
    }
}

/// How long a bar is in pixels, where the longest stands for so much.
fn length(value: f64, most: f64, longest: i32) -> i32 {
    if most <= 0.0 { 0 } else { (value / most * f64::from(longest)).round() as i32 }
}

fn bar(area: &Area<'_>, left: i32, length: i32, y: i32, colour: RGBColor) -> Drawn {
    let corners = [(left, y - BAR / 2), (left + length, y + BAR / 2)];
    Ok(area.draw(&Rectangle::new(corners, colour.filled()))?)
}

fn text(area: &Area<'_>, words: &str, at: (i32, i32), size: u32, colour: RGBColor, anchor: HPos) -> Drawn {
    let style = ("sans-serif", size).into_font().color(&colour).pos(Pos::new(anchor, VPos::Center));
    Ok(area.draw(&Text::new(words.to_string(), at, style))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_what_they_stand_for() {
        assert_eq!(length(50.0, 100.0, 300), 150);
        assert_eq!(length(100.0, 100.0, 300), 300);
        assert_eq!(length(0.0, 100.0, 300), 0);
        assert_eq!(length(0.0, 0.0, 300), 0, "where nothing was answered there is nothing to draw");
    }
}
