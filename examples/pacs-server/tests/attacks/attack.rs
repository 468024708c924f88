//! Attacks on what a server has: memory, connections, turns, time. Each goes on until it is dropped, from an address of
//! its own, and begins anew where the server ends it.
//!
//! The tests of the server and the bench of its load use them.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use pacs_core::{AeTitle, Uid, uids};
use pacs_net::dimse::{CommandField, CommandSet};
use pacs_net::transport::Proposal;
use pacs_net::ul::codec::write_pdu;
use pacs_net::ul::pdu::Pdu;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Where attackers come from.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

const CT: Uid = Uid::constant(uids::CT_IMAGE_STORAGE);
const FIND: Uid = Uid::constant(uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND);
const GET: Uid = Uid::constant(uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET);
const IMPLICIT: Uid = Uid::constant(uids::IMPLICIT_VR_LITTLE_ENDIAN);
const EXPLICIT: Uid = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);
const DEFLATED: Uid = Uid::constant(uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN);

/// Contexts are numbered 1, 3, 5, 7, in the order that they are proposed in.
const OF_CT: u8 = 1;
const OF_CT_DEFLATED: u8 = 3;
const OF_FIND: u8 = 5;
const OF_GET: u8 = 7;

/// How often something small is sent.
const SECOND: Duration = Duration::from_secs(1);

/// Who is attacked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) dicom: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) hl7: SocketAddr,
}

/// What is done, by many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    /// PDUs that say they are 4 GiB long.
    PduLengths,
    /// PDVs whose lengths disagree with their PDU's.
    PdvLengths,
    /// Elements that say they are 4 GiB long, in instances and in identifiers.
    ElementLengths,
    /// Sequences in sequences, 100,000 deep.
    Depth,
    /// A gigabyte of zeros, deflated: as an instance.
    Deflated,
    /// The same, as a body with Content-Encoding.
    Gzip,
    /// JSON and XML, 100,000 deep.
    Documents,
    /// Connections that say nothing, on all ports.
    Silence,
    /// Requests for an association that stop half way.
    HalfRequests,
    /// Instances that come byte by byte, a second between them.
    SlowInstances,
    /// Identifiers of almost a MiB that never end.
    LongIdentifiers,
    /// Command sets that never end.
    EndlessCommands,
    /// Requests of HTTP, their bodies, and messages of HL7 that come byte by byte.
    SlowBytes,
    /// Who asks for everything and reads nothing.
    SlowReaders,
    /// Requests for an association with all the contexts and transfer syntaxes that fit.
    Contexts,
    /// PDVs of a byte and of none, each in a PDU of its own.
    TinyPdvs,
    /// PDVs that are just long enough not to be copied, between many of none.
    PinnedBuffers,
    /// Wild cards in every key.
    WildCards,
    /// Header fields of a MiB, and thousands of them.
    HeaderFields,
    /// Messages of HL7 that never end.
    EndlessMessages,
    /// Event channels, and subscriptions to them.
    Channels,
}

impl Attack {
    pub(crate) const ALL: [Self; 21] = [
        Self::PduLengths,
        Self::PdvLengths,
        Self::ElementLengths,
        Self::Depth,
        Self::Deflated,
        Self::Gzip,
        Self::Documents,
        Self::Silence,
        Self::HalfRequests,
        Self::SlowInstances,
        Self::LongIdentifiers,
        Self::EndlessCommands,
        Self::SlowBytes,
        Self::SlowReaders,
        Self::Contexts,
        Self::TinyPdvs,
        Self::PinnedBuffers,
        Self::WildCards,
        Self::HeaderFields,
        Self::EndlessMessages,
        Self::Channels,
    ];

    /// How many do it at once. Those that hold what they get are more than there is for one address; those that send as
    /// much as they can are few, for they take the time of the machine that all run on.
    fn attackers(self) -> usize {
        match self {
            Self::Silence | Self::HalfRequests | Self::SlowBytes | Self::Channels => 300,
            Self::SlowInstances | Self::LongIdentifiers | Self::EndlessCommands => 150,
            Self::SlowReaders | Self::PinnedBuffers => 100,
            Self::EndlessMessages => 40,
            _ => 4,
        }
    }

    /// Begins it: when this returns, so many attackers as there are have done their worst once, or were refused.
    pub(crate) async fn begin(self, target: Target) -> Running {
        let mut attackers = JoinSet::new();
        let progress = Arc::new((AtomicUsize::new(0), Notify::new()));
        for number in 0..self.attackers() {
            let progress = Arc::clone(&progress);
            attackers.spawn(async move {
                let mut told = false;
                loop {
                    let once = async {
                        // What the server refuses is an error here, and what it was for.
                        let _ = self.once(target, number).await;
                    };
                    tokio::pin!(once);
                    // Who holds something has it by then.
                    let held = tokio::time::timeout(SECOND, &mut once).await.is_err();
                    if !told {
                        told = true;
                        progress.0.fetch_add(1, Ordering::Relaxed);
                        progress.1.notify_one();
                    }
                    if held {
                        once.await;
                    }
                    // As fast as a machine does that isn't this one too.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
        while progress.0.load(Ordering::Relaxed) < self.attackers() {
            progress.1.notified().await;
        }
        Running {
            _attackers: attackers,
        }
    }

    async fn once(self, target: Target, number: usize) -> std::io::Result<()> {
        match self {
            Self::PduLengths => pdu_lengths(target, number).await,
            Self::PdvLengths => {
                let mut peer = Association::open(target).await?;
                peer.stream
                    .write_all(&[4, 0, 0, 0, 0, 10, 0xFF, 0xFF, 0xFF, 0xF0, 1, 0, 1, 2, 3, 4])
                    .await?;
                peer.answer().await
            }
            Self::ElementLengths => element_lengths(target, number).await,
            Self::Depth => depth(target, number).await,
            Self::Deflated => {
                let mut peer = Association::open(target).await?;
                peer.store(OF_CT_DEFLATED, number).await?;
                peer.data(OF_CT_DEFLATED, &DEFLATED_ZEROS, true).await?;
                peer.answer().await
            }
            Self::Gzip => gzip(target).await,
            Self::Documents => documents(target, number).await,
            Self::Silence => {
                let address = [target.dicom, target.http, target.hl7][number % 3];
                until_closed(connect(address).await?).await
            }
            Self::HalfRequests => {
                let mut stream = connect(target.dicom).await?;
                let request = request();
                stream.write_all(&request[..request.len() / 2]).await?;
                until_closed(stream).await
            }
            Self::SlowInstances => {
                let mut peer = Association::open(target).await?;
                peer.store(OF_CT, number).await?;
                loop {
                    peer.data(OF_CT, &[8], false).await?;
                    tokio::time::sleep(SECOND).await;
                }
            }
            Self::LongIdentifiers => {
                let mut peer = Association::open(target).await?;
                peer.command(
                    OF_FIND,
                    CommandSet::request(CommandField::C_FIND).with_affected_sop_class(&FIND),
                )
                .await?;
                for _ in 0..60 {
                    peer.data(OF_FIND, &[0; 16_000], false).await?;
                }
                until_closed(peer.stream).await
            }
            Self::EndlessCommands => {
                let mut peer = Association::open(target).await?;
                peer.pdv(OF_CT, 1, &[0; 15_000]).await?;
                loop {
                    peer.pdv(OF_CT, 1, &[0]).await?;
                    tokio::time::sleep(SECOND).await;
                }
            }
            Self::SlowBytes => slow_bytes(target, number).await,
            Self::SlowReaders => slow_readers(target, number).await,
            Self::Contexts => {
                let mut stream = connect(target.dicom).await?;
                stream.write_all(&contexts()).await?;
                stream.read(&mut [0; 6]).await.map(drop)
            }
            Self::TinyPdvs => {
                let mut peer = Association::open(target).await?;
                peer.store(OF_CT, number).await?;
                for _ in 0..40 {
                    peer.stream.write_all(&TINY_PDVS).await?;
                }
                Ok(())
            }
            Self::PinnedBuffers => {
                let mut peer = Association::open(target).await?;
                peer.store(OF_CT, number).await?;
                // Data Set Trailing Padding, so that all of it is held until it is known what the instance is.
                let mut some = pdv(OF_CT, 0, &[0; 4_200]);
                some.extend(pdv(OF_CT, 0, &[]).repeat(21_000));
                for _ in 0..60 {
                    peer.stream.write_all(&some).await?;
                }
                until_closed(peer.stream).await
            }
            Self::WildCards => wild_cards(target, number).await,
            Self::HeaderFields => header_fields(target, number).await,
            Self::EndlessMessages => {
                let mut stream = connect(target.hl7).await?;
                stream
                    .write_all(b"\x0BMSH|^~\\&|A||||||ADT^A08|9|P|2.5\r")
                    .await?;
                loop {
                    stream.write_all(&[b'X'; 64 * 1024]).await?;
                    tokio::time::sleep(SECOND / 20).await;
                }
            }
            Self::Channels => channels(target, number).await,
        }
    }
}

/// An attack under way; dropped, it ends.
pub(crate) struct Running {
    _attackers: JoinSet<()>,
}

async fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((ATTACKER, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads nothing and holds on until the server has closed.
async fn until_closed(stream: TcpStream) -> std::io::Result<()> {
    loop {
        stream.ready(tokio::io::Interest::ERROR).await?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Ok(());
        }
        tokio::time::sleep(SECOND).await;
    }
}

fn pdv(context: u8, control: u8, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u32 + 2;
    [
        &[4, 0][..],
        &(length + 4).to_be_bytes(),
        &length.to_be_bytes(),
        &[context, control],
        data,
    ]
    .concat()
}

/// The request for an association.
fn request() -> Vec<u8> {
    let title = |text| AeTitle::parse(text).expect("is an AE title");
    let proposal = Proposal::new(title("ATTACKER"), title("PACS"))
        .with_context(CT, [&EXPLICIT])
        .with_context(CT, [&DEFLATED])
        .with_context(FIND, [&IMPLICIT])
        .with_context(GET, [&IMPLICIT])
        .with_role(CT, true, true);
    let request = Pdu::AssociateRq(Box::new(proposal.request().clone()));
    write_pdu(&request).expect("can be written").to_vec()
}

/// One that is established.
struct Association {
    stream: TcpStream,
}

impl Association {
    async fn open(target: Target) -> std::io::Result<Self> {
        let mut stream = connect(target.dicom).await?;
        stream.write_all(&request()).await?;
        let mut header = [0; 6];
        stream.read_exact(&mut header).await?;
        let length = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
        let mut answer = vec![0; length as usize];
        stream.read_exact(&mut answer).await?;
        match header[0] {
            2 => Ok(Self { stream }),
            _ => {
                // Refused, as there are enough already: nobody knocks without a pause.
                tokio::time::sleep(SECOND).await;
                Err(std::io::ErrorKind::ConnectionRefused.into())
            }
        }
    }

    async fn pdv(&mut self, context: u8, control: u8, data: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(&pdv(context, control, data)).await
    }

    async fn data(&mut self, context: u8, data: &[u8], last: bool) -> std::io::Result<()> {
        let pieces = data.chunks(16_000);
        let count = pieces.len();
        for (at, piece) in pieces.enumerate() {
            let control = if last && at + 1 == count { 2 } else { 0 };
            self.pdv(context, control, piece).await?;
        }
        Ok(())
    }

    async fn command(&mut self, context: u8, mut command: CommandSet) -> std::io::Result<()> {
        command.set_message_id(1);
        command.set_has_data_set(true);
        self.pdv(context, 3, &command.encode()).await
    }

    /// The command of a C-STORE; its data set follows.
    async fn store(&mut self, context: u8, number: usize) -> std::io::Result<()> {
        let instance = Uid::parse(&format!("2.25.666.{number}")).expect("is a UID");
        let command = CommandSet::request(CommandField::C_STORE)
            .with_affected_sop_class(&CT)
            .with_affected_sop_instance(&instance);
        self.command(context, command).await
    }

    /// Waits until something is answered, or the connection is closed.
    async fn answer(&mut self) -> std::io::Result<()> {
        self.stream.read(&mut [0; 512]).await.map(drop)
    }
}

async fn pdu_lengths(target: Target, number: usize) -> std::io::Result<()> {
    let header = |kind| [kind, 0, 0xFF, 0xFF, 0xFF, 0xFF];
    let mut stream = match number % 2 {
        0 => connect(target.dicom).await?,
        _ => Association::open(target).await?.stream,
    };
    stream.write_all(&header([1, 4, 2, 7][number / 2 % 4])).await?;
    let _ = stream.write_all(&[0; 100_000]).await;
    stream.read(&mut [0; 64]).await.map(drop)
}

async fn element_lengths(target: Target, number: usize) -> std::io::Result<()> {
    let mut peer = Association::open(target).await?;
    if number.is_multiple_of(2) {
        peer.store(OF_CT, number).await?;
        // Institution Name and an unknown element, each of almost 4 GiB.
        let element = b"\x08\x00\x80\x00UT\0\0\xFE\xFF\xFF\xFF";
        peer.data(OF_CT, &[&element[..], &[b'A'; 200_000]].concat(), true)
            .await?;
    } else {
        let command = CommandSet::request(CommandField::C_FIND).with_affected_sop_class(&FIND);
        peer.command(OF_FIND, command).await?;
        peer.data(OF_FIND, b"\x10\x00\x10\x00\xFE\xFF\xFF\xFFDoe", true)
            .await?;
    }
    peer.answer().await
}

async fn depth(target: Target, number: usize) -> std::io::Result<()> {
    let mut peer = Association::open(target).await?;
    if number.is_multiple_of(2) {
        peer.store(OF_CT, number).await?;
        let level = b"\x08\x00\x40\x11SQ\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF";
        peer.data(OF_CT, &level.repeat(100_000), true).await?;
    } else {
        let command = CommandSet::request(CommandField::C_FIND).with_affected_sop_class(&FIND);
        peer.command(OF_FIND, command).await?;
        let level = b"\x08\x00\x40\x11\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF";
        peer.data(OF_FIND, &level.repeat(60_000), true).await?;
    }
    peer.answer().await
}

fn zeros_into(mut write: impl FnMut(&[u8])) {
    for _ in 0..1024 {
        write(&[0; 1 << 20]);
    }
}

// What is sent again and again is made once: an attacker of a machine of its own takes no time of this one to make it.

static TINY_PDVS: LazyLock<Vec<u8>> =
    LazyLock::new(|| [pdv(OF_CT, 0, &[8]), pdv(OF_CT, 0, &[])].concat().repeat(5_000));

/// A gigabyte of zeros in Explicit VR Little Endian, deflated: some MiB.
static DEFLATED_ZEROS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    zeros_into(|zeros| encoder.write_all(zeros).expect("memory takes it"));
    encoder.finish().expect("memory takes it")
});

static GZIPPED_BLANKS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(b"[").expect("memory takes it");
    for _ in 0..1024 {
        encoder.write_all(&[b' '; 1 << 20]).expect("memory takes it");
    }
    encoder.finish().expect("memory takes it")
});

async fn post(target: Target, path: &str, fields: &str, body: &[u8]) -> std::io::Result<()> {
    let mut stream = connect(target.http).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{fields}\r\n",
        target.http,
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    let _ = stream.write_all(body).await;
    stream.read(&mut [0; 512]).await.map(drop)
}

async fn gzip(target: Target) -> std::io::Result<()> {
    let fields = "Content-Type: application/dicom+json\r\nContent-Encoding: gzip\r\n";
    post(target, "/dicom-web/workitems", fields, &GZIPPED_BLANKS).await
}

const BOUNDARY: &str = "B";

/// Media types, and bodies of parts of them.
static DOCUMENTS: LazyLock<[(&str, String); 3]> = LazyLock::new(|| {
    let documents = [
        (
            "application/dicom+json",
            "[{\"00081140\":{\"vr\":\"SQ\",\"Value\":".repeat(100_000),
        ),
        ("application/dicom+json", "[".repeat(4_000_000)),
        (
            "application/dicom+xml",
            "<NativeDicomModel><DicomAttribute tag=\"00081140\" vr=\"SQ\"><Item number=\"1\">".to_owned()
                + &"<DicomAttribute tag=\"00081140\" vr=\"SQ\"><Item number=\"1\">".repeat(100_000),
        ),
    ];
    documents.map(|(kind, document)| {
        let body = format!("--{BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n{document}\r\n--{BOUNDARY}--\r\n");
        (kind, body)
    })
});

async fn documents(target: Target, number: usize) -> std::io::Result<()> {
    let (kind, body) = &DOCUMENTS[number % 3];
    let fields = format!("Content-Type: multipart/related; type=\"{kind}\"; boundary={BOUNDARY}\r\n");
    post(target, "/dicom-web/studies", &fields, body.as_bytes()).await
}

async fn slow_bytes(target: Target, number: usize) -> std::io::Result<()> {
    let (address, begin, byte): (_, &[u8], u8) = match number % 3 {
        0 => (target.http, b"GET /dicom-web/studies HTTP/1.1\r\nHost: a\r\nX-A: ", b'a'),
        1 => (
            target.http,
            b"POST /dicom-web/studies HTTP/1.1\r\nHost: a\r\nContent-Type: application/dicom\r\nContent-Length: 1000000\r\n\r\n",
            0,
        ),
        _ => (target.hl7, b"\x0BMSH|^~\\&|A|", b'a'),
    };
    let mut stream = connect(address).await?;
    stream.write_all(begin).await?;
    loop {
        stream.write_all(&[byte]).await?;
        tokio::time::sleep(SECOND).await;
    }
}

async fn slow_readers(target: Target, number: usize) -> std::io::Result<()> {
    if number.is_multiple_of(2) {
        let mut peer = Association::open(target).await?;
        let command = CommandSet::request(CommandField::C_GET).with_affected_sop_class(&GET);
        peer.command(OF_GET, command).await?;
        // Query/Retrieve Level PATIENT isn't of this model: STUDY, and the study that honest senders fill.
        let study = b"2.25.1000\0";
        let mut identifier = b"\x08\x00\x52\x00\x06\0\0\0STUDY \x20\x00\x0D\x00\x0A\0\0\0".to_vec();
        identifier.extend_from_slice(study);
        peer.data(OF_GET, &identifier, true).await?;
        until_closed(peer.stream).await
    } else {
        let mut stream = connect(target.http).await?;
        let request = format!(
            "GET /dicom-web/studies/2.25.1000 HTTP/1.1\r\nHost: {}\r\n\
             Accept: multipart/related; type=\"application/dicom\"\r\n\r\n",
            target.http
        );
        stream.write_all(request.as_bytes()).await?;
        until_closed(stream).await
    }
}

/// As many presentation contexts and transfer syntaxes as a request has room for (PS3.8 9.3.2.2).
fn contexts() -> Vec<u8> {
    let item = |kind: u8, value: &[u8]| {
        let length = u16::try_from(value.len()).expect("is short enough");
        [&[kind, 0][..], &length.to_be_bytes(), value].concat()
    };
    let mut body = vec![0, 1, 0, 0];
    body.extend_from_slice(format!("{:<16}{:<16}", "PACS", "ATTACKER").as_bytes());
    body.extend_from_slice(&[0; 32]);
    body.extend(item(0x10, b"1.2.840.10008.3.1.1.1"));
    for context in (0..128).map(|number| 2 * number + 1) {
        let mut value = vec![context, 0, 0, 0];
        value.extend(item(0x30, uids::CT_IMAGE_STORAGE.as_bytes()));
        for _ in 0..100 {
            value.extend(item(0x40, b"1.2.3.4.5"));
        }
        body.extend(item(0x20, &value));
    }
    let length = body.len() as u32;
    [&[1, 0][..], &length.to_be_bytes(), &body].concat()
}

async fn wild_cards(target: Target, number: usize) -> std::io::Result<()> {
    let pattern = "*?".repeat(200) + "*x*";
    if number.is_multiple_of(2) {
        let mut peer = Association::open(target).await?;
        let command = CommandSet::request(CommandField::C_FIND).with_affected_sop_class(&FIND);
        peer.command(OF_FIND, command).await?;
        let mut identifier = b"\x08\x00\x52\x00\x06\0\0\0STUDY ".to_vec();
        let mut pattern = pattern.into_bytes();
        pattern.resize(pattern.len().next_multiple_of(2), b' ');
        // Study Description, Patient's Name, Patient ID.
        for tag in [b"\x08\x00\x30\x10", b"\x10\x00\x10\x00", b"\x10\x00\x20\x00"] {
            identifier.extend_from_slice(tag);
            identifier.extend_from_slice(&(pattern.len() as u32).to_le_bytes());
            identifier.extend_from_slice(&pattern);
        }
        peer.data(OF_FIND, &identifier, true).await?;
        peer.answer().await
    } else {
        let mut stream = connect(target.http).await?;
        let request = format!(
            "GET /dicom-web/instances?PatientName={pattern}&PatientID={pattern}&StudyDescription={pattern}&\
             fuzzymatching=true&includefield=all HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            target.http
        );
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut Vec::new()).await.map(drop)
    }
}

static HEADERS: LazyLock<[String; 2]> = LazyLock::new(|| {
    let fields = [
        format!("X-A: {}\r\n", "a".repeat(1 << 20)),
        "X-A: b\r\n".repeat(10_000),
    ];
    fields.map(|fields| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
});

async fn header_fields(target: Target, number: usize) -> std::io::Result<()> {
    let mut stream = connect(target.http).await?;
    let _ = stream.write_all(HEADERS[number % 2].as_bytes()).await;
    stream.read(&mut [0; 512]).await.map(drop)
}

async fn channels(target: Target, number: usize) -> std::io::Result<()> {
    let mut stream = connect(target.http).await?;
    let path = format!("/dicom-web/ws/subscribers/ATTACK{number}");
    let host = target.http;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    // To every workitem there is.
    let global = uids::UPS_GLOBAL_SUBSCRIPTION_INSTANCE;
    let subscription = format!("/dicom-web/workitems/{global}/subscribers/ATTACK{number}");
    post(target, &subscription, "", b"").await?;
    until_closed(stream).await
}
