//! Operations: several at a time, cancelled, failing, panicking, in both directions.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use dicom_core::Tag;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use pacs_core::{Error, ErrorKind, Result};
use pacs_net::dimse::*;
use pacs_net::transport::{Acceptor, Connection, accept, connect_tcp};
use support::*;
use tokio::sync::{Notify, Semaphore};

fn store_request(client: &Client, instance: &str) -> StoreRequest {
    StoreRequest::new(client.context_for(&CT).unwrap().id, CT, uid(instance))
}

fn data_set(bytes: &'static [u8]) -> impl futures::Stream<Item = Result<Bytes>> + Send + Unpin {
    futures::stream::iter([Ok(Bytes::from_static(bytes))])
}

/// Holds each C-STORE until its turn: the one with the highest last component first.
#[derive(Default)]
struct Backwards {
    arrived: AtomicUsize,
    most: AtomicUsize,
    all_here: Notify,
    turns: [Notify; 9],
}

impl Services for Backwards {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let instance = operation.command().sop_instance()?;
            let number: usize = instance.rsplit('.').next().unwrap().parse().unwrap();
            operation.take_data_set().unwrap().gather(100).await?;
            let here = self.arrived.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(here, Ordering::SeqCst);
            if here == 8 {
                self.all_here.notify_one();
            }
            self.turns[number].notified().await;
            Ok(Reply::success())
        })
    }
}

#[tokio::test]
async fn eight_operations_run_at_a_time_and_end_in_any_order() {
    let mut policy = policy();
    policy.operations_max = 8;
    let services = Arc::new(Backwards::default());
    let (client, _server) = pair(policy, proposal().with_asynchronous(0, 1), services.clone()).await;
    let (ended, mut order) = tokio::sync::mpsc::unbounded_channel();
    for number in 1..=8 {
        let (client, ended) = (client.clone(), ended.clone());
        tokio::spawn(async move {
            let request = store_request(&client, &format!("1.2.{number}"));
            let response = client.store(request, data_set(b"data")).await.unwrap();
            ended
                .send((number, response.command.sop_instance().unwrap()))
                .unwrap();
        });
    }
    services.all_here.notified().await;
    for number in (1..=8).rev() {
        services.turns[number].notify_one();
        let (ended, instance) = order.recv().await.unwrap();
        assert_eq!((ended, instance), (number, uid(&format!("1.2.{number}"))));
    }
    assert_eq!(services.most.load(Ordering::SeqCst), 8);
}

/// Counts how many of its operations are under way.
struct Gate {
    running: AtomicUsize,
    most: AtomicUsize,
    entered: Semaphore,
    leave: Semaphore,
}

impl Services for Gate {
    fn c_echo(&self, _: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(running, Ordering::SeqCst);
            self.entered.add_permits(1);
            self.leave.acquire().await.unwrap().forget();
            self.running.fetch_sub(1, Ordering::SeqCst);
            Ok(Reply::success())
        })
    }
}

#[tokio::test]
async fn a_peer_that_sends_beyond_its_window_is_held_not_refused() {
    let gate = Arc::new(Gate {
        running: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        entered: Semaphore::new(0),
        leave: Semaphore::new(0),
    });
    // No window is negotiated: one at a time. The raw sender doesn't care.
    let (near, far) = associate(policy(), proposal()).await;
    tokio::spawn(serve(far, gate.clone()));
    let (mut receiver, sender) = near.split();
    for id in 1..=5 {
        let mut command = CommandSet::request(CommandField::C_ECHO).with_affected_sop_class(&VERIFICATION);
        command.set_message_id(id);
        let nothing = None::<futures::stream::Empty<Result<Bytes>>>;
        sender.send(1, command.encode(), nothing).await.unwrap();
    }
    for id in 1..=5 {
        gate.entered.acquire().await.unwrap().forget();
        gate.leave.add_permits(1);
        let pacs_net::transport::Event::Data(fragment) = receiver.next(None).await.unwrap() else {
            panic!("no response");
        };
        let response = CommandSet::decode(&fragment.data).unwrap();
        assert_eq!(response.message_id_responded_to(), Some(id));
        assert_eq!(response.status(), Status::SUCCESS);
    }
    assert_eq!(gate.most.load(Ordering::SeqCst), 1);
}

/// Finds without end, until cancelled.
struct Endless;

impl Services for Endless {
    fn c_find(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let identifier = operation.gather_data_set().await?;
            while !operation.is_cancelled() {
                operation.respond(Reply::pending(identifier.clone())).await?;
            }
            Ok(Reply::new(Status::CANCEL))
        })
    }

    fn c_move(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            operation.cancelled().await;
            let counts = SubOperations {
                remaining: Some(3),
                completed: 1,
                ..SubOperations::default()
            };
            Ok(Reply::new(Status::CANCEL).with_sub_operations(counts))
        })
    }
}

#[tokio::test]
async fn a_cancel_ends_a_find_that_is_sending() {
    let (client, _server) = pair(policy(), proposal(), Arc::new(Endless)).await;
    let context = client.context_for(&FIND).unwrap().clone();
    let mut responses = client.find(&context, Bytes::from_static(b"key!")).await.unwrap();
    for _ in 0..100 {
        let response = responses.next().await.unwrap().unwrap();
        assert_eq!(response.status(), Status::PENDING);
        assert_eq!(response.data_set.as_deref(), Some(&b"key!"[..]));
    }
    responses.cancel().await.unwrap();
    let last = responses.single().await.unwrap();
    assert_eq!(last.status(), Status::CANCEL);
    assert_eq!(client.echo().await.unwrap(), Status::SUCCESS);
}

#[tokio::test]
async fn a_cancel_ends_a_find_that_is_never_held_up() {
    // Over TCP with its large buffers the operation seldom waits.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let association = accept(Connection::tcp(stream), &Acceptor::new(policy()))
            .await
            .unwrap();
        serve(association, Arc::new(Endless)).await
    });
    let association = connect_tcp(address, &proposal()).await.unwrap();
    let client = Client::start(association, Arc::new(NoServices));
    let context = client.context_for(&FIND).unwrap().clone();
    let responses = client.find(&context, Bytes::from_static(b"key!")).await.unwrap();
    responses.cancel().await.unwrap();
    assert_eq!(responses.single().await.unwrap().status(), Status::CANCEL);
    client.release().await.unwrap();
    assert_eq!(server.await.unwrap().unwrap(), Ended::Released);
}

#[tokio::test]
async fn a_cancel_ends_a_move_that_waits() {
    let (client, _server) = pair(policy(), proposal(), Arc::new(Endless)).await;
    let context = client.context_for(&FIND).unwrap().clone();
    let responses = client
        .r#move(&context, &title("DEST"), Bytes::from_static(b"key!"))
        .await
        .unwrap();
    responses.cancel().await.unwrap();
    let last = responses.single().await.unwrap();
    assert_eq!(last.status(), Status::CANCEL);
    assert_eq!(last.command.sub_operations().remaining, Some(3));
}

#[tokio::test]
async fn responses_that_nobody_reads_any_more_dont_hold_the_association() {
    let (client, _server) = pair(policy(), proposal(), Arc::new(Endless)).await;
    let context = client.context_for(&FIND).unwrap().clone();
    let mut responses = client.find(&context, Bytes::from_static(b"key!")).await.unwrap();
    responses.next().await.unwrap().unwrap();
    responses.cancel().await.unwrap();
    drop(responses);
    // The window of one comes free with the final response that nobody waits for.
    assert_eq!(client.echo().await.unwrap(), Status::SUCCESS);
}

/// Fails in each way there is.
struct Failing;

impl Services for Failing {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            match operation.command().sop_instance()?.as_str() {
                "1.1" => panic!("while the data set is unread"),
                "1.2" => {
                    operation.take_data_set().unwrap().next_piece().await?;
                    panic!("within the data set");
                }
                "1.3" => Err(Error::new(ErrorKind::OutOfResources, "x.y", "no room left")),
                "1.4" => Err(Error::new(ErrorKind::Mismatch, "x.y", "differs").with_tag(Tag(8, 0x18))),
                _ => Ok(Reply::new(Status::COERCED)),
            }
        })
    }

    fn c_find(&self, _: Operation) -> BoxFuture<'_, Result<Reply>> {
        panic!("before there is a future");
    }
}

#[tokio::test]
async fn failures_and_panics_are_answered_and_the_association_lives_on() {
    let (client, server) = pair(policy(), proposal(), Arc::new(Failing)).await;
    let expected = [
        ("1.1", 0xA700, None, vec![]),
        ("1.2", 0xA700, None, vec![]),
        ("1.3", 0xA700, Some("no room left"), vec![]),
        ("1.4", 0xA900, Some("differs"), vec![Tag(8, 0x18)]),
        ("1.5", 0xB000, None, vec![]),
    ];
    for (instance, status, comment, tags) in expected {
        // Large, so that most of it is still to come when the operation fails.
        let pieces = (0..50).map(|_| Ok(Bytes::from(vec![0; 100_000])));
        let request = store_request(&client, instance);
        let response = client
            .store(request, futures::stream::iter(pieces))
            .await
            .unwrap();
        assert_eq!(response.status(), Status(status), "{instance}");
        if let Some(comment) = comment {
            assert_eq!(response.command.error_comment(), Some(comment));
        }
        assert_eq!(response.command.offending_elements(), tags);
    }
    let context = client.context_for(&FIND).unwrap().clone();
    let responses = client.find(&context, Bytes::from_static(b"key!")).await.unwrap();
    assert_eq!(responses.single().await.unwrap().status(), Status(0xC000));
    client.release().await.unwrap();
    assert_eq!(server.await.unwrap().unwrap(), Ended::Released);
}

/// Answers a C-GET with three C-STOREs on the same association.
struct Getting;

impl Services for Getting {
    fn c_get(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let client = operation.client();
            let mut counts = SubOperations::default();
            for number in 1..=3 {
                let request = store_request(&client, &format!("1.2.{number}"));
                let response = client.store(request, data_set(b"instance")).await?;
                assert_eq!(response.status(), Status::SUCCESS);
                counts.completed += 1;
                counts.remaining = Some(3 - number);
                operation
                    .respond(Reply::new(Status::PENDING).with_sub_operations(counts))
                    .await?;
            }
            counts.remaining = None;
            Ok(Reply::success().with_sub_operations(counts))
        })
    }
}

#[tokio::test]
async fn a_get_brings_its_instances_over_the_same_association() {
    let proposal = proposal().with_role(CT, false, true);
    let (near, far) = associate(policy(), proposal).await;
    let server = tokio::spawn(serve(far, Arc::new(Getting)));
    let keeper = Arc::new(Keeper::default());
    let client = Client::start(near, keeper.clone());
    assert!(client.context_for(&CT).is_err(), "we asked to be SCP alone");
    let context = client.context_for(&GET).unwrap().clone();
    let responses = client.get(&context, Bytes::from_static(b"key!")).await.unwrap();
    let responses: Vec<_> = responses.try_collect().await.unwrap();
    let counts: Vec<_> = responses
        .iter()
        .map(|response| response.command.sub_operations())
        .collect();
    assert_eq!(
        counts.iter().map(|c| c.completed).collect::<Vec<_>>(),
        [1, 2, 3, 3]
    );
    assert_eq!(counts[3].remaining, None);
    assert_eq!(keeper.taken(), vec![b"instance".to_vec(); 3]);
    client.release().await.unwrap();
    server.await.unwrap().unwrap();
}

/// Answers each N-service with what it was asked.
struct Normalized;

impl Services for Normalized {
    fn n_create(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let attributes = operation.gather_data_set().await?;
            let mut reply = Reply::success().with_data_set(attributes);
            reply.affected_sop_instance = Some(uid("1.2.99"));
            Ok(reply)
        })
    }
    fn n_action(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            assert_eq!(operation.command().action_type_id(), Some(1));
            Ok(Reply::success())
        })
    }
    fn n_delete(&self, _: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async { Err(Error::new(ErrorKind::NotFound, "x.y", "not here")) })
    }
}

#[tokio::test]
async fn normalized_services_are_answered() {
    let (client, _server) = pair(policy(), proposal(), Arc::new(Normalized)).await;
    let context_id = client.context_for(&CT).unwrap().id;
    let command = CommandSet::request(CommandField::N_CREATE).with_affected_sop_class(&CT);
    let responses = client
        .request(context_id, command, Some(data_set(b"list")))
        .await
        .unwrap();
    let response = responses.single().await.unwrap();
    assert_eq!(
        response.command.command_field(),
        CommandField::N_CREATE.response()
    );
    assert_eq!(response.command.sop_instance().unwrap(), uid("1.2.99"));
    assert_eq!(response.data_set.as_deref(), Some(&b"list"[..]));
    let nothing = None::<futures::stream::Empty<Result<Bytes>>>;
    let statuses = [
        (CommandField::N_ACTION, Status::SUCCESS),
        (CommandField::N_DELETE, Status::NO_SUCH_SOP_INSTANCE),
        (CommandField::N_SET, Status::UNRECOGNIZED_OPERATION),
        (CommandField(0x0777), Status::UNRECOGNIZED_OPERATION),
    ];
    for (field, status) in statuses {
        let command = CommandSet::request(field)
            .with_requested_sop_class(&CT)
            .with_requested_sop_instance(&uid("1.2.3"))
            .with_action_type_id(1);
        let responses = client
            .request(context_id, command, nothing.clone())
            .await
            .unwrap();
        assert_eq!(responses.single().await.unwrap().status(), status, "{field}");
    }
}

#[tokio::test]
async fn a_message_id_in_use_is_answered_with_duplicate_invocation() {
    let mut policy = policy();
    policy.operations_max = 2;
    let (near, far) = associate(policy, proposal().with_asynchronous(2, 1)).await;
    tokio::spawn(serve(far, Arc::new(Endless)));
    let (mut receiver, sender) = near.split();
    let nothing = None::<futures::stream::Empty<Result<Bytes>>>;
    for _ in 0..2 {
        let mut command = CommandSet::request(CommandField::C_MOVE);
        command.set_message_id(5);
        sender.send(5, command.encode(), nothing.clone()).await.unwrap();
    }
    let pacs_net::transport::Event::Data(fragment) = receiver.next(None).await.unwrap() else {
        panic!("no response");
    };
    let response = CommandSet::decode(&fragment.data).unwrap();
    assert_eq!(response.status(), Status::DUPLICATE_INVOCATION);
}

#[tokio::test]
async fn requests_end_with_an_error_when_the_association_ends() {
    let (client, server) = pair(policy(), proposal(), Arc::new(Endless)).await;
    let context = client.context_for(&FIND).unwrap().clone();
    let responses = client
        .r#move(&context, &title("DEST"), Bytes::from_static(b"key!"))
        .await
        .unwrap();
    server.abort();
    assert_eq!(responses.single().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(client.echo().await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(client.has_ended());
}
