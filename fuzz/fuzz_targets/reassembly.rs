//! See the module `reassembly` of the library.

#![no_main]

use observer_fuzz::{reassembly, seeds};

libfuzzer_sys::fuzz_target!(init: seeds::write("reassembly"), |data: &[u8]| reassembly::run(data));
