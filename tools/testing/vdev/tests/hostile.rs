// SPDX-License-Identifier: GPL-2.0
//! That each lie is one, as a driver would see it.

mod common;

use common::{Driver, DATA, FLUSH, IN, INDIRECT, INDIRECT_DESC, MRG_RXBUF, OUT, RAM, TABLE, WRITE};

fn liar(mode: &str) -> Driver {
    Driver::new(&format!("blk,size=1M,pattern,after=1,hostile={mode}"), 0)
}

/// What comes back for two reads, the second of which is lied about.
fn reads(mode: &str) -> [Vec<(u32, u32)>; 2] {
    let mut driver = liar(mode);
    [0, 1].map(|_| driver.request(IN, 0, &[(DATA, 512, WRITE)]).1)
}

#[test]
fn ids_and_lengths_lie() {
    for mode in [
        "id-range",
        "id-unknown",
        "id-twice",
        "len-zero",
        "len-long",
        "len-max",
        "silent",
    ] {
        let [first, second] = reads(mode);
        assert_eq!(first, [(0, 513)], "{mode}");
        let lies = match mode {
            "id-range" => second.len() == 1 && second[0].0 >= 8,
            "id-unknown" => second.len() == 1 && (1..8).contains(&second[0].0),
            "id-twice" => second == [(0, 513), (0, 513)],
            "len-zero" => second == [(0, 0)],
            "len-long" => second.len() == 1 && second[0].0 == 0 && second[0].1 > 513,
            "len-max" => second == [(0, u32::MAX)],
            _ => second.is_empty(),
        };
        assert!(lies, "{mode}: {second:?}");
    }
}

#[test]
fn the_used_index_jumps() {
    let mut driver = liar("index-jump");
    driver.request(FLUSH, 0, &[]);
    assert_eq!(driver.used_index(0), 1);
    driver.notify(0);
    driver.request(FLUSH, 0, &[]);
    assert!(driver.used_index(0).wrapping_sub(2) >= 8);
}

#[test]
fn memory_that_was_not_given_is_written() {
    let mut driver = liar("beyond");
    driver.request(FLUSH, 0, &[]);
    driver.put(DATA + 512, &[0; 1024]);
    assert_eq!(driver.request(IN, 0, &[(DATA, 512, WRITE)]).0, 0);
    assert!(driver.get(DATA + 512, 600).iter().any(|byte| *byte != 0));
    assert_eq!(driver.get(DATA + 512 + 600, 400), [0; 400]);

    let mut driver = liar("read-only");
    driver.put(DATA, &[5; 512]);
    driver.request(OUT, 0, &[(DATA, 512, 0)]);
    assert_eq!(driver.get(DATA, 512), [5; 512]);
    driver.request(OUT, 1, &[(DATA, 512, 0)]);
    assert_ne!(driver.get(DATA, 512), [5; 512]);
}

#[test]
fn descriptors_change_while_the_device_has_them() {
    let mut driver = Driver::new("blk,after=0,hostile=descriptors", INDIRECT_DESC);
    let pieces = [(DATA - 32, 16, 0), (DATA - 8, 1, WRITE)];
    driver.chain(TABLE, 0, &pieces);
    driver.offer(0, 2, &[(TABLE, 32, INDIRECT)]);
    let before = [
        driver.get(RAM + 32, 16),
        driver.get(TABLE, 16),
        driver.get(TABLE + 16, 16),
    ];
    driver.notify(0);
    assert_eq!(driver.used(0), [(2, 513 - 512)]);
    let after = [
        driver.get(RAM + 32, 16),
        driver.get(TABLE, 16),
        driver.get(TABLE + 16, 16),
    ];
    for (before, after) in before.iter().zip(&after) {
        assert_ne!(before, after);
    }
}

#[test]
fn buffers_are_scribbled_on_after_they_were_given_back() {
    let mut driver = liar("scribble");
    driver.request(IN, 0, &[(DATA, 512, WRITE)]);
    assert!(!driver.device.is_busy());
    let (status, _) = driver.request(IN, 0, &[(DATA, 512, WRITE)]);
    assert_eq!(status, 0);
    let mut last = driver.get(DATA, 512);
    let mut ticks = 0;
    while driver.device.is_busy() {
        driver.device.tick(&mut driver.ram);
        assert_ne!(driver.get(DATA, 512), last);
        assert_eq!(driver.get(DATA - 8, 1), [0], "the status stays");
        last = driver.get(DATA, 512);
        ticks += 1;
    }
    assert!(ticks > 100, "{ticks}");
}

#[test]
fn configuration_and_interrupts_come_unasked() {
    let mut driver = liar("config");
    let before: [u8; 8] = driver.register(0x2000);
    driver.request(FLUSH, 0, &[]);
    assert_eq!(driver.register(0x2000), before);
    let generation: [u8; 1] = driver.register(0x15);
    driver.interrupts.clear();
    for _ in 0..4 {
        driver.request(FLUSH, 0, &[]);
    }
    assert_ne!(driver.register(0x2000), before);
    assert_eq!(driver.register(0x15), [generation[0] + 4]);
    assert_eq!(
        driver
            .interrupts
            .iter()
            .filter(|vector| **vector == 1)
            .count(),
        4
    );

    let mut driver = liar("interrupts");
    driver.request(FLUSH, 0, &[]);
    driver.request(FLUSH, 0, &[]);
    assert_eq!(driver.interrupts.len(), 2 + 64);
}

#[test]
fn a_reset_is_only_said_to_be_done() {
    let mut driver = liar("reset");
    driver.request(FLUSH, 0, &[]);
    driver.request(FLUSH, 0, &[]);
    driver.write(0x14, &[0]);
    assert_eq!(driver.register(0x14), [0]);
    let before = driver.used_index(0);
    driver.device.tick(&mut driver.ram);
    assert_eq!(driver.used_index(0), before + 1);
    while driver.device.is_busy() {
        driver.device.tick(&mut driver.ram);
    }
}

#[test]
fn a_frame_says_it_is_in_more_buffers_than_there_are() {
    let mut driver = Driver::new("net,after=0,hostile=num-buffers", MRG_RXBUF);
    driver.offer(0, 0, &[(DATA + 0x8_0000, 1526, WRITE)]);
    driver.send(0, 0, &Driver::frame(1, 60));
    assert_eq!(driver.used(0), [(0, 72)]);
    assert_eq!(driver.get(DATA + 0x8_0000 + 10, 2), [0xff, 0xff]);
}
