// SPDX-License-Identifier: GPL-2.0
//! Sealing: from then on what the guest writes to private memory is nowhere else.
//!
//! Until then both memories are one file with two names, mapped into QEMU twice. Sealing gives private memory a file of
//! its own under its name, and maps that in the place of the old one. No virtual CPU may run meanwhile, because what it
//! writes could get lost: the lab has stopped them all when it orders something.

use crate::memory::{self, PageTables};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    ptr,
};

/// Where processors without paging execute, which know no C-bit: firmware, its SMM handler, and the code by which a
/// kernel starts a CPU. Linux puts nothing else there. Both memories keep its contents.
const BELOW_PAGING: u64 = 1 << 20;

/// What is sealed, and who may order it.
pub(crate) struct Seal {
    /// The lab's.
    pub(crate) orders: UnixStream,
    /// The file that devices and the host see.
    pub(crate) shared: PathBuf,
    /// Its other name, until it is sealed.
    pub(crate) private: PathBuf,
}

impl Seal {
    /// Carries out orders until the lab has gone.
    ///
    /// `seal CR3 LEVELS C-BIT` (hexadecimal, 4 or 5, decimal) is answered by `done PAGES`, the number of shared ones, or
    /// `failed WHY`; so is `count CR3 LEVELS C-BIT`, which changes nothing.
    pub(crate) fn serve(self) -> io::Result<()> {
        for order in BufReader::new(self.orders.try_clone()?).lines() {
            let done = parse(&order?).and_then(|order| match order {
                Order::Seal(tables) => self.seal(tables),
                Order::Count(tables) => self.count(tables),
            });
            let answer = match done {
                Ok(pages) => format!("done {pages}\n"),
                Err(why) => format!("failed {why}\n"),
            };
            (&self.orders).write_all(answer.as_bytes())?;
        }
        Ok(())
    }

    fn count(&self, tables: PageTables) -> Result<usize, String> {
        let memory = File::open(&self.private).map_err(|error| named(&self.private, error))?;
        Ok(count(&memory::shared_pages(&memory, tables)?))
    }

    fn seal(&self, tables: PageTables) -> Result<usize, String> {
        let maps = fs::read_to_string("/proc/self/maps").map_err(|error| error.to_string())?;
        let mappings = mappings(&maps, &self.private);
        if mappings.is_empty() {
            return Err(format!("{}: not in QEMU's memory", self.private.display()));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let shared = options.open(&self.shared);
        let shared = shared.map_err(|error| named(&self.shared, error))?;
        let is_shared = memory::shared_pages(&shared, tables)?;
        let private = replace(&self.private, is_shared.len() as u64 * memory::PAGE)
            .and_then(|private| {
                memory::separate(&shared, &private, &is_shared, |gpa| gpa < BELOW_PAGING)?;
                Ok(private)
            })
            .map_err(|error| named(&self.private, error))?;
        for mapping in &mappings {
            // SAFETY: by `Seal`'s making the private file is the guest's private memory; QEMU has mapped it here, and
            // the new file has what the old one had where a CPU with the C-bit looks.
            unsafe { mapping.map_to(&private) }.map_err(|error| named(&self.private, error))?;
        }
        Ok(count(&is_shared))
    }
}

fn count(is_shared: &[bool]) -> usize {
    is_shared.iter().filter(|shared| **shared).count()
}

fn named(path: &Path, error: io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// What is to be done, with the page tables that a processor has now.
#[derive(Debug, PartialEq)]
enum Order {
    Seal(PageTables),
    Count(PageTables),
}

fn parse(order: &str) -> Result<Order, String> {
    let words: Vec<&str> = order.split(' ').collect();
    let tables = match words[..] {
        [_, cr3, levels @ ("4" | "5"), c_bit] => {
            let cr3 = u64::from_str_radix(cr3, 16).ok();
            cr3.zip(c_bit.parse().ok()).map(|(cr3, c_bit)| PageTables {
                cr3,
                five_levels: levels == "5",
                c_bit,
            })
        }
        _ => None,
    };
    match (words.first(), tables) {
        (Some(&"seal"), Some(tables)) => Ok(Order::Seal(tables)),
        (Some(&"count"), Some(tables)) => Ok(Order::Count(tables)),
        _ => Err(format!("unknown order {order}")),
    }
}

/// A new file of that length in the place of another, which loses its name.
fn replace(path: &Path, len: u64) -> io::Result<File> {
    fs::remove_file(path)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    file.set_len(len)?;
    Ok(file)
}

/// A part of a file that is mapped into this process.
#[derive(Debug, PartialEq)]
struct Mapping {
    start: usize,
    len: usize,
    offset: u64,
}

/// Where a file is mapped, by what /proc/self/maps says.
fn mappings(maps: &str, path: &Path) -> Vec<Mapping> {
    maps.lines()
        .filter_map(|line| {
            // start-end permissions offset device inode path
            let (fields, mapped) = line.split_at_checked(line.find('/')?)?;
            let mut fields = fields.split_ascii_whitespace();
            let (start, end) = fields.next()?.split_once('-')?;
            let start = usize::from_str_radix(start, 16).ok()?;
            let end = usize::from_str_radix(end, 16).ok()?;
            let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
            (Path::new(mapped) == path).then_some(Mapping {
                start,
                len: end - start,
                offset,
            })
        })
        .collect()
}

impl Mapping {
    /// Map another file in the same place.
    ///
    /// # Safety
    ///
    /// The mapping is memory that anybody may change at any time.
    unsafe fn map_to(&self, file: &File) -> io::Result<()> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_SHARED | libc::MAP_FIXED;
        // CAST: what the kernel gave us as an offset.
        let offset = self.offset as libc::off_t;
        let place = ptr::with_exposed_provenance_mut(self.start);
        // SAFETY: by the caller's promise nobody relies on what is there.
        let mapped = unsafe { libc::mmap(place, self.len, access, kind, file.as_raw_fd(), offset) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn orders_are_understood_or_refused() {
        let tables = PageTables {
            cr3: 0x80_0012_3000,
            five_levels: true,
            c_bit: 39,
        };
        assert_eq!(parse("seal 8000123000 5 39"), Ok(Order::Seal(tables)));
        assert_eq!(parse("count 8000123000 5 39"), Ok(Order::Count(tables)));
        for bad in [
            "",
            "seal",
            "seal 1000 3 39",
            "seal x 4 39",
            "seal 1000 4 39 1",
            "open 1000 4 39",
        ] {
            assert!(parse(bad).unwrap_err().contains("unknown order"), "{bad}");
        }
    }

    #[test]
    fn a_file_is_found_in_the_maps() {
        let maps = "\
7f00-8000 rw-s 00000000 00:1b 5   /run/lab/private.ram
8000-9000 rw-p 00000000 00:00 0
9000-a000 rw-s 00000000 00:1b 5   /run/lab/shared.ram
a000-c000 rw-s 00100000 00:1b 5   /run/lab/private.ram
c000-d000 r--p 00100000 00:1b 5   /run/lab/private.ram (deleted)
d000-e000 rw-p 00000000 00:00 0   [heap]
";
        let expected = [
            Mapping {
                start: 0x7f00,
                len: 0x100,
                offset: 0,
            },
            Mapping {
                start: 0xa000,
                len: 0x2000,
                offset: 0x10_0000,
            },
        ];
        assert_eq!(mappings(maps, Path::new("/run/lab/private.ram")), expected);
    }

    /// An order's answer with files as the lab makes them: of 4 pages, with a table in each of the last ones, and one
    /// entry in the lowest of those.
    fn answer(order: &str, entry: u64) -> String {
        let directory = tempfile::tempdir().unwrap();
        let names = ["shared", "private"].map(|name| directory.path().join(name));
        let mut memory = vec![0; 4 << 12];
        for (place, entry) in [(0x1ff8, 0x2003), (0x2ff8, 0x3003), (0x3000, entry)] {
            memory[place..place + 8].copy_from_slice(&u64::to_le_bytes(entry));
        }
        fs::write(&names[0], memory).unwrap();
        fs::hard_link(&names[0], &names[1]).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let [shared, private] = names;
        let seal = Seal {
            orders: theirs,
            shared,
            private,
        };
        let server = std::thread::spawn(move || seal.serve());
        (&ours).write_all(format!("{order}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(&ours).read_line(&mut answer).unwrap();
        drop(ours);
        server.join().unwrap().unwrap();
        answer
    }

    #[test]
    fn what_cannot_be_sealed_is_said() {
        assert!(answer("dance", 0).starts_with("failed unknown order dance"));
        let unmapped = answer("seal 8000001000 4 39", 0);
        assert!(unmapped.starts_with("failed ") && unmapped.ends_with("not in QEMU's memory\n"));
    }

    #[test]
    fn shared_pages_are_counted() {
        // 1 GiB from address 0.
        assert_eq!(answer("count 1000 4 39", 0x83), "done 4\n");
        let private = answer("count 1000 4 39", 1 << 39 | 0x83);
        assert!(private.starts_with("failed nothing is shared"), "{private}");
    }

    #[test]
    fn memory_is_mapped_to_another_file_in_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("private");
        fs::write(&path, vec![1; 8192]).unwrap();
        let old = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the place.
        let place = unsafe {
            libc::mmap(
                ptr::null_mut(),
                8192,
                access,
                libc::MAP_SHARED,
                old.as_raw_fd(),
                0,
            )
        };
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let [mapping] = &mappings(&maps, &path)[..] else {
            panic!("not found in {maps}");
        };
        assert_eq!(mapping.start, place as usize);
        let new = replace(&path, 8192).unwrap();
        // SAFETY: the mapping is this test's.
        unsafe { mapping.map_to(&new).unwrap() };
        new.write_all_at(&[2], 5000).unwrap();
        // SAFETY: as above; the byte is within.
        let byte = unsafe { place.cast::<u8>().add(5000).read_volatile() };
        assert_eq!(byte, 2);
        let mut untouched = [0];
        old.read_exact_at(&mut untouched, 5000).unwrap();
        assert_eq!(untouched, [1]);
    }
}
