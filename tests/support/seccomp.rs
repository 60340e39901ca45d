//! Kernels and sandboxes that refuse a system call, imitated by [`seccomp(2)`][seccomp]
//! filters.
//!
//! [seccomp]: https://man7.org/linux/man-pages/man2/seccomp.2.html

/// Makes the kernel return `errno` for every later `call` of this process and its
/// children, without executing the call.
pub fn refuse(call: libc::c_long, errno: i32) {
    install(&mut [
        load(CALL_NUMBER),
        jump(libc::BPF_JEQ, call as u32, 0, 1),
        answer(libc::SECCOMP_RET_ERRNO | errno as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ]);
}

/// Refuses like [`refuse`] the calls whose argument number `argument` (from 0) has one
/// of the `bits`.
pub fn refuse_with_bits(call: libc::c_long, argument: u32, bits: u32, errno: i32) {
    refuse_if(call, argument, libc::BPF_JSET, bits, errno);
}

/// Refuses like [`refuse`] to open a file with one of the `flags`. glibc opens by
/// `openat`, and musl by `open` where the processor has that call.
pub fn refuse_open_with_flags(flags: u32, errno: i32) {
    refuse_with_bits(libc::SYS_openat, 2, flags, errno);
    #[cfg(target_arch = "x86_64")]
    refuse_with_bits(libc::SYS_open, 1, flags, errno);
}

/// Refuses like [`refuse`] the calls whose second argument is `command`.
pub fn refuse_command(call: libc::c_long, command: i32, errno: i32) {
    refuse_if(call, 1, libc::BPF_JEQ, command as u32, errno);
}

/// Refuses like [`refuse`] the calls whose argument number `argument` (from 0) is
/// `value`.
pub fn refuse_value(call: libc::c_long, argument: u32, value: i32, errno: i32) {
    refuse_if(call, argument, libc::BPF_JEQ, value as u32, errno);
}

/// Refuses files without a name, as gVisor, NFS and FUSE do.
pub fn refuse_unnamed_files(errno: i32) {
    // `O_TMPFILE` without `O_DIRECTORY`, which other calls have as well.
    let bits = (libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;
    refuse_open_with_flags(bits, errno);
}

/// Refuses memory that forks wipe, as gVisor does.
pub fn refuse_wiped_memory(errno: i32) {
    refuse_value(libc::SYS_madvise, 2, libc::MADV_WIPEONFORK, errno);
}

/// Refuses what the variable `SHM_SYNC_TEST_WITHOUT` names, separated by commas, so
/// that every test of a program can run by the fallbacks.
pub fn refuse_by_environment() {
    let Ok(names) = std::env::var("SHM_SYNC_TEST_WITHOUT") else {
        return;
    };
    for name in names.split(',') {
        match name {
            "O_TMPFILE" => refuse_unnamed_files(libc::EOPNOTSUPP),
            "RENAME_NOREPLACE" => refuse(libc::SYS_renameat2, libc::EINVAL),
            "MADV_WIPEONFORK" => refuse_wiped_memory(libc::EINVAL),
            "fallocate" => refuse(libc::SYS_fallocate, libc::EOPNOTSUPP),
            other => panic!("SHM_SYNC_TEST_WITHOUT names {other}, which is unknown"),
        }
    }
}

/// Makes the kernel kill this process (`SIGSYS`) at the first `call` whose argument
/// number `argument` (from 0) has one of the `bits`.
pub fn kill_with_bits(call: libc::c_long, argument: u32, bits: u32) {
    answer_if(
        call,
        argument,
        (libc::BPF_JSET, bits),
        libc::SECCOMP_RET_KILL_PROCESS,
    );
}

fn refuse_if(call: libc::c_long, argument: u32, test: u32, k: u32, errno: i32) {
    answer_if(
        call,
        argument,
        (test, k),
        libc::SECCOMP_RET_ERRNO | errno as u32,
    );
}

fn answer_if(call: libc::c_long, argument: u32, (test, k): (u32, u32), with: u32) {
    install(&mut [
        load(CALL_NUMBER),
        jump(libc::BPF_JEQ, call as u32, 0, 3),
        load(low_half_of(argument)),
        jump(test, k, 0, 1),
        answer(with),
        answer(libc::SECCOMP_RET_ALLOW),
    ]);
}

/// Refuses like [`refuse`] the calls whose argument number `argument` (from 0) is
/// greater than `bound`.
pub fn refuse_above(call: libc::c_long, argument: u32, bound: u32, errno: i32) {
    let high_half = low_half_of(argument) ^ 4;
    install(&mut [
        load(CALL_NUMBER),
        jump(libc::BPF_JEQ, call as u32, 0, 5),
        load(high_half),
        jump(libc::BPF_JGT, 0, 2, 0),
        load(low_half_of(argument)),
        jump(libc::BPF_JGT, bound, 0, 1),
        answer(libc::SECCOMP_RET_ERRNO | errno as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ]);
}

/// The offset of the call's number in `struct seccomp_data`.
const CALL_NUMBER: u32 = 0;

/// Returns the offset of the less significant half of an argument in `struct
/// seccomp_data`.
fn low_half_of(argument: u32) -> u32 {
    16 + 8 * argument + if cfg!(target_endian = "little") { 0 } else { 4 }
}

fn load(at: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0)
}

fn jump(test: u32, k: u32, if_true: u8, if_false: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | test | libc::BPF_K, k, if_true, if_false)
}

fn answer(k: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, k, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    let code = code as u16;
    libc::sock_filter { code, jt, jf, k }
}

fn install(filter: &mut [libc::sock_filter]) {
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the call takes only numbers.
    let rc = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(rc, 0);
    // SAFETY: `program` and its filter outlive the call.
    let rc = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
}
