//! The binary `capstan`.

use std::process::ExitCode;

/// Many small buffers are made and dropped: this allocator is the faster one for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
