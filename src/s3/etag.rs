//! How storage ETags look to clients, and back.
//!
//! A storage ETag of 32 hexadecimal digits is the MD5 of ciphertext, the one shape that clients take for the MD5
//! of their own data. It gets `-0` appended, which no S3 server gives itself; every other ETag stays as it is.
//!
//! **Invariant:** `storage_from_client(client_from_storage(e)) == e` for every `e`, and no client ever sees a
//! bare MD5. (So that this holds without exception, 32 digits that are already followed by `-0`s get one more.)

/// What is appended.
const MARK: &str = "-0";

/// The ETag that clients see for a storage server's. Quotes, a weak mark `W/` and their absence are kept.
pub fn client_from_storage(storage: &str) -> String {
    map_one(storage, |opaque| match is_md5_marked(opaque) {
        true => format!("{opaque}{MARK}"),
        false => opaque.to_owned(),
    })
}

/// The storage server's ETag for one that a client sends, quoted or not; `*` stays.
pub fn storage_from_client(client: &str) -> String {
    map_one(client, |opaque| match opaque.strip_suffix(MARK) {
        Some(storage) if is_md5_marked(storage) => storage.to_owned(),
        _ => opaque.to_owned(),
    })
}

/// The same for the list in If-Match or If-None-Match (RFC 9110, section 13.1): entries are separated by commas,
/// which may also stand within quotes.
pub fn storage_list_from_client(list: &str) -> String {
    let mapped: Vec<String> = entries(list).map(storage_from_client).collect();
    mapped.join(", ")
}

/// Whether a client's ETag names the same as another by the strong comparison of RFC 9110, section 8.8.3.2:
/// weak ones never do. Quotes do not matter, as some clients leave them out.
pub fn same_strong(one: &str, other: &str) -> bool {
    let weak = |etag: &str| etag.starts_with("W/");
    !weak(one.trim()) && !weak(other.trim()) && opaque_part(one).1 == opaque_part(other).1
}

/// 32 hexadecimal digits, followed by any number of marks.
fn is_md5_marked(opaque: &str) -> bool {
    let Some((digits, mut marks)) = opaque.split_at_checked(32) else { return false };
    while let Some(fewer) = marks.strip_suffix(MARK) {
        marks = fewer;
    }
    marks.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn map_one(etag: &str, map: impl Fn(&str) -> String) -> String {
    let (before, opaque, after) = opaque_part(etag);
    format!("{before}{}{after}", map(opaque))
}

/// What stands before, in and after the quotes.
fn opaque_part(etag: &str) -> (&str, &str, &str) {
    let etag = etag.trim();
    let (weak, rest) = etag.split_at(if etag.starts_with("W/") { 2 } else { 0 });
    // Also where there is one quote or more than two: clients take them all off.
    let open = rest.trim_start_matches('"');
    let opaque = open.trim_end_matches('"');
    let (before, after) = (weak.len() + rest.len() - open.len(), etag.len() - open.len() + opaque.len());
    (etag.get(..before).unwrap_or_default(), opaque, etag.get(after..).unwrap_or_default())
}

fn entries(list: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    list.split(move |character: char| {
        quoted ^= character == '"';
        character == ',' && !quoted
    })
    .map(str::trim)
    .filter(|entry| !entry.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "9b2cf535f27731c974343645a3985328";

    #[test]
    fn only_bare_md5s_are_marked() {
        assert_eq!(client_from_storage(&format!("\"{MD5}\"")), format!("\"{MD5}-0\""));
        assert_eq!(client_from_storage(MD5), format!("{MD5}-0"));
        assert_eq!(client_from_storage(&format!("W/\"{MD5}\"")), format!("W/\"{MD5}-0\""));
        for (before, after) in [("\"", ""), ("", "\""), ("\"\"", "\"\""), ("W/\"", "")] {
            let storage = format!("{before}{MD5}{after}");
            assert_eq!(client_from_storage(&storage), format!("{before}{MD5}-0{after}"));
            assert_eq!(storage_from_client(&client_from_storage(&storage)), storage);
        }
        assert_eq!(client_from_storage(&MD5.to_uppercase()), format!("{}-0", MD5.to_uppercase()));
        for kept in [
            format!("\"{MD5}-7\""),
            "\"0x8D4BCC2E4835CD0\"".to_owned(),
            "\"\"".to_owned(),
            "*".to_owned(),
            format!("\"{MD5}a\""),
            format!("\"{}g\"", "0".repeat(31)),
            "\"é9b2cf535f27731c974343645a398532\"".to_owned(),
        ] {
            assert_eq!(client_from_storage(&kept), kept);
            assert_eq!(storage_from_client(&kept), kept);
        }
    }

    #[test]
    fn what_clients_send_is_mapped_back() {
        assert_eq!(storage_from_client(&format!("\"{MD5}-0\"")), format!("\"{MD5}\""));
        assert_eq!(storage_from_client(&format!("{MD5}-0")), MD5);
        assert_eq!(storage_from_client(&format!("W/\"{MD5}-0\"")), format!("W/\"{MD5}\""));
        assert_eq!(storage_from_client("*"), "*");
        // A client's own MD5 is no ETag of ours, and must not turn into one.
        assert_eq!(storage_from_client(MD5), MD5);
    }

    #[test]
    fn lists_are_mapped_entry_by_entry() {
        let list = format!("\"{MD5}-0\", W/\"{MD5}-0\",\"a,b\" , {MD5}-0,,*");
        assert_eq!(storage_list_from_client(&list), format!("\"{MD5}\", W/\"{MD5}\", \"a,b\", {MD5}, *"));
        assert_eq!(storage_list_from_client("\"never closed, \"a\""), "\"never closed, \"a\"");
    }

    #[test]
    fn strong_comparison_is_of_what_stands_in_the_quotes() {
        assert!(same_strong("\"a\"", "a"));
        assert!(!same_strong("\"a\"", "\"b\""));
        assert!(!same_strong("W/\"a\"", "W/\"a\""));
    }

    proptest::proptest! {
        #[test]
        fn the_mapping_is_reversible_and_hides_md5s(etag in "(W/)?\"?([0-9a-fA-F]{31,33}(-0){0,3}|\\PC{0,40})\"?") {
            let etag = etag.trim();
            let client = client_from_storage(etag);
            proptest::prop_assert_eq!(storage_from_client(&client), etag);
            let opaque = opaque_part(&client).1;
            proptest::prop_assert!(opaque.len() != 32 || !opaque.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
}
