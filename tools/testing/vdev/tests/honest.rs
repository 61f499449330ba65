// SPDX-License-Identifier: GPL-2.0
//! What well-behaved devices do.

mod common;

use common::{
    Driver, ACCESS_PLATFORM, DATA, EVENT_IDX, FLUSH, GET_ID, IN, INDIRECT, INDIRECT_DESC, MQ,
    MRG_RXBUF, OUT, RAM, TABLE, VERSION_1, WRITE,
};
use vdev::blk::splitmix64;

#[test]
fn a_disk_keeps_what_is_written() {
    let mut driver = Driver::new("blk,size=1M", 0);
    assert_eq!(driver.register(0x2000), 2048u64.to_le_bytes());
    driver.put(DATA, &[7; 1024]);
    let pieces = [(DATA, 512, 0), (DATA + 512, 512, 0)];
    assert_eq!(driver.request(OUT, 5, &pieces), (0, vec![(0, 1)]));
    assert_eq!(driver.request(FLUSH, 0, &[]), (0, vec![(0, 1)]));
    let pieces = [(DATA + 0x1000, 1000, WRITE), (DATA + 0x3000, 1048, WRITE)];
    assert_eq!(driver.request(IN, 4, &pieces), (0, vec![(0, 2049)]));
    let mut expected = [vec![0; 512], vec![7; 1024], vec![0; 512]].concat();
    assert_eq!(driver.get(DATA + 0x1000, 1000), expected[..1000]);
    assert_eq!(driver.get(DATA + 0x3000, 1048), expected.split_off(1000));
    assert_eq!(driver.interrupts, [0, 0, 0]);
}

#[test]
fn disks_differ_in_what_is_on_them() {
    for (spec, expected) in [
        ("blk,pattern", splitmix64(512)),
        ("blk,null", 0),
        ("blk", 0),
    ] {
        let mut driver = Driver::new(spec, 0);
        driver.put(DATA, &[1; 512]);
        let (status, _) = driver.request(IN, 1, &[(DATA, 512, WRITE)]);
        let word = driver.get(DATA, 8);
        assert_eq!(
            (status, word),
            (0, expected.to_le_bytes().to_vec()),
            "{spec}"
        );
    }
    let mut driver = Driver::new("blk,null", 0);
    driver.put(DATA, &[1; 512]);
    assert_eq!(driver.request(OUT, 0, &[(DATA, 512, 0)]).0, 0);
    assert_eq!(driver.request(IN, 0, &[(DATA, 512, WRITE)]).0, 0);
    assert_eq!(driver.get(DATA, 512), [0; 512]);
}

#[test]
fn a_disk_tells_its_serial_number_and_refuses_the_rest() {
    let mut driver = Driver::new("blk,size=1M,serial=disk-7", 0);
    let id = [(DATA, 20, WRITE)];
    assert_eq!(driver.request(GET_ID, 0, &id), (0, vec![(0, 21)]));
    assert_eq!(driver.get(DATA, 8), b"disk-7\0\0");
    let data = [(DATA, 1024, WRITE)];
    assert_eq!(driver.request(IN, 2047, &data), (1, vec![(0, 1)]));
    assert_eq!(driver.request(IN, u64::MAX, &data).0, 1);
    assert_eq!(driver.request(OUT, 2048, &[(DATA, 512, 0)]).0, 1);
    assert_eq!(driver.request(99, 0, &data).0, 2);
}

#[test]
fn indirect_tables_are_followed_and_in_the_account() {
    let mut driver = Driver::new("blk,pattern", INDIRECT_DESC);
    driver.put(DATA - 32, &[0; 16]);
    let pieces = [
        (DATA - 32, 16, 0),
        (DATA + 0x5000, 512, WRITE),
        (DATA - 8, 1, WRITE),
    ];
    driver.chain(TABLE, 0, &pieces);
    driver.offer(0, 3, &[(TABLE, 48, INDIRECT)]);
    driver.notify(0);
    assert_eq!(driver.used(0), [(3, 513)]);
    assert_eq!(driver.get(DATA + 0x5000, 8), splitmix64(0).to_le_bytes());
    let rings = [RAM, RAM + 0x1000, RAM + 0x2000];
    for page in rings.into_iter().chain([TABLE, DATA - 32, DATA + 0x5000]) {
        assert!(driver.device.watch.has_seen(page), "{page:#x}");
    }
    for page in [RAM + 0x3000, TABLE + 0x1000, DATA + 0x4000, DATA + 0x6000] {
        assert!(!driver.device.watch.has_seen(page), "{page:#x}");
    }
    assert_eq!(driver.device.watch.refused(), 0);
}

#[test]
fn memory_that_is_none_is_noticed_and_harmless() {
    let mut driver = Driver::new("blk", 0);
    let outside = [(1 << 39, 512, WRITE)];
    assert_eq!(driver.request(IN, 0, &outside), (1, vec![(0, 1)]));
    assert_eq!(driver.device.watch.refused(), 1);
    assert!(driver.device.watch.has_seen(1 << 39));
}

#[test]
fn features_are_those_asked_for() {
    let mut driver = Driver::without_driver("blk");
    let all = VERSION_1 | ACCESS_PLATFORM | INDIRECT_DESC | EVENT_IDX;
    assert_eq!(driver.offered() & all, all);
    assert!(driver.negotiate(all));
    assert!(!driver.negotiate(all & !VERSION_1));
    assert!(
        !driver.negotiate(all & !ACCESS_PLATFORM),
        "it is behind an IOMMU"
    );
    let mut driver = Driver::without_driver("net,no-access-platform,no-indirect,no-event-idx");
    assert_eq!(driver.offered() & all, VERSION_1);
    assert!(driver.negotiate(VERSION_1));
    assert!(
        !driver.negotiate(VERSION_1 | ACCESS_PLATFORM),
        "never offered"
    );
}

#[test]
fn a_driver_is_interrupted_when_it_wants_to_be() {
    let mut driver = Driver::new("blk", EVENT_IDX);
    driver.used_event(0, 2);
    for expected in [0, 0, 1, 1] {
        driver.request(FLUSH, 0, &[]);
        assert_eq!(driver.interrupts.len(), expected);
    }
    let mut driver = Driver::new("blk", 0);
    driver.put(RAM + 0x1000, &[1, 0]);
    driver.request(FLUSH, 0, &[]);
    assert!(driver.interrupts.is_empty());
}

#[test]
fn nothing_happens_before_the_driver_is_ready_or_after_a_reset() {
    let mut driver = Driver::new("blk", 0);
    driver.write(0x14, &[0]);
    assert_eq!(driver.request(FLUSH, 0, &[]), (0xee, vec![]));
    assert!(driver.negotiate(VERSION_1 | ACCESS_PLATFORM));
    driver.enable(0);
    driver.notify(0);
    assert_eq!(driver.used_index(0), 0);
    driver.write(0x14, &[15]);
    driver.notify(0);
    assert_eq!(driver.used_index(0), 1);
}

#[test]
fn frames_come_back_on_their_pair_in_order() {
    let mut driver = Driver::new("net,queues=2", MQ);
    for number in 0..3 {
        driver.send(1, number.into(), &Driver::frame(number, 60));
    }
    // Nothing is taken that has nowhere to go: one frame is under way.
    assert_eq!(driver.used(3), [(0, 0)]);
    for buffer in 0..3u16 {
        let at = DATA + 0x8_0000 + 0x1000 * u64::from(buffer);
        driver.offer(2, buffer, &[(at, 1526, WRITE)]);
    }
    driver.notify(2);
    assert_eq!(driver.used(2), [(0, 72), (1, 72), (2, 72)]);
    assert_eq!(driver.used(3), [(1, 0), (2, 0)]);
    for number in 0..3u8 {
        let got = driver.get(DATA + 0x8_0000 + 0x1000 * u64::from(number), 72);
        assert_eq!(got[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(
            (&got[12..18], &got[18..24]),
            (&[0xbb; 6][..], &[0xaa; 6][..])
        );
        assert_eq!(got[24..], Driver::frame(number, 60)[12..]);
    }
    assert_eq!(driver.used_index(0), 0, "the other pair");
}

#[test]
fn a_long_frame_takes_several_buffers_or_none() {
    let buffers = |driver: &mut Driver| {
        for buffer in 0..3u16 {
            let at = DATA + 0x8_0000 + 0x1000 * u64::from(buffer);
            driver.offer(0, buffer, &[(at, 1000, WRITE)]);
        }
        driver.notify(0);
    };
    let mut driver = Driver::new("net", MRG_RXBUF);
    buffers(&mut driver);
    driver.send(0, 0, &Driver::frame(9, 2500));
    assert_eq!(driver.used(0), [(0, 1000), (1, 1000), (2, 512)]);
    assert_eq!(driver.get(DATA + 0x8_0000 + 10, 2), [3, 0]);
    assert_eq!(driver.get(DATA + 0x8_2000 + 500, 12), [9; 12]);
    let mut driver = Driver::new("net,no-mrg-rxbuf", 0);
    buffers(&mut driver);
    driver.send(0, 0, &Driver::frame(9, 2500));
    assert_eq!((driver.used(0), driver.used(1)), (vec![], vec![(0, 0)]));
    driver.send(0, 1, &Driver::frame(8, 500));
    assert_eq!(driver.used(0), [(0, 512)]);
}

#[test]
fn the_number_of_pairs_can_be_set() {
    let mut driver = Driver::new("net,queues=2", MQ);
    for (class, pairs, expected) in [(4, 2, 0), (4, 1, 0), (4, 3, 1), (4, 0, 1), (0, 1, 1)] {
        driver.put(DATA, &[class, 0, pairs, 0, 0xee]);
        driver.offer(
            4,
            0,
            &[(DATA, 2, 0), (DATA + 2, 2, 0), (DATA + 4, 1, WRITE)],
        );
        driver.notify(4);
        assert_eq!(driver.used(4), [(0, 1)]);
        assert_eq!(driver.get(DATA + 4, 1), [expected]);
    }
}

#[test]
fn a_queue_can_be_reset_alone() {
    let ring_reset = 1 << 40;
    let mut driver = Driver::new("net", ring_reset);
    driver.offer(0, 0, &[(DATA, 1526, WRITE)]);
    driver.notify(0);
    driver.write(0x16, &0u16.to_le_bytes());
    driver.write(0x3a, &1u16.to_le_bytes());
    assert_eq!(
        (driver.register(0x3a), driver.register(0x1c)),
        ([0, 0], [0, 0])
    );
    driver.send(0, 0, &Driver::frame(1, 60));
    assert_eq!(driver.used_index(0), 0, "its buffer is forgotten");
    assert_eq!(driver.used(1), [(0, 0)]);
}
