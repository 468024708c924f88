//! [`CommandSet`]: the elements of group 0000 (PS3.7 section 9, 10 and annex E).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use dicom_core::Tag;
use pacs_core::{AeTitle, Error, ErrorKind, Result, Uid};

use super::COMMAND_SET_LENGTH_MAX_BYTES;
use super::field::{CommandField, Priority, SubOperations};
use super::status::Status;

/// Element numbers within group 0000.
mod element {
    pub(super) const GROUP_LENGTH: u16 = 0x0000;
    pub(super) const AFFECTED_SOP_CLASS: u16 = 0x0002;
    pub(super) const REQUESTED_SOP_CLASS: u16 = 0x0003;
    pub(super) const COMMAND_FIELD: u16 = 0x0100;
    pub(super) const MESSAGE_ID: u16 = 0x0110;
    pub(super) const MESSAGE_ID_RESPONDED_TO: u16 = 0x0120;
    pub(super) const MOVE_DESTINATION: u16 = 0x0600;
    pub(super) const PRIORITY: u16 = 0x0700;
    pub(super) const DATA_SET_TYPE: u16 = 0x0800;
    pub(super) const STATUS: u16 = 0x0900;
    pub(super) const OFFENDING_ELEMENT: u16 = 0x0901;
    pub(super) const ERROR_COMMENT: u16 = 0x0902;
    pub(super) const ERROR_ID: u16 = 0x0903;
    pub(super) const AFFECTED_SOP_INSTANCE: u16 = 0x1000;
    pub(super) const REQUESTED_SOP_INSTANCE: u16 = 0x1001;
    pub(super) const EVENT_TYPE: u16 = 0x1002;
    pub(super) const ATTRIBUTES: u16 = 0x1005;
    pub(super) const ACTION_TYPE: u16 = 0x1008;
    pub(super) const REMAINING: u16 = 0x1020;
    pub(super) const COMPLETED: u16 = 0x1021;
    pub(super) const FAILED: u16 = 0x1022;
    pub(super) const WARNING: u16 = 0x1023;
    pub(super) const MOVE_ORIGINATOR: u16 = 0x1030;
    pub(super) const MOVE_ORIGINATOR_MESSAGE_ID: u16 = 0x1031;
}

/// Command Data Set Type (0000,0800) when there is no data set; any other value says there is one.
const NO_DATA_SET: u16 = 0x0101;

/// Error Comment (0000,0902) is of VR LO: 64 characters.
const ERROR_COMMENT_LENGTH_MAX: usize = 64;
/// What a comment that was too long ends with.
const ELLIPSIS: &[u8] = b"...";

/// A command set: elements in ascending order, values without regard to their VR.
///
/// `Debug` shows the command field and the elements' numbers, not their values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CommandSet {
    elements: Vec<(u16, Bytes)>,
}

impl CommandSet {
    /// A request, without message ID yet.
    pub fn request(field: CommandField) -> Self {
        let mut set = Self::default();
        set.put_u16(element::COMMAND_FIELD, field.0);
        set.set_has_data_set(false);
        set
    }

    /// The response to `request` with `status`: command field, message ID responded to, and the
    /// affected SOP class and instance where the request names them.
    pub fn response(request: &CommandSet, status: Status) -> Self {
        let mut set = Self::request(request.command_field().response());
        set.put_u16(element::MESSAGE_ID_RESPONDED_TO, request.message_id());
        set.put_u16(element::STATUS, status.0);
        for (affected, requested) in [
            (element::AFFECTED_SOP_CLASS, element::REQUESTED_SOP_CLASS),
            (element::AFFECTED_SOP_INSTANCE, element::REQUESTED_SOP_INSTANCE),
        ] {
            if let Some(value) = request.get(affected).or_else(|| request.get(requested)) {
                set.put(affected, value.clone());
            }
        }
        for id in [element::EVENT_TYPE, element::ACTION_TYPE] {
            if let Some(value) = request.get(id) {
                set.put(id, value.clone());
            }
        }
        set
    }

    /// A C-CANCEL request for the operation with this message ID.
    pub fn cancel(message_id: u16) -> Self {
        let mut set = Self::request(CommandField::C_CANCEL);
        set.put_u16(element::MESSAGE_ID_RESPONDED_TO, message_id);
        set
    }

    /// Reads a command set in Implicit VR Little Endian (PS3.7 6.3.1).
    ///
    /// # Errors
    /// `Invalid` when elements don't fill `bytes` exactly, are of another group or come twice, or when
    /// there is no Command Field; `OutOfResources` above [`COMMAND_SET_LENGTH_MAX_BYTES`].
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        const OPERATION: &str = "command_set.decode";
        let invalid = |reason: &'static str| Error::new(ErrorKind::Invalid, OPERATION, reason);
        if bytes.len() > COMMAND_SET_LENGTH_MAX_BYTES {
            return Err(too_long(OPERATION));
        }
        let mut elements = Vec::with_capacity(12);
        let mut at = 0;
        while at < bytes.len() {
            let header = bytes[at..]
                .first_chunk::<8>()
                .ok_or_else(|| invalid("a command set ends within an element"))?;
            let group = u16::from_le_bytes([header[0], header[1]]);
            let number = u16::from_le_bytes([header[2], header[3]]);
            let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
            if group != 0 {
                return Err(invalid("a command set holds an element of another group"));
            }
            let start = at + 8;
            let end = start
                .checked_add(length as usize)
                .filter(|end| *end <= bytes.len())
                .ok_or_else(|| invalid("a command set ends within an element"))?;
            // Known by the bytes there are (PS3.7 E.1 gives it, some senders wrongly).
            if number != element::GROUP_LENGTH {
                elements.push((number, bytes.slice(start..end)));
            }
            at = end;
        }
        elements.sort_by_key(|(number, _)| *number);
        if elements.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(invalid("a command set holds an element twice"));
        }
        let set = Self { elements };
        if set.u16(element::COMMAND_FIELD).is_none() {
            return Err(invalid("a command set has no Command Field (0000,0100)"));
        }
        Ok(set)
    }

    /// The command set in Implicit VR Little Endian, with its group length.
    pub fn encode(&self) -> Bytes {
        let length: usize = self
            .elements
            .iter()
            .map(|(_, value)| 8 + value.len().next_multiple_of(2))
            .sum();
        let mut out = BytesMut::with_capacity(12 + length);
        out.put_u32_le(0);
        out.put_u32_le(4);
        // Values are bounded: they were set by us or decoded from a bounded set.
        out.put_u32_le(length as u32);
        for (number, value) in &self.elements {
            out.put_u16_le(0);
            out.put_u16_le(*number);
            out.put_u32_le(value.len().next_multiple_of(2) as u32);
            out.put_slice(value);
            if value.len() % 2 == 1 {
                // UIDs are padded with NUL, text with a space (PS3.5 6.2).
                let text = matches!(
                    *number,
                    element::MOVE_DESTINATION | element::MOVE_ORIGINATOR | element::ERROR_COMMENT
                );
                out.put_u8(if text { b' ' } else { 0 });
            }
        }
        out.freeze()
    }

    /// Command Field (0000,0100).
    pub fn command_field(&self) -> CommandField {
        CommandField(self.u16(element::COMMAND_FIELD).unwrap_or_default())
    }

    /// Message ID (0000,0110) of a request; 0 when absent.
    pub fn message_id(&self) -> u16 {
        self.u16(element::MESSAGE_ID).unwrap_or_default()
    }

    /// Sets Message ID (0000,0110).
    pub fn set_message_id(&mut self, id: u16) {
        self.put_u16(element::MESSAGE_ID, id);
    }

    /// Message ID Being Responded To (0000,0120) of a response or C-CANCEL.
    pub fn message_id_responded_to(&self) -> Option<u16> {
        self.u16(element::MESSAGE_ID_RESPONDED_TO)
    }

    /// Whether a data set follows, by Command Data Set Type (0000,0800).
    pub fn has_data_set(&self) -> bool {
        self.u16(element::DATA_SET_TYPE)
            .is_some_and(|kind| kind != NO_DATA_SET)
    }

    /// Sets Command Data Set Type (0000,0800).
    pub fn set_has_data_set(&mut self, has: bool) {
        self.put_u16(element::DATA_SET_TYPE, if has { 0 } else { NO_DATA_SET });
    }

    /// Affected SOP Class UID (0000,0002), else Requested SOP Class UID (0000,0003).
    ///
    /// # Errors
    /// `Invalid`, with the tag, when neither is there or it is no UID.
    pub fn sop_class(&self) -> Result<Uid> {
        self.uid(element::AFFECTED_SOP_CLASS, element::REQUESTED_SOP_CLASS)
    }

    /// Affected SOP Instance UID (0000,1000), else Requested SOP Instance UID (0000,1001).
    ///
    /// # Errors
    /// `Invalid`, with the tag, when neither is there or it is no UID.
    pub fn sop_instance(&self) -> Result<Uid> {
        self.uid(element::AFFECTED_SOP_INSTANCE, element::REQUESTED_SOP_INSTANCE)
    }

    /// Affected SOP Instance UID (0000,1000), where there is one: N-CREATE may leave it to the SCP (PS3.7 10.1.5.1.3).
    ///
    /// # Errors
    /// `Invalid`, with the tag, when it is no UID.
    pub fn affected_sop_instance(&self) -> Result<Option<Uid>> {
        match self.text(element::AFFECTED_SOP_INSTANCE) {
            None | Some("") => Ok(None),
            Some(_) => self.sop_instance().map(Some),
        }
    }

    /// Sets Affected SOP Class UID.
    #[must_use]
    pub fn with_affected_sop_class(self, uid: &Uid) -> Self {
        self.with_text(element::AFFECTED_SOP_CLASS, uid)
    }

    /// Sets Affected SOP Instance UID.
    #[must_use]
    pub fn with_affected_sop_instance(self, uid: &Uid) -> Self {
        self.with_text(element::AFFECTED_SOP_INSTANCE, uid)
    }

    /// Sets Requested SOP Class UID.
    #[must_use]
    pub fn with_requested_sop_class(self, uid: &Uid) -> Self {
        self.with_text(element::REQUESTED_SOP_CLASS, uid)
    }

    /// Sets Requested SOP Instance UID.
    #[must_use]
    pub fn with_requested_sop_instance(self, uid: &Uid) -> Self {
        self.with_text(element::REQUESTED_SOP_INSTANCE, uid)
    }

    /// Priority (0000,0700).
    pub fn priority(&self) -> Priority {
        match self.u16(element::PRIORITY) {
            Some(1) => Priority::High,
            Some(2) => Priority::Low,
            _ => Priority::Medium,
        }
    }

    /// Sets Priority.
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.put_u16(element::PRIORITY, priority as u16);
        self
    }

    /// Move Destination (0000,0600).
    ///
    /// # Errors
    /// `Invalid`, with the tag, when it is absent or no AE title.
    pub fn move_destination(&self) -> Result<AeTitle> {
        let tag = Tag(0, element::MOVE_DESTINATION);
        let text = self.text(element::MOVE_DESTINATION).unwrap_or_default();
        AeTitle::parse(text).map_err(|error| error.with_tag(tag))
    }

    /// Sets Move Destination.
    #[must_use]
    pub fn with_move_destination(self, destination: &AeTitle) -> Self {
        self.with_text(element::MOVE_DESTINATION, destination)
    }

    /// Move Originator Application Entity Title (0000,1030) and Message ID (0000,1031), where a
    /// C-STORE belongs to a C-MOVE.
    pub fn move_originator(&self) -> Option<(AeTitle, u16)> {
        let title = AeTitle::parse(self.text(element::MOVE_ORIGINATOR)?).ok()?;
        let id = self.u16(element::MOVE_ORIGINATOR_MESSAGE_ID).unwrap_or_default();
        Some((title, id))
    }

    /// Sets the move originator.
    #[must_use]
    pub fn with_move_originator(mut self, title: &AeTitle, message_id: u16) -> Self {
        self.put_u16(element::MOVE_ORIGINATOR_MESSAGE_ID, message_id);
        self.with_text(element::MOVE_ORIGINATOR, title)
    }

    /// Status (0000,0900) of a response. A response without one failed.
    pub fn status(&self) -> Status {
        self.u16(element::STATUS)
            .map_or(Status::PROCESSING_FAILURE, Status)
    }

    /// Error Comment (0000,0902).
    pub fn error_comment(&self) -> Option<&str> {
        self.text(element::ERROR_COMMENT).filter(|text| !text.is_empty())
    }

    /// Sets Error Comment, with what is not printable ASCII replaced. One of more than 64 characters is cut
    /// after a word, and ends with `...`.
    #[must_use]
    pub fn with_error_comment(mut self, comment: &str) -> Self {
        let mut comment: Vec<u8> = comment
            .chars()
            // One more than is sent, to know whether more follows.
            .take(ERROR_COMMENT_LENGTH_MAX + 1)
            .map(|c| match c {
                // A backslash would separate values.
                ' '..='~' if c != '\\' => c as u8,
                _ => b'?',
            })
            .collect();
        if comment.len() > ERROR_COMMENT_LENGTH_MAX {
            let room = ERROR_COMMENT_LENGTH_MAX - ELLIPSIS.len();
            // The first character that is not sent may be the space that ends the last word.
            let space = comment[..=room].iter().rposition(|c| *c == b' ');
            comment.truncate(space.filter(|at| *at > 0).unwrap_or(room));
            while comment.last().is_some_and(|c| b" ,;:(".contains(c)) {
                comment.pop();
            }
            comment.extend_from_slice(ELLIPSIS);
        }
        self.put(element::ERROR_COMMENT, comment.into());
        self
    }

    /// Error ID (0000,0903).
    pub fn error_id(&self) -> Option<u16> {
        self.u16(element::ERROR_ID)
    }

    /// Sets Error ID.
    #[must_use]
    pub fn with_error_id(mut self, id: u16) -> Self {
        self.put_u16(element::ERROR_ID, id);
        self
    }

    /// Offending Element (0000,0901).
    pub fn offending_elements(&self) -> Vec<Tag> {
        self.tags(element::OFFENDING_ELEMENT)
    }

    /// Sets Offending Element.
    #[must_use]
    pub fn with_offending_elements(self, tags: &[Tag]) -> Self {
        self.with_tags(element::OFFENDING_ELEMENT, tags)
    }

    /// Attribute Identifier List (0000,1005).
    pub fn attribute_identifiers(&self) -> Vec<Tag> {
        self.tags(element::ATTRIBUTES)
    }

    /// Sets Attribute Identifier List.
    #[must_use]
    pub fn with_attribute_identifiers(self, tags: &[Tag]) -> Self {
        self.with_tags(element::ATTRIBUTES, tags)
    }

    /// Event Type ID (0000,1002).
    pub fn event_type_id(&self) -> Option<u16> {
        self.u16(element::EVENT_TYPE)
    }

    /// Sets Event Type ID.
    #[must_use]
    pub fn with_event_type_id(mut self, id: u16) -> Self {
        self.put_u16(element::EVENT_TYPE, id);
        self
    }

    /// Action Type ID (0000,1008).
    pub fn action_type_id(&self) -> Option<u16> {
        self.u16(element::ACTION_TYPE)
    }

    /// Sets Action Type ID.
    #[must_use]
    pub fn with_action_type_id(mut self, id: u16) -> Self {
        self.put_u16(element::ACTION_TYPE, id);
        self
    }

    /// The counts of sub-operations; absent ones read as 0.
    pub fn sub_operations(&self) -> SubOperations {
        let count = |number| self.u16(number).unwrap_or_default();
        SubOperations {
            remaining: self.u16(element::REMAINING),
            completed: count(element::COMPLETED),
            failed: count(element::FAILED),
            warning: count(element::WARNING),
        }
    }

    /// Sets the counts of sub-operations.
    #[must_use]
    pub fn with_sub_operations(mut self, counts: SubOperations) -> Self {
        if let Some(remaining) = counts.remaining {
            self.put_u16(element::REMAINING, remaining);
        }
        self.put_u16(element::COMPLETED, counts.completed);
        self.put_u16(element::FAILED, counts.failed);
        self.put_u16(element::WARNING, counts.warning);
        self
    }

    fn get(&self, number: u16) -> Option<&Bytes> {
        let at = self
            .elements
            .binary_search_by_key(&number, |(number, _)| *number)
            .ok()?;
        Some(&self.elements[at].1)
    }

    fn put(&mut self, number: u16, value: Bytes) {
        match self.elements.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(at) => self.elements[at].1 = value,
            Err(at) => self.elements.insert(at, (number, value)),
        }
    }

    fn u16(&self, number: u16) -> Option<u16> {
        self.get(number)?
            .first_chunk()
            .map(|value| u16::from_le_bytes(*value))
    }

    fn put_u16(&mut self, number: u16, value: u16) {
        self.put(number, Bytes::copy_from_slice(&value.to_le_bytes()));
    }

    fn text(&self, number: u16) -> Option<&str> {
        let text = std::str::from_utf8(self.get(number)?).ok()?;
        Some(text.trim_matches([' ', '\0']))
    }

    fn with_text(mut self, number: u16, text: &str) -> Self {
        self.put(number, Bytes::copy_from_slice(text.as_bytes()));
        self
    }

    fn uid(&self, affected: u16, requested: u16) -> Result<Uid> {
        let number = if self.get(affected).is_some() {
            affected
        } else {
            requested
        };
        let number = if self.get(number).is_some() {
            number
        } else {
            affected
        };
        Uid::parse(self.text(number).unwrap_or_default()).map_err(|error| error.with_tag(Tag(0, number)))
    }

    fn tags(&self, number: u16) -> Vec<Tag> {
        let value = self.get(number).map_or(&[][..], |value| value);
        value
            .chunks_exact(4)
            .map(|tag| {
                Tag(
                    u16::from_le_bytes([tag[0], tag[1]]),
                    u16::from_le_bytes([tag[2], tag[3]]),
                )
            })
            .collect()
    }

    fn with_tags(mut self, number: u16, tags: &[Tag]) -> Self {
        let mut value = BytesMut::with_capacity(tags.len() * 4);
        for tag in tags {
            value.put_u16_le(tag.0);
            value.put_u16_le(tag.1);
        }
        self.put(number, value.freeze());
        self
    }
}

impl fmt::Debug for CommandSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.command_field())?;
        for (number, value) in &self.elements {
            write!(f, " (0000,{number:04X}) {} bytes", value.len())?;
        }
        Ok(())
    }
}

pub(super) fn too_long(operation: &'static str) -> Error {
    Error::new(
        ErrorKind::OutOfResources,
        operation,
        "a command set is longer than 64 KiB",
    )
}
