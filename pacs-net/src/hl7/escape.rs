//! Escape sequences in text (HL7 v2.5 2.7).

use super::charset::Charset;
use super::message::Delimiters;

/// Text as it was meant. A sequence that is none stays as it is written; formatting that has no meaning in plain text
/// is left out. Hexadecimal bytes are in the character set of the message.
pub(super) fn unescape(text: &str, delimiters: &Delimiters, charset: &Charset) -> String {
    let Some(mark) = delimiters.escape else {
        return text.to_owned();
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(mark) {
        out.push_str(before);
        let Some((sequence, next)) = behind.split_once(mark) else {
            out.push(mark);
            out.push_str(behind);
            return out;
        };
        if meaning(sequence, delimiters, charset, &mut out) {
            rest = next;
        } else {
            // What follows may be the beginning of one.
            out.push(mark);
            rest = behind;
        }
    }
    out.push_str(rest);
    out
}

/// Appends what a sequence means; answers whether it is one.
fn meaning(sequence: &str, delimiters: &Delimiters, charset: &Charset, out: &mut String) -> bool {
    match sequence {
        "F" => out.push(delimiters.field),
        "S" => out.push(delimiters.component),
        "R" => out.extend(delimiters.repetition),
        "E" => out.extend(delimiters.escape),
        "T" => out.extend(delimiters.subcomponent),
        "P" => out.push('#'),
        // Highlighting, and formatting that is not of lines.
        "H" | "N" | ".fi" | ".nf" => {}
        ".br" | ".ce" => out.push('\n'),
        _ => return longer(sequence, charset, out),
    }
    true
}

fn longer(sequence: &str, charset: &Charset, out: &mut String) -> bool {
    let is_hexadecimal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(lines) = sequence.strip_prefix(".sp") {
        let lines = lines.trim_start_matches('+');
        match lines.is_empty().then_some(1).or_else(|| lines.parse::<u8>().ok()) {
            Some(lines) => out.extend(std::iter::repeat_n('\n', usize::from(lines))),
            None => return false,
        }
    } else if let Some(width) = sequence.strip_prefix(".in").or(sequence.strip_prefix(".ti")) {
        return width.trim_start_matches(['+', '-']).parse::<u8>().is_ok();
    } else if let Some(digits) = sequence.strip_prefix('X') {
        if !is_hexadecimal(digits) || digits.len() % 2 != 0 {
            return false;
        }
        let pairs = digits.as_bytes().chunks(2);
        let bytes: Vec<u8> = pairs
            .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        match charset.decode(&bytes) {
            Ok(text) => out.push_str(&text),
            // They say nothing in it, and stay as they are written.
            Err(_) => return false,
        }
    } else if let Some(digits) = sequence.strip_prefix(['C', 'M']) {
        // Another character set: text is decoded before, by the sequences of ISO 2022.
        return matches!(digits.len(), 4 | 6) && is_hexadecimal(digits);
    } else {
        // Locally defined: nobody here knows what it means.
        return sequence.starts_with('Z') && sequence.len() <= 8;
    }
    true
}

/// Text as a message writes it: delimiters, line ends and control characters as sequences.
pub(super) fn escape(text: &str, delimiters: &Delimiters) -> String {
    let mut out = String::with_capacity(text.len());
    let Some(mark) = delimiters.escape else {
        // There is no way to say a delimiter: a blank stands for it.
        out.extend(text.chars().map(|c| match c {
            c if c.is_control() || delimiters.is_one(c) => ' ',
            c => c,
        }));
        return out;
    };
    for c in text.chars() {
        let letter = match c {
            c if c == mark => 'E',
            c if c == delimiters.field => 'F',
            c if c == delimiters.component => 'S',
            c if Some(c) == delimiters.repetition => 'R',
            c if Some(c) == delimiters.subcomponent => 'T',
            '\n' => {
                out.extend([mark, '.', 'b', 'r', mark]);
                continue;
            }
            c if c.is_ascii_control() => {
                let code = c as u32;
                let digit =
                    |nibble| char::from_digit(nibble, 16).map_or('0', |digit| digit.to_ascii_uppercase());
                out.extend([mark, 'X', digit(code >> 4), digit(code & 15), mark]);
                continue;
            }
            c => {
                out.push(c);
                continue;
            }
        };
        out.extend([mark, letter, mark]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        unescape(text, &Delimiters::default(), &Charset::default())
    }

    #[test]
    fn sequences_are_read_and_what_is_none_stays() {
        assert_eq!(read(r"a\F\b\S\c\T\d\R\e\E\f"), "a|b^c&d~e\\f");
        assert_eq!(
            read(r"one\.br\two\.sp2\three\.ce\four"),
            "one\ntwo\n\nthree\nfour"
        );
        assert_eq!(read(r"\H\bold\N\ \.in+4\x\.ti-2\\.fi\"), "bold x");
        assert_eq!(read(r"caf\XC3A9\ \XE9\ \X0D0A\"), "café é \r\n");
        assert_eq!(read(r"\C2842\\M244200\\Zabc\x"), "x");
        for stays in [r"a\b", r"C:\dir\file", r"\X0\", r"\Xzz\", r"\.spx\", "\\"] {
            assert_eq!(read(stays), stays);
        }
        assert_eq!(read(r"C:\F\"), "C:|");
    }

    #[test]
    fn bytes_are_in_the_character_set_of_the_message() {
        let read = |text, set: &str| unescape(text, &Delimiters::default(), &Charset::parse(set).unwrap());
        assert_eq!(read(r"\XB8D2\", "8859/5"), "Ив");
        assert_eq!(read(r"\XC3A9\", "UNICODE UTF-8"), "é");
        assert_eq!(read(r"\XC3A9\", "8859/1"), "Ã©");
        assert_eq!(read(r"\XE9\", "UNICODE UTF-8"), r"\XE9\");
    }

    #[test]
    fn text_that_is_written_is_read_as_it_was() {
        for text in [
            "a|b^c&d~e\\f",
            "line\nline",
            "tab\there\r",
            "Müller 山田",
            r"C:\dir",
            r"\F\",
            "",
        ] {
            let written = escape(text, &Delimiters::default());
            assert!(!written.contains(['|', '^', '&', '~', '\n', '\r']), "{written}");
            assert_eq!(read(&written), text);
        }
    }
}
