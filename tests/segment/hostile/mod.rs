//! Bad input: every access to a bad object returns the right error.
//!
//! Another program creates each object, by accident or on purpose, and the tests try
//! every access to it. Tables list the expected outcomes. No access may panic, fault or
//! hang. A refusal changes nothing in the object, and leaves nothing mapped and nothing
//! open.
//!
//! The tests are in five parts: the contents of objects, their type tables, their file
//! types, objects that change while they are used, and System V segments of other
//! users.

mod access;
mod changes;
mod contents;
mod file_types;
mod foreign_system_v;
mod types;

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
