//! Class names as exporters keep them: a Python dict literal such as `{0: 'tree', 1: "hen's egg"}`.

use std::collections::BTreeMap;

/// Reads a dict of integers to strings. Names come in the order of their keys, which must run from
/// 0 without a gap. None when the text is something else.
pub fn parse(text: &str) -> Option<Vec<String>> {
    let mut cursor = Cursor { rest: text.trim() };
    cursor.take('{')?;
    let mut names = BTreeMap::new();
    while !cursor.at('}') {
        let key = cursor.key()?;
        cursor.take(':')?;
        names.insert(key, cursor.string()?);
        if !cursor.at('}') {
            cursor.take(',')?;
        }
    }
    cursor.take('}')?;
    let dense = names.keys().copied().eq(0..names.len());
    (dense && cursor.rest.is_empty()).then(|| names.into_values().collect())
}

/// Writes names the way that Python's `repr` does, so that every reader of the base's metadata
/// reads the drop-in's.
pub fn format(names: &[String]) -> String {
    let entries: Vec<String> =
        names.iter().enumerate().map(|(index, name)| format!("{index}: {}", quoted(name))).collect();
    format!("{{{}}}", entries.join(", "))
}

/// The first ten names and how many there are, for people.
pub fn listed(names: &[String]) -> String {
    let mut words: Vec<String> = names.iter().take(10).map(|name| format!("{name:?}")).collect();
    if names.len() > 10 {
        words.push(format!("… ({} classes)", names.len()));
    }
    words.join(", ")
}

fn quoted(name: &str) -> String {
    let quote = if name.contains('\'') && !name.contains('"') { '"' } else { '\'' };
    let mut text = String::from(quote);
    for c in name.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c == quote => text.extend(['\\', c]),
            c if c.is_control() => text.push_str(&format!("\\x{:02x}", c as u32)),
            c => text.push(c),
        }
    }
    text.push(quote);
    text
}

struct Cursor<'a> {
    rest: &'a str,
}

impl Cursor<'_> {
    fn at(&mut self, wanted: char) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.starts_with(wanted)
    }

    fn take(&mut self, wanted: char) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(wanted)?;
        Some(())
    }

    fn key(&mut self) -> Option<usize> {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.parse().ok()
    }

    fn string(&mut self) -> Option<String> {
        self.rest = self.rest.trim_start();
        let mut chars = self.rest.char_indices();
        let (_, quote) = chars.next().filter(|&(_, c)| c == '\'' || c == '"')?;
        let mut text = String::new();
        while let Some((index, c)) = chars.next() {
            match c {
                '\\' => text.push(escape(&mut chars)?),
                c if c == quote => {
                    self.rest = &self.rest[index + c.len_utf8()..];
                    return Some(text);
                }
                c => text.push(c),
            }
        }
        None
    }
}

/// The character that stands behind a backslash.
fn escape(chars: &mut std::str::CharIndices) -> Option<char> {
    match chars.next()?.1 {
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'x' => code_point(chars, 2),
        'u' => code_point(chars, 4),
        'U' => code_point(chars, 8),
        kind @ ('\\' | '\'' | '"') => Some(kind),
        _ => None,
    }
}

fn code_point(chars: &mut std::str::CharIndices, digits: usize) -> Option<char> {
    let mut code = 0;
    for _ in 0..digits {
        code = code * 16 + chars.next()?.1.to_digit(16)?;
    }
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mixed_quotes_and_escapes_are_read() {
        let text = r#"{0: 'tree', 1: "hen's egg", 2: 'größe, "x": 3', 3: 'a\\b\'\x41'}"#;
        assert_eq!(parse(text).unwrap(), ["tree", "hen's egg", "größe, \"x\": 3", "a\\b'A"]);
    }

    #[test]
    fn what_is_no_dict_of_names_is_refused() {
        for text in ["", "{", "['a']", "{0: 'a'", "{0: a}", "{1: 'a'}", "{0: 'a'} x", "{0: 'a' 1: 'b'}"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(names in prop::collection::vec(".{0,12}", 0..6)) {
            prop_assert_eq!(parse(&format(&names)), Some(names));
        }
    }
}
