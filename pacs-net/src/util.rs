//! What several rooms of the crate use.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use pacs_core::Uid;
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::sync::Notify;

/// Connects to another one.
///
/// Where nobody listens on a port that the system also gives to who connects, the connection may come about from that port to
/// itself (both sides open at once, RFC 9293 3.5): whatever were sent would count as received, and the port would be taken for
/// who is to listen on it.
pub(crate) async fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    another(TcpStream::connect(address).await?)
}

fn another(stream: TcpStream) -> io::Result<TcpStream> {
    match stream.local_addr()? == stream.peer_addr()? {
        true => Err(io::ErrorKind::ConnectionRefused.into()),
        false => Ok(stream),
    }
}

/// Set once, awaited by many.
#[derive(Default)]
pub(crate) struct Signal {
    set: AtomicBool,
    notify: Notify,
}

impl Signal {
    pub(crate) fn set(&self) {
        self.set.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    pub(crate) async fn wait(&self) {
        // Made before the flag is read, so that a `set` between the two is not missed.
        let notified = self.notify.notified();
        if !self.is_set() {
            notified.await;
        }
    }
}

/// What a peer says, without these values, which identify somebody, nor control characters, and cut to what fits a line.
pub(crate) fn without(text: &str, values: impl IntoIterator<Item = String>) -> String {
    const TEXT_LENGTH_MAX_CHARS: usize = 200;
    let mut said: String = text.chars().filter(|c| !c.is_control()).collect();
    // Shorter ones are no names, and would tear words apart.
    let mut values: Vec<_> = values
        .into_iter()
        .filter(|value| value.chars().count() > 2)
        .collect();
    // Where one is within another, the longer is taken out first.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    for value in values {
        said = said.replace(&value, "…");
    }
    // Last: no part of a value is left at the end.
    said.chars().take(TEXT_LENGTH_MAX_CHARS).collect()
}

/// Sets of UIDs by digest: a million of them take some 30 MiB.
#[derive(Default)]
pub(crate) struct Seen {
    states: [RandomState; 2],
    digests: HashSet<u128>,
}

impl Seen {
    fn digest(&self, uid: &Uid) -> u128 {
        let [high, low] = self
            .states
            .each_ref()
            .map(|state| u128::from(state.hash_one(uid)));
        high << 64 | low
    }

    /// Whether it was not there before.
    pub(crate) fn insert(&mut self, uid: &Uid) -> bool {
        let digest = self.digest(uid);
        self.digests.insert(digest)
    }

    pub(crate) fn contains(&self, uid: &Uid) -> bool {
        self.digests.contains(&self.digest(uid))
    }

    pub(crate) fn len(&self) -> usize {
        self.digests.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_to_itself_is_none() {
        let socket = tokio::net::TcpSocket::new_v4().expect("can be made");
        socket
            .bind(([127, 0, 0, 1], 0).into())
            .expect("a port can be had");
        let address = socket.local_addr().expect("it has an address");
        let itself = socket.connect(address).await.expect("it connects to itself");
        let error = another(itself).expect_err("it is none");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("listens");
        let address = listener.local_addr().expect("it has an address");
        connect(address).await.expect("another one is there");
    }

    #[test]
    fn nothing_of_a_value_is_left_wherever_the_text_is_cut() {
        for before in 0..210 {
            let text = format!("{}Morgenstern^Anna\n refused", "x".repeat(before));
            let values = ["Anna", "Morgenstern", "Morgenstern^Anna", "a"].map(str::to_owned);
            let said = without(&text, values);
            assert!(said.chars().count() <= 200);
            assert!(!said.contains(['M', 'A', '\n']), "{said}");
        }
        assert_eq!(without("no such AE", ["AE".to_owned()]), "no such AE");
    }
}
