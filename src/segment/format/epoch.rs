//! The epoch of a segment: the file and the boot for which its locks are valid.
//!
//! Lock words contain thread ids, which mean nothing after a reboot, in another
//! container, or in a copy of the file. [`Validity`] tells these cases apart.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::error::{Error, IdentityError};
use crate::init;
use crate::os::mem::Mapping;
use crate::os::proc::boot_id::boot_id;
use crate::os::regular_file::{self, FileSystem};
use crate::segment::failure;
use crate::segment::format::offsets;

/// The file and the boot for which the locks of a segment are valid.
///
/// In a header it is a device, an inode number, a boot id and a birth time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// The device of the file, which tells a snapshot of a file system from the
    /// original. 0 if no device number is the same for all users of the file, and for
    /// memory that is not a file with a name.
    device: u64,
    /// The inode number of the file, which tells a copy from the original. 0 for memory
    /// that is not a file with a name.
    inode: u64,
    /// The id of the boot. [`NO_BOOT`] for memory, which no boot outlives.
    boot: [u8; 16],
    /// When the file was created, in nanoseconds since 1970, because two file systems
    /// can have the same inode numbers. 0 if the file system does not record it.
    birth_time: u64,
}

/// The index of the word that contains the second half of the boot id.
const BOOT_END: usize = 3;

/// The second half of the boot id while an epoch is being changed.
const CHANGING: u64 = 0;

/// The boot id of segments in memory. No UUID is all ones.
///
/// All processes write and expect it, also those that can read the real boot id.
/// Otherwise these two kinds of processes would consider each other's locks stale.
const NO_BOOT: [u8; 16] = [0xff; 16];

impl Epoch {
    /// The length in bytes in a header.
    pub(in crate::segment) const LEN: usize = offsets::EPOCH.len();

    /// The epoch of memory that is not a file with a name. It ends with the boot.
    pub(crate) const ANONYMOUS: Self = Self {
        device: 0,
        inode: 0,
        boot: NO_BOOT,
        birth_time: 0,
    };

    /// Returns the current epoch of a file, which has this device and inode number.
    ///
    /// A device number belongs to the mounted file system, so all mounts of it show the
    /// same number, in every container. It may change when the file system is unmounted
    /// and mounted again, but then no process has the file open. An overlay shows its
    /// own numbers for files that other processes may have open in the layer below.
    /// There the device is 0.
    pub(crate) fn of(file: impl AsFd, (device, inode): (u64, u64)) -> Result<Self, Error> {
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
            birth_time: regular_file::birth_time(&file),
        })
    }

    pub(in crate::segment) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.device.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.inode.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.boot);
        bytes[32..].copy_from_slice(&self.birth_time.to_le_bytes());
        bytes
    }

    pub(in crate::segment) fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let number = |offset: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[offset + i]));
        Self {
            device: number(0),
            inode: number(8),
            boot: std::array::from_fn(|i| bytes[16 + i]),
            birth_time: number(32),
        }
    }

    /// Returns whether both are the same epoch. A birth time or a device of 0 (unknown)
    /// matches any other.
    pub(crate) fn matches(self, other: Self) -> bool {
        let agree = |one: u64, two: u64| one == two || one == 0 || two == 0;
        agree(self.device, other.device)
            && self.inode == other.inode
            && self.boot == other.boot
            && agree(self.birth_time, other.birth_time)
    }
}

/// The epoch and the pid namespace for which the locks of an object are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::segment) struct Validity {
    pub(in crate::segment) epoch: Epoch,
    pub(in crate::segment) pid_namespace: u32,
}

impl Validity {
    /// Returns the validity that the locks of this file need, so that this process can
    /// use them. The file has this device and inode number.
    pub(in crate::segment) fn of(file: impl AsFd, identity: (u64, u64)) -> Result<Self, Error> {
        Ok(Self {
            epoch: Epoch::of(file, identity)?,
            pid_namespace: init::init_context()?.pid_namespace,
        })
    }

    /// Returns whether locks that are valid for `self` are valid for `other`.
    pub(in crate::segment) fn matches(self, other: Self) -> bool {
        self.epoch.matches(other.epoch) && self.pid_namespace == other.pid_namespace
    }

    /// Reads the epoch and the pid namespace from the header of a mapped object.
    ///
    /// # Panics
    ///
    /// If the mapping is shorter than a header.
    ///
    /// # Memory ordering
    ///
    /// A process that reads an epoch written by [`publish`](Self::publish) sees all
    /// writes before that call: `publish` stores the second half of the boot id last,
    /// with `Release`, and `load` reads it first, with `Acquire`. `load` reads it again
    /// at the end. If it has changed in between, the result is an invalid epoch.
    pub(in crate::segment) fn load(mapping: &Mapping) -> Self {
        let words = epoch_words(mapping);
        let boot_end = words[BOOT_END].load(Ordering::Acquire);
        let mut bytes = [0; Epoch::LEN];
        for (part, word) in bytes.chunks_exact_mut(8).zip(words) {
            part.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        let namespace = namespace_word(mapping).load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let boot_end = match words[BOOT_END].load(Ordering::Relaxed) {
            again if again == boot_end => boot_end,
            _ => CHANGING,
        };
        bytes[24..32].copy_from_slice(&boot_end.to_ne_bytes());
        Self {
            epoch: Epoch::from_bytes(&bytes),
            pid_namespace: u32::from_le(namespace),
        }
    }

    /// Invalidates the stored epoch before the locks are touched.
    ///
    /// # Panics
    ///
    /// If the mapping is shorter than a header.
    pub(in crate::segment) fn invalidate(mapping: &Mapping) {
        epoch_words(mapping)[BOOT_END].store(CHANGING, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Writes the epoch and the pid namespace into the header of a mapped object. The
    /// second half of the boot id is last, so a crash in between leaves an invalid
    /// epoch.
    ///
    /// # Panics
    ///
    /// If the mapping is shorter than a header.
    pub(in crate::segment) fn publish(self, mapping: &Mapping) {
        let words = epoch_words(mapping);
        words[BOOT_END].store(CHANGING, Ordering::Relaxed);
        fence(Ordering::Release);
        namespace_word(mapping).store(self.pid_namespace.to_le(), Ordering::Relaxed);
        let bytes = self.epoch.to_bytes();
        let word = |index: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[8 * index + i]));
        for index in [0, 1, 2, 4] {
            words[index].store(word(index), Ordering::Relaxed);
        }
        words[BOOT_END].store(word(BOOT_END), Ordering::Release);
    }
}

/// Returns the words of the epoch in a header: device, inode, boot id (two), birth
/// time.
fn epoch_words(mapping: &Mapping) -> &[AtomicU64; Epoch::LEN / 8] {
    const { assert!(offsets::EPOCH.offset() % 8 == 0) };
    let words = mapping.get(offsets::EPOCH.offset());
    words.unwrap_or_else(|| unreachable!("the mapping contains a header"))
}

fn namespace_word(mapping: &Mapping) -> &AtomicU32 {
    const { assert!(offsets::PID_NAMESPACE.offset() % 4 == 0) };
    let word = mapping.get(offsets::PID_NAMESPACE.offset());
    word.unwrap_or_else(|| unreachable!("the mapping contains a header"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;
    use std::num::NonZeroUsize;

    fn sample() -> Epoch {
        Epoch {
            device: 6,
            inode: 7,
            boot: std::array::from_fn(|i| i as u8),
            birth_time: 9,
        }
    }

    #[test]
    fn smoke() {
        let epoch = sample();
        let made_at = |birth_time| Epoch {
            birth_time,
            ..epoch
        };
        let on = |device| Epoch { device, ..epoch };
        assert_eq!(Epoch::from_bytes(&epoch.to_bytes()), epoch);
        assert!(epoch.matches(epoch) && epoch.matches(made_at(0)));
        assert!(!epoch.matches(made_at(8)));
        assert!(!epoch.matches(Epoch { inode: 8, ..epoch }));
        assert!(!epoch.matches(on(8)) && epoch.matches(on(0)) && on(0).matches(epoch));
        let of_memory = Epoch {
            boot: NO_BOOT,
            ..epoch
        };
        assert!(!epoch.matches(of_memory) && of_memory.matches(of_memory));
    }

    #[test]
    fn only_files_on_disk_have_a_boot_id() {
        let memory = std::fs::File::open("/dev/shm").unwrap();
        let disk = std::fs::File::open("/proc/self/exe").unwrap();
        if regular_file::file_system(&memory).unwrap() == FileSystem::Memory {
            assert_eq!(Epoch::of(&memory, (1, 2)).unwrap().boot, NO_BOOT);
        }
        if regular_file::file_system(&disk).unwrap() != FileSystem::Memory {
            assert_eq!(Epoch::of(&disk, (1, 2)).unwrap().boot, boot_id().unwrap());
        }
    }

    #[test]
    fn published_epoch_is_loaded() {
        let mapping = Mapping::private(NonZeroUsize::new(offsets::LEN).unwrap()).unwrap();
        let here = Validity {
            epoch: sample(),
            pid_namespace: 42,
        };
        here.publish(&mapping);
        assert_eq!(Validity::load(&mapping), here);
        let mut bytes = [0; Epoch::LEN];
        mapping.copy_to(&mut bytes, offsets::EPOCH.offset());
        assert_eq!(bytes, sample().to_bytes());

        Validity::invalidate(&mapping);
        assert!(!Validity::load(&mapping).matches(here));
        let elsewhere = Validity {
            pid_namespace: 43,
            ..here
        };
        assert!(!here.matches(elsewhere));
    }

    #[test]
    fn numbers_are_documented() {
        let none = Epoch::from_bytes(&[0; Epoch::LEN]);
        let part = |name, epoch: Epoch| {
            let bytes = epoch.to_bytes();
            let offset = bytes.iter().position(|byte| *byte != 0);
            let len = bytes.iter().filter(|byte| **byte != 0).count();
            (name, offset.expect("the part is not zero"), len)
        };
        let (device, inode, birth_time) = (u64::MAX, u64::MAX, u64::MAX);
        let boot = NO_BOOT;
        documented::rows(
            "EPOCH",
            &[
                part("device", Epoch { device, ..none }),
                part("inode", Epoch { inode, ..none }),
                part("boot", Epoch { boot, ..none }),
                part("birth_time", Epoch { birth_time, ..none }),
            ],
            &[],
            Some((Epoch::LEN, 8)),
        );
        assert_eq!(
            (8 * BOOT_END, CHANGING),
            (24, 0),
            "docs/format.md has the numbers"
        );
    }
}
