//! Temporary names of segments that are being created, on file systems without unnamed
//! files (`O_TMPFILE`): NFS, 9p, CephFS, many FUSE file systems, overlayfs of old
//! kernels, and in gVisor all.
//!
//! # The protocol
//!
//! 1. Create a file with a random name beside the final one (`O_EXCL`).
//! 2. Lock the own byte of `WRITERS`, as an attached process does. Then check that the
//!    name still leads to the file. If not, start over: a collector has removed it.
//!    Check also that a second opening of the file shows the lock: some network file
//!    systems share no locks.
//! 3. Write the segment.
//! 4. Rename it (`renameat2` with `RENAME_NOREPLACE`). Where that is not supported,
//!    link the final name, and unlink the temporary one. Before that, check by a link
//!    to a second temporary name that a hard link leads to the same memory: some FUSE
//!    file systems make it another file.
//!
//! A collector removes the name as a remover does: only if no process is attached. So
//! it never removes the file of a creator that works, from step 2 on.
//!
//! # Crash behaviour
//!
//! If the creator dies, it leaves the temporary name and the memory behind it, or,
//! after the link of step 4, a second name of the complete segment. Either stays until
//! a later creator of the same user creates a segment in the same directory by this
//! protocol ([`collect`]), or until `shm-sync gc` removes it (in `/dev/shm`). No
//! function of this crate or of the C header opens an object by a temporary name. The
//! object gets its owner and its mode when it is complete, so before that only the
//! creator's user may open it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::error::{Error, NameError, Unsupported};
use crate::os::fork::ForkMarker;
use crate::os::mem::Access;
use crate::os::regular_file;
use crate::robust;
use crate::segment::backing::attachment::{self, Owner};
use crate::segment::failure;

/// What each temporary name begins with. The dot hides it from `ls`.
const PREFIX: &[u8] = b".shm-sync.new.";

/// The number of hexadecimal digits behind [`PREFIX`].
const DIGITS: usize = 16;

/// How many names are tried. Each of them is random, so a second try is rare.
const TRIES: usize = 32;

/// Returns whether the last part of the path is a temporary name.
pub(crate) fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().map_or(&[][..], OsStrExt::as_bytes);
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    name.strip_prefix(PREFIX)
        .is_some_and(|digits| digits.len() == DIGITS && digits.iter().all(is_digit))
}

/// Refuses an address that is a temporary name.
pub(in crate::segment) fn refuse(path: &Path) -> Result<(), Error> {
    if !is_temporary(path) {
        return Ok(());
    }
    Err(Error::InvalidName {
        name: path.to_string_lossy().into_owned(),
        reason: NameError::Temporary,
    })
}

/// The temporary name of a file that this process has created. `drop` removes it.
#[derive(Debug)]
pub(super) struct TemporaryName {
    /// Empty if the name is gone.
    path: PathBuf,
    /// A forked child has a copy of this value, and must not remove the name.
    creator: ForkMarker,
}

impl TemporaryName {
    /// Creates an empty file in `directory` that no collector removes, with a temporary
    /// name. Before that, removes the files of creators that have died.
    ///
    /// # Errors
    ///
    /// [`CreateError::Open`] if no file can be created in the directory.
    pub(super) fn create(directory: &Path) -> Result<(OwnedFd, Self), CreateError> {
        let creator = robust::current_marker().map_err(Error::from)?;
        collect(directory);
        for _ in 0..TRIES {
            let path = directory.join(random_name());
            let file = match regular_file::create_new(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file.map_err(CreateError::Open)?,
            };
            let name = Self { path, creator };
            attachment::register_creator(&file)
                .map_err(failure::lock_error("fcntl(F_OFD_SETLK)"))?;
            match attachment::leads_to(&name.path, &file).map_err(failure::call_error("lstat"))? {
                true if attachment::is_seen_at(&name.path) => return Ok((file, name)),
                true => return Err(Error::from(Unsupported::RecordLocks).into()),
                // A collector was faster.
                false => name.forget(),
            }
        }
        let exists = io::Error::from(io::ErrorKind::AlreadyExists);
        Err(failure::call_error("open(O_EXCL)")(exists).into())
    }

    /// Gives the file its final name instead of the temporary one.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] if the name is taken. Then, and after every
    /// other error, the file has its temporary name as before.
    pub(super) fn rename_to(self, path: &Path) -> Result<(), (Self, io::Error)> {
        match regular_file::rename_new(&self.path, path) {
            Ok(()) => {
                self.forget();
                Ok(())
            }
            Err(error) if regular_file::is_unsupported(&error) => {
                // `drop` removes the temporary name.
                let linked = self.check_links();
                let linked = linked.and_then(|()| self.link_to(path));
                linked.map_err(|error| (self, error))
            }
            Err(error) => Err((self, error)),
        }
    }

    /// Links the final name. On NFS, the reply of a server may be lost, and the
    /// repeated request then finds the name that the first one has made.
    fn link_to(&self, path: &Path) -> io::Result<()> {
        let linked = regular_file::link(&self.path, path);
        let is_taken = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
        if linked.as_ref().is_err_and(is_taken) {
            let ours = regular_file::lstat(&self.path)?.identity;
            if regular_file::lstat(path).is_ok_and(|there| there.identity == ours) {
                return Ok(());
            }
        }
        linked
    }

    /// Checks by a second temporary name that a hard link leads to the same memory. On
    /// some FUSE file systems it does not: for the kernel, it is another file.
    fn check_links(&self) -> io::Result<()> {
        let second = Self {
            path: self.path.with_file_name(random_name()),
            creator: self.creator,
        };
        regular_file::link(&self.path, &second.path)?;
        match attachment::is_seen_at(&second.path) {
            true => Ok(()),
            false => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl TemporaryName {
    /// Ends the value without removing the name, which is gone.
    fn forget(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for TemporaryName {
    fn drop(&mut self) {
        let is_gone = self.path.as_os_str().is_empty();
        if !is_gone && self.creator.is_current() {
            // A process that can't remove the name leaves it to `collect`.
            let _ = regular_file::unlink(&self.path);
        }
    }
}

/// Why a file with a temporary name was not created.
#[derive(Debug)]
pub(super) enum CreateError {
    /// `open(2)` has failed.
    Open(io::Error),
    Other(Error),
}

impl From<Error> for CreateError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Removes the files that creators have left in the directory when they died. Files of
/// other users stay, because their owners could block this process.
fn collect(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    let user = regular_file::effective_user();
    for entry in entries.flatten() {
        let path = entry.path();
        if !is_temporary(&path) {
            continue;
        }
        // Files that can't be removed now stay for the next collector.
        let _ = remove_if_dead(&path, user);
    }
}

/// Removes a temporary name if its creator has died, and if `user` owns the file.
fn remove_if_dead(path: &Path, user: u32) -> io::Result<()> {
    let Some(file) = regular_file::open(path, Access::ReadWrite)? else {
        return Ok(());
    };
    let stat = regular_file::fstat(&file)?;
    if stat.is_regular && stat.owner == user {
        attachment::remove_if_abandoned(file, path, Owner::Untrusted)?;
    }
    Ok(())
}

/// Returns a temporary name that is probably not taken. If it is, `O_EXCL` fails.
///
/// It needs no random numbers, because a sandbox may refuse `getrandom(2)`.
fn random_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut hasher = DefaultHasher::new();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let address = ptr::from_ref(&hasher).addr();
    (count, std::process::id(), address, SystemTime::now()).hash(&mut hasher);
    let prefix = String::from_utf8_lossy(PREFIX);
    format!("{prefix}{:0width$x}", hasher.finish(), width = DIGITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let names = [random_name(), random_name()];
        assert_ne!(names[0], names[1]);
        for name in names {
            assert!(is_temporary(&Path::new("/tmp").join(&name)), "{name}");
            assert!(refuse(Path::new(&name)).is_err());
        }
    }

    #[test]
    fn other_names_are_not_temporary() {
        let names = [
            "",
            "/",
            "/jobs",
            "/.shm-sync.new.",
            "/.shm-sync.new.0123456789abcde",
            "/.shm-sync.new.0123456789abcdef0",
            "/.shm-sync.new.0123456789abcdeF",
            "/.shm-sync.new.0123456789abcdeg",
            "/shm-sync.new.0123456789abcdef",
            "/.shm-sync.new.0123456789abcdef/jobs",
        ];
        for name in names {
            assert!(!is_temporary(Path::new(name)), "{name}");
        }
    }
}
