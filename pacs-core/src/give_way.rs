//! [`give_way`]: long work lets others go first now and then.

use std::future::poll_fn;
use std::task::Poll;

/// Lets others have a turn: those that run on the same task, and on the same thread. What is always ready keeps it for
/// itself otherwise.
pub(crate) async fn give_way() {
    let mut given = false;
    poll_fn(|context| match std::mem::replace(&mut given, true) {
        true => Poll::Ready(()),
        false => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}
