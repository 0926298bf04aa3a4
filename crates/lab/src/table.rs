//! The report as a table of 80 columns: what happened in each phase, and at the end what each choice costs.

use std::fmt::Write;

use crate::report::{PhaseReport, Report, SideReport, Verdict};
use crate::tally::{Counts, both};

/// A wait that is longer than this is noticed, in microseconds; a shorter one may be the machine's.
const NOTICED_MICROS: u64 = 400_000;
/// Whoever waits for so long when a phase ends is not served, in microseconds; and for a quarter of the phase, where that is longer.
const UNSERVED_MICROS: u64 = 500_000;
/// Of so many percent that fail one may be chance.
const FAILED_PERCENT: u64 = 5;

/// What each phase is, for people.
const TITLES: [(&str, &str); 6] = [
    ("calm", "CALM"),
    ("cut", "CUT OFF: nothing passes between the node that leads and the others"),
    ("healed", "HEALED: all nodes hear each other again"),
    ("killed", "KILLED: the process of the node that leads, as by kill -9"),
    ("back", "BACK: it is started again"),
    ("calm-again", "CALM AGAIN"),
];

const HEAD: [&str; 2] = [
    "                   ------- writes ------  ----- reads ----  local, bounded reads",
    "PROTOCOL    NODES   done fail doubt  wait  done fail  wait  done fail stale   by",
];

const LEGEND: &str = "\
Each node has clients of its own, which ask no other. fail: refused, or no
answer within a second: it did not happen. doubt: it may have happened. wait:
the longest time in which some node's clients had no answer, in milliseconds.
stale: older than what was acknowledged before; by: so much, in milliseconds.
Under quorum and broadcast nobody leads: there it is one node, and writes are
puts only. Reads are linearizable ones, which broadcast refuses.
";

const COSTS: [&str; 2] = [
    "WHAT EACH COSTS     cut off: leader   cut off: others    killed: others    stale",
    "PROTOCOL             writes   reads    writes   reads    writes   reads       by",
];

const COSTS_LEGEND: &str = "\
yes: served. 1.3 s: after that time without an answer. 90 %: that many were
answered. no: not served when the phase ended. stale by: at most, local and
bounded reads in all phases; linearizable ones never are, but of primary-0 on a
side that was cut off.
";

/// The table of these reports.
pub fn render(reports: &[Report]) -> String {
    let mut text = String::new();
    for (phase, title) in TITLES {
        block(&mut text, reports, phase, title);
    }
    text += LEGEND;
    text.push('\n');
    COSTS.iter().for_each(|head| line(&mut text, format_args!("{head}")));
    reports.iter().for_each(|report| costs(&mut text, report));
    text += COSTS_LEGEND;
    text.push('\n');
    reports.iter().for_each(|report| verdict(&mut text, report));
    text
}

fn block(text: &mut String, reports: &[Report], phase: &str, title: &str) {
    let phases = || reports.iter().filter_map(|report| Some((report, report.phase(phase)?)));
    let Some((_, PhaseReport { micros, .. })) = phases().next() else { return };
    line(text, format_args!("{title} ({})", seconds(*micros)));
    HEAD.iter().for_each(|head| line(text, format_args!("{head}")));
    for (report, phase) in phases() {
        // Clients of a node that is down ask nobody: what is worth a line is what they had asked.
        let sides =
            phase.sides.iter().filter(|side| side.writes.wait_micros.is_some() || side.writes.in_doubt > 0);
        for (index, side) in sides.enumerate() {
            let name = if index == 0 { report.protocol.as_str() } else { "" };
            row(text, name, side);
        }
    }
    text.push('\n');
}

fn row(text: &mut String, name: &str, side: &SideReport) {
    let SideReport { side, writes, reads, bounded, local, .. } = side;
    let weak = both(*bounded, *local);
    let millis = |micros: Option<u64>| micros.map_or("-".into(), |micros| micros.div_ceil(1000).to_string());
    let by = millis(Some(weak.stale_by_micros).filter(|_| weak.stale > 0));
    line(
        text,
        format_args!(
            "{name:11} {side:6} {:5} {:4} {:5} {:>5} {:5} {:4} {:>5} {:5} {:4} {:5} {by:>4}",
            writes.done,
            writes.failed,
            writes.in_doubt,
            millis(writes.wait_micros),
            reads.done,
            reads.failed,
            millis(reads.wait_micros),
            weak.done,
            weak.failed,
            weak.stale,
        ),
    );
}

fn costs(text: &mut String, report: &Report) {
    let cell = |phase: &str, side: &str, of: fn(&SideReport) -> Counts| {
        let phase = report.phase(phase)?;
        phase.side(side).map(|side| served(&of(side), phase.micros))
    };
    let of = |phase: &str, side: &str| {
        let cell = |of| cell(phase, side, of).unwrap_or_else(|| "-".into());
        format!("{:>7} {:>7}", cell(|side| side.writes), cell(|side| side.reads))
    };
    let weak = report.phases.iter().flat_map(|phase| &phase.sides).map(|side| both(side.bounded, side.local));
    let stale = weak.filter(|weak| weak.stale > 0).map(|weak| weak.stale_by_micros).max();
    line(
        text,
        format_args!(
            "{:19} {}   {}   {}  {:>7}",
            report.protocol,
            of("cut", "alone"),
            of("cut", "others"),
            of("killed", "others"),
            stale.map_or_else(|| "none".into(), seconds),
        ),
    );
}

/// A time, in seconds with a tenth.
fn seconds(micros: u64) -> String {
    format!("{:.1} s", micros as f64 / 1e6)
}

/// Whether requests were served in a phase, in a word.
pub fn served(counts: &Counts, phase_micros: u64) -> String {
    let Counts { done, failed, in_doubt, wait_micros, waits_still_micros, .. } = counts;
    let (Some(wait), Some(still)) = (wait_micros, waits_still_micros) else { return "-".into() };
    let asked = done + failed + in_doubt;
    if *done == 0 || *still >= UNSERVED_MICROS.max(phase_micros / 4) {
        "no".into()
    } else if *wait > NOTICED_MICROS {
        seconds(*wait)
    } else if (failed + in_doubt) * 100 > asked * FAILED_PERCENT {
        format!("{} %", done * 100 / asked)
    } else {
        "yes".into()
    }
}

fn verdict(text: &mut String, report: &Report) {
    let Report { protocol, says, acknowledged, lost, requests, verdict, .. } = report;
    let lost = if *lost == 0 { "none".into() } else { lost.to_string() };
    line(
        text,
        format_args!("{protocol:11} {} ({says}): {requests} requests, {acknowledged} writes", verdict.name()),
    );
    line(text, format_args!("{:11} acknowledged, {lost} lost", ""));
    for broken in &report.broken {
        line(text, format_args!("{:11} {broken}", ""));
    }
    if !matches!(verdict, Verdict::Linearizable | Verdict::Converged | Verdict::Listed) || report.is_broken()
    {
        report.files.iter().for_each(|file| line(text, format_args!("{:11} kept: {file}", "")));
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("a text takes everything");
}

#[cfg(test)]
mod tests;
