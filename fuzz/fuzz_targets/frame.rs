//! See the module `frame` of the library.

#![no_main]

use observer_fuzz::{frame, seeds};

libfuzzer_sys::fuzz_target!(init: seeds::write("frame"), |data: &[u8]| frame::run(data));
