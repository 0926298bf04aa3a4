//! `capstan lab check`: a recorded history, judged.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use check::history::jepsen::Nil;
use check::linear::Budget;
use check::model::Initial;
use check::{Format, Options, Report, Verdict};

use crate::exit::{Code, Error};
use crate::print::Output;

/// Steps of a search; the time limit ends most searches earlier.
const STEPS_MAX: u64 = u64::MAX;

/// The options of `capstan lab check`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  capstan lab check run.jsonl                       the format and the model are seen from the file
  capstan lab check etcd_000.log --model register
  capstan lab check cas.edn --model register --init 0 --nil-reads wildcard
  capstan lab check run.jsonl --html run.html       a picture of what went wrong

Exit codes: 0 it holds, 1 violated, 2 unreadable, 3 undecided: the time was up.")]
pub struct Args {
    /// JSON lines, EDN maps, or the lines of a Jepsen log
    pub file: PathBuf,
    /// register, kv, or batch [default: seen from the operations]
    #[arg(long)]
    pub model: Option<check::file::ModelName>,
    /// json-lines, edn, or jepsen-log [default: seen from the file]
    #[arg(long)]
    pub format: Option<Format>,
    /// The value that every key begins with, as the file writes it [default: none]
    #[arg(long, value_name = "VALUE")]
    pub init: Option<String>,
    /// What a read of nil tells: wildcard = nothing, value = that there was no value [default: as the format has it]
    #[arg(long, value_name = "wildcard|value", value_parser = nil)]
    pub nil_reads: Option<Nil>,
    /// Give up after so many seconds
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub seconds: u64,
    /// Where to draw what proves a violation [default: FILE.html]
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Judges the file.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<Code, Error> {
    let text = read(&args.file)?;
    // None: so late that it never comes.
    let until = Instant::now().checked_add(Duration::from_secs(args.seconds));
    let mut expired = || until.is_some_and(|until| Instant::now() >= until);
    let mut budget = Budget::steps(STEPS_MAX).until(&mut expired);
    let options = Options {
        model: args.model,
        initial: args.init.clone().map(|value| Initial::Value(value.into())),
        nil: args.nil_reads,
        ..Options::default()
    };
    let report = check::check_file(&text, args.format, &options, &mut budget)
        .map_err(|error| Error::Usage(format!("{}: {error}", args.file.display())))?;
    let code = match report.verdict {
        Verdict::Holds => Code::Done,
        Verdict::Violated => Code::NotMet,
        Verdict::Undecided => Code::Unavailable,
    };
    out.told(code, |out| {
        let printed = print(&report, out);
        // The one may be written where the other cannot.
        draw(args, &report, out).and(printed)
    })
}

fn read(file: &Path) -> Result<String, Error> {
    let bytes =
        fs::read(file).map_err(|error| Error::Usage(format!("reading {}: {error}", file.display())))?;
    String::from_utf8(bytes).map_err(|error| {
        let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + sound.iter().filter(|&&byte| byte == b'\n').count();
        Error::Usage(format!("{}: line {line}: this is no text in UTF-8", file.display()))
    })
}

fn print(report: &Report, out: &mut Output<'_>) -> Result<(), Error> {
    if out.json {
        let object = serde_json::to_value(report).expect("a report has text keys only");
        out.object(&object)?;
    } else {
        out.line(&report.to_string())?;
    }
    Ok(())
}

fn draw(args: &Args, report: &Report, out: &mut Output<'_>) -> Result<(), Error> {
    let Some(window) = &report.window else { return Ok(()) };
    let html = args.html.clone().unwrap_or_else(|| beside(&args.file));
    let told = match fs::write(&html, check::html::render(window)) {
        Ok(()) => format!("a picture of it is in {}", html.display()),
        Err(error) => {
            format!("error: drawing it in {}: {error}; name another file with --html", html.display())
        }
    };
    Ok(out.note(&told)?)
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".html");
    name.into()
}

fn nil(text: &str) -> Result<Nil, String> {
    match text {
        "wildcard" => Ok(Nil::Wildcard),
        "value" => Ok(Nil::Value),
        _ => Err(format!("'{text}' is neither wildcard nor value")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};

    use super::*;
    use crate::fake::Closed;

    const GET: &[u8] = b"{\"process\":1,\"type\":\"invoke\",\"f\":\"get\"}\n";

    const VIOLATED: &str = concat!(
        r#"{"process":1,"type":"invoke","f":"get"}"#,
        "\n",
        r#"{"process":1,"type":"ok","value":"1"}"#,
        "\n"
    );

    #[test]
    fn check_verdict_stands_whatever_cannot_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("run.jsonl");
        fs::write(&file, VIOLATED).expect("a file");
        for (html, kind) in [
            (folder.path().join("no/such/folder.html"), None),
            (folder.path().join("run.html"), Some(ErrorKind::StorageFull)),
            (folder.path().join("no/such/folder.html"), Some(ErrorKind::BrokenPipe)),
        ] {
            let is_drawn = !html.to_string_lossy().contains("no/such");
            let args = Args { html: Some(html.clone()), ..args(file.clone()) };
            let (mut buffer, mut err) = (Vec::new(), Vec::new());
            let mut closed = kind.map(Closed);
            let out = closed.as_mut().map_or(&mut buffer as &mut dyn Write, |closed| closed);
            let result = run(&args, &mut Output { out, err: &mut err, terminal: false, json: false });
            let code = result.unwrap_or_else(|error| {
                assert!(kind.is_some() && error.to_string().contains("writing the output"), "{error}");
                error.code()
            });
            assert_eq!(code, Code::NotMet, "{kind:?}");
            let err = String::from_utf8_lossy(&err);
            assert_eq!(err.contains("error: drawing it in"), !is_drawn, "{err}");
            assert_eq!(html.exists(), is_drawn);
        }
    }

    fn args(file: PathBuf) -> Args {
        Args { file, model: None, format: None, init: None, nil_reads: None, seconds: 60, html: None }
    }

    fn check(content: &[u8], seconds: u64) -> Result<Code, Error> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("run.jsonl");
        fs::write(&file, content).expect("a file");
        let args = Args { seconds, ..args(file) };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        run(&args, &mut Output { out: &mut out, err: &mut err, terminal: false, json: false })
    }

    #[test]
    fn check_of_no_text_is_refused_with_the_line() {
        let Err(error) = check(&[GET, b"\xff\n"].concat(), 1) else { panic!("it is no text") };
        assert!(error.to_string().contains("run.jsonl: line 2: "), "{error}");
        assert!(matches!(error, Error::Usage(_)));
    }

    #[test]
    fn check_may_take_any_time() {
        assert!(matches!(check(GET, u64::MAX), Ok(Code::Done)));
    }
}
