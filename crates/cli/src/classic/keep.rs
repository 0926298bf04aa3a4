//! What a classic program keeps of itself beside the data: one file of JSON in its folder.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use crate::exit::Error;

/// Writes it down, so that it is there after a loss of power. `new`: the name of the file while it is written.
pub fn write(folder: &Path, file: &str, new: &str, kept: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string(kept).expect("names, numbers and flags can be written");
    let store = || {
        let mut written = File::create(folder.join(new))?;
        writeln!(written, "{text}")?;
        written.sync_all()?;
        fs::rename(folder.join(new), folder.join(file))?;
        File::open(folder)?.sync_all()
    };
    store().map_err(|error| Error::Usage(format!("writing {file} in {}: {error}", folder.display())))
}
