//! Who may do what, where a call says who asks.

use pacs::amend::{pacs_amended, pacs_engine_amend};
use pacs::instance::pacs_instance_header;
use pacs::store::pacs_source;

use super::*;

const CONFIGURATION: &str = "archive = 'memory'
    [access]
    [[access.role]]
    name = 'may-store'
    allow = ['store']
    [[access.role]]
    name = 'may-find'
    allow = ['find']
    [[access.role]]
    name = 'may-retrieve'
    allow = ['retrieve']
    [[access.role]]
    name = 'may-amend'
    allow = ['amend']
    [[access.role]]
    name = 'some'
    allow = ['find', 'retrieve']
    only = { StudyInstanceUID = '1.2.1' }
    [[access.peer]]
    ae-title = 'KNOWN'
    roles = ['may-find']";

#[test]
fn a_call_for_somebody_does_what_they_may_and_one_of_the_program_itself_all() {
    let context = Context::new();
    let engine = context.engine_with(CONFIGURATION, ptr::null());
    let (first, second) = (file(1, 1), file(2, 1));
    let stored = context.store(engine, &first);
    context.store(engine, &second);
    let instance = context.lookup(engine, &text(&stored.instance));
    // By user and roles, or by an AE title.
    let answers = |user: Option<&str>, title: Option<&str>| {
        let (name, roles, title) = (c("anna"), c(user.unwrap_or_default()), title.map(c));
        let mut source = sized!(pacs_source);
        if user.is_some() {
            (source.user, source.roles) = (name.as_ptr(), roles.as_ptr());
        }
        if let Some(title) = &title {
            source.calling_ae = title.as_ptr();
        }
        let keys = context.keys(&[(STUDY_UID, "")]);
        let mut matches = ptr::null_mut();
        let find = status!(pacs_find(engine, &source, STUDY, keys, 0, &mut matches));
        ok!(context.0, pacs_data_set_free(keys));
        let mut found = 0;
        if find == PACS_OK {
            let mut set = ptr::null_mut();
            while status!(pacs_matches_next(matches, &mut set)) == PACS_OK {
                found += 1;
                ok!(context.0, pacs_data_set_free(set));
            }
            ok!(context.0, pacs_matches_free(matches));
        }
        let mut header = ptr::null_mut();
        let retrieve = status!(pacs_instance_header(instance, &source, &mut header));
        if retrieve == PACS_OK {
            ok!(context.0, pacs_data_set_free(header));
        }
        let store = status!(pacs_store(
            engine,
            &source,
            first.as_ptr().cast(),
            first.len(),
            ptr::null_mut()
        ));
        let changes = context.keys(&[(PATIENT_NAME, "New^Name")]);
        let uid = c("1.2.1");
        let mut amended = sized!(pacs_amended);
        let amend = status!(pacs_engine_amend(
            engine,
            &source,
            STUDY,
            uid.as_ptr(),
            changes,
            None,
            ptr::null_mut(),
            &mut amended
        ));
        ok!(context.0, pacs_data_set_free(changes));
        (
            [find, retrieve, store, amend].map(|status| status == PACS_OK),
            found,
        )
    };
    assert_eq!(answers(None, None), ([false; 4], 0));
    assert_eq!(answers(None, Some("KNOWN")), ([true, false, false, false], 2));
    assert_eq!(answers(Some("may-find"), None), ([true, false, false, false], 2));
    assert_eq!(
        answers(Some("may-retrieve"), None),
        ([false, true, false, false], 0)
    );
    assert_eq!(answers(Some("may-store"), None), ([false, false, true, false], 0));
    assert_eq!(answers(Some("may-amend"), None), ([false, false, false, true], 0));
    assert_eq!(
        answers(Some("some, may-store"), None),
        ([true, true, true, false], 1)
    );
    // A user is who they are, wherever they come from.
    assert_eq!(answers(Some(""), Some("KNOWN")), ([false; 4], 0));
    let other = context.lookup(
        engine,
        &context.found(
            engine,
            INSTANCE,
            &[(STUDY_UID, "1.2.2"), (INSTANCE_UID, "")],
            INSTANCE_UID,
        )[0],
    );
    let (name, roles) = (c("anna"), c("some"));
    let mut source = sized!(pacs_source);
    (source.user, source.roles) = (name.as_ptr(), roles.as_ptr());
    let mut header = ptr::null_mut();
    assert_eq!(
        status!(pacs_instance_header(other, &source, &mut header)),
        PACS_REFUSED
    );
    assert!(last_error(context.0).contains("not allowed to retrieve"));
    for one in [instance, other] {
        ok!(context.0, pacs_instance_free(one));
    }
    ok!(context.0, pacs_engine_close(engine));
}
