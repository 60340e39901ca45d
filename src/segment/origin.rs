//! Where and when the locks of a segment came to life, so that what outlives a boot
//! of the machine, or is a copy, is told from what lives.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::header;
use crate::os::boot::boot_id;
use crate::os::mman::Mapping;
use crate::os::named_file;

/// Which file, and which boot of the machine. Lock words mean nothing elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The device that the file is on; 0 for what is no file with a name.
    device: u64,
    /// The inode number of the file; 0 for what is no file with a name.
    inode: u64,
    /// The id of the boot.
    boot: [u8; 16],
    /// When the file was made, in nanoseconds since 1970: two file systems can have
    /// the same inode numbers. 0 if the file system does not say.
    born: u64,
}

/// Which of the words of an origin is the end of the boot's id.
const BOOT_END: usize = 3;

/// What a boot's id ends in while an origin is being changed.
const CHANGING: u64 = 0;

impl Origin {
    /// In a header, in bytes.
    pub(super) const LEN: usize = 40;

    /// Here and now, in memory that is no file with a name.
    pub(super) fn nameless() -> io::Result<Self> {
        Ok(Self {
            device: 0,
            inode: 0,
            boot: boot_id()?,
            born: 0,
        })
    }

    /// Here and now, in this file.
    pub(crate) fn of(file: impl AsFd) -> io::Result<Self> {
        let (_, inode) = named_file::facts(&file)?.identity;
        Ok(Self {
            device: 0, // not known yet
            inode,
            boot: boot_id()?,
            born: named_file::born(&file)?,
        })
    }

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.device.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.inode.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.boot);
        bytes[32..].copy_from_slice(&self.born.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Self {
            device: number(0),
            inode: number(8),
            boot: std::array::from_fn(|i| bytes[16 + i]),
            born: number(32),
        }
    }

    /// Whether both are the same place and time. A file system that does not say when
    /// a file was made contradicts nobody.
    pub(crate) fn is(self, other: Self) -> bool {
        let same_birth = self.born == other.born || self.born == 0 || other.born == 0;
        self.device == other.device
            && self.inode == other.inode
            && self.boot == other.boot
            && same_birth
    }

    /// Whether it is the same boot, whatever the file.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot)
    }

    /// The origin in a header, and the pid namespace beside it.
    ///
    /// # Memory ordering
    ///
    /// Whoever reads an origin that [`publish`](Self::publish) wrote sees all that
    /// was written before it: the end of the boot's id is stored last with
    /// `Release`, and read first with `Acquire`. Read once more at the end, it is the
    /// same only if nothing was changed in between.
    pub(super) fn load(mapping: &Mapping) -> (Self, u32) {
        let words = words(mapping);
        let boot_end = words[BOOT_END].load(Ordering::Acquire);
        let mut bytes = [0; Self::LEN];
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
        (Self::from_bytes(&bytes), u32::from_le(namespace))
    }

    /// Makes the origin in a header none, before anything is changed that it vouches
    /// for.
    pub(super) fn withdraw(mapping: &Mapping) {
        words(mapping)[2].store(CHANGING, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Writes the origin and the pid namespace into a header, the end of the boot's
    /// id last. A death before that leaves an origin that is none.
    pub(super) fn publish(self, mapping: &Mapping, pid_namespace: u32) {
        let words = words(mapping);
        words[BOOT_END].store(CHANGING, Ordering::Relaxed);
        fence(Ordering::Release);
        namespace(mapping).store(pid_namespace.to_le(), Ordering::Relaxed);
        let bytes = self.to_bytes();
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[8 * at + i]));
        for at in [0, 1, 2, 4] {
            words[at].store(word(at), Ordering::Relaxed);
        }
        words[BOOT_END].store(word(BOOT_END), Ordering::Release);
    }
}

/// The words of the origin in a header: device, inode, boot, boot, born.
fn words(mapping: &Mapping) -> &[AtomicU64; Origin::LEN / 8] {
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

    fn sample() -> Origin {
        Origin {
            device: 6,
            inode: 7,
            boot: std::array::from_fn(|i| i as u8),
            born: 9,
        }
    }

    #[test]
    fn smoke() {
        let origin = sample();
        assert_eq!(Origin::from_bytes(&origin.to_bytes()), origin);
        assert!(origin.is(origin) && origin.is(Origin { born: 0, ..origin }));
        assert!(!origin.is(Origin { born: 8, ..origin }));
        assert!(!origin.is(Origin { inode: 8, ..origin }));
        let elsewhere = Origin {
            device: 8,
            ..origin
        };
        assert!(!origin.is(elsewhere));
        assert!(!origin.is_of_this_boot());
        assert!(Origin::nameless().unwrap().is_of_this_boot());
    }

    #[test]
    fn what_is_published_is_loaded() {
        let mapping = Mapping::private(NonZeroUsize::new(header::LEN).unwrap()).unwrap();
        sample().publish(&mapping, 42);
        assert_eq!(Origin::load(&mapping), (sample(), 42));
        let mut bytes = [0; Origin::LEN];
        mapping.copy_to(&mut bytes, header::ORIGIN_AT);
        assert_eq!(bytes, sample().to_bytes());
    }
}
