//! The JSON of request bodies: guarded before it is parsed, then read field by field as lightly typed as Vault reads it.
//!
//! **Invariant:** nothing is parsed that is nested deeper than [`DEPTH_MAX`] or has more than [`PIECES_MAX`] pieces.
//! **Invariant:** a text lies in the body's own zeroized bytes, or, where it had escapes, in a zeroized copy.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroize as _;

/// How deep arrays and objects may be nested.
pub(super) const DEPTH_MAX: usize = 32;
/// Most fields and items of a body, all together.
pub(super) const PIECES_MAX: usize = 16_384;
/// Most names of unknown fields in a warning, and characters of each.
const NAMES_MAX: usize = 16;
const NAME_LEN_MAX: usize = 64;

/// Why a body is not read. Nothing of it is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidJson {
    #[error("failed to decode JSON input: nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("failed to decode JSON input: more than {PIECES_MAX} fields and items")]
    TooMany,
    #[error("failed to decode JSON input: unexpected EOF")]
    Cut,
    #[error("failed to decode JSON input: it is not valid")]
    Syntax,
    #[error("failed to decode JSON input: it is not an object")]
    NotAnObject,
}

/// Looks at brackets and separators alone, in one pass and without memory. What is not JSON may pass; the parser finds that.
pub(super) fn guard(body: &[u8]) -> Result<(), InvalidJson> {
    let (mut depth, mut pieces) = (0_usize, 0_usize);
    let (mut in_text, mut escaped) = (false, false);
    for byte in body {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        pieces += usize::from(matches!(byte, b'[' | b'{' | b','));
        if depth > DEPTH_MAX {
            return Err(InvalidJson::TooDeep);
        }
        if pieces > PIECES_MAX {
            return Err(InvalidJson::TooMany);
        }
    }
    Ok(())
}

/// A value.
pub(super) enum Value<'a> {
    Null,
    Flag(bool),
    Integer(i64),
    /// A number that is not a whole one of 64 bits.
    Number,
    Text(Text<'a>),
    List(Vec<Self>),
    Object(Object<'a>),
}

/// A text, zeroized if it is a copy.
pub(super) struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Drop for Text<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(text) = &mut self.0 {
            text.zeroize();
        }
    }
}

/// The fields of an object, no name twice.
pub(super) struct Object<'a>(Vec<(Text<'a>, Value<'a>)>);

/// A field is there and of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Field validation failed: error converting input for field \"{field}\": expected {expected}")]
pub(super) struct InvalidField {
    field: &'static str,
    expected: &'static str,
}

impl<'a> Object<'a> {
    /// Reads a body. An empty one, and `null`, are objects without fields.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, InvalidJson> {
        if body.trim_ascii().is_empty() {
            return Ok(Self(Vec::new()));
        }
        guard(body)?;
        match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(Value::Null) => Ok(Self(Vec::new())),
            Ok(_) => Err(InvalidJson::NotAnObject),
            Err(error) if error.is_eof() => Err(InvalidJson::Cut),
            Err(_) => Err(InvalidJson::Syntax),
        }
    }

    /// The value of the field; `null` counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&Value<'a>> {
        let found = self.0.iter().find(|(field, _)| field.as_str() == name)?;
        (!matches!(found.1, Value::Null)).then_some(&found.1)
    }

    /// Whether the field is there, be it `null`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(field, _)| field.as_str() == name)
    }

    /// A text. Numbers and flags are not taken for one.
    pub(super) fn text(&self, field: &'static str) -> Result<Option<&str>, InvalidField> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(InvalidField { field, expected: "a string" }),
        }
    }

    /// `true` or `false`, also as a text or as 1 or 0.
    pub(super) fn flag(&self, field: &'static str) -> Result<Option<bool>, InvalidField> {
        let refused = InvalidField { field, expected: "a bool" };
        match self.get(field) {
            None => Ok(None),
            Some(Value::Flag(flag)) => Ok(Some(*flag)),
            Some(Value::Integer(number @ (0 | 1))) => Ok(Some(*number == 1)),
            Some(Value::Text(text)) => match text.as_str() {
                "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(Some(true)),
                "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(Some(false)),
                _ => Err(refused),
            },
            Some(_) => Err(refused),
        }
    }

    /// A whole number, also as a text.
    pub(super) fn integer(&self, field: &'static str) -> Result<Option<i64>, InvalidField> {
        let refused = InvalidField { field, expected: "an int" };
        match self.get(field) {
            None => Ok(None),
            Some(Value::Integer(number)) => Ok(Some(*number)),
            Some(Value::Text(text)) => text.as_str().parse().map(Some).map_err(|_| refused),
            Some(_) => Err(refused),
        }
    }

    /// Seconds: a number, a text of one, or a duration as Go writes it: `90m`, `1h30m`, `30d`.
    pub(super) fn seconds(&self, field: &'static str) -> Result<Option<u64>, InvalidField> {
        let refused = InvalidField { field, expected: "a duration such as 3600 or \"1h30m\"" };
        match self.get(field) {
            None => Ok(None),
            Some(Value::Integer(number)) => u64::try_from(*number).map(Some).map_err(|_| refused),
            Some(Value::Text(text)) => duration_s(text.as_str()).map(Some).ok_or(refused),
            Some(_) => Err(refused),
        }
    }

    /// The object in the field.
    pub(super) fn object(&self, field: &'static str) -> Result<Option<&Self>, InvalidField> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(InvalidField { field, expected: "an object" }),
        }
    }

    /// The fields with texts as values, such as labels.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// What Vault says of fields that it does not know. Only what looks like a name is repeated.
    pub(super) fn warning(&self, known: &[&str]) -> Option<String> {
        let legal = |name: &&str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(plain)
        };
        let names = self.0.iter().map(|(name, _)| name.as_str());
        let unknown: Vec<&str> = names.filter(|name| !known.contains(name)).collect();
        if unknown.is_empty() {
            return None;
        }
        let mut shown: Vec<&str> = unknown.iter().copied().filter(legal).take(NAMES_MAX).collect();
        shown.sort_unstable();
        Some(format!("Endpoint ignored these unrecognized parameters: [{}]", shown.join(" ")))
    }

    /// As the canonical text of a proposal needs it. Not for bodies that carry secrets.
    pub(super) fn to_plain(&self) -> serde_json::Value {
        let fields = self.0.iter().map(|(name, value)| (name.as_str().to_owned(), value.to_plain()));
        serde_json::Value::Object(fields.collect())
    }
}

impl Value<'_> {
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    fn to_plain(&self) -> serde_json::Value {
        match self {
            Self::Null | Self::Number => serde_json::Value::Null,
            Self::Flag(flag) => (*flag).into(),
            Self::Integer(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::List(list) => list.iter().map(Value::to_plain).collect(),
            Self::Object(object) => object.to_plain(),
        }
    }
}

/// `1h30m`, `90m`, `30d`, `3600`; whole numbers only.
fn duration_s(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let (mut rest, mut sum) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let unit = match rest.as_bytes().get(digits)? {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            _ => return None,
        };
        sum = sum.checked_add(number.checked_mul(unit)?)?;
        rest = rest.get(digits + 1..)?;
    }
    (!text.is_empty()).then_some(sum)
}

struct Reader;

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(Reader)? {
            Value::Text(text) => Ok(text),
            _ => Err(D::Error::custom("not a text")),
        }
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value<'de>, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(i64::try_from(number).map_or(Value::Number, Value::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Text(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Text(Cow::Owned(text.to_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value<'de>, A::Error> {
        let mut object: Vec<(Text<'de>, Value<'de>)> = Vec::new();
        let mut names = std::collections::BTreeSet::new();
        while let Some((name, value)) = fields.next_entry::<Text<'de>, Value<'de>>()? {
            // Of two fields with one name, each reader would pick its own.
            if !names.insert(name.as_str().to_owned()) {
                return Err(A::Error::custom("a field stands twice"));
            }
            object.push((name, value));
        }
        Ok(Value::Object(Object(object)))
    }
}

/// Whatever the bytes are, they are read or refused; what is read stays within the bounds.
#[doc(hidden)]
pub fn fuzz_body(body: &[u8]) {
    if let Ok(object) = Object::parse(body) {
        assert!(guard(body).is_ok() || body.trim_ascii().is_empty());
        assert!(object.0.len() <= PIECES_MAX);
        let _ = object.warning(&[]);
        let _ = (object.text("plaintext"), object.integer("key_version"), object.seconds("auto_rotate_period"));
        let written = serde_json::to_vec(&object.to_plain()).expect("a value");
        let again = Object::parse(&written).expect("what was read is JSON");
        assert_eq!(again.0.len(), object.0.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &[u8]) -> InvalidJson {
        Object::parse(body).err().unwrap_or_else(|| panic!("{:.60}", String::from_utf8_lossy(body)))
    }

    #[test]
    fn empty_bodies_are_legal_and_others_must_be_objects() {
        for body in ["", " \r\n", "null", "{}", " { } "] {
            assert!(Object::parse(body.as_bytes()).is_ok_and(|object| object.0.is_empty()), "{body:?}");
        }
        for body in ["[]", "7", "\"text\"", "true"] {
            assert_eq!(refused(body.as_bytes()), InvalidJson::NotAnObject, "{body:?}");
        }
        for body in ["{", "{\"a\"", "{\"a\":", "{\"a\":[1,", "\""] {
            assert_eq!(refused(body.as_bytes()), InvalidJson::Cut, "{body:?}");
        }
        for body in [&b"{]"[..], b"{\"a\":1}x", b"{'a':1}", b"\xff", b"{\"a\":\"\xff\"}", b"\0", b"{\"a\":1,\"a\":2}"] {
            assert_eq!(refused(body), InvalidJson::Syntax, "{:?}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn depth_and_number_of_pieces_are_bounded_before_parsing() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(Object::parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(refused(nested(DEPTH_MAX + 1).as_bytes()), InvalidJson::TooDeep);
        assert_eq!(refused("[".repeat(1 << 20).as_bytes()), InvalidJson::TooDeep);
        assert_eq!(refused("{\"a\":".repeat(100_000).as_bytes()), InvalidJson::TooDeep);
        let wide = format!("{{\"a\":[{}0]}}", "0,".repeat(PIECES_MAX));
        assert_eq!(refused(wide.as_bytes()), InvalidJson::TooMany);
        assert_eq!(refused("[],".repeat(PIECES_MAX).as_bytes()), InvalidJson::TooMany);
        // Brackets in texts are text.
        let text = format!("{{\"a\":\"{}\\\"[[\"}}", "[{".repeat(1000));
        assert!(Object::parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn fields_are_read_as_leniently_as_vault_reads_them() {
        let body = br#"{"v":"7","n":3,"yes":"true","one":1,"no":false,"none":null,"d":"1h30m","esc":"a\u0062c","x":1.5,"l":["a","b"]}"#;
        let object = Object::parse(body).expect("an object");
        assert_eq!((object.integer("v"), object.integer("n")), (Ok(Some(7)), Ok(Some(3))));
        assert_eq!(
            (object.flag("yes"), object.flag("one"), object.flag("no")),
            (Ok(Some(true)), Ok(Some(true)), Ok(Some(false)))
        );
        assert_eq!((object.text("none"), object.text("absent"), object.has("none")), (Ok(None), Ok(None), true));
        assert_eq!(
            (object.seconds("d"), object.seconds("n"), object.seconds("v")),
            (Ok(Some(5400)), Ok(Some(3)), Ok(Some(7)))
        );
        assert_eq!(object.text("esc"), Ok(Some("abc")));
        assert!(object.text("n").is_err() && object.integer("x").is_err() && object.flag("n").is_err());
        assert!(object.integer("esc").is_err() && object.seconds("esc").is_err());
        for (text, seconds) in [
            ("0", Some(0)),
            ("90m", Some(5400)),
            ("30d", Some(2_592_000)),
            ("", None),
            ("h", None),
            ("1x", None),
            ("-1s", None),
            ("99999999999999999999d", None),
            ("9999999999999999d", None),
            ("1h5", None),
            ("1é", None),
        ] {
            assert_eq!(duration_s(text), seconds, "{text}");
        }
    }

    #[test]
    fn unknown_fields_make_a_warning_that_repeats_names_alone() {
        let body = br#"{"plaintext":"c2VjcmV0","bbb":1,"aaa":2,"c2Vj\nmV0":3}"#;
        let object = Object::parse(body).expect("an object");
        let warning = "Endpoint ignored these unrecognized parameters: [aaa bbb]".to_owned();
        assert_eq!(object.warning(&["plaintext"]), Some(warning));
        assert_eq!(object.warning(&["plaintext", "aaa", "bbb", "c2Vj\nmV0"]), None);
    }

    #[test]
    fn errors_repeat_nothing_of_the_body() {
        let body = br#"{"key_version":"c2VjcmV0","plaintext":["c2VjcmV0"]}"#;
        let object = Object::parse(body).expect("an object");
        let shown = format!("{:?} {:?}", object.integer("key_version").err(), object.text("plaintext").err());
        assert!(!shown.contains("c2VjcmV0"), "{shown}");
    }
}
