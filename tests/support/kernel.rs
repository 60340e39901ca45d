//! What the kernel and the file system offer.

/// Returns whether the kernel populates pages in advance (Linux 5.14). If not, prints
/// that `test` is not run.
pub fn can_populate_for(test: &str) -> bool {
    let len = 4096;
    // SAFETY: the call maps new memory.
    let page = unsafe {
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        libc::mmap(std::ptr::null_mut(), len, access, kind, -1, 0)
    };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: the memory is mapped, and no reference leads to it.
    let can = unsafe { libc::madvise(page, len, libc::MADV_POPULATE_WRITE) } == 0;
    // SAFETY: as above.
    unsafe { libc::munmap(page, len) };
    if !can {
        println!("not run, because this kernel does not populate pages in advance: {test}");
    }
    can
}
