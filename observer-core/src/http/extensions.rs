//! `Sec-WebSocket-Extensions` (RFC 6455 §9.1) and the parameters of permessage-deflate (RFC 7692 §7.1).
//!
//! Owns the grammar. Must not know the decoder that follows. Bounded: borrows from a head, which is bounded.

use crate::websocket::DeflateParameters;

/// The name under which RFC 7692 registers its extension.
pub const PERMESSAGE_DEFLATE: &str = "permessage-deflate";

const MAXIMUM_WINDOW_BITS: u8 = 15;

/// Splits a comma-separated list (RFC 9110 §5.6.1); commas within quotes do not count. Elements are trimmed, empty
/// ones left out.
pub fn split_list(list: &str) -> impl Iterator<Item = &str> {
    split_outside_quotes(list, ',').filter(|element| !element.is_empty())
}

/// An extension's name, and each of its parameters with its value, in quotes or not, where it has one.
/// Escapes within quotes stay as they are: no token, which is all that may stand there, needs one.
pub fn parse_element(element: &str) -> (&str, impl Iterator<Item = (&str, Option<&str>)>) {
    let mut parts = split_outside_quotes(element, ';');
    let name = parts.next().unwrap_or_default();
    let parameters = parts.filter(|part| !part.is_empty()).map(|part| match part.split_once('=') {
        Some((name, value)) => (name.trim(), Some(unquote(value.trim()))),
        None => (part, None),
    });
    (name, parameters)
}

fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |character| {
        let was_escaped = std::mem::take(&mut escaped);
        match character {
            '\\' if quoted && !was_escaped => escaped = true,
            '"' if !was_escaped => quoted = !quoted,
            _ => return character == separator && !quoted,
        }
        false
    })
    .map(str::trim)
}

fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// Whether an element is as RFC 6455 §9.1 writes it: a token, and parameters that are tokens, with values that are.
pub fn is_well_formed(element: &str) -> bool {
    let mut parts = split_outside_quotes(element, ';');
    parts.next().is_some_and(is_token)
        && parts.all(|part| match part.split_once('=') {
            Some((name, value)) => is_token(name.trim_end()) && is_value(value.trim_start()),
            None => is_token(part),
        })
}

/// A token, or a quoted string that is one without its escapes.
fn is_value(value: &str) -> bool {
    match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"').is_some_and(|value| is_token(&value.replace('\\', ""))),
        None => is_token(value),
    }
}

/// Whether text is a token (RFC 9110 §5.6.2).
pub fn is_token(text: &str) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_of_token)
}

/// The parameters of permessage-deflate, as an end wrote them: those that are valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeflateElement {
    /// The server is to compress each message by itself.
    pub server_no_context_takeover: bool,
    /// The client is to compress each message by itself; in an offer no more than a hint.
    pub client_no_context_takeover: bool,
    /// Base-2 logarithm of the server's window.
    pub server_max_window_bits: Option<u8>,
    /// The same of the client's. An offer without a value allows any.
    pub client_max_window_bits: Option<u8>,
}

/// Who wrote parameters of permessage-deflate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client, in an offer.
    Offer,
    /// The server, in its answer.
    Answer,
}

impl DeflateElement {
    /// Reads parameters (RFC 7692 §7.1). Returns those that are valid, and what is wrong with the first other one.
    pub fn parse<'a>(
        side: Side,
        parameters: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    ) -> (Self, Option<String>) {
        let mut result = Self::default();
        let mut defect = None;
        let mut seen = [false; 4];
        for (name, value) in parameters {
            let bits = value.and_then(parse_window_bits);
            let index = match (name, value, bits) {
                ("server_no_context_takeover", None, _) => {
                    result.server_no_context_takeover = true;
                    0
                }
                ("client_no_context_takeover", None, _) => {
                    result.client_no_context_takeover = true;
                    1
                }
                ("server_max_window_bits", _, Some(bits)) => {
                    result.server_max_window_bits = Some(bits);
                    2
                }
                ("client_max_window_bits", _, Some(bits)) => {
                    result.client_max_window_bits = Some(bits);
                    3
                }
                ("client_max_window_bits", None, _) if side == Side::Offer => {
                    result.client_max_window_bits = Some(MAXIMUM_WINDOW_BITS);
                    3
                }
                _ => usize::MAX,
            };
            let repeated = seen.get_mut(index).is_some_and(|seen| std::mem::replace(seen, true));
            if (index == usize::MAX || repeated) && defect.is_none() {
                let value = value.map(|value| format!("={value}")).unwrap_or_default();
                let what = match (repeated, side) {
                    (true, _) => "is repeated",
                    (false, Side::Offer) => "is not defined for an offer",
                    (false, Side::Answer) => "is not defined for an answer",
                };
                defect = Some(format!("{PERMESSAGE_DEFLATE}: {name}{value} {what}"));
            }
        }
        (result, defect)
    }

    /// What is agreed on by this answer.
    pub fn agreed(&self) -> DeflateParameters {
        DeflateParameters {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover,
            server_max_window_bits: self.server_max_window_bits.unwrap_or(MAXIMUM_WINDOW_BITS),
            client_max_window_bits: self.client_max_window_bits.unwrap_or(MAXIMUM_WINDOW_BITS),
        }
    }

    /// Why this answer does not accept an offer (RFC 7692 §7.1); `None` where it does.
    pub fn contradiction(&self, offer: &Self) -> Option<&'static str> {
        if offer.server_no_context_takeover && !self.server_no_context_takeover {
            return Some("server_no_context_takeover was offered and is not answered");
        }
        match (offer.server_max_window_bits, self.server_max_window_bits) {
            (Some(_), None) => return Some("server_max_window_bits was offered and is not answered"),
            (Some(offered), Some(answered)) if answered > offered => {
                return Some("server_max_window_bits is larger than was offered");
            }
            _ => {}
        }
        match (offer.client_max_window_bits, self.client_max_window_bits) {
            (None, Some(_)) => Some("client_max_window_bits is answered and was not offered"),
            (Some(offered), Some(answered)) if answered > offered => {
                Some("client_max_window_bits is larger than was offered")
            }
            _ => None,
        }
    }
}

/// 8 to 15, without a leading zero (RFC 7692 §7.1.2.1).
fn parse_window_bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok()?;
    ((8..=15).contains(&bits) && !value.starts_with(['0', '+'])).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> (DeflateParameters, Option<String>) {
        let (name, parameters) = parse_element(text);
        assert_eq!(name, PERMESSAGE_DEFLATE);
        let (element, defect) = DeflateElement::parse(Side::Answer, parameters);
        (element.agreed(), defect)
    }

    fn element(side: Side, text: &str) -> (DeflateElement, Option<String>) {
        let text = format!("permessage-deflate{text}");
        DeflateElement::parse(side, parse_element(&text).1)
    }

    fn contradiction(offer: &str, answer: &str) -> Option<&'static str> {
        element(Side::Answer, answer).0.contradiction(&element(Side::Offer, offer).0)
    }

    #[test]
    fn a_list_is_split_at_commas_outside_of_quotes() {
        let list = r#" a ; x="1,2" , ,b;y="\",;" ,c"#;
        assert_eq!(split_list(list).collect::<Vec<_>>(), [r#"a ; x="1,2""#, r#"b;y="\",;""#, "c"]);
    }

    #[test]
    fn parameters_come_with_and_without_values_and_quotes() {
        let (name, parameters) = parse_element(r#"name; a ;b = 1;; c="2""#);
        assert_eq!(name, "name");
        assert_eq!(parameters.collect::<Vec<_>>(), [("a", None), ("b", Some("1")), ("c", Some("2"))]);
    }

    #[test]
    fn the_servers_and_the_clients_parameters_are_not_swapped() {
        let (parameters, defect) = answer(
            r#"permessage-deflate; server_no_context_takeover; server_max_window_bits=9; client_max_window_bits="12""#,
        );
        assert_eq!(defect, None);
        assert_eq!(
            parameters,
            DeflateParameters {
                server_no_context_takeover: true,
                client_no_context_takeover: false,
                server_max_window_bits: 9,
                client_max_window_bits: 12,
            }
        );
    }

    #[test]
    fn without_parameters_the_windows_are_of_15_bits_and_contexts_are_kept() {
        assert_eq!(answer("permessage-deflate"), (DeflateParameters::default(), None));
    }

    #[test]
    fn wrong_parameters_are_told_and_the_others_hold() {
        for wrong in [
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=08",
            "server_max_window_bits",
            "client_max_window_bits",
            "server_no_context_takeover=1",
            "unknown",
            "client_no_context_takeover; client_no_context_takeover",
        ] {
            let (parameters, defect) =
                answer(&format!("permessage-deflate; {wrong}; server_max_window_bits=10"));
            assert!(defect.is_some(), "{wrong}");
            assert_eq!(parameters.server_max_window_bits, 10);
        }
    }

    #[test]
    fn an_offer_may_leave_the_clients_window_to_the_server_and_nothing_else_may_be_wrong_in_it() {
        let (offer, defect) = element(Side::Offer, "; client_max_window_bits; client_no_context_takeover");
        assert_eq!((offer.client_max_window_bits, defect), (Some(15), None));
        for wrong in [
            "; client_max_window_bits=7",
            "; client_max_window_bits=",
            "; server_max_window_bits",
            "; server_max_window_bits=010",
            "; server_no_context_takeover=true",
            "; server_no_context_takeover; server_no_context_takeover",
            "; unknown",
        ] {
            assert!(element(Side::Offer, wrong).1.is_some(), "{wrong}");
        }
    }

    #[test]
    fn a_window_for_the_client_needs_an_offer() {
        assert!(contradiction("", "; client_max_window_bits=10").is_some());
        assert_eq!(contradiction("; client_max_window_bits", "; client_max_window_bits=10"), None);
    }

    #[test]
    fn no_window_may_be_larger_than_was_offered() {
        for end in ["client", "server"] {
            let [of_9, of_10, of_11] = [9, 10, 11].map(|bits| format!("; {end}_max_window_bits={bits}"));
            assert_eq!(contradiction(&of_10, &of_9), None);
            assert_eq!(contradiction(&of_10, &of_10), None);
            assert!(contradiction(&of_10, &of_11).is_some(), "{end}");
        }
    }

    #[test]
    fn what_the_client_asks_of_the_server_must_be_answered_and_its_hints_need_not() {
        for asked in ["; server_no_context_takeover", "; server_max_window_bits=15"] {
            assert!(contradiction(asked, "").is_some(), "{asked}");
            assert_eq!(contradiction(asked, asked), None);
            assert_eq!(contradiction("", asked), None, "it may be answered unasked: {asked}");
        }
        assert_eq!(contradiction("; client_no_context_takeover; client_max_window_bits=9", ""), None);
        assert_eq!(contradiction("", "; client_no_context_takeover"), None);
    }

    #[test]
    fn the_grammar_takes_tokens_with_parameters_that_are_tokens_too() {
        for right in ["a", "a;b", r#"a ; b=1 ;c = "2""#, r#"a; b="\x""#, "x-webkit!#$%&'*+-.^_`|~"] {
            assert!(is_well_formed(right), "{right}");
        }
        for wrong in [
            "a b",
            "a;",
            "a;;b",
            "a;b=",
            "a; b c",
            "a/b",
            "a=1",
            r#"a;b="""#,
            r#"a;b="x y""#,
            r#"a;b="x"#,
            "ä",
            ";b",
        ] {
            assert!(!is_well_formed(wrong), "{wrong}");
        }
    }
}
