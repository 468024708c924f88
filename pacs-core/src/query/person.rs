//! Person names: folded so that case and accents don't count, and matched by component group
//! (PS3.4 C.2.2.2.1.1 and C.2.2.2.4; PS3.5 6.2.1).

use unicode_normalization::UnicodeNormalization;

use super::phonetic;
use super::wildcard::Pattern;

/// Folds a person name, or a key for one, into the form in which names are compared.
///
/// - Case and accents go: compatibility decomposition, lower case, marks of Latin, Greek, Cyrillic,
///   Hebrew and Arabic script dropped, and `ß` → `ss`, `ø` → `o`, `æ` → `ae`, `ł` → `l` and their like.
///   Marks that make another letter stay (Japanese voicing, Indic vowel signs), and what can be is
///   composed again, so that `?` stands for a syllable of Hangul.
/// - Spaces around components go and spaces inside are one. Empty components and groups at the end go, so
///   that `Doe^^` is `doe`.
/// - `=` and `^` stay as delimiters, `*` and `?` as they are.
///
/// Folding twice is folding once.
pub fn fold_person_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    if name.is_ascii() {
        tidy(name.chars().map(|c| c.to_ascii_lowercase()), &mut out);
    } else {
        let letters = name
            .nfkd()
            .flat_map(char::to_lowercase)
            .nfkd()
            .filter(|&c| !is_dropped_mark(c))
            .flat_map(Folded::new)
            .nfc();
        tidy(letters, &mut out);
    }
    out
}

/// The component groups of a folded name that hold something: alphabetic, ideographic, phonetic.
pub fn folded_groups(folded: &str) -> impl Iterator<Item = &str> {
    folded.split('=').filter(|group| !group.is_empty())
}

/// Writes the letters with spaces and trailing delimiters tidied.
fn tidy(letters: impl Iterator<Item = char>, out: &mut String) {
    let mut space = false;
    for letter in letters {
        match letter {
            '=' => {
                trim_end(out, '^');
                out.push('=');
            }
            '^' => out.push('^'),
            _ if letter.is_whitespace() || letter == '\0' => {
                space = !out.is_empty() && !out.ends_with(['^', '=']);
                continue;
            }
            _ => {
                if space {
                    out.push(' ');
                }
                out.push(letter);
            }
        }
        space = false;
    }
    trim_end(out, '^');
    let length = out.trim_end_matches('=').len();
    out.truncate(length);
}

fn trim_end(out: &mut String, delimiter: char) {
    let length = out.trim_end_matches(delimiter).len();
    out.truncate(length);
}

/// Marks over or under a letter that people leave out when they type a name.
fn is_dropped_mark(c: char) -> bool {
    matches!(u32::from(c),
        0x0300..=0x036F | 0x0483..=0x0487 | 0x0591..=0x05BD | 0x05BF | 0x05C1 | 0x05C2 | 0x05C4
        | 0x05C5 | 0x05C7 | 0x064B..=0x065F | 0x0670 | 0x1AB0..=0x1AFF | 0x1DC0..=0x1DFF
        | 0x20D0..=0x20FF | 0xFE20..=0xFE2F)
}

/// One letter, or the two or so that stand for it.
enum Folded {
    One(Option<char>),
    Text(std::str::Chars<'static>),
}

impl Folded {
    fn new(c: char) -> Self {
        let text = match c {
            'ß' => "ss",
            'æ' => "ae",
            'œ' => "oe",
            'þ' => "th",
            'ø' => "o",
            'đ' | 'ð' => "d",
            'ł' => "l",
            'ħ' => "h",
            'ı' => "i",
            'ŋ' => "n",
            'ŧ' => "t",
            'ς' => "σ",
            '\u{2018}' | '\u{2019}' | '\u{02BC}' | '\u{00B4}' | '`' => "'",
            '\u{2010}'..='\u{2015}' | '\u{2212}' => "-",
            _ => return Self::One(Some(c)),
        };
        Self::Text(text.chars())
    }
}

impl Iterator for Folded {
    type Item = char;
    fn next(&mut self) -> Option<char> {
        match self {
            Self::One(one) => one.take(),
            Self::Text(text) => text.next(),
        }
    }
}

/// What a key says of one component group.
#[derive(Clone, PartialEq, Eq)]
enum Group {
    Any,
    Exact(String),
    Pattern { pattern: Pattern, carets: usize },
}

impl Group {
    fn new(folded: &str) -> Self {
        match Pattern::parse(folded) {
            // "*^*" names components and asks nothing of them.
            Some(_) if folded.chars().all(|c| c == '*' || c == '^') => Self::Any,
            Some(pattern) => Self::Pattern {
                pattern,
                carets: count_carets(folded),
            },
            None if folded.is_empty() => Self::Any,
            None => Self::Exact(folded.to_owned()),
        }
    }

    fn matches(&self, group: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(want) => want == group,
            Self::Pattern { pattern, carets } => {
                if pattern.matches(group) {
                    return true;
                }
                // Components that the name leaves out are empty ones: "doe^*" finds "doe".
                let have = count_carets(group);
                *carets > have && !group.is_empty() && {
                    let padded = format!("{group}{}", "^".repeat(carets - have));
                    pattern.matches(&padded)
                }
            }
        }
    }

    fn prefix(&self) -> &str {
        match self {
            Self::Any => "",
            Self::Exact(text) => text,
            // A name without the trailing components has no caret for them.
            Self::Pattern { pattern, .. } => pattern.prefix().trim_end_matches('^'),
        }
    }
}

fn count_carets(text: &str) -> usize {
    text.bytes().filter(|&b| b == b'^').count()
}

/// A matching key of VR PN, folded.
///
/// A key without `=` matches when any component group of the name does; a key with `=` matches when
/// each group it fills matches the name's group at the same place. Within a group the whole text is
/// compared, or matched with wild cards, in which `*` also spans `^`.
#[derive(Clone, PartialEq, Eq)]
pub struct PersonKey {
    groups: Vec<Group>,
    fuzzy: Option<Vec<phonetic::Token>>,
}

impl std::fmt::Debug for PersonKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A name is patient data.
        write!(
            f,
            "PersonKey({} groups, fuzzy: {})",
            self.groups.len(),
            self.fuzzy.is_some()
        )
    }
}

impl PersonKey {
    /// Reads a key; `None` when it asks nothing.
    pub fn parse(key: &str, fuzzy: bool) -> Option<Self> {
        let folded = fold_person_name(key);
        let groups: Vec<Group> = folded.split('=').map(Group::new).collect();
        if groups.iter().all(|group| *group == Group::Any) {
            return None;
        }
        let fuzzy = fuzzy
            .then(|| phonetic::key_tokens(&folded))
            .filter(|tokens| !tokens.is_empty());
        Some(Self { groups, fuzzy })
    }

    /// The text with which a folded component group of every name that matches begins. Empty when
    /// nothing can be said, as for fuzzy matching.
    pub fn prefix(&self) -> &str {
        if self.fuzzy.is_some() {
            return "";
        }
        let filled = self.groups.iter().find(|group| **group != Group::Any);
        filled.map_or("", Group::prefix)
    }

    /// The whole folded component group that every name that matches has, when the key has no wild card.
    pub fn exact(&self) -> Option<&str> {
        match self.groups.iter().find(|group| **group != Group::Any) {
            Some(Group::Exact(text)) if self.fuzzy.is_none() => Some(text),
            _ => None,
        }
    }

    /// Whether a name with this folded component group may match: false means it doesn't by this
    /// group. For a key without `=`, true means it does.
    ///
    /// For walks over a table with an entry for each component group.
    pub fn may_match_group(&self, folded_group: &str) -> bool {
        self.groups
            .iter()
            .any(|group| *group != Group::Any && group.matches(folded_group))
            || self.sounds_like(folded_group)
    }

    /// Whether the name, given as [`fold_person_name`] folds it, matches.
    pub fn matches_folded(&self, folded: &str) -> bool {
        if folded.is_empty() {
            return false;
        }
        let literal = match self.groups.as_slice() {
            [only] => folded_groups(folded).any(|group| only.matches(group)),
            groups => {
                let mut have = folded.split('=');
                groups
                    .iter()
                    .all(|group| group.matches(have.next().unwrap_or_default()))
            }
        };
        literal || self.sounds_like(folded)
    }

    /// Whether the name matches.
    pub fn matches(&self, name: &str) -> bool {
        // Most names are short ASCII: folded in place of the stack, without allocation.
        let mut buffer = [0u8; 96];
        if let Some(place) = buffer.get_mut(..name.len()) {
            place.copy_from_slice(name.as_bytes());
            if is_tidy_ascii(place) {
                place.make_ascii_lowercase();
                return std::str::from_utf8(place).is_ok_and(|folded| self.matches_folded(folded));
            }
        }
        self.matches_folded(&fold_person_name(name))
    }

    fn sounds_like(&self, folded: &str) -> bool {
        self.fuzzy
            .as_deref()
            .is_some_and(|tokens| phonetic::sounds_like(tokens, folded))
    }
}

/// Whether folding changes nothing but the case: ASCII, no delimiter at an end, single spaces inside
/// components only.
fn is_tidy_ascii(name: &[u8]) -> bool {
    let mut before = b'^';
    for &byte in name {
        let edge = matches!(before, b'^' | b'=' | b' ');
        let tidy = match byte {
            b' ' => !edge,
            b'^' => before != b' ',
            b'=' => !matches!(before, b'^' | b' '),
            0x21..=0x7E => byte != b'`',
            _ => false,
        };
        if !tidy {
            return false;
        }
        before = byte;
    }
    !matches!(before, b'^' | b'=' | b' ')
}
