//! Enums with and without payload, of every size, with explicit discriminants.

use std::sync::atomic::{AtomicU32, Ordering};

use shm_sync::{Segment, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(u8)]
enum State {
    Idle,
    Busy,
    Done,
}

#[derive(ShmSafe)]
#[repr(u8)]
enum Message {
    Ping,
    Number(u64),
    Pair { id: u8, values: [u32; 2] },
    Count(AtomicU32),
    Inner(State),
}

#[derive(ShmSafe)]
#[repr(C, u16)]
enum CMessage {
    Ping,
    Number(u64),
}

const BASE: i32 = -7;

#[derive(ShmSafe)]
#[repr(i32)]
enum Code {
    Lowest = i32::MIN,
    Base = BASE,
    AfterBase,
    Shifted = 1 << 4,
    Highest = i32::MAX,
}

const fn hash(text: &str) -> u16 {
    text.len() as u16
}

const fn discriminant() -> u16 {
    77
}

// User functions may have names that the derived code uses.
#[derive(ShmSafe)]
#[repr(u16)]
enum Computed {
    First = hash("four"),
    Second = discriminant(),
}

#[derive(ShmSafe)]
#[repr(u64)]
enum Wide {
    Zero = 0,
    Highest = u64::MAX,
}

#[derive(ShmSafe)]
#[repr(isize)]
enum Explicit {
    Text(u8) = -3,
    Next { value: u16 },
}

#[derive(ShmSafe)]
#[repr(C)]
struct All {
    lock: ShmMutex<Message>,
    c: CMessage,
    codes: [Code; 5],
    wide: (Wide, Wide),
    computed: [Computed; 2],
    explicit: [Explicit; 2],
}

fn main() -> Result<(), shm_sync::Error> {
    let all = Segment::anonymous(All {
        lock: ShmMutex::new(Message::Count(AtomicU32::new(1))),
        c: CMessage::Number(5),
        codes: [Code::Lowest, Code::Base, Code::AfterBase, Code::Shifted, Code::Highest],
        wide: (Wide::Zero, Wide::Highest),
        computed: [Computed::First, Computed::Second],
        explicit: [Explicit::Text(1), Explicit::Next { value: 2 }],
    })?;
    let mut message = all.lock.lock()?;
    if let Message::Count(count) = &*message {
        assert_eq!(count.fetch_add(1, Ordering::Relaxed), 1);
    }
    for next in [
        Message::Ping,
        Message::Number(1),
        Message::Pair { id: 1, values: [2, 3] },
        Message::Inner(State::Idle),
        Message::Inner(State::Busy),
        Message::Inner(State::Done),
    ] {
        *message = next;
    }
    assert!(matches!(*message, Message::Inner(State::Done)));
    assert!(matches!(all.c, CMessage::Number(5)));
    let _ping = CMessage::Ping;
    Ok(())
}
