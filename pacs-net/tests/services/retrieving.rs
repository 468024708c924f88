//! C-MOVE and C-GET.

use std::sync::atomic::{AtomicUsize, Ordering};

use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::{encode, scan};
use pacs_core::testkit::around::Around;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_series_is_not_retrieved_as_one_of_another_study() {
    let server = Running::start("PACS", Vec::new()).await;
    fill(&server).await;
    let keys = [
        (tags::STUDY_INSTANCE_UID, VR::UI, ""),
        (tags::SERIES_INSTANCE_UID, VR::UI, ""),
    ];
    let series = find(&server, Level::Series, &keys).await;
    let of_study = |study: u32| {
        let uid = format!("1.2.826.0.1.3680043.10.1.{study}");
        let mut all = series.iter();
        let found = all.find(|series| series.string(tags::STUDY_INSTANCE_UID) == Some(&uid));
        found
            .unwrap()
            .string(tags::SERIES_INSTANCE_UID)
            .unwrap()
            .to_owned()
    };
    let remote = server.remote("PACS");
    for (series, expected) in [(of_study(1), 5), (of_study(2), 0)] {
        let mut keys = study_identifier(1);
        keys.put_text(tags::SERIES_INSTANCE_UID, VR::UI, series);
        let keys = scu::identifier(Level::Series, &keys);
        let (last, taken) = get(&remote, Model::StudyRoot, &get_proposal(&remote), &keys).await;
        assert_eq!((last.status, taken.len()), (Status::SUCCESS, expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_move_sends_to_a_destination_that_is_configured_and_to_no_other() {
    let workstation = Running::start("WORKSTATION", Vec::new()).await;
    let destination = Destination {
        ae_title: title("WORKSTATION"),
        host: workstation.address.ip().to_string(),
        port: workstation.address.port(),
        associations: 3,
        tls: None,
    };
    let nobody = Destination {
        ae_title: title("NOBODY"),
        port: 1,
        ..destination.clone()
    };
    let server = Running::start("PACS", vec![destination, nobody]).await;
    fill(&server).await;
    let client = mover(&server).await;
    let moved = async |destination, study| move_study(&client, destination, study).await;
    let last = moved("WORKSTATION", 1).await;
    assert_eq!((last.status, last.counts.completed), (Status::SUCCESS, 10));
    assert_eq!(workstation.pacs.totals().await.unwrap().instances, 10);
    let again = moved("WORKSTATION", 1).await;
    assert_eq!(again.counts.completed, 10, "the same bytes again are a success");
    assert_eq!(
        moved("ELSEWHERE", 1).await.status,
        Status::MOVE_DESTINATION_UNKNOWN
    );
    let unreachable = moved("NOBODY", 1).await;
    assert_eq!(
        (
            unreachable.status.0,
            unreachable.counts.failed,
            unreachable.failed.len()
        ),
        (0xA702, 10, 10)
    );
    let nothing = moved("WORKSTATION", 77).await;
    assert_eq!((nothing.status, nothing.counts.completed), (Status::SUCCESS, 0));
    client.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_read_for_a_destination_that_is_not_there() {
    let workstation = Running::start("WORKSTATION", Vec::new()).await;
    let there = Destination {
        ae_title: title("WORKSTATION"),
        host: workstation.address.ip().to_string(),
        port: workstation.address.port(),
        associations: 2,
        tls: None,
    };
    let nobody = Destination {
        ae_title: title("NOBODY"),
        port: 1,
        ..there.clone()
    };
    let reads = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&reads);
    // A read counts when it is begun.
    let archive = Around::new(Arc::new(MemoryArchive::default())).reading(move |_, pieces| {
        let count = Arc::clone(&count);
        let began = stream::once(async move { count.fetch_add(1, Ordering::Relaxed) });
        began.flat_map(|_| stream::empty()).chain(pieces).boxed()
    });
    let options = ScpOptions {
        destinations: vec![there, nobody],
        ..ScpOptions::new(title("PACS"))
    };
    let server = Running::start_on(Arc::new(archive), options, Options::default(), Limits::default()).await;
    fill(&server).await;
    let client = mover(&server).await;
    let before = reads.load(Ordering::Relaxed);
    let last = move_study(&client, "NOBODY", 1).await;
    assert_eq!((last.status.0, last.counts.failed), (0xA702, 10));
    assert_eq!(reads.load(Ordering::Relaxed), before);
    let last = move_study(&client, "WORKSTATION", 1).await;
    assert_eq!((last.status, last.counts.completed), (Status::SUCCESS, 10));
    assert_eq!(reads.load(Ordering::Relaxed), before + 10);
    client.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_study_whose_instances_name_two_patients_is_retrieved_under_the_one_that_a_query_answers() {
    let server = Running::start("PACS", Vec::new()).await;
    fill(&server).await;
    let (announced, bytes) = instance(1, 0, 77, 0);
    let mut set = scan::parse(&bytes, &announced.transfer_syntax).unwrap();
    set.put_text(tags::PATIENT_ID, VR::LO, "ANOTHER");
    let bytes = encode::encode(&set, &announced.transfer_syntax, &CharacterSet::utf8()).unwrap();
    let answers = store(
        Sending::to(server.remote("PACS")),
        vec![(announced, bytes.into())],
    )
    .await;
    assert_eq!(answers[0].1, Status::SUCCESS);

    let mut keys = study_identifier(1);
    let study = keys.string(tags::STUDY_INSTANCE_UID).unwrap().to_owned();
    let asked = [
        (tags::STUDY_INSTANCE_UID, VR::UI, study.as_str()),
        (tags::PATIENT_ID, VR::LO, ""),
    ];
    let found = find(&server, Level::Study, &asked).await;
    let patient = found[0].string(tags::PATIENT_ID).unwrap().to_owned();
    let remote = server.remote("PACS");
    let ct = Uid::constant(uids::CT_IMAGE_STORAGE);
    let proposal = scu::query_proposal(&remote, Model::PatientRoot, CommandField::C_GET)
        .with_context(ct, scu::NATIVE.iter())
        .with_role(ct, false, true);
    for (patient, expected) in [(format!(" {patient} "), 11), ("ANOTHER".to_owned(), 0)] {
        keys.put_text(tags::PATIENT_ID, VR::LO, patient);
        let (last, taken) = get(&remote, Model::PatientRoot, &proposal, &keys).await;
        assert_eq!((last.status, taken.len()), (Status::SUCCESS, expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_destination_that_is_no_ae_title_is_answered_as_an_unknown_one() {
    let server = Running::start("PACS", Vec::new()).await;
    let remote = server.remote("PACS");
    let proposal = scu::query_proposal(&remote, Model::StudyRoot, CommandField::C_MOVE);
    let client = remote.client(&proposal).await.unwrap();
    let context = client.negotiated().contexts[0].clone();
    // No `AeTitle` is like these, so they are put in as bytes.
    let request = |destination: &[u8]| {
        let whole = CommandSet::request(CommandField::C_MOVE)
            .with_affected_sop_class(&context.abstract_syntax)
            .with_move_destination(&title("DESTINATION*"))
            .encode();
        let mut bytes = whole.to_vec();
        let at = bytes.windows(12).position(|w| w == b"DESTINATION*").unwrap();
        bytes[at..at + 12].copy_from_slice(destination);
        CommandSet::decode(&bytes.into()).unwrap()
    };
    for destination in [b"            ", b"BACK\\SLASH  "] {
        let key = Bytes::from_static(b"");
        let responses = client
            .request(context.id, request(destination), Some(stream::iter([Ok(key)])))
            .await
            .unwrap();
        let response = responses.single().await.unwrap();
        assert_eq!(response.status(), Status::MOVE_DESTINATION_UNKNOWN);
    }
    client.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_c_get_with_a_window_ends_though_pending_responses_go_between_its_sub_operations() {
    let server = Running::start("PACS", Vec::new()).await;
    let sending = Sending {
        associations: 2,
        window: 8,
        ..Sending::to(server.remote("PACS"))
    };
    // Larger than what sockets buffer, so that a sub-operation is in the middle of its message when a
    // pending response is due.
    let count = 24;
    let instances = (0..count).map(|number| padded(instance(1, 2, number, 0), 8 << 20));
    let answers = store(sending, instances.collect()).await;
    assert_eq!(answers.len() as u32, count);
    let remote = server.remote("PACS");
    let proposal = get_proposal(&remote).with_asynchronous(1, 8);
    let taking = Arc::new(Taking::default());
    let client = Client::start(remote.connect(&proposal).await.unwrap(), taking.clone());
    for _ in 0..2 {
        let progress = scu::retrieve(&client, Model::StudyRoot, &study_identifier(1))
            .await
            .unwrap();
        let progress: Vec<_> = progress.try_collect().await.unwrap();
        let last = progress.last().unwrap();
        assert_eq!(
            (last.status, u32::from(last.counts.completed)),
            (Status::SUCCESS, count)
        );
        assert!(progress.len() > 1, "at least one pending response was among them");
    }
    client.release().await.unwrap();
    assert_eq!(taking.0.lock().unwrap().len() as u32, count);
}

#[cfg(feature = "pixel")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_recoded_for_a_receiver_that_does_not_take_it_as_it_is_kept() {
    use pacs_core::dataset::charset::CharacterSet;
    use pacs_core::dataset::{encode, scan};
    let server = Running::start("PACS", Vec::new()).await;
    let (announced, bytes) = instance(1, 2, 1, 0);
    let set = scan::parse(&bytes, &announced.transfer_syntax).unwrap();
    let big_endian = Uid::constant("1.2.840.10008.1.2.2");
    let kept = encode::encode(&set, &big_endian, &CharacterSet::utf8()).unwrap();
    let announced = Announced {
        transfer_syntax: big_endian,
        ..announced
    };
    let answers = store(Sending::to(server.remote("PACS")), vec![(announced, kept.into())]).await;
    assert_eq!(answers[0].1, Status::SUCCESS);

    let remote = server.remote("PACS");
    let ct = Uid::constant(uids::CT_IMAGE_STORAGE);
    let implicit = Uid::constant(uids::IMPLICIT_VR_LITTLE_ENDIAN);
    let proposal = scu::query_proposal(&remote, Model::StudyRoot, CommandField::C_GET)
        .with_context(ct, [&implicit])
        .with_role(ct, false, true);
    let (last, taken) = get(&remote, Model::StudyRoot, &proposal, &study_identifier(1)).await;
    assert_eq!(last.status, Status::SUCCESS);
    let received = scan::parse(taken.values().next().unwrap(), &implicit).unwrap();
    assert_eq!(received, set);
}
