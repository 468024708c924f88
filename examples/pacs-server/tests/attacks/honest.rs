//! Those beside whom a server is attacked: they send, and say what must be kept of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dicom_core::VR;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::query::Model;
use pacs_core::{DataSet, Error, ErrorKind, Level, Result, Uid, tags, uids};
use pacs_net::dimse::{Client, CommandField, Operation, Reply, Services, Status, StoreRequest};
use pacs_net::scu::{Remote, identifier, query_proposal, retrieve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use twox_hash::XxHash3_64;

use super::attack::Target;

const SOP_CLASS: Uid = Uid::constant(uids::CT_IMAGE_STORAGE);
const SYNTAX: Uid = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);

/// Of an instance.
const PIXEL_BYTES: usize = 128 * 1024;

/// One who sends. Its instances are numbered.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    pub(crate) remote: Remote,
    pub(crate) target: Target,
    /// Which of the four it is.
    pub(crate) number: u64,
}

fn failed(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Internal, "honest", why)
}

fn broken(error: std::io::Error) -> Error {
    Error::io("honest", "the connection broke", error)
}

/// The study that holds all of a sender's instances.
pub(crate) fn study(sender: u64) -> Result<Uid> {
    Uid::parse(&format!("2.25.{}", 1000 + sender))
}

fn instance(sender: u64, number: u64) -> Result<Uid> {
    Uid::parse(&format!("2.25.{}.1.{number}", 1000 + sender))
}

/// The data set of an instance: each has pixels of its own.
fn data_set(sender: u64, number: u64) -> Result<Bytes> {
    let mut set = DataSet::new();
    set.put_uid(tags::SOP_CLASS_UID, &SOP_CLASS);
    set.put_uid(tags::SOP_INSTANCE_UID, &instance(sender, number)?);
    set.put_text(tags::PATIENT_NAME, VR::PN, format!("HONEST^{sender}"));
    set.put_text(tags::PATIENT_ID, VR::LO, sender.to_string());
    set.put_uid(tags::STUDY_INSTANCE_UID, &study(sender)?);
    set.put_text(
        tags::SERIES_INSTANCE_UID,
        VR::UI,
        format!("2.25.{}.1", 1000 + sender),
    );
    let mut bytes = encode(&set, &SYNTAX, &CharacterSet::default())?;
    // (7FE0,0010) OW, two bytes reserved, length of 32 bits (PS3.5 7.1.2).
    bytes.extend_from_slice(&[0xE0, 0x7F, 0x10, 0x00, b'O', b'W', 0, 0]);
    bytes.extend_from_slice(&(PIXEL_BYTES as u32).to_le_bytes());
    let seed = sender << 32 | number;
    bytes.extend(
        (0..PIXEL_BYTES as u64 / 8)
            .flat_map(|at| (at ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()),
    );
    Ok(bytes.into())
}

impl Sender {
    /// Sends these instances, one after the other: each must be a success. Every fourth sender does it over DICOMweb.
    pub(crate) async fn send(&self, numbers: std::ops::Range<u64>) -> Result<()> {
        if self.number % 4 == 3 {
            for number in numbers {
                self.store_over_web(number).await?;
            }
            return Ok(());
        }
        let proposal = self.remote.proposal().with_context(SOP_CLASS, [&SYNTAX]);
        let client = self.remote.client(&proposal).await?;
        let context = client.context_for(&SOP_CLASS)?.id;
        for number in numbers {
            let request = StoreRequest::new(context, SOP_CLASS, instance(self.number, number)?);
            let pieces = stream::iter([data_set(self.number, number)]);
            let response = client.store(request, pieces).await?;
            if response.status() != Status::SUCCESS {
                return Err(failed(format!("a C-STORE is answered {}", response.status())));
            }
        }
        client.release().await
    }

    async fn store_over_web(&self, number: u64) -> Result<()> {
        let meta = write_meta(&Meta::new(SOP_CLASS, instance(self.number, number)?, SYNTAX));
        let begin = b"--B\r\nContent-Type: application/dicom\r\n\r\n";
        let body = [
            &begin[..],
            &meta,
            &data_set(self.number, number)?,
            b"\r\n--B--\r\n",
        ]
        .concat();
        let head = format!(
            "POST /dicom-web/studies HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAccept: application/dicom+json\r\n\
             Content-Type: multipart/related; type=\"application/dicom\"; boundary=B\r\nContent-Length: {}\r\n\r\n",
            self.target.http,
            body.len()
        );
        let mut stream = TcpStream::connect(self.target.http).await.map_err(broken)?;
        stream.write_all(head.as_bytes()).await.map_err(broken)?;
        stream.write_all(&body).await.map_err(broken)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map_err(broken)?;
        match answer.starts_with(b"HTTP/1.1 200 ") {
            true => Ok(()),
            false => {
                let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
                Err(failed(format!(
                    "STOW-RS is answered {}",
                    String::from_utf8_lossy(line)
                )))
            }
        }
    }

    /// Fetches all that it has sent, and compares: it is all of these instances, byte for byte, and nothing else.
    pub(crate) async fn check(&self, numbers: std::ops::Range<u64>) -> Result<()> {
        let proposal = query_proposal(&self.remote, Model::StudyRoot, CommandField::C_GET)
            .with_role(SOP_CLASS, false, true)
            .with_context(SOP_CLASS, [&SYNTAX]);
        let received = Arc::new(Checksums::default());
        let services: Arc<dyn Services> = Arc::clone(&received) as _;
        let client = Client::start(self.remote.connect(&proposal).await?, services);
        let mut keys = DataSet::new();
        keys.put_uid(tags::STUDY_INSTANCE_UID, &study(self.number)?);
        let mut progress = retrieve(&client, Model::StudyRoot, &identifier(Level::Study, &keys)).await?;
        while let Some(progress) = progress.next().await {
            let status = progress?.status;
            if !status.is_pending() && status != Status::SUCCESS {
                return Err(failed(format!("a C-GET is answered {status}")));
            }
        }
        client.release().await?;
        let mut sent = BTreeMap::new();
        for number in numbers {
            let bytes = data_set(self.number, number)?;
            sent.insert(instance(self.number, number)?, XxHash3_64::oneshot(&bytes));
        }
        let came = received.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *came == sent {
            return Ok(());
        }
        let whole = came
            .iter()
            .filter(|(uid, checksum)| sent.get(*uid) == Some(*checksum))
            .count();
        let (number, sent, came) = (self.number, sent.len(), came.len());
        Err(failed(format!(
            "of {sent} that sender {number} sent {came} came, {whole} of them as they were"
        )))
    }
}

/// Takes the sub-operations of a C-GET, and keeps of each instance its checksum.
#[derive(Default)]
struct Checksums(Mutex<BTreeMap<Uid, u64>>);

impl Services for Checksums {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        async move {
            let instance = operation.command().sop_instance()?;
            let bytes = operation.gather_data_set().await?;
            let mut came = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            came.insert(instance, XxHash3_64::oneshot(&bytes));
            Ok(Reply::success())
        }
        .boxed()
    }
}
