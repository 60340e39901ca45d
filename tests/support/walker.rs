//! A child that its parent steps by `ptrace`, instruction by instruction or from system
//! call to system call. It is stopped at all times, except after it was released or
//! while it sleeps.

use std::ffi::{CStr, CString};
use std::fs;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libc::user_regs_struct;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use shm_sync::Segment;

use super::child::{Child, spawn};
use super::processor::Pinned;

/// The system call in which a child waits after its operation.
#[cfg(target_arch = "x86_64")]
pub const PAUSE: libc::c_long = libc::SYS_pause;
#[cfg(target_arch = "aarch64")]
pub const PAUSE: libc::c_long = libc::SYS_ppoll;

/// The system calls in which an operation may sleep.
pub const SLEEPS: [libc::c_long; 2] = [libc::SYS_futex, libc::SYS_futex_waitv];

/// Returns whether children can be stepped on this machine. If not, prints that `test`
/// is not run.
pub fn can_lead_for(test: &str) -> bool {
    let can = machine::has_single_instruction_atomics();
    if !can {
        println!(
            "not run, because single steps break the atomic sequences of this machine: {test}"
        );
    }
    can
}

/// A child that is stopped at a point of its operation.
#[derive(Debug)]
pub struct Walker {
    child: Child,
    has_ended: Segment<AtomicBool>,
    code_of_clock: Range<u64>,
    /// The instruction from which the last step began. `None` if the child has made
    /// more than a step since.
    stepped_from: Option<u64>,
    /// Children that this process forks meanwhile stay on the processor, too.
    pinned: Pinned,
}

/// Returns the addresses of the code with which a process reads the clock (vDSO). It
/// starts again if the clock has ticked meanwhile. Its steps therefore cannot be
/// numbered, and on a busy machine it may never end.
fn code_of_clock(pid: Pid) -> Range<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = maps.lines().find(|line| line.ends_with("[vdso]"));
    line.map_or(0..0, |line| {
        let (begin, rest) = line.split_once('-').unwrap();
        let (end, _) = rest.split_once(' ').unwrap();
        let address = |text| u64::from_str_radix(text, 16).unwrap();
        address(begin)..address(end)
    })
}

/// A system call that a child is about to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub number: libc::c_long,
    /// For a futex, the operation.
    pub second_argument: u64,
}

/// The kind of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An instruction.
    Plain,
    /// A system call, from its beginning to its end.
    Whole(Call),
    /// The beginning of a system call in which the child has fallen asleep.
    Asleep(Call),
    /// A system call that may sleep, from its beginning to its end. It returned
    /// `ETIMEDOUT` before the child was seen asleep: on a slow machine, the deadline
    /// passes during the steps that lead to the call.
    Expired(Call),
}

impl Step {
    /// Returns `None` if the child does not wait for an event. Otherwise returns
    /// whether it is asleep. The caller must cause the event in both cases: if the
    /// steps to each call take longer than the recheck interval, the child never falls
    /// asleep.
    pub fn waits(self) -> Option<bool> {
        match self {
            Self::Plain | Self::Whole(_) => None,
            Self::Asleep(_) => Some(true),
            Self::Expired(_) => Some(false),
        }
    }
}

/// A system call that no operation makes. It marks the beginning and the end of the
/// operation.
const MARK: libc::c_long = libc::SYS_getpgid;

fn mark() {
    // SAFETY: the call takes and returns numbers.
    unsafe { libc::syscall(MARK, 0) };
}

impl Walker {
    /// Starts a child and stops it at the beginning of `body`.
    pub fn new(body: impl FnOnce()) -> Self {
        Self::prepared(|| (), |()| body())
    }

    /// Starts a child that runs `prepare`, and stops it at the beginning of `body`.
    pub fn prepared<P>(prepare: impl FnOnce() -> P, body: impl FnOnce(P)) -> Self {
        Self::start(|has_ended| {
            let prepared = prepare();
            ptrace::traceme().unwrap();
            raise(Signal::SIGSTOP).unwrap();
            mark();
            body(prepared);
            has_ended.store(true, Ordering::SeqCst);
            mark();
            nix::unistd::pause();
        })
    }

    /// Starts a program, and stops it at its mark. The first argument is a descriptor
    /// of a segment, whose flag the program sets at the end of its operation.
    pub fn of_program(program: &CStr, arguments: &[&CStr]) -> Self {
        Self::start(|has_ended| {
            let flag = Segment::as_fd(has_ended).expect("it is a memfd");
            // The copy stays open in the new program.
            let flag = nix::unistd::dup(flag).unwrap();
            let flag = CString::new(flag.as_raw_fd().to_string()).unwrap();
            ptrace::traceme().unwrap();
            nix::unistd::execv(program, &[&[program, &flag], arguments].concat()).unwrap();
        })
    }

    /// Starts a child that stops itself, and stops it at its mark.
    fn start(body: impl FnOnce(&Segment<AtomicBool>)) -> Self {
        let has_ended = Segment::anonymous(AtomicBool::new(false)).unwrap();
        let pinned = Pinned::by_process_id();
        let child = spawn(|| body(&has_ended));
        let mut walker = Self {
            child,
            has_ended,
            code_of_clock: 0..0,
            stepped_from: None,
            pinned,
        };
        walker.wait();
        walker.code_of_clock = code_of_clock(walker.pid());
        let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(walker.pid(), options).unwrap();
        while walker.go_to_call_boundary() != MARK {}
        walker.go_to_call_boundary(); // the end of the marking call
        walker
    }

    /// Returns the child, for signals. `Child::wait` does not work while it is traced.
    pub fn child(&self) -> &Child {
        &self.child
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.pid()).unwrap())
    }

    fn wait(&mut self) -> WaitStatus {
        loop {
            match waitpid(self.pid(), None) {
                Err(Errno::EINTR) => {}
                other => break other.unwrap(),
            }
        }
    }

    /// Continues to the beginning or end of the next system call. Returns the number of
    /// the call.
    fn go_to_call_boundary(&mut self) -> libc::c_long {
        ptrace::syscall(self.pid(), None).unwrap();
        self.stepped_from = None;
        match self.wait() {
            WaitStatus::PtraceSyscall(_) => {
                machine::call_at_boundary(&ptrace::getregs(self.pid()).unwrap())
            }
            other => panic!("the child stopped for another reason: {other:?}"),
        }
    }

    fn registers(&self) -> user_regs_struct {
        ptrace::getregs(self.pid()).unwrap()
    }

    /// Returns the system call that the next instruction is, if it is one.
    fn next_call(&self, registers: &user_regs_struct) -> Option<Call> {
        let at = machine::next_instruction(registers) as ptrace::AddressType;
        let code = ptrace::read(self.pid(), at).unwrap();
        machine::is_call(code).then(|| machine::call(registers))
    }

    /// Executes one instruction. Returns the system call that it was, if it was one.
    pub fn step(&mut self) -> Option<Call> {
        let registers = self.registers();
        let call = self.next_call(&registers);
        self.step_from(&registers);
        call
    }

    /// Executes one instruction, which does not sleep forever.
    pub fn step_blindly(&mut self) {
        self.step_from(&self.registers());
    }

    /// Executes the instruction to which `registers` point. It does not sleep forever.
    /// A reading of the clock counts as one instruction, because it writes no shared
    /// memory. It does not if the child stands inside of that code: at the system call
    /// of a machine without a fast clock. There the return address is not known.
    fn step_from(&mut self, registers: &user_regs_struct) {
        let next = machine::next_instruction(registers);
        let is_clock = |address| self.code_of_clock.contains(&address);
        let from = self.stepped_from.replace(next);
        if is_clock(next) && from.is_some_and(|from| !is_clock(from)) {
            self.run_to(machine::return_address(self.pid(), registers));
        } else {
            self.step_plainly();
        }
    }

    fn step_plainly(&mut self) {
        ptrace::step(self.pid(), None).unwrap();
        let status = self.wait();
        Self::check_step(status);
    }

    /// Continues until the next instruction is the one at `address`.
    fn run_to(&mut self, address: u64) {
        let at = address as ptrace::AddressType;
        let code = ptrace::read(self.pid(), at).unwrap();
        ptrace::write(self.pid(), at, machine::with_breakpoint(code)).unwrap();
        ptrace::cont(self.pid(), None).unwrap();
        let status = self.wait();
        Self::check_step(status);
        ptrace::write(self.pid(), at, code).unwrap();
        let mut registers = ptrace::getregs(self.pid()).unwrap();
        machine::set_next_instruction(&mut registers, address);
        ptrace::setregs(self.pid(), registers).unwrap();
    }

    /// Executes one instruction, or begins the system call that it is and falls asleep
    /// in it. Then [`stands`](Self::stands) returns whether the step is over.
    pub fn step_or_sleep(&mut self) -> Step {
        let registers = self.registers();
        let Some(call) = self.next_call(&registers) else {
            self.step_from(&registers);
            return Step::Plain;
        };
        if !SLEEPS.contains(&call.number) {
            self.step_from(&registers);
            return Step::Whole(call);
        }
        self.stepped_from = Some(machine::next_instruction(&registers));
        ptrace::step(self.pid(), None).unwrap();
        loop {
            // In this order, because `/proc` still shows the call after the child has
            // stopped behind it.
            let is_asleep = self.is_asleep();
            if self.stands() {
                let result = machine::result_of_call(&self.registers());
                let has_expired = result == -i64::from(libc::ETIMEDOUT);
                return if has_expired {
                    Step::Expired(call)
                } else {
                    Step::Whole(call)
                };
            }
            if is_asleep {
                return Step::Asleep(call);
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    /// Returns whether a step that was begun is over.
    pub fn stands(&mut self) -> bool {
        match waitpid(self.pid(), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => false,
            other => {
                Self::check_step(other.unwrap());
                true
            }
        }
    }

    fn check_step(status: WaitStatus) {
        assert!(
            matches!(status, WaitStatus::Stopped(_, Signal::SIGTRAP)),
            "{status:?}"
        );
    }

    /// Returns whether the child sleeps in a futex call.
    fn is_asleep(&self) -> bool {
        let call = fs::read_to_string(format!("/proc/{}/syscall", self.pid()));
        let starts = |call: &str, number| call.starts_with(&format!("{number} "));
        call.is_ok_and(|call| SLEEPS.iter().any(|number| starts(&call, *number)))
    }

    /// Returns whether the operation has ended.
    pub fn is_at_end(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// Continues to a point of the operation, or to its end.
    pub fn go_to(&mut self, point: Point) {
        for _ in 0..point.boundaries {
            if !self.is_at_end() {
                self.go_to_call_boundary();
            }
        }
        for _ in 0..point.steps {
            if !self.is_at_end() {
                self.step_blindly();
            }
        }
    }

    /// Detaches from the child, which finishes its operation and then waits.
    pub fn let_go(self) -> Child {
        ptrace::detach(self.pid(), None).unwrap();
        self.child
    }

    pub fn kill(mut self) {
        self.child.kill();
    }
}

/// A point of an operation: after this many beginnings and ends of system calls, and
/// this many instructions more.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub boundaries: u64,
    pub steps: u64,
}

impl Point {
    pub fn at(boundaries: u64, steps: u64) -> Self {
        Self { boundaries, steps }
    }
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use super::Call;
    use libc::{c_long, user_regs_struct};
    use nix::sys::ptrace;
    use nix::unistd::Pid;

    pub(super) fn has_single_instruction_atomics() -> bool {
        true
    }

    pub(super) fn next_instruction(registers: &user_regs_struct) -> u64 {
        registers.rip
    }

    pub(super) fn set_next_instruction(registers: &mut user_regs_struct, address: u64) {
        registers.rip = address;
    }

    /// Returns the return address of a function, before its first instruction.
    pub(super) fn return_address(pid: Pid, registers: &user_regs_struct) -> u64 {
        let word = ptrace::read(pid, registers.rsp as ptrace::AddressType);
        word.unwrap().cast_unsigned()
    }

    pub(super) fn with_breakpoint(code: c_long) -> c_long {
        const INT3: c_long = 0xcc;
        code & !0xff | INT3
    }

    pub(super) fn is_call(code: c_long) -> bool {
        const SYSCALL: c_long = 0x050f;
        code & 0xffff == SYSCALL
    }

    pub(super) fn call(registers: &user_regs_struct) -> Call {
        Call {
            number: registers.rax.cast_signed(),
            second_argument: registers.rsi,
        }
    }

    pub(super) fn call_at_boundary(registers: &user_regs_struct) -> c_long {
        registers.orig_rax.cast_signed()
    }

    /// Returns the result of a system call at its end: a negative error number, or a
    /// value.
    pub(super) fn result_of_call(registers: &user_regs_struct) -> i64 {
        registers.rax.cast_signed()
    }
}

#[cfg(target_arch = "aarch64")]
mod machine {
    use super::Call;
    use libc::{c_long, user_regs_struct};
    use nix::unistd::Pid;

    /// Returns whether atomic operations are single instructions (LSE). A step inside a
    /// loop of `ldxr` and `stxr` loses the reservation, so that such a loop never ends.
    pub(super) fn has_single_instruction_atomics() -> bool {
        // SAFETY: the call takes and returns numbers.
        let capabilities = unsafe { libc::getauxval(libc::AT_HWCAP) };
        capabilities & libc::HWCAP_ATOMICS != 0
    }

    pub(super) fn next_instruction(registers: &user_regs_struct) -> u64 {
        registers.pc
    }

    pub(super) fn set_next_instruction(registers: &mut user_regs_struct, address: u64) {
        registers.pc = address;
    }

    /// Returns the return address of a function, before its first instruction.
    pub(super) fn return_address(_: Pid, registers: &user_regs_struct) -> u64 {
        registers.regs[30]
    }

    pub(super) fn with_breakpoint(code: c_long) -> c_long {
        const BRK_0: c_long = 0xd420_0000;
        code & !0xffff_ffff | BRK_0
    }

    pub(super) fn is_call(code: c_long) -> bool {
        const SVC_0: c_long = 0xd400_0001;
        code & 0xffff_ffff == SVC_0
    }

    pub(super) fn call(registers: &user_regs_struct) -> Call {
        Call {
            number: registers.regs[8].cast_signed(),
            second_argument: registers.regs[1],
        }
    }

    pub(super) fn call_at_boundary(registers: &user_regs_struct) -> c_long {
        registers.regs[8].cast_signed()
    }

    /// Returns the result of a system call at its end: a negative error number, or a
    /// value.
    pub(super) fn result_of_call(registers: &user_regs_struct) -> i64 {
        registers.regs[0].cast_signed()
    }
}
