//! The steps over a System V segment: the table is in [`system_v`](super).

use super::state::{At, Mutation, Phase, Process, Segment, State, SystemV, Task, World, Wrong};

impl SystemV {
    /// Takes the next step. Returns the one after it.
    pub(super) fn next(&self, world: &mut World, who: usize, way: usize) -> At {
        match world.processes[who].at {
            At::Get | At::NewMap | At::Prepare | At::NewLock => self.create(world, who, way),
            At::Claim | At::Fill | At::Unmark | At::Bear | At::NewUnlock => {
                self.create(world, who, way)
            }
            At::LostUnlock | At::LostDead | At::LostRemove | At::LostUnmap => {
                self.create(world, who, way)
            }
            At::LookFind | At::LookMap | At::LookLoad | At::LookCount => self.look(world, who),
            At::LookLoadAgain | At::LookCountAgain | At::LookUnmap => self.look(world, who),
            At::Find | At::Stat | At::Map | At::MapBorn | At::Load => self.settle(world, who),
            At::ClaimDead | At::ClearAway | At::Unmap | At::ReaderUnmap => self.settle(world, who),
            At::Lock | At::Unlock | At::Resolve | At::ResolveStat => self.resolve(world, who),
            At::SetBorn | At::SetDead | At::ResolveRemove => self.resolve(world, who),
            _ => self.remove(world, who),
        }
    }

    /// Steps of those who create. Returns the next.
    fn create(&self, world: &mut World, who: usize, way: usize) -> At {
        let at = world.processes[who].at;
        match at {
            At::Get if world.key.is_some() => At::LookFind,
            At::Get => {
                let free = world.segments.iter().position(Option::is_none);
                let id = free.unwrap_or(world.segments.len());
                world
                    .segments
                    .resize(world.segments.len().max(id + 1), None);
                world.segments[id] = Some(Segment {
                    state: State::Virgin,
                    is_marked: true,
                    has_lock: false,
                    has_header: false,
                    is_whole: false,
                    is_condemned: false,
                    is_unlinked: false,
                    is_destroyed: false,
                    is_looked_past: false,
                });
                world.key = Some(id);
                world.processes[who].id = Some(id);
                world.tell_others(who);
                At::NewMap
            }
            At::NewMap if world.map(who) => At::Prepare,
            At::NewMap => {
                world.turn(who);
                At::Get
            }
            // Nobody looks at either before the state changes.
            At::Prepare => {
                world.change(world.id_of(who), |segment| {
                    segment.has_lock = true;
                    segment.has_header = true;
                });
                At::NewLock
            }
            At::NewLock => {
                world.processes[who].is_holder = true;
                At::Claim
            }
            At::Claim => {
                let is_won = world.mine(who).state == State::Virgin;
                if is_won || self.has(Mutation::CreatorDoesNotClaim) {
                    world.set_state(who, State::Gestating);
                    return At::Fill;
                }
                world.processes[who].has_lost = true;
                At::LostUnlock
            }
            At::Fill if way == 1 => At::LostUnlock, // the closure panics, or an error
            At::Fill => {
                world.change(world.id_of(who), |segment| segment.is_whole = true);
                At::Unmark
            }
            At::Unmark => {
                world.change(world.id_of(who), |segment| segment.is_marked = false);
                At::Bear
            }
            At::Bear => {
                world.set_state(who, State::Born);
                At::NewUnlock
            }
            At::NewUnlock => {
                world.processes[who].is_holder = false;
                self.use_it(world, who)
            }
            At::LostUnlock => {
                world.processes[who].is_holder = false;
                At::LostDead
            }
            At::LostDead => {
                world.set_state(who, State::Dead);
                At::LostRemove
            }
            At::LostRemove => {
                world.remove(who, world.id_of(who));
                At::LostUnmap
            }
            At::LostUnmap => {
                world.unmap(who);
                if !std::mem::take(&mut world.processes[who].has_lost) {
                    return At::Rest;
                }
                world.turn(who);
                At::Get
            }
            at => unreachable!("{at:?} is no step of a creator"),
        }
    }

    fn use_it(&self, world: &mut World, who: usize) -> At {
        let me = &mut world.processes[who];
        me.is_user = true;
        me.is_reader = me.task == Task::Read;
        At::Rest
    }

    /// Steps of those who only look. Returns the next.
    fn look(&self, world: &mut World, who: usize) -> At {
        let at = world.processes[who].at;
        match at {
            At::LookFind => {
                world.processes[who].id = world.key;
                match world.key {
                    Some(_) => At::LookMap,
                    None => self.after_look(world, who),
                }
            }
            At::LookMap if world.map(who) => {
                let id = world.id_of(who);
                if world.has_leaver(who, id) && !self.has(Mutation::NothingIsExcused) {
                    world.change(id, |segment| segment.is_looked_past = true);
                }
                At::LookLoad
            }
            At::LookMap => self.after_look(world, who),
            At::LookLoad => match world.mine(who).state {
                State::Born | State::Leaving => At::LookCount,
                _ => self.after_count(world, who),
            },
            At::LookCount => {
                world.processes[who].was_abandoned = self.is_alone(world, who);
                self.after_count(world, who)
            }
            At::LookLoadAgain => {
                let state = world.mine(who).state;
                world.processes[who].is_complete = matches!(state, State::Born | State::Leaving);
                At::LookCountAgain
            }
            At::LookCountAgain => {
                world.processes[who].was_abandoned &= self.is_alone(world, who);
                At::LookUnmap
            }
            At::LookUnmap => {
                let has_header = world.mine(who).has_header;
                world.unmap(who);
                let goes_silently = self.has(Mutation::LookGoesAsNobody);
                match has_header && !world.processes[who].was_abandoned && !goes_silently {
                    true => self.ask(world, who),
                    false => self.after_look(world, who),
                }
            }
            at => unreachable!("{at:?} is no step of a look"),
        }
    }

    fn is_alone(&self, world: &World, who: usize) -> bool {
        world.attached(world.id_of(who)) == 1 && world.processes[who].is_last
    }

    fn after_count(&self, world: &World, who: usize) -> At {
        match world.processes[who].task {
            Task::Look => At::LookCountAgain,
            _ => At::LookLoadAgain,
        }
    }

    /// Goes on with what there was to do beside looking, or removing.
    fn after_look(&self, world: &mut World, who: usize) -> At {
        let me = &mut world.processes[who];
        me.id = None;
        match (me.task, me.is_complete) {
            (Task::Create | Task::OpenOrCreate, false) => {
                me.phase = Phase::Creating;
                At::Find
            }
            (Task::OpenOrCreate, true) => {
                me.phase = Phase::Opening;
                me.is_complete = false;
                world.turn(who);
                At::Find
            }
            _ => At::Rest,
        }
    }

    fn ask(&self, world: &mut World, who: usize) -> At {
        world.processes[who].phase = Phase::Removing;
        At::Ask
    }

    /// Steps of those who open, up to the state. Returns the next.
    fn settle(&self, world: &mut World, who: usize) -> At {
        let Process {
            at, task, phase, ..
        } = world.processes[who];
        match at {
            At::Find => {
                world.processes[who].id = world.key;
                if world.key.is_some() {
                    return At::Stat;
                }
                if world.users().any(|user| !world.is_named_or_unlinked(user)) {
                    world.wrong = Some(Wrong::NotFound);
                }
                match (phase, task) {
                    // What was in the way has gone.
                    (Phase::Creating, _) | (_, Task::OpenOrCreate) => At::Get,
                    (_, _) => At::Rest,
                }
            }
            At::Stat if world.mine(who).is_destroyed => self.find_again(world, who),
            At::Stat => {
                let segment = world.mine(who);
                world.processes[who].saw_mark = segment.is_marked;
                let loads_first = self.has(Mutation::LoadBeforeMapping);
                match loads_first && segment.state == State::Born && phase == Phase::Opening {
                    true => At::MapBorn,
                    false => At::Map,
                }
            }
            At::Map if world.map(who) => At::Load,
            At::MapBorn if world.map(who) => self.use_it(world, who),
            At::Map | At::MapBorn => self.find_again(world, who),
            At::Load => self.load(world, who),
            At::ClaimDead => {
                let is_won = world.mine(who).state == State::Virgin;
                if is_won || self.has(Mutation::FinderDoesNotClaim) {
                    world.set_state(who, State::Dead);
                    world.tell_others(who);
                }
                At::Load
            }
            At::ClearAway => {
                world.remove(who, world.id_of(who));
                At::Unmap
            }
            At::Unmap => {
                world.unmap(who);
                world.processes[who].is_gone = false;
                self.find_again(world, who)
            }
            At::ReaderUnmap => {
                let has_header = world.mine(who).has_header;
                world.unmap(who);
                match has_header && !self.has(Mutation::ReaderGoesAsNobody) {
                    true => self.ask(world, who),
                    false => At::Rest,
                }
            }
            at => unreachable!("{at:?} is no step of an opener"),
        }
    }

    fn load(&self, world: &mut World, who: usize) -> At {
        let Process {
            task,
            phase,
            saw_mark,
            ..
        } = world.processes[who];
        let reads = task == Task::Read && phase == Phase::Opening;
        match (world.mine(who).state, phase) {
            (State::Born, Phase::Opening) => self.use_it(world, who),
            (State::Born, Phase::Creating) => {
                world.processes[who].is_complete = true;
                match self.has(Mutation::CreatorGoesAsNobody) {
                    true => {
                        world.unmap(who);
                        self.after_look(world, who)
                    }
                    false => self.leave(world, who),
                }
            }
            (State::Born, _) => {
                world.processes[who].is_judge = true;
                At::Lock
            }
            (State::Virgin, _) if !saw_mark => {
                world.wrong = Some(Wrong::TakenForForeign);
                At::Unmap
            }
            (_, _) if reads => At::ReaderUnmap,
            (State::Virgin, _) => At::ClaimDead,
            (State::Dead, _) => At::ClearAway,
            (_, _) => At::Lock,
        }
    }

    /// The segment is gone: another one may have the key.
    fn find_again(&self, world: &mut World, who: usize) -> At {
        if world.processes[who].phase == Phase::Removing {
            return self.after_look(world, who);
        }
        world.processes[who].id = None;
        world.turn(who);
        At::Find
    }

    /// Whether a process that finds the lock held waits for it.
    pub(super) fn waits_for_lock(&self, world: &World, who: usize) -> bool {
        matches!(world.processes[who].phase, Phase::Opening | Phase::Creating)
    }

    pub(super) fn judges_without_lock(&self, world: &World, who: usize) -> bool {
        self.has(Mutation::LeavingWithoutLock) && world.processes[who].is_judge
    }

    /// Steps of those who hold the lock of a segment that is there. Returns the next.
    fn resolve(&self, world: &mut World, who: usize) -> At {
        let at = world.processes[who].at;
        match at {
            At::Lock => {
                if !world.mine(who).has_lock {
                    world.wrong = Some(Wrong::NoLock);
                }
                if world.is_locked(world.id_of(who)) && !self.judges_without_lock(world, who) {
                    // Whoever leaves or removes does not wait: it detaches and asks again.
                    return At::LeaveUnmap;
                }
                let goes_without = self.judges_without_lock(world, who);
                world.processes[who].is_holder = !goes_without;
                world.processes[who].is_gone = false;
                At::Resolve
            }
            At::Resolve => match world.mine(who).state {
                State::Leaving if self.has(Mutation::LeavingIsBornAgain) => At::SetBorn,
                State::Leaving => At::ResolveStat,
                State::Born => self.resolved(world, who),
                _ => At::SetDead,
            },
            At::ResolveStat if world.mine(who).is_condemned => At::SetDead,
            At::ResolveStat => At::SetBorn,
            At::SetBorn => {
                world.set_state(who, State::Born);
                self.resolved(world, who)
            }
            At::SetDead => {
                world.set_state(who, State::Dead);
                At::ResolveRemove
            }
            At::ResolveRemove => {
                world.remove(who, world.id_of(who));
                world.processes[who].is_gone = true;
                At::Unlock
            }
            At::Unlock => {
                let me = &mut world.processes[who];
                me.is_holder = false;
                match (me.is_judge, me.is_gone) {
                    (true, _) => At::LeaveUnmap,
                    (false, true) => At::Unmap,
                    (false, false) => At::Load,
                }
            }
            at => unreachable!("{at:?} is no step under the lock"),
        }
    }
    /// After `resolve`, if the segment is there to stay.
    fn resolved(&self, world: &World, who: usize) -> At {
        match world.processes[who].is_judge {
            true if self.has(Mutation::CountBeforeLeaving) => At::CountAgain,
            true => At::SayLeaving,
            false => At::Unlock,
        }
    }

    /// Where somebody begins who drops a segment.
    pub(super) fn leave(&self, world: &mut World, who: usize) -> At {
        let me = &mut world.processes[who];
        me.is_user = false;
        me.phase = Phase::Leaving;
        match me.is_reader {
            true => At::LeaveUnmap,
            false => At::Count,
        }
    }

    /// Steps of those who leave or remove. Returns the next.
    fn remove(&self, world: &mut World, who: usize) -> At {
        let at = world.processes[who].at;
        match at {
            At::Count if world.attached(world.id_of(who)) == 1 => {
                world.processes[who].is_judge = true;
                At::Lock
            }
            At::Count => At::LeaveUnmap,
            At::SayLeaving => {
                world.set_state(who, State::Leaving);
                match self.has(Mutation::CountBeforeLeaving) {
                    true => At::TakeAway,
                    false => At::CountAgain,
                }
            }
            At::CountAgain if world.attached(world.id_of(who)) > 1 => At::SayBorn,
            At::CountAgain if self.has(Mutation::CountBeforeLeaving) => At::SayLeaving,
            At::CountAgain => At::TakeAway,
            At::TakeAway => {
                world.remove(who, world.id_of(who));
                At::SayDead
            }
            At::SayDead => {
                world.set_state(who, State::Dead);
                world.processes[who].is_gone = true;
                At::Unlock
            }
            At::SayBorn => {
                world.set_state(who, State::Born);
                At::Unlock
            }
            At::LeaveUnmap => {
                world.unmap(who);
                let me = &mut world.processes[who];
                me.is_judge = false;
                match (std::mem::take(&mut me.is_gone), me.phase) {
                    (true, _) => self.after_look(world, who),
                    (false, Phase::Removing) => {
                        world.turn(who);
                        self.ask(world, who)
                    }
                    (false, _) if self.has(Mutation::LeaverDoesNotAskAgain) => {
                        self.after_look(world, who)
                    }
                    (false, _) => self.ask(world, who),
                }
            }
            At::Ask => {
                let id = world.id_of(who);
                match world.segment(id).is_destroyed || world.attached(id) > 0 {
                    true => self.after_look(world, who),
                    false => At::Stat,
                }
            }
            At::FindToRemove => {
                world.processes[who].id = world.key;
                match world.key {
                    Some(_) => self.ask(world, who),
                    None => At::Rest,
                }
            }
            At::FindToUnlink => {
                world.processes[who].id = world.key;
                match world.key {
                    Some(_) => At::Unlink,
                    None => At::Rest,
                }
            }
            At::Unlink => {
                let id = world.id_of(who);
                if !world.segment(id).is_condemned {
                    world.change(id, |segment| segment.is_unlinked = true);
                }
                world.remove(who, id);
                At::Rest
            }
            at => unreachable!("{at:?} is no step of a remover"),
        }
    }
}
