//! Rule files.
//!
//! Owns how they are found, and what is said where one cannot be used. Must not know what is in them, which the core
//! does. Bounded: of a file [`RULES_BYTES_MAX`] bytes are read.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use observer_core::flow::rules::DIALECTS_MAX;
use observer_core::flow::{Dialect, RULES_BYTES_MAX, Rules, parse};

use crate::output::escape::Escaped;

/// The rules of these files, in this order, with the built-in ones behind them.
///
/// # Errors
/// In words for whoever named the files.
pub fn load(files: &[PathBuf]) -> Result<Arc<Rules>, String> {
    if files.is_empty() {
        return Ok(Rules::built_in());
    }
    let built_in = Rules::built_in().dialects().len();
    if files.len() > DIALECTS_MAX - built_in {
        return Err(format!(
            "{} rule files are too many: at most {} are used",
            files.len(),
            DIALECTS_MAX - built_in
        ));
    }
    let dialects = files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
    let mut by_name = HashMap::new();
    for (file, dialect) in files.iter().zip(&dialects) {
        if let Some(other) = by_name.insert(&*dialect.name, file) {
            return Err(format!(
                "the rule files {} and {} have the same name = \"{}\": give each its own",
                other.display(),
                file.display(),
                dialect.name
            ));
        }
    }
    Ok(Arc::new(Rules::new(dialects)))
}

fn read(path: &Path) -> Result<Dialect, String> {
    let name = path.display();
    let mut bytes = Vec::new();
    // One more than may be: then the core says that it is too long.
    let read =
        File::open(path).and_then(|file| file.take(RULES_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("the rule file {name} cannot be read: {error}"))?;
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        // What was cut off may have been a part of a character.
        Err(error) if error.error_len().is_none() && bytes.len() > RULES_BYTES_MAX => {
            std::str::from_utf8(bytes.split_at(error.valid_up_to()).0).unwrap_or_default()
        }
        Err(error) => {
            let before = bytes.split_at(error.valid_up_to()).0;
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            return Err(format!("the rule file {name}, line {line}: this is not UTF-8; is it a rule file?"));
        }
    };
    // It names what stands in the file.
    parse(text).map_err(|error| format!("the rule file {name}, {}", Escaped(&error.to_string())))
}
