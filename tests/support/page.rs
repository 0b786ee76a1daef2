//! The examples of docs/mqtt.md.

#![allow(dead_code, reason = "each test file uses a part of this")]

/// What stands after ``` and the text of each JSON example.
pub fn examples() -> Vec<(String, String)> {
    let page = include_str!("../../docs/mqtt.md");
    let mut examples = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.strip_prefix("```json") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
            examples.push((kind.trim().to_owned(), text.join("\n")));
        }
    }
    examples
}
