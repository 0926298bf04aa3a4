//! System calls of a running node that fail, or say that they did what they did not: strace makes them.

use std::io::{Read, Seek};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::nodes::{PATIENCE, text};

/// An strace at work. Dropped, it lets go.
pub struct Strace {
    child: Child,
}

impl Strace {
    /// Tries whether a process can be traced here; else says why.
    pub fn probe() -> Result<(), String> {
        let sleep = Command::new("sleep").arg("60").spawn();
        let mut sleep = sleep.map_err(|error| format!("'sleep': {error}"))?;
        let attached = Strace::attach(sleep.id() as i32, "fdatasync", "error=EIO");
        // It may have ended, which says nothing about tracing.
        let _ = sleep.kill();
        let _ = sleep.wait();
        attached.map(drop).map_err(|why| format!("no process can be traced here: {why}"))
    }

    /// Has these calls of a process and its threads, from now on, end as `how` says: see inject in strace(1).
    pub fn attach(pid: i32, calls: &str, how: &str) -> Result<Strace, String> {
        let mut told = tempfile::tempfile().map_err(|error| error.to_string())?;
        let told_to = told.try_clone().map_err(|error| error.to_string())?;
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &pid.to_string(), "-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:{how}")]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(told_to).spawn();
        let mut strace = Strace { child: child.map_err(|error| format!("'strace': {error}"))? };
        let end = Instant::now() + PATIENCE;
        loop {
            // Before it is read what was told: nothing is told after the end.
            let has_ended = strace.child.try_wait().is_ok_and(|status| status.is_some());
            let mut bytes = Vec::new();
            let read = told.rewind().and_then(|()| told.read_to_end(&mut bytes));
            read.map_err(|error| format!("reading what strace tells: {error}"))?;
            let said = text(&bytes);
            if said.contains(" attached") {
                return Ok(strace);
            }
            if has_ended || Instant::now() > end {
                return Err(format!("strace does not attach: {}", said.trim()));
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Not asked but killed: an strace that is asked to let go of a process in the middle of its end waits for it, and it
        // for strace. Of one that is gone the kernel lets the threads go on.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
