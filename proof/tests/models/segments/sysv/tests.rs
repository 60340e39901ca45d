//! The scenarios of the model, and the mistakes that break it.

use super::model::{KEEPS_KEY, NOTHING_LEFT, WRITTEN_UNDISTURBED};
use super::state::Task::{Create, Open, OpenOrCreate, Probe, Read, Remove, Unlink};
use super::state::{Mistake, SysvModel, TaskLists};
use crate::segments::search::{assert_breaks, assert_holds, assert_holds_and_covers};
use crate::size::Size;

fn model(tasks: u8, task_lists: TaskLists) -> SysvModel {
    SysvModel {
        task_lists,
        tasks,
        mistake: None,
    }
}

#[test]
fn properties_hold() {
    let any_two: TaskLists = &[SysvModel::ALL_TASKS, SysvModel::ALL_TASKS];
    assert_holds_and_covers(model(1, any_two));
    assert_holds(model(1, &[&[Create], &[Probe], &[Remove]]));
    if Size::chosen() == Size::Large {
        for model in [
            model(2, any_two),
            model(1, &[&[Create], &[Open], &[Open]]),
            model(1, &[&[Create], &[Open], &[Read]]),
            model(1, &[&[Create], &[Open], &[Remove, Unlink]]),
            model(1, &[&[Create, Probe], &[Open, Probe], &[Create, Probe]]),
            model(1, &[&[OpenOrCreate], &[OpenOrCreate], &[Open]]),
        ] {
            assert_holds(model);
        }
    }
}

#[test]
fn mistakes_break_it() {
    use Mistake::{
        CountBeforeRemoving, CreatorSkipsCheck, CreatorSkipsExchange, KnownLimitCounts,
        LoadBeforeAttach, NoCountAfterDetach, OpenerSkipsExchange, ProbeSkipsCheck,
        ReaderSkipsCheck, RemovingBecomesReady, RemovingWithoutLock,
    };
    let creators: TaskLists = &[&[OpenOrCreate], &[OpenOrCreate]];
    let strict_creators: TaskLists = &[&[Create], &[Create]];
    let opener: TaskLists = &[&[Create], &[Open]];
    let prober: TaskLists = &[&[Create], &[Probe]];
    let reader: TaskLists = &[&[Create], &[Read]];
    let reader_and_prober: TaskLists = &[&[Create], &[Read, Probe]];
    for (mistake, tasks, task_lists, property) in [
        (CreatorSkipsExchange, 1, creators, WRITTEN_UNDISTURBED),
        (OpenerSkipsExchange, 1, creators, WRITTEN_UNDISTURBED),
        (LoadBeforeAttach, 1, opener, KEEPS_KEY),
        (CountBeforeRemoving, 1, opener, KEEPS_KEY),
        (RemovingWithoutLock, 1, opener, KEEPS_KEY),
        (RemovingBecomesReady, 1, opener, KEEPS_KEY),
        (NoCountAfterDetach, 1, opener, NOTHING_LEFT),
        (ProbeSkipsCheck, 1, prober, NOTHING_LEFT),
        (CreatorSkipsCheck, 1, strict_creators, NOTHING_LEFT),
        (ReaderSkipsCheck, 1, reader, NOTHING_LEFT),
        (KnownLimitCounts, 2, reader_and_prober, NOTHING_LEFT),
    ] {
        let model = SysvModel {
            mistake: Some(mistake),
            ..model(tasks, task_lists)
        };
        assert_breaks(mistake, model, property);
    }
}
