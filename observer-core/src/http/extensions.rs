//! `Sec-WebSocket-Extensions` (RFC 6455 §9.1) and the parameters of permessage-deflate (RFC 7692 §7.1).
//!
//! Owns the grammar. Must not know the decoder that follows. Bounded: borrows from a head, which is bounded.

use crate::websocket::DeflateParameters;

/// The name under which RFC 7692 registers its extension.
pub const PERMESSAGE_DEFLATE: &str = "permessage-deflate";

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

/// Reads the parameters of permessage-deflate in a server's answer. Returns those that are valid, and what is wrong
/// with the first other one. `client_window_offered` tells whether the client's offer allowed the server to bound
/// the client's window (RFC 7692 §7.1.2.2).
pub fn parse_deflate_answer<'a>(
    parameters: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    client_window_offered: bool,
) -> (DeflateParameters, Option<String>) {
    let mut result = DeflateParameters::default();
    let mut defect = None;
    let mut seen = [false; 4];
    for (name, value) in parameters {
        let bits = value.and_then(parse_window_bits);
        let (index, wrong) = match (name, value, bits) {
            ("server_no_context_takeover", None, _) => {
                result.server_no_context_takeover = true;
                (0, false)
            }
            ("client_no_context_takeover", None, _) => {
                result.client_no_context_takeover = true;
                (1, false)
            }
            ("server_max_window_bits", _, Some(bits)) => {
                result.server_max_window_bits = bits;
                (2, false)
            }
            ("client_max_window_bits", _, Some(bits)) => {
                result.client_max_window_bits = bits;
                (3, !client_window_offered)
            }
            _ => (usize::MAX, true),
        };
        let repeated = seen.get_mut(index).is_some_and(|seen| std::mem::replace(seen, true));
        if (wrong || repeated) && defect.is_none() {
            let value = value.map(|value| format!("={value}")).unwrap_or_default();
            let what = if repeated { "repeated" } else { "not allowed in this answer" };
            defect = Some(format!("{PERMESSAGE_DEFLATE}: {name}{value} is {what}"));
        }
    }
    (result, defect)
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
        parse_deflate_answer(parameters, true)
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
    fn a_window_for_the_client_needs_an_offer() {
        let (_, parameters) = parse_element("permessage-deflate; client_max_window_bits=10");
        let (parameters, defect) = parse_deflate_answer(parameters, false);
        assert_eq!(parameters.client_max_window_bits, 10);
        assert!(defect.is_some());
    }
}
