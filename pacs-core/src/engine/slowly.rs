//! Looking at what is deflated in a way that leaves others their time.

use std::time::Duration;

use futures_timer::Delay;

use crate::dataset::scan::Scanner;
use crate::error::Result;
use crate::give_way::give_way;

/// What is deflated grows up to a thousandfold: so much of it is looked at before others have their turn.
const AT_ONCE_BYTES: usize = 1024;

/// What grows more than so many times is hardly an image, unless an empty one.
const GROWTH_USUAL: u64 = 100;

/// For each MiB that it grows beyond that there is a rest: who sends little and has us inflate much gets some percent of a
/// processor, and an empty image of 100 MiB takes a second and a half.
const REST: Duration = Duration::from_millis(15);
const REST_EACH_BYTES: u64 = 1 << 20;

/// Scans the next bytes of a data set.
///
/// # Errors
/// As of [`Scanner::push`].
pub(super) async fn scan(scanner: &mut Scanner, bytes: &[u8]) -> Result<()> {
    let Some(mut rested) = unusual(scanner) else {
        return scanner.push(bytes);
    };
    for slice in bytes.chunks(AT_ONCE_BYTES) {
        scanner.push(slice)?;
        give_way().await;
        let now = unusual(scanner).unwrap_or(0);
        while rested < now {
            rested += 1;
            Delay::new(REST).await;
        }
    }
    Ok(())
}

/// For how many MiB what is deflated has grown beyond the usual; none where nothing is deflated.
fn unusual(scanner: &Scanner) -> Option<u64> {
    let inflated = scanner.inflated()?;
    Some(inflated.saturating_sub(GROWTH_USUAL * scanner.length()) / REST_EACH_BYTES)
}
