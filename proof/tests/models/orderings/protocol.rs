//! What a protocol is, and how it is checked.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::time::Instant;

use super::source::{self, Used};
use crate::report;
use crate::size::Size;

/// An ordering in the source: the nth one in a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    pub(super) file: &'static str,
    pub(super) function: &'static str,
    pub(super) nth: usize,
}

impl Site {
    pub(super) const fn new(file: &'static str, function: &'static str, nth: usize) -> Self {
        Self {
            file,
            function,
            nth,
        }
    }
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Load,
    Store,
    /// It reads and writes in one step.
    Exchange,
    Fence,
}

impl Access {
    /// Returns the orderings that are weaker. A fence that is `Relaxed` is left out.
    fn weaker_than(self, ordering: Ordering) -> Vec<Ordering> {
        let all: &[Ordering] = match self {
            Self::Load => &[Acquire, Relaxed],
            Self::Store => &[Release, Relaxed],
            Self::Exchange | Self::Fence => &[AcqRel, Acquire, Release, Relaxed],
        };
        let is_weaker = |weaker: Ordering| match ordering {
            SeqCst => true,
            AcqRel => weaker != AcqRel,
            Acquire | Release => weaker == Relaxed,
            _ => false,
        };
        let weaker = all.iter().copied().filter(|weaker| is_weaker(*weaker));
        weaker.collect()
    }
}

/// A site in a protocol.
pub(super) struct Place {
    pub(super) site: Site,
    access: Access,
    /// The orderings that are weaker than the code's, and enough for this protocol.
    pub(super) enough: &'static [Ordering],
}

impl Place {
    const fn new(access: Access, site: Site, enough: &'static [Ordering]) -> Self {
        Self {
            site,
            access,
            enough,
        }
    }
}

pub(super) const fn load(site: Site, enough: &'static [Ordering]) -> Place {
    Place::new(Access::Load, site, enough)
}

pub(super) const fn store(site: Site, enough: &'static [Ordering]) -> Place {
    Place::new(Access::Store, site, enough)
}

pub(super) const fn exchange(site: Site, enough: &'static [Ordering]) -> Place {
    Place::new(Access::Exchange, site, enough)
}

pub(super) const fn fence(site: Site, enough: &'static [Ordering]) -> Place {
    Place::new(Access::Fence, site, enough)
}

/// A relaxed access that the scenarios repeat.
pub(super) const fn relaxed(site: Site) -> Place {
    load(site, &[])
}

/// Accesses by which threads depend on each other.
pub(super) struct Protocol {
    pub(super) name: &'static str,
    pub(super) scenarios: &'static [Scenario],
    pub(super) places: &'static [Place],
    /// Planted mistakes that are no weaker ordering.
    pub(super) mistakes: &'static [&'static str],
}

pub(super) struct Scenario {
    name: &'static str,
    run: fn(Orderings),
    /// The most preemptions.
    preemptions: Option<usize>,
    /// The same in large models, for the orderings of the code.
    preemptions_in_large: Option<usize>,
}

impl Scenario {
    pub(super) const fn new(name: &'static str, run: fn(Orderings)) -> Self {
        Self {
            name,
            run,
            preemptions: None,
            preemptions_in_large: None,
        }
    }

    /// Limits the preemptions. Large models have no limit for the orderings of the
    /// code.
    pub(super) const fn at_most(mut self, preemptions: usize) -> Self {
        self.preemptions = Some(preemptions);
        self
    }

    /// Limits the preemptions in large models as well.
    pub(super) const fn at_most_in_large(mut self, preemptions: usize) -> Self {
        self.preemptions_in_large = Some(preemptions);
        self
    }
}

/// The orderings of the sources, with at most one change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Orderings {
    weakened: Option<(Site, Ordering)>,
    mistake: Option<&'static str>,
    /// The permutation of the threads: see [`together`].
    permutation: usize,
}

impl Orderings {
    pub(super) fn of(self, site: Site) -> Ordering {
        USED.with_borrow_mut(|used| used.insert(site));
        match self.weakened {
            Some((weakened, ordering)) if weakened == site => ordering,
            _ => source::ordering(site.file, site.function, site.nth).ordering,
        }
    }

    pub(super) fn has(self, mistake: &'static str) -> bool {
        self.mistake == Some(mistake)
    }
}

/// A thread of a scenario. loom runs all of them in one thread of the program, so they
/// need no [`Send`].
pub(super) type Thread<S> = Box<dyn FnOnce(&S)>;

/// Runs threads until all have ended. The last one of the permutation is loom's first.
///
/// loom leaves out an interleaving if it takes two accesses for independent. It only
/// knows the last access to a word: if a thread has loaded a word and then stores to
/// it, loom does not see that the store depends on the earlier load of another thread.
/// Which interleavings are left out depends on the order in which the threads begin. So
/// each scenario is run with all permutations.
pub(super) fn together<S: 'static>(o: Orderings, shared: &Rc<S>, mut threads: Vec<Thread<S>>) {
    let mut rest = o.permutation;
    let mut ordered = Vec::new();
    for count in (1..=threads.len()).rev() {
        ordered.push(threads.remove(rest % count));
        rest /= count;
    }
    PERMUTATIONS.set((1..=ordered.len()).product());
    let first = ordered.pop();
    let others: Vec<_> = ordered
        .into_iter()
        .map(|other| {
            let shared = Rc::clone(shared);
            loom::thread::spawn(move || other(&shared))
        })
        .collect();
    if let Some(first) = first {
        first(shared);
    }
    for other in others {
        other.join().unwrap();
    }
}

thread_local! {
    /// How many permutations the threads of the scenario have.
    static PERMUTATIONS: Cell<usize> = const { Cell::new(1) };
    /// The sites whose orderings a scenario has asked for.
    static USED: RefCell<BTreeSet<Site>> = const { RefCell::new(BTreeSet::new()) };
}

/// How the message of a scenario's own assertion begins.
const WRONG: &str = "wrong";
const WRONG_VALUE: &str = "assertion `left == right` failed: wrong";

impl Protocol {
    /// Checks the protocol as it is, and with each change.
    pub(super) fn check(&self) {
        let begin = Instant::now();
        // Which sites each scenario uses.
        let mut used = Vec::new();
        for scenario in self.scenarios {
            let failure = scenario.failure(Orderings::default());
            assert_eq!(failure, None, "{}: {}", self.name, scenario.name);
            used.push(USED.take());
        }
        let names: Vec<_> = self.scenarios.iter().map(|it| it.name).collect();
        report::protocol(self.name, &names.join(", "), begin.elapsed());
        let places = self.places.iter();
        let faults: Vec<String> = places.filter_map(|it| self.weaken(it, &used)).collect();
        assert!(faults.is_empty(), "{}:\n{}", self.name, faults.join("\n"));
        for mistake in self.mistakes {
            let orderings = Orderings {
                mistake: Some(mistake),
                ..Orderings::default()
            };
            let found = self.scenarios.iter().find_map(|it| it.finds(orderings));
            let found = found.unwrap_or_else(|| panic!("{}: {mistake} is not found", self.name));
            report::planted(self.name, mistake, &found);
        }
    }

    /// Weakens the ordering of a place in each way. Returns what is not as expected.
    fn weaken(&self, place: &Place, used: &[BTreeSet<Site>]) -> Option<String> {
        let Place {
            site,
            access,
            enough,
        } = *place;
        let written = source::ordering(site.file, site.function, site.nth);
        assert!(
            (written.used == Used::Fence) == (access == Access::Fence)
                && written.used != Used::CompilerFence,
            "{site:?} is no {access:?}"
        );
        let scenarios = self.scenarios.iter().zip(used);
        let scenarios = scenarios.filter(|(_, used)| used.contains(&site));
        let scenarios: Vec<_> = scenarios.map(|(scenario, _)| scenario).collect();
        assert!(!scenarios.is_empty(), "no scenario uses {site:?}");
        let weaker = access.weaker_than(written.ordering);
        let mut are_enough = Vec::new();
        // The weakest one first: if it is enough, all are.
        for (index, weaker_one) in weaker.iter().enumerate().rev() {
            let orderings = Orderings {
                weakened: Some((site, *weaker_one)),
                ..Orderings::default()
            };
            let Some(failure) = scenarios.iter().find_map(|it| it.finds(orderings)) else {
                are_enough.push(*weaker_one);
                if index == weaker.len() - 1 {
                    are_enough.clone_from(&weaker);
                    break;
                }
                continue;
            };
            let (code, weaker_one) = (written.to_string(), format!("{weaker_one:?}"));
            let place = (site.file, site.function);
            report::weakened(self.name, place, [&code, &weaker_one], &failure);
        }
        let is_expected = are_enough.len() == enough.len()
            && are_enough.iter().all(|ordering| enough.contains(ordering));
        let written = written.to_string();
        (!is_expected)
            .then(|| format!("{site:?} ({written}): {are_enough:?} are enough, and not {enough:?}"))
    }
}

impl Scenario {
    /// Returns the name and the failure, if an interleaving fails.
    fn finds(&self, orderings: Orderings) -> Option<String> {
        let failure = self.failure(orderings)?;
        Some(format!("{}: {failure}", self.name))
    }

    /// Tries the interleavings, with the threads in each order. Returns how one fails.
    fn failure(&self, orderings: Orderings) -> Option<&'static str> {
        let failure = self.failure_of_permutation(orderings);
        let others = 1..PERMUTATIONS.get();
        failure.or_else(|| {
            others.into_iter().find_map(|permutation| {
                self.failure_of_permutation(Orderings {
                    permutation,
                    ..orderings
                })
            })
        })
    }

    fn failure_of_permutation(&self, orderings: Orderings) -> Option<&'static str> {
        let run = self.run;
        let is_changed = orderings.weakened.is_some() || orderings.mistake.is_some();
        let mut model = loom::model::Builder::new();
        model.preemption_bound = match Size::chosen() {
            Size::Large if !is_changed => self.preemptions_in_large,
            Size::Large | Size::Small => self.preemptions,
        };
        let checked = AssertUnwindSafe(|| model.check(move || run(orderings)));
        let panic = std::panic::catch_unwind(checked).err()?;
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        let message = message.unwrap_or_default();
        let failures = [
            ("Causality violation", "data race"),
            ("deadlock", "deadlock"),
            (WRONG, "wrong value"),
            (WRONG_VALUE, "wrong value"),
        ];
        let found = failures
            .iter()
            .find(|(begin, _)| message.starts_with(begin));
        let Some((_, failure)) = found else {
            panic!("{}, {orderings:?}: {message}", self.name);
        };
        Some(failure)
    }
}
