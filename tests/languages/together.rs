//! All peers change the same data at the same time.

use crate::peer::{Running, for_each_pair, peers};
use crate::world::{Place, WORKERS};

const TIMES: u64 = 20_000;

#[test]
fn smoke() {
    let place = Place::new("languages-smoke");
    for peer in peers() {
        let mut peer = peer.open(&place.name);
        peer.expect("increment 1", "ok 0");
        peer.expect_ok("close");
        peer.end();
    }
    let ledger = place.segment.ledger();
    assert_eq!(ledger.total, peers().len() as u64, "each peer adds 1");
}

#[test]
fn counter_of_all_peers_is_exact() {
    let place = Place::new("languages-together");
    let mut running: Vec<Running> = peers().iter().map(|it| it.open(&place.name)).collect();
    for peer in &mut running {
        peer.tell(&format!("increment {TIMES}"));
    }
    for peer in &mut running {
        peer.expect_reply("ok 0");
    }
    let ledger = place.segment.ledger();
    assert_eq!(
        ledger.total,
        TIMES * running.len() as u64,
        "no change is lost"
    );
}

#[test]
fn worker_locks_are_separate() {
    let place = Place::new("languages-workers");
    let mut running: Vec<Running> = peers().iter().map(|it| it.open(&place.name)).collect();
    for worker in 0..WORKERS {
        for peer in &mut running {
            peer.tell(&format!("worker {worker} {}", 1000 + worker));
        }
        for peer in &mut running {
            peer.expect_reply("ok");
        }
    }
    for (worker, slot) in place.segment.workers.iter().enumerate() {
        let sum = *slot.lock.lock().expect("no holder has died");
        let expected = (1000 + worker) * running.len();
        assert_eq!(sum, expected as u64, "worker {worker}");
    }
}

#[test]
fn try_lock_and_timeout_respect_the_holder() {
    for_each_pair(|holder, other| {
        let place = Place::new("languages-try");
        let mut holder = holder.open(&place.name);
        let mut other = other.open(&place.name);
        holder.expect_ok("lock");
        other.expect("try_lock", "would_block");
        other.expect("lock_for 20", "timed_out");
        holder.expect("lock", "deadlock");
        other.expect("unlock", "not_held");
        other.tell("lock");
        other.wait_until_asleep();
        holder.expect_ok("unlock");
        other.expect_reply("ok");
        other.expect_ok("unlock");
        holder.expect_ok("try_lock");
        holder.expect_ok("unlock");
        holder.expect_ok("close");
        other.expect_ok("close");
        holder.end();
        other.end();
    });
}
