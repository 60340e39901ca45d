//! Programs in several languages on the same locks, and kills of each side.
//!
//! A *peer* is a program that reads commands from its standard input and writes one
//! line for each: `protocol.md` lists them. `peers/` has one file per language. A
//! further file there takes part in all tests.

#[path = "../support/mod.rs"]
mod support;

mod attachment;
mod beside_libc;
mod build;
mod compilers;
mod damaged;
mod hand_over;
mod instructions;
mod objects;
mod owner_death;
mod peer;
mod promptness;
mod python;
mod refusals;
mod rust_peer;
mod storm;
mod together;
mod world;
