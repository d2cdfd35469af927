//! Expressions: conditions, updates, lists of names. Paths are names of attributes; what lies inside an attribute is beyond this store.

use super::condition::{Comparison, Condition, Operand};
use super::error::Error;
use super::item::{Item, Value};
use super::limits::{EXPRESSION_BYTES_MAX, PARENTHESES_MAX};
use super::token::{self, Token};
use super::update::{Action, Source, Update};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// What the `#names` and `:values` of a request's expressions stand for, and which have been used.
#[derive(Debug, Default)]
pub struct Substitutes {
    pub names: BTreeMap<String, String>,
    pub values: Item,
    used: RefCell<BTreeSet<String>>,
}

impl Substitutes {
    pub fn new(names: BTreeMap<String, String>, values: Item) -> Substitutes {
        Substitutes { names, values, used: RefCell::default() }
    }

    /// DynamoDB refuses what no expression has used: a misspelt name would be passed over otherwise.
    pub fn all_used(&self) -> Result<(), Error> {
        let used = self.used.borrow();
        let unused = |what: &str, keys: Vec<&String>| {
            let keys: Vec<&str> = keys.into_iter().map(String::as_str).collect();
            let text = format!("Value provided in {what} unused in expressions: keys: {{{}}}", keys.join(", "));
            Error::validation(text)
        };
        let values: Vec<&String> = self.values.keys().filter(|key| !used.contains(*key)).collect();
        if !values.is_empty() {
            return Err(unused("ExpressionAttributeValues", values));
        }
        let names: Vec<&String> = self.names.keys().filter(|key| !used.contains(*key)).collect();
        if names.is_empty() { Ok(()) } else { Err(unused("ExpressionAttributeNames", names)) }
    }
}

/// One expression that is being read.
struct Reader<'a> {
    /// Name of the request's member, for errors.
    member: &'static str,
    tokens: Vec<Token<'a>>,
    at: usize,
    depth: usize,
    with: &'a Substitutes,
}

pub fn condition(member: &'static str, text: &str, with: &Substitutes) -> Result<Condition, Error> {
    let mut reader = Reader::new(member, text, with)?;
    let condition = reader.any()?;
    reader.end()?;
    Ok(condition)
}

pub fn update(text: &str, with: &Substitutes) -> Result<Update, Error> {
    Reader::new("UpdateExpression", text, with)?.update()
}

/// The names of a ProjectionExpression.
pub fn names(text: &str, with: &Substitutes) -> Result<Vec<String>, Error> {
    let mut reader = Reader::new("ProjectionExpression", text, with)?;
    let mut names = vec![reader.name()?];
    while reader.takes_sign(",") {
        names.push(reader.name()?);
    }
    reader.end()?;
    Ok(names)
}

impl<'a> Reader<'a> {
    fn new(member: &'static str, text: &'a str, with: &'a Substitutes) -> Result<Reader<'a>, Error> {
        if text.trim().is_empty() {
            return Err(Error::validation(format!("Invalid {member}: The expression can not be empty;")));
        }
        if text.len() > EXPRESSION_BYTES_MAX {
            let text = format!(
                "Invalid {member}: Expression size has exceeded the maximum allowed size; expression size: {}",
                text.len()
            );
            return Err(Error::validation(text));
        }
        let tokens = token::cut(text).map_err(|piece| {
            Error::validation(format!("Invalid {member}: Syntax error; token: \"{piece}\", near: \"{piece}\""))
        })?;
        Ok(Reader { member, tokens, at: 0, depth: 0, with })
    }

    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    fn takes_sign(&mut self, sign: &str) -> bool {
        let is_it = self.peek().is_some_and(|token| token.is_sign(sign));
        self.at += is_it as usize;
        is_it
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is_it = self.peek().is_some_and(|token| token.is_word(word));
        self.at += is_it as usize;
        is_it
    }

    fn invalid(&self, text: impl std::fmt::Display) -> Error {
        Error::validation(format!("Invalid {}: {text}", self.member))
    }

    /// The token before `at` does not belong there.
    fn syntax(&self) -> Error {
        let at = self.at.min(self.tokens.len()).saturating_sub(1);
        let token = self.tokens.get(at).map_or("<EOF>", |token| token.text());
        let near = self.tokens[at.saturating_sub(1)..self.tokens.len().min(at + 2)].iter().map(|token| token.text());
        let near: Vec<&str> = near.collect();
        self.invalid(format!("Syntax error; token: \"{token}\", near: \"{}\"", near.join(" ")))
    }

    fn wants_sign(&mut self, sign: &str) -> Result<(), Error> {
        match self.next() {
            Some(token) if token.is_sign(sign) => Ok(()),
            Some(_) => Err(self.syntax()),
            None => Err(self.cut_short()),
        }
    }

    fn cut_short(&self) -> Error {
        let near = self.tokens.last().map_or("", |token| token.text());
        self.invalid(format!("Syntax error; token: \"<EOF>\", near: \"{near}\""))
    }

    fn end(&mut self) -> Result<(), Error> {
        match self.next() {
            None => Ok(()),
            Some(_) => Err(self.syntax()),
        }
    }

    /// Called around what may hold itself.
    fn deeper(&mut self) -> Result<(), Error> {
        self.depth += 1;
        match self.depth > PARENTHESES_MAX {
            true => Err(self.invalid("The expression has too many levels of parentheses or NOT")),
            false => Ok(()),
        }
    }

    fn any(&mut self) -> Result<Condition, Error> {
        let mut any = vec![self.all()?];
        while self.takes_word("OR") {
            any.push(self.all()?);
        }
        Ok(if any.len() == 1 { any.remove(0) } else { Condition::Or(any) })
    }

    fn all(&mut self) -> Result<Condition, Error> {
        let mut all = vec![self.one()?];
        while self.takes_word("AND") {
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::And(all) })
    }

    fn one(&mut self) -> Result<Condition, Error> {
        if self.takes_word("NOT") {
            self.deeper()?;
            let condition = self.one()?;
            self.depth -= 1;
            return Ok(Condition::Not(Box::new(condition)));
        }
        if self.takes_sign("(") {
            self.deeper()?;
            let condition = self.any()?;
            self.wants_sign(")")?;
            self.depth -= 1;
            return Ok(condition);
        }
        if let Some(Token::Word(name)) = self.peek()
            && self.tokens.get(self.at + 1).is_some_and(|token| token.is_sign("("))
        {
            self.at += 2;
            return self.function(name);
        }
        self.comparison()
    }

    fn function(&mut self, name: &str) -> Result<Condition, Error> {
        let condition = match name {
            "attribute_exists" => Condition::Exists(self.name()?),
            "attribute_not_exists" => Condition::NotExists(self.name()?),
            "begins_with" => {
                let (value, with) = self.two_operands()?;
                Condition::BeginsWith(value, with)
            }
            "contains" => {
                let (value, part) = self.two_operands()?;
                Condition::Contains(value, part)
            }
            "size" | "attribute_type" => return Err(Error::beyond(&format!("The function {name}"))),
            _ => return Err(self.invalid(format!("Invalid function name; function: {name}"))),
        };
        self.wants_sign(")")?;
        Ok(condition)
    }

    fn two_operands(&mut self) -> Result<(Operand, Operand), Error> {
        let first = self.operand()?;
        self.wants_sign(",")?;
        Ok((first, self.operand()?))
    }

    fn comparison(&mut self) -> Result<Condition, Error> {
        let left = self.operand()?;
        if self.takes_word("BETWEEN") {
            let low = self.operand()?;
            if !self.takes_word("AND") {
                self.at += 1;
                return Err(self.syntax());
            }
            return Ok(Condition::Between(left, low, self.operand()?));
        }
        if self.takes_word("IN") {
            self.wants_sign("(")?;
            let mut list = vec![self.operand()?];
            while self.takes_sign(",") {
                list.push(self.operand()?);
            }
            self.wants_sign(")")?;
            return Ok(Condition::In(left, list));
        }
        let comparison = match self.next() {
            Some(Token::Sign("=")) => Comparison::Equal,
            Some(Token::Sign("<>")) => Comparison::Unequal,
            Some(Token::Sign("<")) => Comparison::Less,
            Some(Token::Sign("<=")) => Comparison::LessOrEqual,
            Some(Token::Sign(">")) => Comparison::Greater,
            Some(Token::Sign(">=")) => Comparison::GreaterOrEqual,
            Some(_) => return Err(self.syntax()),
            None => return Err(self.cut_short()),
        };
        Ok(Condition::Compare(left, comparison, self.operand()?))
    }

    fn operand(&mut self) -> Result<Operand, Error> {
        match self.peek() {
            Some(Token::Value(_)) => Ok(Operand::Value(self.value()?)),
            _ => Ok(Operand::Attribute(self.name()?)),
        }
    }

    fn value(&mut self) -> Result<Value, Error> {
        match self.next() {
            Some(Token::Value(key)) => {
                self.with.used.borrow_mut().insert(key.to_string());
                self.with.values.get(key).cloned().ok_or_else(|| {
                    let text = "An expression attribute value used in expression is not defined; attribute value:";
                    self.invalid(format!("{text} {key}"))
                })
            }
            Some(_) => Err(self.syntax()),
            None => Err(self.cut_short()),
        }
    }

    /// The name of an attribute, by itself or as `#name`.
    fn name(&mut self) -> Result<String, Error> {
        let name = match self.next() {
            Some(Token::Word(name)) if !name.starts_with(|c: char| c.is_ascii_digit()) => name.to_string(),
            Some(Token::Name(key)) => {
                self.with.used.borrow_mut().insert(key.to_string());
                self.with.names.get(key).cloned().ok_or_else(|| {
                    let text = "An expression attribute name used in the document path is not defined; attribute name:";
                    self.invalid(format!("{text} {key}"))
                })?
            }
            Some(_) => return Err(self.syntax()),
            None => return Err(self.cut_short()),
        };
        match self.peek() {
            Some(Token::Sign("." | "[")) => Err(Error::beyond("A path into an attribute")),
            _ => Ok(name),
        }
    }
}

impl Reader<'_> {
    fn update(&mut self) -> Result<Update, Error> {
        let mut update = Update::new();
        let mut clauses = BTreeSet::new();
        while let Some(token) = self.next() {
            let clause = token.text().to_ascii_uppercase();
            if !matches!(clause.as_str(), "SET" | "REMOVE" | "ADD" | "DELETE") {
                return Err(self.syntax());
            }
            loop {
                let name = self.name()?;
                let action = match clause.as_str() {
                    "SET" => {
                        self.wants_sign("=")?;
                        Action::Set(self.source()?)
                    }
                    "ADD" => Action::Add(self.value()?),
                    "DELETE" => Action::Delete(self.value()?),
                    _ => Action::Remove,
                };
                if update.insert(name.clone(), action).is_some() {
                    let text = "Two document paths overlap with each other; must remove or rewrite one of these paths;";
                    return Err(self.invalid(format!("{text} path one: [{name}], path two: [{name}]")));
                }
                if !self.takes_sign(",") {
                    break;
                }
            }
            if !clauses.insert(clause.clone()) {
                let text = format!("The \"{clause}\" section can only be used once in an update expression;");
                return Err(self.invalid(text));
            }
        }
        Ok(update)
    }

    fn source(&mut self) -> Result<Source, Error> {
        let left = self.source_operand()?;
        if self.takes_sign("+") {
            return Ok(Source::Plus(Box::new(left), Box::new(self.source_operand()?)));
        }
        if self.takes_sign("-") {
            return Ok(Source::Minus(Box::new(left), Box::new(self.source_operand()?)));
        }
        Ok(left)
    }

    fn source_operand(&mut self) -> Result<Source, Error> {
        if let Some(Token::Value(_)) = self.peek() {
            return Ok(Source::Value(self.value()?));
        }
        let is_function = self.tokens.get(self.at + 1).is_some_and(|token| token.is_sign("("));
        let Some(Token::Word(name)) = self.peek().filter(|_| is_function) else {
            return Ok(Source::Attribute(self.name()?));
        };
        self.at += 2;
        self.deeper()?;
        let source = match name {
            "if_not_exists" => {
                let name = self.name()?;
                self.wants_sign(",")?;
                Source::IfNotExists(name, Box::new(self.source_operand()?))
            }
            "list_append" => {
                let first = self.source_operand()?;
                self.wants_sign(",")?;
                Source::Append(Box::new(first), Box::new(self.source_operand()?))
            }
            _ => return Err(self.invalid(format!("Invalid function name; function: {name}"))),
        };
        self.wants_sign(")")?;
        self.depth -= 1;
        Ok(source)
    }
}
