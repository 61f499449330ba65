// SPDX-License-Identifier: GPL-2.0

//! Which virtio devices do their DMA through the pool, and which stay as they are.

use core::fmt;

/// `VIRTIO_RING_F_INDIRECT_DESC`.
const INDIRECT_DESC: u64 = 1 << 28;
/// `VIRTIO_F_RING_PACKED`.
const RING_PACKED: u64 = 1 << 34;
/// `VIRTIO_BALLOON_F_FREE_PAGE_HINT` and `VIRTIO_BALLOON_F_REPORTING`.
const BALLOON_FREE_PAGES: u64 = 1 << 3 | 1 << 5;

const BALLOON: u32 = 5;
const NINE_P: u32 = 9;

/// Device ids (virtio specification, section 5) that have a name in the policy and in reports.
const NAMES: [(u32, &str); 17] = [
    (1, "net"),
    (2, "blk"),
    (3, "console"),
    (4, "rng"),
    (BALLOON, "balloon"),
    (8, "scsi"),
    (NINE_P, "9p"),
    (16, "gpu"),
    (18, "input"),
    (19, "vsock"),
    (20, "crypto"),
    (23, "iommu"),
    (24, "mem"),
    (25, "sound"),
    (26, "fs"),
    (27, "pmem"),
    (28, "rpmb"),
];

/// Name of a kind of device, if it has one here.
pub fn name(id: u32) -> Option<&'static str> {
    NAMES
        .iter()
        .find_map(|&(known, name)| (known == id).then_some(name))
}

/// Which devices without `VIRTIO_F_ACCESS_PLATFORM` may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy<'a> {
    /// None, as without the pool.
    None,
    /// All.
    All,
    /// Those of a list: names and ids, with commas between them.
    Listed(&'a str),
}

impl<'a> Policy<'a> {
    /// What `text` says: `none`, `all` or a list.
    ///
    /// # Errors
    ///
    /// The first word that is neither a name nor an id.
    pub fn parse(text: &'a str) -> Result<Self, &'a str> {
        match text {
            "none" | "" => return Ok(Policy::None),
            "all" => return Ok(Policy::All),
            _ => (),
        }
        match text.split(',').find(|word| id_of(word).is_none()) {
            Some(unknown) => Err(unknown),
            None => Ok(Policy::Listed(text)),
        }
    }

    fn admits(self, id: u32) -> bool {
        match self {
            Policy::None => false,
            Policy::All => true,
            Policy::Listed(list) => list.split(',').any(|word| id_of(word) == Some(id)),
        }
    }
}

fn id_of(word: &str) -> Option<u32> {
    let named = NAMES
        .iter()
        .find_map(|&(id, name)| (name == word).then_some(id));
    named.or_else(|| word.parse().ok())
}

/// What a device is and offers.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Device id.
    pub id: u32,
    /// Whether it offers `VIRTIO_F_VERSION_1`.
    pub version_1: bool,
    /// Whether it offers `VIRTIO_F_ACCESS_PLATFORM`.
    pub access_platform: bool,
    /// Whether its transport maps buffers itself (vDPA).
    pub mapped_by_transport: bool,
    /// Whether an IOMMU translates what it accesses.
    pub behind_iommu: bool,
    /// Addresses it can reach.
    pub dma_mask: u64,
    /// Addresses that it must reach: those of all memory.
    pub needed_mask: u64,
}

/// Why a device is not adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A device of before virtio 1.0.
    NotModern,
    /// It does not offer `VIRTIO_F_ACCESS_PLATFORM`, and the policy does not admit it.
    NotAdmitted,
    /// Its transport maps buffers itself.
    MappedByTransport,
    /// An IOMMU is in between.
    BehindIommu,
    /// It cannot reach all memory.
    ShortReach,
    /// Its driver was bound before.
    BoundBefore,
    /// There are as many adopted devices as there can be.
    TooMany,
    /// No memory to keep books on it, or for the pool.
    NoMemory,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::NotModern => "it is no virtio 1.0 device",
            Reason::NotAdmitted => "it does not offer ACCESS_PLATFORM and admit= does not name it",
            Reason::MappedByTransport => "its transport maps buffers itself",
            Reason::BehindIommu => "it is behind an IOMMU",
            Reason::ShortReach => "it cannot reach all memory",
            Reason::BoundBefore => "its driver was bound before; see rebind",
            Reason::TooMany => "too many devices are",
            Reason::NoMemory => "no memory",
        })
    }
}

/// How a device is adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Features its driver must not see: what would hand memory to the device by another way than a buffer that
    /// is mapped for it, and what lets more buffers be in flight than a driver can bear the refusal of.
    pub hidden: u64,
}

/// Whether and how a device is adopted.
///
/// # Errors
///
/// Why it is not.
pub fn judge(offer: &Offer, policy: Policy<'_>) -> Result<Terms, Reason> {
    if offer.mapped_by_transport {
        return Err(Reason::MappedByTransport);
    }
    if !offer.version_1 {
        return Err(Reason::NotModern);
    }
    if !offer.access_platform && !policy.admits(offer.id) {
        return Err(Reason::NotAdmitted);
    }
    if offer.behind_iommu {
        return Err(Reason::BehindIommu);
    }
    if offer.needed_mask & !offer.dma_mask != 0 {
        return Err(Reason::ShortReach);
    }
    let hidden = match offer.id {
        // The device would give the slot back to the host, not the free page.
        BALLOON => BALLOON_FREE_PAGES,
        // Its driver turns a refused buffer into an I/O error: without indirect descriptors the ring is full first,
        // for which it waits.
        NINE_P => INDIRECT_DESC,
        _ => 0,
    };
    // Linux says EIO of a refused buffer when rings are packed (virtqueue_add_packed()), and ENOMEM when they are
    // split: drivers fail then instead of trying again.
    Ok(Terms {
        hidden: hidden | RING_PACKED,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Offer = Offer {
        id: 2,
        version_1: true,
        access_platform: true,
        mapped_by_transport: false,
        behind_iommu: false,
        dma_mask: u64::MAX,
        needed_mask: (1 << 40) - 1,
    };

    #[test]
    fn policies_are_words_names_and_ids() {
        assert_eq!(Policy::parse("none"), Ok(Policy::None));
        assert_eq!(Policy::parse(""), Ok(Policy::None));
        assert_eq!(Policy::parse("all"), Ok(Policy::All));
        assert_eq!(Policy::parse("blk,1"), Ok(Policy::Listed("blk,1")));
        assert_eq!(Policy::parse("blk,disk"), Err("disk"));
        assert_eq!(Policy::parse("blk,"), Err(""));
        assert_eq!(Policy::parse("all,blk"), Err("all"));
        assert_eq!(Policy::parse("-1"), Err("-1"));
    }

    #[test]
    fn a_list_admits_what_it_names() {
        let policy = Policy::parse("blk,9p,44").unwrap();
        for (id, admitted) in [(2, true), (9, true), (44, true), (1, false), (4, false)] {
            let offer = Offer {
                id,
                access_platform: false,
                ..FINE
            };
            assert_eq!(judge(&offer, policy).is_ok(), admitted, "{id}");
            assert_eq!(
                judge(&offer, Policy::None),
                Err(Reason::NotAdmitted),
                "{id}"
            );
            assert!(judge(&offer, Policy::All).is_ok(), "{id}");
        }
    }

    #[test]
    fn what_cannot_work_is_left_alone() {
        let cases = [
            (
                Offer {
                    version_1: false,
                    ..FINE
                },
                Reason::NotModern,
            ),
            (
                Offer {
                    mapped_by_transport: true,
                    ..FINE
                },
                Reason::MappedByTransport,
            ),
            (
                Offer {
                    behind_iommu: true,
                    ..FINE
                },
                Reason::BehindIommu,
            ),
            (
                Offer {
                    dma_mask: u64::from(u32::MAX),
                    ..FINE
                },
                Reason::ShortReach,
            ),
        ];
        for (offer, reason) in cases {
            assert_eq!(judge(&offer, Policy::All), Err(reason));
        }
        assert_eq!(judge(&FINE, Policy::None), Ok(Terms { hidden: 1 << 34 }));
    }

    #[test]
    fn features_that_go_round_the_pool_or_make_errors_of_refusals_are_hidden() {
        let hidden = |id| judge(&Offer { id, ..FINE }, Policy::None).map(|terms| terms.hidden);
        assert_eq!(hidden(5), Ok(0x4_0000_0028));
        assert_eq!(hidden(9), Ok(0x4_1000_0000));
        assert_eq!(hidden(1), Ok(0x4_0000_0000));
    }

    #[test]
    fn names_are_those_of_the_specification() {
        assert_eq!(name(9), Some("9p"));
        assert_eq!(name(4), Some("rng"));
        assert_eq!(name(99), None);
    }
}
