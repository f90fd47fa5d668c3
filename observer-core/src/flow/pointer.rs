//! JSON pointers (RFC 6901): where a value is within a message.
//!
//! Owns their syntax. Must not know what they are for. Bounded: a pointer is at most [`POINTER_BYTES_MAX`] bytes long.

use std::fmt;

/// The longest pointer, in bytes.
pub const POINTER_BYTES_MAX: usize = 256;

/// Where a value is: the keys and indices that lead to it from the top. None of them is the whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer {
    tokens: Vec<Box<str>>,
}

impl Pointer {
    /// Reads a pointer as RFC 6901 §3 writes it.
    ///
    /// # Errors
    /// In words that end a sentence which names the pointer, where it is none.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > POINTER_BYTES_MAX {
            return Err("is longer than 256 bytes");
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err("has to begin with `/`, as in \"/data/name\"");
        };
        let tokens = rest.split('/').map(unescape).collect::<Option<Vec<_>>>();
        let tokens = tokens.ok_or("has a `~` that is followed by neither 0 (for `~`) nor 1 (for `/`)")?;
        if tokens.iter().any(|token| &**token == "-") {
            return Err("points with `-` behind the end of a list, where nothing ever is");
        }
        Ok(Self { tokens })
    }

    /// Keys and indices from the top.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().map(|token| &**token)
    }
}

/// The place in a list that a token names (RFC 6901 §4): digits without a leading zero.
pub fn index(token: &str) -> Option<usize> {
    let is_canonical = token == "0" || !token.starts_with('0');
    (is_canonical && token.bytes().all(|byte| byte.is_ascii_digit())).then(|| token.parse().ok())?
}

fn unescape(token: &str) -> Option<Box<str>> {
    let mut parts = token.split('~');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut characters = part.chars();
        text.push(match characters.next() {
            Some('0') => '~',
            Some('1') => '/',
            _ => return None,
        });
        text.push_str(characters.as_str());
    }
    Some(text.into())
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for token in &self.tokens {
            write!(f, "/{}", token.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(text: &str) -> Vec<String> {
        Pointer::parse(text).unwrap().tokens().map(str::to_owned).collect()
    }

    #[test]
    fn a_pointer_is_read_as_the_rfc_has_it() {
        assert_eq!(tokens(""), [""; 0]);
        assert_eq!(tokens("/"), [""]);
        assert_eq!(tokens("/foo/0"), ["foo", "0"]);
        assert_eq!(tokens("/a~1b"), ["a/b"]);
        assert_eq!(tokens("/m~0n"), ["m~n"]);
        assert_eq!(tokens("/~01"), ["~1"]);
        assert_eq!(tokens("/ //猪"), [" ", "", "猪"]);
    }

    #[test]
    fn what_is_no_pointer_is_refused_with_the_reason() {
        let why = |text: &str| Pointer::parse(text).unwrap_err();
        assert!(why("type").contains("begin with `/`"));
        assert!(why("#/type").contains("begin with `/`"));
        assert!(why("/a~").contains('~'));
        assert!(why("/a~2b").contains('~'));
        assert!(why("/list/-").contains("`-`"));
        assert!(why(&format!("/{}", "x".repeat(256))).contains("256"));
        assert!(Pointer::parse(&format!("/{}", "x".repeat(255))).is_ok());
    }

    #[test]
    fn an_index_is_digits_without_a_leading_zero() {
        assert_eq!(index("0"), Some(0));
        assert_eq!(index("10"), Some(10));
        for token in ["", "01", "00", "-1", "+1", "1.0", "x", "99999999999999999999999"] {
            assert_eq!(index(token), None, "{token}");
        }
    }

    proptest! {
        #[test]
        fn a_pointer_that_is_written_is_read_as_the_same(text in "(/[~/a-c01猪]{0,4}){0,5}") {
            if let Ok(pointer) = Pointer::parse(&text) {
                prop_assert_eq!(Pointer::parse(&pointer.to_string()), Ok(pointer));
            }
        }
    }
}
