//! Generates the messages and services of the gRPC dialects from their `.proto` files, without a protoc binary.

use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

/// Each dialect's files, and what their descriptors are written to.
const DIALECTS: &[(&str, &[&str])] = &[
    ("capstan.bin", &["proto/capstan/v1/capstan.proto"]),
    ("etcd.bin", &["proto/etcd/rpc.proto"]),
    ("pairs.bin", &["proto/classic/pairs/keyvalue.proto", "proto/classic/pairs/central.proto"]),
];

fn main() -> Result<(), Box<dyn Error>> {
    DIALECTS.iter().try_for_each(|(descriptors, files)| generate(descriptors, files))
}

fn generate(descriptors: &str, protos: &[&str]) -> Result<(), Box<dyn Error>> {
    protos.iter().for_each(|proto| println!("cargo:rerun-if-changed={proto}"));
    let mut files = protox::compile(protos, ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(files.clone())?;
    // What reflection serves. Comments are for those who have the file.
    for file in &mut files.file {
        file.source_code_info = None;
    }
    let folder = env::var("OUT_DIR")?;
    fs::write(Path::new(&folder).join(descriptors), files.encode_to_vec())?;
    Ok(())
}
