//! Reads the tables of a TOML document and notes every mistake with its line, instead of stopping at the first.
//!
//! **Invariant:** a key that nobody asked for is a mistake, in every table.

use std::cell::RefCell;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::places::Places;
use super::problem::{Mistake, Problem};
use super::written::{NamedFile, Written};

/// What belongs into files, under these names with `_file`.
const SECRETS: [&str; 6] = ["secret_key", "storage_secret_key", "passphrase", "key", "keyring", "token"];

/// A part that may be missing: `None` if it is there with a mistake in it, which is no reason to do without.
pub(super) fn if_sound<T>(part: Option<Option<T>>) -> Option<Option<T>> {
    part.map_or(Some(None), |read| read.map(Some))
}

/// A document under way: where mistakes are noted.
pub(super) struct Document<'t> {
    text: &'t str,
    places: Places,
    problems: RefCell<Vec<Problem>>,
    files: RefCell<Vec<NamedFile>>,
}

impl<'t> Document<'t> {
    /// The content of `file`, whose paths begin at its folder, or at that of the credentials.
    pub(super) fn new(text: &'t str, file: NamedFile) -> Self {
        let places = Places::of(file.path());
        Self { text, places, problems: RefCell::default(), files: RefCell::new(vec![file]) }
    }

    /// The line, from 1 on, in which a span begins.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// The path, that is the value of `key`. It is about to be read.
    fn resolve(&self, key: &str, path: &str) -> PathBuf {
        let path = self.places.resolve(path);
        self.files.borrow_mut().push(NamedFile::now(key, &path));
        path
    }

    /// What was read so far.
    fn written(&self) -> Written {
        // A document that is looked into has no mistakes of syntax.
        Written::new(self.text.parse().unwrap_or_default(), self.files.borrow().clone())
    }

    pub(super) fn note(&self, line: Option<usize>, key: &str, mistake: impl Into<Mistake>) {
        self.problems.borrow_mut().push(Problem { line, key: key.to_owned(), mistake: mistake.into() });
    }

    /// All that was noted, by line.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        problems
    }
}

/// A text in the document and where it stands.
pub(super) struct Text<'s> {
    document: &'s Document<'s>,
    /// The text.
    pub(super) text: &'s str,
    /// Its line.
    pub(super) line: usize,
    /// The key that it is the value of.
    pub(super) key: String,
}

impl<'s> Text<'s> {
    pub(super) fn note(&self, mistake: impl Into<Mistake>) {
        self.document.note(Some(self.line), &self.key, mistake);
    }

    /// What `parse` makes of it; a mistake is noted.
    pub(super) fn parsed<T, E: Into<Mistake>>(&self, parse: impl FnOnce(&'s str) -> Result<T, E>) -> Option<T> {
        parse(self.text).map_err(|mistake| self.note(mistake)).ok()
    }

    /// The path that it stands for, relative to the configuration's folder or below that of the credentials.
    pub(super) fn path(&self) -> PathBuf {
        self.document.resolve(&self.key, self.text)
    }
}

/// One table of the document.
pub(super) struct Section<'s> {
    document: &'s Document<'s>,
    table: &'s DeTable<'s>,
    name: String,
    line: Option<usize>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'s> Section<'s> {
    pub(super) fn root(document: &'s Document<'s>, table: &'s DeTable<'s>) -> Self {
        Self { document, table, name: String::new(), line: None, asked: RefCell::default() }
    }

    /// What the whole document says, and the files that were read for it so far.
    pub(super) fn written(&self) -> Written {
        self.document.written()
    }

    fn path_of(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// Notes a mistake about the whole section.
    pub(super) fn note(&self, mistake: impl Into<Mistake>) {
        self.document.note(self.line, &self.name, mistake);
    }

    /// Where it stands, for mistakes that show only once it was read.
    pub(super) fn place(&self) -> Text<'s> {
        Text { document: self.document, text: "", line: self.line.unwrap_or(1), key: self.name.clone() }
    }

    /// Notes a mistake at `key`, in its line if it is there.
    pub(super) fn note_at(&self, key: &'static str, mistake: impl Into<Mistake>) {
        let line = self.table.get(key).map(|value| self.document.line(&value.span())).or(self.line);
        self.document.note(line, &self.path_of(key), mistake);
    }

    fn value(&self, key: &'static str) -> Option<&'s Spanned<DeValue<'s>>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.table.get(key)
    }

    /// The value of `key` as `convert` sees it; another type is noted.
    fn typed<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        convert: impl FnOnce(&'s DeValue<'s>) -> Option<T>,
    ) -> Option<(T, usize)> {
        let value = self.value(key)?;
        let line = self.document.line(&value.span());
        let converted = convert(value.get_ref());
        if converted.is_none() {
            let mistake = Mistake::Type { expected, found: value.get_ref().type_str() };
            self.document.note(Some(line), &self.path_of(key), mistake);
        }
        converted.map(|converted| (converted, line))
    }

    /// A text that may be absent.
    pub(super) fn text(&self, key: &'static str) -> Option<Text<'s>> {
        let (text, line) = self.typed(key, "a text in quotes", DeValue::as_str)?;
        let text = Text { document: self.document, text, line, key: self.path_of(key) };
        if self.document.places.lack(text.text) {
            text.note(Mistake::NoCredentials);
            return None;
        }
        Some(text)
    }

    /// A text that has to be there.
    pub(super) fn required(&self, key: &'static str) -> Option<Text<'s>> {
        if !self.has(key) {
            self.value(key);
            self.note(Mistake::Missing(key));
        }
        self.text(key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether `key` is a list with nothing in it.
    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        self.table.get(key).and_then(|value| value.get_ref().as_array()).is_some_and(|list| list.is_empty())
    }

    /// `true` or `false`; `false` when absent, `None` when it is neither.
    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        let flag = self.typed(key, "true or false", DeValue::as_bool).map(|(flag, _)| flag);
        if self.has(key) { flag } else { Some(false) }
    }

    /// A whole number within `range`; `default` when it is absent.
    pub(super) fn number<N: TryFrom<u64> + TryInto<u64> + Copy>(
        &self,
        key: &'static str,
        range: std::ops::RangeInclusive<u64>,
        default: N,
    ) -> N {
        let Some((digits, line)) = self.typed(key, "a whole number", DeValue::as_integer) else { return default };
        let number = u64::from_str_radix(digits.as_str(), digits.radix()).ok().filter(|number| range.contains(number));
        if let Some(number) = number.and_then(|number| N::try_from(number).ok()) {
            return number;
        }
        let mistake = Mistake::Range { least: *range.start(), most: *range.end() };
        self.document.note(Some(line), &self.path_of(key), mistake);
        default
    }

    /// A share of the whole: a number from 0 to 1; `default` when it is absent.
    pub(super) fn ratio(&self, key: &'static str, default: f64) -> Option<f64> {
        if !self.has(key) {
            self.value(key);
            return Some(default);
        }
        let number = |value: &'s DeValue<'s>| match value {
            DeValue::Float(float) => Some(float.as_str()),
            DeValue::Integer(integer) => Some(integer.as_str()),
            _ => None,
        };
        let (digits, line) = self.typed(key, "a number", number)?;
        let ratio = digits.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        if ratio.is_none() {
            self.document.note(Some(line), &self.path_of(key), Mistake::Ratio);
        }
        ratio
    }

    /// The texts of a list; none when it is absent.
    pub(super) fn texts(&self, key: &'static str) -> Vec<Text<'s>> {
        let expected = "a list of texts";
        let Some((list, _)) = self.typed(key, expected, DeValue::as_array) else { return Vec::new() };
        let item = |value: &'s Spanned<DeValue<'s>>| {
            let line = self.document.line(&value.span());
            let Some(text) = value.get_ref().as_str() else {
                let mistake = Mistake::Type { expected, found: value.get_ref().type_str() };
                self.document.note(Some(line), &self.path_of(key), mistake);
                return None;
            };
            Some(Text { document: self.document, text, line, key: self.path_of(key) })
        };
        list.iter().filter_map(item).collect()
    }

    fn below(&self, key: &str, table: &'s DeTable<'s>, line: usize) -> Self {
        let name = self.path_of(key);
        Section { document: self.document, table, name, line: Some(line), asked: RefCell::default() }
    }

    /// The table `key`, if there is one.
    pub(super) fn section(&self, key: &'static str) -> Option<Self> {
        let (table, line) = self.typed(key, "a table", DeValue::as_table)?;
        Some(self.below(key, table, line))
    }

    /// The table `key`, which has to be there.
    pub(super) fn required_section(&self, key: &'static str) -> Option<Self> {
        if !self.has(key) {
            self.value(key);
            self.document.note(None, &self.path_of(key), Mistake::Missing(key));
        }
        self.section(key)
    }

    /// The tables `[[key]]`.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Self> {
        let expected = "tables, each headed by its name in [[ ]]";
        let Some((list, _)) = self.typed(key, expected, DeValue::as_array) else { return Vec::new() };
        let item = |value: &'s Spanned<DeValue<'s>>| {
            let line = self.document.line(&value.span());
            let Some(table) = value.get_ref().as_table() else {
                let mistake = Mistake::Type { expected, found: value.get_ref().type_str() };
                self.document.note(Some(line), &self.path_of(key), mistake);
                return None;
            };
            Some(self.below(key, table, line))
        };
        list.iter().filter_map(item).collect()
    }

    /// Notes the keys that nobody asked for. Call it last.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for key in self.table.keys().filter(|key| !asked.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let instead = asked.iter().find(|asked| asked.strip_suffix("_file") == Some(name));
            let mistake = match instead {
                Some(instead) if SECRETS.contains(&name) => Mistake::InlineSecret(instead),
                _ => Mistake::UnknownKey { known: asked.clone() },
            };
            self.document.note(Some(self.document.line(&key.span())), &self.path_of(name), mistake);
        }
    }
}
