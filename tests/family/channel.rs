//! `ShmChannel`: order, both sides, disconnection, and deaths.

use std::mem::forget;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shm_sync::{
    Error, LockError, Receiver, RecvError, RecvTimeoutError, Segment, SegmentOptions, SendError,
    SendTimeoutError, Sender, ShmChannel, ShmSafe, TryRecvError, TrySendError,
};

use crate::support::{Child, Gate, median, on_stage, seccomp, spawn};

/// The promised time after a death.
const RECOVERS_WITHIN: Duration = Duration::from_millis(250);

type Many<const N: usize> = ShmChannel<u64, N>;
type One<const N: usize> = ShmChannel<u64, N, 1, 1>;

fn many<const N: usize>() -> Segment<Many<N>> {
    Segment::anonymous(ShmChannel::new()).unwrap()
}

fn one<const N: usize>() -> Segment<One<N>> {
    Segment::anonymous(ShmChannel::new()).unwrap()
}

/// Starts a process that opens an endpoint and waits until it is killed.
fn occupant<E>(open: impl FnOnce() -> Result<E, Error>) -> Child {
    let opened = Gate::new();
    let child = spawn(|| {
        let _end = open().unwrap();
        opened.open();
        nix::unistd::pause();
    });
    opened.pass();
    child
}

/// Runs a body for a channel with locks, and for one whose seats are the locks.
macro_rules! for_both_kinds {
    (|$channel:ident: $capacity:literal| $body:block) => {{
        {
            let $channel = many::<$capacity>();
            $body
        }
        {
            let $channel = one::<$capacity>();
            $body
        }
    }};
}

fn ended<T>(result: Result<T, RecvError>, has_died: bool) -> bool {
    matches!(result, Err(RecvError::Disconnected { died }) if died == has_died)
}

#[test]
fn unplaced_channel_is_refused() {
    let channel = Many::<4>::new();
    let not_placed = |error| matches!(error, Error::Lock(LockError::NotPlaced));
    assert!(not_placed(channel.sender().unwrap_err()));
    assert!(not_placed(channel.receiver().unwrap_err()));
    assert_eq!(
        (channel.len(), channel.senders(), channel.receivers()),
        (0, 0, 0)
    );
}

#[test]
fn messages_arrive_in_order() {
    for_both_kinds!(|channel: 4| {
        let (sender, receiver) = (channel.sender().unwrap(), channel.receiver().unwrap());
        for round in 0..10 {
            for number in 0..4 {
                sender.send(round * 4 + number).unwrap();
            }
            assert!(channel.is_full());
            assert!(matches!(sender.try_send(99), Err(TrySendError::Full(99))));
            for number in 0..4 {
                assert_eq!(receiver.recv().unwrap(), round * 4 + number);
            }
            assert!(channel.is_empty());
            assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
        }
    });
}

#[test]
fn endpoints_above_the_limit_are_refused() {
    let channel = Segment::anonymous(ShmChannel::<u8, 1, 2, 1>::new()).unwrap();
    let senders = [channel.sender().unwrap(), channel.sender().unwrap()];
    let receiver = channel.receiver().unwrap();
    assert_eq!((channel.senders(), channel.receivers()), (2, 1));
    let error = channel.sender().unwrap_err();
    assert!(matches!(error, Error::TooManyEndpoints { limit: 2 }));
    let text = "all 2 endpoints of this side of the channel are in use";
    assert_eq!(error.to_string(), text);
    let error = channel.receiver().unwrap_err();
    assert!(matches!(error, Error::TooManyEndpoints { limit: 1 }));
    drop((senders, receiver));
    assert_eq!((channel.senders(), channel.receivers()), (0, 0));
    assert!(channel.sender().is_ok() && channel.receiver().is_ok());
}

#[test]
fn closed_senders_are_told_after_the_rest() {
    for_both_kinds!(|channel: 4| {
        let (sender, receiver) = (channel.sender().unwrap(), channel.receiver().unwrap());
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        drop(sender);
        assert!(receiver.is_disconnected());
        assert_eq!(receiver.recv().unwrap(), 1);
        assert_eq!(receiver.try_recv().unwrap(), 2);
        assert!(ended(receiver.recv(), false));
        let end = receiver.try_recv();
        assert!(matches!(end, Err(TryRecvError::Disconnected { died: false })));
        let end = receiver.recv_timeout(Duration::from_secs(60));
        assert!(matches!(end, Err(RecvTimeoutError::Disconnected { died: false })));
        assert!(ended(receiver.recv_slice(&mut [0; 2]).map(drop), false));
        assert_eq!(receiver.iter().next(), None);
        assert!(matches!(Error::from(receiver.recv().unwrap_err()), Error::Disconnected { .. }));
    });
}

#[test]
fn closed_receivers_give_the_message_back() {
    for_both_kinds!(|channel: 4| {
        let (sender, receiver) = (channel.sender().unwrap(), channel.receiver().unwrap());
        drop(receiver);
        assert!(sender.is_disconnected());
        let error = sender.send(7).unwrap_err();
        assert!(error.is_disconnected());
        assert_eq!(error.to_string(), "the channel is disconnected: all receivers have closed");
        assert!(matches!(error, SendError::Disconnected { message: 7, died: false }));
        assert_eq!(sender.try_send(8).unwrap_err().into_inner(), 8);
        let error = sender.send_timeout(9, Duration::ZERO).unwrap_err();
        assert!(matches!(error, SendTimeoutError::Disconnected { message: 9, died: false }));
        assert!(sender.send_slice(&[1, 2]).unwrap_err().is_disconnected());
        assert!(channel.is_empty());
        let error = Error::from(sender.send(7).unwrap_err());
        assert_eq!(error.to_string(), "the channel is disconnected: the other side has closed");
    });
}

#[test]
fn either_side_may_come_first() {
    for_both_kinds!(|channel: 2| {
        let sender = channel.sender().unwrap();
        assert!(!sender.is_disconnected());
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert!(matches!(sender.try_send(3), Err(TrySendError::Full(3))));
        let timeout = sender.send_timeout(3, Duration::from_millis(1));
        assert!(matches!(timeout, Err(SendTimeoutError::Timeout(3))));
        drop(sender);
        // What a sender has sent is received, whenever the receiver comes, and so is
        // its end.
        let receiver = channel.receiver().unwrap();
        assert!(receiver.is_disconnected());
        assert!(receiver.iter().eq([1, 2]));
        assert!(ended(receiver.recv(), false));
        let sender = channel.sender().unwrap();
        let timeout = receiver.recv_timeout(Duration::from_millis(1));
        assert!(matches!(timeout, Err(RecvTimeoutError::Timeout)));
        drop((sender, receiver));
        // A sender that comes when the receivers have left waits for the next one.
        let sender = channel.sender().unwrap();
        assert!(!sender.is_disconnected());
        sender.send(3).unwrap();
        let receiver = channel.receiver().unwrap();
        assert_eq!(receiver.recv().unwrap(), 3);
    });
}

#[test]
fn receiver_waits_for_the_first_sender_only() {
    for_both_kinds!(|channel: 2| {
        let short = Duration::from_millis(1);
        let receiver = channel.receiver().unwrap();
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
        assert!(!receiver.wait_for_sender(Some(short)).unwrap());
        drop(receiver);
        drop(channel.sender().unwrap());
        // The second and the third late receiver are told as well.
        for _ in 0..3 {
            let receiver = channel.receiver().unwrap();
            assert!(receiver.wait_for_sender(Some(short)).unwrap());
            assert!(ended(receiver.recv(), false));
            assert!(!receiver.wait_for_sender(Some(short)).unwrap());
        }
        let receiver = channel.receiver().unwrap();
        let sender = channel.sender().unwrap();
        assert!(receiver.wait_for_sender(None).unwrap());
        assert!(sender.wait_for_receiver(None).unwrap());
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
        drop(receiver);
        assert!(sender.is_disconnected());
        assert!(!sender.wait_for_receiver(Some(short)).unwrap());
    });
}

#[test]
fn late_receiver_learns_of_a_death() {
    for_both_kinds!(|channel: 2| {
        std::thread::scope(|s| {
            let dead = s.spawn(|| {
                let sender = channel.sender().unwrap();
                sender.send(1).unwrap();
                forget(sender);
            });
            dead.join().unwrap();
        });
        while channel.senders() > 0 {
            std::hint::spin_loop();
        }
        let receiver = channel.receiver().unwrap();
        assert_eq!(receiver.recv().unwrap(), 1);
        assert!(ended(receiver.recv(), true));
    });
}

#[test]
fn new_peer_connects_again() {
    for_both_kinds!(|channel: 2| {
        let receiver = channel.receiver().unwrap();
        for round in 0..5 {
            let sender = channel.sender().unwrap();
            assert!(!receiver.is_disconnected());
            sender.send(round).unwrap();
            assert_eq!(receiver.recv().unwrap(), round);
            drop(sender);
            assert!(ended(receiver.recv(), false));
        }
        drop(receiver);
        let sender = channel.sender().unwrap();
        for round in 0..5 {
            let receiver = channel.receiver().unwrap();
            sender.send(round).unwrap();
            assert_eq!(receiver.recv().unwrap(), round);
            drop(receiver);
            assert!(sender.send(round).unwrap_err().is_disconnected());
        }
    });
}

#[test]
fn one_open_endpoint_keeps_it_connected() {
    let channel = many::<2>();
    let receiver = channel.receiver().unwrap();
    let keeper = channel.sender().unwrap();
    drop(channel.sender().unwrap());
    assert!(!receiver.is_disconnected());
    assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
    drop(keeper);
    assert!(receiver.is_disconnected());
}

#[test]
fn slices_are_sent_as_far_as_they_fit() {
    for_both_kinds!(|channel: 4| {
        let (sender, receiver) = (channel.sender().unwrap(), channel.receiver().unwrap());
        assert_eq!(sender.send_slice(&[]).unwrap(), 0);
        assert_eq!(receiver.recv_slice(&mut []).unwrap(), 0);
        for start in 0..8 {
            let messages = [start, start + 1, start + 2, start + 3, 99];
            assert_eq!(sender.send_slice(&messages).unwrap(), 4);
            let mut received = [0; 9];
            assert_eq!(receiver.recv_slice(&mut received[..1]).unwrap(), 1);
            assert_eq!(receiver.recv_slice(&mut received[1..]).unwrap(), 3);
            assert_eq!(received[..4], messages[..4]);
        }
    });
}

#[test]
fn messages_may_have_any_size() {
    let nothing = Segment::anonymous(ShmChannel::<(), 3>::new()).unwrap();
    let (sender, receiver) = (nothing.sender().unwrap(), nothing.receiver().unwrap());
    for _ in 0..10 {
        assert_eq!(sender.send_slice(&[(); 5]).unwrap(), 3);
        assert_eq!(nothing.len(), 3);
        assert_eq!(receiver.try_iter().count(), 3);
    }
    type Large = [u8; 64 << 10];
    let large = SegmentOptions::<[ShmChannel<Large, 3>]>::new()
        .anonymous_with_len("large messages", 1, |_| {})
        .unwrap();
    let (sender, receiver) = (large[0].sender().unwrap(), large[0].receiver().unwrap());
    for round in 0..10 {
        sender.send([round; 64 << 10]).unwrap();
        sender.send([round + 100; 64 << 10]).unwrap();
        assert!(receiver.recv().unwrap().iter().all(|byte| *byte == round));
        assert!(
            receiver
                .recv()
                .unwrap()
                .iter()
                .all(|byte| *byte == round + 100)
        );
    }
    let single = Segment::anonymous(ShmChannel::<NonZeroU32, 1>::new()).unwrap();
    let (sender, receiver) = (single.sender().unwrap(), single.receiver().unwrap());
    for number in 1..10 {
        sender.send(NonZeroU32::new(number).unwrap()).unwrap();
        assert!(single.is_full());
        assert_eq!(receiver.recv().unwrap().get(), number);
    }
}

#[test]
fn panic_closes_the_endpoint() {
    let channel = many::<1>();
    let receiver = channel.receiver().unwrap();
    let panicked = std::panic::catch_unwind(|| {
        let _sender = channel.sender().unwrap();
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(panicked.is_err());
    assert!(!ended(receiver.recv(), true), "its thread lives");
}

#[test]
fn leaked_endpoint_of_ended_thread_has_died() {
    for_both_kinds!(|channel: 1| {
        let receiver = channel.receiver().unwrap();
        std::thread::scope(|s| {
            let thread = s.spawn(|| {
                let sender = channel.sender().unwrap();
                sender.send(1).unwrap();
                forget(sender);
            });
            thread.join().unwrap();
        });
        assert_eq!(receiver.recv().unwrap(), 1);
        assert!(ended(receiver.recv(), true));
        // The next occupant of the seat has closed.
        let senders: Vec<_> = std::iter::from_fn(|| channel.sender().ok()).collect();
        drop(senders);
        assert!(ended(receiver.recv(), false));
    });
}

// A receiver learns of each death, until another sender takes the seat. A sender learns
// only of those in its time.
#[test]
fn earlier_death_is_reported_to_receivers() {
    fn leave_a_death<E>(open: impl FnOnce() -> E + Send, ends: impl Fn() -> usize) {
        std::thread::scope(|s| {
            s.spawn(|| forget(open())).join().unwrap();
        });
        while ends() > 0 {
            std::hint::spin_loop();
        }
    }
    let channel = Segment::anonymous(ShmChannel::<u8, 1, 2, 2>::new()).unwrap();
    leave_a_death(|| channel.sender().unwrap(), || channel.senders());
    let receiver = channel.receiver().unwrap();
    // Another seat, or the same one.
    drop(channel.sender().unwrap());
    assert!(receiver.is_disconnected());
    let both = [channel.sender().unwrap(), channel.sender().unwrap()];
    drop(both);
    assert!(matches!(
        receiver.recv(),
        Err(RecvError::Disconnected { died: false })
    ));
    drop(receiver);
    leave_a_death(|| channel.receiver().unwrap(), || channel.receivers());
    let sender = channel.sender().unwrap();
    assert!(!sender.is_disconnected());
    drop(channel.receiver().unwrap());
    assert!(matches!(
        sender.send(1),
        Err(SendError::Disconnected { died: false, .. })
    ));
}

// A client that sends one message and ends, before the server looks.
#[test]
fn short_visit_is_not_missed() {
    for_both_kinds!(|channel: 2| {
        let receiver = channel.receiver().unwrap();
        for number in 0..3 {
            let sender = channel.sender().unwrap();
            sender.send(number).unwrap();
            drop(sender);
            assert!(receiver.wait_for_sender(None).unwrap());
            assert_eq!(receiver.recv().unwrap(), number);
            assert!(ended(receiver.recv(), false));
        }
        let short = Some(Duration::from_millis(1));
        assert!(!receiver.wait_for_sender(short).unwrap());
    });
}

// A receiver that was there when the sender opened, and ends before it looks.
#[test]
fn present_receiver_is_not_missed() {
    for_both_kinds!(|channel: 2| {
        let receiver = channel.receiver().unwrap();
        let sender = channel.sender().unwrap();
        drop(receiver);
        let long = Some(Duration::from_secs(20));
        assert!(sender.wait_for_receiver(long).unwrap());
        assert!(matches!(
            sender.send(1),
            Err(SendError::Disconnected { died: false, .. })
        ));
        let short = Some(Duration::from_millis(1));
        assert!(!sender.wait_for_receiver(short).unwrap(), "it was told");
    });
}

#[test]
fn debug_shows_no_messages() {
    let channel = many::<2>();
    let (sender, receiver) = (channel.sender().unwrap(), channel.receiver().unwrap());
    sender.send(1).unwrap();
    let text = format!("{:?}", *channel);
    assert!(
        text.contains("capacity: 2, len: 1, senders: 1, receivers: 1"),
        "{text}"
    );
    assert!(format!("{sender:?}").contains("len: 1"));
    assert!(format!("{receiver:?}").starts_with("Receiver"));
    drop(receiver);
    let error = sender.send(2).unwrap_err();
    assert_eq!(format!("{error:?}"), "Disconnected { died: false, .. }");
}

/// Has threads exchange messages, and checks that each arrives once and in the order of
/// its sender.
fn exchange<const N: usize, const S: usize, const R: usize>(messages: u64) {
    let channel = Segment::anonymous(ShmChannel::<[u64; 2], N, S, R>::new()).unwrap();
    let received = AtomicU64::new(0);
    // Receivers end if all senders have left, although another one will come.
    let opened = std::sync::Barrier::new(S);
    std::thread::scope(|s| {
        let (channel, received, opened) = (&channel, &received, &opened);
        let keeper = channel.receiver().unwrap();
        for sender in 0..S as u64 {
            s.spawn(move || {
                let end = channel.sender().unwrap();
                opened.wait();
                let mut number = 0;
                while number < messages {
                    if number % 5 == 0 {
                        let batch: Vec<[u64; 2]> =
                            (number..messages).take(3).map(|it| [sender, it]).collect();
                        number += end.send_slice(&batch).unwrap() as u64;
                    } else {
                        end.send([sender, number]).unwrap();
                        number += 1;
                    }
                }
            });
        }
        // The keeper receives as well, so that there are R receivers.
        let receive = |end: Receiver<'_, [u64; 2], N, S, R>| {
            let mut next = vec![0; S];
            for [sender, number] in &end {
                let expected = &mut next[sender as usize];
                assert!(
                    number >= *expected,
                    "sender {sender}: {number} after {expected}"
                );
                *expected = number + 1;
                received.fetch_add(1, Ordering::Relaxed);
                if received.load(Ordering::Relaxed) == messages * S as u64 {
                    break;
                }
            }
        };
        for _ in 1..R {
            s.spawn(move || {
                let end = channel.receiver().unwrap();
                receive(end);
            });
        }
        receive(keeper);
    });
    assert_eq!(received.load(Ordering::Relaxed), messages * S as u64);
    assert!(channel.is_empty());
}

#[test]
fn threads_receive_each_message_once() {
    exchange::<1, 1, 1>(3_000);
    exchange::<8, 1, 1>(20_000);
    exchange::<3, 3, 1>(5_000);
    exchange::<3, 1, 3>(5_000);
    exchange::<8, 3, 3>(10_000);
}

/// A message of several words, of which a torn one would be noticed.
#[derive(ShmSafe, Clone, Copy)]
#[repr(C)]
struct Wide([u64; 10]);

/// A receiver that sleeps is told of the death of the last sender. Returns the time.
fn time_of_death_notice<const S: usize>() -> Duration {
    let channel = Segment::anonymous(ShmChannel::<Wide, 4, S, 1>::new()).unwrap();
    let mut sender = occupant(|| {
        let sender = channel.sender()?;
        sender.send(Wide([3; 10]))?;
        Ok(sender)
    });
    let receiver = spawn(|| {
        let receiver = channel.receiver().unwrap();
        assert_eq!(receiver.recv().unwrap().0, [3; 10]);
        assert!(matches!(
            receiver.recv(),
            Err(RecvError::Disconnected { died: true })
        ));
    });
    crate::support::poll(|| channel.is_empty());
    receiver.wait_until_asleep();
    let begin = Instant::now();
    sender.kill();
    receiver.join();
    begin.elapsed()
}

on_stage! {
    fn smoke() {
        for_both_kinds!(|channel: 2| {
            let receiver = spawn(|| {
                let receiver = channel.receiver().unwrap();
                assert!(receiver.iter().eq(0..100));
                assert!(ended(receiver.recv(), false));
            });
            let sender = channel.sender().unwrap();
            (0..100).for_each(|number| sender.send(number).unwrap());
            drop(sender);
            receiver.join();
        });
    }

    fn killed_sender_wakes_receiver() {
        let times = [median(5, time_of_death_notice::<16>), median(5, time_of_death_notice::<1>)];
        println!("from SIGKILL until a receiver had ended: {times:?}");
        assert!(times.iter().all(|time| *time < RECOVERS_WITHIN), "{times:?}");
    }

    fn killed_receiver_wakes_senders() {
        for_both_kinds!(|channel: 2| {
            let mut receiver = occupant(|| channel.receiver());
            let sender = spawn(|| {
                let sender = channel.sender().unwrap();
                sender.send(1).unwrap();
                sender.send(2).unwrap();
                let error = sender.send(3).unwrap_err();
                assert!(matches!(error, SendError::Disconnected { message: 3, died: true }));
                // The other senders know it without waiting for a full channel.
                let error = sender.send(4).unwrap_err();
                assert!(matches!(error, SendError::Disconnected { message: 4, died: true }));
            });
            sender.wait_until_asleep();
            receiver.kill();
            sender.join();
            let receiver = channel.receiver().unwrap();
            assert!(receiver.try_iter().eq([1, 2]));
        });
    }

    fn all_sleepers_learn_of_a_death() {
        let channel = many::<2>();
        let mut senders = [0; 3].map(|_| occupant(|| channel.sender()));
        let receivers = [0; 3].map(|_| {
            let child = spawn(|| {
                let receiver = channel.receiver().unwrap();
                assert!(ended(receiver.recv(), true));
            });
            child.wait_until_asleep();
            child
        });
        for sender in &mut senders {
            sender.kill();
        }
        let begin = Instant::now();
        receivers.into_iter().for_each(Child::join);
        println!("all three receivers had ended {:?} after the last death", begin.elapsed());
    }

    fn closed_sender_wakes_receivers() {
        for_both_kinds!(|channel: 2| {
            let sender = channel.sender().unwrap();
            let receiver = spawn(|| {
                let receiver = channel.receiver().unwrap();
                assert!(ended(receiver.recv(), false));
            });
            receiver.wait_until_asleep();
            drop(sender);
            receiver.join();
        });
    }

    fn death_is_noticed_without_waitv() {
        // As before Linux 5.16, and under a filter that does not know the call.
        for errno in [libc::ENOSYS, libc::EPERM] {
            let channel = many::<2>();
            let mut sender = occupant(|| channel.sender());
            let receiver = spawn(|| {
                seccomp::refuse(libc::SYS_futex_waitv, errno);
                let receiver = channel.receiver().unwrap();
                assert!(ended(receiver.recv(), true));
            });
            receiver.wait_until_asleep();
            sender.kill();
            receiver.join();
        }
    }

    // A receiver that sleeps before the first sender comes watches it nevertheless.
    fn first_sender_that_dies_is_noticed() {
        for_both_kinds!(|channel: 2| {
            let receiver = spawn(|| {
                let receiver = channel.receiver().unwrap();
                assert!(ended(receiver.recv(), true));
            });
            receiver.wait_until_asleep();
            let mut sender = occupant(|| channel.sender());
            receiver.wait_until_asleep();
            sender.kill();
            receiver.join();
        });
    }

    fn receiver_sleeps_until_the_first_sender() {
        for_both_kinds!(|channel: 2| {
            let receiver = spawn(|| {
                let receiver = channel.receiver().unwrap();
                assert_eq!(receiver.recv().unwrap(), 5);
            });
            receiver.wait_until_asleep();
            std::thread::sleep(Duration::from_millis(200));
            let sender = channel.sender().unwrap();
            sender.send(5).unwrap();
            receiver.join();
        });
    }

    fn full_channel_blocks_until_received() {
        for_both_kinds!(|channel: 1| {
            let receiver = channel.receiver().unwrap();
            let sender = spawn(|| {
                let sender = channel.sender().unwrap();
                (0..10).for_each(|number| sender.send(number).unwrap());
            });
            sender.wait_until_asleep();
            assert_eq!(channel.len(), 1);
            assert!(receiver.iter().take(10).eq(0..10));
            sender.join();
        });
    }

    // Each message wakes one receiver. A batch wakes all.
    fn batch_wakes_all_receivers() {
        let channel = many::<8>();
        let sender = channel.sender().unwrap();
        let receivers = [0; 4].map(|_| {
            let child = spawn(|| {
                let receiver = channel.receiver().unwrap();
                receiver.recv().unwrap();
                nix::unistd::pause();
            });
            child.wait_until_asleep();
            child
        });
        assert_eq!(sender.send_slice(&[1, 2, 3, 4]).unwrap(), 4);
        let begin = Instant::now();
        crate::support::poll(|| channel.is_empty());
        println!("four receivers had received after {:?}", begin.elapsed());
        drop(receivers);
    }

    fn seat_of_killed_sender_is_free_again() {
        for_both_kinds!(|channel: 2| {
            let receiver = channel.receiver().unwrap();
            for round in 0..20 {
                let mut sender = occupant(|| {
                    let sender = channel.sender()?;
                    sender.send(round)?;
                    Ok(sender)
                });
                sender.kill();
                assert_eq!(channel.senders(), 0);
                assert_eq!(receiver.recv().unwrap(), round);
                assert!(ended(receiver.recv(), true));
            }
        });
    }

    fn forked_child_has_no_endpoint() {
        for_both_kinds!(|channel: 4| {
            let mut ends = Some((channel.sender().unwrap(), channel.receiver().unwrap()));
            spawn(|| {
                let (sender, receiver) = ends.take().unwrap();
                let error = sender.send(7).unwrap_err();
                assert!(matches!(
                    error,
                    SendError::Lock { message: 7, source: LockError::NotOwner }
                ));
                let error = receiver.recv();
                assert!(matches!(error, Err(RecvError::Lock(LockError::NotOwner))));
                assert!(matches!(receiver.try_recv(), Err(TryRecvError::Lock(_))));
                drop((sender, receiver));
                assert_eq!((channel.senders(), channel.receivers()), (1, 1));
            })
            .join();
            let (sender, receiver) = ends.take().unwrap();
            sender.send(1).unwrap();
            assert_eq!(receiver.recv().unwrap(), 1);
        });
    }

    fn living_endpoints_are_not_disconnected() {
        for_both_kinds!(|channel: 1| {
            let sender = occupant(|| channel.sender());
            let receiver = channel.receiver().unwrap();
            for round in 0..2 {
                if round == 1 {
                    sender.stop();
                }
                let timeout = receiver.recv_timeout(Duration::from_millis(400));
                assert!(matches!(timeout, Err(RecvTimeoutError::Timeout)));
                assert!(!receiver.is_disconnected());
            }
        });
    }

    fn more_endpoints_than_the_kernel_watches() {
        let channel = Segment::anonymous(ShmChannel::<u64, 4, 130, 1>::new()).unwrap();
        let receiver = channel.receiver().unwrap();
        let mine: Vec<Sender<'_, u64, 4, 130, 1>> =
            (0..65).map(|_| channel.sender().unwrap()).collect();
        let mut other = occupant(|| {
            (0..65).map(|_| channel.sender()).collect::<Result<Vec<_>, _>>()
        });
        assert!(matches!(channel.sender(), Err(Error::TooManyEndpoints { limit: 130 })));
        drop(mine);
        let killer = spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(other.pid().try_into().unwrap()),
                nix::sys::signal::Signal::SIGKILL,
            )
            .unwrap();
        });
        assert!(matches!(receiver.recv(), Err(RecvError::Disconnected { died: true })));
        killer.join();
        other.wait();
    }
}
