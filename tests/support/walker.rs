//! A child that is led by `ptrace`, instruction by instruction or from system call
//! to system call. It stands still at all times, but when it is let go or sleeps.

use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use shm_sync::Segment;

use super::child::{Child, spawn};

/// The system call that a child is in behind its way.
#[cfg(target_arch = "x86_64")]
pub const PAUSE: libc::c_long = libc::SYS_pause;
#[cfg(target_arch = "aarch64")]
pub const PAUSE: libc::c_long = libc::SYS_ppoll;

/// Whether children can be led on this machine. If not, says that `test` is not run.
pub fn can_lead_for(test: &str) -> bool {
    let can = machine::has_whole_instructions();
    if !can {
        println!("not run, because single steps break its atomic sequences: {test}");
    }
    can
}

/// A child that stands where it was led.
#[derive(Debug)]
pub struct Walker {
    child: Child,
    has_arrived: Segment<AtomicBool>,
    code_of_clock: Range<u64>,
}

/// Where the code lies that the kernel gives to each process for reading the clock
/// (vDSO). It begins anew whenever the clock has ticked meanwhile, so that the steps
/// of a way could not be numbered, and on a busy machine would have no end.
fn code_of_clock() -> Range<u64> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
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
    /// For a futex, what to do with it.
    pub second_argument: u64,
}

/// What a step was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An instruction.
    Plain,
    /// A system call, from beginning to end.
    Whole(Call),
    /// The beginning of a system call, in which the child has fallen asleep.
    Asleep(Call),
}

/// A system call that nothing on the way makes: it marks where the way begins and
/// ends.
const MARK: libc::c_long = libc::SYS_getpgid;

fn mark() {
    // SAFETY: takes and returns numbers.
    unsafe { libc::syscall(MARK, 0) };
}

impl Walker {
    /// Stands at the beginning of the way `body`.
    pub fn new(body: impl FnOnce()) -> Self {
        Self::prepared(|| (), |()| body())
    }

    /// Stands at the beginning of the way `body`, after having run through `prepare`.
    pub fn prepared<P>(prepare: impl FnOnce() -> P, body: impl FnOnce(P)) -> Self {
        let has_arrived = Segment::anonymous(AtomicBool::new(false)).unwrap();
        let child = spawn(|| {
            let prepared = prepare();
            ptrace::traceme().unwrap();
            raise(Signal::SIGSTOP).unwrap();
            mark();
            body(prepared);
            has_arrived.store(true, Ordering::SeqCst);
            mark();
            nix::unistd::pause();
        });
        let mut walker = Self {
            child,
            has_arrived,
            code_of_clock: code_of_clock(),
        };
        walker.wait();
        let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(walker.pid(), options).unwrap();
        while walker.go_to_call_boundary() != MARK {}
        walker.go_to_call_boundary(); // behind the mark
        walker
    }

    /// For signals: who is led can't be waited for like others.
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

    /// Goes on to where the next system call begins or ends. The number of the call.
    fn go_to_call_boundary(&mut self) -> libc::c_long {
        ptrace::syscall(self.pid(), None).unwrap();
        match self.wait() {
            WaitStatus::PtraceSyscall(_) => {
                machine::call_at_boundary(&ptrace::getregs(self.pid()).unwrap())
            }
            other => panic!("it stopped for another reason: {other:?}"),
        }
    }

    /// The system call that the next instruction is, if it is one.
    fn next_call(&self) -> Option<Call> {
        let registers = ptrace::getregs(self.pid()).unwrap();
        let at = machine::next_instruction(&registers) as ptrace::AddressType;
        let code = ptrace::read(self.pid(), at).unwrap();
        machine::is_call(code).then(|| machine::call(&registers))
    }

    /// Executes one instruction. The system call that it was, if it was one.
    pub fn step(&mut self) -> Option<Call> {
        let call = self.next_call();
        self.step_blindly();
        call
    }

    /// Executes one instruction, which does not sleep for good. A reading of the clock
    /// counts as one: it writes nothing that is shared.
    pub fn step_blindly(&mut self) {
        let registers = ptrace::getregs(self.pid()).unwrap();
        let next = machine::next_instruction(&registers);
        if self.code_of_clock.contains(&next) {
            self.run_to(machine::way_out(self.pid(), &registers));
        } else {
            self.step_plainly();
        }
    }

    fn step_plainly(&mut self) {
        ptrace::step(self.pid(), None).unwrap();
        let status = self.wait();
        Self::check_step(status);
    }

    /// Lets it run until its next instruction is the one at that address.
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
    /// in it: then [`stands`](Self::stands) tells when it is over.
    pub fn step_or_sleep(&mut self) -> Step {
        let Some(call) = self.next_call() else {
            self.step_blindly();
            return Step::Plain;
        };
        if call.number != libc::SYS_futex {
            self.step_blindly();
            return Step::Whole(call);
        }
        ptrace::step(self.pid(), None).unwrap();
        loop {
            // In this order: once it stands behind a call, it is said to be in it still.
            let is_asleep = self.is_asleep();
            if self.stands() {
                return Step::Whole(call);
            }
            if is_asleep {
                return Step::Asleep(call);
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    /// Whether a step that was begun is over.
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

    /// Whether it sleeps in a futex call.
    fn is_asleep(&self) -> bool {
        let call = fs::read_to_string(format!("/proc/{}/syscall", self.pid()));
        call.is_ok_and(|call| call.starts_with(&format!("{} ", libc::SYS_futex)))
    }

    /// Whether the way is at its end.
    pub fn is_at_end(&self) -> bool {
        self.has_arrived.load(Ordering::SeqCst)
    }

    /// Goes on to a point of the way, or to its end.
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

    /// Lets it go on by itself. It waits behind its way.
    pub fn let_go(self) -> Child {
        ptrace::detach(self.pid(), None).unwrap();
        self.child
    }

    pub fn kill(mut self) {
        self.child.kill();
    }
}

/// A point of a way: behind so many beginnings and ends of system calls, and so many
/// instructions more.
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

    pub(super) fn has_whole_instructions() -> bool {
        true
    }

    pub(super) fn next_instruction(registers: &user_regs_struct) -> u64 {
        registers.rip
    }

    pub(super) fn set_next_instruction(registers: &mut user_regs_struct, address: u64) {
        registers.rip = address;
    }

    /// Where a function returns to, before its first instruction.
    pub(super) fn way_out(pid: Pid, registers: &user_regs_struct) -> u64 {
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
}

#[cfg(target_arch = "aarch64")]
mod machine {
    use super::Call;
    use libc::{c_long, user_regs_struct};
    use nix::unistd::Pid;

    /// Whether atomic operations are single instructions (LSE). A step inside a loop
    /// of `ldxr` and `stxr` loses the reservation, so that such a loop never ends.
    pub(super) fn has_whole_instructions() -> bool {
        // SAFETY: takes and returns numbers.
        let capabilities = unsafe { libc::getauxval(libc::AT_HWCAP) };
        capabilities & libc::HWCAP_ATOMICS != 0
    }

    pub(super) fn next_instruction(registers: &user_regs_struct) -> u64 {
        registers.pc
    }

    pub(super) fn set_next_instruction(registers: &mut user_regs_struct, address: u64) {
        registers.pc = address;
    }

    /// Where a function returns to, before its first instruction.
    pub(super) fn way_out(_: Pid, registers: &user_regs_struct) -> u64 {
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
}
