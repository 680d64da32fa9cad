//! Forms of browsers and libraries, forms that are none, and that it does not matter how the bytes are cut.

use proptest::prelude::*;

use super::*;
use crate::s3::target::LONGEST_KEY;

/// The events of a form, data joined.
fn read(boundary: &str, form: &[u8], cuts: &[usize]) -> Result<Vec<Event>, FormError> {
    let mut reader = FormReader::new(boundary)?;
    let mut events: Vec<Event> = Vec::new();
    let (mut at, mut pieces) = (0, cuts.iter().copied().chain(std::iter::repeat(usize::MAX)));
    loop {
        match reader.next_event()? {
            Event::NeedMore if at == form.len() => return Err(FormError::Truncated),
            Event::NeedMore => {
                let length = pieces.next().unwrap_or(usize::MAX).clamp(1, form.len() - at);
                reader.feed(form.get(at..at + length).expect("within"));
                at += length;
            }
            Event::Data(data) => match events.last_mut() {
                Some(Event::Data(before)) => *before = [before.as_ref(), data.as_ref()].concat().into(),
                _ => events.push(Event::Data(data)),
            },
            Event::End => return Ok(events),
            event => events.push(event),
        }
    }
}

fn field(name: &str, value: &str) -> Event {
    Event::Field { name: name.into(), value: value.into() }
}

fn part(head: &str, value: &str) -> String {
    format!("--B\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n")
}

/// A form with this part before a file.
fn with_part(part: &str) -> Result<Vec<Event>, FormError> {
    let form = format!("{part}--B\r\nContent-Disposition: form-data; name=file\r\n\r\nx\r\n--B--\r\n");
    read("B", form.as_bytes(), &[])
}

#[test]
fn a_browsers_form() {
    let form = part("name=\"Key\"", "folder/${filename}")
        + &part("name=\"acl\"; filename=\"acl\"", "")
        + "--B\r\ncontent-disposition: form-data; name=\"file\"; filename=\"C:\\My \\\"files\\\"\\a;b.txt\"\r\n\
           Content-Type: text/plain\r\n\r\nhello\r\n--\r\n\r\n--B--\r\n";
    let expected = [
        field("key", "folder/${filename}"),
        field("acl", ""),
        Event::File { name: "a;b.txt".into() },
        Event::Data(Bytes::from_static(b"hello\r\n--\r\n")),
        Event::FileEnd { last: true },
    ];
    assert_eq!(read("B", form.as_bytes(), &[]).expect("a form"), expected);
}

#[test]
fn what_follows_the_file_is_passed_over_but_for_another_file() {
    let form = part("name=file", "") + &part("name=submit", "Upload") + "--B--";
    let events = read("B", form.as_bytes(), &[]).expect("a form");
    assert_eq!(events, [Event::File { name: String::new() }, Event::FileEnd { last: false }]);
    let form = part("name=file", "one") + &part("name=File", "two") + "--B--";
    assert_eq!(read("B", form.as_bytes(), &[]), Err(FormError::SecondFile));
}

#[test]
fn content_types() {
    let boundary = |text: &str| {
        let reader = FormReader::of_content_type(&HeaderValue::try_from(text).expect("legal"))?;
        Ok(reader.map(|reader| String::from_utf8(reader.delimiter).expect("ASCII")))
    };
    assert_eq!(boundary("multipart/form-data; boundary=abc"), Ok(Some("\r\n--abc".to_owned())));
    assert_eq!(boundary("Multipart/Form-Data;charset=utf-8; Boundary=\"a b:c\""), Ok(Some("\r\n--a b:c".to_owned())));
    assert_eq!(boundary("application/xml"), Ok(None));
    for wrong in
        ["", "; boundary=", "; boundary=a; boundary=b", "; boundary=\"a", "; boundary=\"a \"", "; boundary=a<b"]
    {
        assert_eq!(boundary(&format!("multipart/form-data{wrong}")), Err(FormError::Boundary), "{wrong}");
    }
    assert!(FormReader::new(&"b".repeat(70)).is_ok() && FormReader::new(&"b".repeat(71)).is_err());
}

#[test]
fn what_is_no_form() {
    let malformed = |form: &str| match read("B", form.as_bytes(), &[]) {
        Err(FormError::Malformed(_)) => {}
        other => panic!("{form:?}: {other:?}"),
    };
    let file = part("name=file", "x");
    for form in [
        format!("preamble\r\n{file}--B--"),
        format!("\r\n{file}--B--"),
        "--C\r\n".into(),
        format!("--B \r\n{file}"),
        "--Bx\r\n".into(),
        "--B\r\n\r\nx\r\n\r\n--B--".into(),
        "--B\r\nno header\r\n\r\nx\r\n--B--".into(),
        "--B\r\nContent-Type: text/plain\r\n\r\nx\r\n--B--".into(),
        part("filename=x", "x"),
        part("name=a; name=b", "x"),
        part("name=\"a", "x"),
        part("name=\"a\" b", "x"),
        "--B\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--B--".into(),
        "--B\r\nContent-Disposition: form-data; name=file\r\nContent-Transfer-Encoding: base64\r\n\r\nx\r\n--B--"
            .into(),
        "--B\r\nContent-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n\r\nx".into(),
        format!("{}--Bxx", part("name=file", "x")),
    ] {
        malformed(&form);
    }
    assert_eq!(read("B", b"--B--\r\n", &[]), Err(FormError::NoFile));
    assert_eq!(read("B", (part("name=a", "b") + "--B--").as_bytes(), &[]), Err(FormError::NoFile));
    assert_eq!(with_part(&(part("name=a", "b") + &part("name=A", "c"))), Err(FormError::Twice("a".into())));
    let whole = part("name=a", "b") + &file + "--B--";
    for end in 0..whole.len() {
        assert_eq!(read("B", whole.as_bytes().get(..end).expect("within"), &[]), Err(FormError::Truncated), "{end}");
    }
}

#[test]
fn fields_are_bounded() {
    let long = |length: usize| with_part(&part("name=a", &"v".repeat(length)));
    assert!(long(LONGEST_FIELDS - 1 - "file".len()).is_ok());
    assert_eq!(long(LONGEST_FIELDS), Err(FormError::FieldsTooLong));
    let many =
        |count: usize| with_part(&(0..count).map(|number| part(&format!("name=f{number}"), "")).collect::<String>());
    assert!(many(MOST_FIELDS).is_ok());
    assert_eq!(many(MOST_FIELDS + 1), Err(FormError::FieldsTooLong));
    let head = |length: usize| with_part(&part(&format!("name=a; other={}", "x".repeat(length)), ""));
    assert!(head(1000).is_ok());
    assert_eq!(head(5000), Err(FormError::FieldsTooLong));
    // Also when the end never comes: what is held stays small.
    let mut reader = FormReader::new("B").expect("a boundary");
    reader.feed(b"--B\r\nContent-Disposition: form-data; name=a\r\n\r\n");
    let refused = (0..100).find(|_| {
        reader.feed(&[b'x'; 1024]);
        reader.next_event().is_err()
    });
    assert!(refused.is_some_and(|count| count < 24), "{refused:?}");
}

#[test]
fn fields_become_the_headers_of_a_put() {
    let fields = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Fields::new(pairs, "photo.jpg")
    };
    let form = fields(&[
        ("key", "up/${filename}"),
        ("acl", "public-read"),
        ("content-type", "image/jpeg"),
        ("x-amz-meta-who", "me"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("policy", "e30="),
        ("x-amz-signature", "00"),
        ("x-ignore-this", "x"),
        ("submit", "Upload"),
        ("tagging", "<Tagging><TagSet><Tag><Key>a b</Key><Value>&amp;</Value></Tag></TagSet></Tagging>"),
    ]);
    assert_eq!(form.get("key"), Some("up/photo.jpg"));
    let headers = form.headers().expect("fine");
    let expected = [
        ("x-amz-acl", "public-read"),
        ("content-type", "image/jpeg"),
        ("x-amz-meta-who", "me"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-tagging", "a%20b=%26"),
    ];
    assert_eq!(headers.len(), expected.len(), "{headers:?}");
    assert!(expected.iter().all(|(name, value)| headers.get(*name).is_some_and(|is| is == value)), "{headers:?}");
    for (name, value) in [
        ("x-amz-copy-source", "/records/other"),
        ("x-amz-decoded-content-length", "1"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        ("x-amz-meta-a b", "x"),
        ("x-amz-meta-a", "x\r\ny"),
        ("content-encoding", "aws-chunked"),
    ] {
        assert_eq!(fields(&[(name, value)]).headers(), Err(FormError::Field(name.into())), "{name}");
    }
    for document in ["", "a=b", "<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>", "<Other/>"] {
        assert_eq!(fields(&[("tagging", document)]).headers(), Err(FormError::Tagging), "{document}");
    }
    let none = fields(&[("tagging", "<Tagging><TagSet/></Tagging>")]).headers().expect("no tags");
    assert_eq!(none.get("x-amz-tagging").map(HeaderValue::as_bytes), Some(&b""[..]));
}

#[test]
fn what_is_answered() {
    let action = |name: &str, value: &str| {
        let fields = Fields::new(vec![(name.into(), value.into())], "");
        format!("{:?}", fields.success_action())
    };
    assert_eq!(action("success_action_status", "200"), "Ok");
    assert_eq!(action("success_action_status", "201"), "Created");
    assert_eq!(action("success_action_status", "204"), "NoContent");
    assert_eq!(action("success_action_status", "302"), "NoContent");
    assert_eq!(action("success_action_redirect", "https://a.example/x?y"), "Redirect(\"https://a.example/x?y\")");
    for odd in ["", "/here", "javascript:alert(1)", "https://a b", "http://a\r\nset-cookie: x"] {
        assert_eq!(action("success_action_redirect", odd), "NoContent", "{odd:?}");
    }
}

proptest! {
    /// However a form is cut, the same comes out, and it is what was put in.
    #[test]
    fn cuts_do_not_matter(
        fields in prop::collection::btree_map("[a-z]{1,8}", "[ -~\r\n]{0,40}", 0..5),
        file in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'B'), any::<u8>()], 0..200),
        cuts in prop::collection::vec(1_usize..30, 0..200),
        trailing in any::<bool>(),
    ) {
        let boundary = "BoundaryOfTheTest";
        let mut form = Vec::new();
        for (name, value) in &fields {
            form.extend(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"x{name}\"\r\n\r\n{value}\r\n").bytes());
        }
        form.extend(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n").bytes());
        let begins = form.len();
        form.extend(&file);
        let ends = form.len();
        if trailing {
            form.extend(format!("\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"z\"\r\n\r\nz").bytes());
        }
        form.extend(format!("\r\n--{boundary}--\r\n").bytes());
        let events = read(boundary, &form, &cuts).expect("a form");
        let mut expected: Vec<Event> = fields.iter().map(|(name, value)| field(&format!("x{name}"), value)).collect();
        expected.push(Event::File { name: String::new() });
        if !file.is_empty() {
            expected.push(Event::Data(file.clone().into()));
        }
        expected.push(Event::FileEnd { last: !trailing });
        prop_assert_eq!(events, expected);
        // Where the file begins, and what follows it, is known when it begins.
        let mut reader = FormReader::new(boundary).expect("a boundary");
        reader.feed(&form);
        while !matches!(reader.next_event(), Ok(Event::File { .. })) {}
        prop_assert_eq!(reader.consumed(), u64::try_from(begins).expect("short"));
        if !trailing {
            prop_assert_eq!(reader.closing_length(), u64::try_from(form.len() - ends).expect("short"));
        }
    }

    /// Junk ends in an error or an end, and never in a panic.
    #[test]
    fn junk_is_refused(junk in prop::collection::vec(prop_oneof![Just(b"\r\n--B".to_vec()), Just(b"\r\n\r\n".to_vec()), any::<Vec<u8>>()], 0..8), cuts in prop::collection::vec(1_usize..9, 0..50)) {
        let mut form = b"--B".to_vec();
        form.extend(junk.concat());
        let whole = read("B", &form, &[]);
        prop_assert_eq!(read("B", &form, &cuts), whole);
    }
}

#[test]
fn hostile_a_file_name_that_is_put_in_often_does_not_swell() {
    let key = "${filename}".repeat(1500);
    let fields = Fields::new(vec![("key".into(), key)], &"n".repeat(4000));
    let key = fields.get("key").expect("is there");
    assert!(key.len() > LONGEST_KEY && key.len() <= LONGEST_KEY + 4000 + 20_000, "{}", key.len());
    let fields = Fields::new(vec![("key".into(), "a/${filename}/${filename}b".into())], "n");
    assert_eq!(fields.get("key"), Some("a/n/nb"));
}

#[test]
fn no_value_of_a_field_is_shown() {
    let (name, value) = ("x-amz-server-side-encryption-customer-key".to_owned(), "SECRET".to_owned());
    let fields = Fields::new(vec![(name.clone(), value.clone())], "");
    let mut reader = FormReader::new("B").expect("a boundary");
    reader.feed(b"--B\r\nContent-Disposition: form-data; name=key\r\n\r\nSECRET");
    let shown = format!("{fields:?} {reader:?} {:?} {:?}", Event::Field { name, value }, Event::Data("SECRET".into()));
    assert!(shown.contains("customer-key") && !shown.contains("SECRET"), "{shown}");
}
