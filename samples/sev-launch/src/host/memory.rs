// SPDX-License-Identifier: GPL-2.0
//! The guest's memory: mapped into this process, as with every virtual machine. The firmware encrypts it in place, so
//! from then on this side sees ciphertext.

use crate::image::{Region, PAGE};
use anyhow::{Context, Result};
use kvm_bindings::{kvm_enc_region, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{Bytes, MmapRegion, VolatileMemory, VolatileSlice};

/// Everything the guest has, in ranges of guest physical addresses.
pub(crate) struct Memory {
    ranges: Vec<Range>,
}

struct Range {
    gpa: u64,
    mapping: MmapRegion,
}

impl Range {
    fn addr(&self) -> u64 {
        self.mapping.as_ptr().expose_provenance() as u64
    }

    fn len(&self) -> u64 {
        self.mapping.size() as u64
    }
}

impl Memory {
    /// Memory where the image has its regions, filled with them.
    pub(crate) fn with(image: &[Region]) -> Result<Self> {
        let ranges = image
            .iter()
            .map(|region| {
                let mapping = MmapRegion::new(region.bytes.len()).context("guest memory")?;
                mapping.as_volatile_slice().copy_from(&region.bytes);
                Ok(Range {
                    gpa: region.gpa,
                    mapping,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { ranges })
    }

    /// Makes it the memory of a VM, pinned because encrypted pages cannot be moved: where a page is goes into its
    /// encryption.
    ///
    /// The VM must be gone before `self` is, as in [`super::guest::Guest`].
    #[expect(
        unsafe_code,
        reason = "the crate cannot know how long the memory lives"
    )]
    pub(super) fn attach(&self, vm: &VmFd) -> Result<()> {
        for (slot, range) in (0..).zip(&self.ranges) {
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: range.gpa,
                memory_size: range.len(),
                userspace_addr: range.addr(),
            };
            // SAFETY:
            // - The range is a mapping of that length, and nothing else of this process lies in it.
            // - It is unmapped after the VM is gone: `Guest` has the only VM this is called for, owns both, and drops
            //   the VM first.
            unsafe { vm.set_user_memory_region(region) }.context("KVM_SET_USER_MEMORY_REGION")?;
            vm.register_enc_memory_region(&kvm_enc_region {
                addr: range.addr(),
                size: range.len(),
            })
            .context("KVM_MEMORY_ENCRYPT_REG_REGION")?;
        }
        Ok(())
    }

    /// Address, in this process, and length of each range.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        self.ranges
            .iter()
            .map(|range| (range.gpa, range.addr(), range.len()))
    }

    /// The guest physical address of every page.
    pub(super) fn pages(&self) -> impl Iterator<Item = u64> + '_ {
        self.ranges
            .iter()
            .flat_map(|range| (range.gpa..range.gpa + range.len()).step_by(PAGE))
    }

    /// The address, in this process, of `len` bytes at a guest physical address.
    pub(super) fn host_address(&self, gpa: u64, len: usize) -> Result<u64> {
        let (range, offset) = self.find(gpa, len)?;
        Ok(range.addr() + offset as u64)
    }

    /// What this side sees of the guest's memory.
    pub(crate) fn read(&self, gpa: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.slice(gpa, len)?
            .read_slice(&mut bytes, 0)
            .context("guest memory")?;
        Ok(bytes)
    }

    fn slice(&self, gpa: u64, len: usize) -> Result<VolatileSlice<'_>> {
        let (range, offset) = self.find(gpa, len)?;
        range.mapping.get_slice(offset, len).context("guest memory")
    }

    fn find(&self, gpa: u64, len: usize) -> Result<(&Range, usize)> {
        self.ranges
            .iter()
            .find_map(|range| {
                let offset = gpa.checked_sub(range.gpa)?;
                let end = offset.checked_add(len as u64)?;
                Some((range, usize::try_from(offset).ok()?)).filter(|_| end <= range.len())
            })
            .with_context(|| format!("the guest has no memory at {gpa:#x}"))
    }
}
