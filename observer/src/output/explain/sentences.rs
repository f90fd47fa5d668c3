//! Every sentence of the explained transcript, in each language, in one table.
//!
//! Owns the words. Must not know when they are said. Bounded: constants, and what is put into their places.

use clap::ValueEnum;
use observer_core::anomaly::AnomalyCode;

/// A language of the transcript.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// English.
    #[default]
    En,
    /// 中文.
    Zh,
}

impl Language {
    /// What stands between the members of a list.
    pub const fn comma(self) -> &'static str {
        match self {
            Self::En => ", ",
            Self::Zh => "、",
        }
    }
}

/// What is to be said. The comment names what goes into the places `{0}`, `{1}`, ….
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sentence {
    /// Client, server.
    HandshakeSyn,
    /// Server, client.
    HandshakeSynAck,
    /// Client.
    HandshakeAck,
    /// Client, path.
    UpgradeRequest,
    /// Nothing.
    UpgradeAnswer,
    /// Status, reason.
    UpgradeRefused,
    /// Client, method, path.
    PlainRequest,
    /// Status, reason.
    PlainAnswer,
    /// Claimed client, header, client.
    ClientClaimed,
    /// Client, claimed client, claimed server.
    ProxyHeader,
    /// Client.
    ProxyHeaderOfNobody,
    /// Name.
    LogsIn,
    /// Name, names.
    UserList,
    /// Name.
    LoginConfirmed,
    /// Name, recipient.
    LoginAnnounced,
    /// Name, content.
    SaysToAll,
    /// Name, recipient, content.
    SaysToOne,
    /// Name, recipient.
    SayPassedOn,
    /// Name.
    SayReturned,
    /// Name, recipient.
    LogoutAnnounced,
    /// Name.
    LogsOut,
    /// Recipient.
    ChatPing,
    /// Name.
    ChatPong,
    /// Recipient, code.
    ChatError,
    /// Sender, opcode, length.
    Message,
    /// Sender, type, opcode, length.
    NamedMessage,
    /// Sender, opcode.
    MessageUndecoded,
    /// Sender.
    Ping,
    /// Sender.
    Pong,
    /// Sender, who pinged, after how long.
    PongAfter,
    /// Sender, code.
    Close,
    /// Sender, bytes.
    PartOfMessage,
    /// Sender, bytes.
    SentAgain,
    /// Sender.
    Fin,
    /// Sender.
    Reset,
    /// Receiver, what.
    Acknowledges,
    /// Receiver, bytes.
    AcknowledgesBytes,
    /// Receiver.
    AcknowledgesNothing,
    /// Sender.
    LastAcknowledgment,
    /// Sender.
    AfterTheEnd,
    /// Nothing.
    OfNoConnection,
    /// How many, of how many, what.
    Delivered,
    /// How many, of how many, what.
    DeliveryUnknown,
    /// How many, of how many, what.
    NotDelivered,
    /// Sender, bytes, why.
    Gap,
    /// Why bytes were not seen.
    CutBySnapLength,
    /// Why bytes were not seen.
    LostByCapture,
    /// Why bytes were not seen.
    NeverSeen,
    /// Why bytes were not seen.
    GivenUpAtLimit,
    /// What.
    Anomaly,
    /// What, the section that forbids it.
    AnomalyOfRule,
    /// Client, server.
    OpenBefore,
    /// Client, server.
    Open,
    /// Client, server.
    Closed,
    /// Nothing.
    Legend,
    /// How many.
    LeftOut,
    /// How many.
    Connections,
    /// The server's name in a sentence.
    TheServer,
    /// What was acknowledged: an upgrade request.
    TheUpgradeRequest,
    /// What was acknowledged: the answer to it.
    TheUpgradeAnswer,
    /// Name: what was acknowledged.
    TheLogin,
    /// What was acknowledged.
    TheUserList,
    /// Content: what was acknowledged, or delivered.
    TheSaying,
    /// Name: what was acknowledged.
    TheLogout,
    /// What was acknowledged.
    AMessage,
    /// What was acknowledged.
    ACloseFrame,
    /// What was acknowledged.
    AControlFrame,
    /// What was acknowledged.
    TheFin,
}

impl Sentence {
    /// Its words, with places.
    pub const fn template(self, language: Language) -> &'static str {
        let (english, chinese) = self.templates();
        match language {
            Language::En => english,
            Language::Zh => chinese,
        }
    }

    const fn templates(self) -> (&'static str, &'static str) {
        match self {
            Self::HandshakeSyn => (
                "TCP handshake 1/3: {0} asks {1} for a connection",
                "TCP 三次握手 1/3：{0} 向 {1} 请求建立连接",
            ),
            Self::HandshakeSynAck => (
                "TCP handshake 2/3: {0} agrees, and asks {1} in turn",
                "TCP 三次握手 2/3：{0} 同意，并向 {1} 确认",
            ),
            Self::HandshakeAck => (
                "TCP handshake 3/3: {0} confirms; the connection is open",
                "TCP 三次握手 3/3：{0} 确认，连接建立",
            ),
            Self::UpgradeRequest => (
                "WebSocket upgrade request: {0} asks to speak WebSocket on {1}",
                "WebSocket 升级请求：{0} 请求在 {1} 上使用 WebSocket",
            ),
            Self::UpgradeAnswer => (
                "WebSocket upgrade answer: the server agrees; from here on both speak WebSocket",
                "WebSocket 升级应答：服务器同意，此后双方使用 WebSocket 通信",
            ),
            Self::UpgradeRefused => ("WebSocket upgrade refused: {0} {1}", "WebSocket 升级被拒绝：{0} {1}"),
            Self::PlainRequest => ("HTTP request of {0}: {1} {2}", "{0} 的 HTTP 请求：{1} {2}"),
            Self::PlainAnswer => ("HTTP answer: {0} {1}", "HTTP 应答：{0} {1}"),
            Self::ClientClaimed => (
                "{1} claims that it is for {0}; what connects is {2}, and anybody can claim this",
                "{1} 声称真实客户端是 {0}；实际连接来自 {2}，此声明未经验证",
            ),
            Self::ProxyHeader => (
                "PROXY header: {0} claims to connect for {1}, which asked for {2}",
                "PROXY 协议头：{0} 声称代 {1} 连接，目标为 {2}",
            ),
            Self::ProxyHeaderOfNobody => {
                ("PROXY header: {0} claims no client's address", "PROXY 协议头：{0} 未声明客户端地址")
            }
            Self::LogsIn => ("{0} logs in", "{0} 登录"),
            Self::UserList => {
                ("the server returns the user list to {0}: {1}", "服务器向 {0} 返回用户列表：{1}")
            }
            Self::LoginConfirmed => ("the server confirms {0}'s login", "服务器返回 {0} 的登录结果"),
            Self::LoginAnnounced => ("{0}'s login is announced to {1}", "向 {1} 广播 {0} 的登录"),
            Self::SaysToAll => ("{0} says to all: “{1}”", "{0} 对所有人说：“{1}”"),
            Self::SaysToOne => ("{0} says to {1} alone: “{2}”", "{0} 对 {1} 单独说：“{2}”"),
            Self::SayPassedOn => ("what {0} said is passed on to {1}", "将 {0} 的发言转发给 {1}"),
            Self::SayReturned => ("what {0} said comes back to {0}", "将 {0} 的发言返回给 {0} 自己"),
            Self::LogoutAnnounced => ("that {0} left is announced to {1}", "向 {1} 广播 {0} 的退出"),
            Self::LogsOut => ("{0} logs out", "{0} 退出"),
            Self::ChatPing => ("the server asks {0} for a sign of life", "服务器向 {0} 发送心跳"),
            Self::ChatPong => ("{0} gives a sign of life", "{0} 应答心跳"),
            Self::ChatError => ("the server refuses what {0} sent: {1}", "服务器拒绝 {0} 的请求：{1}"),
            Self::Message => ("{0} sends a {1} message of {2} bytes", "{0} 发送 {1} 消息，{2} 字节"),
            Self::NamedMessage => {
                ("{0} sends “{1}”, a {2} message of {3} bytes", "{0} 发送“{1}”（{2} 消息，{3} 字节）")
            }
            Self::MessageUndecoded => (
                "{0} sends a compressed {1} message, which is not decoded",
                "{0} 发送压缩的 {1} 消息，未解码",
            ),
            Self::Ping => ("{0} sends a WebSocket ping", "{0} 发送 WebSocket ping 帧"),
            Self::Pong => ("{0} sends a WebSocket pong", "{0} 发送 WebSocket pong 帧"),
            Self::PongAfter => (
                "{0} answers the WebSocket ping of {1} after {2}",
                "{0} 在 {2} 后应答 {1} 的 WebSocket ping 帧",
            ),
            Self::Close => ("{0} closes the WebSocket{1}", "{0} 关闭 WebSocket{1}"),
            Self::PartOfMessage => {
                ("{0} sends {1} bytes, which end nothing yet", "{0} 发送 {1} 字节，消息尚未结束")
            }
            Self::SentAgain => ("{0} sends {1} bytes again, for lack of an answer", "{0} 重传 {1} 字节"),
            Self::Fin => ("{0} ends its side of the connection (FIN)", "{0} 关闭本方向的连接（FIN）"),
            Self::Reset => ("{0} breaks the connection off (RST)", "{0} 重置连接（RST）"),
            Self::Acknowledges => ("ACK: {0} has received {1}", "ACK：{0} 已收到 {1}"),
            Self::AcknowledgesBytes => {
                ("ACK: {0} has received {1} bytes in all", "ACK：{0} 共已收到 {1} 字节")
            }
            Self::AcknowledgesNothing => (
                "ACK: nothing new from {0} (its window, or a sign of life)",
                "ACK：{0} 没有新的确认（窗口更新或保活）",
            ),
            Self::LastAcknowledgment => (
                "last ACK: {0} has received the end; the connection is over for both",
                "最后的 ACK：{0} 已收到 FIN，双方的连接都已结束",
            ),
            Self::AfterTheEnd => {
                ("{0} sends something after the end of the connection", "{0} 在连接结束后仍有发送")
            }
            Self::OfNoConnection => (
                "of a connection that is over, or whose beginning was not seen",
                "属于已结束的连接，或未看到其开始的连接",
            ),
            Self::Delivered => ("delivered to {0} of {1} browsers: {2}", "已送达 {0}/{1} 个浏览器：{2}"),
            Self::DeliveryUnknown => (
                "delivered to {0} of {1} browsers, unknown for the others: {2}",
                "已送达 {0}/{1} 个浏览器，其余未知：{2}",
            ),
            Self::NotDelivered => {
                ("delivered to {0} of {1} browsers only: {2}", "仅送达 {0}/{1} 个浏览器：{2}")
            }
            Self::Gap => ("{1} bytes from {0} were not seen: {2}", "来自 {0} 的 {1} 字节未被捕获：{2}"),
            Self::CutBySnapLength => ("cut off by the snap length", "被抓取长度截断"),
            Self::LostByCapture => ("lost by the capture", "抓包时丢失"),
            Self::NeverSeen => ("nothing tells why", "原因未知"),
            Self::GivenUpAtLimit => ("given up at a limit of the observer", "超出 observer 的限制而放弃"),
            Self::Anomaly => ("anomaly: {0}", "异常：{0}"),
            Self::AnomalyOfRule => ("anomaly: {0} ({1})", "异常：{0}（{1}）"),
            Self::OpenBefore => (
                "the connection of {0} to {1} was open before; its beginning was not seen",
                "{0} 到 {1} 的连接在观察开始前已经打开，未看到其开始",
            ),
            Self::Open => {
                ("the connection of {0} to {1} is still open at the end", "{0} 到 {1} 的连接在结束时仍然打开")
            }
            Self::Closed => ("the connection of {0} to {1} is over", "{0} 到 {1} 的连接结束"),
            Self::Legend => (
                "Flags: S = SYN, opens a connection; . = ACK, confirms what was received; P = PSH, hand over at \
                 once; F = FIN, ends a direction; R = RST, breaks off",
                "标志：S = SYN 建立连接；. = ACK 确认收到；P = PSH 立即交付；F = FIN 关闭本方向；R = RST 重置连接",
            ),
            Self::LeftOut => (
                "the acknowledgments of {0} messages were not told of, for lack of room",
                "因数量过多，{0} 条消息的确认未予说明",
            ),
            Self::Connections => ("{0} connections", "共 {0} 个连接"),
            Self::TheServer => ("the server", "服务器"),
            Self::TheUpgradeRequest => ("the upgrade request", "升级请求"),
            Self::TheUpgradeAnswer => ("the upgrade answer", "升级应答"),
            Self::TheLogin => ("{0}'s login", "{0} 的登录"),
            Self::TheUserList => ("the user list", "用户列表"),
            Self::TheSaying => ("“{0}”", "“{0}”"),
            Self::TheLogout => ("that {0} left", "{0} 的退出"),
            Self::AMessage => ("a message", "一条消息"),
            Self::ACloseFrame => ("the close", "关闭帧"),
            Self::TheFin => ("the end (FIN)", "连接关闭（FIN）"),
            Self::AControlFrame => ("a control frame", "控制帧"),
        }
    }
}

/// What an anomaly is, without a full stop.
pub fn anomaly_words(code: AnomalyCode, language: Language) -> &'static str {
    match language {
        Language::En => code.sentence().trim_end_matches('.'),
        Language::Zh => chinese_anomaly(code),
    }
}

const fn chinese_anomaly(code: AnomalyCode) -> &'static str {
    match code {
        AnomalyCode::UnmaskedClientFrame => "客户端发送的帧没有掩码",
        AnomalyCode::MaskedServerFrame => "服务器发送的帧带有掩码",
        AnomalyCode::MaskingKeyRepeated => "客户端连续多帧使用同一个掩码密钥",
        AnomalyCode::ReservedBitSet => "帧设置了保留位，而协商的扩展没有在此定义它",
        AnomalyCode::CompressionBitMisplaced => "RSV1 只应出现在消息的首帧上表示压缩，却出现在其他帧上",
        AnomalyCode::ReservedOpcode => "帧的操作码在协议中没有定义",
        AnomalyCode::NonMinimalLength => "帧的长度字段用了过多的字节",
        AnomalyCode::LengthHighBitSet => "帧的 64 位长度的最高位被置位",
        AnomalyCode::FragmentedControlFrame => "控制帧被分片",
        AnomalyCode::LongControlFrame => "控制帧的载荷超过 125 字节",
        AnomalyCode::ContinuationWithoutStart => "没有未完成的消息，却收到延续帧",
        AnomalyCode::DataFrameInsideMessage => "上一条消息尚未结束，新消息就已开始",
        AnomalyCode::InvalidUtf8 => "文本消息不是有效的 UTF-8",
        AnomalyCode::DeflateInvalid => "压缩消息不是有效的 DEFLATE 数据",
        AnomalyCode::DeflateWindowExceeded => "压缩消息引用了协商窗口之外的字节",
        AnomalyCode::InflatedTooLong => "压缩消息解压后超过 observer 的限制",
        AnomalyCode::ClosePayloadTooShort => "关闭帧的载荷只有一个字节，不足以容纳状态码",
        AnomalyCode::CloseCodeInvalid => "关闭帧使用了不允许发送的状态码",
        AnomalyCode::CloseReasonInvalidUtf8 => "关闭帧的原因不是有效的 UTF-8",
        AnomalyCode::FrameAfterClose => "同一方向在关闭帧之后又发送了数据帧",
        AnomalyCode::CloseNotAnswered => "一方收到关闭帧后没有应答就结束了自己的方向",
        AnomalyCode::StreamEndsInsideFrame => "TCP 流在一帧的中间结束",
        AnomalyCode::StreamEndsInsideMessage => "TCP 流在消息的分片之间结束",
        AnomalyCode::ResynchronisationFailed => {
            "缺口之后被当作帧的内容并不是帧：此后标为重新同步的内容可能有误"
        }
        AnomalyCode::Tls => "连接以 TLS 开始，内容无法读取",
        AnomalyCode::Http2 => "连接使用 HTTP/2，不予解码",
        AnomalyCode::WebSocketOverHttp2 => "HTTP/2 中允许或请求了 WebSocket（RFC 8441），不予解码",
        AnomalyCode::NotHttp => "连接不是以 HTTP 开始",
        AnomalyCode::OtherProtocol => "服务器切换到 WebSocket 以外的协议",
        AnomalyCode::ProxyHeaderMalformed => "代理在最前面发送的 PROXY 协议头格式错误",
        AnomalyCode::HeadTooLong => "HTTP 头部超过 observer 的限制",
        AnomalyCode::HeadMalformed => "HTTP 头部格式错误",
        AnomalyCode::BodyMalformed => "无法判断 HTTP 正文在哪里结束",
        AnomalyCode::StreamEndsInsideHead => "TCP 流在 HTTP 头部的中间结束",
        AnomalyCode::HeaderFolded => "HTTP 头部字段折成多行，这种写法已废弃",
        AnomalyCode::HandshakeRequestInvalid => "升级请求不符合要求",
        AnomalyCode::HandshakeNotAwaited => "客户端没有等到升级请求的应答就继续发送",
        AnomalyCode::HandshakeAnswerInvalid => "打开 WebSocket 的应答不符合要求",
        AnomalyCode::HandshakeInvalidAccepted => "服务器接受了必须拒绝的升级请求",
        AnomalyCode::HandshakeVersionsUnnamed => "服务器拒绝了 WebSocket 版本，却没有列出它支持的版本",
        AnomalyCode::HandshakeWrongAccept => "应答的 Sec-WebSocket-Accept 与请求的密钥不符",
        AnomalyCode::HandshakeSubprotocolNotOffered => "服务器选择了客户端没有提出的子协议",
        AnomalyCode::HandshakeExtensionsMalformed => "Sec-WebSocket-Extensions 字段不符合语法",
        AnomalyCode::HandshakeExtensionNotOffered => "服务器选择了客户端没有提出的扩展",
        AnomalyCode::HandshakeExtensionInvalid => "扩展的参数无效",
        AnomalyCode::SynOnOpenConnection => "连接上出现了不属于它的 SYN",
        AnomalyCode::ResetOutOfSequence => "RST 的序列号不是接收方期待的下一个",
        AnomalyCode::OverlapDiffers => "TCP 流的同一位置被发送了不同的字节",
        AnomalyCode::UrgentData => "有一个字节作为紧急数据发送：它不属于接收方读到的数据流",
        AnomalyCode::SegmentOutsideWindow => "TCP 报文段远在对方可接收的范围之外",
        AnomalyCode::DataAfterFin => "TCP 报文段的字节位于流的结尾之后",
        AnomalyCode::LateDataAfterGap => "已放弃等待的字节后来才到达",
    }
}

/// Puts values into the places of a sentence. A space of the sentence between two Chinese characters goes: it stands
/// there for values in other scripts.
pub fn fill(template: &str, values: &[&str]) -> String {
    let mut text =
        String::with_capacity(template.len() + values.iter().map(|value| value.len()).sum::<usize>());
    let mut rest = template;
    while let Some((before, place)) = rest.split_once('{') {
        text.push_str(before);
        let (number, after) = place.split_once('}').unwrap_or((place, ""));
        let value = number.parse::<usize>().ok().and_then(|at| values.get(at)).copied().unwrap_or("");
        if value.starts_with(joins) && text.strip_suffix(' ').is_some_and(|it| it.ends_with(is_chinese)) {
            text.pop();
        }
        text.push_str(value);
        let joined =
            after.strip_prefix(' ').filter(|it| it.starts_with(is_chinese) && value.ends_with(joins));
        rest = joined.unwrap_or(after);
    }
    text.push_str(rest);
    text
}

/// Whether no space stands between it and a Chinese character.
fn joins(character: char) -> bool {
    is_chinese(character) || matches!(character, '“' | '”')
}

fn is_chinese(character: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&character)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_anomaly_has_its_own_words_in_each_language() {
        for language in [Language::En, Language::Zh] {
            let words: BTreeSet<_> =
                AnomalyCode::ALL.iter().map(|code| anomaly_words(*code, language)).collect();
            assert_eq!(words.len(), AnomalyCode::ALL.len());
            for words in words {
                assert_eq!(words.contains(is_chinese), language == Language::Zh, "{words}");
                assert!(!words.ends_with(['.', '。']), "{words}");
            }
        }
    }

    #[test]
    fn chinese_stands_apart_from_other_scripts_and_from_nothing_else() {
        let said = |value: &str| fill("ACK：{0} 已收到 {0} 的登录", &[value]);
        assert_eq!(said("mynick"), "ACK：mynick 已收到 mynick 的登录");
        assert_eq!(said("猪猪"), "ACK：猪猪已收到猪猪的登录");
        assert_eq!(said("“a”"), "ACK：“a”已收到“a”的登录");
        assert_eq!(said("a猪"), "ACK：a猪已收到 a猪的登录");
        assert_eq!(fill("{0} says to {1}", &["猪", "猪"]), "猪 says to 猪");
    }

    #[test]
    fn values_go_into_their_places_and_are_not_looked_into() {
        assert_eq!(fill("{1} to {0}, {1}", &["a", "{0}"]), "{0} to a, {0}");
        assert_eq!(fill("none", &[]), "none");
    }
}
