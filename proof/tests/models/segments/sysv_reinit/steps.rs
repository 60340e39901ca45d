//! What each step does: the table in the documentation of the model.

use super::state::{At, Mutation, Process, Renewal, State, Task, World, Wrong};

impl Renewal {
    fn load(&self, world: &mut World, who: usize) -> At {
        let me = &mut world.processes[who];
        let is_home = me.namespace == world.namespace;
        match world.state {
            // A remover of its own namespace goes another way: see `system_v`.
            State::Born if is_home && me.task == Task::Remove => At::Unmap,
            State::Born if is_home => {
                me.is_user = true;
                At::Rest
            }
            State::Born
                if self
                    .has_one_of([Mutation::NoFirstCount, Mutation::NeitherNumberNorFirstCount]) =>
            {
                At::Claim
            }
            State::Born => At::Count,
            State::Claimed(_) if self.has(Mutation::ClaimOfTheDeadStays) => At::Refuse,
            State::Claimed(claim) => {
                me.claim = claim;
                if is_home { At::Kick } else { At::KickIfAlone }
            }
            State::Renewing if self.has(Mutation::RenewalOfTheDeadStays) => At::Refuse,
            State::Renewing => At::TakeOverIfAlone,
            State::Dead => At::Unmap,
        }
    }

    fn seized(&self, world: &World, who: usize) -> At {
        match world.processes[who].task {
            Task::Remove => At::TakeAway,
            _ if self.has(Mutation::BornBeforeLocks) => At::Bear,
            _ => At::Unmake,
        }
    }

    /// Takes the next step. Returns the one after it.
    pub(super) fn next(&self, world: &mut World, who: usize) -> At {
        let is_alone = world.attached() == 1;
        let Process {
            at,
            claim,
            namespace,
            task,
            has_company,
            ..
        } = world.processes[who];
        match at {
            At::EarlyLoad => {
                let is_born = world.state == State::Born && namespace == world.namespace;
                if is_born { At::MapBorn } else { At::Map }
            }
            At::MapBorn => {
                world.map(who);
                world.processes[who].is_user = task == Task::Open;
                if task == Task::Open {
                    At::Rest
                } else {
                    At::Unmap
                }
            }
            // Destroyed with its last attachment.
            At::Map if !world.has_key && world.attached() == 0 => At::Rest,
            At::Map => {
                world.map(who);
                if task == Task::Look {
                    At::Unmap
                } else {
                    At::Load
                }
            }
            At::Load => self.load(world, who),
            At::KickIfAlone if is_alone => At::Kick,
            At::KickIfAlone => At::Refuse,
            At::Kick => {
                world.swap(State::Claimed(claim), State::Born);
                At::Load
            }
            At::TakeOverIfAlone if self.has(Mutation::TakeOverUncounted) => self.seized(world, who),
            At::TakeOverIfAlone if is_alone => match self.has(Mutation::TakeOverUnconfirmed) {
                true => self.seized(world, who),
                false => At::LoadAgain,
            },
            At::LoadAgain if world.state == State::Renewing && !world.has_key => {
                world.state = State::Dead;
                At::Unmap
            }
            At::LoadAgain if world.state == State::Renewing => self.seized(world, who),
            At::LoadAgain => At::Load,
            At::TakeOverIfAlone => At::Refuse,
            At::Count if is_alone => At::Claim,
            At::Count => At::Refuse,
            At::Claim => {
                world.claims += 1;
                let is_numbered = !self.has_one_of([
                    Mutation::ClaimsHaveNoNumber,
                    Mutation::NeitherNumberNorFirstCount,
                ]);
                let claim = if is_numbered { world.claims } else { 0 };
                world.processes[who].claim = claim;
                match world.swap(State::Born, State::Claimed(claim)) {
                    true if self.has(Mutation::NoSecondCount) => At::Commit,
                    true => At::CountAgain,
                    false => At::Refuse,
                }
            }
            At::CountAgain if is_alone => At::Commit,
            At::CountAgain => At::Withdraw,
            At::Commit if self.has(Mutation::CommitWithoutSwap) => {
                world.state = State::Renewing;
                self.seized(world, who)
            }
            At::Commit => match world.swap(State::Claimed(claim), State::Renewing) {
                true => self.seized(world, who),
                false => At::Withdraw,
            },
            At::Withdraw => {
                world.swap(State::Claimed(claim), State::Born);
                At::Refuse
            }
            At::Unmake => {
                world.locks = None;
                At::Make
            }
            At::Make => {
                world.locks = Some(namespace);
                At::Publish
            }
            At::Publish => {
                world.namespace = namespace;
                let is_last = self.has(Mutation::BornBeforeLocks);
                world.processes[who].is_user = is_last;
                if is_last { At::Rest } else { At::Bear }
            }
            At::Bear => {
                world.state = State::Born;
                let is_early = self.has(Mutation::BornBeforeLocks);
                world.processes[who].is_user = !is_early;
                if is_early { At::Unmake } else { At::Rest }
            }
            At::TakeAway => {
                world.has_key = false;
                At::SayDead
            }
            At::SayDead => {
                world.state = State::Dead;
                At::Unmap
            }
            At::Refuse => {
                if !has_company && world.has_key {
                    world.wrong = Some(Wrong::RefusedAlone);
                }
                At::Unmap
            }
            At::Unmap => {
                world.processes[who].is_mapped = false;
                At::Rest
            }
            At::Rest | At::Dead => unreachable!("no step"),
        }
    }
}
