//! See the module `capture_file` of the library.

#![no_main]

use observer_fuzz::{capture_file, seeds};

libfuzzer_sys::fuzz_target!(init: seeds::write("capture_file"), |data: &[u8]| capture_file::run(data));
