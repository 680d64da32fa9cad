//! Looks at a policy's brackets and operators before Cedar does: Cedar's parser and checker recurse, and have no bound of their own.
//!
//! Tokens are those of Cedar's grammar. What the guard cannot read (a string without end, brackets that do not match) it refuses, so that
//! Cedar never sees it.
//!
//! **Invariant:** what passes has at most [`DEPTH_MAX`] levels of brackets, and each of its rules at most [`OPERATORS_MAX`] operators.

use super::Problem;

/// Longest policy, in bytes.
pub(super) const LEN_MAX: usize = 256 << 10;
/// Most tokens.
pub(super) const TOKENS_MAX: usize = 50_000;
/// Most rules.
pub(super) const RULES_MAX: usize = 1_000;
/// Most levels of brackets, each open `if` counted as one.
pub(super) const DEPTH_MAX: usize = 64;
/// Most operators, opening brackets and accesses in one rule: an expression is nested no deeper than it has of them.
pub(super) const OPERATORS_MAX: usize = 512;
/// Most unary operators in a row; Cedar takes no more either.
const UNARY_MAX: usize = 4;

/// The words that join or nest expressions.
const OPERATOR_WORDS: [&str; 7] = ["in", "has", "like", "is", "if", "when", "unless"];

/// A rule in the text.
#[derive(Debug)]
pub(super) struct Rule {
    /// The line that it starts on.
    pub(super) line: usize,
    /// Where it starts, and where it ends after its `;`.
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Checks `text`. Gives the rules in it.
///
/// # Errors
/// The first thing that is wrong: after it the rest cannot be judged.
pub(super) fn check(text: &str) -> Result<Vec<Rule>, Problem> {
    if text.len() > LEN_MAX {
        return Err(Problem::new(None, format!("the policy has more than {} KiB", LEN_MAX >> 10)));
    }
    let mut scan = Scan { text, at: 0, line: 1 };
    let mut state = State::default();
    while let Some((token, length)) = scan.next()? {
        state.take(token, scan.line, (scan.at - length, scan.at))?;
    }
    state.end()
}

/// A stretch of text that means one thing.
#[derive(Clone, Copy)]
enum Token<'a> {
    Open(u8),
    Close(u8),
    /// The end of a rule.
    Semicolon,
    Operator(&'a str),
    Word(&'a str),
    /// A string, a number, punctuation, or what Cedar's lexer will refuse.
    Other,
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Scan<'a> {
    /// The next token and its length.
    fn next(&mut self) -> Result<Option<(Token<'a>, usize)>, Problem> {
        self.skip_blanks();
        let rest = &self.text[self.at..];
        let Some(first) = rest.bytes().next() else { return Ok(None) };
        let (token, length) = match first {
            b'(' | b'[' | b'{' => (Token::Open(first), 1),
            b')' | b']' | b'}' => (Token::Close(first), 1),
            b';' => (Token::Semicolon, 1),
            b'"' => (Token::Other, self.string_length(rest)?),
            _ if is_word(first) => {
                let length = rest.bytes().take_while(|byte| is_word(*byte)).count();
                (Token::Word(&rest[..length]), length)
            }
            _ => operator(rest),
        };
        self.at += length;
        Ok(Some((token, length)))
    }

    /// Passes over white space and comments.
    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let length = if rest.starts_with("//") {
                rest.find(['\n', '\r']).unwrap_or(rest.len())
            } else {
                rest.find(|character: char| !character.is_whitespace()).unwrap_or(rest.len())
            };
            if length == 0 {
                return;
            }
            self.line += rest[..length].matches('\n').count();
            self.at += length;
        }
    }

    fn string_length(&mut self, rest: &str) -> Result<usize, Problem> {
        let start = self.line;
        let mut escaped = false;
        for (at, byte) in rest.bytes().enumerate().skip(1) {
            self.line += usize::from(byte == b'\n');
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => return Ok(at + 1),
                _ => {}
            }
        }
        Err(Problem::new(Some(start), "a string that starts here has no end".to_owned()))
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The operator or punctuation that `rest` starts with, and its length.
fn operator(rest: &str) -> (Token<'_>, usize) {
    const DOUBLE: [&str; 6] = ["&&", "||", "==", "!=", "<=", ">="];
    const SINGLE: [&str; 10] = ["+", "-", "*", "/", "%", "!", "<", ">", "=", "."];
    let known = DOUBLE.into_iter().chain(SINGLE).find(|known| rest.starts_with(known));
    match known {
        Some(known) => (Token::Operator(&rest[..known.len()]), known.len()),
        None => (Token::Other, rest.chars().next().map_or(1, char::len_utf8)),
    }
}

#[derive(Default)]
struct State {
    tokens: usize,
    /// What is open: a bracket, and how many `if`s stand in it.
    open: Vec<(u8, usize, usize)>,
    /// `if`s outside of brackets, which Cedar will not like.
    ifs: usize,
    operators: usize,
    unary: usize,
    /// Whether a rule has begun.
    within: bool,
    rules: Vec<Rule>,
}

impl State {
    fn take(&mut self, token: Token<'_>, line: usize, (start, end): (usize, usize)) -> Result<(), Problem> {
        let refuse = |what: String| Err(Problem::new(Some(line), what));
        self.tokens += 1;
        if self.tokens > TOKENS_MAX {
            return refuse(format!("the policy has more than {TOKENS_MAX} words and signs"));
        }
        if !self.within {
            self.within = true;
            self.rules.push(Rule { line, start, end });
        }
        self.unary = if matches!(token, Token::Operator("!" | "-")) { self.unary + 1 } else { 0 };
        match token {
            Token::Open(bracket) => {
                self.open.push((bracket, line, 0));
                self.operators += 1;
            }
            Token::Close(bracket) => match self.open.pop() {
                Some((opened, ..)) if closes(opened, bracket) => {}
                _ => return refuse(format!("a '{}' closes nothing", char::from(bracket))),
            },
            Token::Semicolon if self.open.is_empty() => self.end_rule(end),
            Token::Semicolon => return refuse("a ';' inside of brackets".to_owned()),
            Token::Operator(_) => self.operators += 1,
            Token::Word(word) if OPERATOR_WORDS.contains(&word) => {
                self.operators += 1;
                let ifs = self.open.last_mut().map_or(&mut self.ifs, |(.., ifs)| ifs);
                *ifs += usize::from(word == "if");
            }
            Token::Word(_) | Token::Other => {}
        }
        if self.unary > UNARY_MAX {
            return refuse(format!("more than {UNARY_MAX} '!' or '-' in a row"));
        }
        if self.operators > OPERATORS_MAX {
            return refuse(format!("a rule with more than {OPERATORS_MAX} operators, brackets and accesses; split it"));
        }
        if self.depth() > DEPTH_MAX {
            return refuse(format!("brackets and ifs are nested more than {DEPTH_MAX} deep"));
        }
        if self.rules.len() > RULES_MAX {
            return refuse(format!("the policy has more than {RULES_MAX} rules"));
        }
        Ok(())
    }

    /// At most a few dozen entries are open, or the check before failed.
    fn depth(&self) -> usize {
        self.ifs + self.open.iter().map(|(.., ifs)| 1 + ifs).sum::<usize>()
    }

    fn end_rule(&mut self, end: usize) {
        if let Some(rule) = self.rules.last_mut() {
            rule.end = end;
        }
        self.operators = 0;
        self.ifs = 0;
        self.within = false;
    }

    fn end(self) -> Result<Vec<Rule>, Problem> {
        if let Some((bracket, line, _)) = self.open.last() {
            return Err(Problem::new(Some(*line), format!("this '{}' is not closed", char::from(*bracket))));
        }
        if let (true, Some(rule)) = (self.within, self.rules.last()) {
            return Err(Problem::new(Some(rule.line), "the rule that starts here does not end with ';'".to_owned()));
        }
        Ok(self.rules)
    }
}

fn closes(opened: u8, closing: u8) -> bool {
    matches!((opened, closing), (b'(', b')') | (b'[', b']') | (b'{', b'}'))
}
