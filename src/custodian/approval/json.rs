//! JSON with one form for each value, and the texts that stand in it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Deepest nesting of arrays and objects.
pub const DEPTH_MAX: usize = 32;
/// The last second of the year 9999.
const TIME_MAX_UNIX_S: i64 = 253_402_300_799;

/// The bytes are not JSON that is taken.
#[derive(Debug, thiserror::Error)]
#[error("not JSON, nested more than {DEPTH_MAX} deep, or a name twice in one object")]
pub struct NotPlainJson(#[source] serde_json::Error);

/// Reads one JSON value, refusing a name that stands twice in an object: two readers could take it differently.
///
/// # Errors
/// [`NotPlainJson`].
pub fn parse_json(bytes: &[u8]) -> Result<Value, NotPlainJson> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Plain { depth: DEPTH_MAX }.deserialize(&mut deserializer).map_err(NotPlainJson)?;
    deserializer.end().map_err(NotPlainJson)?;
    Ok(value)
}

/// The one text of `value`: the names of objects in the order of their bytes, no white space, numbers and strings as
/// `serde_json` writes them.
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| name.as_bytes());
            out.push('{');
            for (index, (name, field)) in fields.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write(field, out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// Reads a value whose arrays and objects nest at most `depth` deep.
#[derive(Clone, Copy)]
struct Plain {
    depth: usize,
}

impl Plain {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deep"))?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Plain {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let (inside, mut array) = (self.inside()?, Vec::new());
        while let Some(item) = items.next_element_seed(inside)? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let (inside, mut object) = (self.inside()?, Map::new());
        while let Some(name) = fields.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom("a name twice in one object"));
            }
            object.insert(name, fields.next_value_seed(inside)?);
        }
        Ok(object.into())
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// What [`hex`] wrote, of `N` bytes.
pub fn unhex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let mut bytes = [0; N];
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(bytes)
}

/// Whether a time in seconds since 1970 lies in the years 1970 to 9999.
pub(in crate::custodian) fn is_time(unix_s: i64) -> bool {
    (0..=TIME_MAX_UNIX_S).contains(&unix_s)
}

/// A time as RFC 3339 has it, in UTC to the second. Times before 1970 or after 9999 come out as the nearest within.
pub fn rfc3339(unix_s: i64) -> String {
    let time =
        OffsetDateTime::from_unix_timestamp(unix_s.clamp(0, TIME_MAX_UNIX_S)).expect("within years 1970 to 9999");
    time.format(&Rfc3339).expect("years of four digits have the form")
}

/// What [`rfc3339`] wrote.
pub fn unix_s(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp();
    (is_time(time) && rfc3339(time) == text).then_some(time)
}
