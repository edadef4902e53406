//! Text to parts. Operators bind as in the JMESPath grammar; what follows a projection is asked of each item, up to the
//! next operator that binds less.

use std::borrow::Cow;

use super::functions::Function;
use super::{
    BYTES_MAX, Comparison, DEPTH_MAX, Expression, NODES_MAX, Node, NodeId, NotAnExpression,
};
use crate::wire::json;

/// How deep brackets may nest while it is read.
const NESTED_MAX: u8 = 2 * DEPTH_MAX;
/// Operators that bind less than this end a projection.
const PROJECTION_ENDS: u8 = 10;

#[derive(Clone, Debug, PartialEq)]
enum Token<'a> {
    Name(&'a str),
    /// In double quotes, as text.
    Quoted(Cow<'a, str>),
    /// In backticks or single quotes, as JSON.
    Literal(Box<str>),
    Number(i64),
    Compare(Comparison),
    /// One of `. * ( ) { } [ ] , : @ & ! |`, and `F` for `[]`, `?` for `[?`, `O` for `||`, `A` for `&&`.
    Sign(u8),
    End,
}

impl Token<'_> {
    /// How much it binds to what stands before it.
    fn binds(&self) -> u8 {
        match self {
            Self::Sign(b'|') => 1,
            Self::Sign(b'O') => 2,
            Self::Sign(b'A') => 3,
            Self::Compare(_) => 5,
            Self::Sign(b'F') => 9,
            Self::Sign(b'*') => 20,
            Self::Sign(b'?') => 21,
            Self::Sign(b'.') => 40,
            Self::Sign(b'!') => 45,
            Self::Sign(b'{') => 50,
            Self::Sign(b'[') => 55,
            Self::Sign(b'(') => 60,
            _ => 0,
        }
    }
}

type Fallible<T> = Result<T, NotAnExpression>;

fn wrong<T>(text: impl Into<String>) -> Fallible<T> {
    Err(NotAnExpression(text.into()))
}

/// The expression that a text is.
pub(super) fn read(text: &str) -> Fallible<Expression> {
    if text.len() > BYTES_MAX {
        return wrong(format!("it is longer than {BYTES_MAX} bytes"));
    }
    let tokens = Lexer { text, at: 0 }.tokens()?;
    let takes_whole = |(token, _): &(Token<'_>, usize)| *token == Token::Sign(b'@');
    let takes_whole = tokens.iter().any(takes_whole);
    let mut parser = Parser { tokens, at: 0, nodes: Vec::new(), depths: Vec::new(), nested: 0 };
    let whole = parser.expression(0)?;
    if *parser.next() != Token::End {
        return parser.unexpected();
    }
    debug_assert_eq!(usize::from(whole) + 1, parser.nodes.len(), "the whole is made last");
    let mut nodes = parser.nodes;
    nodes.shrink_to_fit();
    let takes_values = nodes.iter().any(|it| matches!(it, Node::EachValue(..)));
    Ok(Expression { nodes, takes_whole: takes_whole || takes_values })
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    /// Each with the place where it begins.
    fn tokens(mut self) -> Fallible<Vec<(Token<'a>, usize)>> {
        let mut tokens = Vec::new();
        loop {
            let rest = self.text[self.at..].trim_start_matches([' ', '\t', '\r', '\n']);
            self.at = self.text.len() - rest.len();
            let start = self.at;
            let token = self.token()?;
            let is_end = token == Token::End;
            tokens.push((token, start));
            if is_end {
                return Ok(tokens);
            }
        }
    }

    fn token(&mut self) -> Fallible<Token<'a>> {
        let rest = &self.text[self.at..];
        let bytes = rest.as_bytes();
        let Some(&first) = bytes.first() else { return Ok(Token::End) };
        let second = bytes.get(1).copied().unwrap_or_default();
        let compare = |comparison, length| Ok((Token::Compare(comparison), length));
        let (token, length) = match (first, second) {
            (b'a'..=b'z' | b'A'..=b'Z' | b'_', _) => {
                let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                let length = bytes.iter().take_while(|it| is_name(it)).count();
                (Token::Name(&rest[..length]), length)
            }
            (b'0'..=b'9' | b'-', _) => {
                let digits = bytes[1..].iter().take_while(|it| it.is_ascii_digit()).count();
                match rest[..=digits].parse() {
                    Ok(number) => (Token::Number(number), digits + 1),
                    Err(_) => return wrong(format!("no number at byte {}", self.at)),
                }
            }
            (b'"', _) => return self.quoted(),
            (b'\'', _) => return self.raw(),
            (b'`', _) => return self.literal(),
            (b'=', b'=') => compare(Comparison::Equal, 2)?,
            (b'!', b'=') => compare(Comparison::Unequal, 2)?,
            (b'<', b'=') => compare(Comparison::LessOrEqual, 2)?,
            (b'>', b'=') => compare(Comparison::GreaterOrEqual, 2)?,
            (b'<', _) => compare(Comparison::Less, 1)?,
            (b'>', _) => compare(Comparison::Greater, 1)?,
            (b'|', b'|') => (Token::Sign(b'O'), 2),
            (b'&', b'&') => (Token::Sign(b'A'), 2),
            (b'[', b'?') => (Token::Sign(b'?'), 2),
            (b'[', b']') => (Token::Sign(b'F'), 2),
            (
                b'.' | b'*' | b'(' | b')' | b'{' | b'}' | b'[' | b']' | b',' | b':' | b'@' | b'&'
                | b'!' | b'|',
                _,
            ) => (Token::Sign(first), 1),
            _ => return wrong(format!("unexpected character at byte {}", self.at)),
        };
        self.at += length;
        Ok(token)
    }

    /// What stands between this quote and the next that no backslash precedes.
    fn between(&mut self, quote: u8) -> Fallible<&'a str> {
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let mut at = start;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'\\' => at += 2,
                byte if byte == quote => {
                    self.at = at + 1;
                    return Ok(&self.text[start..at]);
                }
                _ => at += 1,
            }
        }
        wrong(format!("unclosed {} at byte {}", char::from(quote), self.at))
    }

    fn quoted(&mut self) -> Fallible<Token<'a>> {
        let start = self.at;
        self.between(b'"')?;
        let read = json::parse_str(&self.text[start..self.at]).ok().and_then(|it| it.as_str());
        match read {
            Some(name) => Ok(Token::Quoted(name)),
            None => wrong(format!("the quoted name at byte {start} is no JSON string")),
        }
    }

    fn raw(&mut self) -> Fallible<Token<'a>> {
        // Only the quote itself is escaped: any other backslash stands for itself.
        let text = self.between(b'\'')?.replace("\\'", "'");
        let mut json = Vec::new();
        json::write_str(&mut json, &text);
        Ok(Token::Literal(String::from_utf8_lossy(&json).into()))
    }

    fn literal(&mut self) -> Fallible<Token<'a>> {
        let start = self.at;
        let text = self.between(b'`')?.replace("\\`", "`");
        match json::parse_str(&text) {
            Ok(value) => Ok(Token::Literal(value.text().into())),
            Err(_) => wrong(format!("the literal at byte {start} is not JSON")),
        }
    }
}

struct Parser<'a> {
    tokens: Vec<(Token<'a>, usize)>,
    at: usize,
    nodes: Vec<Node>,
    /// Of each part.
    depths: Vec<u8>,
    nested: u8,
}

impl<'a> Parser<'a> {
    /// The next token; the last one is the end.
    fn next(&self) -> &Token<'a> {
        self.after(0)
    }

    fn after(&self, skipped: usize) -> &Token<'a> {
        &self.tokens[(self.at + skipped).min(self.tokens.len() - 1)].0
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.next().clone();
        self.at += 1;
        token
    }

    fn take_if(&mut self, sign: u8) -> bool {
        let is_it = *self.next() == Token::Sign(sign);
        self.at += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, sign: u8) -> Fallible<()> {
        if self.take_if(sign) { Ok(()) } else { self.unexpected() }
    }

    fn unexpected<T>(&self) -> Fallible<T> {
        match &self.tokens[self.at.min(self.tokens.len() - 1)] {
            (Token::End, _) => wrong("it is unfinished"),
            (_, at) => wrong(format!("unexpected token at byte {at}")),
        }
    }

    fn add(&mut self, node: Node) -> Fallible<NodeId> {
        let deepest = |parts: &[NodeId]| {
            parts.iter().map(|&part| self.depths[usize::from(part)]).max().unwrap_or(0)
        };
        let depth = 1 + match &node {
            Node::Current
            | Node::Field(_)
            | Node::Index(_)
            | Node::Slice { .. }
            | Node::Literal(_) => 0,
            Node::Flatten(a) | Node::Not(a) | Node::Reference(a) => deepest(&[*a]),
            Node::Then(a, b)
            | Node::Each(a, b)
            | Node::EachValue(a, b)
            | Node::Or(a, b)
            | Node::And(a, b)
            | Node::Compare(_, a, b) => deepest(&[*a, *b]),
            Node::EachIf(a, b, c) => deepest(&[*a, *b, *c]),
            Node::List(parts) | Node::Call(_, parts) => deepest(parts),
            Node::Object(parts) => {
                parts.iter().map(|(_, part)| deepest(&[*part])).max().unwrap_or(0)
            }
        };
        if depth > DEPTH_MAX {
            return wrong(format!("it nests deeper than {DEPTH_MAX}"));
        }
        if self.nodes.len() >= NODES_MAX {
            return wrong(format!("it has more than {NODES_MAX} parts"));
        }
        self.nodes.push(node);
        self.depths.push(depth);
        Ok((self.nodes.len() - 1) as NodeId)
    }

    /// An expression up to an operator that binds no more than this.
    fn expression(&mut self, binds: u8) -> Fallible<NodeId> {
        self.nested += 1;
        if self.nested > NESTED_MAX {
            return wrong(format!("it nests deeper than {DEPTH_MAX}"));
        }
        let mut left = self.first()?;
        while binds < self.next().binds() {
            left = self.more(left)?;
        }
        self.nested -= 1;
        Ok(left)
    }

    /// What needs nothing before it.
    fn first(&mut self) -> Fallible<NodeId> {
        let start = self.at;
        match self.take() {
            Token::Name(name) if *self.next() == Token::Sign(b'(') => self.call(name),
            Token::Name(name) => self.add(Node::Field(name.into())),
            Token::Quoted(_) if *self.next() == Token::Sign(b'(') => self.unexpected(),
            Token::Quoted(name) => self.add(Node::Field((*name).into())),
            Token::Literal(json) => self.add(Node::Literal(json)),
            Token::Sign(b'@') => self.add(Node::Current),
            Token::Sign(b'(') => {
                let inner = self.expression(0)?;
                self.expect(b')')?;
                Ok(inner)
            }
            Token::Sign(b'!') => {
                let inner = self.expression(45)?;
                self.add(Node::Not(inner))
            }
            Token::Sign(b'*') => {
                let left = self.add(Node::Current)?;
                self.each_value(left)
            }
            Token::Sign(b'F') => {
                let left = self.add(Node::Current)?;
                self.flatten(left)
            }
            Token::Sign(b'?') => {
                let left = self.add(Node::Current)?;
                self.each_if(left)
            }
            Token::Sign(b'{') => self.object(),
            Token::Sign(b'[') if self.is_index() || self.is_star() => {
                let left = self.add(Node::Current)?;
                self.bracket(left)
            }
            Token::Sign(b'[') => self.list(),
            _ => {
                self.at = start;
                self.unexpected()
            }
        }
    }

    /// An operator and what follows it.
    fn more(&mut self, left: NodeId) -> Fallible<NodeId> {
        let binds = self.next().binds();
        match self.take() {
            Token::Sign(b'.') if self.take_if(b'*') => self.each_value(left),
            Token::Sign(b'.') => {
                let right = self.behind_dot(binds)?;
                self.add(Node::Then(left, right))
            }
            Token::Sign(b'|') => {
                let right = self.expression(binds)?;
                self.add(Node::Then(left, right))
            }
            Token::Sign(b'O') => {
                let right = self.expression(binds)?;
                self.add(Node::Or(left, right))
            }
            Token::Sign(b'A') => {
                let right = self.expression(binds)?;
                self.add(Node::And(left, right))
            }
            Token::Compare(comparison) => {
                let right = self.expression(binds)?;
                self.add(Node::Compare(comparison, left, right))
            }
            Token::Sign(b'F') => self.flatten(left),
            Token::Sign(b'?') => self.each_if(left),
            Token::Sign(b'[') if self.is_index() || self.is_star() => self.bracket(left),
            _ => {
                self.at -= 1;
                self.unexpected()
            }
        }
    }

    fn is_index(&self) -> bool {
        matches!(self.next(), Token::Number(_) | Token::Sign(b':'))
    }

    /// Whether this is `*]`, behind a bracket.
    fn is_star(&self) -> bool {
        *self.next() == Token::Sign(b'*') && *self.after(1) == Token::Sign(b']')
    }

    /// An index, a slice or a star, behind a bracket.
    fn bracket(&mut self, left: NodeId) -> Fallible<NodeId> {
        if self.take_if(b'*') {
            self.expect(b']')?;
            let right = self.behind_projection(20)?;
            return self.add(Node::Each(left, right));
        }
        let mut parts = [None; 3];
        let mut colons = 0;
        loop {
            match self.take() {
                Token::Number(number) if parts[colons].is_none() => parts[colons] = Some(number),
                Token::Sign(b':') if colons < 2 => colons += 1,
                Token::Sign(b']') => break,
                _ => {
                    self.at -= 1;
                    return self.unexpected();
                }
            }
        }
        let [first, to, step] = parts;
        if let (0, Some(index)) = (colons, first) {
            let right = self.add(Node::Index(index))?;
            return self.add(Node::Then(left, right));
        }
        let step = step.unwrap_or(1);
        if step == 0 {
            return wrong("a slice's step is not 0");
        }
        let slice = self.add(Node::Slice { from: first, to, step })?;
        let left = self.add(Node::Then(left, slice))?;
        let right = self.behind_projection(20)?;
        self.add(Node::Each(left, right))
    }

    fn each_value(&mut self, left: NodeId) -> Fallible<NodeId> {
        let right = self.behind_projection(20)?;
        self.add(Node::EachValue(left, right))
    }

    fn flatten(&mut self, left: NodeId) -> Fallible<NodeId> {
        let left = self.add(Node::Flatten(left))?;
        let right = self.behind_projection(9)?;
        self.add(Node::Each(left, right))
    }

    fn each_if(&mut self, left: NodeId) -> Fallible<NodeId> {
        let condition = self.expression(0)?;
        self.expect(b']')?;
        let right = match self.next() {
            Token::Sign(b'F') => self.add(Node::Current)?,
            _ => self.behind_projection(21)?,
        };
        self.add(Node::EachIf(left, condition, right))
    }

    /// What is asked of each item.
    fn behind_projection(&mut self, binds: u8) -> Fallible<NodeId> {
        match self.next() {
            it if it.binds() < PROJECTION_ENDS => self.add(Node::Current),
            // It begins with a bracket and so is asked of what is looked at.
            Token::Sign(b'[' | b'?') => self.expression(binds),
            Token::Sign(b'.') => {
                self.at += 1;
                self.behind_dot(binds)
            }
            _ => self.unexpected(),
        }
    }

    fn behind_dot(&mut self, binds: u8) -> Fallible<NodeId> {
        match self.next() {
            Token::Name(_) | Token::Quoted(_) | Token::Sign(b'*') => self.expression(binds),
            Token::Sign(b'[') => {
                self.at += 1;
                self.list()
            }
            Token::Sign(b'{') => {
                self.at += 1;
                self.object()
            }
            _ => self.unexpected(),
        }
    }

    /// Behind its bracket.
    fn list(&mut self) -> Fallible<NodeId> {
        let mut parts = Vec::new();
        loop {
            parts.push(self.expression(0)?);
            if self.take_if(b']') {
                return self.add(Node::List(parts));
            }
            self.expect(b',')?;
        }
    }

    /// Behind its brace.
    fn object(&mut self) -> Fallible<NodeId> {
        let mut parts = Vec::new();
        loop {
            let name: Box<str> = match self.take() {
                Token::Name(name) => name.into(),
                Token::Quoted(name) => (*name).into(),
                _ => {
                    self.at -= 1;
                    return self.unexpected();
                }
            };
            self.expect(b':')?;
            parts.push((name, self.expression(0)?));
            if self.take_if(b'}') {
                return self.add(Node::Object(parts));
            }
            self.expect(b',')?;
        }
    }

    /// Behind its name.
    fn call(&mut self, name: &str) -> Fallible<NodeId> {
        let Some(function) = Function::named(name) else {
            return wrong(format!("unknown function '{name}'"));
        };
        self.expect(b'(')?;
        let mut parts = Vec::new();
        if !self.take_if(b')') {
            loop {
                let part = match self.take_if(b'&') {
                    true => {
                        let inner = self.expression(0)?;
                        self.add(Node::Reference(inner))?
                    }
                    false => self.expression(0)?,
                };
                parts.push(part);
                if self.take_if(b')') {
                    break;
                }
                self.expect(b',')?;
            }
        }
        let is_reference =
            |part: &NodeId| matches!(self.nodes[usize::from(*part)], Node::Reference(_));
        let references = parts.iter().enumerate().filter(|(_, part)| is_reference(part));
        let references: Vec<usize> = references.map(|(at, _)| at).collect();
        if !function.takes(parts.len()) || references != function.reference().as_slice() {
            return wrong(format!("function '{name}' does not take these arguments"));
        }
        self.add(Node::Call(function, parts))
    }
}
