//! Which attributes of an instance the index keeps.

use crate::dataset::DataSet;

/// The kept attributes of one instance, each at the level it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LevelAttributes {
    /// Of the patient.
    pub patient: DataSet,
    /// Of the study.
    pub study: DataSet,
    /// Of the series.
    pub series: DataSet,
    /// Of the instance.
    pub instance: DataSet,
}

/// Which attributes are kept.
#[derive(Clone, Debug, Default)]
pub struct AttributeSet {}
