//! Processes and threads: whether they live, what they run, since when.

use std::io;
use std::time::{Duration, SystemTime};

use super::parse::{esrch_to_not_found, number};

/// A process or thread, at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    /// What it calls itself, as the kernel keeps it: at most 15 bytes, of any kind.
    pub(crate) command: String,
    pub(crate) state: State,
    /// In clock ticks since boot.
    started: u64,
}

/// What the scheduler says of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It runs, or waits for something.
    Alive,
    /// A signal or a debugger has stopped it.
    Stopped,
    /// It has ended, and nobody has taken note yet.
    Ended,
}

/// [`proc_pid_stat(5)`](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html):
/// the thread of this id, of any process. `None`: there is no such thread.
pub(crate) fn task(tid: u32) -> io::Result<Option<Task>> {
    read(format!("/proc/{tid}/stat"))
}

/// The same, if it is a thread of process `pid`.
pub(crate) fn thread_of(pid: u32, tid: u32) -> io::Result<Option<Task>> {
    read(format!("/proc/{pid}/task/{tid}/stat"))
}

/// [`proc_pid_status(5)`](https://man7.org/linux/man-pages/man5/proc_pid_status.5.html),
/// `Tgid`: the process that the thread is of.
pub(crate) fn process_of(tid: u32) -> Option<u32> {
    let text = std::fs::read(format!("/proc/{tid}/status")).ok()?;
    parse_process(&text)
}

fn parse_process(text: &[u8]) -> Option<u32> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let id = lines.find_map(|line| line.strip_prefix(b"Tgid:"))?;
    number(id.trim_ascii(), 10)?.try_into().ok()
}

/// [`tkill(2)`](https://man7.org/linux/man-pages/man2/tkill.2.html) with signal 0:
/// whether there is no such thread. `/proc` may be mounted so that it hides
/// those of others (`hidepid`); this is never wrong about the living.
pub(crate) fn is_gone(tid: u32) -> bool {
    // SAFETY: signal 0 sends nothing; no memory is passed.
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
    // The command may hold anything, brackets and line breaks too.
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let command = text.get(open + 1..close)?;
    let mut fields = text[close + 1..]
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty());
    // Fields are counted from 1; this one is number 3.
    let state = match fields.next()? {
        b"T" | b"t" => State::Stopped,
        b"Z" | b"X" | b"x" => State::Ended,
        _ => State::Alive,
    };
    let started = number(fields.nth(22 - 4)?, 10)?;
    Some(Task {
        command: String::from_utf8_lossy(command).into_owned(),
        state,
        started,
    })
}

impl Task {
    /// When it started, to a second or so: the kernel counts from boot.
    pub(crate) fn started(&self) -> io::Result<SystemTime> {
        let ticks_per_second = ticks_per_second();
        let since_boot = Duration::from_secs(self.started / ticks_per_second);
        boot_time()?.checked_add(since_boot).ok_or_else(|| {
            let message = "a task started after the end of time";
            io::Error::new(io::ErrorKind::InvalidData, message)
        })
    }
}

/// [`proc_stat(5)`](https://man7.org/linux/man-pages/man5/proc_stat.5.html),
/// `btime`: when the machine was booted.
fn boot_time() -> io::Result<SystemTime> {
    let text = std::fs::read("/proc/stat")?;
    parse_boot_time(&text).ok_or_else(|| {
        let message = "/proc/stat does not tell when the machine was booted";
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

fn parse_boot_time(text: &[u8]) -> Option<SystemTime> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let seconds = lines.find_map(|line| line.strip_prefix(b"btime "))?;
    let since_1970 = Duration::from_secs(number(seconds.trim_ascii(), 10)?);
    SystemTime::UNIX_EPOCH.checked_add(since_1970)
}

/// [`sysconf(3)`](https://man7.org/linux/man-pages/man3/sysconf.3.html),
/// `_SC_CLK_TCK`.
fn ticks_per_second() -> u64 {
    // SAFETY: the call takes no memory.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks)
        .ok()
        .filter(|ticks| *ticks > 0)
        .unwrap_or(100)
}

/// The name of a user, from
/// [`passwd(5)`](https://man7.org/linux/man-pages/man5/passwd.5.html) alone.
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
        assert_eq!(found.state, State::Alive);
        let same = thread_of(me, me).unwrap().unwrap();
        assert_eq!(same, found);
        let age = found.started().unwrap().elapsed().unwrap_or_default();
        assert!(age < Duration::from_secs(24 * 3600), "{age:?}");
    }

    #[test]
    fn a_thread_is_found_by_its_id_while_it_lives() {
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
    fn who_has_ended_is_not_alive() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let id = Id::Pid(nix::unistd::Pid::from_raw(child.id() as i32));
        waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        let found = task(child.id()).unwrap().unwrap();
        assert_eq!(found.state, State::Ended);
        child.wait().unwrap();
        assert_eq!(task(child.id()).unwrap(), None);
    }

    #[test]
    fn a_command_may_hold_anything() {
        let rest = "S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        for command in ["cat", "a b", ") R 1 (", "\n", "", "((", "))"] {
            let line = format!("77 ({command}) {rest}\n");
            let task = parse_stat(line.as_bytes()).unwrap();
            assert_eq!((task.command.as_str(), task.started), (command, 12345));
            assert_eq!(task.state, State::Alive);
        }
        let stopped = parse_stat(b"1 (x) T 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5").unwrap();
        assert_eq!(stopped.state, State::Stopped);
        assert_eq!(parse_stat(b"1 (x) S 1"), None);
    }

    #[test]
    fn the_time_of_boot_is_in_the_past() {
        assert!(boot_time().unwrap() < SystemTime::now());
        assert_eq!(parse_boot_time(b"cpu 1\n"), None);
        let found = parse_boot_time(b"cpu 1\nbtime 77\nprocesses 1\n");
        assert_eq!(
            found,
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(77))
        );
    }

    #[test]
    fn users_have_names() {
        let text = b"root:x:0:0:root:/root:/bin/sh\nbad\nann:x:1000:1000::/:\n\n";
        assert_eq!(find_user(text, 0).as_deref(), Some("root"));
        assert_eq!(find_user(text, 1000).as_deref(), Some("ann"));
        assert_eq!(find_user(text, 1), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_task_or_nothing(bytes in any::<Vec<u8>>(), cut in 0..60_usize) {
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
