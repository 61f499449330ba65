// SPDX-License-Identifier: GPL-2.0
//! Random sequences of calls, faults, kills and time against the driver core on the emulated device, each step
//! compared with a model (Documentation/testing.rst, "Millions of steps").

mod model;
mod virtual_host;

use model::{
    coverage::Coverage,
    step::{Kill, Step},
    Session,
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use std::{cell::RefCell, env, fmt};

/// Steps of a usual run, and of a sequence at most.
const STEPS: u64 = 2_000_000;
const LONGEST: usize = 1000;

/// What happens to one driver.
#[derive(Clone)]
struct Sequence {
    kind: u64,
    numbers: Vec<u64>,
}

impl Sequence {
    fn steps(&self) -> impl Iterator<Item = (Step, Kill)> + '_ {
        self.numbers.iter().map(|&number| Step::of(number))
    }

    fn run(&self, coverage: &mut Coverage) {
        let mut session = Session::new(self.kind, coverage);
        for (step, kill) in self.steps() {
            session.step(step, kill);
        }
        session.finish(self.kind % 64 == 0);
    }
}

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kind {}", self.kind)?;
        for (step, kill) in self.steps() {
            match kill {
                None => writeln!(f, "    {step:?}")?,
                Some(after) => writeln!(f, "    {step:?}, killed after {after:?}")?,
            }
        }
        Ok(())
    }
}

/// A number from the environment.
fn option(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn whatever_happens_memory_answers_and_states_are_right() {
    let steps = option("PSP_MODEL_STEPS").unwrap_or(STEPS);
    let seed = option("PSP_MODEL_SEED").unwrap_or(0);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let coverage = RefCell::new(Coverage::default());
    // Shorter sequences are tried when one has failed; their panics are no news.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let sequence = (any::<u64>(), vec(any::<u64>(), 1..LONGEST));
    let sequence = sequence.prop_map(|(kind, numbers)| Sequence { kind, numbers });
    let mut outcome = Ok(true);
    while outcome.is_ok() && coverage.borrow().steps < steps {
        let tree = sequence.new_tree(&mut runner).expect("a sequence");
        outcome = runner.run_one(tree, |sequence| {
            sequence.run(&mut coverage.borrow_mut());
            Ok(())
        });
    }
    std::panic::set_hook(hook);
    println!("PSP_MODEL_SEED={seed}: {}", coverage.borrow());
    if let Err(error) = outcome {
        panic!("PSP_MODEL_SEED={seed}: {error}");
    }
    assert_eq!(coverage.borrow().missing(), [""; 0], "never happened");
}
