//! The list of what is out of order: a code, a sentence and a source for each.
//!
//! Owns the names. Must not know how any of them is found. Bounded: a closed list, safe as metric labels.

use std::fmt;

macro_rules! anomalies {
    ($($variant:ident $code:literal $sentence:literal $section:literal)*) => {
        /// What is out of order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AnomalyCode {
            $(#[doc = $sentence] $variant,)*
        }

        impl AnomalyCode {
            /// Every anomaly, in the order of the layers that find them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in JSON and in metrics, in kebab case.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// What it means, in one English sentence.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }

            /// The rule that is broken, as `RFC 6455 §5.1`; empty where no rule is.
            pub const fn section(self) -> &'static str {
                match self { $(Self::$variant => $section,)* }
            }
        }
    };
}

anomalies! {
    UnmaskedClientFrame "unmasked-client-frame"
        "A client sent a frame without a mask."
        "RFC 6455 §5.1"
    MaskedServerFrame "masked-server-frame"
        "A server sent a masked frame."
        "RFC 6455 §5.1"
    MaskingKeyRepeated "masking-key-repeated"
        "A client masks frame after frame with the same key."
        "RFC 6455 §5.3"
    ReservedBitSet "reserved-bit-set"
        "A frame has a reserved bit set that no negotiated extension gives a meaning here."
        "RFC 6455 §5.2"
    CompressionBitMisplaced "compression-bit-misplaced"
        "RSV1, which says of a message's first frame that it is compressed, is set on another frame."
        "RFC 7692 §6"
    ReservedOpcode "reserved-opcode"
        "A frame has an opcode that the protocol does not define."
        "RFC 6455 §5.2"
    NonMinimalLength "non-minimal-length"
        "A frame's length is written in more bytes than it needs."
        "RFC 6455 §5.2"
    LengthHighBitSet "length-high-bit-set"
        "A frame's 64-bit length has its highest bit set."
        "RFC 6455 §5.2"
    FragmentedControlFrame "fragmented-control-frame"
        "A control frame says that it is a fragment."
        "RFC 6455 §5.5"
    LongControlFrame "long-control-frame"
        "A control frame has more than 125 bytes of payload."
        "RFC 6455 §5.5"
    ContinuationWithoutStart "continuation-without-start"
        "A continuation frame came while no message was unfinished."
        "RFC 6455 §5.4"
    DataFrameInsideMessage "data-frame-inside-message"
        "A new message began while another was unfinished."
        "RFC 6455 §5.4"
    InvalidUtf8 "invalid-utf8"
        "A text message is not valid UTF-8."
        "RFC 6455 §8.1"
    DeflateInvalid "deflate-invalid"
        "A compressed message is not valid DEFLATE data."
        "RFC 7692 §7.2.2"
    DeflateWindowExceeded "deflate-window-exceeded"
        "A compressed message refers to bytes outside of the window that was agreed on."
        "RFC 7692 §7.2.1"
    InflatedTooLong "inflated-too-long"
        "A compressed message inflates to more than the bound of the observer."
        ""
    ClosePayloadTooShort "close-payload-too-short"
        "A close frame has a payload of one byte, too short for a code."
        "RFC 6455 §5.5.1"
    CloseCodeInvalid "close-code-invalid"
        "A close frame has a code that must not be sent."
        "RFC 6455 §7.4"
    CloseReasonInvalidUtf8 "close-reason-invalid-utf8"
        "A close frame's reason is not valid UTF-8."
        "RFC 6455 §5.5.1"
    FrameAfterClose "frame-after-close"
        "A data frame came behind a close frame of the same direction."
        "RFC 6455 §5.5.1"
    CloseNotAnswered "close-not-answered"
        "A peer ended its stream without an answer to the close frame that it had received."
        "RFC 6455 §5.5.1"
    StreamEndsInsideFrame "stream-ends-inside-a-frame"
        "The TCP stream ended within a frame."
        "RFC 6455 §5.2"
    StreamEndsInsideMessage "stream-ends-inside-a-message"
        "The TCP stream ended between the fragments of a message."
        "RFC 6455 §5.4"
    ResynchronisationFailed "resynchronisation-failed"
        "What was taken for frames behind a hole turned out to be none: what was shown as resynchronised since may be wrong."
        ""
    Tls "tls"
        "The connection begins with TLS, so that its content cannot be read."
        ""
    Http2 "http2"
        "The connection speaks HTTP/2, which is not decoded."
        ""
    WebSocketOverHttp2 "websocket-over-http2"
        "A WebSocket within HTTP/2 (RFC 8441) is allowed or asked for, and is not decoded."
        ""
    NotHttp "not-http"
        "The connection does not begin with HTTP."
        ""
    OtherProtocol "switched-to-another-protocol"
        "The server switched to another protocol than WebSocket."
        ""
    ProxyHeaderMalformed "proxy-header-malformed"
        "The header of the PROXY protocol, which a proxy sends ahead of everything else, is malformed."
        ""
    HeadTooLong "head-too-long"
        "An HTTP head exceeds the bound of the observer."
        ""
    HeadMalformed "head-malformed"
        "An HTTP head is malformed."
        "RFC 9112 §2"
    BodyMalformed "body-malformed"
        "The end of an HTTP body cannot be told."
        "RFC 9112 §6.3"
    StreamEndsInsideHead "stream-ends-inside-a-head"
        "The TCP stream ended within an HTTP head."
        "RFC 9112 §8"
    HeaderFolded "header-folded"
        "An HTTP header field is folded over several lines, which is obsolete."
        "RFC 9112 §5.2"
    HandshakeRequestInvalid "handshake-request-invalid"
        "An upgrade request is not as it must be."
        "RFC 6455 §4.1"
    HandshakeNotAwaited "handshake-not-awaited"
        "A client sent more before it had the answer to its upgrade request."
        "RFC 6455 §4.1"
    HandshakeAnswerInvalid "handshake-answer-invalid"
        "The answer that opens a WebSocket is not as it must be."
        "RFC 6455 §4.2.2"
    HandshakeInvalidAccepted "handshake-invalid-accepted"
        "A server accepted an upgrade request that it must refuse."
        "RFC 6455 §4.2.1"
    HandshakeVersionsUnnamed "handshake-versions-unnamed"
        "A server refused a version of WebSocket and does not name those that it understands."
        "RFC 6455 §4.4"
    HandshakeWrongAccept "handshake-wrong-accept"
        "The answer's Sec-WebSocket-Accept does not belong to the request's key."
        "RFC 6455 §4.2.2"
    HandshakeSubprotocolNotOffered "handshake-subprotocol-not-offered"
        "The server chose a subprotocol that the client did not offer."
        "RFC 6455 §4.1"
    HandshakeExtensionsMalformed "handshake-extensions-malformed"
        "A Sec-WebSocket-Extensions field does not follow its grammar."
        "RFC 6455 §9.1"
    HandshakeExtensionNotOffered "handshake-extension-not-offered"
        "The server chose an extension that the client did not offer."
        "RFC 6455 §4.1"
    HandshakeExtensionInvalid "handshake-extension-invalid"
        "The parameters of an extension are not valid."
        "RFC 7692 §7.1"
    SynOnOpenConnection "syn-on-open-connection"
        "A SYN that is not this connection's came on it."
        "RFC 9293 §3.10.7.4"
    ResetOutOfSequence "reset-out-of-sequence"
        "A RST came whose number is not the next one that its receiver expects."
        "RFC 9293 §3.10.7.4"
    OverlapDiffers "overlap-differs"
        "The same place of a TCP stream was sent with different bytes."
        "RFC 9293 §3.8.1"
    UrgentData "urgent-data"
        "A byte was sent as urgent: it is no part of the stream that a receiver reads."
        "RFC 9293 §3.8.5"
    SegmentOutsideWindow "segment-outside-window"
        "A TCP segment lies far outside of what the other end can take."
        "RFC 9293 §3.10.7.4"
    DataAfterFin "data-after-fin"
        "A TCP segment has bytes behind the end of its stream."
        "RFC 9293 §3.10.7.4"
    LateDataAfterGap "late-data-after-gap"
        "Bytes came after they had been given up as missing."
        ""
}

impl fmt::Display for AnomalyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_is_unique_and_in_kebab_case() {
        let codes: BTreeSet<&str> = AnomalyCode::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(codes.len(), AnomalyCode::ALL.len());
        for code in codes {
            assert!(
                code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            );
        }
    }

    #[test]
    fn the_page_of_anomalies_has_each_with_its_sentence_and_its_rule() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/anomalies.md");
        let page = std::fs::read_to_string(path).unwrap();
        let rows: Vec<Vec<&str>> = page
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        for code in AnomalyCode::ALL {
            let name = format!("`{code}`");
            let of_code: Vec<_> = rows.iter().filter(|row| row[1] == name).collect();
            let [row] = of_code[..] else { panic!("{} rows of {name} in docs/anomalies.md", of_code.len()) };
            assert_eq!((row[2], row[3]), (code.sentence(), code.section()), "{name} in docs/anomalies.md");
            assert!(row.len() == 8 && row[4..7].iter().all(|cell| !cell.is_empty()), "{name}: {row:?}");
        }
        assert_eq!(rows.len(), AnomalyCode::ALL.len(), "docs/anomalies.md has a code that is none");
    }

    #[test]
    fn every_sentence_is_one_and_every_section_names_an_rfc() {
        for code in AnomalyCode::ALL {
            assert!(code.sentence().ends_with('.'), "{code}");
            assert!(code.section().is_empty() || code.section().starts_with("RFC "), "{code}");
        }
    }
}
