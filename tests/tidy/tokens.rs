//! Just enough of Rust's lexical structure to see which paths a file names: comments and literals are
//! dropped, and each token knows its line, its depth of inline modules and whether it is test code.

/// One identifier, `::` or single character of punctuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The text as written, without the `r#` of a raw identifier.
    pub(crate) text: String,
    /// Line in the file, from 1.
    pub(crate) line: usize,
    /// How many inline `mod x { … }` are open here.
    pub(crate) depth: usize,
    /// Inside an inline module under `#[cfg(test)]`.
    pub(crate) in_test: bool,
}

/// The tokens of `source`, with modules and test code marked.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = raw_tokens(source);
    mark_modules(&mut tokens);
    tokens
}

fn raw_tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < chars.len() {
        let start = at;
        let found = chars[at];
        if chars[at..].starts_with(&['/', '/']) {
            at = position(&chars, at, |c| c == '\n');
        } else if chars[at..].starts_with(&['/', '*']) {
            at = block_comment_end(&chars, at);
        } else if let Some(end) = raw_string_end(&chars, at) {
            at = end;
        } else if found == '"' {
            at = string_end(&chars, at);
        } else if found == '\'' {
            at = quote_end(&chars, at);
        } else if found.is_alphanumeric() || found == '_' {
            at = position(&chars, at, |c| !(c.is_alphanumeric() || c == '_'));
            let text: String = chars[start..at].iter().collect();
            let raw_identifier = text == "r" && chars.get(at) == Some(&'#');
            if raw_identifier {
                at += 1;
            } else {
                tokens.push(Token { text, line, depth: 0, in_test: false });
            }
        } else {
            at += if chars[at..].starts_with(&[':', ':']) { 2 } else { 1 };
            if !found.is_whitespace() {
                tokens.push(Token { text: chars[start..at].iter().collect(), line, depth: 0, in_test: false });
            }
        }
        line += chars[start..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn position(chars: &[char], from: usize, stop: impl Fn(char) -> bool) -> usize {
    chars[from..].iter().position(|c| stop(*c)).map_or(chars.len(), |offset| from + offset)
}

fn block_comment_end(chars: &[char], from: usize) -> usize {
    let (mut at, mut open) = (from, 0);
    while at < chars.len() {
        if chars[at..].starts_with(&['/', '*']) {
            (at, open) = (at + 2, open + 1);
        } else if chars[at..].starts_with(&['*', '/']) {
            (at, open) = (at + 2, open - 1);
            if open == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The end of `r"…"`, `r#"…"#`, `br"…"` or `cr"…"` when one starts here.
fn raw_string_end(chars: &[char], from: usize) -> Option<usize> {
    let prefixes: [&[char]; 3] = [&['r'], &['b', 'r'], &['c', 'r']];
    let prefix = prefixes.into_iter().find(|prefix| chars[from..].starts_with(prefix))?;
    let quote = position(chars, from + prefix.len(), |c| c != '#');
    let hashes = quote - from - prefix.len();
    if chars.get(quote) != Some(&'"') {
        return None;
    }
    let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = quote + 1;
    let end = chars[body..].windows(closing.len()).position(|window| window == closing);
    Some(end.map_or(chars.len(), |offset| body + offset + closing.len()))
}

fn string_end(chars: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The end of a character literal, or of the quote alone when it begins a lifetime.
fn quote_end(chars: &[char], from: usize) -> usize {
    if chars.get(from + 1) == Some(&'\\') {
        (position(chars, (from + 3).min(chars.len()), |c| c == '\'') + 1).min(chars.len())
    } else if chars.get(from + 2) == Some(&'\'') {
        from + 3
    } else {
        from + 1
    }
}

fn mark_modules(tokens: &mut [Token]) {
    // One entry for each open brace: does it open a module, and does test code begin there?
    let mut braces: Vec<(bool, bool)> = Vec::new();
    let mut test_attribute = false;
    for at in 0..tokens.len() {
        let texts =
            |range: std::ops::Range<usize>| tokens.get(range).unwrap_or_default().iter().map(|t| t.text.as_str());
        if texts(at..at + 6).eq(["#", "[", "cfg", "(", "test", ")"]) {
            test_attribute = true;
        }
        match tokens[at].text.as_str() {
            "{" => {
                let opens_module = at >= 2 && tokens[at - 2].text == "mod";
                braces.push((opens_module, opens_module && test_attribute));
                test_attribute = false;
            }
            "}" => {
                braces.pop();
            }
            ";" => test_attribute = false,
            _ => {}
        }
        tokens[at].depth = braces.iter().filter(|(module, _)| *module).count();
        tokens[at].in_test = braces.iter().any(|(_, test)| *test);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_literals_are_dropped() {
        assert_eq!(texts("a /* b /* c */ d */ e // f\ng"), ["a", "e", "g"]);
        assert_eq!(
            texts(r###"a("b \" c", r#"d " e"#, b"f", br"g", '"', '\'', '\u{1F}') h"###).join(" "),
            "a ( , , b , , , , ) h"
        );
        assert_eq!(texts("fn f<'a>(x: &'a str) {}").join(" "), "fn f < a > ( x : & a str ) { }");
        assert_eq!(texts("r#type::x"), ["type", "::", "x"]);
    }

    #[test]
    fn lines_survive_comments_and_strings() {
        let found = tokens("/*\n*/ a\n\"x\ny\" b");
        assert_eq!(found.iter().map(|t| (t.text.as_str(), t.line)).collect::<Vec<_>>(), [("a", 2), ("b", 4)]);
    }

    #[test]
    fn test_modules_are_marked_and_end() {
        let found =
            tokens("#[cfg(test)]\nmod tests { fn f() { a } }\nmod other { b }\n#[cfg(test)] use x; fn g() { c }");
        let at = |text: &str| found.iter().find(|t| t.text == text).map(|t| (t.depth, t.in_test));
        assert_eq!(at("a"), Some((1, true)));
        assert_eq!(at("b"), Some((1, false)));
        assert_eq!(at("c"), Some((0, false)));
    }
}
