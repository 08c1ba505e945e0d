//! What a call costs inside the process, in numbers that do not depend on the machine's
//! load: allocations, and instructions when it runs under callgrind.
//!
//! ```text
//! inside seal|open N          N operations of the envelope alone
//! inside decrypt|constant N   N calls over a socket, client and server on one thread;
//!                             `constant` is the same without anything behind gRPC
//! inside allocations          allocations for each call, and where they are made
//! ```
#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark prints its result and fails by a panic"
)]
#![expect(unsafe_code, reason = "an allocator that counts is one")]

mod constant;
mod counting;
mod in_process;
mod wire;

use barbican_kms::envelope::{self, Untagged, WrappingKey};
use barbican_kms::key_id::KeyId;
use barbican_kms::secret::{Kek, KekWriter};
use constant::SEED;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["seal", count] => seal(number(count)),
        ["open", count] => open(number(count)),
        ["decrypt", count] => in_process::decrypt(number(count)),
        ["constant", count] => in_process::constant(number(count)),
        ["allocations"] => in_process::allocations(),
        _ => println!("this is driven by scripts/bench and scripts/test"),
    }
}

fn number(text: &str) -> usize {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no number"))
}

fn seal(count: usize) {
    let (key, id) = (WrappingKey::new(&kek()), key_id());
    for _ in 0..count {
        let sealed = envelope::seal(&key, &id, SEED, &[9; 16]).expect("it fits");
        std::hint::black_box(sealed);
    }
}

fn open(count: usize) {
    let (key, id) = (WrappingKey::new(&kek()), key_id());
    let sealed = envelope::seal(&key, &id, SEED, &[9; 16]).expect("it fits");
    for _ in 0..count {
        let tag = Some(sealed.tag.as_slice());
        let opened = envelope::open(&key, &id, &sealed.ciphertext, tag, Untagged::Refuse);
        std::hint::black_box(opened.expect("it is intact"));
    }
}

fn kek() -> Kek {
    let mut writer = KekWriter::new();
    writer.push(&[0x42; 32]);
    writer.finish().expect("32 bytes")
}

fn key_id() -> KeyId {
    "b5309dfb-b326-4148-b0ad-e9cd1ec223a8"
        .parse()
        .expect("a UUID")
}
