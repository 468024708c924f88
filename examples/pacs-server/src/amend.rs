//! `amend` and `merge`: correcting what is kept.

use std::fmt::Write as _;

use clap::Args;
use futures::executor::block_on;
use pacs_core::audit::{Action, Message, Outcome, OutcomeIndicator};
use pacs_core::dataset::{Element, standard_vr};
use pacs_core::query::{AttributePath, AttributeStep};
use pacs_core::{Amended, DataSet, Pacs, Result as CoreResult, Scope, Source, Uid};

use crate::audit;
use crate::config::Config;
use crate::maintain::{NAMED_MAX, say};
use crate::store;

/// Of what the attributes are corrected.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Of {
    /// Everything of the patient with this Patient ID
    #[arg(long, value_name = "ID")]
    patient: Option<String>,
    /// The study with this Study Instance UID
    #[arg(long, value_name = "UID")]
    study: Option<Uid>,
    /// The series with this Series Instance UID
    #[arg(long, value_name = "UID")]
    series: Option<Uid>,
    /// The instance with this SOP Instance UID
    #[arg(long, value_name = "UID")]
    instance: Option<Uid>,
}

impl Of {
    fn scope(self) -> Scope {
        let one = self.study.map(Scope::Study);
        let one = one.or(self.series.map(Scope::Series));
        let one = one.or(self.instance.map(Scope::Instance));
        one.unwrap_or_else(|| Scope::Patient(self.patient.unwrap_or_default()))
    }
}

/// An attribute and the value that it gets: `KEYWORD=VALUE`.
pub(crate) fn element(text: &str) -> Result<Element, String> {
    let (name, value) = text.split_once('=').ok_or("KEYWORD=VALUE is needed")?;
    let path: AttributePath = name.parse().map_err(|_| "no attribute has this name")?;
    let [AttributeStep::Standard(tag)] = path.steps() else {
        return Err("an attribute of the top level is needed".to_owned());
    };
    let vr = standard_vr(*tag).ok_or("the attribute is not known")?;
    Element::from_text(*tag, vr, value).map_err(|error| error.context().to_owned())
}

/// Answers whether everything could be amended.
pub(crate) fn amend(config: &Config, pacs: &Pacs, of: Of, wanted: Vec<Element>) -> Result<bool, String> {
    let mut set = DataSet::new();
    wanted.into_iter().for_each(|element| set.put(element));
    let scope = of.scope();
    let source = source(config);
    let amending = pacs.amend(&source, scope.clone(), set);
    tell(config, block_on(recorded(pacs, scope, amending)))
}

/// Records that what is kept of this will be corrected (PS3.15 A.5.3.6), before it is; and then, where it was not.
async fn recorded(
    pacs: &Pacs,
    scope: Scope,
    amending: impl Future<Output = CoreResult<Amended>>,
) -> CoreResult<Amended> {
    if !pacs.audit().is_on() {
        return amending.await;
    }
    let subjects = audit::subjects(pacs, scope).await?;
    let tell = async |outcome: Outcome| {
        for subject in subjects.clone() {
            let amended = |us| {
                let message = Message::instances_accessed(Action::Update, [audit::launcher(), us], subject);
                message.with_outcome(outcome.clone())
            };
            pacs.audit().submit(amended).await?;
        }
        Ok(())
    };
    tell(Outcome::SUCCESS).await?;
    let amended = amending.await;
    let failure = |why| Outcome::failure(OutcomeIndicator::MinorFailure, why);
    match &amended {
        Err(_) => tell(Outcome::of(&amended)).await?,
        Ok(Amended { failed: 0, .. }) => {}
        Ok(Amended { failed, .. }) => {
            tell(failure(format!("{failed} instances stayed as they were"))).await?
        }
    }
    amended
}

/// Answers whether everything could be merged.
pub(crate) fn merge(config: &Config, pacs: &Pacs, prior: &str, surviving: &str) -> Result<bool, String> {
    let (source, surviving) = (source(config), surviving.into());
    let merged = async {
        let of = prior.into();
        let merging = pacs.merge_patients(&source, &of, &surviving);
        recorded(pacs, Scope::Patient(prior.to_owned()), merging).await
    };
    tell(config, block_on(merged))
}

/// This server, which is named as what modified the attributes.
fn source(config: &Config) -> Source {
    Source {
        called_ae: Some(config.ae_title),
        ..Source::default()
    }
}

fn tell(config: &Config, amended: CoreResult<Amended>) -> Result<bool, String> {
    let Amended {
        amended,
        unchanged,
        failed,
        first_failed,
    } = amended.map_err(|error| store::explained(config, &error))?;
    let mut text = format!(
        "{amended:>10} instances amended\n{unchanged:>10} had these values already\n{failed:>10} can't be amended\n"
    );
    for (key, why) in first_failed.iter().take(NAMED_MAX) {
        let _ = writeln!(text, "\n{}\n    {why}", key.instance);
    }
    if failed > NAMED_MAX as u64 {
        let _ = writeln!(text, "\nand {} more", failed - NAMED_MAX as u64);
    }
    say(&text)?;
    Ok(failed == 0)
}
