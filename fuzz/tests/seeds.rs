//! Every target on what it begins with.

use std::path::Path;

use observer_fuzz::{memory, seeds};

#[test]
fn every_target_is_content_with_its_seeds() {
    let _alone = memory::alone();
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/captures");
    for (name, run, seeds) in seeds::targets(&captures) {
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for (number, seed) in seeds.iter().enumerate() {
            if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
                eprintln!("{name} {number}: {seed:?}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}
