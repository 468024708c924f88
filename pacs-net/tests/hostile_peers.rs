//! Peers that break the protocol: what they are told, and that nothing else suffers.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use pacs_core::budget::Budget;
use pacs_core::{Error, ErrorKind, Result};
use pacs_net::dimse::*;
use pacs_net::transport::{Acceptor, Connection, Event, accept, connect};
use pacs_net::ul::codec::{read_pdu, write_pdu};
use pacs_net::ul::pdu::*;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

/// The next whole PDU on a raw stream, if it isn't at its end.
async fn raw_pdu(stream: &mut DuplexStream) -> Option<(u8, Vec<u8>)> {
    let mut header = [0; 6];
    stream.read_exact(&mut header).await.ok()?;
    let mut body = vec![0; u32::from_be_bytes(header[2..].try_into().unwrap()) as usize];
    stream.read_exact(&mut body).await.ok()?;
    Some((header[0], body))
}

fn p_data(context_id: u8, control: u8, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u32 + 2;
    [
        &[4, 0][..],
        &(length + 4).to_be_bytes(),
        &length.to_be_bytes(),
        &[context_id, control],
        data,
    ]
    .concat()
}

/// A served association whose other end is raw bytes.
async fn raw_association() -> (DuplexStream, JoinHandle<Result<Ended>>) {
    let (mut raw, far) = tokio::io::duplex(1024 * 1024);
    let server = tokio::spawn(async move {
        let association = accept(Connection::new(far, None), &Acceptor::new(policy())).await?;
        serve(association, Arc::new(Keeper::default())).await
    });
    let rq = Pdu::AssociateRq(Box::new(proposal().request().clone()));
    raw.write_all(&write_pdu(&rq).unwrap()).await.unwrap();
    assert_eq!(raw_pdu(&mut raw).await.unwrap().0, 2);
    (raw, server)
}

/// A C-STORE request's command set, with a data set to follow.
fn store() -> Bytes {
    let mut command = CommandSet::request(CommandField::C_STORE)
        .with_affected_sop_class(&CT)
        .with_affected_sop_instance(&uid("1.2.3"));
    command.set_message_id(1);
    command.set_has_data_set(true);
    command.encode()
}

#[tokio::test]
async fn each_breach_is_answered_with_an_abort_that_says_why() {
    let rq = write_pdu(&Pdu::AssociateRq(Box::new(proposal().request().clone()))).unwrap();
    let rest_of_store = |then: Vec<u8>| [p_data(3, 3, &store()), then].concat();
    let cases: Vec<(&str, Vec<u8>, Abort)> = vec![
        ("an unknown PDU", vec![9, 0, 0, 0, 0, 0], Abort::UNRECOGNIZED_PDU),
        ("a second request", rq.to_vec(), Abort::UNEXPECTED_PDU),
        (
            "a release response",
            vec![6, 0, 0, 0, 0, 4, 0, 0, 0, 0],
            Abort::UNEXPECTED_PDU,
        ),
        (
            "an oversize PDU",
            vec![4, 0, 0, 2, 0, 6],
            Abort::INVALID_PARAMETER,
        ),
        (
            "an unknown context",
            p_data(77, 3, &store()),
            Abort::INVALID_PARAMETER,
        ),
        (
            "no command set",
            p_data(3, 3, b"garbage!"),
            Abort::INVALID_PARAMETER,
        ),
        (
            "an empty command set",
            p_data(3, 3, b""),
            Abort::INVALID_PARAMETER,
        ),
        (
            "a data set first",
            p_data(3, 2, b"data"),
            Abort::UNEXPECTED_PARAMETER,
        ),
        (
            "a command set that changes context",
            [p_data(3, 1, b"part"), p_data(1, 3, b"rest")].concat(),
            Abort::UNEXPECTED_PARAMETER,
        ),
        (
            "an endless command set",
            p_data(3, 1, &[0; 10_000]).repeat(7),
            Abort::INVALID_PARAMETER,
        ),
        (
            "a command within a data set",
            rest_of_store([p_data(3, 0, b"part"), p_data(3, 3, &store())].concat()),
            Abort::UNEXPECTED_PARAMETER,
        ),
        (
            "a data set that changes context",
            rest_of_store([p_data(3, 0, b"part"), p_data(1, 2, b"rest")].concat()),
            Abort::UNEXPECTED_PARAMETER,
        ),
        (
            "a release within a data set",
            rest_of_store(vec![5, 0, 0, 0, 0, 4, 0, 0, 0, 0]),
            Abort::UNEXPECTED_PARAMETER,
        ),
    ];
    for (name, bytes, abort) in cases {
        let (mut raw, server) = raw_association().await;
        raw.write_all(&bytes).await.unwrap();
        let mut last = None;
        while let Some((kind, body)) = raw_pdu(&mut raw).await {
            last = Some(read_pdu(kind, &body));
            if kind == 7 {
                break;
            }
        }
        assert_eq!(last, Some(Ok(Pdu::Abort(abort))), "{name}");
        // Our end is closed behind it.
        assert_eq!(raw_pdu(&mut raw).await, None, "{name}");
        drop(raw);
        let error = server.await.unwrap().unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Invalid | ErrorKind::OutOfResources),
            "{name}: {error}"
        );
    }
}

#[tokio::test]
async fn what_comes_before_a_request_is_aborted_by_the_service_user() {
    for bytes in [
        p_data(1, 3, b"data"),
        vec![5, 0, 0, 0, 0, 4, 0, 0, 0, 0],
        vec![2, 0, 0, 0, 0, 68].into_iter().chain([0; 68]).collect(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let (mut raw, far) = tokio::io::duplex(4096);
        let server = tokio::spawn(async move {
            accept(Connection::new(far, None), &Acceptor::new(policy()))
                .await
                .map(drop)
        });
        raw.write_all(&bytes).await.unwrap();
        // Sta2 has AA-1 for each of them, an invalid PDU too (PS3.8 table 9-10).
        assert_eq!(raw_pdu(&mut raw).await.unwrap(), (7, vec![0; 4]));
        drop(raw);
        assert_eq!(server.await.unwrap().unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn a_peer_that_vanishes_ends_its_association_at_any_point() {
    let message = [p_data(3, 3, &store()), p_data(3, 0, b"part")].concat();
    for cut in [0, 3, 9, 20, message.len() - 2, message.len()] {
        let (mut raw, server) = raw_association().await;
        raw.write_all(&message[..cut]).await.unwrap();
        drop(raw);
        assert_eq!(
            server.await.unwrap().unwrap_err().kind(),
            ErrorKind::Closed,
            "cut at {cut}"
        );
    }
}

#[tokio::test]
async fn an_abort_of_the_peer_ends_its_association_at_any_point() {
    let message = [p_data(3, 3, &store()), p_data(3, 0, b"part")].concat();
    for cut in [0, message.len()] {
        let (mut raw, server) = raw_association().await;
        raw.write_all(&message[..cut]).await.unwrap();
        raw.write_all(&[7, 0, 0, 0, 0, 4, 0, 0, 2, 99]).await.unwrap();
        let ended = server.await.unwrap().unwrap();
        assert_eq!(
            ended,
            Ended::Aborted(Abort {
                source: 2,
                reason: 99
            }),
            "at {cut}"
        );
    }
}

#[tokio::test]
async fn fragments_of_any_shape_make_the_message() {
    let (mut raw, server) = raw_association().await;
    let command = store();
    // Each byte of the command set a fragment, empty fragments among them, several PDVs in a PDU.
    for (at, byte) in command.iter().enumerate() {
        raw.write_all(&p_data(3, 1, &[])).await.unwrap();
        let last = at + 1 == command.len();
        raw.write_all(&p_data(3, if last { 3 } else { 1 }, &[*byte]))
            .await
            .unwrap();
    }
    let pdu = [
        &[4, 0, 0, 0, 0, 20][..],
        &[0, 0, 0, 4, 3, 0, b'a', b'b'],
        &[0, 0, 0, 2, 3, 0],
        &[0, 0, 0, 2, 3, 2],
    ]
    .concat();
    raw.write_all(&pdu).await.unwrap();
    let (kind, body) = raw_pdu(&mut raw).await.unwrap();
    assert_eq!(kind, 4);
    let response = CommandSet::decode(&Bytes::copy_from_slice(&body[6..])).unwrap();
    assert_eq!(response.status(), Status::SUCCESS);
    raw.write_all(&[5, 0, 0, 0, 0, 4, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(raw_pdu(&mut raw).await.unwrap().0, 6);
    drop(raw);
    assert_eq!(server.await.unwrap().unwrap(), Ended::Released);
}

#[tokio::test]
async fn a_server_that_answers_nonsense_is_aborted_by_the_requestor() {
    let mut ac = policy().answer(proposal().request());
    ac.user.maximum_length = 4;
    let tiny = write_pdu(&Pdu::AssociateAc(Box::new(ac))).unwrap().to_vec();
    let cases = [
        ("P-DATA", p_data(1, 3, b"data"), Some(2), ErrorKind::Invalid),
        (
            "a request",
            vec![1, 0, 0, 0, 0, 68].into_iter().chain([0; 68]).collect(),
            Some(2),
            ErrorKind::Invalid,
        ),
        (
            "garbage",
            b"SSH-2.0-OpenSSH".to_vec(),
            Some(1),
            ErrorKind::Invalid,
        ),
        ("a maximum length of 4", tiny, Some(6), ErrorKind::Unsupported),
        (
            "a rejection",
            vec![3, 0, 0, 0, 0, 4, 0, 2, 3, 2],
            None,
            ErrorKind::Refused,
        ),
        (
            "an abort",
            vec![7, 0, 0, 0, 0, 4, 0, 0, 0, 0],
            None,
            ErrorKind::Closed,
        ),
        ("nothing", vec![], None, ErrorKind::Closed),
    ];
    for (name, answer, abort_reason, kind) in cases {
        let (near, mut raw) = tokio::io::duplex(64 * 1024);
        let client =
            tokio::spawn(async move { connect(Connection::new(near, None), &proposal()).await.map(drop) });
        assert_eq!(raw_pdu(&mut raw).await.unwrap().0, 1);
        raw.write_all(&answer).await.unwrap();
        if let Some(reason) = abort_reason {
            let (kind, body) = raw_pdu(&mut raw).await.unwrap();
            assert_eq!((kind, body[3]), (7, reason), "{name}");
        }
        drop(raw);
        let error = client.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        if name == "a rejection" {
            let source = std::error::Error::source(&error).unwrap();
            assert_eq!(source.downcast_ref(), Some(&Rejection::LOCAL_LIMIT_EXCEEDED));
            assert_eq!(error.retry(), pacs_core::Retry::Later);
        }
    }
}

#[tokio::test]
async fn responses_to_requests_that_were_never_made_are_passed_over() {
    let (near, far) = associate(policy(), proposal()).await;
    let client = Client::start(near, Arc::new(NoServices));
    let (mut receiver, sender) = far.split();
    let peer = tokio::spawn(async move {
        let nothing = None::<futures::stream::Empty<Result<Bytes>>>;
        let Event::Data(fragment) = receiver.next(None).await.unwrap() else {
            panic!("no request");
        };
        let request = CommandSet::decode(&fragment.data).unwrap();
        let mut strange = CommandSet::request(CommandField::C_ECHO);
        strange.set_message_id(999);
        for request in [&strange, &request] {
            let response = CommandSet::response(request, Status::SUCCESS);
            sender.send(1, response.encode(), nothing.clone()).await.unwrap();
        }
        receiver.next(None).await
    });
    assert_eq!(client.echo().await.unwrap(), Status::SUCCESS);
    client.abort().await;
    assert_eq!(peer.await.unwrap().unwrap(), Event::Aborted(Abort::USER));
}

#[tokio::test]
async fn a_data_set_that_fails_half_way_aborts_the_association() {
    let (client, server) = pair(policy(), proposal(), Arc::new(Keeper::default())).await;
    let request = StoreRequest::new(client.context_for(&CT).unwrap().id, CT, uid("1.2.3"));
    let broken = [
        Ok(Bytes::from(vec![0; 300_000])),
        Err(Error::new(ErrorKind::Corrupt, "archive.read", "broken")),
    ];
    let error = client
        .store(request, futures::stream::iter(broken))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(client.has_ended());
    assert_eq!(server.await.unwrap().unwrap(), Ended::Aborted(Abort::USER));
}

#[tokio::test]
async fn a_message_dropped_half_sent_ends_the_association() {
    let (near, far) = associate(policy(), proposal()).await;
    let (mut receiver, sender) = near.split();
    // Nobody reads at the far end, so the pipe fills and the send waits.
    let endless = futures::stream::repeat_with(|| Ok(Bytes::from(vec![0; 100_000])));
    let mut send = Box::pin(sender.send(3, store(), Some(endless)));
    assert!(futures::poll!(send.as_mut()).is_pending());
    drop(send);
    assert!(sender.has_ended());
    let nothing = None::<futures::stream::Empty<Result<Bytes>>>;
    let error = sender.send(1, store(), nothing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(receiver.next(None).await.unwrap_err().kind(), ErrorKind::Closed);
    drop(far);
}

#[tokio::test(start_paused = true)]
async fn a_command_set_that_comes_byte_by_byte_is_given_up_when_it_is_not_whole_in_time() {
    let (mut raw, server) = raw_association().await;
    let begin = tokio::time::Instant::now();
    let command = store();
    let (reading, mut writing) = tokio::io::split(&mut raw);
    let slow = async {
        // Each byte comes long before a wait for the next one ends.
        for byte in command.iter().cycle() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if writing.write_all(&p_data(3, 1, &[*byte])).await.is_err() {
                break;
            }
        }
    };
    let mut reading = reading;
    let mut answer = Vec::new();
    let end = async { reading.read_to_end(&mut answer).await };
    tokio::select! {
        () = slow => {}
        end = end => drop(end),
    }
    assert_eq!(answer.first(), Some(&7), "aborted");
    let patience = pacs_net::transport::Timeouts::default().receive;
    assert!(begin.elapsed() >= patience && begin.elapsed() < patience * 2);
    drop(raw);
    assert_eq!(server.await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
}

/// Gathers identifiers within what all may take, and holds them until it is told to go on.
struct Holding {
    room: Budget,
    taken: tokio::sync::Notify,
    go_on: tokio::sync::Notify,
}

impl Services for Holding {
    fn c_find(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            operation.gather_data_set().await?;
            self.taken.notify_one();
            self.go_on.notified().await;
            Ok(Reply::success())
        })
    }

    fn gathering(&self) -> Option<&Budget> {
        Some(&self.room)
    }
}

#[tokio::test]
async fn identifiers_of_many_associations_share_their_room_and_small_ones_always_have_some() {
    let services = Arc::new(Holding {
        room: Budget::new(1_000_000),
        taken: tokio::sync::Notify::new(),
        go_on: tokio::sync::Notify::new(),
    });
    let connect = || pair(policy(), proposal(), Arc::clone(&services) as Arc<dyn Services>);
    let ask = async |client: &Client, length: usize| {
        let context = client.context_for(&FIND).unwrap();
        let responses = client.find(context, vec![0; length].into()).await.unwrap();
        responses.single().await.unwrap().status()
    };
    let (first, _serving) = connect().await;
    let (second, _serving_too) = connect().await;
    let large = ask(&first, 700_000);
    let others = async {
        services.taken.notified().await;
        assert_eq!(
            ask(&second, 700_000).await,
            Status(0xA700),
            "there is no room now"
        );
        let small = async {
            services.taken.notified().await;
            services.go_on.notify_waiters();
        };
        let (status, ()) = tokio::join!(ask(&second, 10_000), small);
        assert_eq!(status, Status::SUCCESS);
    };
    let (status, ()) = tokio::join!(large, others);
    assert_eq!(status, Status::SUCCESS);
    // What was held is there again.
    let again = async {
        services.taken.notified().await;
        services.go_on.notify_one();
    };
    let (status, ()) = tokio::join!(ask(&second, 700_000), again);
    assert_eq!(status, Status::SUCCESS);
}

/// For how long an acceptor takes to hear out one that sends these data on a context of CT. Its clock goes on only while
/// it waits.
async fn heard_out(data: Vec<u8>) -> Duration {
    let (mut stream, far) = tokio::io::duplex(4 << 20);
    let server = tokio::spawn(async move {
        let association = accept(Connection::new(far, None), &Acceptor::new(policy())).await?;
        let mut receiver = association.split().0;
        let begin = tokio::time::Instant::now();
        let mut length = 0;
        while let Event::Data(fragment) = receiver.next(None).await? {
            length += fragment.data.len();
            if fragment.last {
                break;
            }
        }
        Ok::<_, Error>((length, begin.elapsed()))
    });
    let request = Pdu::AssociateRq(Box::new(proposal().request().clone()));
    stream.write_all(&write_pdu(&request).unwrap()).await.unwrap();
    assert_eq!(raw_pdu(&mut stream).await.unwrap().0, 2);
    stream.write_all(&data).await.unwrap();
    stream.write_all(&p_data(3, 2, &[])).await.unwrap();
    let (length, time) = server.await.unwrap().unwrap();
    assert!(length > 0);
    time
}

#[tokio::test(start_paused = true)]
async fn who_sends_crumbs_is_heard_slowly_and_who_sends_small_pdus_at_once() {
    let crumbs = [p_data(3, 0, &[8]), p_data(3, 0, &[])].concat();
    let count = 10_000;
    let slowly = heard_out(crumbs.repeat(count)).await;
    // All but the first of it, 4 KiB every 5 ms.
    let reads = (crumbs.len() * count / 4096) as u32;
    assert!(slowly > Duration::from_millis(5) * (reads - 10), "{slowly:?}");
    assert_eq!(
        heard_out(p_data(3, 0, &[8; 64]).repeat(count)).await,
        Duration::ZERO
    );
}
