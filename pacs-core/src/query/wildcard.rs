//! Wild card matching (PS3.4 C.2.2.2.4) without backtracking.

/// A value with `*` (any characters, also none) and `?` (exactly one character).
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The pieces between the asterisks: the first is anchored at the start, the last at the end.
    segments: Vec<Segment>,
    /// Fewer characters than this can't match. Keeps a long pattern from costing anything on short text.
    characters_min: usize,
}

#[derive(Clone, PartialEq, Eq)]
struct Segment {
    text: String,
    characters: usize,
    /// Holds a `?`.
    open: bool,
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The text may be part of a name.
        write!(f, "Pattern({} pieces)", self.segments.len())
    }
}

impl Segment {
    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            characters: text.chars().count(),
            open: text.contains('?'),
        }
    }

    /// What follows the segment when `text` begins with it.
    fn strip_start<'t>(&self, text: &'t str) -> Option<&'t str> {
        if !self.open {
            return text.strip_prefix(self.text.as_str());
        }
        let mut rest = text.chars();
        for want in self.text.chars() {
            let have = rest.next()?;
            if want != '?' && want != have {
                return None;
            }
        }
        Some(rest.as_str())
    }

    /// Whether `text` ends with the segment.
    fn is_end(&self, text: &str) -> bool {
        if !self.open {
            return text.ends_with(self.text.as_str());
        }
        let mut rest = text.chars().rev();
        self.text
            .chars()
            .rev()
            .all(|want| rest.next().is_some_and(|have| want == '?' || want == have))
    }

    /// What follows the leftmost occurrence.
    fn strip_first<'t>(&self, text: &'t str) -> Option<&'t str> {
        if !self.open {
            return text
                .find(self.text.as_str())
                .map(|at| &text[at + self.text.len()..]);
        }
        text.char_indices()
            .find_map(|(at, _)| self.strip_start(&text[at..]))
    }
}

impl Pattern {
    /// Reads a value; `None` when it holds neither `*` nor `?`.
    pub fn parse(text: &str) -> Option<Self> {
        if !text.contains(['*', '?']) {
            return None;
        }
        let mut segments: Vec<Segment> = Vec::new();
        let parts: Vec<&str> = text.split('*').collect();
        for (at, part) in parts.iter().enumerate() {
            // Asterisks side by side are one.
            if !part.is_empty() || at == 0 || at + 1 == parts.len() {
                segments.push(Segment::new(part));
            }
        }
        let characters_min = segments.iter().map(|s| s.characters).sum();
        Some(Self {
            segments,
            characters_min,
        })
    }

    /// Whether every text matches: nothing but asterisks.
    pub fn is_universal(&self) -> bool {
        self.segments.len() > 1 && self.characters_min == 0
    }

    /// The text that everything that matches begins with, up to the first `*` or `?`; may be empty.
    pub fn prefix(&self) -> &str {
        let first = self.segments.first().map_or("", |segment| segment.text.as_str());
        first.split('?').next().unwrap_or_default()
    }

    /// Whether `text` matches.
    ///
    /// Each piece between two asterisks is taken where it first occurs, which never loses a match: so
    /// there is no backtracking, and the work is at most the length of `text` times that of the longest
    /// piece with a `?`.
    pub fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.segments.as_slice() else {
            // A pattern without asterisk is one piece.
            let whole = self.segments.first().and_then(|only| only.strip_start(text));
            return whole.is_some_and(str::is_empty);
        };
        if text.len() < self.characters_min {
            return false;
        }
        let Some(mut rest) = first.strip_start(text) else {
            return false;
        };
        for segment in middle {
            match segment.strip_first(rest) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        last.is_end(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, by recursion.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skip| naive(rest, &text[skip..])),
            Some(('?', rest)) => !text.is_empty() && naive(rest, &text[1..]),
            Some((c, rest)) => text.first() == Some(c) && naive(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn the_pieces_match_what_the_definition_matches(pattern in "[ab?*é]{0,7}", text in "[abé]{0,9}") {
            let expected = naive(
                &pattern.chars().collect::<Vec<_>>(),
                &text.chars().collect::<Vec<_>>(),
            );
            let got = Pattern::parse(&pattern).map_or(pattern == text, |p| p.matches(&text));
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_pattern_made_to_explode_is_answered_at_once() {
        let bomb = Pattern::parse(&"*a".repeat(20_000)).unwrap();
        assert!(!bomb.matches(&"a".repeat(1_000)));
        let bomb = Pattern::parse(&format!("{}b", "a*".repeat(500))).unwrap();
        assert!(!bomb.matches(&"a".repeat(10_000)));
    }

    #[test]
    fn the_prefix_ends_at_the_first_wild_card() {
        let prefix = |text| Pattern::parse(text).unwrap().prefix().to_owned();
        assert_eq!(prefix("DO?*"), "DO");
        assert_eq!(prefix("DOE*X"), "DOE");
        assert_eq!(prefix("*X"), "");
        assert!(Pattern::parse("**").unwrap().is_universal());
        assert!(!Pattern::parse("?*").unwrap().is_universal());
        assert!(Pattern::parse("DOE").is_none());
    }
}
