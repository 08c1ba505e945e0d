//! Looks for bytes in the memory of a running process, as root can.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use memchr::memmem;
use rustix::process::Pid;

/// What is looked for.
#[derive(Clone)]
pub(crate) struct Needle {
    name: String,
    bytes: Vec<u8>,
}

/// Where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) name: String,
    pub(crate) address: u64,
    pub(crate) mapping: Mapping,
}

/// One line of `/proc/PID/maps`, with its flags (see `proc_pid_smaps(5)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    start: u64,
    end: u64,
    name: String,
    flags: Vec<String>,
}

impl Needle {
    pub(crate) fn new(name: &str, bytes: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            bytes: bytes.to_vec(),
        }
    }
}

impl Mapping {
    /// Locked, not dumped, and wiped in a forked child.
    pub(crate) fn is_locked_away(&self) -> bool {
        ["lo", "dd", "wf"]
            .iter()
            .all(|flag| self.flags.iter().any(|found| found == flag))
    }

    fn is_secret(&self) -> bool {
        self.name.starts_with("/secretmem")
    }
}

/// Every occurrence of every needle in all that can be read.
///
/// Panics when something cannot be read that is no secret memory, and when secret
/// memory can.
pub(crate) fn scan(pid: Pid, needles: &[Needle]) -> Vec<Finding> {
    let memory = File::open(format!("/proc/{}/mem", pid.as_raw_nonzero())).expect("root may");
    let mut found = Vec::new();
    for mapping in mappings(pid) {
        let length = usize::try_from(mapping.end - mapping.start).expect("64 bits");
        let mut bytes = vec![0; length];
        let read = memory.read_exact_at(&mut bytes, mapping.start);
        if mapping.is_secret() {
            assert!(read.is_err(), "secret memory was read: {mapping:?}");
            continue;
        }
        if let Err(error) = read {
            // It may be gone by now, or grow, as a stack does.
            let still = mappings(pid).contains(&mapping);
            assert!(!still, "{mapping:?}: {error}");
            continue;
        }
        for needle in needles {
            for at in memmem::find_iter(&bytes, &needle.bytes) {
                found.push(Finding {
                    name: needle.name.clone(),
                    address: mapping.start + at as u64,
                    mapping: mapping.clone(),
                });
            }
        }
    }
    found
}

/// Those of which something is in memory.
fn mappings(pid: Pid) -> Vec<Mapping> {
    let path = format!("/proc/{}/smaps", pid.as_raw_nonzero());
    let mut mappings: Vec<Mapping> = Vec::new();
    let mut empty = Vec::new();
    for line in super::read_text(Path::new(&path)).lines() {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        match (first, first.split_once('-')) {
            ("VmFlags:", _) => {
                let last = mappings.last_mut().expect("after its mapping");
                last.flags = words.map(str::to_owned).collect();
            }
            ("Rss:", _) => empty.push(words.next() == Some("0")),
            (_, Some((start, end))) if !first.ends_with(':') => {
                let number = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
                mappings.push(Mapping {
                    start: number(start),
                    end: number(end),
                    name: words.skip(4).collect::<Vec<_>>().join(" "),
                    flags: Vec::new(),
                });
            }
            _ => {}
        }
    }
    let kernel = |mapping: &Mapping| mapping.name.starts_with("[v");
    let pairs = mappings.into_iter().zip(empty);
    pairs
        .filter(|(mapping, empty)| (!empty || mapping.is_secret()) && !kernel(mapping))
        .map(|(mapping, _)| mapping)
        .collect()
}
