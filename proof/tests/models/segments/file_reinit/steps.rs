//! What each step does: the table in the documentation of the model.

use super::state::{At, Boot, CHANGING, Course, Locks, Mutation, Revival, World, Writers, Wrong};

impl Revival {
    /// Notes whether a word of the origin is of the boot that this one sees.
    fn note(&self, world: &mut World, who: usize, word: Boot) {
        let me = &mut world.processes[who];
        me.is_home &= word == me.view.0;
    }

    /// Notes whether the namespace in the header is that of this process.
    fn note_namespace(&self, world: &mut World, who: usize) {
        let me = &mut world.processes[who];
        me.is_home &= world.namespace == me.view.1;
    }

    /// Where somebody goes on who has its own lock.
    fn attached(&self, world: &mut World, who: usize) -> At {
        let me = &mut world.processes[who];
        me.is_home = true;
        match me.course {
            Course::Reviving if self.has(Mutation::NoLoadBeforeRevival) => self.company(),
            Course::Straight if self.has(Mutation::NoLoadAfterAttaching) => {
                me.is_user = true;
                At::Rest
            }
            _ => At::LoadEnd,
        }
    }

    fn company(&self) -> At {
        match self.has(Mutation::CompanyIgnored) {
            true => self.revive(),
            false => At::Exclude,
        }
    }

    fn revive(&self) -> At {
        match self.has(Mutation::EndMarkedLate) {
            true => At::BeginRevival,
            false => At::MarkEnd,
        }
    }

    fn revived(&self, world: &World, who: usize) -> At {
        match world.processes[who].writers {
            Writers::All => At::Share,
            _ => At::FreeRevival,
        }
    }

    fn loaded(&self, world: &mut World, who: usize) -> At {
        let me = &mut world.processes[who];
        match (me.course, me.is_home) {
            (Course::Reviving, true) => At::FreeRevival,
            (Course::Reviving, false) => self.company(),
            (_, true) => {
                me.is_user = true;
                At::Rest
            }
            (_, false) => {
                me.course = Course::Again;
                At::Close
            }
        }
    }

    pub(super) fn next(&self, world: &mut World, who: usize) -> At {
        let at = world.processes[who].at;
        let view = world.processes[who].view;
        let (boot, namespace) = view;
        match at {
            At::PeekNamespace => {
                world.processes[who].is_home = true;
                world.processes[who].course = Course::Straight;
                self.note_namespace(world, who);
                At::PeekFront
            }
            At::PeekFront => {
                self.note(world, who, world.front);
                At::PeekEnd
            }
            At::PeekEnd => {
                self.note(world, who, world.end);
                At::PeekBack
            }
            At::PeekBack => {
                self.note(world, who, world.back);
                if world.processes[who].is_home {
                    return At::TakeShared;
                }
                world.processes[who].course = Course::Reviving;
                match self.has(Mutation::NoRevivalLock) {
                    true => At::TakeShared,
                    false => At::TakeRevival,
                }
            }
            At::TakeRevival => {
                world.processes[who].has_revival = true;
                At::TakeShared
            }
            At::TakeShared => {
                world.processes[who].writers = Writers::Own;
                self.attached(world, who)
            }
            At::LoadEnd => {
                self.note(world, who, world.end);
                At::LoadFront
            }
            At::LoadFront => {
                self.note(world, who, world.front);
                At::LoadBack
            }
            At::LoadBack => {
                self.note(world, who, world.back);
                At::LoadNamespace
            }
            At::LoadNamespace => {
                let is_reviving = world.processes[who].course == Course::Reviving;
                if is_reviving || !self.has(Mutation::NamespaceOnlyPeeked) {
                    self.note_namespace(world, who);
                }
                match self.has(Mutation::EndLoadedOnce) {
                    true => self.loaded(world, who),
                    false => At::LoadEndAgain,
                }
            }
            At::LoadEndAgain => {
                self.note(world, who, world.end);
                self.loaded(world, who)
            }
            At::Exclude => {
                if world.has_company(who) {
                    if world.is_wrongly_refused(who) {
                        world.wrong = Some(Wrong::Refused);
                    }
                    world.processes[who].course = Course::Refused;
                    return match self.has(Mutation::RefusedStays) {
                        true => At::FreeRevival,
                        false => At::LeaveWriters,
                    };
                }
                if world.is_of(view) {
                    world.wrong = Some(Wrong::RevivedAgain);
                }
                if !self.has(Mutation::CompanyOnlyAsked) {
                    world.processes[who].writers = Writers::All;
                }
                self.revive()
            }
            At::BeginRevival => {
                world.locks = Locks::HalfRevived;
                At::EndRevival
            }
            At::EndRevival => {
                world.locks = Locks::AliveIn(view);
                match self.mutation {
                    Some(Mutation::OriginBeforeLocks) => self.revived(world, who),
                    Some(Mutation::EndMarkedLate) => At::MarkEnd,
                    Some(Mutation::NamespaceWrittenLast) => At::WriteFront,
                    _ => At::WriteNamespace,
                }
            }
            At::MarkEnd => {
                world.end = CHANGING;
                world.tell_others(who);
                match self.mutation {
                    Some(Mutation::EndMarkedLate | Mutation::OriginBeforeLocks) => {
                        At::WriteNamespace
                    }
                    _ => At::BeginRevival,
                }
            }
            At::WriteNamespace => {
                world.namespace = namespace;
                world.tell_others(who);
                match self.has(Mutation::NamespaceWrittenLast) {
                    true => self.revived(world, who),
                    false => At::WriteFront,
                }
            }
            At::WriteFront => {
                world.front = boot;
                world.tell_others(who);
                At::WriteBack
            }
            At::WriteBack => {
                world.back = boot;
                world.tell_others(who);
                At::WriteEnd
            }
            At::WriteEnd => {
                world.end = boot;
                world.tell_others(who);
                match self.mutation {
                    Some(Mutation::OriginBeforeLocks) => At::BeginRevival,
                    Some(Mutation::NamespaceWrittenLast) => At::WriteNamespace,
                    _ => self.revived(world, who),
                }
            }
            At::Share => {
                world.processes[who].writers = Writers::Own;
                At::FreeRevival
            }
            At::LeaveWriters => {
                world.processes[who].writers = Writers::None;
                At::FreeRevival
            }
            At::FreeRevival => {
                let me = &mut world.processes[who];
                me.has_revival = false;
                if me.course == Course::Refused {
                    return At::Close;
                }
                me.course = Course::Straight;
                self.attached(world, who)
            }
            At::Close => {
                let me = &mut world.processes[who];
                me.writers = Writers::None;
                if me.course != Course::Again {
                    return At::Rest;
                }
                if !std::mem::take(&mut me.is_overtaken) {
                    world.wrong = Some(Wrong::IdleTurn);
                }
                At::PeekNamespace
            }
            At::Rest | At::Dead => unreachable!("no step"),
        }
    }
}
