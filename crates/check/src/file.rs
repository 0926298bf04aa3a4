//! Judges one file: from its text to a report.

use kv::{Function, Op};
use serde::Serialize;

use crate::history::jepsen::{self, FailedCas, Nil, Reading};
use crate::history::{History, Outcome, json_lines};
use crate::linear::{self, Budget, Judgement};
use crate::model::{Atomicity, Batch, Initial, Kv};
use crate::window::Window;

pub use crate::history::Unreadable;

/// Some editors put it before a text; it means nothing.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// How a history is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// [`crate::history::json_lines`].
    JsonLines,
    /// [`crate::history::jepsen`], op maps.
    Edn,
    /// [`crate::history::jepsen`], lines of the text log.
    JepsenLog,
}

/// Which model judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelName {
    /// Single keys that are only read, written and compared.
    Register,
    /// Ops of single keys.
    Kv,
    /// Ops of several keys.
    Batch,
}

/// What a file does not say of itself. What is left out is chosen by the file.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which model judges; `None` = batch when an op names several keys, register when all only read, write and compare,
    /// else kv.
    pub model: Option<ModelName>,
    /// What keys begin with; `None` = nothing. A value is given as the file writes it (`0`, `:a`, `"a b"`); without quotes it may
    /// as well be that text.
    pub initial: Option<Initial>,
    /// What a read of nil tells; `None` = nothing in EDN, no value in logs.
    pub nil: Option<Nil>,
    /// What a failed cas tells; `None` = nothing in EDN, that it found another value in logs.
    pub failed_cas: Option<FailedCas>,
    /// An empty value and no value are the same; `None` = in EDN with `:key`.
    pub empty_is_absent: Option<bool>,
    /// What of an op over several keys is atomic; of a history that tells its shards at most each shard's part.
    pub atomicity: Atomicity,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The verdict.
    pub verdict: Verdict,
    /// How the file was read.
    pub format: Format,
    /// Which model judged.
    pub model: ModelName,
    /// Operations in the file.
    pub operations: usize,
    /// Of these, so many happened.
    pub ok: usize,
    /// So many did not.
    pub failed: usize,
    /// Of so many it is not known.
    pub unknown: usize,
    /// So many were not judged, because the model has no meaning for them.
    pub unjudged: usize,
    /// Lines of a log that hold no event.
    pub skipped_lines: usize,
    /// Parts (keys, mostly) that were judged apart.
    pub parts: usize,
    /// Steps of the search.
    pub steps: u64,
    /// Why it is undecided, if it is.
    pub undecided: Option<String>,
    /// What proves the violation, if there is one.
    pub window: Option<Window>,
}

/// The verdict on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is linearizable.
    Holds,
    /// It is not.
    Violated,
    /// Nobody knows.
    Undecided,
}

impl Verdict {
    /// The exit code of a command that judges a file. (2 is for files that cannot be read.)
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Holds => 0,
            Verdict::Violated => 1,
            Verdict::Undecided => 3,
        }
    }
}

/// What a person reads of it: the verdict, what it rests on, and the window.
impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = match self.verdict {
            Verdict::Holds => "linearizable",
            Verdict::Violated => "not linearizable",
            Verdict::Undecided => "undecided",
        };
        let Report { operations, ok, failed, unknown, parts, steps, .. } = self;
        writeln!(f, "{verdict}: {operations} operations ({ok} ok, {failed} failed, {unknown} unknown)")?;
        write!(f, "judged in {parts} parts and {steps} steps")?;
        if self.unjudged > 0 {
            write!(f, "; {} reads were left out, since the model has no meaning for them", self.unjudged)?;
        }
        if let Some(why) = &self.undecided {
            write!(f, "\n{why}")?;
        }
        if let Some(window) = &self.window {
            write!(f, "\n{window}")?;
        }
        Ok(())
    }
}

/// Judges the text of a file. `format`: `None` = see what it is.
pub fn check_file(
    text: &str,
    format: Option<Format>,
    options: &Options,
    budget: &mut Budget,
) -> Result<Report, Unreadable> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let format = match format {
        Some(format) => format,
        None => detect(text)?,
    };
    let (history, events, skipped_lines) = read(text, format, options)?;
    if events == 0 {
        return Err(Unreadable { line: 1, why: format!("the file holds no event ({})", format.name()) });
    }
    let model = options.model.unwrap_or_else(|| model_of(&history));
    let judgement = judge(&history, model, format, options, budget);
    Ok(report(&history, format, model, skipped_lines, judgement))
}

/// What format a text is in.
pub fn detect(text: &str) -> Result<Format, Unreadable> {
    let lines = || text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let told = || lines().filter(|(_, line)| !line.is_empty() && !line.starts_with(';'));
    let Some((number, first)) = told().next() else {
        return Err(Unreadable { line: 1, why: "the file is empty".into() });
    };
    let inner = first.trim_start_matches(|c: char| "{[( ".contains(c));
    let begins: String =
        told().take(3).flat_map(|(_, line)| line.chars()).filter(|c| !c.is_whitespace()).take(3).collect();
    if begins.starts_with("{\"") || begins.starts_with("{}") {
        return Ok(Format::JsonLines);
    }
    if begins == "[{\"" {
        let why =
            "this is a JSON array: write one event per line, without the brackets and commas around them";
        return Err(Unreadable { line: number, why: why.into() });
    }
    if first.starts_with(['#', '^'])
        || inner.len() < first.len() && (inner.is_empty() || inner.starts_with([':', '#', ';', ']', ')']))
    {
        return Ok(Format::Edn);
    }
    if lines().any(|(_, line)| [":invoke", ":ok", ":fail", ":info"].iter().any(|kind| line.contains(kind))) {
        return Ok(Format::JepsenLog);
    }
    let why = "this is no history known here: neither JSON lines (one event per line), nor EDN op maps, nor a Jepsen log";
    Err(Unreadable { line: number, why: why.into() })
}

impl Format {
    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Format::JsonLines => "json-lines",
            Format::Edn => "edn",
            Format::JepsenLog => "jepsen-log",
        }
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        [Format::JsonLines, Format::Edn, Format::JepsenLog]
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| format!("'{text}' is no format: use json-lines, edn or jepsen-log"))
    }
}

impl std::str::FromStr for ModelName {
    type Err = String;

    fn from_str(text: &str) -> Result<ModelName, String> {
        match text {
            "register" => Ok(ModelName::Register),
            "kv" => Ok(ModelName::Kv),
            "batch" => Ok(ModelName::Batch),
            _ => Err(format!("'{text}' is no model: use register, kv or batch")),
        }
    }
}

/// The history, its events and the lines without one.
fn read(text: &str, format: Format, options: &Options) -> Result<(History, usize, usize), Unreadable> {
    let (nil, failed_cas) = match format {
        Format::Edn => (Nil::Wildcard, FailedCas::Dropped),
        Format::JsonLines | Format::JepsenLog => (Nil::Value, FailedCas::Compared),
    };
    let reading =
        Reading { nil: options.nil.unwrap_or(nil), failed_cas: options.failed_cas.unwrap_or(failed_cas) };
    let read = match format {
        Format::JsonLines => {
            let history = json_lines::read(text.as_bytes())?;
            let events = history.events();
            return Ok((history, events, 0));
        }
        Format::Edn => jepsen::read_edn(text, reading)?,
        Format::JepsenLog => jepsen::read_log(text, reading)?,
    };
    Ok((read.history, read.events, read.skipped))
}

fn model_of(history: &History) -> ModelName {
    let ops = || history.operations().iter().map(|operation| &operation.op);
    if ops().any(|op| !Kv::judges(op)) {
        ModelName::Batch
    } else if ops().all(is_of_register) {
        ModelName::Register
    } else {
        ModelName::Kv
    }
}

fn is_of_register(op: &Op) -> bool {
    match op {
        Op::Get { .. } | Op::Put { .. } => true,
        Op::Update { function, .. } => matches!(function, Function::CompareAndPut { .. }),
        _ => false,
    }
}

fn judge(
    history: &History,
    model: ModelName,
    format: Format,
    options: &Options,
    budget: &mut Budget,
) -> Judgement {
    let initial = initial(format, options);
    match model {
        ModelName::Batch => {
            let atomicity = match (options.atomicity, history.shards()) {
                (Atomicity::Whole, Some(count)) => Atomicity::Shard(count),
                (atomicity, _) => atomicity,
            };
            linear::check(&Batch { initial, atomicity }, history, budget)
        }
        ModelName::Register | ModelName::Kv => {
            let named = || history.operations().iter().any(|operation| names_key(&operation.op));
            let empty_is_absent = options.empty_is_absent.unwrap_or_else(|| format == Format::Edn && named());
            linear::check(&Kv { initial, empty_is_absent, ..Kv::default() }, history, budget)
        }
    }
}

fn initial(format: Format, options: &Options) -> Initial {
    let written = match &options.initial {
        Some(Initial::Value(written)) => written,
        other => return other.clone().unwrap_or_default(),
    };
    let value = std::str::from_utf8(written).ok().and_then(|text| match format {
        Format::JsonLines => json_lines::value(text),
        Format::Edn | Format::JepsenLog => jepsen::value(text),
    });
    match value {
        Some(value) if written.starts_with(b"\"") => Initial::Value(value),
        Some(value) => Initial::OneOf(vec![value, written.clone()]),
        None => Initial::Value(written.clone()),
    }
}

fn names_key(op: &Op) -> bool {
    let mut named = false;
    op.for_each_key(&mut |key| named |= !key.is_empty());
    named
}

fn report(
    history: &History,
    format: Format,
    model: ModelName,
    skipped_lines: usize,
    judgement: Judgement,
) -> Report {
    let count = |is: fn(&Outcome) -> bool| {
        history.operations().iter().filter(|operation| is(&operation.outcome)).count()
    };
    let (verdict, undecided, window) = match judgement.verdict {
        linear::Verdict::Holds => (Verdict::Holds, None, None),
        linear::Verdict::Violated(window) => (Verdict::Violated, None, Some(*window)),
        linear::Verdict::Undecided(why) => (Verdict::Undecided, Some(why), None),
    };
    Report {
        verdict,
        format,
        model,
        operations: history.operations().len(),
        ok: count(|outcome| matches!(outcome, Outcome::Done(_))),
        failed: count(|outcome| *outcome == Outcome::Failed),
        unknown: count(|outcome| *outcome == Outcome::Unknown),
        unjudged: judgement.unjudged,
        skipped_lines,
        parts: judgement.parts,
        steps: judgement.steps,
        undecided,
        window,
    }
}
