//! The report: what was dealt, what came of it, and what must not have happened.

use std::fmt::Write;

use crate::arena::{Arena, Order, Over, Place, Violation};
use crate::conductor::{Limit, Plan};
use crate::process;
use crate::tally::{PROMISE, Tally};

/// The whole report, as text.
pub(crate) fn report(plan: &Plan, arena: &Arena, tally: &Tally) -> String {
    let mut text = String::new();
    write(&mut text, plan, arena, tally).expect("a string takes any text");
    text
}

fn write(out: &mut String, plan: &Plan, arena: &Arena, tally: &Tally) -> std::fmt::Result {
    let seconds = tally.duration.as_secs_f64();
    let rate = tally.kills as f64 / seconds;
    writeln!(
        out,
        "soak: seed {}, {} players, {seconds:.1} s{}",
        plan.seed,
        plan.players,
        match process::asked_to_end() {
            Some(signal) => format!(", ended by signal {signal}"),
            None => String::new(),
        }
    )?;
    writeln!(
        out,
        "  {} kills ({rate:.0}/s), {} stops, {} calms",
        tally.kills, tally.stops, tally.calms
    )?;
    for order in Order::ALL {
        let (told, done) = (tally.orders[order as usize], arena.obeyed(order));
        writeln!(
            out,
            "  {:<10} told {told}, done {done}",
            format!("{order:?}")
        )?;
    }
    writeln!(out, "  {} cards, digest {:016x}", tally.cards, tally.digest)?;
    writeln!(
        out,
        "  {} changes of the ledger, {} items through the queue, {} segments opened, {} values made for them",
        tally.changes,
        tally.taken,
        arena.opened(),
        arena.values()
    )?;

    writeln!(
        out,
        "killed with a lock held: the time from the kill to the next lock, in the game"
    )?;
    for place in Place::ALL {
        writeln!(
            out,
            "  {:<8} {}",
            format!("{place:?}"),
            tally.recoveries[place as usize]
        )?;
    }
    writeln!(
        out,
        "  {} with none, or with one whose next holder was killed before it could tell",
        tally.kills.saturating_sub(tally.died_with_a_lock())
    )?;
    writeln!(
        out,
        "  {} reports of a death without a name, {} of other ends with a lock held, {} of panics",
        tally.nameless_deaths,
        tally.other_deaths,
        arena.panics()
    )?;

    if plan.over == Over::ShmCondvar {
        writeln!(out, "scenes, with all players stopped")?;
        let scenes = [
            (
                "a woken waiter dies, until another acts",
                &tally.woken_waiter_died,
            ),
            (
                "the holder dies, until all sleepers woke",
                &tally.holder_died,
            ),
        ];
        for (name, times) in scenes {
            let late = times.longer_than(PROMISE);
            writeln!(out, "  {name:<50} {times}, after {PROMISE:?}: {late}")?;
        }
        let name = "the holder dies, until one that waits has the lock";
        writeln!(out, "  {name:<50} {}", tally.inherited)?;
    }
    write_violations(out, plan, arena, tally)
}

fn write_violations(
    out: &mut String,
    plan: &Plan,
    arena: &Arena,
    tally: &Tally,
) -> std::fmt::Result {
    if !arena.is_violated() {
        return writeln!(out, "no violation");
    }
    for what in Violation::ALL {
        match arena.violations(what) {
            0 => {}
            count => writeln!(out, "VIOLATION: {what} ({count} times)")?,
        }
    }
    writeln!(
        out,
        "after {} kills. The same cards again (the timing will differ):\n  {}",
        tally.kills,
        replay(plan)
    )
}

/// The command that deals the same.
fn replay(plan: &Plan) -> String {
    let limit = match plan.limit {
        Limit::Time(time) => format!("--seconds {}", time.as_secs()),
        Limit::Kills(kills) => format!("--kills {kills}"),
    };
    let over = match plan.over {
        Over::ShmCondvar => "",
        Over::PthreadCondvar => " --over pthread-condvar",
    };
    let inheriting = if plan.inheriting { " --inheriting" } else { "" };
    format!(
        "cargo run --release -p shm-sync-proof --bin soak -- {limit} --seed {} --processes {}{over}{inheriting}",
        plan.seed, plan.players
    )
}
