//! Where and when the locks of a segment came to life, so that what outlives a boot
//! of the machine or a container, or is a copy, is told from what lives.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::error::{Error, IdentityError};
use crate::init;
use crate::os::mem::Mapping;
use crate::os::proc::boot_id::boot_id;
use crate::os::regular_file::{self, FileSystem};
use crate::segment::failure;
use crate::segment::format::header;

/// Which file, and which boot of the machine. Lock words mean nothing elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// The device that the file is on, by which the snapshot of a file system is told
    /// from the original. 0 if the file system has no number that all users of the
    /// file see, and for what is no file with a name.
    device: u64,
    /// The inode number of the file; 0 for what is no file with a name.
    inode: u64,
    /// The id of the boot; [`NO_BOOT`] for what no boot outlives.
    boot: [u8; 16],
    /// When the file was made, in nanoseconds since 1970: two file systems can have
    /// the same inode numbers. 0 if the file system does not say.
    born: u64,
}

/// Which of the words of an origin is the end of the boot's id.
const BOOT_END: usize = 3;

/// What a boot's id ends in while an origin is being changed.
const CHANGING: u64 = 0;

/// The boot of what is in memory. All processes write and expect this, also those
/// that can read the boot's id: otherwise they would take each other's locks for
/// stale. No UUID is all ones.
const NO_BOOT: [u8; 16] = [0xff; 16];

impl Epoch {
    /// In a header, in bytes.
    pub(in crate::segment) const LEN: usize = 40;

    /// The origin of memory that is no file with a name: it ends with the boot.
    pub(crate) const NAMELESS: Self = Self {
        device: 0,
        inode: 0,
        boot: NO_BOOT,
        born: 0,
    };

    /// Here and now, in this file.
    ///
    /// A device's number belongs to the mounted file system, so all mounts of it show
    /// the same one, in every container. Mounted anew it may have another number;
    /// but then no process has the file open. An overlay shows numbers of its own for
    /// files that other processes may have open beneath it, so there it says nothing.
    pub(crate) fn of(file: impl AsFd) -> Result<Self, Error> {
        let facts = regular_file::fstat(&file).map_err(failure::call_error("fstat"))?;
        let (device, inode) = facts.identity;
        let file_system =
            regular_file::file_system(&file).map_err(failure::call_error("fstatfs"))?;
        Ok(Self {
            device: match file_system {
                FileSystem::Overlay => 0,
                FileSystem::Memory | FileSystem::Other => device,
            },
            inode,
            boot: match file_system {
                FileSystem::Memory => NO_BOOT,
                FileSystem::Overlay | FileSystem::Other => {
                    boot_id().map_err(IdentityError::NoBootId)?
                }
            },
            born: regular_file::birth_time(&file).map_err(failure::call_error("statx"))?,
        })
    }

    pub(in crate::segment) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.device.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.inode.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.boot);
        bytes[32..].copy_from_slice(&self.born.to_le_bytes());
        bytes
    }

    pub(in crate::segment) fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Self {
            device: number(0),
            inode: number(8),
            boot: std::array::from_fn(|i| bytes[16 + i]),
            born: number(32),
        }
    }

    /// Whether both are the same place and time. A birth time or a device that is
    /// unknown (0) equals any.
    pub(crate) fn is(self, other: Self) -> bool {
        let agree = |one: u64, two: u64| one == two || one == 0 || two == 0;
        agree(self.device, other.device)
            && self.inode == other.inode
            && self.boot == other.boot
            && agree(self.born, other.born)
    }
}

/// Where the locks of an object mean something: to the processes that see this
/// origin and live in this pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::segment) struct Validity {
    pub(in crate::segment) origin: Epoch,
    pub(in crate::segment) pid_namespace: u32,
}

impl Validity {
    /// Returns where the locks of this file must be valid for this process to use
    /// them.
    pub(in crate::segment) fn of(file: impl AsFd) -> Result<Self, Error> {
        Ok(Self {
            origin: Epoch::of(file)?,
            pid_namespace: init::init_context()?.pid_namespace,
        })
    }

    /// Whether locks that are valid for the one are valid for the other.
    pub(in crate::segment) fn is(self, other: Self) -> bool {
        self.origin.is(other.origin) && self.pid_namespace == other.pid_namespace
    }

    /// Reads the origin in a header, and the pid namespace beside it.
    ///
    /// # Memory ordering
    ///
    /// Whoever reads an origin that [`publish`](Self::publish) wrote sees all that
    /// was written before it: the end of the boot's id is stored last with
    /// `Release`, and read first with `Acquire`. Read once more at the end, it is the
    /// same only if nothing was changed in between.
    pub(in crate::segment) fn load(mapping: &Mapping) -> Self {
        let words = words(mapping);
        let boot_end = words[BOOT_END].load(Ordering::Acquire);
        let mut bytes = [0; Epoch::LEN];
        for (part, word) in bytes.chunks_exact_mut(8).zip(words) {
            part.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        let namespace = namespace(mapping).load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let boot_end = match words[BOOT_END].load(Ordering::Relaxed) {
            again if again == boot_end => boot_end,
            _ => CHANGING,
        };
        bytes[24..32].copy_from_slice(&boot_end.to_ne_bytes());
        Self {
            origin: Epoch::from_bytes(&bytes),
            pid_namespace: u32::from_le(namespace),
        }
    }

    /// Makes the origin in a header none, before anything is changed that it vouches
    /// for.
    pub(in crate::segment) fn invalidate(mapping: &Mapping) {
        words(mapping)[BOOT_END].store(CHANGING, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Writes the origin and the pid namespace into a header, the end of the boot's
    /// id last. A death before that leaves an origin that is none.
    pub(in crate::segment) fn publish(self, mapping: &Mapping) {
        let words = words(mapping);
        words[BOOT_END].store(CHANGING, Ordering::Relaxed);
        fence(Ordering::Release);
        namespace(mapping).store(self.pid_namespace.to_le(), Ordering::Relaxed);
        let bytes = self.origin.to_bytes();
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[8 * at + i]));
        for at in [0, 1, 2, 4] {
            words[at].store(word(at), Ordering::Relaxed);
        }
        words[BOOT_END].store(word(BOOT_END), Ordering::Release);
    }
}

/// The words of the origin in a header: device, inode, boot, boot, born.
fn words(mapping: &Mapping) -> &[AtomicU64; Epoch::LEN / 8] {
    const { assert!(header::ORIGIN_AT.is_multiple_of(8)) };
    assert!(mapping.len() >= header::LEN);
    // SAFETY: inside the mapping, as just checked.
    let at = unsafe { mapping.base().add(header::ORIGIN_AT) };
    // SAFETY: aligned, since the mapping is aligned to a page; any bytes are atomic
    // words; lent for as long as the mapping.
    unsafe { at.cast().as_ref() }
}

fn namespace(mapping: &Mapping) -> &AtomicU32 {
    const { assert!(header::PID_NAMESPACE_AT.is_multiple_of(4)) };
    assert!(mapping.len() >= header::LEN);
    // SAFETY: inside the mapping, as just checked.
    let at = unsafe { mapping.base().add(header::PID_NAMESPACE_AT) };
    // SAFETY: as in `words`.
    unsafe { at.cast().as_ref() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;

    fn sample() -> Epoch {
        Epoch {
            device: 6,
            inode: 7,
            boot: std::array::from_fn(|i| i as u8),
            born: 9,
        }
    }

    #[test]
    fn smoke() {
        let origin = sample();
        assert_eq!(Epoch::from_bytes(&origin.to_bytes()), origin);
        assert!(origin.is(origin) && origin.is(Epoch { born: 0, ..origin }));
        assert!(!origin.is(Epoch { born: 8, ..origin }));
        assert!(!origin.is(Epoch { inode: 8, ..origin }));
        let on = |device| Epoch { device, ..origin };
        assert!(!origin.is(on(8)) && origin.is(on(0)) && on(0).is(origin));
        let of_memory = Epoch {
            boot: NO_BOOT,
            ..origin
        };
        assert!(!origin.is(of_memory) && of_memory.is(of_memory));
    }

    #[test]
    fn only_what_outlives_a_boot_asks_for_its_id() {
        let memory = std::fs::File::open("/dev/shm").unwrap();
        let disk = std::fs::File::open("/proc/self/exe").unwrap();
        if regular_file::file_system(&memory).unwrap() == FileSystem::Memory {
            assert_eq!(Epoch::of(&memory).unwrap().boot, NO_BOOT);
        }
        if regular_file::file_system(&disk).unwrap() != FileSystem::Memory {
            assert_eq!(Epoch::of(&disk).unwrap().boot, boot_id().unwrap());
        }
    }

    #[test]
    fn what_is_published_is_loaded() {
        let mapping = Mapping::private(NonZeroUsize::new(header::LEN).unwrap()).unwrap();
        let here = Validity {
            origin: sample(),
            pid_namespace: 42,
        };
        here.publish(&mapping);
        assert_eq!(Validity::load(&mapping), here);
        let mut bytes = [0; Epoch::LEN];
        mapping.copy_to(&mut bytes, header::ORIGIN_AT);
        assert_eq!(bytes, sample().to_bytes());

        Validity::invalidate(&mapping);
        assert!(!Validity::load(&mapping).is(here));
        let elsewhere = Validity {
            pid_namespace: 43,
            ..here
        };
        assert!(!here.is(elsewhere));
    }
}
