//! What is to be done in a department, and what was: worklists and procedure steps (PS3.4 annexes K, F and CC).
//!
//! | module | what it keeps |
//! | --- | --- |
//! | [`worklist`] | what modalities are to do: scheduled procedure steps, asked for by C-FIND (annex K) |
//! | [`performed`] | what modalities say they do: modality performed procedure steps (annex F) |
//! | [`reading`] | which studies are to be read, and how far each is |
//! | [`report`] | what a report is |
//! | [`ups`] | what anybody is to do and does: unified procedure steps (annex CC) |
//!
//! All of it is in the engine's [`Ledger`](crate::Ledger), each change in one step: what was answered with success is
//! there after a crash, and nothing is half there.

pub mod performed;
pub mod reading;
pub mod report;
pub mod ups;
pub mod worklist;

pub use performed::{PerformedChange, PerformedStatus, PerformedStep, PerformedSteps};
pub use reading::{Reading, StudyStatus};
pub use worklist::{Worklist, WorklistQuery};
