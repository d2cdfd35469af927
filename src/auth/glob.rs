//! Patterns of policies: `*` for any text, `?` for any character, `${...}` for what is known of a request.

use super::ask::{Ask, Name};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `*`
    Any,
    /// `?`
    One,
    Variable(Name),
}

/// A pattern, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    pieces: Vec<Piece>,
    /// Letters are compared without their case.
    folds: bool,
}

/// How the text of a policy is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// `*` and `?` stand for others.
    pub wild: bool,
    /// `${...}` is a variable.
    pub variables: bool,
    pub folds: bool,
}

impl Glob {
    pub fn read(text: &str, style: Style) -> Result<Glob, String> {
        let mut glob = Glob { pieces: Vec::new(), folds: style.folds };
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            match first {
                '*' if style.wild => {
                    glob.pieces.push(Piece::Any);
                    rest = &rest[1..];
                }
                '?' if style.wild => {
                    glob.pieces.push(Piece::One);
                    rest = &rest[1..];
                }
                '$' if style.variables && rest.starts_with("${") => {
                    let end = rest.find('}').ok_or_else(|| format!("{text}: a variable that does not end"))?;
                    glob.variable(&rest[2..end])?;
                    rest = &rest[end + 1..];
                }
                _ => {
                    glob.text(&rest[..first.len_utf8()]);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        Ok(glob)
    }

    fn text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Text(before)) => before.push_str(text),
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }

    /// `*`, `?` and `$` stand for themselves in there.
    fn variable(&mut self, name: &str) -> Result<(), String> {
        match name {
            "*" | "?" | "$" => self.text(name),
            _ => match Name::read(name) {
                Some(Name::TagKeys) | None => return Err(format!("the variable ${{{name}}} is not known")),
                Some(name) => self.pieces.push(Piece::Variable(name)),
            },
        }
        Ok(())
    }

    /// Whether all of `text` matches. Time at most the product of both lengths.
    pub fn matches(&self, text: &str, ask: &Ask<'_>) -> bool {
        let (mut piece, mut at) = (0, 0);
        // Behind the last `*`, and where the text that it stands for ends at the least.
        let mut star: Option<(usize, usize)> = None;
        loop {
            let step = match self.pieces.get(piece) {
                None if at == text.len() => return true,
                None => None,
                Some(Piece::Any) => {
                    star = Some((piece + 1, at));
                    Some(0)
                }
                Some(Piece::One) => text[at..].chars().next().map(char::len_utf8),
                Some(Piece::Text(wanted)) => self.begins(&text[at..], wanted).then_some(wanted.len()),
                Some(Piece::Variable(name)) => {
                    let mut len = None;
                    ask.each(name, &mut |value: &str| len = self.begins(&text[at..], value).then_some(value.len()));
                    len
                }
            };
            if let Some(step) = step {
                piece += 1;
                at += step;
                continue;
            }
            let Some((behind, end)) = star else { return false };
            let Some(next) = text[end..].chars().next() else { return false };
            (piece, at) = (behind, end + next.len_utf8());
            star = Some((behind, at));
        }
    }

    fn begins(&self, text: &str, wanted: &str) -> bool {
        match text.as_bytes().get(..wanted.len()) {
            Some(front) if self.folds => front.eq_ignore_ascii_case(wanted.as_bytes()),
            Some(front) => front == wanted.as_bytes(),
            None => false,
        }
    }
}
