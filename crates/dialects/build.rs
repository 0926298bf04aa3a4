//! Generates the messages and services of the gRPC dialects from their `.proto` files, without a protoc binary.

use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

/// Files, and what the descriptors of each are written to.
const FILES: &[(&str, &str)] = &[
    ("proto/capstan/v1/capstan.proto", "capstan.bin"),
    ("proto/etcd/rpc.proto", "etcd.bin"),
    ("proto/classic/pairs/keyvalue.proto", "keyvalue.bin"),
    ("proto/classic/pairs/central.proto", "central.bin"),
    ("proto/classic/store/store.proto", "store.bin"),
    ("proto/classic/shards/shards.proto", "shards.bin"),
    ("proto/classic/shards/between.proto", "between.bin"),
    ("proto/classic/versioned/versioned.proto", "versioned.bin"),
];

/// Those that are described, and served by the code of another.
const DESCRIBED: &[(&str, &str)] = &[("proto/classic/versioned/plain.proto", "versioned-plain.bin")];

fn main() -> Result<(), Box<dyn Error>> {
    FILES.iter().try_for_each(|(proto, descriptors)| generate(proto, descriptors, true))?;
    DESCRIBED.iter().try_for_each(|(proto, descriptors)| generate(proto, descriptors, false))
}

fn generate(proto: &str, descriptors: &str, is_served: bool) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={proto}");
    let mut files = protox::compile([proto], ["proto"])?;
    if is_served {
        tonic_prost_build::configure().bytes(".").compile_fds(files.clone())?;
    }
    // What reflection serves. Comments are for those who have the file.
    for file in &mut files.file {
        file.source_code_info = None;
    }
    let folder = env::var("OUT_DIR")?;
    fs::write(Path::new(&folder).join(descriptors), files.encode_to_vec())?;
    Ok(())
}
