//! A second parser of requests for the fuzz targets, as lenient as the worst servers. It ends lines with LF alone,
//! accepts any white space as a separator, `_` as `-`, and any digits as a number. A forwarded request must read the
//! same to it, whichever of two lengths it prefers: then no server can read it differently.

#![allow(clippy::panic)] // a fuzz entry has no other way to say no

/// A request as a lenient server reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sloppy {
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// Bytes consumed.
    pub(crate) bytes: usize,
}

/// Reads one request. `length_first`: Content-Length takes precedence over Transfer-Encoding.
pub(crate) fn read(sent: &[u8], length_first: bool) -> Option<Sloppy> {
    let mut at = 0;
    let first = line(sent, &mut at)?;
    let mut words = first.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let (method, target) = (words.next()?.to_vec(), words.next()?.to_vec());
    let (mut length, mut chunked): (Option<usize>, bool) = (None, false);
    loop {
        let field = line(sent, &mut at)?;
        if field.iter().all(u8::is_ascii_whitespace) {
            break;
        }
        let folded: Vec<u8> =
            field.iter().map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }).collect();
        let text = String::from_utf8_lossy(&folded).into_owned();
        if let Some((name, value)) = text.split_once(':') {
            if name.trim() == "content-length" {
                let digits: String = value.chars().filter(char::is_ascii_digit).collect();
                length = digits.parse().ok().or(length);
            }
            chunked |= name.trim() == "transfer-encoding" && value.contains("chunked");
        }
    }
    let mut body = Vec::new();
    match length {
        Some(length) if length_first || !chunked => {
            body.extend_from_slice(sent.get(at..at.checked_add(length)?)?);
            at += length;
        }
        _ if chunked => read_chunks(sent, &mut at, &mut body)?,
        _ => {}
    }
    Some(Sloppy { method, target, body, bytes: at })
}

fn read_chunks(sent: &[u8], at: &mut usize, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let size = String::from_utf8_lossy(line(sent, at)?).trim().to_owned();
        let size =
            usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("sent a chunk size of {size:?}"));
        if size == 0 {
            while !line(sent, at)?.iter().all(u8::is_ascii_whitespace) {}
            return Some(());
        }
        body.extend_from_slice(sent.get(*at..at.checked_add(size)?)?);
        *at += size;
        line(sent, at)?;
    }
}

/// Up to the next LF, which is consumed.
fn line<'b>(sent: &'b [u8], at: &mut usize) -> Option<&'b [u8]> {
    let rest = sent.get(*at..)?;
    let end = rest.iter().position(|&byte| byte == b'\n')?;
    *at += end + 1;
    rest.get(..end)
}
