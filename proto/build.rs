//! Generates the gRPC code from the `.proto` files beside this script.
//!
//! `protox` is a protobuf compiler in Rust, so that nobody who builds this
//! needs `protoc`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto_dir = Path::new("proto");
    let files = ["kms_v2.proto", "barbican_kms_v1.proto"];
    for file in files {
        println!("cargo::rerun-if-changed=proto/{file}");
    }
    println!("cargo::rerun-if-changed=proto/build.rs");
    let descriptors = protox::compile(files, [proto_dir])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::proto::SmallCodec")
        // These messages can carry plaintext: no derived Debug may print them.
        .skip_debug([
            "v2.EncryptRequest",
            "v2.DecryptResponse",
            "v2.EncryptResponse",
            "v2.DecryptRequest",
        ])
        .compile_fds(descriptors)?;
    if links_small() {
        for argument in ["--icf=all", "-O2", "-zpack-relative-relocs"] {
            println!("cargo::rustc-link-arg-bins=-Wl,{argument}");
        }
    }
    Ok(())
}

/// What is shipped is static, so that the linker can fold functions that are the same
/// and relocations that are alike: 0.3 MB. rustc brings the linker for this only on
/// `x86_64`.
fn links_small() -> bool {
    let of_target = |name| std::env::var(name).unwrap_or_default();
    of_target("CARGO_CFG_TARGET_ARCH") == "x86_64"
        && of_target("CARGO_CFG_TARGET_ENV") == "gnu"
        && of_target("CARGO_CFG_TARGET_FEATURE").contains("crt-static")
}
