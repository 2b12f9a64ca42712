//! nginx's syntax as `ngx_conf_read_token()` reads it: words, quotes, escapes, comments and blocks.
//!
//! Knows no directive but those with a block of Lua, whose end only a parser of Lua finds: a file with one is refused.

/// Bytes of a word; nginx's own buffer has as many.
pub(crate) const WORD_BYTES_MAX: usize = 4096;
/// Words of a directive: a `server_name` with all names of a certificate has a hundred.
pub(crate) const WORDS_MAX: usize = 2048;
/// Blocks within each other: http, server, location, if are four.
pub(crate) const DEPTH_MAX: usize = 32;
/// Directives of a file: a `map` of bad user agents has thousands.
pub(crate) const DIRECTIVES_MAX: usize = 20_000;

/// Words of a file: four for each directive are many.
pub(crate) const FILE_WORDS_MAX: usize = 100_000;

/// A directive, with its block if it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directive {
    /// Which file, of those that were read.
    pub(crate) file: u16,
    /// Counted from 1.
    pub(crate) line: u32,
    pub(crate) name: String,
    /// Its arguments.
    pub(crate) words: Vec<String>,
    /// What is in its braces; of an `include`, what was read for it.
    pub(crate) body: Option<Vec<Directive>>,
    /// Of an `include` that was not read: why.
    pub(crate) unread: Option<super::known::Fate>,
}

/// Why a file cannot be read, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: u32,
    pub(crate) what: &'static str,
}

enum Token {
    Word(String),
    Semicolon,
    Open,
    Close,
    End,
}

struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u32,
}

/// The directives of a file. A byte order mark and CRLF are fine; what is not UTF-8 is replaced.
///
/// # Errors
/// nginx would not read it either, or it is out of bounds.
pub(crate) fn parse(bytes: &[u8], file: u16) -> Result<Vec<Directive>, Fault> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lexer = Lexer { bytes, at: 0, line: 1 };
    let (mut open, mut words): (Vec<Directive>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut top, mut line, mut count, mut all_words) = (Vec::new(), 1, 0, 0);
    loop {
        let token = lexer.token()?;
        let fault = |what| Err(Fault { line: lexer.line, what });
        match token {
            Token::Word(word) => {
                if words.is_empty() {
                    line = lexer.line;
                }
                words.push(word);
                all_words += 1;
                if all_words > FILE_WORDS_MAX {
                    return fault("the file has more than 100000 words");
                }
                if words.len() > WORDS_MAX {
                    return fault("a directive has more than 2048 words");
                }
                continue;
            }
            Token::Semicolon | Token::Open if words.is_empty() => {
                return fault("`;` or `{` stands where a directive begins");
            }
            Token::Close if !words.is_empty() => return fault("`}` stands where `;` belongs"),
            Token::End if !words.is_empty() => return fault("the file ends within a directive"),
            Token::End if !open.is_empty() => return fault("the file ends within a block: a `}` is missing"),
            Token::End => return Ok(top),
            Token::Semicolon | Token::Open | Token::Close => {}
        }
        let done = match token {
            Token::Close => open.pop(),
            _ => {
                count += 1;
                let mut all = std::mem::take(&mut words).into_iter();
                let name = all.next().unwrap_or_default();
                Some(Directive { file, line, name, words: all.collect(), ..Directive::default() })
            }
        };
        let Some(mut done) = done else { return fault("`}` closes no block") };
        if count > DIRECTIVES_MAX {
            return fault("the file has more than 20000 directives");
        }
        if matches!(token, Token::Open) {
            if done.name.ends_with("_by_lua_block") {
                return fault("a block of Lua, which is not read");
            }
            if open.len() == DEPTH_MAX {
                return fault("more than 32 blocks are within each other");
            }
            done.body = Some(Vec::new());
            open.push(done);
        } else {
            open.last_mut().and_then(|block| block.body.as_mut()).unwrap_or(&mut top).push(done);
        }
    }
}

impl Lexer<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        self.line += u32::from(byte == b'\n');
        Some(byte)
    }

    fn token(&mut self) -> Result<Token, Fault> {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    self.next();
                }
                b'#' => while self.next().is_some_and(|byte| byte != b'\n') {},
                _ => break,
            }
        }
        let single = match self.peek() {
            None => Token::End,
            Some(b';') => Token::Semicolon,
            Some(b'{') => Token::Open,
            Some(b'}') => Token::Close,
            Some(quote @ (b'"' | b'\'')) => {
                self.next();
                return self.word(Some(quote));
            }
            Some(_) => return self.word(None),
        };
        self.next();
        Ok(single)
    }

    fn word(&mut self, quote: Option<u8>) -> Result<Token, Fault> {
        let mut word = Vec::new();
        let mut after_dollar = false;
        loop {
            let fault = |what| Err(Fault { line: self.line, what });
            let Some(byte) = self.peek() else {
                return fault(match quote {
                    Some(_) => "the file ends within quotes",
                    None => "the file ends within a directive",
                });
            };
            let ends = match quote {
                Some(quote) => byte == quote,
                // `${name}` is a variable.
                None => {
                    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b';') || (byte == b'{' && !after_dollar)
                }
            };
            if ends {
                break;
            }
            if byte == 0 {
                return fault("a zero byte: this is not text in UTF-8");
            }
            if word.len() >= WORD_BYTES_MAX {
                return fault("a word has more than 4096 bytes");
            }
            after_dollar = byte == b'$';
            self.next();
            word.push(byte);
            if byte == b'\\' {
                self.escaped(&mut word);
            }
        }
        if quote.is_some() {
            self.next();
            if !matches!(self.peek(), None | Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' | b')')) {
                return Err(Fault { line: self.line, what: "text follows a closing quote without a blank" });
            }
        }
        Ok(Token::Word(String::from_utf8_lossy(&word).into_owned()))
    }

    /// What follows a backslash, which is the last byte of `word` so far and stays only in front of what it does not change.
    fn escaped(&mut self, word: &mut Vec<u8>) {
        let Some(byte) = self.next() else { return };
        let meant = match byte {
            b'"' | b'\'' | b'\\' => byte,
            b't' => b'\t',
            b'r' => b'\r',
            b'n' => b'\n',
            other => return word.push(other),
        };
        word.pop();
        word.push(meant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(directives: &[Directive]) -> String {
        let one = |directive: &Directive| {
            let body = directive.body.as_deref().map(|body| format!("{{{}}}", shown(body)));
            let words: String = directive.words.iter().map(|word| format!("<{word}>")).collect();
            format!("{}:{}{words}{};", directive.line, directive.name, body.unwrap_or_default())
        };
        directives.iter().map(one).collect()
    }

    fn read(text: &str) -> String {
        parse(text.as_bytes(), 0)
            .map_or_else(|fault| format!("{}: {}", fault.line, fault.what), |all| shown(&all))
    }

    #[test]
    fn words_quotes_escapes_comments_and_blocks_are_read_as_nginx_does() {
        for (text, expected) in [
            ("", ""),
            ("# only a comment", ""),
            ("listen 80;", "1:listen<80>;"),
            ("\u{feff}listen\r\n  80\r\n;\r\nx;", "1:listen<80>;4:x;"),
            ("server{listen 80;}", "1:server{1:listen<80>;};"),
            ("a \"b c\" 'd \"e\"' \"f\\\"g\" h\\;i;", "1:a<b c><d \"e\"><f\"g><h\\;i>;"),
            ("a b#c; # d;\ne;", "1:a<b#c>;2:e;"),
            ("a ${b}c d{e;}", "1:a<${b}c><d>{1:e;};"),
            ("if ($a = \"b\"){c;}", "1:if<($a><=><b><)>{1:c;};"),
            ("a \"\" '';", "1:a<><>;"),
            ("a b}c;", "1:a<b}c>;"),
            ("a \"#;{}\";", "1:a<#;{}>;"),
            ("a \"x\ny\";\nb;", "1:a<x\ny>;3:b;"),
            ("server_name bücher.example;", "1:server_name<bücher.example>;"),
            ("a \\{b\\} \\\\ c\\n;", "1:a<\\{b\\}><\\><c\n>;"),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
        assert_eq!(parse(b"a b\xffc;", 0).unwrap()[0].words, ["b\u{fffd}c"]);
    }

    #[test]
    fn what_nginx_would_not_read_is_a_fault_with_its_line() {
        for (text, expected) in [
            ("a\nb", "2: the file ends within a directive"),
            ("a \n\"b", "2: the file ends within quotes"),
            ("a {\nb;\n", "3: the file ends within a block: a `}` is missing"),
            ("a;\n}", "2: `}` closes no block"),
            ("a {b}", "1: the file ends within a directive"),
            ("a {b }", "1: `}` stands where `;` belongs"),
            (";", "1: `;` or `{` stands where a directive begins"),
            ("a;\n{", "2: `;` or `{` stands where a directive begins"),
            ("a \"b\"c;", "1: text follows a closing quote without a blank"),
            ("a \0;", "1: a zero byte: this is not text in UTF-8"),
            ("access_by_lua_block { ngx.exit(403) }", "1: a block of Lua, which is not read"),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn each_bound_holds_just_above_and_not_just_below() {
        let word = |bytes| format!("a {};", "b".repeat(bytes));
        let words = |count| format!("a {};", "b ".repeat(count - 1));
        let blocks = |depth| "a {".repeat(depth) + &"}".repeat(depth);
        let many = |count| "a;".repeat(count);
        let long = |count| "a b b b b b b b b b;".repeat(count / 10) + &"a;".repeat(count % 10);
        for (fits, exceeds) in [
            (word(WORD_BYTES_MAX), word(WORD_BYTES_MAX + 1)),
            (words(WORDS_MAX), words(WORDS_MAX + 1)),
            (blocks(DEPTH_MAX), blocks(DEPTH_MAX + 1)),
            (many(DIRECTIVES_MAX), many(DIRECTIVES_MAX + 1)),
            (long(FILE_WORDS_MAX), long(FILE_WORDS_MAX + 1)),
        ] {
            assert!(parse(fits.as_bytes(), 0).is_ok(), "{}", read(&fits).get(..60).unwrap_or_default());
            assert!(parse(exceeds.as_bytes(), 0).is_err());
        }
    }
}
