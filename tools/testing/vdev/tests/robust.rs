// SPDX-License-Identifier: GPL-2.0
//! Drivers that are hostile themselves: whatever they write, the device goes on.

mod common;

use common::{Driver, ACCESS_PLATFORM, EVENT_IDX, FLUSH, INDIRECT_DESC, RAM, VERSION_1};
use proptest::{collection::vec, prelude::*};

#[derive(Clone, Debug)]
enum Step {
    Register(u64, Vec<u8>),
    Memory(u64, Vec<u8>),
    Notify(u16),
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || vec(any::<u8>(), 1..=8);
    prop_oneof![
        1 => (0u64..0x40, bytes()).prop_map(|(at, bytes)| Step::Register(at, bytes)),
        1 => (any::<u64>(), bytes()).prop_map(|(at, bytes)| Step::Register(at, bytes)),
        // Near the rings, where it matters.
        4 => (0u64..0x3000, bytes()).prop_map(|(at, bytes)| Step::Memory(at, bytes)),
        // Descriptors that point to descriptors.
        4 => (0u64..8, 0u64..0x4000, any::<u32>(), 0u16..8).prop_map(|(desc, to, len, flags)| {
            let mut bytes = (RAM + to).to_le_bytes().to_vec();
            bytes.extend((len >> (len % 32)).to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            Step::Memory(16 * desc, bytes)
        }),
        4 => (0u16..4).prop_map(Step::Notify),
        1 => Just(Step::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_a_driver_does_ends_the_device(
        net in any::<bool>(),
        steps in vec(step(), 1..200),
    ) {
        let spec = if net { "net,hostile=random,after=0" } else { "blk,size=1M,hostile=random,after=0" };
        let mut driver = Driver::new(spec, INDIRECT_DESC | EVENT_IDX);
        for step in steps {
            match step {
                Step::Register(at, bytes) => driver.write(at, &bytes),
                Step::Memory(at, bytes) => driver.put(RAM + at, &bytes),
                Step::Notify(queue) => driver.notify(queue),
                Step::Tick => driver.device.tick(&mut driver.ram),
            }
            let mut read = [0; 8];
            driver.device.bar0_read(0x14, &mut read);
        }
        // And it serves the next one.
        driver.device.power_cycle();
        prop_assert!(driver.negotiate(VERSION_1 | ACCESS_PLATFORM));
    }
}

#[test]
fn a_chain_without_an_end_is_none() {
    let mut driver = Driver::new("blk", 0);
    driver.offer(0, 0, &[(RAM, 16, 1), (RAM, 16, 1)]);
    driver.desc(RAM + 16, (RAM, 16, 1), 0);
    driver.notify(0);
    assert_eq!(driver.used_index(0), 0);
    assert_eq!(driver.request(FLUSH, 0, &[]).0, 0, "the next one is served");
}
