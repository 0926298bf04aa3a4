//! The prompt on a terminal: editing, history, completion, hints.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, IsTerminal};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kv::Request;
use reedline::{
    ColumnarMenu, DefaultHinter, DefaultPrompt, DefaultPromptSegment, Emacs, ExternalPrinter,
    FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder, Reedline, ReedlineEvent, ReedlineMenu, Signal,
    default_emacs_keybindings,
};

use super::complete::Words;
use super::line::definition;
use super::session::{Outcome, Shell};
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
pub fn run_prompt(shell: &Arc<Shell>, prompt: Prompt) -> Result<Code, Error> {
    let mut editor = editor(prompt, shell.clone());
    let terminal = io::stdout().is_terminal();
    let (mut out, mut err) = (BufWriter::new(io::stdout()), io::stderr());
    let mut out = Output { out: &mut out, err: &mut err, terminal, json: false };
    out.note("help shows every command by an example; quit leaves.")?;
    loop {
        match editor.read_line(&text(shell.keyspace().as_deref())).map_err(Error::Output)? {
            Signal::Success(line) if shell.execute(line.as_bytes(), &mut out) == Outcome::Quit => break,
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
/// Read and write for the owner, nothing for others.
const USER_ONLY: u32 = 0o600;
const MENU: &str = "completion";

/// What stands before a line: the keyspace too, where it is not the usual one.
fn text(keyspace: Option<&str>) -> DefaultPrompt {
    let name = keyspace.filter(|name| *name != Request::KEYSPACE);
    let text = name.map_or_else(|| "capstan".into(), |name| format!("capstan {name}"));
    DefaultPrompt::new(DefaultPromptSegment::Basic(text), DefaultPromptSegment::Empty)
}

fn editor(prompt: Prompt, shell: Arc<Shell>) -> Reedline {
    let mut keys = default_emacs_keybindings();
    let complete = ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.into()), ReedlineEvent::MenuNext]);
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, complete);
    let menu = Box::new(ColumnarMenu::default().with_name(MENU));
    let mut editor = Reedline::create()
        .with_completer(Box::new(Words::new(definition(), Box::new(move || shell.keyspaces()))))
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

/// Where lines are remembered: the state folder of the user. Values are secrets, sometimes: it is for the user alone.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(std::env::home_dir()?.join(".local/state")))?;
    let folder = state.join("capstan");
    std::fs::create_dir_all(&folder).ok()?;
    let file = folder.join("history");
    for_the_user_alone(&file).ok()?;
    Some(file)
}

/// Makes a file that nobody else may read, or one that is there so.
fn for_the_user_alone(file: &Path) -> io::Result<()> {
    let file = File::options().append(true).create(true).mode(USER_ONLY).open(file)?;
    file.set_permissions(Permissions::from_mode(USER_ONLY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_file_is_for_the_user_alone_be_it_new_or_old() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        std::fs::write(&old, "put k secret\n").unwrap();
        std::fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
        for file in [new, old.clone()] {
            for_the_user_alone(&file).unwrap();
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, USER_ONLY);
        }
        assert_eq!(std::fs::read(old).unwrap(), b"put k secret\n");
    }
}
