//! Bounds of a head, and what can be wrong with one.

/// Longest method in bytes. The longest registered one (`UPDATEREDIRECTREF`) has 17.
pub const METHOD_BYTES_MAX: usize = 24;

/// Most connection options besides `close`, `keep-alive` and `upgrade`: each is compared with every field name.
pub const CONNECTION_OPTIONS_MAX: usize = 16;

/// Bounds of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head with its empty line; at most [`HEAD_BYTES_CEILING`](super::head::HEAD_BYTES_CEILING).
    pub head_bytes_max: usize,
    /// Field lines; at most [`FIELDS_MAX`](crate::limits::FIELDS_MAX), of a response
    /// [`RESPONSE_FIELDS_MAX`](crate::limits::RESPONSE_FIELDS_MAX).
    pub fields_max: usize,
    /// Bytes of a request target.
    pub target_bytes_max: usize,
}

/// HTTP version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0 (RFC 1945).
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// What is wrong with a head, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the head: {fault}")]
pub struct HeadError {
    /// Offset in the head; 0 is the first byte. For a rule about a whole field, the start of its line.
    pub offset: usize,
    /// The broken rule.
    pub fault: HeadFault,
}

/// A broken rule of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// 431, of a response 502.
    #[error("the head has no end within {limit} bytes ({key})")]
    HeadTooLong {
        /// The bound.
        limit: usize,
        /// Its name.
        key: &'static str,
    },
    /// 431, of a response 502.
    #[error("more than {limit} fields ({key})")]
    TooManyFields {
        /// The bound.
        limit: usize,
        /// Its name.
        key: &'static str,
    },
    /// 414.
    #[error("the target is longer than {limit} bytes (target_bytes_max)")]
    TargetTooLong {
        /// `target_bytes_max`.
        limit: usize,
    },
    /// 501.
    #[error("the method is longer than {METHOD_BYTES_MAX} bytes")]
    MethodTooLong,
    /// 501: a method that Node does not know, CONNECT, TRACE, or the HTTP/2 preface.
    #[error("a method that is not supported; methods are upper case (RFC 9110 §9.1)")]
    MethodNotServed,
    /// RFC 9112 §2.2.
    #[error("a line that ends with LF; expected CR LF")]
    LfWithoutCr,
    /// RFC 9112 §2.2.
    #[error("CR without LF")]
    CrWithoutLf,
    /// RFC 9112 §2.2 asks to ignore one.
    #[error("two empty lines before the request line; at most one is ignored")]
    SecondBlankLine,
    /// RFC 9112 §3.
    #[error("expected `method SP target SP HTTP/1.1`, one space each")]
    RequestLineMalformed,
    /// A byte that is not allowed here.
    #[error("byte 0x{byte:02x} is not allowed in a {part}")]
    BadByte {
        /// The byte.
        byte: u8,
        /// Where it is.
        part: &'static str,
    },
    /// RFC 9112 §5.2.
    #[error("a line that begins with white space; folded fields are refused")]
    FoldedLine,
    /// RFC 9112 §5.1.
    #[error("white space between field name and colon")]
    SpaceBeforeColon,
    /// RFC 9110 §5.1.
    #[error("a field without a name")]
    EmptyName,
    /// RFC 9112 §5.
    #[error("a field line without a colon")]
    NoColon,
    /// RFC 9112 §2.3.
    #[error("expected `HTTP/1.1` or `HTTP/1.0`")]
    VersionMalformed,
    /// 505.
    #[error("expected HTTP/1.1 or HTTP/1.0")]
    VersionNotSupported,
    /// RFC 9112 §4.
    #[error("expected a status of three digits from 100 to 999")]
    StatusMalformed,
    /// The input is not exactly one head.
    #[error("expected exactly one head in {bytes} bytes")]
    NotOneHead {
        /// Their number.
        bytes: usize,
    },
    /// Accepted by our scanner and refused by httparse: a bug of ours, refused all the same.
    #[error("not parsed: {0}")]
    Unparsed(httparse::Error),
    /// RFC 9112 §3.2.
    #[error("expected a target that begins with `/`, `http://` or `https://`; `*` is not served")]
    TargetForm,
    /// RFC 9112 §3.2.
    #[error("no Host field")]
    HostMissing,
    /// RFC 9112 §3.2.
    #[error("a second Host field")]
    HostRepeated,
    /// RFC 9110 §7.2.
    #[error("the host is neither a name nor an address, with or without a port")]
    HostMalformed,
    /// RFC 9112 §3.2.2; refused instead of choosing one.
    #[error("the Host field differs from the target's authority")]
    HostDiffers,
    /// RFC 9110 §8.6.
    #[error("Content-Length is not one decimal number below 2^63 without leading zeros")]
    LengthMalformed,
    /// RFC 9112 §6.3, 5; in a request equal ones are refused too.
    #[error("a second Content-Length")]
    LengthRepeated,
    /// RFC 9112 §6.1.
    #[error("both Transfer-Encoding and Content-Length")]
    LengthAndCoding,
    /// RFC 9112 §6.1.
    #[error("Transfer-Encoding in an HTTP/1.0 message")]
    CodingInHttp10,
    /// RFC 1945 §8: these have no body, and an old server may read it as the next request.
    #[error("a GET, HEAD or DELETE in HTTP/1.0 with a body")]
    BodyInHttp10,
    /// RFC 9112 §6.3, 4.
    #[error("Transfer-Encoding is malformed, or chunked is not its last coding, once and without parameters")]
    CodingMalformed,
    /// 501 (RFC 9112 §6.1).
    #[error("a transfer coding other than chunked")]
    CodingUnknown,
    /// RFC 9110 §7.6.1.
    #[error("Connection is not a list of at most {CONNECTION_OPTIONS_MAX} tokens")]
    ConnectionMalformed,
    /// RFC 9110 §7.6.1: removing these would change the message.
    #[error("Connection names a field that the server needs")]
    ConnectionNamesField,
    /// Some servers (CGI) read `Content_Length` as `Content-Length`.
    #[error("an underscore in the name of a field that frames the message")]
    UnderscoreInName,
    /// RFC 9110 §5.5 treats it as white space, nginx as part of the value.
    #[error("a tab in a field that routes or frames the message")]
    TabInFraming,
    /// 417 (RFC 9110 §10.1.1).
    #[error("an expectation other than 100-continue")]
    ExpectationUnknown,
    /// The plan of the forwarded head has more pieces than its bound.
    #[error("forwarding the head needs more than {limit} pieces")]
    PlanTooLong {
        /// Pieces or bytes of a plan.
        limit: usize,
    },
}
