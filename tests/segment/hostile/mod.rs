//! Bad input: whatever lies under a name, every way to get at it says what is wrong.
//!
//! Each object here is put there by somebody else, by accident or on purpose, and is
//! then opened in every way there is. What is expected is written in tables. No way
//! may panic, fault or hang; a refusal changes nothing in the object, and leaves
//! nothing mapped and nothing open.
//!
//! The tests are in four parts: what is *in* an object, what an object *is*, objects
//! that change while they are used, and System V segments of strangers.

mod access;
mod changes;
mod contents;
mod file_types;
mod foreign_system_v;

use crate::support::{TestAddress, on_stage};
use access::{Counter, Expected, Outcome, check};

on_stage! {
    fn smoke() {
        for address in TestAddress::of_each_kind("hostile") {
            check::<Counter>("nothing", &address, &Expected::missing());
            access::put_good::<Counter>(&address);
            check::<Counter>("a good object", &address, &Expected::all(Outcome::Opened));
        }
    }
}
