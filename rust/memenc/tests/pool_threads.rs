// SPDX-License-Identifier: GPL-2.0

//! The pool with several threads: real ones, and those of a scheduler that switches at random places.

mod pools;

use std::sync::atomic::AtomicU64;
use std::sync::Arc;

use pools::work::Site;

/// Miri is slow.
const STEPS: usize = if cfg!(miri) { 10 } else { 20_000 };
const ARENAS: usize = if cfg!(miri) { 1 } else { 2 };

#[test]
fn threads_never_have_the_same_memory_and_nothing_is_lost() {
    let site = Site::<AtomicU64>::new(ARENAS, 3, 2);
    std::thread::scope(|scope| {
        for seed in 1..=3 {
            let site = &site;
            scope.spawn(move || site.work(seed, STEPS));
        }
        site.upkeep(9, STEPS);
    });
    site.finish();
}

/// Shuttle switches stacks, which Miri does not know.
#[cfg(not(miri))]
mod random_schedules {
    use super::*;
    use memenc::pool::Word;
    use pools::{word, Fresh};
    use shuttle::rand::{thread_rng, Rng};
    use shuttle::sync::atomic::{AtomicU64, Ordering};

    /// To shuttle all memory orders are alike: it has no weak memory.
    struct Shuttle(AtomicU64);

    impl Shuttle {
        fn get(&self) -> &AtomicU64 {
            &self.0
        }
    }

    impl Fresh for Shuttle {
        fn fresh(_index: usize) -> Self {
            Shuttle(AtomicU64::new(0))
        }
    }

    word!(Shuttle);

    /// How many schedules; `POOL_SCHEDULES` asks for more.
    fn schedules() -> usize {
        let asked = std::env::var("POOL_SCHEDULES");
        asked.map_or(300, |asked| asked.parse().expect("a number"))
    }

    fn threads() {
        let site = Arc::new(Site::<Shuttle>::new(1, 2, 2));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (site, seed) = (site.clone(), thread_rng().gen());
                shuttle::thread::spawn(move || site.work(seed, 12))
            })
            .collect();
        site.upkeep(thread_rng().gen(), 6);
        for thread in threads {
            thread.join().unwrap();
        }
        Arc::into_inner(site).unwrap().finish();
    }

    #[test]
    fn switches_anywhere() {
        shuttle::check_random(threads, schedules());
    }

    /// Burckhardt's algorithm: few switches, but at the places where one in many schedules has them.
    #[test]
    fn few_switches_at_rare_places() {
        shuttle::check_pct(threads, schedules(), 3);
    }
}
