//! Makes untrusted text safe to print: names, paths, and text from files.

/// Whether a character controls a terminal, or the direction in which text is shown: C0 and C1 controls, and the marks,
/// embeddings, overrides and isolates of the bidirectional algorithm.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Makes a text printable on a terminal in one line: control characters become escape sequences (`\n`, `\u{1b}`).
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_control(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

/// Escapes control characters in JSON, where they can only be part of strings.
pub fn escape_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        match is_control(c) {
            // All of them are in the Basic Multilingual Plane.
            true => shown += &format!("\\u{:04x}", u32::from(c)),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_printed_controls_a_terminal() {
        let text = "A\u{1b}[31mna\n\u{9b}2J \u{202e}evil\u{2069} Zoë";
        let shown = "A\\u{1b}[31mna\\n\\u{9b}2J \\u{202e}evil\\u{2069} Zoë";
        assert_eq!(printable(text), shown);
        let json = serde_json::json!({ "name": text }).to_string();
        let escaped = escape_json(&json);
        assert!(!escaped.contains(is_control));
        let read: serde_json::Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(read["name"], text);
    }
}
