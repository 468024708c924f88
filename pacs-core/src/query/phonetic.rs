//! Fuzzy matching of person names, by option (PS3.4 C.2.2.2.1.1: "fuzzy semantic matching").
//!
//! A name is taken apart into words, whatever component or group they stand in. A key matches when each
//! of its words finds a word of the name that is written the same, begins with it (where the key's word
//! ends with `*`), or sounds the same. Words sound the same when their codes are equal: letters that
//! sound alike in the languages of Europe fall into one class, vowels behind the first letter and
//! doubled sounds are dropped, as in Soundex; but the first letter is coded too ("Catherine",
//! "Katherine"), common spellings of one sound are joined first ("ph", "sch", "ck", "dt", "th"), and no
//! code is cut off. Words in other than Latin script are compared as written.

/// A word of a key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    text: String,
    code: String,
    /// The key's word ended with `*`.
    open: bool,
}

fn words(folded: &str) -> impl Iterator<Item = &str> {
    folded
        .split(['^', '=', ' ', '-', ',', '.', '\''])
        .filter(|word| !word.is_empty())
}

/// The words of a folded key. A word with a wild card elsewhere than at its end says nothing that
/// sounds could decide, and then none are returned: the key is matched as written only.
pub(crate) fn key_tokens(folded: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for word in words(folded) {
        let text = word.trim_end_matches('*');
        if text.contains(['*', '?']) {
            return Vec::new();
        }
        if !text.is_empty() {
            tokens.push(Token {
                text: text.to_owned(),
                code: code(text),
                open: text.len() < word.len(),
            });
        }
    }
    tokens
}

/// Whether each of the key's words finds one of the name's.
pub(crate) fn sounds_like(tokens: &[Token], folded: &str) -> bool {
    tokens.iter().all(|token| {
        words(folded).any(|word| {
            if token.open && word.starts_with(token.text.as_str()) || word == token.text {
                return true;
            }
            // A code of one sound says too little.
            if token.code.len() < 2 || !same_initial_class(&token.code, word) {
                return false;
            }
            let have = code(word);
            have == token.code || token.open && have.starts_with(token.code.as_str())
        })
    })
}

/// A quick look at the first letter, before a code is made.
fn same_initial_class(code: &str, word: &str) -> bool {
    let first = word.bytes().next().unwrap_or_default();
    let class = class(first);
    // Only these begin a joined spelling whose class is another.
    matches!(first, b'p' | b'k' | b'g' | b'w' | b'c' | b's' | b't' | b'h')
        || code.as_bytes().first() == class.as_ref()
}

/// The sound class of a lower case Latin letter; `None` for one that makes no sound of its own.
fn class(letter: u8) -> Option<u8> {
    Some(match letter {
        b'a' | b'e' | b'i' | b'o' | b'u' | b'y' => b'a',
        b'b' | b'p' => b'b',
        b'f' | b'v' | b'w' => b'f',
        b'c' | b'g' | b'k' | b'q' => b'k',
        b'j' => b'j',
        b's' | b'x' | b'z' => b's',
        b'd' | b't' => b't',
        b'l' => b'l',
        b'm' => b'm',
        b'n' => b'n',
        b'r' => b'r',
        _ => return None,
    })
}

/// The sound code of a folded word; empty when it is not in Latin letters.
fn code(word: &str) -> String {
    if !word.bytes().all(|b| b.is_ascii_lowercase()) {
        return String::new();
    }
    let mut rest = word.as_bytes();
    let mut out: Vec<u8> = Vec::with_capacity(rest.len());
    let mut last = None;
    while let Some(&letter) = rest.first() {
        let start = rest.len() == word.len();
        let (sound, length) = match rest {
            [b's', b'c', b'h', ..] => (Some(b's'), 3),
            [b't', b's', b'c', b'h', ..] => (Some(b's'), 4),
            [b's', b'h' | b'z', ..] | [b'c', b'h' | b'z', ..] | [b't', b'z', ..] => (Some(b's'), 2),
            [b'p', b'h', ..] => (Some(b'f'), 2),
            [b'k' | b'g', b'n', ..] if start => (Some(b'n'), 2),
            [b'w', b'r', ..] if start => (Some(b'r'), 2),
            [b'd', b't', ..] | [b't' | b'd', b'h', ..] => (Some(b't'), 2),
            [b'c', b'k', ..] | [b'g', b'h', ..] => (Some(b'k'), 2),
            [b'c', b'e' | b'i' | b'y', ..] => (Some(b's'), 1),
            [b'h', ..] if start => (Some(b'h'), 1),
            _ => (class(letter), 1),
        };
        if let Some(sound) = sound
            && last != Some(sound)
            && (sound != b'a' || start)
        {
            out.push(sound);
        }
        last = sound.or(last);
        rest = &rest[length..];
    }
    // Only ASCII was pushed.
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_written_differently_and_spoken_alike_have_one_code() {
        for alike in [
            &["meyer", "maier", "mayr", "meier"][..],
            &["schmidt", "schmitt", "smith", "schmid"],
            &["catherine", "katherine", "katharina"][..2],
            &["philipp", "filip"],
            &["muller", "mueller"],
            &["knight", "night"],
        ] {
            for name in alike {
                assert_eq!(code(name), code(alike[0]), "{name}");
            }
        }
        assert_ne!(code("miller"), code("minder"));
        assert_eq!(code("山田"), "");
    }

    #[test]
    fn the_order_of_words_does_not_count_but_every_word_of_the_key_does() {
        let key = key_tokens("jon smyth");
        assert!(sounds_like(&key, "schmidt^john^^dr"));
        assert!(!sounds_like(&key, "schmidt^peter"));
        assert!(sounds_like(&key_tokens("maierh*"), "mayerhofer^a"));
        assert!(key_tokens("m?ier").is_empty());
    }
}
