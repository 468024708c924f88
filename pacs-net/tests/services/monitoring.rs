//! What a monitor is told.

use pacs_net::scp::Monitor;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;

/// Tells each event in a word or two.
#[derive(Debug)]
struct Recorder(UnboundedSender<String>);

impl Recorder {
    fn tell(&self, event: impl Into<String>) {
        // Whoever listened may have heard enough.
        let _ = self.0.send(event.into());
    }
}

impl Monitor for Recorder {
    fn association_accepted(&self) {
        self.tell("accepted");
    }

    fn association_rejected(&self) {
        self.tell("rejected");
    }

    fn association_ended(&self) {
        self.tell("ended");
    }

    fn operation_ended(&self, command: CommandField, status: Status, _: Duration) {
        self.tell(format!("{command} {status}"));
    }
}

async fn hears(events: &mut UnboundedReceiver<String>, expected: &[&str]) {
    for event in expected {
        assert_eq!(events.recv().await.as_deref(), Some(*event));
    }
}

#[tokio::test]
async fn a_monitor_is_told_of_associations_and_operations() {
    let (sender, mut events) = unbounded_channel();
    let options = ScpOptions {
        monitor: Some(Arc::new(Recorder(sender))),
        ..ScpOptions::new(title("PACS"))
    };
    let limits = Limits {
        associations_max: 1,
        ..Limits::default()
    };
    let server = Running::start_as(options, Options::default(), limits).await;
    let proposal = Proposal::new(title("TESTER"), title("PACS"))
        .with_context(uid(uids::VERIFICATION), [&uid(uids::IMPLICIT_VR_LITTLE_ENDIAN)]);
    let connect = || pacs_net::transport::connect_tcp(server.address, &proposal);
    let client = Client::start(connect().await.unwrap(), Arc::new(pacs_net::dimse::NoServices));
    hears(&mut events, &["accepted"]).await;
    client.echo().await.unwrap();
    hears(&mut events, &["C-ECHO-RQ 0000H (Success)"]).await;
    assert!(connect().await.is_err());
    hears(&mut events, &["rejected"]).await;
    client.release().await.unwrap();
    hears(&mut events, &["ended"]).await;
}

fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}
