// SPDX-License-Identifier: GPL-2.0

//! What can be asked of a pool and its model at once: for random tests, and for the fuzzer.

use memenc::pool::{Rank, Request, ARENA_BYTES, SMALL_ARENA_BYTES};

use super::model::Model;

/// Arenas that there may be.
pub(crate) const ARENAS: usize = 3;
/// The highest id of a client.
pub(crate) const CLIENTS: u16 = 4;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Alloc(u16, usize, Request),
    /// Many of the same size.
    Fill(u16, usize, usize, usize),
    Free(usize),
    /// Every second one, and so on.
    FreeEach(usize),
    Note(usize, u64),
    Add(usize, usize, bool, bool),
    Retire(usize),
    Open(u16, usize, u64),
    Quota(u16, u64),
    Rank(u16, Rank),
    Kept(u64, u64),
    Drain(u16),
    Reclaim,
    Close(u16),
    Find(u64),
}

/// What all begin with: memory, and two clients.
pub(crate) fn model() -> Model {
    let mut model = Model::new(ARENAS);
    model.add(0, 0, ARENA_BYTES, false);
    model.open(1, 2, 0);
    model.open(2, 1, 0);
    model
}

impl Step {
    pub(crate) fn carry_out(self, model: &mut Model) {
        match self {
            Step::Alloc(id, lane, request) => {
                model.alloc(id, lane, &request);
            }
            Step::Fill(id, lane, len, count) => {
                let _ = (0..count).all(|_| model.alloc(id, lane, &super::bytes(len)));
            }
            Step::Free(which) => model.free(which),
            Step::FreeEach(step) => {
                for which in (0..model.live()).rev().step_by(step) {
                    model.free(which);
                }
            }
            Step::Note(which, original) => model.note(which, original),
            Step::Add(index, place, whole, for_large) => {
                let bytes = if whole {
                    ARENA_BYTES
                } else {
                    SMALL_ARENA_BYTES
                };
                model.add(index, place, bytes, for_large);
            }
            Step::Retire(index) => model.retire(index),
            Step::Open(id, lanes, quota) => model.open(id, lanes, quota),
            Step::Quota(id, quota) => model.set_quota(id, quota),
            Step::Rank(id, rank) => model.set_rank(id, rank),
            Step::Kept(first, second) => model.set_kept(first, second),
            Step::Drain(id) => model.drain(id),
            Step::Reclaim => {
                model.pool.reclaim();
            }
            Step::Close(id) => model.close(id),
            Step::Find(address) => model.find(address),
        }
    }
}
