//! An instance leaves de-identified.

use pacs::deid::{
    pacs_deidentified, pacs_deidentifier, pacs_deidentifier_free, pacs_deidentifier_new,
    pacs_instance_deidentify,
};

use super::storing::whole;
use super::*;

const FILE: i32 = 0;
const DATA_SET: i32 = 1;
const SETTINGS: &str = "project = 'one'\nsecret = 'a secret of the test'\n[profile]\ndates = 'shift'";

impl Context {
    fn deidentifier(&self, settings: &str) -> *mut pacs_deidentifier {
        let mut made = ptr::null_mut();
        ok!(
            self.0,
            pacs_deidentifier_new(self.0, c(settings).as_ptr(), &mut made)
        );
        made
    }

    fn deidentified(
        &self,
        instance: *const pacs_instance,
        by: *const pacs_deidentifier,
        form: i32,
    ) -> (pacs_deidentified, Vec<u8>) {
        let (mut what, mut reader) = (sized!(pacs_deidentified), ptr::null_mut());
        ok!(
            self.0,
            pacs_instance_deidentify(instance, ptr::null(), by, form, &mut what, &mut reader)
        );
        (what, whole(self, reader))
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn an_instance_is_read_without_what_names_the_patient_and_the_same_each_time() {
    let context = Context::new();
    let engine = context.engine();
    let stored = file(1, 1);
    context.store(engine, &stored);
    context.store(engine, &file(1, 2));
    let (first, second) = (
        context.lookup(engine, "1.2.1.1.1"),
        context.lookup(engine, "1.2.1.1.2"),
    );
    let by = context.deidentifier(SETTINGS);
    let (what, file) = context.deidentified(first, by, FILE);
    // In Latin 1 one letter of the name is no UTF-8.
    for trace in ["ller^Patient1", "1.2.1.1.1"] {
        assert!(contains(&stored, trace) && !contains(&file, trace), "{trace}");
    }
    let pseudonym = text(&what.patient);
    assert!(!pseudonym.is_empty() && contains(&file, &pseudonym));
    assert!(text(&what.instance).starts_with("2.25.") && contains(&file, &text(&what.instance)));
    assert_eq!(text(&what.sop_class), uids::CT_IMAGE_STORAGE);
    assert_eq!(text(&what.transfer_syntax), uids::EXPLICIT_VR_LITTLE_ENDIAN);

    let (again, data_set) = context.deidentified(first, by, DATA_SET);
    assert_eq!(text(&again.instance), text(&what.instance));
    assert!(file.ends_with(&data_set) && file.len() > data_set.len());
    assert_eq!(&file[128..132], b"DICM");
    // What belongs together still does.
    let (other, _) = context.deidentified(second, by, FILE);
    assert_eq!(
        (text(&other.study), text(&other.patient)),
        (text(&what.study), pseudonym.clone())
    );
    assert_ne!(text(&other.instance), text(&what.instance));
    // In another project it is somebody else.
    let elsewhere = context.deidentifier(&SETTINGS.replace("one", "two"));
    let (foreign, _) = context.deidentified(first, elsewhere, FILE);
    assert_ne!(text(&foreign.patient), pseudonym);
    // It is stored as it was, and can be stored as what it has become.
    assert_eq!(context.read(engine, "1.2.1.1.1", 2), stored);
    context.store(engine, &file);
    assert_eq!(context.found(engine, STUDY, &[(PATIENT_ID, "")], PATIENT_ID), {
        let mut ids = ["P1".to_owned(), pseudonym];
        ids.sort();
        ids
    });
    for by in [by, elsewhere] {
        ok!(context.0, pacs_deidentifier_free(by));
    }
    for instance in [first, second] {
        ok!(context.0, pacs_instance_free(instance));
    }
    context.close(engine);
}

#[test]
fn a_reader_outlives_what_it_was_opened_by() {
    let context = Context::new();
    let engine = context.engine();
    context.store(engine, &file(1, 1));
    let instance = context.lookup(engine, "1.2.1.1.1");
    let (by, mut reader) = (context.deidentifier(SETTINGS), ptr::null_mut());
    ok!(
        context.0,
        pacs_instance_deidentify(instance, ptr::null(), by, FILE, ptr::null_mut(), &mut reader)
    );
    ok!(context.0, pacs_deidentifier_free(by));
    ok!(context.0, pacs_instance_free(instance));
    assert_eq!(&whole(&context, reader)[128..132], b"DICM");
    ok!(context.0, pacs_deidentifier_free(ptr::null_mut()));
    context.close(engine);
}

#[test]
fn settings_that_can_not_be_are_refused_with_the_line_and_without_the_secret() {
    let context = Context::new();
    for (settings, said) in [
        ("secret = 'a secret of the test'", "missing field `project`"),
        ("project = 'p'\nsecret = 'a secret of the test", "line 2"),
        ("project = 'p'\nsecret = 'short'", "at least 16 bytes"),
        (
            "project = 'p'\nsecret = 'a secret of the test'\n[profile]\ndates = 'never'",
            "line 4",
        ),
        (
            "project = 'p'\nsecret = 'a secret of the test'\nprofile = 'a secret'",
            "line 3",
        ),
    ] {
        let mut made = ptr::null_mut();
        let answered = status!(pacs_deidentifier_new(context.0, c(settings).as_ptr(), &mut made));
        let error = last_error(context.0);
        assert_eq!(answered, PACS_INVALID, "{error}");
        assert!(error.contains(said) && !error.contains("a secret of"), "{error}");
        assert!(made.is_null());
    }
}

#[test]
fn misuse_of_the_de_identification_is_told() {
    let context = Context::new();
    let engine = context.engine();
    context.store(engine, &file(1, 1));
    let instance = context.lookup(engine, "1.2.1.1.1");
    let by = context.deidentifier(SETTINGS);
    let (mut what, mut reader) = (sized!(pacs_deidentified), ptr::null_mut());
    let mut call = |by: *const pacs_deidentifier, form| {
        status!(pacs_instance_deidentify(
            instance,
            ptr::null(),
            by,
            form,
            &mut what,
            &mut reader
        ))
    };
    assert_eq!(call(ptr::null(), FILE), PACS_BAD_HANDLE);
    assert_eq!(call(instance.cast(), FILE), PACS_BAD_HANDLE);
    for form in [2, 3, -1] {
        assert_eq!(call(by, form), PACS_BAD_ARGUMENT);
    }
    assert!(reader.is_null() && what.patient[0] == 0);
    what.struct_size = 3;
    let short = status!(pacs_instance_deidentify(
        instance,
        ptr::null(),
        by,
        FILE,
        &mut what,
        &mut reader
    ));
    assert_eq!(short, PACS_BAD_ARGUMENT);
    ok!(context.0, pacs_deidentifier_free(by));
    assert_eq!(
        status!(pacs_instance_deidentify(
            instance,
            ptr::null(),
            by,
            FILE,
            ptr::null_mut(),
            &mut reader
        )),
        PACS_BAD_HANDLE
    );
    ok!(context.0, pacs_instance_free(instance));
    context.close(engine);
}
