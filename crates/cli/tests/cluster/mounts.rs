//! Small file systems of the test's own: to fill them, and to take their power away.
//!
//! They are ext4 in a file behind a loop device. Power is taken with the file system's own shutdown call, which drops all
//! that was not synced and lets nothing more through: what is there after mounting again is what a machine finds after it
//! lost power.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::nodes::text;

/// Takes the power of the file systems that are its arguments: FS_IOC_SHUTDOWN, without flushing the journal. No safe Rust
/// does that.
const SHUT_DOWN: &str = "import fcntl, os, struct, sys
folders = [os.open(folder, os.O_RDONLY) for folder in sys.argv[1:]]
for folder in folders: fcntl.ioctl(folder, 0x8004587d, struct.pack('I', 2))";

/// Of all homes of such file systems; the process id of the test comes next.
const PREFIX: &str = "capstan-disk-";

/// A small file system.
pub struct Mount {
    /// Where it is mounted.
    pub path: PathBuf,
    image: PathBuf,
    is_ext4: bool,
}

impl Mount {
    /// Of so many MiB, in this folder: ext4, or memory where loop devices are forbidden; or why there is none.
    pub fn new(home: &Path, name: &str, mebibytes: u64) -> Result<Mount, String> {
        let ext4 = Mount::ext4(home, name, mebibytes);
        let mounted = ext4.or_else(|ext4| {
            let path = home.join(name);
            let (at, size) = (path.to_str().expect("a path of ours"), format!("size={mebibytes}m"));
            let words = ["mount", "-t", "tmpfs", "-o", &size, "capstan-lab", at];
            run(&words).map_err(|tmpfs| format!("nothing can be mounted here: {ext4}; {tmpfs}"))?;
            Ok::<Mount, String>(Mount { image: PathBuf::new(), path, is_ext4: false })
        })?;
        println!("{mebibytes} MiB of {}", if mounted.is_ext4 { "ext4" } else { "tmpfs" });
        Ok(mounted)
    }

    /// Of so many MiB of ext4, in this folder; or why there is none.
    pub fn ext4(home: &Path, name: &str, mebibytes: u64) -> Result<Mount, String> {
        let (path, image) = (home.join(name), home.join(format!("{name}.image")));
        let made = fs::create_dir(&path).and_then(|()| fs::File::create(&image)?.set_len(mebibytes << 20));
        made.map_err(|error| format!("making {}: {error}", image.display()))?;
        run(&["mkfs.ext4", "-q", "-m", "0", image.to_str().expect("a path of ours")])?;
        mount(&image, &path)?;
        Ok(Mount { path, image, is_ext4: true })
    }

    /// Mounts it again, as after a start of the machine. Nobody has open files there.
    pub fn mount_again(&self) {
        run(&["umount", self.path.to_str().expect("a path")]).unwrap();
        mount(&self.image, &self.path).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(why) = run(&["umount", "-l", self.path.to_str().expect("a path")]) {
            println!("a mount stays behind: {why}");
        }
    }
}

/// A folder for images of so many MiB in all; or why there is none. In memory, if there is room: nobody else waits for what
/// is written to it.
pub fn home(mebibytes: u64) -> Result<TempDir, String> {
    let places = ["/dev/shm", "/tmp"].map(Path::new);
    places.into_iter().filter(|place| place.is_dir()).for_each(remove_leftovers);
    let has_room = |place: &&Path| {
        rustix::fs::statvfs(*place).is_ok_and(|stat| stat.f_bavail * stat.f_frsize >= mebibytes << 20)
    };
    let place = places.into_iter().find(has_room);
    let place = place.ok_or_else(|| format!("neither {places:?} has {mebibytes} MiB to spare"))?;
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(place);
    made.map_err(|error| format!("making a folder in {}: {error}", place.display()))
}

/// Removes the homes of tests that were killed and could not do it.
fn remove_leftovers(place: &Path) {
    for entry in fs::read_dir(place).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            remove(&entry.path());
        }
    }
}

fn remove(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        // What is no mount says so, and is removed below.
        let _ = run(&["umount", "-l", entry.path().to_str().expect("a path of ours")]);
    }
    if let Err(error) = fs::remove_dir_all(home) {
        println!("{} stays behind: {error}", home.display());
    }
}

/// Takes the power of these file systems, of all in the same moment.
pub fn cut_power(mounts: &[&Mount]) -> Result<(), String> {
    let paths = mounts.iter().map(|mount| mount.path.to_str().expect("a path"));
    let words: Vec<&str> = ["python3", "-c", SHUT_DOWN].into_iter().chain(paths).collect();
    run(&words)
}

/// What is deleted there gives back its room in the image.
fn mount(image: &Path, path: &Path) -> Result<(), String> {
    run(&["mount", "-o", "loop,discard", image.to_str().expect("a path"), path.to_str().expect("a path")])
}

/// Runs a program; what it said, when it failed.
fn run(words: &[&str]) -> Result<(), String> {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.map_err(|error| format!("'{}': {error}", words[0]))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("'{}': {}", words[0], text(&output.stderr).trim())),
    }
}
