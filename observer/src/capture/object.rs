//! The compiled kernel programs that are embedded in this binary.
//!
//! Owns: the embedded bytes and the check that they fit this loader. Must not know: how they are loaded.
//! Bounded by: one pass over the ELF section headers.

use object::{Object as _, ObjectSection as _};
use observer_ebpf::{ABI_HASH, ABI_SECTION};

use super::StartError;

static EMBEDDED: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/observer-ebpf"));

/// The embedded object, if it is there and was compiled from the ABI that this loader knows.
pub(super) fn embedded() -> Result<&'static [u8], StartError> {
    check(EMBEDDED)?;
    Ok(EMBEDDED)
}

/// Whether this binary holds kernel programs at all: it does when `cargo xtask build` built it.
#[must_use]
pub fn is_embedded() -> bool {
    !EMBEDDED.is_empty()
}

fn check(bytes: &[u8]) -> Result<(), StartError> {
    if bytes.is_empty() {
        return Err(StartError::NotBuilt);
    }
    let found = abi_hash(bytes);
    if found != Some(ABI_HASH) {
        return Err(StartError::AbiMismatch { expected: ABI_HASH, found });
    }
    Ok(())
}

fn abi_hash(bytes: &[u8]) -> Option<u64> {
    let file = object::File::parse(bytes).ok()?;
    let data = file.section_by_name(ABI_SECTION)?.data().ok()?;
    Some(u64::from_le_bytes(data.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_object_is_the_stub_and_its_error_says_what_to_run() {
        let error = check(&[]).expect_err("the stub must be refused");
        assert!(matches!(error, StartError::NotBuilt));
        assert!(error.to_string().contains("cargo xtask build"), "{error}");
    }

    #[test]
    fn an_object_without_a_known_hash_is_refused() {
        let error = check(b"not an object").expect_err("garbage must be refused");
        assert!(matches!(error, StartError::AbiMismatch { found: None, .. }), "{error}");
        assert!(error.to_string().contains("cargo xtask build"), "{error}");
    }

    #[test]
    fn an_object_of_another_abi_is_refused() {
        let mut object = object::write::Object::new(
            object::BinaryFormat::Elf,
            object::Architecture::Bpf,
            object::Endianness::Little,
        );
        let section = object.add_section(
            Vec::new(),
            ABI_SECTION.as_bytes().to_vec(),
            object::SectionKind::ReadOnlyData,
        );
        object.set_section_data(section, (ABI_HASH ^ 1).to_le_bytes().to_vec(), 1);
        let error = check(&object.write().expect("an ELF file can be written"))
            .expect_err("another hash must be refused");
        assert!(
            matches!(error, StartError::AbiMismatch { found: Some(found), .. } if found == ABI_HASH ^ 1),
            "{error}"
        );
    }

    #[test]
    fn an_object_of_this_abi_is_accepted() {
        let mut object = object::write::Object::new(
            object::BinaryFormat::Elf,
            object::Architecture::Bpf,
            object::Endianness::Little,
        );
        let section = object.add_section(
            Vec::new(),
            ABI_SECTION.as_bytes().to_vec(),
            object::SectionKind::ReadOnlyData,
        );
        object.set_section_data(section, ABI_HASH.to_le_bytes().to_vec(), 1);
        check(&object.write().expect("an ELF file can be written"))
            .expect("this ABI's hash must be accepted");
    }
}
