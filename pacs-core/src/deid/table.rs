//! Table E.1-1 of PS3.15, read from `table.txt`.

use std::collections::HashMap;
use std::sync::LazyLock;

use dicom_core::Tag;

/// What is done to an attribute (PS3.15 table E.1-1a).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// A dummy value that is valid for the VR.
    Dummy,
    /// No value.
    Zero,
    Remove,
    Keep,
    Clean,
    /// Another UID in place of each, the same everywhere.
    Uid,
    /// Of a sequence: its items stay, with other UIDs in them.
    ReferencesUid,
}

/// Options that have a column in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Column {
    Private,
    Uids,
    Device,
    Institution,
    Patient,
    FullDates,
    ModifiedDates,
    Descriptors,
    Structure,
    Graphics,
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) basic: Action,
    pub(super) options: Vec<(Column, Action)>,
}

pub(super) struct Table {
    exact: HashMap<Tag, Row>,
    /// Tags of which some digits are any, as the bits that count and what they are.
    patterns: Vec<(u32, u32, Row)>,
    private: Option<Row>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(include_str!("table.txt")));

/// What the table says of an attribute; `None` where it says nothing.
pub(super) fn row(tag: Tag) -> Option<&'static Row> {
    TABLE.row(tag)
}

impl Table {
    /// The file is our own and a test reads all of it, so what can't be read is passed over.
    fn read(text: &str) -> Self {
        let mut table = Self {
            exact: HashMap::new(),
            patterns: Vec::new(),
            private: None,
        };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split(' ');
            let (Some(tag), Some(basic)) = (words.next(), words.next().and_then(action)) else {
                continue;
            };
            let options = words.filter_map(option).collect();
            let row = Row { basic, options };
            let digits = |any: char| u32::from_str_radix(&tag.replace('x', &any.to_string()), 16);
            match (digits('0'), digits('F')) {
                (Ok(low), Ok(high)) if low == high => {
                    table.exact.insert(Tag((low >> 16) as u16, low as u16), row);
                }
                (Ok(low), Ok(high)) => table.patterns.push((!(low ^ high), low, row)),
                _ => table.private = (tag == "odd").then_some(row),
            }
        }
        table
    }

    fn row(&self, tag: Tag) -> Option<&Row> {
        if tag.0 % 2 == 1 {
            return self.private.as_ref();
        }
        let number = u32::from(tag.0) << 16 | u32::from(tag.1);
        let found = |(mask, value, _): &&(u32, u32, Row)| number & mask == *value;
        self.exact
            .get(&tag)
            .or_else(|| self.patterns.iter().find(found).map(|(_, _, row)| row))
    }
}

/// An action by its letters. Which of several an attribute's Type in the IOD allows is not looked up: it is always
/// the one that every Type allows, so that what is made is valid (PS3.15 E.1.1).
fn action(letters: &str) -> Option<Action> {
    Some(match letters {
        "D" | "Z/D" | "X/D" | "X/Z/D" => Action::Dummy,
        "Z" | "X/Z" => Action::Zero,
        "X" => Action::Remove,
        "K" => Action::Keep,
        "C" => Action::Clean,
        "U" => Action::Uid,
        "X/Z/U*" => Action::ReferencesUid,
        _ => return None,
    })
}

fn option(word: &str) -> Option<(Column, Action)> {
    let (name, letters) = word.split_once('=')?;
    let column = match name {
        "private" => Column::Private,
        "uids" => Column::Uids,
        "device" => Column::Device,
        "institution" => Column::Institution,
        "patient" => Column::Patient,
        "full" => Column::FullDates,
        "modified" => Column::ModifiedDates,
        "descriptors" => Column::Descriptors,
        "structure" => Column::Structure,
        "graphics" => Column::Graphics,
        _ => return None,
    };
    Some((column, action(letters)?))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use dicom_dictionary_std::tags;

    use super::*;

    fn lines(text: &str) -> impl Iterator<Item = &str> {
        text.lines().filter(|line| !line.starts_with('#'))
    }

    #[test]
    fn every_line_of_the_table_is_read_and_each_attribute_is_there_once() {
        let text = include_str!("table.txt");
        assert_eq!(lines(text).count(), 621);
        let (mut actions, mut columns) = (HashMap::new(), HashMap::new());
        for line in lines(text) {
            let words: Vec<_> = line.split(' ').collect();
            assert!(action(words[1]).is_some(), "{line}");
            *actions.entry(words[1]).or_insert(0) += 1;
            for word in &words[2..] {
                let (column, _) = option(word).expect(line);
                *columns.entry(column).or_insert(0) += 1;
            }
        }
        let table = Table::read(text);
        assert_eq!(table.exact.len() + table.patterns.len() + 1, 621);
        assert_eq!(table.patterns.len(), 3);
        let counts = ["X", "D", "U", "Z", "X/D", "X/Z", "X/Z/D", "Z/D", "X/Z/U*"].map(|name| actions[name]);
        assert_eq!(counts, [384, 92, 54, 42, 22, 11, 8, 6, 2]);
        use Column as C;
        let each = [
            (C::Private, 1),
            (C::Uids, 59),
            (C::Device, 57),
            (C::Institution, 10),
            (C::Patient, 13),
            (C::FullDates, 165),
            (C::ModifiedDates, 165),
            (C::Descriptors, 125),
            (C::Structure, 3),
            (C::Graphics, 4),
        ];
        for (column, count) in each {
            assert_eq!(columns[&column], count, "{column:?}");
        }
    }

    #[test]
    fn known_attributes_have_their_actions() {
        let basic = |tag| row(tag).map(|row| row.basic);
        assert_eq!(basic(tags::PATIENT_NAME), Some(Action::Zero));
        assert_eq!(basic(tags::PATIENT_ID), Some(Action::Dummy));
        assert_eq!(basic(tags::SOP_INSTANCE_UID), Some(Action::Uid));
        assert_eq!(basic(tags::SOURCE_IMAGE_SEQUENCE), Some(Action::ReferencesUid));
        assert_eq!(basic(tags::ROWS), None);
        let row = row(tags::STUDY_DATE).unwrap();
        let dates = [
            (Column::FullDates, Action::Keep),
            (Column::ModifiedDates, Action::Clean),
        ];
        assert_eq!((row.basic, &row.options[..]), (Action::Zero, &dates[..]));
    }

    #[test]
    fn repeating_groups_and_private_attributes_have_theirs() {
        let basic = |tag| row(tag).map(|row| row.basic);
        assert_eq!(basic(Tag(0x5004, 0x3000)), Some(Action::Remove));
        assert_eq!(basic(Tag(0x6002, 0x3000)), Some(Action::Remove));
        assert_eq!(basic(Tag(0x6002, 0x4000)), Some(Action::Remove));
        assert_eq!(basic(Tag(0x6002, 0x0010)), None);
        assert_eq!(basic(Tag(0x0009, 0x1001)), Some(Action::Remove));
    }
}
