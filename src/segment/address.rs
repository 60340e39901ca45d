//! `Address`: the name of a segment, in every backing that has names.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
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
/// Every function that takes an address takes a [`ToAddress`]: `"/jobs"`, a [`Path`] or
/// an `&Address`. (The functions of [`inspect`](crate::inspect) take an `&Address`, as
/// they return it.) An `Address` contains the text in its normal form, so two texts for
/// one address become equal.
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
/// In the guide: [backings](crate::guide#backings).
///
/// # Text
///
/// A path need not be UTF-8. [`as_os_str`](Self::as_os_str) returns the exact text, and
/// `Address::try_from` turns it into an equal address. `Display` shows the same text,
/// with replacement characters (U+FFFD) for bytes that are not UTF-8. It does not
/// escape control characters: see [`inspect::printable`](crate::inspect::printable).
///
/// [`shm_open(3)`]: https://man7.org/linux/man-pages/man3/shm_open.3.html
/// [`shmget(2)`]: https://man7.org/linux/man-pages/man2/shmget.2.html
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: OsString,
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
///
/// In the guide: [backings](crate::guide#backings).
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
    /// Returns the address of a file. If `path` is relative, so is the address. The
    /// path need not be UTF-8.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`]: the path is too long, contains a NUL byte, or does not
    /// end in a file name.
    pub fn file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().as_os_str();
        check_path(path.as_bytes()).map_err(|reason| invalid(path, reason))?;
        Ok(Self::of_path(path.as_bytes()))
    }

    /// Returns the address of the System V segment with this key.
    ///
    /// ```
    /// use shm_sync::Address;
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// assert_eq!(Address::system_v(42)?, "sysv:0x2a".parse()?);
    /// assert!(Address::system_v(0).is_err(), "0 is IPC_PRIVATE");
    /// # Ok(())
    /// # }
    /// ```
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
    /// ```
    /// use shm_sync::{Address, Backing};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// // C programs find the segment by `shmget(ftok("/etc", 7), …)`.
    /// let address = Address::ftok("/etc", 7)?;
    /// assert_eq!(address.backing(), Backing::SystemV);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Os`]: `stat` of the file fails.
    ///
    /// [`ftok(3)`]: https://man7.org/linux/man-pages/man3/ftok.3.html
    pub fn ftok(path: impl AsRef<Path>, project: u8) -> Result<Self, Error> {
        let path = path.as_ref();
        let key = sysv_shm::ftok(path, project).map_err(|source| {
            let error = Error::Os {
                address: None,
                call: "ftok",
                source,
            };
            error.at(&path.display())
        })?;
        Self::system_v(key)
    }

    /// Returns the address of the System V segment with this id.
    pub(crate) fn system_v_id(id: i32) -> Self {
        Self {
            text: format!("{SYSTEM_V_ID}{id}").into(),
            kind: Kind::SystemVId(id),
        }
    }

    /// Returns the address of the POSIX object or the file at this path.
    pub(crate) fn of_file_at(path: &Path) -> Result<Self, Error> {
        if regular_file::is_posix_object(path) {
            let name = path
                .file_name()
                .map(|name| [b"/", name.as_bytes()].concat());
            // A name of 255 bytes is an error for `shm_open` but not for the file
            // system.
            if let Some(Ok(address)) = name.map(|name| Self::try_from(OsStr::from_bytes(&name))) {
                return Ok(address);
            }
        }
        Self::file(path)
    }

    fn of_path(path: &[u8]) -> Self {
        let is_plain = matches!(parse(path), Ok(Kind::File)) && !path.starts_with(FILE.as_bytes());
        let text = if is_plain {
            path.to_vec()
        } else {
            [FILE.as_bytes(), path].concat()
        };
        Self {
            text: OsString::from_vec(text),
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

    /// Returns the text in its normal form.
    ///
    /// ```
    /// use std::os::unix::ffi::OsStrExt;
    /// use std::{ffi::OsStr, path::Path};
    /// use shm_sync::Address;
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let latin_1 = OsStr::from_bytes(b"/srv/\xfcbung");
    /// let address = Address::file(Path::new(latin_1))?;
    /// assert_eq!(address.as_os_str(), latin_1);
    /// assert_eq!(address.to_str(), None, "it is not UTF-8");
    /// assert_eq!(address.to_string(), "/srv/\u{fffd}bung");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        &self.text
    }

    /// Returns the text in its normal form, or `None` if it is not UTF-8. Only the
    /// text of a POSIX object or a file can be so.
    #[must_use]
    pub fn to_str(&self) -> Option<&str> {
        self.text.to_str()
    }

    pub(crate) fn target(&self) -> Result<Target, Error> {
        let text = self.text.as_bytes();
        Ok(match self.kind {
            Kind::Posix => {
                let path = [regular_file::SHM_DIRECTORY.as_bytes(), text].concat();
                Target::File(OsString::from_vec(path).into())
            }
            Kind::File => {
                let path = std::path::absolute(OsStr::from_bytes(path_in(text)));
                Target::File(path.map_err(|source| Error::Os {
                    address: None,
                    call: "getcwd",
                    source,
                })?)
            }
            Kind::SystemVKey(key) => Target::SystemVKey(key),
            Kind::SystemVId(id) => Target::SystemVId(id),
        })
    }

    /// Calls `call` with the target of an address. Every error names the address.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`], and those of `call`.
    pub(crate) fn resolve<R>(
        address: impl ToAddress,
        call: impl FnOnce(&Target) -> Result<R, Error>,
    ) -> Result<(R, Self), Error> {
        let address = address.to_address()?;
        match address.target().and_then(|target| call(&target)) {
            Ok(result) => Ok((result, address)),
            Err(error) => Err(error.at(&address)),
        }
    }
}

/// Parses the text of an address, which need not be UTF-8.
impl TryFrom<&OsStr> for Address {
    type Error = Error;

    fn try_from(text: &OsStr) -> Result<Self, Error> {
        let bytes = text.as_bytes();
        let kind = parse(bytes).map_err(|reason| invalid(text, reason))?;
        Ok(match kind {
            Kind::File => Self::of_path(path_in(bytes)),
            Kind::SystemVId(id) => Self::system_v_id(id),
            Kind::SystemVKey(key) => Self {
                text: format!("{SYSTEM_V}{key:#010x}").into(),
                kind,
            },
            Kind::Posix => Self {
                text: text.to_owned(),
                kind,
            },
        })
    }
}

/// Parses the text of an address.
impl TryFrom<&str> for Address {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        Self::try_from(OsStr::new(text))
    }
}

/// Returns [`Address::file`] of the path.
impl TryFrom<&Path> for Address {
    type Error = Error;

    fn try_from(path: &Path) -> Result<Self, Error> {
        Self::file(path)
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::try_from(text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text.to_string_lossy())
    }
}

/// Serialises the address as its text. Bytes that are not UTF-8 become U+FFFD.
#[cfg(feature = "serde")]
impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl AsRef<OsStr> for Address {
    fn as_ref(&self) -> &OsStr {
        &self.text
    }
}

/// A value that is or contains the [`Address`] of a segment.
///
/// The functions that create, open and remove segments take it by value or by
/// reference.
///
/// | value | segment |
/// |---|---|
/// | [`str`], [`String`], [`OsStr`], [`OsString`] | that of the text: see [`Address`] |
/// | [`Path`], [`PathBuf`] | the file with this path, whatever the path contains |
/// | [`Address`] | its own |
///
/// ```
/// use std::path::Path;
/// use shm_sync::{Address, Backing, ToAddress};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// assert_eq!("/jobs".to_address()?.backing(), Backing::Posix);
/// assert_eq!(Path::new("/jobs").to_address()?.backing(), Backing::File);
/// # Ok(())
/// # }
/// ```
///
/// A type of your own can implement it:
///
/// ```
/// use shm_sync::{Address, Error, ToAddress};
///
/// struct JobQueue(u32);
///
/// impl ToAddress for JobQueue {
///     fn to_address(&self) -> Result<Address, Error> {
///         format!("/jobs-{}", self.0).to_address()
///     }
/// }
///
/// # fn main() -> Result<(), Error> {
/// assert_eq!(JobQueue(7).to_address()?.to_string(), "/jobs-7");
/// # Ok(())
/// # }
/// ```
///
/// In the guide: [options](crate::guide#options).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the address of a segment",
    label = "expected a `&str` such as \"/jobs\", a `&Path` or an `&Address`"
)]
pub trait ToAddress {
    /// Returns the address.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`]: the text or path is no address.
    fn to_address(&self) -> Result<Address, Error>;
}

impl ToAddress for Address {
    fn to_address(&self) -> Result<Self, Error> {
        Ok(self.clone())
    }
}

impl ToAddress for str {
    fn to_address(&self) -> Result<Address, Error> {
        self.try_into()
    }
}

impl ToAddress for String {
    fn to_address(&self) -> Result<Address, Error> {
        self.as_str().to_address()
    }
}

impl ToAddress for OsStr {
    fn to_address(&self) -> Result<Address, Error> {
        self.try_into()
    }
}

impl ToAddress for OsString {
    fn to_address(&self) -> Result<Address, Error> {
        self.as_os_str().to_address()
    }
}

impl ToAddress for Path {
    fn to_address(&self) -> Result<Address, Error> {
        self.try_into()
    }
}

impl ToAddress for PathBuf {
    fn to_address(&self) -> Result<Address, Error> {
        self.as_path().to_address()
    }
}

impl<A: ToAddress + ?Sized> ToAddress for &A {
    fn to_address(&self) -> Result<Address, Error> {
        (**self).to_address()
    }
}

fn invalid(name: &OsStr, reason: NameError) -> Error {
    Error::InvalidName {
        name: name.to_string_lossy().into_owned(),
        reason,
    }
}

fn parse(text: &[u8]) -> Result<Kind, NameError> {
    if text.contains(&b'\0') {
        return Err(NameError::Nul);
    }
    if let Some(id) = text.strip_prefix(SYSTEM_V_ID.as_bytes()) {
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        let id = id.filter(|id| *id >= 0);
        return id.map(Kind::SystemVId).ok_or(NameError::NotAKey);
    }
    if let Some(key) = text.strip_prefix(SYSTEM_V.as_bytes()) {
        let key = std::str::from_utf8(key).ok().and_then(parse_key);
        let key = key.filter(|key| *key != 0);
        return key.map(Kind::SystemVKey).ok_or(NameError::NotAKey);
    }
    if text.starts_with(FILE.as_bytes()) {
        return check_path(path_in(text)).map(|()| Kind::File);
    }
    match text.strip_prefix(b"/") {
        Some(b"" | b"." | b"..") => Err(NameError::Empty),
        Some(name) if !name.contains(&b'/') && text.len() > NAME_MAX => Err(NameError::TooLong),
        Some(name) if !name.contains(&b'/') => Ok(Kind::Posix),
        None if !text.contains(&b'/') => Err(NameError::NoLeadingSlash),
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

fn check_path(path: &[u8]) -> Result<(), NameError> {
    match path.rsplit(|byte| *byte == b'/').next() {
        _ if path.contains(&b'\0') => Err(NameError::Nul),
        None | Some(b"" | b"." | b"..") => Err(NameError::Empty),
        Some(name) if name.len() > NAME_MAX || path.len() > PATH_MAX => Err(NameError::TooLong),
        Some(_) => Ok(()),
    }
}

fn path_in(text: &[u8]) -> &[u8] {
    text.strip_prefix(FILE.as_bytes()).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(text: &str) -> Result<Kind, NameError> {
        parse(text.as_bytes())
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
        assert_eq!(address.to_str(), Some("/jobs"));
        let target = Target::File(PathBuf::from("/dev/shm/jobs"));
        assert_eq!(address.target().unwrap(), target);
        let address = Address::of_file_at(Path::new("/dev/shm/sub/jobs")).unwrap();
        assert_eq!(address.backing(), Backing::File);
    }

    #[test]
    fn paths_need_not_be_utf8() {
        for (bytes, backing) in [
            (&b"./\xff"[..], Backing::File),
            (b"file:/\xff", Backing::File),
            (b"/\xff", Backing::Posix),
        ] {
            let address = Address::try_from(OsStr::from_bytes(bytes)).unwrap();
            assert_eq!(address.backing(), backing, "{bytes:?}");
            assert_eq!(address.to_str(), None, "{bytes:?}");
            assert!(address.to_string().ends_with('\u{fffd}'), "{address}");
            assert_eq!(Address::try_from(address.as_os_str()).unwrap(), address);
        }
        let address = Address::file(OsStr::from_bytes(b"/a/\xff")).unwrap();
        let path = PathBuf::from(OsString::from_vec(b"/a/\xff".to_vec()));
        assert_eq!(address.target().unwrap(), Target::File(path));
        let in_memory = Path::new(OsStr::from_bytes(b"/dev/shm/\xff"));
        let address = Address::of_file_at(in_memory).unwrap();
        assert_eq!(address.as_os_str().as_bytes(), b"/\xff");
        assert_eq!(
            address.target().unwrap(),
            Target::File(in_memory.to_owned())
        );
    }

    #[test]
    fn path_is_always_file() {
        for path in ["/jobs", "jobs", "sysv:1", "file:a", "/dev/shm/jobs"] {
            let address = Path::new(path).to_address().unwrap();
            assert_eq!(address.backing(), Backing::File, "{path}");
        }
        assert_eq!(
            Path::new("jobs").to_address().unwrap().to_string(),
            "file:jobs"
        );
    }

    proptest! {
        #[test]
        fn any_text_round_trips_or_fails(
            text in prop_oneof![".*", "(file:|sysv:|sysv:id:|/|\\./)?[a-c0-2/.:x]{0,8}"],
        ) {
            match text.parse::<Address>() {
                Ok(address) => {
                    let again: Address = address.to_string().parse().unwrap();
                    prop_assert_eq!(&again, &address);
                    prop_assert_eq!(Address::try_from(address.as_os_str()).unwrap(), address);
                }
                Err(Error::InvalidName { name, .. }) => prop_assert_eq!(name, text),
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
