//! The load client, the same for all servers, and the two floors below them.
//!
//! ```text
//! load client            reads commands from standard input, see `client.rs`
//! load echo SOCKET       answers each message of 64 bytes with one
//! load constant SOCKET   a tonic server on hyper whose answers are constants
//! ```
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark prints its result and fails by a panic"
)]

mod client;
mod constant;
mod echo;
mod wire;

use std::path::Path;

fn main() {
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["client"] => client::main(),
        ["echo", socket] => echo::serve(Path::new(socket)),
        ["constant", socket] => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(constant::serve(Path::new(socket))),
        _ => println!("this is driven by scripts/bench"),
    }
}
