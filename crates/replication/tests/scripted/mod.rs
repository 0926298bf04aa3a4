//! Golden scripts: text in, text out. Each shows one behaviour, says first what that is, and has a sentence for a name.

use std::path::{Path, PathBuf};

/// Plays each script of a folder below `tests`. With `REGENERATE` in the environment it is written anew.
pub fn come_out_as_written(folder: &str, play: impl Fn(&str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut paths: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let expected = std::fs::read_to_string(&path).unwrap();
        check_form(&path, &expected);
        let found = play(&expected);
        if std::env::var_os("REGENERATE").is_some() {
            std::fs::write(&path, found).unwrap();
            continue;
        }
        let mut lines = found.lines().zip(expected.lines()).enumerate();
        if let Some((number, (found, expected))) = lines.find(|(_, (found, expected))| found != expected) {
            panic!("{}:{}\nexpected: {expected}\n   found: {found}", path.display(), number + 1);
        }
        assert_eq!(found.len(), expected.len(), "{} has lines too many or too few", path.display());
    }
}

fn check_form(path: &Path, text: &str) {
    let name = path.file_stem().unwrap().to_str().unwrap();
    assert!(name.split('_').count() >= 3, "{name} is no sentence");
    assert!(text.starts_with("# "), "{name} does not begin with what is to be seen");
    assert!(!text.contains("\n\n"), "{name} has a gap: is it two behaviours?");
}
