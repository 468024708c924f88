//! Queries on one open association, one after the other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use futures::TryStreamExt as _;
use pacs_core::query::Model;
use pacs_core::{DataSet, Error, ErrorKind, Level, Result, Uid};
use pacs_net::dimse::{Client, CommandField};
use pacs_net::scu::{Remote, find, identifier, query_proposal};

use crate::made::Study;
use crate::{median, scatter};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    PatientId,
    AccessionNumber,
    DayAndModality,
    FiveDaysAndModality,
    NamePrefix,
    NamePart,
    SeriesOfStudy,
    InstancesOfSeries,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::PatientId,
        Self::AccessionNumber,
        Self::DayAndModality,
        Self::FiveDaysAndModality,
        Self::NamePrefix,
        Self::NamePart,
        Self::SeriesOfStudy,
        Self::InstancesOfSeries,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PatientId => "Patient ID",
            Self::AccessionNumber => "Accession Number",
            Self::DayAndModality => "one day and modality",
            Self::FiveDaysAndModality => "five days and modality",
            Self::NamePrefix => "name prefix",
            Self::NamePart => "name *part*",
            Self::SeriesOfStudy => "series of a study",
            Self::InstancesOfSeries => "instances of a series",
        }
    }

    /// Whether its time is held against that at the smallest size. A part of a name is looked for in all names,
    /// and the lower levels stand in tables that soon are larger than a cache.
    pub(crate) fn may_not_grow(self) -> bool {
        !matches!(
            self,
            Self::NamePart | Self::SeriesOfStudy | Self::InstancesOfSeries
        )
    }

    fn level(self) -> Level {
        match self {
            Self::SeriesOfStudy => Level::Series,
            Self::InstancesOfSeries => Level::Instance,
            _ => Level::Study,
        }
    }

    fn keys(self, study: &Study) -> Vec<(Tag, VR, String)> {
        let date = |range| {
            vec![
                (tags::STUDY_DATE, VR::DA, range),
                (tags::MODALITIES_IN_STUDY, VR::CS, study.modality().to_owned()),
            ]
        };
        let name = |name| vec![(tags::PATIENT_NAME, VR::PN, name)];
        match self {
            Self::PatientId => vec![(tags::PATIENT_ID, VR::LO, study.patient_id())],
            Self::AccessionNumber => vec![(tags::ACCESSION_NUMBER, VR::SH, study.accession_number())],
            Self::DayAndModality => date(study.date()),
            Self::FiveDaysAndModality => date(study.five_days()),
            Self::NamePrefix => {
                let whole = study.patient_name();
                let (family, given) = whole.split_once('^').unwrap_or((&whole, ""));
                let initial: String = given.chars().take(1).collect();
                name(format!("{family}^{initial}*"))
            }
            Self::NamePart => {
                let whole: Vec<char> = study.patient_name().chars().collect();
                let part: String = whole[2..whole.len() - 2].iter().collect();
                name(format!("*{part}*"))
            }
            Self::SeriesOfStudy => vec![(tags::STUDY_INSTANCE_UID, VR::UI, study.uid())],
            Self::InstancesOfSeries => vec![
                (tags::STUDY_INSTANCE_UID, VR::UI, study.uid()),
                (tags::SERIES_INSTANCE_UID, VR::UI, study.series_uid(1)),
            ],
        }
    }
}

/// What a workstation's list shows.
const RETURNED: [(Level, Tag, VR); 12] = [
    (Level::Study, tags::PATIENT_NAME, VR::PN),
    (Level::Study, tags::PATIENT_ID, VR::LO),
    (Level::Study, tags::STUDY_DATE, VR::DA),
    (Level::Study, tags::STUDY_TIME, VR::TM),
    (Level::Study, tags::ACCESSION_NUMBER, VR::SH),
    (Level::Study, tags::STUDY_DESCRIPTION, VR::LO),
    (Level::Study, tags::MODALITIES_IN_STUDY, VR::CS),
    (Level::Study, tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS),
    (Level::Series, tags::SERIES_NUMBER, VR::IS),
    (Level::Series, tags::MODALITY, VR::CS),
    (Level::Instance, tags::SOP_INSTANCE_UID, VR::UI),
    (Level::Instance, tags::INSTANCE_NUMBER, VR::IS),
];

/// Queries are asked in so many turns, all kinds at all sizes in each: a machine that is busy with something
/// else for a while disturbs one turn of each and not all of one.
const TURNS: u64 = 10;

/// Queries of each kind before those that count, as many times what is asked in a turn: a server that has run
/// for a while holds in memory what its cache has room for.
const BEFOREHAND: u64 = 10;

/// What the queries of one kind took: of each turn's percentile the median.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// The same of the very first ones after a start.
    pub(crate) cold_p99: Duration,
    /// Answers to a query, on average.
    pub(crate) answers: f64,
}

/// What was measured of one kind at one size.
#[derive(Default)]
struct Asked {
    cold_p99: Duration,
    turns: Vec<(Duration, Duration)>,
    answers: u64,
}

/// All kinds, `queries` of each to each of the servers, for random ones of so many studies.
pub(crate) async fn all(servers: &[(Remote, u64)], queries: u64) -> Result<Vec<BTreeMap<Kind, Times>>> {
    let mut clients = Vec::new();
    for (remote, studies) in servers {
        clients.push((associate(remote).await?, *studies, BTreeMap::<Kind, Asked>::new()));
    }
    let each = (queries / TURNS).max(1);
    let percentile = |times: &[Duration], share: f64| times[((times.len() - 1) as f64 * share) as usize];
    for kind in Kind::ALL {
        for (client, studies, asked) in &mut clients {
            let (times, _) = some(client, kind, *studies, 0..each).await?;
            asked.entry(kind).or_default().cold_p99 = percentile(&times, 0.99);
            // Those of them would take minutes, and read everything each time.
            if kind != Kind::NamePart {
                some(client, kind, *studies, each..BEFOREHAND * each).await?;
            }
        }
    }
    for turn in BEFOREHAND..BEFOREHAND + TURNS {
        for kind in Kind::ALL {
            for (client, studies, asked) in &mut clients {
                let rounds = turn * each..(turn + 1) * each;
                let (times, found) = some(client, kind, *studies, rounds).await?;
                let asked = asked.entry(kind).or_default();
                asked
                    .turns
                    .push((percentile(&times, 0.5), percentile(&times, 0.99)));
                asked.answers += found;
            }
        }
    }
    let mut all = Vec::new();
    for (client, _, asked) in clients {
        client.release().await?;
        let times = asked.into_iter().map(|(kind, asked)| {
            let times = Times {
                p50: median(asked.turns.iter().map(|turn| turn.0)),
                p99: median(asked.turns.iter().map(|turn| turn.1)),
                cold_p99: asked.cold_p99,
                answers: asked.answers as f64 / (TURNS * each) as f64,
            };
            (kind, times)
        });
        all.push(times.collect());
    }
    Ok(all)
}

/// What each query took, in ascending order, and the number of all answers.
async fn some(
    client: &Client,
    kind: Kind,
    studies: u64,
    rounds: std::ops::Range<u64>,
) -> Result<(Vec<Duration>, u64)> {
    let (mut times, mut answers) = (Vec::new(), 0);
    for round in rounds {
        let study = Study(scatter(round ^ studies) % studies);
        let mut keys = DataSet::new();
        for (level, tag, vr) in RETURNED {
            if level == Level::Study || level == kind.level() {
                keys.put_text(tag, vr, "");
            }
        }
        for (tag, vr, value) in kind.keys(&study) {
            keys.put_text(tag, vr, value);
        }
        let identifier = identifier(kind.level(), &keys);
        let begin = Instant::now();
        let found: Vec<DataSet> = find(client, Model::StudyRoot, &identifier)
            .await?
            .try_collect()
            .await?;
        times.push(begin.elapsed());
        if found.is_empty() {
            return Err(missing(&format!("{} finds nothing", kind.name())));
        }
        answers += found.len() as u64;
    }
    times.sort_unstable();
    Ok((times, answers))
}

/// Fails unless each of these instances is found.
pub(crate) async fn are_there(remote: &Remote, instances: &[Uid]) -> Result<()> {
    let client = associate(remote).await?;
    for list in instances.chunks(100) {
        let list: Vec<String> = list.iter().map(Uid::to_string).collect();
        let mut keys = DataSet::new();
        keys.put_text(tags::SOP_INSTANCE_UID, VR::UI, list.join("\\"));
        let found = find(&client, Model::StudyRoot, &identifier(Level::Instance, &keys)).await?;
        let found = found.try_fold(0, |count, _| async move { Ok(count + 1) }).await?;
        if found != list.len() {
            return Err(missing("an acknowledged instance is not found after the kill"));
        }
    }
    client.release().await
}

async fn associate(remote: &Remote) -> Result<Client> {
    let proposal = query_proposal(remote, Model::StudyRoot, CommandField::C_FIND);
    remote.client(&proposal).await
}

fn missing(why: &str) -> Error {
    Error::new(ErrorKind::Internal, "scale.ask", why.to_owned())
}
