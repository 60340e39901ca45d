//! Where it was measured.

use std::ffi::CStr;
use std::fs;

use crate::crew::processors;

/// The machine, in some lines of `what: value`.
pub(crate) fn describe() -> Vec<(&'static str, String)> {
    let processors = processors().len();
    vec![
        (
            "processor",
            format!("{}, {processors} to run on", processor()),
        ),
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        ("C library", format!("glibc {}", glibc())),
        ("load before", first_line("/proc/loadavg")),
    ]
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or(std::env::consts::ARCH, |(_, name)| name)
        .to_owned()
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

fn glibc() -> String {
    // SAFETY: it takes nothing, and returns a string that stays for ever.
    let version = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: as above.
    let version = unsafe { CStr::from_ptr(version) };
    version.to_string_lossy().into_owned()
}
