// SPDX-License-Identifier: GPL-2.0
//! What each page is: the page tables say which are shared, the host's image which of those are used.

use crate::{
    filling,
    memory::{Memory, PAGE},
};
use anyhow::{ensure, Result};
use memenc::{
    entry::Paging,
    walk::{Found, Half, Leaf},
};
use std::collections::HashSet;

/// Faults of the tables that are told; the others are like them.
const FAULTS: usize = 10;

/// What a page is to the guest's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is not mapped.
    NotMapped,
    /// It is mapped private only.
    Private,
    /// It is mapped shared, and holds nothing but zeros, or what sealing has put there.
    Shared,
    /// It is mapped shared, and holds something.
    Used,
}

impl State {
    pub(crate) const ALL: [State; 4] =
        [State::Private, State::Shared, State::Used, State::NotMapped];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            State::NotMapped => "not mapped",
            State::Private => "private",
            State::Shared => "shared, unused",
            State::Used => "shared, in use",
        }
    }

    const fn is_shared(self) -> bool {
        matches!(self, State::Shared | State::Used)
    }
}

/// Every page of a guest's memory.
pub(crate) struct Survey {
    /// In the order of the images.
    pub(crate) states: Vec<State>,
    /// What is wrong with the tables, the first few.
    pub(crate) faults: Vec<String>,
}

/// Shared pages whose addresses follow each other.
pub(crate) struct SharedRange {
    /// The first address.
    pub(crate) first: u64,
    /// The last address.
    pub(crate) last: u64,
    /// How many pages.
    pub(crate) pages: usize,
    /// How many of them are in use.
    pub(crate) used: usize,
}

impl Survey {
    /// Looks at all that the kernel maps with the page tables at `cr3`.
    ///
    /// # Errors
    ///
    /// An image cannot be read, or nothing at all is mapped, so the tables are somewhere else.
    pub(crate) fn new(memory: &Memory, paging: &Paging, cr3: u64) -> Result<Self> {
        let mut survey = Survey {
            states: vec![State::NotMapped; memory.pages()?],
            faults: Vec::new(),
        };
        let mut seen = HashSet::new();
        paging.visit_tables(
            memory,
            cr3,
            Half::Kernel,
            &mut |table, level| seen.insert((table, level)),
            &mut |found| match found {
                Found::Leaf(leaf) => survey.map(memory, &leaf),
                Found::Hole { .. } => {}
                Found::Fault { va, fault, .. } if survey.faults.len() < FAULTS => {
                    survey.faults.push(format!("{va:#x}: {fault}"));
                }
                Found::Fault { .. } => {}
            },
        );
        ensure!(
            survey.states.iter().any(|state| *state != State::NotMapped),
            "CR3 {cr3:#x} maps no memory{}",
            survey
                .faults
                .first()
                .map(|fault| format!("; at {fault}"))
                .unwrap_or_default()
        );
        for (page, state) in survey.states.iter_mut().enumerate() {
            if *state == State::Shared && is_used(memory, page)? {
                *state = State::Used;
            }
        }
        Ok(survey)
    }

    /// Notes a mapping. What one shares, another one does not hide.
    fn map(&mut self, memory: &Memory, leaf: &Leaf) {
        for gpa in (leaf.gpa..).step_by(PAGE as usize).take(pages(leaf)) {
            // What is not in memory is devices'.
            let page = memory
                .offset(gpa)
                .and_then(|offset| usize::try_from(offset / PAGE).ok());
            if let Some(state) = page.and_then(|page| self.states.get_mut(page)) {
                if !leaf.private {
                    *state = State::Shared;
                } else if *state == State::NotMapped {
                    *state = State::Private;
                }
            }
        }
    }

    /// How many pages are in a state.
    pub(crate) fn count(&self, wanted: State) -> usize {
        self.states.iter().filter(|state| **state == wanted).count()
    }

    /// Where shared pages are, lowest first.
    pub(crate) fn shared_ranges(&self, memory: &Memory) -> Vec<SharedRange> {
        let mut ranges: Vec<SharedRange> = Vec::new();
        for (page, state) in self.states.iter().enumerate() {
            if !state.is_shared() {
                continue;
            }
            let first = memory.gpa(page);
            let used = usize::from(*state == State::Used);
            match ranges.last_mut() {
                Some(range) if range.last + 1 == first => {
                    range.last += PAGE;
                    range.pages += 1;
                    range.used += used;
                }
                _ => ranges.push(SharedRange {
                    first,
                    last: first + (PAGE - 1),
                    pages: 1,
                    used,
                }),
            }
        }
        ranges
    }
}

/// Whether the host finds something in a page.
fn is_used(memory: &Memory, page: usize) -> Result<bool> {
    let found = memory.shared_page(page)?;
    let mut filling = [0; PAGE as usize];
    if found == filling {
        return Ok(false);
    }
    filling::fill(memory.gpa(page), &mut filling);
    Ok(found != filling)
}

fn pages(leaf: &Leaf) -> usize {
    // CAST: 1, 512 or 512 squared.
    (leaf.size.bytes() / PAGE) as usize
}
