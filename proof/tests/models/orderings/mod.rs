//! The orderings of the library's atomic accesses, on the memory model.
//!
//! The other models are sequentially consistent, and so is an emulator of a weakly
//! ordered processor on x86, nearly. Here [loom](https://docs.rs/loom) lets each load
//! return each value that the orderings permit, in every interleaving of a small
//! scenario.
//!
//! loom cannot run the library's code, which uses real memory and the kernel. So a
//! scenario repeats the accesses of a protocol. It does not repeat their orderings: it
//! reads these from the source ([`protocol::Site`], [`source`]). A protocol is checked
//!
//! * with the orderings of the code: each scenario must hold;
//! * with each ordering weakened in each way: a scenario must fail, unless
//!   [`protocol::Place::enough`] says that the weaker one is enough;
//! * with each planted mistake: a scenario must fail.
//!
//! [`table`] compares `docs/orderings.md` with the sources and with the protocols. That
//! page has every ordering of the library, and the limits of loom.

mod barrier;
mod channel;
mod condvar;
mod epoch;
mod event_count;
mod kernel;
mod mutex;
mod pi;
mod place;
mod private_owner;
mod protocol;
mod published;
mod rwlock;
mod seat;
mod source;
mod sysv;
mod table;
mod word;
