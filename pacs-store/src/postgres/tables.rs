//! The tables, and how they become what this version needs.

use deadpool_postgres::Object;
use pacs_core::{Error, ErrorKind};

use super::failure::Failure;

/// What makes version n + 1 of the tables of version n, at place n. `{schema}` stands for the schema.
///
/// They are never changed once they were released; what older versions of the programs need stays until none runs.
const STEPS: [&str; 3] = [
    "CREATE TABLE {schema}.ledger (key bytea PRIMARY KEY, value bytea)",
    super::index::STEP,
    "CREATE TABLE {schema}.owner (one boolean PRIMARY KEY CHECK (one), name text NOT NULL)",
];

/// Brings the tables to the version that this program needs, however many do so at once.
///
/// # Errors
/// `Unsupported` where they are of a newer program.
pub(super) async fn prepare(mut client: Object, schema: &str) -> Result<(), Failure> {
    let statement = |text: &str| text.replace("{schema}", schema);
    let there = "SELECT 1 FROM information_schema.tables WHERE table_schema = $1 AND table_name = 'version'";
    if client.query_opt(there, &[&schema]).await?.is_none() {
        // Who may not make a schema may have been given one.
        let given = "SELECT 1 FROM information_schema.schemata WHERE schema_name = $1";
        let schema_made = match client.query_opt(given, &[&schema]).await? {
            Some(_) => "",
            None => "CREATE SCHEMA IF NOT EXISTS {schema};",
        };
        // Two who make them at once: one may be told that they are there, in more than one way.
        let made = client
            .batch_execute(&statement(&format!(
                "{schema_made}
                 CREATE TABLE IF NOT EXISTS {{schema}}.version (one boolean PRIMARY KEY CHECK (one), number integer NOT NULL);
                 INSERT INTO {{schema}}.version VALUES (true, 0) ON CONFLICT DO NOTHING"
            )))
            .await;
        if let Err(error) = made
            && client.query_opt(there, &[&schema]).await?.is_none()
        {
            return Err(error.into());
        }
    }
    let transaction = client.transaction().await?;
    let number = statement("SELECT number FROM {schema}.version FOR UPDATE");
    let number: i32 = transaction.query_one(&number, &[]).await?.try_get(0)?;
    let Some(steps) = usize::try_from(number)
        .ok()
        .and_then(|number| STEPS.get(number..))
    else {
        let why = format!(
            "the tables are of version {number}, and this program knows those up to {}",
            STEPS.len()
        );
        return Err(Error::new(ErrorKind::Unsupported, "database.open", why).into());
    };
    if steps.is_empty() {
        return Ok(());
    }
    for step in steps {
        transaction.batch_execute(&statement(step)).await?;
    }
    let number = statement("UPDATE {schema}.version SET number = $1");
    transaction.execute(&number, &[&(STEPS.len() as i32)]).await?;
    transaction
        .commit()
        .await
        .map_err(|error| Failure::of_commit(&error))
}
