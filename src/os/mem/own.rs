//! Reads memory of this process that another thread may unmap.

use std::io::{self, IoSliceMut};

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::gettid;

use crate::os::io_error;

/// Reads a word of this process, if it is mapped:
/// [`process_vm_readv(2)`](https://man7.org/linux/man-pages/man2/process_vm_readv.2.html).
///
/// # Errors
///
/// * `EFAULT`: the address is not mapped, or is not readable.
/// * `ENOSYS`, `EPERM`: the kernel or a sandbox refuses the call.
pub(crate) fn read_own_memory(address: usize) -> io::Result<usize> {
    let mut word = [0; size_of::<usize>()];
    let len = word.len();
    let local = &mut [IoSliceMut::new(&mut word)];
    let remote = [RemoteIoVec { base: address, len }];
    // The process id is that of its first thread, which may have ended.
    match process_vm_readv(gettid(), local, &remote).map_err(io_error)? {
        read if read == len => Ok(usize::from_ne_bytes(word)),
        // Part of the word is mapped.
        _ => Err(io_error(Errno::EFAULT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let word = 0x1234_5678_usize;
        let at = (&raw const word).addr();
        assert_eq!(read_own_memory(at).unwrap(), word);
    }

    #[test]
    fn address_that_is_not_mapped_is_an_error() {
        let error = read_own_memory(8).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
    }
}
