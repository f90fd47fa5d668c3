//! What servers do to words before they pass them on.
//!
//! Owns the named transforms and their exact results. Must not know which words they are applied to, nor where fields come
//! from. Bounded: a chain has at most [`STEPS_MAX`] steps, and a step makes a text at most eight times as long, or a prefix
//! longer; what grows beyond [`TEXT_BYTES_MAX`] is given up.

use std::borrow::Cow;

/// Steps of one chain.
pub const STEPS_MAX: usize = 8;

/// The longest text that is transformed or comes out, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// One transform.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// `& < > " '` become `&amp; &lt; &gt; &quot; &#039;`: PHP's `htmlspecialchars` since 8.1.
    HtmlEscape,
    /// The same but for `'`, which stays: PHP's `htmlspecialchars` before 8.1.
    HtmlEscapeCompat,
    /// `<br />` before each line end (`\r\n`, `\n\r`, `\n`, `\r`): PHP's `nl2br`.
    Nl2br,
    /// A text in front.
    Prefix(Box<str>),
    /// In front, the text of a field of the message that was sent, after steps of its own.
    PrefixOf {
        /// What the field is called.
        field: Box<str>,
        /// What becomes of it; none of these steps is another [`Step::PrefixOf`].
        through: Vec<Self>,
    },
}

/// From the name of a field of the message that was sent to its text.
pub type FieldTexts<'a> = dyn Fn(&str) -> Option<&'a str> + 'a;

impl Step {
    /// Those that a name is enough for.
    pub const NAMED: [(&'static str, Self); 3] = [
        ("html_escape", Self::HtmlEscape),
        ("html_escape_compat", Self::HtmlEscapeCompat),
        ("nl2br", Self::Nl2br),
    ];

    fn apply<'a>(&self, text: Cow<'a, str>, fields: &FieldTexts<'_>) -> Option<Cow<'a, str>> {
        Some(match self {
            Self::HtmlEscape => html_escape(text, true),
            Self::HtmlEscapeCompat => html_escape(text, false),
            Self::Nl2br => nl2br(text),
            Self::Prefix(prefix) => in_front(prefix, &text)?,
            Self::PrefixOf { field, through } => in_front(&apply(through, fields(field)?, fields)?, &text)?,
        })
    }
}

/// Transforms that are applied one after the other; without any, nothing changes.
pub type Chain = Vec<Step>;

/// What comes out of a chain; `None` beyond [`TEXT_BYTES_MAX`], and where it names a field that has no text.
pub fn apply<'a>(chain: &[Step], text: &'a str, fields: &FieldTexts<'_>) -> Option<Cow<'a, str>> {
    chain.iter().try_fold(Cow::Borrowed(text), |text, step| {
        if text.len() > TEXT_BYTES_MAX / 8 {
            return None;
        }
        step.apply(text, fields)
    })
}

fn in_front<'a>(prefix: &str, text: &str) -> Option<Cow<'a, str>> {
    (prefix.len() + text.len() <= TEXT_BYTES_MAX).then(|| Cow::Owned([prefix, text].concat()))
}

fn html_escape(text: Cow<'_, str>, single_quotes_too: bool) -> Cow<'_, str> {
    let is_special =
        |byte: u8| matches!(byte, b'&' | b'<' | b'>' | b'"') || (single_quotes_too && byte == b'\'');
    if !text.bytes().any(is_special) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' if single_quotes_too => escaped.push_str("&#039;"),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

fn nl2br(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains(['\r', '\n']) {
        return text;
    }
    let mut broken = String::with_capacity(text.len() + 16);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if matches!(character, '\r' | '\n') {
            broken.push_str("<br />");
            broken.push(character);
            let other = if character == '\r' { '\n' } else { '\r' };
            broken.extend(characters.next_if_eq(&other));
        } else {
            broken.push(character);
        }
    }
    Cow::Owned(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(chain: &[Step], text: &str) -> String {
        apply(chain, text, &|_| None).unwrap().into_owned()
    }

    // Expected values are what PHP 8.2 prints, with ENT_COMPAT for what was the default before 8.1.

    #[test]
    fn html_is_escaped_as_php_does() {
        assert_eq!(
            through(&[Step::HtmlEscape], r#"<b>"O'Neil" & 猪</b>"#),
            "&lt;b&gt;&quot;O&#039;Neil&quot; &amp; 猪&lt;/b&gt;"
        );
        assert_eq!(through(&[Step::HtmlEscapeCompat], r#"<"O'Neil">"#), "&lt;&quot;O'Neil&quot;&gt;");
        assert_eq!(through(&[Step::HtmlEscape, Step::HtmlEscape], "a&b"), "a&amp;amp;b");
    }

    #[test]
    fn a_break_stands_before_each_line_end_as_php_has_it() {
        assert_eq!(through(&[Step::Nl2br], "a\nb\r\nc\rd\n\re"), "a<br />\nb<br />\r\nc<br />\rd<br />\n\re");
        assert_eq!(through(&[Step::Nl2br], "\n\n\r\r"), "<br />\n<br />\n\r<br />\r");
    }

    #[test]
    fn steps_are_applied_in_their_order() {
        let chain = [Step::HtmlEscape, Step::Nl2br, Step::Prefix("<b>对你说: </b>".into())];
        assert_eq!(through(&chain, "<\n>"), "<b>对你说: </b>&lt;<br />\n&gt;");
    }

    #[test]
    fn without_steps_and_where_there_is_nothing_to_do_the_text_is_not_copied() {
        for chain in [&[][..], &[Step::HtmlEscape, Step::Nl2br, Step::HtmlEscapeCompat]] {
            assert!(matches!(apply(chain, "hi, all !", &|_| None), Some(Cow::Borrowed("hi, all !"))));
        }
    }

    #[test]
    fn what_would_grow_without_end_is_given_up() {
        let text = "&".repeat(64 << 10);
        assert!(apply(&[Step::HtmlEscape], &text, &|_| None).is_some());
        assert_eq!(apply(&vec![Step::HtmlEscape; STEPS_MAX], &text, &|_| None), None);
    }

    fn private() -> Chain {
        let name = Step::PrefixOf { field: "to_name".into(), through: vec![Step::HtmlEscape] };
        vec![Step::Nl2br, Step::Prefix("说: </b>".into()), name, Step::Prefix("<b>你对".into())]
    }

    #[test]
    fn a_field_s_text_is_put_in_front_after_its_own_steps() {
        let fields = |field: &str| (field == "to_name").then_some("<猪>");
        assert_eq!(
            apply(&private(), "a\nb", &fields).as_deref(),
            Some("<b>你对&lt;猪&gt;说: </b>a<br />\nb")
        );
    }

    #[test]
    fn where_a_field_is_missing_nothing_comes_out() {
        assert_eq!(apply(&private(), "a", &|_| None), None);
    }

    #[test]
    fn a_field_makes_nothing_longer_than_the_bound_either() {
        let long = "x".repeat(TEXT_BYTES_MAX);
        let name = [Step::PrefixOf { field: "to_name".into(), through: Vec::new() }];
        assert!(apply(&name, "", &|_| Some(&long)).is_some());
        assert_eq!(apply(&name, "a", &|_| Some(&long)), None);
    }
}
