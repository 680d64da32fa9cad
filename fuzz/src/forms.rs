//! Browser forms and their policies.

use base64::Engine as _;
use claviger::s3::form::policy::Policy;
use claviger::s3::form::{Event, Fields, FormError, FormReader};
use time::macros::datetime;

use super::input::{Numbers, pieces};

const BOUNDARY: &str = "B";

/// However a form is cut, the same comes of it, and fields become headers or are refused; and a file that is put into a form
/// comes back, unless it has the boundary in it.
pub fn form(bytes: &[u8]) {
    let mut numbers = Numbers(bytes);
    let cut = 1 + numbers.below(100);
    let wire = numbers.0;
    let whole = read(wire, wire.len());
    for size in [cut, 1] {
        assert_eq!(read(wire, size), whole, "in pieces of {size}");
    }
    if let Ok(events) = whole {
        let field = |event| match event {
            Event::Field { name, value } => Some((name, value)),
            _ => None,
        };
        let fields = Fields::new(events.into_iter().filter_map(field).collect(), "name");
        // Whether they are any good is the fuzzer's luck.
        let _ = (fields.headers(), fields.success_action());
    }

    let delimiter = format!("\r\n--{BOUNDARY}");
    if wire.windows(delimiter.len()).any(|window| window == delimiter.as_bytes()) {
        return;
    }
    let mut form = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=file\r\n\r\n").into_bytes();
    form.extend_from_slice(wire);
    form.extend_from_slice(format!("{delimiter}--\r\n").as_bytes());
    let events = read(&form, cut).expect("a form");
    let mut expected = vec![Event::File { name: String::new() }];
    expected.extend((!wire.is_empty()).then(|| Event::Data(wire.to_vec().into())));
    expected.push(Event::FileEnd { last: true });
    assert_eq!(events, expected);
}

/// The events of a form in pieces of `size`, its file in one.
fn read(wire: &[u8], size: usize) -> Result<Vec<Event>, FormError> {
    let mut reader = FormReader::new(BOUNDARY)?;
    let mut events: Vec<Event> = Vec::new();
    let mut pieces = pieces(wire, size);
    loop {
        match reader.next_event()? {
            Event::NeedMore => reader.feed(&pieces.next().ok_or(FormError::Truncated)?),
            Event::Data(data) => match events.last_mut() {
                Some(Event::Data(before)) => *before = [before.as_ref(), data.as_ref()].concat().into(),
                _ => events.push(Event::Data(data)),
            },
            Event::End => return Ok(events),
            event => events.push(event),
        }
        assert!(reader.consumed() <= wire.len() as u64);
    }
}

/// A policy that lets a form pass does not let it pass with a field more, to another bucket, or when it is over.
pub fn form_policy(bytes: &[u8]) {
    let Ok(policy) = Policy::parse(&base64::engine::general_purpose::STANDARD.encode(bytes)) else { return };
    let fields = |more: &[(&str, &str)]| {
        let base = [("key", "up/a"), ("acl", "private"), ("content-type", "image/png")];
        let pairs = base.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Fields::new(pairs.collect(), "name")
    };
    let (early, late) = (datetime!(2000-01-01 0:00 UTC), datetime!(9999-12-31 23:59:59 UTC));
    if policy.check(early, "records", &fields(&[])).is_err() {
        return;
    }
    assert!(policy.check(late, "records", &fields(&[])).is_err());
    assert!(policy.check(early, "elsewhere", &fields(&[])).is_err());
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    if !text.contains("no-such-field") && !text.contains('\\') {
        assert!(policy.check(early, "records", &fields(&[("no-such-field", "")])).is_err());
    }
}
