//! Associations end to end over in-memory pipes.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use pacs_net::dimse::{Client, Ended, NoServices, Status, StoreRequest};
use support::*;

#[tokio::test]
async fn an_echo_is_answered_and_the_association_released() {
    let (client, server) = pair(policy(), proposal(), Arc::new(NoServices)).await;
    assert_eq!(client.echo().await.unwrap(), Status::SUCCESS);
    client.release().await.unwrap();
    assert_eq!(server.await.unwrap().unwrap(), Ended::Released);
}

#[tokio::test]
async fn a_stored_data_set_arrives_byte_for_byte() {
    let keeper = Arc::new(Keeper::default());
    let (client, server) = pair(policy(), proposal(), keeper.clone()).await;
    let data_set: Vec<u8> = (0..1_000_001u32).map(|i| (i * 7) as u8).collect();
    let pieces: Vec<_> = data_set
        .chunks(77_777)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let context = client.context_for(&CT).unwrap().clone();
    let request = StoreRequest::new(context.id, CT, uid("1.2.3.4"));
    let response = client
        .store(request, futures::stream::iter(pieces))
        .await
        .unwrap();
    assert_eq!(response.status(), Status::SUCCESS);
    assert_eq!(response.command.sop_instance().unwrap(), uid("1.2.3.4"));
    assert_eq!(keeper.taken(), [data_set]);
    drop(client);
    assert!(matches!(server.await.unwrap(), Ok(Ended::Aborted(_))));
}

#[tokio::test]
async fn what_nobody_serves_is_answered_and_the_association_lives_on() {
    let (client, _server) = pair(policy(), proposal(), Arc::new(NoServices)).await;
    let context = client.context_for(&FIND).unwrap().clone();
    let mut responses = client.find(&context, Bytes::from_static(b"ident")).await.unwrap();
    let response = responses.next().await.unwrap().unwrap();
    assert_eq!(response.status(), Status::UNRECOGNIZED_OPERATION);
    assert!(responses.next().await.is_none());
    assert_eq!(client.echo().await.unwrap(), Status::SUCCESS);
}

#[tokio::test]
async fn the_last_client_dropped_aborts() {
    let (client, server) = pair(policy(), proposal(), Arc::new(NoServices)).await;
    let other: Client = client.clone();
    drop(client);
    assert_eq!(other.echo().await.unwrap(), Status::SUCCESS);
    drop(other);
    assert!(matches!(server.await.unwrap(), Ok(Ended::Aborted(_))));
}
