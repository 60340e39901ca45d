//! Reads memory of this process that another thread may unmap.

use std::io;

/// Reads a word of this process, if it is mapped:
/// [`process_vm_readv(2)`](https://man7.org/linux/man-pages/man2/process_vm_readv.2.html).
///
/// # Errors
///
/// * `EFAULT`: the address is not mapped, or is not readable.
/// * `ENOSYS`, `EPERM`: the kernel or a sandbox refuses the call.
pub(crate) fn read_own_memory(address: usize) -> io::Result<usize> {
    let mut word = 0_usize;
    let len = size_of::<usize>();
    let local = libc::iovec {
        iov_base: (&raw mut word).cast(),
        iov_len: len,
    };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(address),
        iov_len: len,
    };
    let pid = nix::unistd::getpid().as_raw();
    // SAFETY: the kernel writes to `word` at most, for which `local` is valid. It
    // checks the other address.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match usize::try_from(read) {
        Ok(read) if read == len => Ok(word),
        // Part of the word is mapped.
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        Err(_) => Err(io::Error::last_os_error()),
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
