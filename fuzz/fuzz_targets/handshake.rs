//! See the module `handshake` of the library.

#![no_main]

use observer_fuzz::{handshake, seeds};

libfuzzer_sys::fuzz_target!(init: seeds::write("handshake"), |data: &[u8]| handshake::run(data));
