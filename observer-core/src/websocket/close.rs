//! The content of a close frame (RFC 6455 §5.5.1, §7.4).
//!
//! Owns its layout and the list of codes. Must not know what follows from a close. Bounded: borrows.

use crate::record::Close;

/// What is wrong with a close frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseError {
    /// One byte, too short for a code.
    TooShort,
    /// A code that must not be sent.
    Code(u16),
    /// A reason that is not UTF-8.
    Reason,
}

/// Reads a close frame's payload, and says what is wrong with it: at most a code and a reason.
/// `whole` is false where the payload is known only up to some point.
pub fn parse(payload: &[u8], whole: bool) -> (Close<'_>, [Option<CloseError>; 2]) {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        let too_short = (whole && !payload.is_empty()).then_some(CloseError::TooShort);
        return (Close { code: None, reason: "" }, [too_short, None]);
    };
    let code = u16::from_be_bytes(*code);
    let wrong_code = (!is_code_valid(code)).then_some(CloseError::Code(code));
    let (reason, wrong_reason) = match str::from_utf8(reason) {
        Ok(reason) => (reason, None),
        Err(error) if !whole && error.error_len().is_none() => {
            let valid = reason.get(..error.valid_up_to()).unwrap_or_default();
            (str::from_utf8(valid).unwrap_or_default(), None)
        }
        Err(_) => ("", Some(CloseError::Reason)),
    };
    (Close { code: Some(code), reason }, [wrong_code, wrong_reason])
}

/// Whether a code may be sent in a close frame: those of RFC 6455 §7.4.1 and of IANA's registry, and the ranges
/// of §7.4.2 for libraries and applications.
pub const fn is_code_valid(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Whether an extension may define a code that [`is_code_valid`] does not know (RFC 6455 §7.4.2).
pub const fn is_code_for_extensions(code: u16) -> bool {
    matches!(code, 1004 | 1016..=2999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_payload_has_no_code_and_is_right() {
        assert_eq!(parse(b"", true), (Close { code: None, reason: "" }, [None, None]));
    }

    #[test]
    fn a_payload_of_one_byte_is_too_short() {
        assert_eq!(parse(&[3], true).1, [Some(CloseError::TooShort), None]);
        assert_eq!(parse(&[3], false).1, [None, None]);
    }

    #[test]
    fn code_and_reason_are_read() {
        assert_eq!(parse(b"\x03\xe8bye", true), (Close { code: Some(1000), reason: "bye" }, [None, None]));
    }

    #[test]
    fn a_reason_cut_within_a_character_keeps_what_is_whole() {
        let payload = [0x03, 0xe8, b'a', 0xe7, 0x8c];
        assert_eq!(parse(&payload, false), (Close { code: Some(1000), reason: "a" }, [None, None]));
        assert_eq!(
            parse(&payload, true),
            (Close { code: Some(1000), reason: "" }, [None, Some(CloseError::Reason)])
        );
    }

    #[test]
    fn only_codes_that_may_be_sent_are_valid() {
        let valid =
            [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
        let invalid = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535];
        assert!(valid.into_iter().all(is_code_valid));
        assert!(!invalid.into_iter().any(is_code_valid));
    }
}
