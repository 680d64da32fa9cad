//! The head of a part: which field it is.

use super::FormError;

/// Most bytes of a part's head.
pub(super) const LONGEST: usize = 4 << 10;

/// What a part's head says.
#[derive(Debug)]
pub(super) struct PartHead {
    /// The field's name.
    pub(super) name: String,
    file_name: Option<String>,
}

impl PartHead {
    /// Reads the lines of a head, without the empty one that ends it.
    pub(super) fn parse(lines: &[u8]) -> Result<Self, FormError> {
        let text = std::str::from_utf8(lines).map_err(|_| FormError::Malformed("a part's head is not UTF-8"))?;
        let mut disposition = None;
        for line in text.split("\r\n") {
            let (name, value) =
                line.split_once(':').ok_or(FormError::Malformed("a part has a line that is no header"))?;
            if name.eq_ignore_ascii_case("content-disposition") {
                if disposition.replace(value).is_some() {
                    return Err(FormError::Malformed("a part has two dispositions"));
                }
            } else if name.eq_ignore_ascii_case("content-transfer-encoding") {
                let as_it_is = ["7bit", "8bit", "binary"].iter().any(|plain| value.trim().eq_ignore_ascii_case(plain));
                if !as_it_is {
                    return Err(FormError::Malformed("a part is encoded for transfer"));
                }
            }
        }
        let disposition = disposition.ok_or(FormError::Malformed("a part has no Content-Disposition"))?;
        let (kind, parameters) = parameters(disposition)?;
        if !kind.eq_ignore_ascii_case("form-data") {
            return Err(FormError::Malformed("a part is not form-data"));
        }
        let name = one(&parameters, "name")?.ok_or(FormError::Malformed("a part has no name"))?.to_owned();
        let file_name = one(&parameters, "filename")?.map(str::to_owned);
        Ok(Self { name, file_name })
    }

    /// The file's name without the folders that some browsers tell with it (AWS, "POST Object", on `${filename}`).
    pub(super) fn file_name(&self) -> String {
        let name = self.file_name.as_deref().unwrap_or_default();
        name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned()
    }
}

/// The parameters of a header, by their names as they are written.
pub(super) type Parameters = Vec<(String, String)>;

/// The one parameter of this name.
pub(super) fn one<'p>(parameters: &'p [(String, String)], name: &str) -> Result<Option<&'p str>, FormError> {
    let mut values = parameters.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(String::as_str)),
        (_, Some(_)) => Err(FormError::Malformed("a part's parameter is given twice")),
    }
}

/// Reads `word; name=token; name="quoted"`. Within quotes only `\"` is an escape: browsers write a file's backslashes as
/// they are, and quotes as `%22` or so.
pub(super) fn parameters(text: &str) -> Result<(&str, Parameters), FormError> {
    let malformed = FormError::Malformed("a header's parameters cannot be read");
    let (word, mut rest) = text.split_once(';').unwrap_or((text, ""));
    let mut parameters = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok((word.trim(), parameters));
        }
        let (name, value) = rest.split_once('=').ok_or(malformed.clone())?;
        let (value, after) = match value.trim_start().strip_prefix('"') {
            None => {
                let (token, after) = value.split_once(';').unwrap_or((value, ""));
                (token.trim().to_owned(), after)
            }
            Some(quoted) => {
                let (value, after) = unquoted(quoted).ok_or(malformed.clone())?;
                let after = after.trim_start();
                let next = if after.is_empty() { Some("") } else { after.strip_prefix(';') };
                (value, next.ok_or(malformed.clone())?)
            }
        };
        parameters.push((name.trim().to_owned(), value));
        rest = after;
    }
}

/// What stands before the closing quote, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' if letters.peek().is_some_and(|(_, next)| *next == '"') => {
                letters.next();
                value.push('"');
            }
            letter => value.push(letter),
        }
    }
    None
}
