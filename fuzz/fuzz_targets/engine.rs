//! See the module `engine` of the library.

#![no_main]

use observer_fuzz::{engine, seeds};

libfuzzer_sys::fuzz_target!(init: seeds::write("engine"), |data: &[u8]| engine::run(data));
