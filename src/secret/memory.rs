//! Memory that is wiped when it is freed, and locked where it holds secrets.
//!
//! The only module with unsafe code. Three things need it: mapping pages that
//! nobody else can read, placing a typed value in them, and an allocator that
//! wipes what it frees. Invariant: a [`Region`] is zero before its first use and
//! zero again before it is unmapped.

#![expect(
    unsafe_code,
    reason = "mapping pages and implementing an allocator need it"
)]

#[cfg(test)]
pub(crate) mod kept;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use zeroize::Zeroize;

/// How well the pages that hold secrets are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// Neither locked nor excluded from dumps: the kernel refused both. They may reach swap.
    Unlocked,
    /// `mlock(2)`: never swapped, left out of core dumps and of forked children.
    Locked,
    /// `memfd_secret(2)`: besides, taken out of the kernel's own mapping, so that
    /// not even root reads them through `/proc/PID/mem`.
    SecretMemory,
}

impl Protection {
    /// The word used in logs, metrics and `check`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unlocked => "unlocked",
            Self::Locked => "mlock",
            Self::SecretMemory => "memfd_secret",
        }
    }
}

/// The protection that new secret memory of this process gets now.
pub fn protection() -> Protection {
    Region::new(1).protection
}

/// Whole pages of zeroed memory, as well protected as the kernel allows.
struct Region {
    start: NonNull<u8>,
    /// A multiple of the page size.
    length: usize,
    protection: Protection,
}

// SAFETY: a region is plain memory that it owns alone; nothing about it is tied
// to the thread that mapped it.
unsafe impl Send for Region {}
// SAFETY: shared access only reads.
unsafe impl Sync for Region {}

impl Region {
    /// Maps at least `bytes` bytes.
    ///
    /// Falls from `memfd_secret` to `mlock` to plain pages; only the lack of any
    /// memory at all ends the process, as it does everywhere else.
    fn new(bytes: usize) -> Self {
        let page = rustix::param::page_size();
        let length = bytes.max(1).next_multiple_of(page);
        #[cfg(test)]
        if let Some(kept) = kept::take(length)
            && let Ok(kept) = kept.downcast::<Self>()
        {
            return *kept;
        }
        Self::secret(length)
            .or_else(|| Self::anonymous(length))
            .unwrap_or_else(|| {
                let layout = Layout::from_size_align(length, page).unwrap_or(Layout::new::<u8>());
                std::alloc::handle_alloc_error(layout)
            })
    }

    fn secret(length: usize) -> Option<Self> {
        use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

        // SAFETY: the call takes no pointer; a valid result is a new descriptor
        // that nobody else owns.
        let descriptor = unsafe {
            let raw = libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC);
            let raw = i32::try_from(raw).ok().filter(|raw| *raw >= 0)?;
            OwnedFd::from_raw_fd(raw)
        };
        let size = libc::off_t::try_from(length).ok()?;
        // SAFETY: the descriptor is ours and open; the mapping is new memory of
        // exactly the file's size.
        let start = unsafe {
            if libc::ftruncate(descriptor.as_raw_fd(), size) != 0 {
                return None;
            }
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                descriptor.as_raw_fd(),
                0,
            )
        };
        // The kernel counts these pages against RLIMIT_MEMLOCK when they are mapped, so
        // the first touch finds its page or the whole system is out of memory. They
        // cannot be populated by `mlock`, which takes the page from the kernel's side.
        Self::from_mapping(start, length, Protection::SecretMemory)
    }

    fn anonymous(length: usize) -> Option<Self> {
        // SAFETY: a new private mapping; no pointer is passed in.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let mut region = Self::from_mapping(start, length, Protection::Unlocked)?;
        // SAFETY: the range is the mapping made above. Failure leaves it as it
        // is; a core dump without it is worth having even where locking fails.
        unsafe {
            libc::madvise(start, length, libc::MADV_DONTDUMP);
            libc::madvise(start, length, libc::MADV_WIPEONFORK);
            if libc::mlock(start, length) == 0 {
                region.protection = Protection::Locked;
            }
        }
        Some(region)
    }

    fn from_mapping(
        start: *mut libc::c_void,
        length: usize,
        protection: Protection,
    ) -> Option<Self> {
        if start == libc::MAP_FAILED {
            return None;
        }
        let start = NonNull::new(start.cast::<u8>())?;
        Some(Self {
            start,
            length,
            protection,
        })
    }

    fn as_slice(&self) -> &[u8] {
        // SAFETY: the mapping is `length` readable, initialised bytes for as
        // long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.as_mut_slice().zeroize();
        #[cfg(test)]
        if kept::keep(self.length, || Box::new(Self { ..*self })) {
            return;
        }
        // SAFETY: the mapping is owned by `self`, which nobody can use any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// A value in pages of its own that are locked, and wiped on drop.
pub struct Locked<T> {
    region: Region,
    value: NonNull<T>,
}

// SAFETY: owns its value like a `Box`.
unsafe impl<T: Send> Send for Locked<T> {}
// SAFETY: shares its value like a `Box`.
unsafe impl<T: Sync> Sync for Locked<T> {}

impl<T> Locked<T> {
    /// Builds a value, places it in locked memory, and wipes the stack on which
    /// it was built.
    pub fn new_with(build: impl FnOnce() -> T) -> Self {
        const { assert!(align_of::<T>() <= 4096, "aligned to more than a page") };
        let region = Region::new(size_of::<T>());
        let value = region.start.cast::<T>();
        // SAFETY: the start of a fresh mapping that is large enough, and aligned to a
        // page.
        scrubbed(|| unsafe { value.as_ptr().write(build()) });
        Self { region, value }
    }

    /// How well this value is protected.
    pub fn protection(&self) -> Protection {
        self.region.protection
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new_with` has initialised it, and `self` owns it.
        unsafe { self.value.as_ref() }
    }
}

impl<T> DerefMut for Locked<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `&mut self` makes the access exclusive.
        unsafe { self.value.as_mut() }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: initialised, owned, and not used again; the region's own drop
        // then wipes the bytes.
        unsafe { self.value.drop_in_place() };
    }
}

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locked({}, redacted)", self.region.protection.as_str())
    }
}

/// A byte string in locked pages, wiped on drop.
pub struct LockedBytes {
    region: Region,
    length: usize,
}

impl LockedBytes {
    /// Copies `bytes`; wiping the original is the caller's business.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut region = Region::new(bytes.len());
        for (to, from) in region.as_mut_slice().iter_mut().zip(bytes) {
            *to = *from;
        }
        Self {
            region,
            length: bytes.len(),
        }
    }

    /// The bytes in clear.
    pub fn expose(&self) -> &[u8] {
        self.region
            .as_slice()
            .get(..self.length)
            .unwrap_or_default()
    }
}

impl fmt::Debug for LockedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockedBytes(redacted)")
    }
}

/// Does `work` and overwrites the part of the stack that it has used.
///
/// Key schedules are built by value, and the AES code for wide registers writes every
/// round key to the stack, four times over, each time it is used.
pub fn scrubbed<T>(work: impl FnOnce() -> T) -> T {
    let done = in_a_frame_of_its_own(work);
    scrub_stack();
    done
}

/// Not inlined, so that [`scrub_stack`], called next, uses the same part of the stack.
#[inline(never)]
fn in_a_frame_of_its_own<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn scrub_stack() {
    const SCRUBBED_BYTES: usize = 16 * 1024;
    let mut below = [0_u8; SCRUBBED_BYTES];
    // SAFETY: no instruction at all; the compiler must take it for a reader of the
    // array, and so has to write it.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) below.as_mut_ptr(), options(nostack, preserves_flags));
    }
}

/// The system allocator, except that freed memory is wiped first.
///
/// HTTP, TLS and gRPC libraries copy what passes through them into buffers of
/// their own. They cannot be told to wipe those, but they all free them.
#[derive(Clone, Copy, Debug, Default)]
pub struct WipingAllocator;

// SAFETY: every call is passed on to the system allocator; `dealloc` writes only
// to the block that it has been given back. `realloc` is the trait's default,
// which allocates, copies and deallocates, and so wipes the old block.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is `layout.size()` bytes that nobody uses any more.
        // The compiler fence keeps the write from being optimised away.
        unsafe {
            block.write_bytes(0, layout.size());
            std::arch::asm!("/* {0} */", in(reg) block, options(nostack, preserves_flags));
            System.dealloc(block, layout);
        }
    }
}

#[cfg(test)]
mod tests;
