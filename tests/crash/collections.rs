//! Changes of bounded values, seen after each instruction. What is in memory then is
//! what a process leaves that is killed there.

use std::fmt::Debug;

use shm_sync::{Segment, ShmMutex, ShmOption, ShmSafe, ShmString, ShmVec};

use crate::support::on_stage;
use crate::support::walker::{Walker, can_lead_for};

/// Steps a child through `change`, and returns the different values in memory, in their
/// order.
fn values_during<T>(before: T, change: impl FnOnce(&mut T)) -> Vec<T>
where
    T: ShmSafe + Copy + PartialEq + Debug,
{
    let shared = Segment::anonymous(ShmMutex::new(before)).unwrap();
    let mut child = Walker::prepared(|| shared.lock().unwrap(), |mut guard| change(&mut guard));
    let mut seen = vec![before];
    while !child.is_at_end() {
        child.step_blindly();
        // SAFETY: the child holds the lock, and is stopped. Any bytes are a value of
        // the types below.
        let now = unsafe { *shared.data_ptr() };
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    seen
}

type Text = ShmString<12>;
type List = ShmVec<[u64; 3], 4>;
type Pair = ShmOption<(u64, u64)>;

fn text(text: &str) -> Text {
    text.try_into().unwrap()
}

on_stage! {
    fn smoke() {
        if !can_lead_for("collections") {
            return;
        }
        // The harness sees a change in two steps.
        let seen = values_during([0_u64; 2], |pair| {
            for (index, element) in pair.iter_mut().enumerate() {
                // SAFETY: a reference to an element is valid for a store.
                unsafe { std::ptr::write_volatile(element, index as u64 + 1) };
            }
        });
        assert_eq!(seen, [[0, 0], [1, 0], [1, 2]]);
    }

    fn text_changes_in_one_step() {
        if !can_lead_for("collections") {
            return;
        }
        let seen = values_during(text("ab"), |text| text.try_push_str("cdefghij").unwrap());
        assert_eq!(seen, [text("ab"), text("abcdefghij")]);
        let seen = values_during(text("ab"), |text| assert_eq!(text.pop(), Some('b')));
        assert_eq!(seen, [text("ab"), text("a")]);
        let seen = values_during(text("ab"), Text::clear);
        assert_eq!(seen, [text("ab"), text("")]);
    }

    fn list_changes_in_one_step() {
        if !can_lead_for("collections") {
            return;
        }
        let list = |elements: &[[u64; 3]]| List::try_from(elements).unwrap();
        let seen = values_during(list(&[[1; 3]]), |list| list.try_push([2; 3]).unwrap());
        assert_eq!(seen, [list(&[[1; 3]]), list(&[[1; 3], [2; 3]])]);
        let all = [[1; 3], [2; 3], [3; 3]];
        let seen = values_during(list(&all[..1]), |list| {
            list.try_extend_from_slice(&all[1..]).unwrap();
        });
        assert_eq!(seen, [list(&all[..1]), list(&all)]);
        let seen = values_during(list(&all), |list| assert_eq!(list.pop(), Some([3; 3])));
        assert_eq!(seen, [list(&all), list(&all[..2])]);
        let seen = values_during(list(&all), |list| list.truncate(1));
        assert_eq!(seen, [list(&all), list(&all[..1])]);
    }

    fn option_is_never_mixed() {
        if !can_lead_for("collections") {
            return;
        }
        let [none, old, new] = [None, Some((1, 1)), Some((2, 2))].map(Pair::from);
        assert_eq!(values_during(none, |pair| pair.set(Some((2, 2)))), [none, new]);
        assert_eq!(values_during(old, |pair| pair.set(Some((2, 2)))), [old, none, new]);
        assert_eq!(values_during(old, |pair| assert_eq!(pair.take(), Some((1, 1)))), [old, none]);
    }
}
