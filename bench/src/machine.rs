//! Description of the machine and of the measured version.

use std::ffi::CStr;
use std::fs;
use std::process::Command;

use crate::affinity::allowed_processors;

/// Returns lines of a name and a value.
pub(crate) fn describe() -> Vec<(&'static str, String)> {
    let processors = allowed_processors().len();
    vec![
        ("date", output_of("date", &["-u", "+%F %R UTC"])),
        ("commit", commit()),
        ("processor", format!("{}, {processors} usable", processor())),
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        ("C library", format!("glibc {}", glibc())),
        ("compiler", output_of("rustc", &["--version"])),
        ("load average before", load()),
    ]
}

/// Returns the load averages of 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let line = first_line("/proc/loadavg");
    let averages: Vec<&str> = line.split_whitespace().take(3).collect();
    averages.join(" ")
}

/// Returns the commit of the working directory, and whether files differ from it.
fn commit() -> String {
    let commit = output_of("git", &["rev-parse", "--short", "HEAD"]);
    let is_unchanged = Command::new("git")
        .args(["diff", "--quiet", "HEAD"])
        .status()
        .is_ok_and(|status| status.success());
    if is_unchanged || commit == UNKNOWN {
        commit
    } else {
        format!("{commit} with uncommitted changes")
    }
}

const UNKNOWN: &str = "unknown";

/// Returns the first line that a program prints.
fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = match &output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout),
        _ => return UNKNOWN.to_owned(),
    };
    text.lines().next().unwrap_or(UNKNOWN).to_owned()
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
    text.lines().next().unwrap_or(UNKNOWN).to_owned()
}

fn glibc() -> String {
    // SAFETY: the call takes no arguments.
    let version = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: glibc returns a pointer to a static string that ends with a zero byte.
    let version = unsafe { CStr::from_ptr(version) };
    version.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let lines = describe();
        assert!(
            lines
                .iter()
                .all(|(name, value)| !name.is_empty() && !value.is_empty())
        );
        assert_eq!(load().split(' ').count(), 3);
        assert_eq!(output_of("false", &[]), UNKNOWN);
    }
}
