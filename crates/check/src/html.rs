//! A window as a page that any browser shows: one lane per process, one bar per operation, the failing one marked.
//!
//! The page stands alone: no scripts, no fonts, nothing fetched. Events are drawn at even distances, so the drawing shows
//! the order, which is what counts; the times are in the hints of the bars.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::window::{Shown, Window};

/// Distance between two events, in pixels: enough for a short label over two of them.
const EVENT_WIDTH: usize = 72;
/// Height of a lane, in pixels.
const LANE_HEIGHT: usize = 44;
/// Room for the names of the processes, in pixels.
const NAMES_WIDTH: usize = 110;
/// Of a label, so many characters fit over one event's width.
const LABEL_CHARS: usize = 10;

/// The page.
pub fn render(window: &Window) -> String {
    let layout = Layout::new(window);
    let mut page = String::with_capacity(8192);
    page += HEAD;
    write_into(&mut page, format_args!("<h1>Not linearizable: {}</h1>\n", escape(&window.part)));
    write_into(&mut page, format_args!("<p>{}</p>\n", escape(&window.reason())));
    if window.left_out > 0 {
        let count = window.left_out;
        write_into(
            &mut page,
            format_args!("<p>{count} earlier operations belong to the proof and are not drawn.</p>\n"),
        );
    }
    draw(&mut page, window, &layout);
    table(&mut page, window);
    page += "</body>\n</html>\n";
    page
}

const HEAD: &str = "<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>Not linearizable</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em; color: #222; background: #fff; }
h1 { font-size: 1.3em; }
.scroll { overflow-x: auto; border: 1px solid #ccc; margin: 1em 0; }
svg text { font: 12px ui-monospace, monospace; fill: #222; }
.lane { stroke: #ddd; }
.done { fill: #cfe3f7; stroke: #4a7fb5; }
.open { fill: #f3ecd2; stroke: #b59a4a; stroke-dasharray: 5 3; }
.fails { fill: #f7cfcf; stroke: #b53030; stroke-width: 2; }
.end { stroke: #b53030; stroke-dasharray: 3 3; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .2em .8em; border-bottom: 1px solid #ddd; font: 13px ui-monospace, monospace; }
tr.bad td { background: #f7cfcf; }
</style>
</head>
<body>
";

/// Where events and processes are drawn.
struct Layout {
    columns: BTreeMap<usize, usize>,
    lanes: BTreeMap<u64, usize>,
}

impl Layout {
    fn new(window: &Window) -> Layout {
        let shown = || window.operations.iter();
        let events: BTreeSet<usize> =
            shown().flat_map(|shown| [Some(shown.called), shown.returned]).flatten().collect();
        let processes: BTreeSet<u64> = shown().map(|shown| shown.process).collect();
        Layout {
            columns: events.into_iter().zip(0..).collect(),
            lanes: processes.into_iter().zip(0..).collect(),
        }
    }

    fn x(&self, event: usize) -> usize {
        NAMES_WIDTH + self.columns[&event] * EVENT_WIDTH
    }

    fn y(&self, process: u64) -> usize {
        self.lanes[&process] * LANE_HEIGHT + 8
    }

    fn width(&self) -> usize {
        NAMES_WIDTH + (self.columns.len() + 1) * EVENT_WIDTH
    }

    fn height(&self) -> usize {
        self.lanes.len() * LANE_HEIGHT + 16
    }
}

fn draw(page: &mut String, window: &Window, layout: &Layout) {
    let (width, height) = (layout.width(), layout.height());
    write_into(
        page,
        format_args!(
            "<div class=\"scroll\">\n<svg width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"Timeline\">\n"
        ),
    );
    for process in layout.lanes.keys() {
        let middle = layout.y(*process) + LANE_HEIGHT / 2 - 4;
        write_into(
            page,
            format_args!(
                "<line class=\"lane\" x1=\"0\" x2=\"{width}\" y1=\"{middle}\" y2=\"{middle}\"/>\
                 <text x=\"6\" y=\"{}\">process {process}</text>\n",
                middle - 6
            ),
        );
    }
    for (index, shown) in window.operations.iter().enumerate() {
        bar(page, shown, index == window.fails, layout);
    }
    if let Some(returned) = window.operations[window.fails].returned {
        let x = layout.x(returned);
        write_into(
            page,
            format_args!("<line class=\"end\" x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"{height}\"/>\n"),
        );
    }
    page.push_str("</svg>\n</div>\n");
}

fn bar(page: &mut String, shown: &Shown, fails: bool, layout: &Layout) {
    let (x, y) = (layout.x(shown.called), layout.y(shown.process));
    let end = shown.returned.map_or(layout.width(), |returned| layout.x(returned));
    let kind = match (fails, shown.returned) {
        (true, _) => "fails",
        (false, Some(_)) => "done",
        (false, None) => "open",
    };
    let label = format!("{} \u{2192} {}", shown.op, shown.answer);
    write_into(
        page,
        format_args!(
            "<g><title>{}\n{}</title><rect class=\"{kind}\" x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"4\"/>\
             <text x=\"{}\" y=\"{}\">{}</text></g>\n",
            escape(&label),
            times(shown),
            (end - x).max(4),
            LANE_HEIGHT - 16,
            x + 6,
            y + 18,
            escape(&fitting(&label, end - x)),
        ),
    );
}

fn times(shown: &Shown) -> String {
    let time = |micros: Option<u64>| micros.map_or(String::new(), |micros| format!(" at {micros} us"));
    let end = match shown.returned {
        Some(returned) => format!("returned: event {returned}{}", time(shown.returned_micros)),
        None => "not returned".into(),
    };
    format!("called: event {}{}, {end}", shown.called, time(shown.called_micros))
}

/// As much of the label as the bar has room for.
fn fitting(label: &str, width: usize) -> String {
    let room = width / EVENT_WIDTH * LABEL_CHARS;
    if label.chars().count() <= room {
        return label.to_owned();
    }
    let cut: String = label.chars().take(room.saturating_sub(1)).collect();
    format!("{cut}\u{2026}")
}

fn table(page: &mut String, window: &Window) {
    page.push_str("<table>\n<tr><th>process</th><th>called</th><th>returned</th><th>operation</th><th>answer</th></tr>\n");
    for (index, shown) in window.operations.iter().enumerate() {
        let class = if index == window.fails { " class=\"bad\"" } else { "" };
        let returned = shown.returned.map_or("-".into(), |returned| returned.to_string());
        write_into(
            page,
            format_args!(
                "<tr{class}><td>{}</td><td>{}</td><td>{returned}</td><td>{}</td><td>{}</td></tr>\n",
                shown.process,
                shown.called,
                escape(&shown.op),
                escape(&shown.answer)
            ),
        );
    }
    page.push_str("</table>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn write_into(page: &mut String, text: std::fmt::Arguments) {
    page.write_fmt(text).expect("a string takes all that is written");
}
