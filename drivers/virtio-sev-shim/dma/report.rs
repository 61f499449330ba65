// SPDX-License-Identifier: GPL-2.0

//! What administrators see in debugfs, below `virtio_sev_shim`: lines of `name: value`. The names stay.

use kernel::{
    fmt,
    sync::Arc, //
};
use memenc::{
    admission,
    pool::{
        Refusal,
        CHUNK_BYTES, //
    }, //
};

use super::{
    devices::{
        Device,
        Standing, //
    },
    flow::Count,
    with_dma,
    words::Word,
    Dma, //
};
use crate::shared;

/// The refusals, and what they are called.
const REFUSALS: [(Refusal, &str); 4] = [
    (Refusal::TooLarge, "too_large"),
    (Refusal::Fragmented, "fragmented"),
    (Refusal::Exhausted, "exhausted"),
    (Refusal::Quota, "quota"),
];

fn refusals(refused: &[Word; 4], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (refusal, name) in REFUSALS {
        let count = refused.get(refusal as usize).map_or(0, Word::counted);
        writeln!(out, "{name}: {count}")?;
    }
    Ok(())
}

/// The file of a device.
pub(super) fn device(device: &Arc<Device>, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let state = device.state.lock();
    let kind = admission::name(device.id).unwrap_or("unknown");
    writeln!(out, "device: {} ({kind})", device.id)?;
    match state.driver.to_bytes() {
        b"" => writeln!(out, "driver: none")?,
        name => writeln!(out, "driver: {}", core::str::from_utf8(name).unwrap_or("?"))?,
    }
    match &state.standing {
        Standing::Idle => writeln!(out, "state: no driver")?,
        Standing::Left(reason) => writeln!(out, "state: not adopted: {reason}")?,
        Standing::Adopted(..) => writeln!(out, "state: adopted")?,
    }
    let access = match (&state.standing, state.access_platform) {
        (_, true) => "yes",
        (Standing::Adopted(..), false) => "admitted",
        (_, false) => "no",
    };
    writeln!(out, "access_platform: {access}")?;
    if let Some(features) = state.features {
        writeln!(out, "features: {features:#x}")?;
    }
    let Standing::Adopted(flow, terms) = &state.standing else {
        return Ok(());
    };
    writeln!(out, "hidden_features: {:#x}", terms.hidden)?;
    let Some((held, most, (send, receive))) = with_dma(|dma| {
        let (held, most) = flow.held(&dma.memory);
        (held, most, flow.quotas(&dma.memory))
    }) else {
        return Ok(());
    };
    writeln!(out, "maps: {}", flow.counted(Count::Maps))?;
    writeln!(out, "unmaps: {}", flow.counted(Count::Unmaps))?;
    writeln!(out, "mapped: {held}")?;
    writeln!(out, "mapped_most: {}", most * CHUNK_BYTES as u64)?;
    writeln!(out, "copied_in: {}", flow.counted(Count::CopiedIn))?;
    writeln!(out, "copied_out: {}", flow.counted(Count::CopiedOut))?;
    writeln!(out, "not_bounced: {}", flow.counted(Count::NotBounced))?;
    writeln!(out, "share_send: {}", send * CHUNK_BYTES as u64)?;
    writeln!(out, "share_receive: {}", receive * CHUNK_BYTES as u64)?;
    refusals(&flow.refused, out)
}

/// The file of the pool.
pub(super) fn pool(_: &(), out: &mut fmt::Formatter<'_>) -> fmt::Result {
    with_dma(|dma| tell_pool(dma, out)).unwrap_or(Ok(()))
}

fn tell_pool(dma: &Dma, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let memory = &dma.memory;
    let (mut copied_in, mut copied_out) = (memory.copied_in.counted(), memory.copied_out.counted());
    let mut devices = 0;
    dma.registry.lock().for_each(&mut |flow| {
        devices += 1;
        copied_in += flow.counted(Count::CopiedIn);
        copied_out += flow.counted(Count::CopiedOut);
    });
    writeln!(out, "devices: {devices}")?;
    writeln!(out, "size: {}", memory.size())?;
    writeln!(out, "free: {}", memory.free())?;
    writeln!(out, "largest_free: {}", memory.pool.largest_free())?;
    writeln!(out, "highest: {}", memory.size_most.counted())?;
    writeln!(out, "min: {}", memory.bounds.min)?;
    writeln!(out, "max: {}", memory.bounds.max)?;
    writeln!(out, "largest_mapping: {}", memory.bounds.unit)?;
    writeln!(out, "kept: {}", memory.kept())?;
    writeln!(out, "grown: {}", memory.grown.counted())?;
    writeln!(out, "shrunk: {}", memory.shrunk.counted())?;
    writeln!(out, "grow_failed: {}", memory.grow_failed.counted())?;
    writeln!(out, "flips: {}", shared::counters().flips)?;
    writeln!(out, "bytes_copied_in: {copied_in}")?;
    writeln!(out, "bytes_copied_out: {copied_out}")?;
    refusals(&memory.refused, out)
}
