//! Files that hold what everybody said, and maybe the keys to it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Readable by its owner alone.
const FILE_MODE: u32 = 0o600;

/// A new file; one that is there is never written over.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(FILE_MODE);
    options.open(path)
}
