//! Waiting for what an `up` leaves behind that was killed: its nodes end after it, and hold folders and ports until then.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::exit::Error;

/// How long a killed node may take to end: the kernel frees its memory first. Whoever takes longer runs on.
const ENDING_MAX: Duration = Duration::from_secs(5);
/// How often is looked.
const PAUSE: Duration = Duration::from_millis(50);

/// What became of taking something.
#[derive(Debug)]
pub enum Taking<T> {
    /// It is taken.
    Taken(T),
    /// Somebody else has it: who, and what to do.
    Busy(String),
}

/// Takes it when it is free. Tells on standard error that it waits; what is busy too long is an error of usage.
pub fn patiently<T>(mut take: impl FnMut() -> Result<Taking<T>, Error>) -> Result<T, Error> {
    let until = Instant::now() + ENDING_MAX;
    let mut told = false;
    loop {
        match take()? {
            Taking::Taken(taken) => return Ok(taken),
            Taking::Busy(why) if Instant::now() >= until => return Err(Error::Usage(why)),
            Taking::Busy(why) if !told => {
                told = true;
                // When nobody reads, nobody is told.
                let _ = writeln!(io::stderr(), "waiting up to {ENDING_MAX:?} for this to end: {why}");
            }
            Taking::Busy(_) => std::thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_in_time_is_taken_and_an_error_ends_it() {
        let mut tries = 0;
        let taken = patiently(|| {
            tries += 1;
            Ok(if tries < 4 { Taking::Busy("somebody".into()) } else { Taking::Taken(tries) })
        });
        assert_eq!(taken.expect("it was freed"), 4);
        let failed =
            patiently(|| -> Result<Taking<()>, Error> { Err(Error::Usage("no such folder".into())) });
        assert!(failed.is_err());
    }
}
