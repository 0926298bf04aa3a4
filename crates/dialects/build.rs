//! Generates the messages and services of the gRPC dialects from their `.proto` files, without a protoc binary.

use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

const NATIVE: &str = "proto/capstan/v1/capstan.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={NATIVE}");
    let mut files = protox::compile([NATIVE], ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(files.clone())?;
    // What reflection serves. Comments are for those who have the file.
    for file in &mut files.file {
        file.source_code_info = None;
    }
    let folder = env::var("OUT_DIR")?;
    fs::write(Path::new(&folder).join("capstan.bin"), files.encode_to_vec())?;
    Ok(())
}
