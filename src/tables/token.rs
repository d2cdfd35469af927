//! Expressions cut into tokens.

/// A token of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A name, a keyword or a function.
    Word(&'a str),
    /// `#name`, with its sign.
    Name(&'a str),
    /// `:value`, with its sign.
    Value(&'a str),
    /// One of `= <> < <= > >= ( ) , + -`, or what belongs to paths: `. [ ]`.
    Sign(&'a str),
}

impl<'a> Token<'a> {
    pub fn text(self) -> &'a str {
        match self {
            Token::Word(text) | Token::Name(text) | Token::Value(text) | Token::Sign(text) => text,
        }
    }

    pub fn is_sign(self, sign: &str) -> bool {
        self == Token::Sign(sign)
    }

    /// Whether it is this keyword, in upper or lower case.
    pub fn is_word(self, word: &str) -> bool {
        matches!(self, Token::Word(text) if text.eq_ignore_ascii_case(word))
    }
}

const SIGNS: [&str; 14] = ["<>", "<=", ">=", "=", "<", ">", "(", ")", ",", "+", "-", ".", "[", "]"];

/// The tokens of `text`; or the piece that is none.
pub fn cut(text: &str) -> Result<Vec<Token<'_>>, &str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let word_len = |from: usize| from + rest[from..].bytes().take_while(|byte| part(*byte)).count();
        let (token, len) = match first {
            '#' | ':' => {
                let len = word_len(1);
                let token = if first == '#' { Token::Name(&rest[..len]) } else { Token::Value(&rest[..len]) };
                if len == 1 {
                    return Err(&rest[..1]);
                }
                (token, len)
            }
            'a'..='z' | 'A'..='Z' | '_' => (Token::Word(&rest[..word_len(0)]), word_len(0)),
            // An index within a list: beyond this store, and told as such by the parser.
            '0'..='9' => (Token::Word(&rest[..word_len(0)]), word_len(0)),
            _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => (Token::Sign(sign), sign.len()),
                None => return Err(&rest[..first.len_utf8()]),
            },
        };
        tokens.push(token);
        rest = rest[len..].trim_start();
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_cut_with_or_without_blanks() {
        let texts = |text| cut(text).map(|tokens| tokens.into_iter().map(Token::text).collect::<Vec<_>>().join(" "));
        assert_eq!(
            texts("#key = :value AND attribute_exists (leaseKey)"),
            Ok("#key = :value AND attribute_exists ( leaseKey )".into())
        );
        assert_eq!(texts("a<=:b,c<>#d"), Ok("a <= :b , c <> #d".into()));
        assert_eq!(texts(""), Ok(String::new()));
        assert_eq!(texts("a = 'x'"), Err("'"));
        assert_eq!(texts("a = é"), Err("é"));
        assert_eq!(texts("# a"), Err("#"));
    }
}
