//! `Address`: the name of a segment, in every backing that has names.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, NameError};
use crate::os::{mem::sysv_shm, regular_file};

/// The longest file name that Linux accepts (`NAME_MAX`), in bytes.
const NAME_MAX: usize = 255;
/// The longest path that Linux accepts (`PATH_MAX` without its NUL), in bytes.
const PATH_MAX: usize = 4095;

const SYSTEM_V: &str = "sysv:";
const SYSTEM_V_ID: &str = "sysv:id:";
const FILE: &str = "file:";

/// The name of a segment.
///
/// | text | segment |
/// |---|---|
/// | `/jobs` | a POSIX object ([`shm_open(3)`]) |
/// | `./jobs`, `data/jobs`, `/var/lib/jobs` | a file, which persists |
/// | `file:/jobs` | a file whose path alone would mean something else |
/// | `sysv:0x2a`, `sysv:42` | a System V segment by its key ([`shmget(2)`]) |
/// | `sysv:id:7` | a System V segment by its id, as `ipcs -m` shows it |
///
/// An address dereferences to its text in its shortest form, so `&address` can be
/// passed wherever this crate expects a `&str`.
///
/// ```
/// use shm_sync::{Address, Backing, Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let address: Address = "sysv:42".parse()?;
/// assert_eq!(address.backing(), Backing::SystemV);
/// assert_eq!(address.to_string(), "sysv:0x0000002a");
///
/// let file = Address::file("/var/lib/jobs")?;
/// let missing = Segment::<ShmMutex<u64>>::open(&file);
/// # assert!(missing.is_err());
/// # Ok(())
/// # }
/// ```
///
/// [`shm_open(3)`]: https://man7.org/linux/man-pages/man3/shm_open.3.html
/// [`shmget(2)`]: https://man7.org/linux/man-pages/man2/shmget.2.html
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Posix,
    File,
    SystemVKey(i32),
    SystemVId(i32),
}

/// The ways in which Linux shares memory.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Backing {
    /// A POSIX object: a file in `/dev/shm`.
    Posix,
    /// A file outside `/dev/shm`.
    File,
    /// A System V segment.
    SystemV,
    /// A sealed file without a name ([`memfd_create(2)`]), shared by a fork or by
    /// passing its descriptor.
    ///
    /// [`memfd_create(2)`]: https://man7.org/linux/man-pages/man2/memfd_create.2.html
    Memfd,
}

impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Posix => "posix",
            Self::File => "file",
            Self::SystemV => "sysv",
            Self::Memfd => "memfd",
        })
    }
}

/// The path, the key or the id that an address stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// An absolute path, which does not change with the process's current directory.
    File(PathBuf),
    SystemVKey(i32),
    SystemVId(i32),
}

impl Address {
    /// Returns the address of a file. If `path` is relative, so is the address.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`]: the path is not UTF-8, too long, or does not end in a
    /// file name.
    pub fn file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let invalid = |reason| Error::InvalidName {
            name: path.to_string_lossy().into_owned(),
            reason,
        };
        let text = path.to_str().ok_or_else(|| invalid(NameError::NotUtf8))?;
        check_path(text).map_err(invalid)?;
        Ok(Self::of_path(text))
    }

    /// Returns the address of the System V segment with this key.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`]: 0 is not a key (`IPC_PRIVATE`).
    pub fn system_v(key: i32) -> Result<Self, Error> {
        format!("{SYSTEM_V}{key:#010x}").parse()
    }

    /// Returns the address of the System V segment whose key is [`ftok(3)`] of a file
    /// and a number. Different files can have the same key.
    ///
    /// # Errors
    ///
    /// [`Error::Os`]: `stat` of the file fails.
    ///
    /// [`ftok(3)`]: https://man7.org/linux/man-pages/man3/ftok.3.html
    pub fn ftok(path: impl AsRef<Path>, project: u8) -> Result<Self, Error> {
        let key = sysv_shm::ftok(path.as_ref(), project).map_err(|source| Error::Os {
            call: "ftok",
            source,
        })?;
        Self::system_v(key)
    }

    /// Returns the address of the System V segment with this id.
    pub(crate) fn system_v_id(id: i32) -> Self {
        Self {
            text: format!("{SYSTEM_V_ID}{id}"),
            kind: Kind::SystemVId(id),
        }
    }

    /// Returns the address of the POSIX object or the file at this path.
    pub(crate) fn of_file_at(path: &Path) -> Result<Self, Error> {
        if regular_file::is_posix_object(path) {
            let name = path.file_name().and_then(|name| name.to_str());
            // A name of 255 bytes is an error for `shm_open` but not for the file
            // system.
            if let Some(Ok(address)) = name.map(|name| format!("/{name}").parse()) {
                return Ok(address);
            }
        }
        Self::file(path)
    }

    fn of_path(path: &str) -> Self {
        let is_plain = matches!(parse(path), Ok(Kind::File)) && !path.starts_with(FILE);
        Self {
            text: if is_plain {
                path.to_owned()
            } else {
                format!("{FILE}{path}")
            },
            kind: Kind::File,
        }
    }

    /// Returns the kind of shared memory.
    #[must_use]
    pub fn backing(&self) -> Backing {
        match self.kind {
            Kind::Posix => Backing::Posix,
            Kind::File => Backing::File,
            Kind::SystemVKey(_) | Kind::SystemVId(_) => Backing::SystemV,
        }
    }

    /// Returns the text in its shortest form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn target(&self) -> Result<Target, Error> {
        Ok(match self.kind {
            Kind::Posix => Target::File(PathBuf::from(format!(
                "{}{}",
                regular_file::SHM_DIRECTORY,
                self.text
            ))),
            Kind::File => {
                let path = std::path::absolute(path_in(&self.text));
                Target::File(path.map_err(|source| Error::Os {
                    call: "getcwd",
                    source,
                })?)
            }
            Kind::SystemVKey(key) => Target::SystemVKey(key),
            Kind::SystemVId(id) => Target::SystemVId(id),
        })
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let kind = parse(text).map_err(|reason| Error::InvalidName {
            name: text.to_owned(),
            reason,
        })?;
        Ok(match kind {
            Kind::File => Self::of_path(path_in(text)),
            Kind::SystemVId(id) => Self::system_v_id(id),
            Kind::SystemVKey(key) => Self {
                text: format!("{SYSTEM_V}{key:#010x}"),
                kind,
            },
            Kind::Posix => Self {
                text: text.to_owned(),
                kind,
            },
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// Serialises the address as its text.
#[cfg(feature = "serde")]
impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl Deref for Address {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl AsRef<str> for Address {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

fn parse(text: &str) -> Result<Kind, NameError> {
    if text.contains('\0') {
        return Err(NameError::Nul);
    }
    if let Some(id) = text.strip_prefix(SYSTEM_V_ID) {
        let id = id.parse().ok().filter(|id| *id >= 0);
        return id.map(Kind::SystemVId).ok_or(NameError::NotAKey);
    }
    if let Some(key) = text.strip_prefix(SYSTEM_V) {
        let key = parse_key(key).filter(|key| *key != 0);
        return key.map(Kind::SystemVKey).ok_or(NameError::NotAKey);
    }
    if text.starts_with(FILE) {
        return check_path(path_in(text)).map(|()| Kind::File);
    }
    match text.strip_prefix('/') {
        Some("" | "." | "..") => Err(NameError::Empty),
        Some(name) if !name.contains('/') && text.len() > NAME_MAX => Err(NameError::TooLong),
        Some(name) if !name.contains('/') => Ok(Kind::Posix),
        None if !text.contains('/') => Err(NameError::NoLeadingSlash),
        _ => check_path(text).map(|()| Kind::File),
    }
}

/// Parses a key such as `0x2a`, `42` or `-1`.
fn parse_key(text: &str) -> Option<i32> {
    match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => {
            u32::from_str_radix(digits, 16).ok().map(|key| key as i32)
        }
        Some(_) => None,
        None => text.parse().ok(),
    }
}

fn check_path(path: &str) -> Result<(), NameError> {
    match path.rsplit('/').next() {
        _ if path.contains('\0') => Err(NameError::Nul),
        None | Some("" | "." | "..") => Err(NameError::Empty),
        Some(name) if name.len() > NAME_MAX || path.len() > PATH_MAX => Err(NameError::TooLong),
        Some(_) => Ok(()),
    }
}

fn path_in(text: &str) -> &str {
    text.strip_prefix(FILE).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(text: &str) -> Result<Kind, NameError> {
        parse(text)
    }

    #[test]
    fn smoke() {
        assert_eq!(kind("/jobs"), Ok(Kind::Posix));
        assert_eq!(kind("/.hidden"), Ok(Kind::Posix));
        assert_eq!(kind("/zażółć"), Ok(Kind::Posix));
        for file in ["./jobs", "../jobs", "a/b", "/a/b", "//a", "file:/jobs"] {
            assert_eq!(kind(file), Ok(Kind::File), "{file}");
        }
        assert_eq!(kind("sysv:0x2a"), Ok(Kind::SystemVKey(42)));
        assert_eq!(kind("sysv:42"), Ok(Kind::SystemVKey(42)));
        assert_eq!(kind("sysv:-1"), Ok(Kind::SystemVKey(-1)));
        assert_eq!(kind("sysv:0xffffffff"), Ok(Kind::SystemVKey(-1)));
        assert_eq!(kind("sysv:id:7"), Ok(Kind::SystemVId(7)));
    }

    #[test]
    fn each_fault_has_its_error() {
        assert_eq!(kind(""), Err(NameError::NoLeadingSlash));
        assert_eq!(kind("jobs"), Err(NameError::NoLeadingSlash));
        for empty in ["/", "/.", "/..", "a/", "a/..", "file:", "file:/"] {
            assert_eq!(kind(empty), Err(NameError::Empty), "{empty}");
        }
        assert_eq!(kind("/a\0b"), Err(NameError::Nul));
        assert_eq!(kind("a/\0b"), Err(NameError::Nul));
        let long = "a".repeat(255);
        assert_eq!(kind(&format!("/{long}")), Err(NameError::TooLong));
        assert_eq!(kind(&format!("/{}", &long[1..])), Ok(Kind::Posix));
        assert_eq!(kind(&"a/".repeat(2048)[..4095]), Ok(Kind::File));
        assert_eq!(
            kind(&format!("{}a", "a/".repeat(2048))),
            Err(NameError::TooLong)
        );
        for key in [
            "sysv:",
            "sysv:0",
            "sysv:0x",
            "sysv:0x+1",
            "sysv:x",
            "sysv:id:",
            "sysv:id:-1",
        ] {
            assert_eq!(kind(key), Err(NameError::NotAKey), "{key}");
        }
    }

    #[test]
    fn ambiguous_paths_keep_the_file_prefix() {
        for path in ["/jobs", "sysv:1", "file:a/b"] {
            let address = Address::file(path).unwrap();
            assert_eq!(address.backing(), Backing::File);
            let again: Address = address.to_string().parse().unwrap();
            assert_eq!(again, address);
        }
    }

    #[test]
    fn paths_in_dev_shm_are_posix_names() {
        let address = Address::of_file_at(Path::new("/dev/shm/jobs")).unwrap();
        assert_eq!(address.as_str(), "/jobs");
        let target = Target::File(PathBuf::from("/dev/shm/jobs"));
        assert_eq!(address.target().unwrap(), target);
        let address = Address::of_file_at(Path::new("/dev/shm/sub/jobs")).unwrap();
        assert_eq!(address.backing(), Backing::File);
    }

    proptest! {
        #[test]
        fn any_text_round_trips_or_fails(
            text in prop_oneof![".*", "(file:|sysv:|sysv:id:|/|\\./)?[a-c0-2/.:x]{0,8}"],
        ) {
            match text.parse::<Address>() {
                Ok(address) => {
                    let again: Address = address.as_str().parse().unwrap();
                    prop_assert_eq!(again, address);
                }
                Err(Error::InvalidName { name, .. }) => prop_assert_eq!(name, text),
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
