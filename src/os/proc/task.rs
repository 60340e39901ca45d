//! Processes and threads: state, command and start time.
//!
//! Manual pages: [`proc_pid_stat(5)`], [`proc_pid_status(5)`], [`proc_stat(5)`],
//! [`tkill(2)`], [`sysconf(3)`], [`passwd(5)`].
//!
//! [`proc_pid_stat(5)`]: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
//! [`proc_pid_status(5)`]: https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
//! [`proc_stat(5)`]: https://man7.org/linux/man-pages/man5/proc_stat.5.html
//! [`tkill(2)`]: https://man7.org/linux/man-pages/man2/tkill.2.html
//! [`sysconf(3)`]: https://man7.org/linux/man-pages/man3/sysconf.3.html
//! [`passwd(5)`]: https://man7.org/linux/man-pages/man5/passwd.5.html

use std::io;
use std::time::{Duration, SystemTime};

use super::parse::{esrch_to_not_found, number};

/// A process or thread when `/proc` was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    /// The name that the kernel keeps: at most 15 bytes of any value.
    pub(crate) command: String,
    pub(crate) state: TaskState,
    /// Start time in clock ticks since boot.
    start_ticks: u64,
}

/// The scheduler's state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskState {
    /// It runs or sleeps.
    Alive,
    /// A signal or a debugger stopped it.
    Stopped,
    /// It has ended, but its parent has not waited for it yet.
    Ended,
}

/// Returns the thread with this id, of any process: `proc_pid_stat(5)`. Returns `None`
/// if there is no such thread.
pub(crate) fn task(tid: u32) -> io::Result<Option<Task>> {
    read(format!("/proc/{tid}/stat"))
}

/// Returns the thread with this id if it belongs to process `pid`, and `None` if not.
pub(crate) fn thread_of(pid: u32, tid: u32) -> io::Result<Option<Task>> {
    read(format!("/proc/{pid}/task/{tid}/stat"))
}

/// Returns the process to which a thread belongs: `proc_pid_status(5)`, `Tgid`.
pub(crate) fn process_of(tid: u32) -> Option<u32> {
    let text = std::fs::read(format!("/proc/{tid}/status")).ok()?;
    parse_process(&text)
}

fn parse_process(text: &[u8]) -> Option<u32> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let id = lines.find_map(|line| line.strip_prefix(b"Tgid:"))?;
    number(id.trim_ascii(), 10)?.try_into().ok()
}

/// Returns whether no such thread exists: `tkill(2)` with signal 0.
///
/// The answer is also right if `/proc` hides the processes of other users (`hidepid`).
pub(crate) fn is_gone(tid: u32) -> bool {
    // SAFETY: signal 0 sends no signal, and the call uses no memory.
    let rc = unsafe { libc::syscall(libc::SYS_tkill, tid, 0) };
    rc != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

fn read(path: String) -> io::Result<Option<Task>> {
    match std::fs::read(&path).map_err(esrch_to_not_found) {
        Ok(text) => parse_stat(&text).map(Some).ok_or_else(|| {
            let message = format!(
                "{path} can't be read: {:?}",
                text.escape_ascii().to_string()
            );
            io::Error::new(io::ErrorKind::InvalidData, message)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_stat(text: &[u8]) -> Option<Task> {
    // The command may contain any byte, also brackets and line breaks.
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let command = text.get(open + 1..close)?;
    let mut fields = text[close + 1..]
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty());
    // The manual counts fields from 1. This is field 3.
    let state = match fields.next()? {
        b"T" | b"t" => TaskState::Stopped,
        b"Z" | b"X" | b"x" => TaskState::Ended,
        _ => TaskState::Alive,
    };
    let start_ticks = number(fields.nth(22 - 4)?, 10)?;
    Some(Task {
        command: String::from_utf8_lossy(command).into_owned(),
        state,
        start_ticks,
    })
}

impl Task {
    /// Returns the time at which the task started. It can be wrong by about a second,
    /// because the kernel counts from boot.
    pub(crate) fn start_time(&self) -> io::Result<SystemTime> {
        let ticks_per_second = ticks_per_second();
        let since_boot = Duration::from_secs(self.start_ticks / ticks_per_second);
        boot_time()?.checked_add(since_boot).ok_or_else(|| {
            let message = "the start time of a task exceeds the range of time";
            io::Error::new(io::ErrorKind::InvalidData, message)
        })
    }
}

/// Returns the time at which the machine was booted: `proc_stat(5)`, `btime`.
fn boot_time() -> io::Result<SystemTime> {
    let text = std::fs::read("/proc/stat")?;
    parse_boot_time(&text).ok_or_else(|| {
        let message = "/proc/stat does not contain the boot time";
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

fn parse_boot_time(text: &[u8]) -> Option<SystemTime> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let seconds = lines.find_map(|line| line.strip_prefix(b"btime "))?;
    let since_1970 = Duration::from_secs(number(seconds.trim_ascii(), 10)?);
    SystemTime::UNIX_EPOCH.checked_add(since_1970)
}

/// Returns the frequency of the clock ticks: `sysconf(3)`, `_SC_CLK_TCK`.
fn ticks_per_second() -> u64 {
    // SAFETY: the call uses no memory.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks)
        .ok()
        .filter(|ticks| *ticks > 0)
        .unwrap_or(100)
}

/// Returns the name of a user from `/etc/passwd`: `passwd(5)`.
pub(crate) fn user_name(user: u32) -> Option<String> {
    let text = std::fs::read("/etc/passwd").ok()?;
    find_user(&text, user)
}

fn find_user(text: &[u8], user: u32) -> Option<String> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let id = number(fields.nth(1)?, 10)?;
        (id == u64::from(user)).then(|| String::from_utf8_lossy(name).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    use proptest::prelude::*;

    #[test]
    fn smoke() {
        let me = std::process::id();
        let found = task(me).unwrap().unwrap();
        assert_eq!(found.state, TaskState::Alive);
        let same = thread_of(me, me).unwrap().unwrap();
        assert_eq!(same, found);
        let age = found.start_time().unwrap().elapsed().unwrap_or_default();
        assert!(age < Duration::from_secs(24 * 3600), "{age:?}");
    }

    #[test]
    fn thread_is_found_until_it_ends() {
        let me = std::process::id();
        let tid = std::thread::spawn(move || {
            let link = std::fs::read_link("/proc/thread-self").unwrap();
            let tid = link.file_name().unwrap().to_str().unwrap().parse().unwrap();
            assert!(task(tid).unwrap().is_some());
            assert!(thread_of(me, tid).unwrap().is_some());
            assert_eq!(process_of(tid), Some(me));
            assert!(!is_gone(tid));
            tid
        });
        let tid = tid.join().unwrap();
        assert_eq!(
            thread_of(1 << 29, tid).unwrap(),
            None,
            "no process has such an id"
        );
        assert_eq!(task(1 << 29).unwrap(), None);
        assert_eq!(process_of(1 << 29), None);
        assert!(is_gone(1 << 29));
    }

    #[test]
    fn zombie_has_ended() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let id = Id::Pid(nix::unistd::Pid::from_raw(child.id() as i32));
        waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        let found = task(child.id()).unwrap().unwrap();
        assert_eq!(found.state, TaskState::Ended);
        child.wait().unwrap();
        assert_eq!(task(child.id()).unwrap(), None);
    }

    #[test]
    fn command_may_contain_any_byte() {
        let rest = "S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        for command in ["cat", "a b", ") R 1 (", "\n", "", "((", "))"] {
            let line = format!("77 ({command}) {rest}\n");
            let task = parse_stat(line.as_bytes()).unwrap();
            assert_eq!((task.command.as_str(), task.start_ticks), (command, 12345));
            assert_eq!(task.state, TaskState::Alive);
        }
        let stopped = parse_stat(b"1 (x) T 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5").unwrap();
        assert_eq!(stopped.state, TaskState::Stopped);
        assert_eq!(parse_stat(b"1 (x) S 1"), None);
    }

    #[test]
    fn boot_time_is_in_the_past() {
        assert!(boot_time().unwrap() < SystemTime::now());
        assert_eq!(parse_boot_time(b"cpu 1\n"), None);
        let found = parse_boot_time(b"cpu 1\nbtime 77\nprocesses 1\n");
        assert_eq!(
            found,
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(77))
        );
    }

    #[test]
    fn user_name_is_read() {
        let text = b"root:x:0:0:root:/root:/bin/sh\nbad\nann:x:1000:1000::/:\n\n";
        assert_eq!(find_user(text, 0).as_deref(), Some("root"));
        assert_eq!(find_user(text, 1000).as_deref(), Some("ann"));
        assert_eq!(find_user(text, 1), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in any::<Vec<u8>>(), cut in 0..60_usize) {
            let _ = parse_stat(&bytes);
            let _ = parse_boot_time(&bytes);
            let _ = find_user(&bytes, 0);
            let _ = parse_process(&bytes);
            let line = b"7 (x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0";
            let mut mixed = line[..cut.min(line.len())].to_vec();
            mixed.extend(bytes);
            let _ = parse_stat(&mixed);
        }
    }
}
