//! Files that hold what everybody said, and maybe the keys to it.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Readable by its owner alone.
const FILE_MODE: u32 = 0o600;

/// A new file; one that is there is never written over.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(FILE_MODE);
    options.open(path)
}

/// A new file that has its name once it is whole. Until then it stands beside it under another, and is gone if nothing
/// comes of it.
#[derive(Debug)]
pub(crate) struct Draft {
    file: NamedTempFile,
    path: PathBuf,
}

impl Draft {
    /// Begins a file, which must not be there.
    pub(crate) fn begin(path: &Path) -> io::Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        // Readable by its owner alone, as files of this library are.
        let file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        let path = path.to_owned();
        Ok(Self { file, path })
    }

    /// Gives it its name, unless another file took that meanwhile.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.file.persist_noclobber(&self.path)?;
        Ok(())
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Draft {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Writes a new file as a whole, or not at all.
pub(crate) fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut draft = Draft::begin(path)?;
    draft.write_all(contents)?;
    draft.finish()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_draft_has_its_name_once_it_is_whole_and_takes_nobody_elses() {
        let folder = tempfile::tempdir().expect("there is room");
        let path = folder.path().join("secret");
        let names = || {
            let entries = std::fs::read_dir(folder.path()).expect("it is there");
            entries
                .map(|entry| entry.expect("it can be read").file_name())
                .collect::<Vec<_>>()
        };
        let mut draft = Draft::begin(&path).expect("it is new");
        draft.write_all(b"half").expect("there is room");
        assert!(!path.exists());
        drop(draft);
        assert!(names().is_empty(), "nothing came of it");
        let late = Draft::begin(&path).expect("it is new");
        write(&path, b"whole").expect("it is new");
        let mode = path.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, FILE_MODE);
        for refused in [late.finish(), write(&path, b"other")] {
            let error = refused.expect_err("it is there");
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(std::fs::read(&path).expect("it is there"), b"whole");
        assert_eq!(names().len(), 1);
    }
}
