//! Users other than root.

/// The id of an ordinary user and its group.
pub const NOBODY: u32 = 65_534;

/// Returns whether this process may change its user. If not, prints that `test` is not
/// run.
pub fn is_root_for(test: &str) -> bool {
    let is_root = nix::unistd::Uid::effective().is_root();
    if !is_root {
        println!("not run, because only root can change its user: {test}");
    }
    is_root
}

/// Changes to an ordinary user, irrevocably.
pub fn become_nobody() {
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setgid(nix::unistd::Gid::from_raw(NOBODY)).unwrap();
    nix::unistd::setuid(nix::unistd::Uid::from_raw(NOBODY)).unwrap();
}

/// Changes to an ordinary user with these groups, irrevocably. The first group is the
/// effective one.
pub fn become_member(user: u32, groups: &[u32]) {
    let groups: Vec<_> = groups
        .iter()
        .map(|id| nix::unistd::Gid::from_raw(*id))
        .collect();
    nix::unistd::setgroups(&groups).unwrap();
    nix::unistd::setgid(groups[0]).unwrap();
    nix::unistd::setuid(nix::unistd::Uid::from_raw(user)).unwrap();
}
