//! The condition variable: a sequence, its generation, a count of sleepers, the chain by
//! which the called call each other, the heartbeat, and the telling of a death.
//!
//! Producers put items under the mutex and notify; consumers take them, and wait while
//! there are none. Guests wait until a host opens, and go. Others only die, panic or
//! repair under the mutex. Some may be killed, between any two steps.
//!
//! # The steps, and where they are
//!
//! | step | in the code | reads, *writes* |
//! |---|---|---|
//! | `Lock` | `ShmMutex::lock`; in a wait, `RawMutex::take_back` | *lock* |
//! | `Mark`, `Count` | `RawMutex::inherit`, after a death; `RawMutex::poison_by_panic` | *poison*, *poisonings* |
//! | `AddSequence` | `ShmCondvar::notify_one`, `notify_all`: one word | *sequence*, *generation* |
//! | `ReadSleepers` | `ShmCondvar::wake_one_of`: if there are none, the next step is left out | sleepers |
//! | `Wake` | there, `futex::wake_one_of`: of the generation that was, or not of the new one | *queue* |
//! | `Judge` | `ShmMutex::guard` | poison |
//! | `Clear` | `Poisoned::recover` | *poison* |
//! | `Work` | what a user does under the lock: puts an item, opens, takes an item, or finds nothing | *items*, *door* |
//! | `ReadSequence`, `ReadCount` | `ShmCondvar::wait_raw`, under the mutex | sequence, generation, poisonings |
//! | `GiveBack`, `Unlock` | `RawMutex::unlock` | *lock* |
//! | `Spin` | `ShmCondvar::wait_raw`: the last look of the spin | sequence |
//! | `Register` | `ShmCondvar::sleep` | *sleepers* |
//! | `Sleep` | there, `futex::wait_among`: the kernel compares and queues in one step | sequence, *queue* |
//! | `Queued` | asleep in the kernel; ended by a wake, a heartbeat or the deadline | |
//! | `LookForDeath` | there, `trouble`: `RawMutex::owner_died` | lock |
//! | `LookForPoison` | there, `trouble`: `RawMutex::poisonings` | poisonings |
//! | `LookAtClock` | there, `Deadline::has_passed` | |
//! | `Deregister` | there | *sleepers* |
//! | `LookForCall` | there: if the generation is still the same, the next two steps are left out | generation |
//! | `LookForNext` | `ShmCondvar::wake_one_of`: if there are no sleepers, the next step is left out | sleepers |
//! | `CallNext` | there, `futex::wake_one_of`: not of the generation just read | *queue* |
//! | `Dying` | the kernel: out of the queue; the lock, if it was held, becomes owner died | *queue*, *lock* |
//!
//! # What is simpler than the truth
//!
//! * The mutex is one word, taken and given back in one step each, and a blocked
//!   process takes it once it can: that is what the machine of the mutex shows.
//! * A wake may hit any sleeper of its generations; the kernel takes the one that has
//!   slept longest.
//! * The numbers don't wrap: nobody does enough for that. So the sequence and its
//!   generation are two numbers, which change in one step.
//! * `Consistent` and `Name` are left out: here nobody reads what they write. So is the
//!   spin before `take_back`, which decides nothing.

mod model;
mod state;
mod steps;
mod tests;
