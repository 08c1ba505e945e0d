//! The command line: argv, runtime, exit code.

use std::process::ExitCode;

use barbican_kms::cli;
use barbican_kms::secret::WipingAllocator;

/// Libraries copy what passes through them; what they free is wiped.
#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

fn main() -> ExitCode {
    cli::main(std::env::args_os())
}
