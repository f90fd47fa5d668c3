//! Embeds the compiled kernel programs.
//!
//! Owns: where the loader finds the object at compile time. Must not know: how the object is compiled;
//! `cargo xtask build` does that and names the result in `OBSERVER_EBPF_OBJECT`. Bounded by: one file copy.
//! Without the variable an empty file is embedded, so that plain `cargo build` and `cargo test` work
//! without a kernel-side toolchain; loading that one is a typed error.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=OBSERVER_EBPF_OBJECT");
    let out_dir = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    let embedded = PathBuf::from(out_dir).join("observer-ebpf");
    let object = match env::var_os("OBSERVER_EBPF_OBJECT").map(PathBuf::from) {
        Some(path) if !path.as_os_str().is_empty() => {
            println!("cargo::rerun-if-changed={}", path.display());
            fs::read(&path).unwrap_or_else(|error| {
                panic!(
                    "OBSERVER_EBPF_OBJECT names {}, which cannot be read: {error}. \
                     Unset it, or run `cargo xtask build`.",
                    path.display()
                )
            })
        }
        _ => Vec::new(),
    };
    fs::write(&embedded, object)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", embedded.display()));
}
