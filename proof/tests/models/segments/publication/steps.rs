//! The steps over an object with a name: the table is in [`publication`](super).

use super::state::{At, Inode, Mutation, Publication, Task, World, Wrong};

impl Publication {
    /// Takes the next step. Returns the one after it.
    pub(super) fn next(&self, world: &mut World, who: usize) -> At {
        match world.processes[who].at {
            At::MakeUnnamed | At::Fill | At::LockOwn | At::Link => self.create(world, who),
            At::Open | At::TakeShared | At::Look | At::Close => self.open(world, who),
            At::VisitToUnlink | At::LockToUnlink => self.unlink(world, who),
            At::LookToUnlink | At::Unlink => self.unlink(world, who),
            _ => self.remove(world, who),
        }
    }

    /// Where a remover begins that has opened what it wants to remove.
    fn removal(&self) -> At {
        match self.has(Mutation::RemoverHasNoRemoval) {
            true => At::TryAll,
            false => At::TakeRemoval,
        }
    }

    /// The step by which a remover begins to judge whether the object is abandoned.
    fn judgement(&self) -> At {
        match self.has(Mutation::RemoverLooksBeforeItExcludes) {
            true => At::LookAgain,
            false => At::TryAll,
        }
    }

    /// The step by which a remover ends.
    fn after_removal(&self, task: Task) -> At {
        match task {
            Task::Leave if self.has(Mutation::LeaverAsksBeforeItLetsGo) => At::LetGo,
            _ => At::Rest,
        }
    }

    fn build(&self, world: &mut World, who: usize) -> At {
        match world.processes[who].built {
            Some(_) => At::Link,
            None => At::MakeUnnamed,
        }
    }

    /// Steps of those who create. Returns the next.
    fn create(&self, world: &mut World, who: usize) -> At {
        let me = &mut world.processes[who];
        match (me.at, self.mutation) {
            (At::MakeUnnamed, mutation) => {
                let inode = Inode {
                    is_whole: false,
                    is_unlinked: false,
                };
                let free = world.inodes.iter().position(Option::is_none);
                let ino = free.unwrap_or(world.inodes.len());
                world.inodes.resize(world.inodes.len().max(ino + 1), None);
                world.inodes[ino] = Some(inode);
                me.built = Some(ino);
                match mutation {
                    Some(Mutation::PublishedHalf) => At::LockOwn,
                    _ => At::Fill,
                }
            }
            (At::Fill, mutation) => {
                let ino = me.built.or(me.file).expect("made");
                world.inodes[ino] = Some(Inode {
                    is_whole: true,
                    ..world.inode(ino)
                });
                match mutation {
                    Some(Mutation::PublishedHalf) => self.use_it(world, who),
                    Some(Mutation::PublishedBeforeAttached) => At::Link,
                    _ => At::LockOwn,
                }
            }
            // Nobody else can have what has no name, so there is nothing to wait for.
            (At::LockOwn, Some(Mutation::PublishedBeforeAttached)) => self.use_it(world, who),
            (At::LockOwn, _) => At::Link,
            (At::Link, mutation) => {
                if world.path.is_some() {
                    if me.task == Task::OpenOrCreate {
                        world.turn(who);
                        return At::Open;
                    }
                    me.built = None;
                    return At::Rest;
                }
                me.file = me.built.take();
                let ino = me.file;
                me.is_attached = mutation != Some(Mutation::PublishedBeforeAttached);
                world.rename(who, ino);
                match mutation {
                    Some(Mutation::PublishedHalf) => At::Fill,
                    Some(Mutation::PublishedBeforeAttached) => At::LockOwn,
                    _ => self.use_it(world, who),
                }
            }
            (at, _) => unreachable!("{at:?} is no step of a creator"),
        }
    }

    fn use_it(&self, world: &mut World, who: usize) -> At {
        let me = &mut world.processes[who];
        me.built = None;
        me.is_attached = true;
        me.is_user = true;
        At::Rest
    }

    /// Steps of those who open. Returns the next.
    fn open(&self, world: &mut World, who: usize) -> At {
        let looks_first = self.has(Mutation::LookBeforeAttaching);
        match world.processes[who].at {
            At::Open => {
                world.processes[who].file = world.path;
                match (world.path, world.processes[who].task) {
                    (Some(_), _) if looks_first => At::Look,
                    (Some(_), _) => At::TakeShared,
                    (None, task) => {
                        if world.users().any(|user| !world.is_named_or_unlinked(user)) {
                            world.wrong = Some(Wrong::NotFound);
                        }
                        match task {
                            Task::OpenOrCreate => self.build(world, who),
                            _ => At::Rest,
                        }
                    }
                }
            }
            At::TakeShared => {
                let ino = world.processes[who].file.expect("opened");
                if world.is_excluded(who, ino) {
                    return At::Close; // who tries instead of waiting
                }
                world.processes[who].is_attached = true;
                match looks_first || self.has(Mutation::NoLookAfterAttaching) {
                    true => self.use_it(world, who),
                    false => At::Look,
                }
            }
            At::Look if world.path != world.processes[who].file => At::Close,
            At::Look if looks_first => At::TakeShared,
            At::Look => self.use_it(world, who),
            At::Close => {
                world.processes[who].file = None;
                world.processes[who].is_attached = false;
                world.turn(who);
                At::Open
            }
            at => unreachable!("{at:?} is no step of an opener"),
        }
    }

    /// Steps of those who leave or remove. Returns the next.
    fn remove(&self, world: &mut World, who: usize) -> At {
        let path = world.path;
        let me = &mut world.processes[who];
        match me.at {
            At::Reopen => {
                me.visitor = me.file;
                match self.removal() {
                    At::TryAll if !self.has(Mutation::LeaverAsksBeforeItLetsGo) => At::LetGo,
                    removal => removal,
                }
            }
            At::LetGo => {
                me.file = None;
                me.is_attached = false;
                match self.has(Mutation::LeaverAsksBeforeItLetsGo) {
                    true => At::Rest,
                    false => self.judgement(),
                }
            }
            At::Visit => {
                me.visitor = path;
                match path {
                    Some(_) => self.removal(),
                    None => At::Rest,
                }
            }
            At::TakeRemoval => {
                me.has_removal = true;
                match me.is_attached && !self.has(Mutation::LeaverAsksBeforeItLetsGo) {
                    true => At::LetGo,
                    false => self.judgement(),
                }
            }
            At::TryAll => {
                let ino = me.visitor.expect("reopened");
                if world.has_company(who, ino) {
                    return At::FreeRemoval;
                }
                let only_asks = self.has(Mutation::RemoverOnlyAsks);
                world.processes[who].has_all = !only_asks;
                match self.mutation {
                    Some(Mutation::RemoverDoesNotLook | Mutation::RemoverLooksBeforeItExcludes) => {
                        At::TakeAway
                    }
                    _ => At::LookAgain,
                }
            }
            At::LookAgain if path != me.visitor => At::FreeAll,
            At::LookAgain if self.has(Mutation::RemoverLooksBeforeItExcludes) => At::TryAll,
            At::LookAgain => At::TakeAway,
            At::TakeAway => {
                if path.is_some() {
                    if path != me.visitor {
                        world.wrong = Some(Wrong::AnotherRemoved);
                    }
                    world.rename(who, None);
                }
                At::FreeAll
            }
            At::FreeAll if self.has(Mutation::RemovalFreedFirst) && me.has_removal => {
                me.has_removal = false;
                At::FreeAll
            }
            At::FreeAll => {
                me.has_all = false;
                At::FreeRemoval
            }
            At::FreeRemoval => {
                me.has_removal = false;
                me.visitor = None;
                self.after_removal(me.task)
            }
            at => unreachable!("{at:?} is no step of a remover"),
        }
    }

    /// Steps of `unlink`. Returns the next.
    fn unlink(&self, world: &mut World, who: usize) -> At {
        let path = world.path;
        let me = &mut world.processes[who];
        match me.at {
            At::VisitToUnlink => {
                me.visitor = path;
                match path {
                    Some(_) if self.has(Mutation::UnlinkHasNoRemoval) => At::LookToUnlink,
                    Some(_) => At::LockToUnlink,
                    None if self.has(Mutation::UnlinkOfNothingGoesOn) => At::Unlink,
                    None => At::Rest,
                }
            }
            At::LockToUnlink => {
                me.has_removal = true;
                At::LookToUnlink
            }
            At::LookToUnlink if path == me.visitor => At::Unlink,
            At::LookToUnlink => {
                me.has_removal = false;
                me.visitor = None;
                world.turn(who);
                At::VisitToUnlink
            }
            At::Unlink => {
                if let Some(ino) = path {
                    world.inodes[ino] = Some(Inode {
                        is_unlinked: true,
                        ..world.inode(ino)
                    });
                    world.rename(who, None);
                }
                At::FreeRemoval
            }
            at => unreachable!("{at:?} is no step of unlink"),
        }
    }
}
