//! The prompt on a terminal: editing, history, completion, hints.

use std::io::{self, BufWriter, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use reedline::{
    ColumnarMenu, DefaultHinter, DefaultPrompt, DefaultPromptSegment, Emacs, ExternalPrinter,
    FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder, Reedline, ReedlineEvent, ReedlineMenu, Signal,
    default_emacs_keybindings,
};

use super::complete::Words;
use super::line::definition;
use super::{Outcome, Shell};
use crate::exit::{Code, Error};
use crate::print::Output;

/// What the owner of a prompt wants of it.
#[derive(Default)]
pub struct Prompt {
    /// Lines that it prints above the prompt.
    pub news: Option<ExternalPrinter<String>>,
    /// Ends the prompt when set.
    pub stop: Arc<AtomicBool>,
}

/// Reads and runs lines until one says to leave.
pub fn run_prompt(shell: &Shell, prompt: Prompt) -> Result<Code, Error> {
    let mut editor = editor(prompt);
    let terminal = io::stdout().is_terminal();
    let (mut out, mut err) = (BufWriter::new(io::stdout()), io::stderr());
    let mut out = Output { out: &mut out, err: &mut err, terminal, json: false };
    let text = DefaultPrompt::new(DefaultPromptSegment::Basic("capstan".into()), DefaultPromptSegment::Empty);
    out.note("help shows every command by an example; quit leaves.")?;
    loop {
        match editor.read_line(&text).map_err(Error::Output)? {
            Signal::Success(line) if shell.execute(&line, &mut out)? == Outcome::Quit => break,
            Signal::CtrlD => break,
            Signal::ExternalBreak(_) => {
                // Whoever ended it has more to say, on a line of its own.
                out.note("")?;
                break;
            }
            _ => {}
        }
    }
    Ok(Code::Done)
}

/// Lines that are remembered over the ends of shells.
const HISTORY_LINES: usize = 10_000;
const MENU: &str = "completion";

fn editor(prompt: Prompt) -> Reedline {
    let mut keys = default_emacs_keybindings();
    let complete = ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.into()), ReedlineEvent::MenuNext]);
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, complete);
    let menu = Box::new(ColumnarMenu::default().with_name(MENU));
    let mut editor = Reedline::create()
        .with_completer(Box::new(Words::new(definition())))
        .with_partial_completions(true)
        .with_quick_completions(true)
        .with_menu(ReedlineMenu::EngineCompleter(menu))
        .with_hinter(Box::new(DefaultHinter::default()))
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_break_signal(prompt.stop);
    if let Some(news) = prompt.news {
        editor = editor.with_external_printer(news);
    }
    // A shell without a memory is still a shell.
    match history_file().and_then(|file| FileBackedHistory::with_file(HISTORY_LINES, file).ok()) {
        Some(history) => editor.with_history(Box::new(history)),
        None => editor,
    }
}

/// Where lines are remembered: the state folder of the user.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(std::env::home_dir()?.join(".local/state")))?;
    let folder = state.join("capstan");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}
