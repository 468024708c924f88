//! Making and ending associations: admission, limits, contexts, release collision, the clock.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use pacs_core::{ErrorKind, Result};
use pacs_net::dimse::*;
use pacs_net::transport::*;
use pacs_net::ul::codec::write_pdu;
use pacs_net::ul::negotiate::ContextRule;
use pacs_net::ul::pdu::*;
use pacs_net::ul::user::UserIdentity;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::Instant;

#[tokio::test]
async fn all_128_contexts_are_negotiated_and_usable() {
    let mut policy = policy();
    policy.other_contexts = Some(ContextRule::as_proposed());
    let mut proposal = Proposal::new(title("SCU"), title("SCP"));
    for number in 0..200 {
        proposal = proposal.with_context(uid(&format!("1.2.{number}")), [&EXPLICIT, &IMPLICIT, &JPEG]);
    }
    assert_eq!(proposal.contexts_left(), 0);
    let (client, _server) = pair(policy, proposal, Arc::new(Keeper::default())).await;
    assert_eq!(client.negotiated().contexts.len(), 128);
    for number in [0, 64, 127] {
        let sop_class = uid(&format!("1.2.{number}"));
        let context_id = client.context_for(&sop_class).unwrap().id;
        assert_eq!(context_id, number * 2 + 1);
        let request = StoreRequest::new(context_id, sop_class, uid("1.2.3"));
        let data_set = futures::stream::iter([Ok(Bytes::from_static(b"data"))]);
        assert_eq!(
            client.store(request, data_set).await.unwrap().status(),
            Status::SUCCESS
        );
    }
}

#[tokio::test]
async fn messages_go_through_however_small_the_maximum_length() {
    for maximum_length in [8, 9, 15, 0] {
        let mut policy = policy();
        policy.maximum_length_bytes = maximum_length;
        let proposal = proposal().with_maximum_length(maximum_length);
        let keeper = Arc::new(Keeper::default());
        let (client, _server) = pair(policy, proposal, keeper.clone()).await;
        let request = StoreRequest::new(client.context_for(&CT).unwrap().id, CT, uid("1.2.3"));
        let data_set =
            futures::stream::iter([Ok(Bytes::from_static(b"odd")), Ok(Bytes::from_static(b"pieces!"))]);
        let response = client.store(request, data_set).await.unwrap();
        assert_eq!(response.status(), Status::SUCCESS, "{maximum_length}");
        assert_eq!(keeper.taken(), [b"oddpieces!".to_vec()]);
    }
}

/// Knows one user, and gives a tighter policy to one AE title.
struct Doorkeeper;

impl Admission for Doorkeeper {
    fn admit<'a>(
        &'a self,
        request: &'a AssociateRq,
        peer: &'a Peer,
    ) -> BoxFuture<'a, Result<Admitted, Rejection>> {
        Box::pin(async move {
            assert!(peer.address.is_none());
            assert_eq!(request.contexts.len(), 4);
            let identity = request.user.identity.as_ref().ok_or(Rejection::NO_REASON)?;
            if (identity.kind, &identity.secondary[..]) != (2, b"secret") {
                return Err(Rejection::CALLING_AE_NOT_RECOGNIZED);
            }
            let mut tighter = policy();
            tighter.contexts.remove(&CT);
            Ok(Admitted {
                identity_response: Some(Bytes::from_static(b"welcome")),
                policy: (request.calling_ae_title == "GUEST").then(|| Arc::new(tighter)),
                ..Admitted::default()
            })
        })
    }
}

async fn try_with(acceptor: &Acceptor, proposal: Proposal) -> Result<Arc<Negotiated>> {
    let (near, far) = pipe();
    let near = async {
        connect(near, &proposal)
            .await
            .map(|association| association.negotiated().clone())
    };
    let (near, _) = tokio::join!(near, accept(far, acceptor));
    near
}

#[tokio::test]
async fn whoever_admits_sees_the_identity_and_decides() {
    let mut acceptor = Acceptor::new(policy());
    acceptor.admission = Arc::new(Doorkeeper);
    let identity = |secondary: &'static [u8], response_requested| UserIdentity {
        kind: 2,
        response_requested,
        primary: Bytes::from_static(b"user"),
        secondary: Bytes::from_static(secondary),
    };
    let error = try_with(&acceptor, proposal()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let wrong = proposal().with_identity(identity(b"guess", true));
    let error = try_with(&acceptor, wrong).await.unwrap_err();
    assert!(error.context().contains("calling AE title not recognized"));
    let right = proposal().with_identity(identity(b"secret", true));
    let negotiated = try_with(&acceptor, right).await.unwrap();
    assert_eq!(
        negotiated.peer.identity_response.as_deref(),
        Some(&b"welcome"[..])
    );
    assert_eq!(negotiated.contexts.len(), 4);
    let silent = proposal().with_identity(identity(b"secret", false));
    let negotiated = try_with(&acceptor, silent).await.unwrap();
    assert_eq!(negotiated.peer.identity_response, None);
    let mut guest = proposal().with_identity(identity(b"secret", false));
    guest.request_mut().calling_ae_title = "GUEST".to_owned();
    assert_eq!(try_with(&acceptor, guest).await.unwrap().contexts.len(), 3);
}

#[tokio::test]
async fn beyond_the_limit_a_peer_is_rejected_for_now_until_one_leaves() {
    let mut acceptor = Acceptor::new(policy());
    acceptor.slots = Some(Arc::new(Semaphore::new(1)));
    let (near, far) = pipe();
    let proposal = proposal();
    let (near, far) = tokio::join!(connect(near, &proposal), accept(far, &acceptor));
    let (near, far) = (near.unwrap(), far.unwrap());
    let error = try_with(&acceptor, proposal.clone()).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.downcast_ref(), Some(&Rejection::LOCAL_LIMIT_EXCEEDED));
    drop((near, far));
    assert!(try_with(&acceptor, proposal).await.is_ok());
}

#[tokio::test]
async fn a_release_collision_ends_both_sides_released() {
    let (near, far) = associate(policy(), proposal()).await;
    let (mut near_receiver, near_sender) = near.split();
    let (mut far_receiver, far_sender) = far.split();
    // Both have asked before either has read.
    near_sender.release().await.unwrap();
    far_sender.release().await.unwrap();
    let (near, far) = tokio::join!(near_receiver.next(None), far_receiver.next(None));
    assert_eq!((near.unwrap(), far.unwrap()), (Event::Released, Event::Released));
    assert_eq!(near_sender.release().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn data_still_flows_to_whoever_asked_for_release() {
    let (near, far) = associate(policy(), proposal()).await;
    let (mut receiver, sender) = far.split();
    let release = tokio::spawn(near.release());
    assert_eq!(receiver.next(None).await.unwrap(), Event::ReleaseRequested);
    let nothing = None::<futures::stream::Empty<Result<Bytes>>>;
    sender
        .send(1, Bytes::from_static(b"late"), nothing)
        .await
        .unwrap();
    sender.confirm_release().await.unwrap();
    receiver.linger().await;
    release.await.unwrap().unwrap();
}

/// What the peer sees of an association dropped without release.
#[tokio::test]
async fn dropping_an_association_aborts_it() {
    let (near, far) = associate(policy(), proposal()).await;
    drop(near);
    let (mut receiver, _sender) = far.split();
    assert_eq!(receiver.next(None).await.unwrap(), Event::Aborted(Abort::USER));
}

fn short() -> Timeouts {
    Timeouts {
        artim: Duration::from_secs(3),
        associate: Duration::from_secs(5),
        release: Duration::from_secs(7),
        idle: Duration::from_secs(11),
        receive: Duration::from_secs(13),
        send: Duration::from_secs(17),
    }
}

fn acceptor() -> Acceptor {
    let mut acceptor = Acceptor::new(policy());
    acceptor.timeouts = short();
    acceptor
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_ends_with_the_artim_timer() {
    let rq = write_pdu(&Pdu::AssociateRq(Box::new(proposal().request().clone()))).unwrap();
    for sent in [0, 1, 6, rq.len() - 1] {
        let (mut raw, far) = tokio::io::duplex(64 * 1024);
        let start = Instant::now();
        let server =
            tokio::spawn(async move { accept(Connection::new(far, None), &acceptor()).await.map(drop) });
        tokio::task::yield_now().await;
        // A byte now and then doesn't wind the timer up again.
        for byte in &rq[..sent.min(2)] {
            raw.write_all(&[*byte]).await.unwrap();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        raw.write_all(&rq[sent.min(2)..sent]).await.unwrap();
        assert_eq!(server.await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 3, "after {sent} bytes");
        assert_eq!(raw.read(&mut [0; 10]).await.unwrap(), 0, "closed without a PDU");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_peer_that_stays_is_closed_by_the_artim_timer() {
    let (mut raw, far) = tokio::io::duplex(64 * 1024);
    let mut rq = proposal().request().clone();
    rq.application_context = "1.2.3".into();
    raw.write_all(&write_pdu(&Pdu::AssociateRq(Box::new(rq))).unwrap())
        .await
        .unwrap();
    let start = Instant::now();
    let error = accept(Connection::new(far, None), &acceptor()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(start.elapsed().as_secs(), 3);
    let mut answer = Vec::new();
    raw.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [3, 0, 0, 0, 0, 4, 0, 1, 1, 2]);
}

#[tokio::test]
async fn an_acceptance_repeats_the_titles_and_the_reserved_field_byte_for_byte() {
    let (near, far) = tokio::io::duplex(4096);
    let mut request = write_pdu(&Pdu::AssociateRq(Box::new(proposal().request().clone())))
        .unwrap()
        .to_vec();
    // PS3.8 9.3.2, bytes 11 to 74: padded in front, with NULs, and reserved bytes that aren't zero.
    let fields = [
        &b"   SCP\0\0\0\0\0\0\0\0\0\0"[..],
        b" SCU        \0   ",
        &[0xA5; 32],
    ]
    .concat();
    request[10..74].copy_from_slice(&fields);
    let (mut raw, acceptor) = (near, acceptor());
    raw.write_all(&request).await.unwrap();
    let accepted = accept(Connection::new(far, None), &acceptor).await.unwrap();
    let negotiated = accepted.negotiated();
    assert_eq!(
        (
            negotiated.called_ae_title.as_str(),
            negotiated.calling_ae_title.as_str()
        ),
        ("SCP", "SCU")
    );
    let mut answer = [0; 74];
    raw.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[0], 2);
    assert_eq!(answer[10..], fields);
}

/// A served association with short timeouts and its raw requestor's halves.
async fn timed(services: Arc<dyn Services>) -> (Receiver, Sender, tokio::task::JoinHandle<Result<Ended>>) {
    let (near, far) = pipe();
    let proposal = proposal();
    let acceptor = acceptor();
    let (near, far) = tokio::join!(connect(near, &proposal), accept(far, &acceptor));
    let server = tokio::spawn(serve(far.unwrap(), services));
    let (receiver, sender) = near.unwrap().split();
    (receiver, sender, server)
}

#[tokio::test(start_paused = true)]
async fn an_idle_association_is_aborted_after_the_idle_time() {
    let (mut receiver, _sender, server) = timed(Arc::new(NoServices)).await;
    let start = Instant::now();
    let event = receiver.next(None).await.unwrap();
    assert_eq!(event, Event::Aborted(Abort::NOT_SPECIFIED));
    assert_eq!(start.elapsed().as_secs(), 11);
    drop(receiver);
    assert_eq!(server.await.unwrap().unwrap(), Ended::Idle);
}

/// Answers C-ECHO after a minute.
struct Slow;

impl Services for Slow {
    fn c_echo(&self, _: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(Reply::success())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_association_with_an_operation_under_way_is_not_idle() {
    let (near, far) = pipe();
    let proposal = proposal();
    let acceptor = acceptor();
    let (near, far) = tokio::join!(connect(near, &proposal), accept(far, &acceptor));
    let server = tokio::spawn(serve(far.unwrap(), Arc::new(Slow)));
    let client = Client::start(near.unwrap(), Arc::new(NoServices));
    assert_eq!(client.echo().await.unwrap(), Status::SUCCESS);
    client.release().await.unwrap();
    assert_eq!(server.await.unwrap().unwrap(), Ended::Released);
}

/// Takes in a piece of an instance each five seconds.
struct Sipping;

impl Services for Sipping {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let mut data_set = operation.take_data_set().unwrap();
            while data_set.next_piece().await?.is_some() {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            Ok(Reply::success())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_takes_longer_than_the_idle_time_to_send_is_no_idleness() {
    let timeouts = Timeouts {
        idle: Duration::from_secs(60),
        ..Timeouts::default()
    };
    let (client, _server) = pair(policy(), proposal().with_timeouts(timeouts), Arc::new(Sipping)).await;
    let request = StoreRequest::new(client.context_for(&CT).unwrap().id, CT, uid("1.2.3"));
    let pieces = (0..128).map(|_| Ok(Bytes::from(vec![0; 64 * 1024])));
    let start = Instant::now();
    let response = client
        .store(request, futures::stream::iter(pieces))
        .await
        .unwrap();
    assert_eq!(response.status(), Status::SUCCESS);
    assert!(
        start.elapsed() > 5 * timeouts.idle,
        "the pipe holds less than that"
    );
}

/// Never answers C-ECHO.
struct Silent;

impl Services for Silent {
    fn c_echo(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            operation.cancelled().await;
            Ok(Reply::success())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_beyond_the_window_does_not_wait_for_ever() {
    let (mut receiver, sender, server) = timed(Arc::new(Silent)).await;
    let start = Instant::now();
    for id in [1, 2] {
        let mut command = CommandSet::request(CommandField::C_ECHO).with_affected_sop_class(&VERIFICATION);
        command.set_message_id(id);
        let no_data_set = None::<futures::stream::Empty<Result<Bytes>>>;
        sender.send(1, command.encode(), no_data_set).await.unwrap();
    }
    let event = receiver.next(None).await.unwrap();
    assert_eq!(event, Event::Aborted(Abort::NOT_SPECIFIED));
    assert_eq!(start.elapsed().as_secs(), 13);
    drop((receiver, sender));
    assert_eq!(server.await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_stalls_is_aborted_after_the_receive_time() {
    let (mut receiver, sender, server) = timed(Arc::new(Keeper::default())).await;
    let mut command = CommandSet::request(CommandField::C_STORE);
    command.set_message_id(1);
    command.set_has_data_set(true);
    let start = Instant::now();
    let stalling = futures::StreamExt::chain(
        futures::stream::iter([Ok(Bytes::from(vec![0; 300_000]))]),
        futures::stream::pending(),
    );
    let sending = tokio::spawn({
        let sender = sender.clone();
        async move { sender.send(3, command.encode(), Some(Box::pin(stalling))).await }
    });
    let event = receiver.next(None).await.unwrap();
    assert_eq!(event, Event::Aborted(Abort::NOT_SPECIFIED));
    assert_eq!(start.elapsed().as_secs(), 13);
    drop((receiver, sender));
    assert_eq!(sending.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(server.await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_given_up_after_the_send_time() {
    let (near, far) = pipe();
    let acceptor = acceptor();
    let proposal = proposal().with_timeouts(short());
    let (near, far) = tokio::join!(connect(near, &proposal), accept(far, &acceptor));
    let (_receiver, sender) = near.unwrap().split();
    let start = Instant::now();
    let endless = futures::stream::repeat_with(|| Ok(Bytes::from(vec![0; 100_000])));
    let error = sender
        .send(3, Bytes::from_static(b"cc"), Some(endless))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), 17);
    assert!(sender.has_ended());
    drop(far);
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_never_answered_end_with_their_timers() {
    // The association request.
    let (near, _far) = pipe();
    let proposal = proposal().with_timeouts(short());
    let start = Instant::now();
    let error = connect(near, &proposal).await.unwrap_err();
    assert_eq!(
        (error.kind(), start.elapsed().as_secs()),
        (ErrorKind::TimedOut, 5)
    );
    // The release request.
    let (near, far) = pipe();
    let acceptor = acceptor();
    let (near, far) = tokio::join!(connect(near, &proposal), accept(far, &acceptor));
    let (near, _far) = (near.unwrap(), far.unwrap());
    let start = Instant::now();
    let error = near.release().await.unwrap_err();
    assert_eq!(
        (error.kind(), start.elapsed().as_secs()),
        (ErrorKind::TimedOut, 7)
    );
    // A DIMSE request.
    let (near, far) = pipe();
    let (near, far) = tokio::join!(connect(near, &proposal), accept(far, &acceptor));
    let (client, _far) = (Client::start(near.unwrap(), Arc::new(NoServices)), far.unwrap());
    let start = Instant::now();
    let error = client.echo().await.unwrap_err();
    assert_eq!((error.kind(), start.elapsed().as_secs()), (ErrorKind::Closed, 11));
}
