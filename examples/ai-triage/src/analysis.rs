//! A study from end to end: its series, their slices, what is found in each.

use std::collections::BTreeSet;
use std::sync::Arc;

use dicom_dictionary_std::tags;
use futures::TryStreamExt as _;
use pacs_core::{DataSet, Error, ErrorKind, Pacs, Result, Scope, Uid};

use crate::regions::{Found, Grid, Noise, Search};
use crate::series::{SLICES_MAX, Slice, Stack, Why, hounsfield};

/// What was found in one series.
#[derive(Clone, Debug)]
pub(crate) struct Assessed {
    pub(crate) series: Uid,
    /// Its Series Number.
    pub(crate) number: Option<String>,
    /// Of one of its slices.
    pub(crate) header: Arc<DataSet>,
    /// SOP Class and SOP Instance UID of each slice, in order.
    pub(crate) slices: Vec<(Uid, Uid)>,
    pub(crate) grid: Grid,
    pub(crate) found: Found,
    /// The slice that shows most of the largest region.
    pub(crate) key: Option<Key>,
}

/// A slice to be shown.
#[derive(Clone)]
pub(crate) struct Key {
    /// In HU.
    pub(crate) values: Vec<i16>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a slice of {} pixels", self.values.len())
    }
}

/// What came of a series.
pub(crate) enum Outcome {
    Assessed(Box<Assessed>),
    /// It can't be searched.
    Skipped(Why),
}

/// The series of a study of which something is kept.
///
/// # Errors
/// What the engine says.
pub(crate) async fn series_of(pacs: &Pacs, study: &Uid) -> Result<BTreeSet<Uid>> {
    let instances = pacs.instances(Scope::Study(*study));
    instances.map_ok(|record| record.key.series).try_collect().await
}

/// Searches one series. One slice is in memory at a time.
///
/// # Errors
/// What the engine says of its medium; what is wrong with the images is an outcome.
pub(crate) async fn assess(pacs: &Pacs, series: &Uid) -> Result<Outcome> {
    match assessed(pacs, series).await {
        Ok(assessed) => Ok(Outcome::Assessed(Box::new(assessed))),
        Err(Failed::Images(why)) => Ok(Outcome::Skipped(why)),
        Err(Failed::Engine(error)) => match error.kind() {
            ErrorKind::Io | ErrorKind::OutOfResources | ErrorKind::Closed | ErrorKind::TimedOut => Err(error),
            _ => {
                tracing::debug!(%series, %error, "an image can't be read");
                Ok(Outcome::Skipped("an image can't be read"))
            }
        },
    }
}

enum Failed {
    Images(Why),
    Engine(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<Why> for Failed {
    fn from(why: Why) -> Self {
        Self::Images(why)
    }
}

async fn assessed(pacs: &Pacs, series: &Uid) -> Result<Assessed, Failed> {
    let (slices, header) = slices_of(pacs, series).await?;
    let stack = Stack::of(slices)?;
    let grid = stack.grid;
    let mut search = Search::new(grid);
    for (slice, thickness) in &stack.slices {
        let (values, thickness) = (values_of(pacs, slice, &grid).await?, *thickness);
        let searched = tokio::task::spawn_blocking(move || {
            let searched = search.slice(&values, thickness);
            (search, searched)
        });
        let searched = searched
            .await
            .map_err(|error| internal("a search ended early").with_source(error))?;
        search = searched.0;
        searched.1.map_err(|Noise| "more noise than can be searched")?;
    }
    let found = tokio::task::spawn_blocking(move || search.finish());
    let found = found
        .await
        .map_err(|error| internal("a search ended early").with_source(error))?;
    let key = match found.regions.first() {
        Some(region) => {
            let (slice, _) = &stack.slices[region.key_slice as usize];
            let values = values_of(pacs, slice, &grid).await?;
            Some(Key { values })
        }
        None => None,
    };
    let slices = stack
        .slices
        .iter()
        .map(|(slice, _)| (slice.class, slice.instance));
    Ok(Assessed {
        series: *series,
        number: header.string(tags::SERIES_NUMBER).map(str::to_owned),
        header,
        slices: slices.collect(),
        grid,
        found,
        key,
    })
}

async fn slices_of(pacs: &Pacs, series: &Uid) -> Result<(Vec<Slice>, Arc<DataSet>), Failed> {
    let mut all = pacs.metadata_in(Scope::Series(*series));
    let mut slices = Vec::new();
    let mut first: Option<(Uid, Arc<DataSet>)> = None;
    while let Some((record, metadata)) = all.try_next().await? {
        let slice = Slice::of(&metadata.header)?;
        if slices.len() == SLICES_MAX {
            return Err(Failed::Images("more slices than are searched"));
        }
        // Always the same one, in whatever order they come.
        if first
            .as_ref()
            .is_none_or(|(instance, _)| record.key.instance < *instance)
        {
            first = Some((record.key.instance, Arc::new(metadata.header.clone())));
        }
        slices.push(slice);
    }
    let (_, header) = first.ok_or("no slices")?;
    Ok((slices, header))
}

/// The values of a slice in HU.
async fn values_of(pacs: &Pacs, slice: &Slice, grid: &Grid) -> Result<Vec<i16>, Failed> {
    let record = pacs.lookup(&slice.instance).await?.ok_or("a slice is gone")?;
    let frame = pacs.frame_reader(&record).await?.decoded(1).await?;
    Ok(hounsfield(&frame.header, &frame.pixels, grid)?)
}

fn internal(why: &'static str) -> Error {
    Error::new(ErrorKind::Internal, "triage.assess", why)
}
