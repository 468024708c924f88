//! What a scan has to say against a data set: [`Problem`].

use std::fmt;

use dicom_core::Tag;

/// Something in a data set that the Standard forbids, or that kept the scan from understanding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What.
    pub kind: ProblemKind,
    /// Where, in bytes from the start of the data set (of the inflated one, when it is deflated).
    pub offset: u64,
    /// In which element, when that is known.
    pub tag: Option<Tag>,
}

/// What a [`Problem`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// It ends inside an element. Not complete.
    Truncated,
    /// It ends before the delimiter of a sequence, item or encapsulated value. Not complete.
    Unterminated,
    /// The structure can't be followed here: up to the end of a length around it, or, where there is
    /// none, all that follows; then the data set is not complete.
    Unreadable,
    /// Sequences are nested deeper than [`limits::SEQUENCE_DEPTH_MAX`](crate::limits::SEQUENCE_DEPTH_MAX).
    TooDeep,
    /// The deflated stream is damaged. Not complete.
    NotInflatable,
    /// Inflating stopped at [`limits::INFLATED_LENGTH_MAX_BYTES`](crate::limits::INFLATED_LENGTH_MAX_BYTES);
    /// what comes after was not looked at.
    InflateLimit,
    /// Bytes follow the end of the deflated stream.
    AfterDeflated,
    /// Zeros follow the last element.
    TrailingZeros,
    /// Elements have no explicit VR where the transfer syntax says they have.
    ImplicitInExplicit,
    /// Elements have an explicit VR where the transfer syntax says they have none.
    ExplicitInImplicit,
    /// Numbers have the other byte order than the transfer syntax says.
    WrongByteOrder,
    /// A VR that the Standard does not know.
    UnknownVr,
    /// A length reaches beyond the end of the item or sequence around it.
    LengthBeyondParent,
    /// A length is odd.
    OddLength,
    /// A sequence or its item ends without a delimiter where the next element begins.
    MissingDelimiter,
    /// A delimiter stands where nothing is to be delimited.
    StrayDelimiter,
    /// Elements of the top level are not in ascending order of tag, or come twice.
    OutOfOrder,
    /// The offset tables, fragments and Number of Frames disagree, so frames can't be told apart.
    FrameTable,
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "truncated: ends inside an element",
            Self::Unterminated => "truncated: a sequence does not end",
            Self::Unreadable => "the structure can't be followed",
            Self::TooDeep => "sequences are nested too deep",
            Self::NotInflatable => "the deflated stream is damaged",
            Self::InflateLimit => "the deflated data set is too large",
            Self::AfterDeflated => "bytes follow the deflated stream",
            Self::TrailingZeros => "zeros follow the last element",
            Self::ImplicitInExplicit => "no VRs in an explicit VR transfer syntax",
            Self::ExplicitInImplicit => "VRs in an implicit VR transfer syntax",
            Self::WrongByteOrder => "the byte order is not the transfer syntax's",
            Self::UnknownVr => "unknown VR",
            Self::LengthBeyondParent => "a length exceeds the item around it",
            Self::OddLength => "odd length",
            Self::MissingDelimiter => "a delimiter is missing",
            Self::StrayDelimiter => "a delimiter stands alone",
            Self::OutOfOrder => "elements are not in ascending order",
            Self::FrameTable => "frames can't be told apart",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.kind, self.offset)?;
        if let Some(tag) = self.tag {
            write!(f, " {tag}")?;
        }
        Ok(())
    }
}
