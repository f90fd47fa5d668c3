//! See the module `deflate` of the library.

#![no_main]

use observer_fuzz::{deflate, seeds};

libfuzzer_sys::fuzz_target!(init: seeds::write("deflate"), |data: &[u8]| deflate::run(data));
