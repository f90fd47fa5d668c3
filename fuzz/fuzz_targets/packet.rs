//! See the module `packet` of the library.

#![no_main]

use observer_fuzz::{packet, seeds};

libfuzzer_sys::fuzz_target!(init: seeds::write("packet"), |data: &[u8]| packet::run(data));
