//! The format of an engine's folder: a number in a file `format`, which says how rows are keyed and what is in them
//! (`table`), whichever engine keeps them. The engines' own files have their own formats besides.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::engine::{EngineError, sync_folder};

/// Rises when an older program could not read the rows.
const FORMAT: u32 = 3;
/// The first of those that this program reads, and writes again as its own: in 1 shards did not say what they hold, in 2 there was one layout.
const FORMAT_FIRST: u32 = 1;
const FILE: &str = "format";
const UNFINISHED: &str = "format.new";

/// Checks the format of a folder, or marks a new one. `holds_data` = an engine was opened here before.
pub fn settle(folder: &Path, holds_data: bool) -> Result<(), EngineError> {
    let file = folder.join(FILE);
    let doing = || format!("reading {}", file.display());
    match fs::read_to_string(&file) {
        Ok(text) => match text.trim_end().parse() {
            Ok(FORMAT) => Ok(()),
            Ok(FORMAT_FIRST..FORMAT) => {
                mark(folder).map_err(|error| EngineError::io(format!("writing {}", file.display()), error))
            }
            Ok(found) => Err(other(folder, found)),
            Err(_) => Err(EngineError::corrupt(doing(), "it holds no number")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound && holds_data => Err(other(folder, 0)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            mark(folder).map_err(|error| EngineError::io(format!("writing {}", file.display()), error))
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(EngineError::corrupt(doing(), "it holds no number"))
        }
        Err(error) => Err(EngineError::io(doing(), error)),
    }
}

fn other(folder: &Path, found: u32) -> EngineError {
    EngineError::Format { what: format!("the folder {}", folder.display()), found, known: FORMAT }
}

fn mark(folder: &Path) -> io::Result<()> {
    let unfinished = folder.join(UNFINISHED);
    let mut writer = File::create(&unfinished)?;
    writeln!(writer, "{FORMAT}")?;
    writer.sync_all()?;
    fs::rename(&unfinished, folder.join(FILE))?;
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use crate::{Fresh, Kind, open};

    use super::*;

    fn refused(kind: Kind, folder: &Path) -> String {
        open(kind, folder).err().expect("it must not be opened").to_string()
    }

    #[test]
    fn folder_of_another_format_is_refused_with_what_to_do() {
        for kind in [Kind::Memory, Kind::Disk] {
            let folder = tempfile::tempdir().unwrap();
            let mut rows = Fresh::over(open(kind, folder.path()).unwrap());
            rows.put("key", "value".into());
            rows.flush().run().unwrap();
            drop(rows);
            let file = folder.path().join(FILE);
            assert_eq!(fs::read_to_string(&file).unwrap(), "3\n");
            fs::write(&file, "4\n").unwrap();
            let why = refused(kind, folder.path());
            assert!(why.contains("has format 4, and this version of capstan has format 3: start"), "{why}");
            for damaged in ["", "one", "\u{fe}"] {
                fs::write(&file, damaged).unwrap();
                assert!(refused(kind, folder.path()).contains("holds no number"), "{damaged}");
            }
            // A build that knew no such file wrote other rows.
            fs::remove_file(&file).unwrap();
            assert!(refused(kind, folder.path()).contains("has format 0"));
            for before in ["1\n", "2\n"] {
                fs::write(&file, before).unwrap();
                assert_eq!(open(kind, folder.path()).unwrap().get(b"key").unwrap().unwrap(), "value");
                assert_eq!(fs::read_to_string(&file).unwrap(), "3\n");
            }
        }
    }
}
