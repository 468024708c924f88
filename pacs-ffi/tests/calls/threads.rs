//! Many threads on one engine, and two engines in one process.

use pacs::engine::{pacs_engine_totals, pacs_totals};

use super::*;

/// A handle, for another thread.
#[derive(Clone, Copy)]
struct Shared(usize);

#[test]
fn eight_threads_store_find_and_read_on_one_engine_beside_another_one() {
    let context = Context::new();
    let engines = [context.engine(), context.engine()];
    let shared = engines.map(|engine| Shared(engine as usize));
    let raw = Shared(context.0 as usize);
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let engine = shared[usize::from(thread % 4 == 3)];
            scope.spawn(move || {
                // The context ends elsewhere.
                let context = std::mem::ManuallyDrop::new(Context(raw.0 as *mut pacs_context));
                let engine = engine.0 as *mut pacs_engine;
                for number in 1..=25 {
                    let study = thread + 1;
                    context.store(engine, &file(study, number));
                    let uid = format!("1.2.{study}.1.{number}");
                    let found = context.found(engine, INSTANCE, &[(INSTANCE_UID, &uid)], INSTANCE_UID);
                    assert_eq!(found, std::slice::from_ref(&uid));
                    assert!(context.read(engine, &uid, 0).len() > 500);
                }
            });
        }
    });
    let counts = engines.map(|engine| {
        let mut totals = sized!(pacs_totals);
        ok!(context.0, pacs_engine_totals(engine, &mut totals));
        totals.instances
    });
    assert_eq!(counts, [150, 50]);
    for engine in engines {
        context.close(engine);
    }
}
