//! What the vectors do to a stored object: the operator's side of the threat model.

use std::collections::BTreeMap;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Stored;
use crate::format::envelope;
use crate::format::narrow;
use crate::format::size::{SEALED_SEGMENT, TAIL};

fn segment(index: &str) -> Range<usize> {
    let index: usize = index.parse().expect("a segment's number");
    let sealed = narrow(SEALED_SEGMENT);
    index * sealed..(index + 1) * sealed
}

fn copy(body: &mut [u8], from: &[u8], range: Range<usize>) {
    body.get_mut(range).expect("inside").copy_from_slice(from);
}

/// Replaces `remove` of the envelope's bytes at `offset` by the bytes that `insert` has in hexadecimal.
fn splice(envelope: &str, offset: &str, remove: &str, insert: &str) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(envelope).expect("base64url");
    let (offset, remove): (usize, usize) = (offset.parse().expect("a number"), remove.parse().expect("a number"));
    let insert = (0..insert.len() / 2).map(|at| insert.get(2 * at..2 * at + 2).expect("pairs"));
    let insert: Vec<u8> = insert.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect();
    bytes.splice(offset..offset + remove, insert);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Applies one `mutate:` line; `others` are the valid objects by name.
pub(super) fn apply(stored: &mut Stored, mutation: &str, others: &BTreeMap<String, Stored>) {
    let words: Vec<&str> = mutation.split(' ').collect();
    let other = |name: &str| others.get(name).expect("a valid vector of that name");
    let Stored { envelope, body } = stored;
    match words.as_slice() {
        ["flip-field", field] => *envelope = envelope::testing::flip_field(envelope, field.parse().expect("a field")),
        ["envelope", text] => *envelope = (*text).to_owned(),
        ["envelope-of", name] => other(name).envelope.clone_into(envelope),
        ["cut-envelope", bytes] => envelope.truncate(envelope.len() - bytes.parse::<usize>().expect("a number")),
        ["splice-envelope", offset, remove, insert] => *envelope = splice(envelope, offset, remove, insert),
        ["flip", offset] => *body.get_mut(offset.parse::<usize>().expect("an offset")).expect("inside") ^= 0x80,
        ["flip-from-end", offset] => {
            let at = body.len() - offset.parse::<usize>().expect("an offset");
            *body.get_mut(at).expect("inside") ^= 1;
        }
        ["keep", bytes] => body.truncate(bytes.parse().expect("a number")),
        ["drop", bytes] => body.truncate(body.len() - bytes.parse::<usize>().expect("a number")),
        ["append-zeros", bytes] => body.resize(body.len() + bytes.parse::<usize>().expect("a number"), 0),
        ["drop-segment", index] => drop(body.drain(segment(index))),
        ["swap-segments", a, b] => {
            let (first, second) =
                (body.get(segment(a)).expect("inside").to_vec(), body.get(segment(b)).expect("inside").to_vec());
            copy(body, &second, segment(a));
            copy(body, &first, segment(b));
        }
        ["copy-segment", from, to] => {
            let bytes = body.get(segment(from)).expect("inside").to_vec();
            copy(body, &bytes, segment(to));
        }
        ["copy-bytes", from, to, length] => {
            let number = |text: &str| text.parse::<usize>().expect("a number");
            let bytes = body.get(number(from)..number(from) + number(length)).expect("inside").to_vec();
            copy(body, &bytes, number(to)..number(to) + number(length));
        }
        ["segment-of", name, index] => {
            let bytes = other(name).body.get(segment(index)).expect("inside").to_vec();
            copy(body, &bytes, segment(index));
        }
        ["tail-of", name] => {
            let (from, cut) = (&other(name).body, body.len() - narrow(TAIL));
            body.truncate(cut);
            body.extend_from_slice(from.get(from.len() - narrow(TAIL)..).expect("long"));
        }
        ["list-of", name, length] => {
            let (from, length) = (&other(name).body, length.parse::<usize>().expect("a number"));
            let (start, theirs) = (body.len() - narrow(TAIL) - length, from.len() - narrow(TAIL) - length);
            copy(body, from.get(theirs..theirs + length).expect("long"), start..start + length);
        }
        ["body-of", name] => other(name).body.clone_into(body),
        _ => panic!("unknown mutation {mutation}"),
    }
}
