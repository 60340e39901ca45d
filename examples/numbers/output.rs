//! The output: a file without a name, which gets its name when it is complete.

use std::env;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc::{EOPNOTSUPP, O_TMPFILE};
use nix::unistd::linkat;

pub(crate) struct Output {
    pub(crate) file: File,
    /// None for a device, a terminal or a FIFO: they have their name already.
    name: Option<PathBuf>,
}

impl Output {
    pub(crate) fn create(path: &Path) -> Result<Self, Box<dyn Error>> {
        let opened = match fs::metadata(path) {
            Ok(found) if found.is_file() => {
                Err("it exists already: remove it, or name another file".into())
            }
            Ok(_) => {
                let opened = OpenOptions::new().write(true).open(path);
                opened
                    .map(|file| Self { file, name: None })
                    .map_err(|error| error.to_string())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let name = Some(path.to_owned());
                create_unnamed(folder_of(path)).map(|file| Self { file, name })
            }
            Err(error) => Err(error.to_string()),
        };
        opened.map_err(|error| format!("can't create {}: {error}", path.display()).into())
    }

    /// Creates a file that gets no name.
    pub(crate) fn temporary() -> Result<Self, Box<dyn Error>> {
        let file = create_unnamed(&env::temp_dir())?;
        Ok(Self { file, name: None })
    }

    /// Gives the file its name. Fails if another file got this name meanwhile.
    pub(crate) fn give_name(self) -> Result<(), Box<dyn Error>> {
        let Some(name) = self.name else { return Ok(()) };
        let link = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        // Some file systems report only here that they are full.
        let written = self.file.sync_all();
        let linked = written.and_then(|()| {
            let follow = AtFlags::AT_SYMLINK_FOLLOW;
            linkat(AT_FDCWD, link.as_str(), AT_FDCWD, &name, follow).map_err(io::Error::from)
        });
        linked.map_err(|error| format!("can't complete {}: {error}", name.display()).into())
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn create_unnamed(folder: &Path) -> Result<File, String> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).custom_flags(O_TMPFILE);
    options.open(folder).map_err(|error| {
        if error.raw_os_error() == Some(EOPNOTSUPP) {
            return "the file system has no unnamed files: use another one".into();
        }
        error.to_string()
    })
}
