//! Semaphores, events and channels between languages, with kills.

use std::time::Duration;

use shm_sync::{RecvError, TryRecvError};

use crate::peer::for_each_pair;
use crate::support::watchdog;
use crate::world::{CAPACITY, ENDPOINTS, PERMITS, Place};

#[test]
fn permits_of_a_killed_holder_come_back() {
    for_each_pair(|victim, survivor| {
        let place = Place::new("languages-permits");
        let mut killed = victim.open(&place.name);
        let mut survivor = survivor.open(&place.name);
        let mut indices: Vec<String> = (0..PERMITS).map(|_| killed.ask("acquire")).collect();
        indices.sort();
        assert_eq!(indices, ["ok 0 0", "ok 1 0", "ok 2 0"], "each permit once");
        killed.expect("acquire", "deadlock");
        survivor.expect("try_acquire", "would_block");
        survivor.expect("acquire_for 20", "timed_out");
        survivor.expect("available", "ok 0");
        survivor.tell("acquire");
        survivor.wait_until_asleep();
        killed.kill();
        let first = survivor.reply();
        assert!(first.ends_with(" 1"), "{first}: the death is reported");
        let mut deaths = 1;
        for _ in 1..PERMITS {
            let permit = survivor.ask("acquire");
            assert!(permit.starts_with("ok "), "{permit}");
            deaths += usize::from(permit.ends_with(" 1"));
        }
        assert_eq!(deaths, PERMITS, "each death is reported once");
        for _ in 0..PERMITS {
            survivor.expect_ok("release");
        }
        survivor.expect("available", "ok 3");
        let permits = place
            .segment
            .permits
            .acquire_many(PERMITS)
            .expect("all are free");
        assert!(
            permits.iter().all(|it| !it.after_death()),
            "reported already"
        );
    });
}

#[test]
fn permit_passes_to_a_waiter() {
    for_each_pair(|holder, waiter| {
        let place = Place::new("languages-permit-passes");
        let mut holder = holder.open(&place.name);
        let mut waiter = waiter.open(&place.name);
        for _ in 0..PERMITS {
            assert!(holder.ask("acquire").starts_with("ok "), "it is free");
        }
        waiter.tell("acquire");
        waiter.wait_until_asleep();
        holder.expect_ok("release");
        assert!(waiter.reply().ends_with(" 0"), "no holder has died");
        holder.expect("try_acquire", "would_block");
    });
}

#[test]
fn event_lets_waiters_go_on() {
    for_each_pair(|setter, waiter| {
        let place = Place::new("languages-event");
        let mut killed = setter.open(&place.name);
        let mut setter = setter.open(&place.name);
        let mut waiter = waiter.open(&place.name);
        waiter.expect("await gate 10", "timed_out");
        waiter.tell("await gate 1000000");
        waiter.wait_until_asleep();
        killed.tell("await gate 1000000");
        killed.wait_until_asleep();
        killed.kill();
        setter.expect_ok("set gate");
        waiter.expect_reply("ok");
        waiter.expect("is_set gate", "ok 1");
        waiter.expect_ok("await gate 0");
        waiter.expect_ok("reset gate");
        setter.expect("is_set gate", "ok 0");

        // One `set` lets one waiter go on.
        setter.expect_ok("set turnstile");
        setter.expect_ok("set turnstile");
        waiter.expect_ok("await turnstile 1000");
        waiter.expect("await turnstile 10", "timed_out");
    });
}

#[test]
fn bytes_arrive_in_their_order() {
    for_each_pair(|sender, receiver| {
        let place = Place::new("languages-bytes");
        let mut sender = sender.open(&place.name);
        let mut receiver = receiver.open(&place.name);
        receiver.expect_ok("receiver");
        receiver.expect("try_recv", "would_block");
        receiver.expect("recv_for 10", "timed_out");
        sender.expect_ok("sender");
        for round in 0..2 {
            for byte in 0..CAPACITY {
                sender.expect_ok(&format!("send {}", byte + round));
            }
            sender.expect("try_send 9", "would_block");
            sender.expect("send_for 9 10", "timed_out");
            sender.tell("send 200");
            sender.wait_until_asleep();
            for byte in 0..CAPACITY {
                receiver.expect("recv", &format!("ok {}", byte + round));
            }
            sender.expect_reply("ok");
            receiver.expect("recv", "ok 200");
        }
        receiver.tell("recv");
        receiver.wait_until_asleep();
        sender.expect_ok("send 7");
        receiver.expect_reply("ok 7");
        sender.expect_ok("send 8");
        sender.expect_ok("close_sender");
        receiver.expect("recv", "ok 8");
        receiver.expect("recv", "disconnected");
        receiver.expect_ok("close_receiver");
        assert_eq!(place.segment.bytes.receivers(), 0, "both have closed");
    });
}

#[test]
fn killed_sender_is_reported_to_the_receiver() {
    for_each_pair(|victim, survivor| {
        let place = Place::new("languages-sender-killed");
        let mut receiver = survivor.open(&place.name);
        receiver.expect_ok("receiver");
        let mut sender = victim.open(&place.name);
        sender.expect_ok("sender");
        sender.expect_ok("send 5");
        receiver.expect("recv", "ok 5");
        receiver.tell("recv");
        receiver.wait_until_asleep();
        sender.kill();
        receiver.expect_reply("peer_died");

        // The next one connects the channel again. It dies with a message inside.
        let mut sender = victim.open(&place.name);
        sender.expect_ok("sender");
        sender.expect_ok("send 6");
        sender.kill();
        receiver.expect("recv", "ok 6");
        receiver.expect("recv", "peer_died");
    });
}

#[test]
fn killed_receiver_is_reported_to_the_sender() {
    for_each_pair(|victim, survivor| {
        let place = Place::new("languages-receiver-killed");
        let mut sender = survivor.open(&place.name);
        let mut receiver = victim.open(&place.name);
        receiver.expect_ok("receiver");
        sender.expect_ok("sender");
        for _ in 0..CAPACITY {
            sender.expect_ok("send 1");
        }
        sender.tell("send 2");
        sender.wait_until_asleep();
        receiver.kill();
        sender.expect_reply("peer_died");

        // The messages wait for the next receiver.
        let rust = place.segment.bytes.receiver().expect("there is a seat");
        for _ in 0..CAPACITY {
            let got = rust.recv_timeout(watchdog()).expect("a message is there");
            assert_eq!(got, 1, "the messages of the sender");
        }
        assert!(
            matches!(rust.try_recv(), Err(TryRecvError::Empty)),
            "no more"
        );
        sender.expect_ok("send 3");
        assert_eq!(rust.recv_timeout(watchdog()).expect("it is sent"), 3);
        sender.expect_ok("close_sender");
        let end = rust.recv();
        assert!(
            matches!(end, Err(RecvError::Disconnected { died: false, .. })),
            "{end:?}"
        );
    });
}

#[test]
fn seats_of_a_channel_are_limited_and_come_back() {
    for_each_pair(|victim, survivor| {
        let place = Place::new("languages-endpoints");
        let mut victims: Vec<_> = (0..ENDPOINTS).map(|_| victim.open(&place.name)).collect();
        for victim in &mut victims {
            victim.expect_ok("sender");
        }
        let mut survivor = survivor.open(&place.name);
        survivor.expect("sender", "too_many_endpoints");
        for victim in victims {
            victim.kill();
        }
        survivor.expect_ok("sender");
        survivor.expect_ok("send 1");
        let receiver = place.segment.bytes.receiver().expect("there is a seat");
        let got = receiver.recv_timeout(Duration::from_secs(20));
        assert_eq!(got.expect("it is sent"), 1, "the new sender's message");
    });
}

#[test]
fn no_byte_is_lost_or_doubled() {
    const TIMES: u64 = 5_000;
    for_each_pair(|first, second| {
        let place = Place::new("languages-flood");
        let mut receivers = [first, second].map(|it| it.open(&place.name));
        for receiver in &mut receivers {
            receiver.expect_ok("receiver");
        }
        let mut senders = [first, second].map(|it| it.open(&place.name));
        for sender in &mut senders {
            sender.expect_ok("sender");
        }
        for receiver in &mut receivers {
            receiver.tell("drain");
        }
        for (sender, byte) in senders.iter_mut().zip([1, 3]) {
            sender.tell(&format!("flood {byte} {TIMES}"));
        }
        for sender in &mut senders {
            sender.expect_reply("ok");
            sender.expect_ok("close_sender");
        }
        let mut total = [0, 0];
        for receiver in &mut receivers {
            let reply = receiver.reply();
            let numbers = reply.strip_prefix("ok ").expect("it has received all");
            for (total, number) in total.iter_mut().zip(numbers.split(' ')) {
                *total += number.parse::<u64>().expect("a number");
            }
        }
        assert_eq!(total, [2 * TIMES, 4 * TIMES], "each byte once");
    });
}
