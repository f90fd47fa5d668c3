//! Makes bytes of a peer harmless: whatever could move, colour, hide or reorder text becomes a visible escape.
//!
//! Owns what is shown of a character. Must not know records or formats. Bounded: writes at most a fixed number of
//! bytes for each byte it is given, and keeps nothing.
//!
//! Escaped are control characters (C0 with newline and tab, DEL, C1), everything of Unicode's category Format (bidi
//! overrides and isolates, zero-width and tag characters among them) and the line and paragraph separators. A
//! backslash of the peer's stays as it is, since JSON is full of them: where it matters which of the two a backslash
//! is, `--format json` tells exactly, and colours tell on a terminal.

use std::fmt;
use std::io::Write as _;

use unicode_general_category::{GeneralCategory, get_general_category};

/// What to write before and after each escape, so that it differs from the same characters sent by the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Before.
    pub on: &'static str,
    /// After.
    pub off: &'static str,
}

/// Whether a terminal could do something else than showing it in its place.
pub fn is_dangerous(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    matches!(
        get_general_category(character),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::Surrogate
    )
}

/// Length of the longest part at the start of `text` that needs no escape.
pub fn harmless_prefix(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        at += bytes[at..].iter().position(|byte| !matches!(byte, 0x20..=0x7e)).unwrap_or(bytes.len() - at);
        match text[at..].chars().next() {
            Some(character) if !is_dangerous(character) => at += character.len_utf8(),
            _ => return at,
        }
    }
}

/// Writes text.
pub fn write_text(out: &mut Vec<u8>, mut text: &str, mark: Mark) {
    loop {
        let (harmless, rest) = text.split_at(harmless_prefix(text));
        out.extend_from_slice(harmless.as_bytes());
        let mut characters = rest.chars();
        let Some(character) = characters.next() else { return };
        out.extend_from_slice(mark.on.as_bytes());
        write_escape(out, character);
        out.extend_from_slice(mark.off.as_bytes());
        text = characters.as_str();
    }
}

/// Writes text between quotes that it cannot end.
pub fn write_quoted(out: &mut Vec<u8>, text: &str, mark: Mark) {
    out.push(b'"');
    for part in text.split_inclusive(['"', '\\']) {
        let (plain, quoted) = match part.as_bytes() {
            [.., last @ (b'"' | b'\\')] => (&part[..part.len() - 1], Some(*last)),
            _ => (part, None),
        };
        write_text(out, plain, mark);
        if let Some(quoted) = quoted {
            out.extend_from_slice(mark.on.as_bytes());
            out.extend([b'\\', quoted]);
            out.extend_from_slice(mark.off.as_bytes());
        }
    }
    out.push(b'"');
}

/// Writes bytes that should be text: what is valid UTF-8 as text, every other byte as `\xNN`.
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8], mark: Mark) {
    for chunk in bytes.utf8_chunks() {
        write_text(out, chunk.valid(), mark);
        for byte in chunk.invalid() {
            // Writing to a vector cannot fail.
            let _ = write!(out, "{}\\x{byte:02x}{}", mark.on, mark.off);
        }
    }
}

/// Writes JSON with its `\uXXXX` and `\/` escapes decoded. An escape that holds the text together or that hides
/// something dangerous (a quote, a backslash, a control character, half a surrogate pair) stays as it was sent.
pub fn write_json(out: &mut Vec<u8>, mut json: &str, mark: Mark) {
    while let Some(backslash) = json.find('\\') {
        let (before, escape) = json.split_at(backslash);
        write_text(out, before, mark);
        let (decoded, length) = decode_json_escape(escape);
        match decoded {
            Some(character) if !matches!(character, '"' | '\\') && !is_dangerous(character) => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => write_text(out, &escape[..length], mark),
        }
        json = &escape[length..];
    }
    write_text(out, json, mark);
}

/// What the escape at the start of `escape` stands for, where it is one that is decoded, and its length.
fn decode_json_escape(escape: &str) -> (Option<char>, usize) {
    let unit = |at: usize| {
        let digits = escape.get(at..at + 6)?.strip_prefix("\\u")?;
        let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        hexadecimal.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
    };
    if let Some(first) = unit(0) {
        let (units, length) = match unit(6) {
            Some(second) if (0xd800..0xdc00).contains(&first) => ([first, second], 12),
            _ => ([first, 0], 6),
        };
        let mut decoded = char::decode_utf16(units.into_iter().take(length / 6));
        return match decoded.next() {
            Some(Ok(character)) => (Some(character), length),
            _ => (None, 6),
        };
    }
    let mut characters = escape.chars();
    let (_backslash, second) = (characters.next(), characters.next());
    (second.filter(|&character| character == '/'), escape.len() - characters.as_str().len())
}

/// Whether `text` has escapes that [`write_json`] would decode, and is JSON as far as it goes. Where its end is
/// missing, how it starts has to do.
pub fn is_escaped_json(text: &str, whole: bool) -> bool {
    (text.contains("\\u") || text.contains("\\/"))
        && text.trim_start().starts_with(['{', '[', '"'])
        && (!whole || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

/// A JSON text as [`write_json`] shows it; `None` where it has nothing to decode.
pub fn decode_json_text(text: &str) -> Option<String> {
    is_escaped_json(text, true).then(|| {
        let mut out = Vec::with_capacity(text.len());
        write_json(&mut out, text, Mark::default());
        String::from_utf8_lossy(&out).into_owned()
    })
}

fn write_escape(out: &mut Vec<u8>, character: char) {
    // Writing to a vector cannot fail.
    let _ = match character {
        '\n' => out.write_all(b"\\n"),
        '\r' => out.write_all(b"\\r"),
        '\t' => out.write_all(b"\\t"),
        _ if character.is_ascii() => write!(out, "\\x{:02x}", u32::from(character)),
        _ => write!(out, "\\u{{{:x}}}", u32::from(character)),
    };
}

/// Shows text escaped, without marks: for messages to the user that quote something.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::with_capacity(self.0.len());
        write_text(&mut out, self.0, Mark::default());
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        let mut out = Vec::new();
        write_text(&mut out, text, Mark::default());
        String::from_utf8(out).unwrap()
    }

    fn json(text: &str) -> String {
        let mut out = Vec::new();
        write_json(&mut out, text, Mark::default());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ordinary_text_of_any_script_is_left_alone() {
        for ordinary in ["", "hi, all !", "猪 🐷 Grüße עברית العربية", "\"\\back\\slash\"", "e\u{301}"]
        {
            assert_eq!(text(ordinary), ordinary);
        }
    }

    #[test]
    fn terminal_controls_become_visible() {
        assert_eq!(text("\x1b[2J\x1b]52;c;AAAA\x07"), "\\x1b[2J\\x1b]52;c;AAAA\\x07");
        assert_eq!(text("a\nb\r\tc\0\x7f"), "a\\nb\\r\\tc\\x00\\x7f");
        assert_eq!(text("\u{9b}31m\u{85}"), "\\u{9b}31m\\u{85}");
    }

    #[test]
    fn what_reorders_or_hides_text_becomes_visible() {
        for code in (0x202a..=0x202e)
            .chain(0x2066..=0x2069)
            .chain([0x200b, 0x200d, 0x200e, 0x200f, 0x2028, 0x2029, 0xad, 0x61c, 0xfeff, 0xe0041, 0xfff9])
        {
            let character = char::from_u32(code).unwrap();
            assert_eq!(text(&format!("a{character}b")), format!("a\\u{{{code:x}}}b"));
        }
    }

    #[test]
    fn nothing_that_is_written_can_be_dangerous_whatever_comes_in() {
        for code in 0..=0x10_ffff_u32 {
            let Some(character) = char::from_u32(code) else { continue };
            let shown = text(character.encode_utf8(&mut [0; 4]));
            assert!(!shown.chars().any(char::is_control), "{code:x} is shown as {shown:?}");
            assert!(!shown.chars().any(is_dangerous), "{code:x} is shown as {shown:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_each_and_the_rest_as_text() {
        let mut out = Vec::new();
        write_bytes(&mut out, b"ok \xff\xfe \xe7\x8c\xaa \xe7\x8c", Mark::default());
        assert_eq!(String::from_utf8(out).unwrap(), "ok \\xff\\xfe 猪 \\xe7\\x8c");
    }

    #[test]
    fn escapes_of_json_are_decoded_surrogate_pairs_included() {
        assert_eq!(
            json(r#"{"name":"\u732a","face":"\ud83d\udc37","url":"a\/b"}"#),
            r#"{"name":"猪","face":"🐷","url":"a/b"}"#
        );
    }

    #[test]
    fn escapes_of_json_that_would_change_its_look_or_the_terminal_stay() {
        for kept in [
            r#""a\u0022,\u005cb""#,
            r#""\u001b[2J \u009b \u202e \u000a""#,
            r#""\n\t\"\\""#,
            r#""\ud83d alone \udc37 \ud83d\u0041""#,
            r#""\\u732a""#,
            r#""\u73""#,
            r#""\u+732""#,
            "\\",
            "\\é",
        ] {
            assert_eq!(json(kept).replace("\\ud83dA", "\\ud83d\\u0041"), kept);
        }
    }

    #[test]
    fn only_json_with_escapes_is_taken_for_escaped_json() {
        assert!(is_escaped_json(r#"{"a":"\u732a"}"#, true));
        assert!(is_escaped_json(r#" ["\u732a"#, false));
        assert!(!is_escaped_json(r#"{"a":"\u732a""#, true));
        assert!(!is_escaped_json(r#"{"a":"b"}"#, true));
        assert!(!is_escaped_json(r"see \u732a", true));
    }

    #[test]
    fn a_mark_tells_an_escape_from_the_same_characters_sent() {
        let mut out = Vec::new();
        write_text(&mut out, "\\n\n", Mark { on: "<", off: ">" });
        assert_eq!(String::from_utf8(out).unwrap(), "\\n<\\n>");
    }
}
