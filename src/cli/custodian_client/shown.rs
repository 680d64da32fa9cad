//! What a server says, made harmless for a terminal.

/// `text` with what could move the cursor, hide or turn around other text as `\u{…}`.
pub(in crate::cli) fn plain(text: &str) -> String {
    text.chars()
        .map(|char| if is_tricky(char) { char.escape_unicode().to_string() } else { char.to_string() })
        .collect()
}

/// `text` in visible ASCII and spaces; all else as `\u{…}`. For what people sign: no two texts look the same.
pub(in crate::cli) fn ascii(text: &str) -> String {
    let shown = |char: char| char == ' ' || char.is_ascii_graphic();
    text.chars().map(|char| if shown(char) { char.to_string() } else { char.escape_unicode().to_string() }).collect()
}

/// Control characters, and those that only act on others: directions, joiners, tags.
fn is_tricky(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(char, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Lines of a name and a value.
pub(in crate::cli) fn table<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    rows.into_iter().map(|(name, value)| format!("  {name:<14}{value}\n")).collect()
}
