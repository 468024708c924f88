//! Event channels (PS3.18 8.10): events as text frames of a WebSocket, each in the DICOM JSON Model.
//!
//! All connections of one AE title get the same events. Those that nobody was there for are kept, and come first. An
//! event is taken out of the queue when one of the connections has sent it; one that is too slow is closed.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts, Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use pacs_core::workflow::ups::{Event, EventQueue, QueuedEvent, UPS_PUSH, Ups};
use pacs_core::{AeTitle, Permission, Result};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::time::MissedTickBehavior;

use super::super::access::source;
use super::super::http::origin;
use super::super::http::problem::{Problem, WebResult};
use super::super::{Segments, Web};
use super::{to_json, ups};

/// Connections at once; a further one is answered 503. Each has a task and a few KiB.
const CONNECTIONS_MAX: usize = 500;

/// Events that wait for one connection. One that is further behind is closed.
const WAITING_MAX: usize = 256;

/// Events that are read from the queue at once: fewer than may wait.
const AT_ONCE: usize = 64;

/// How long one frame may take to go out.
const SEND_PATIENCE: Duration = Duration::from_secs(30);

/// How often a client is asked whether it is there. One that says nothing between two is gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How often the queue is looked at though nobody told of an event: another node may have put one.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// The longest message that is read of a client, which has nothing to say.
const MESSAGE_LENGTH_MAX_BYTES: usize = 4 * 1024;

/// The channels that are open.
pub(in crate::web) struct Channels {
    open: Arc<Mutex<HashMap<AeTitle, Arc<Channel>>>>,
    slots: Arc<Semaphore>,
}

impl Default for Channels {
    fn default() -> Self {
        Self {
            open: Arc::default(),
            slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        }
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels").finish_non_exhaustive()
    }
}

/// All connections of one AE title.
struct Channel {
    frames: broadcast::Sender<Frame>,
    /// The last frame that one of them has sent.
    sent: watch::Sender<u64>,
    /// One of them has left, perhaps with frames that the others don't have.
    left: Notify,
}

#[derive(Clone)]
struct Frame {
    number: u64,
    text: Utf8Bytes,
}

type Open = HashMap<AeTitle, Arc<Channel>>;

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Channels {
    /// Joins the channel of an AE title, which begins with the first who does.
    fn join(&self, ups: &Ups, ae_title: AeTitle) -> (Arc<Channel>, broadcast::Receiver<Frame>) {
        let mut open = lock(&self.open);
        if let Some(channel) = open.get(&ae_title) {
            return (Arc::clone(channel), channel.frames.subscribe());
        }
        let (frames, receiver) = broadcast::channel(WAITING_MAX);
        let channel = Arc::new(Channel {
            frames,
            sent: watch::Sender::new(0),
            left: Notify::new(),
        });
        open.insert(ae_title, Arc::clone(&channel));
        let pump = Pump {
            ups: ups.clone(),
            ae_title,
            channel: Arc::clone(&channel),
            open: Arc::clone(&self.open),
        };
        tokio::spawn(pump.run());
        (channel, receiver)
    }
}

/// Says that a connection is no more, also one that never came about.
struct Leaving(Arc<Channel>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.left.notify_one();
    }
}

/// Moves events from the queue to the connections.
struct Pump {
    ups: Ups,
    ae_title: AeTitle,
    channel: Arc<Channel>,
    open: Arc<Mutex<Open>>,
}

impl Pump {
    async fn run(self) {
        let wake = Arc::new(Notify::new());
        let (woken, ae_title) = (Arc::clone(&wake), self.ae_title);
        let _watching = self.ups.watch_events(move |ae| {
            if *ae == ae_title {
                woken.notify_one();
            }
        });
        let mut number = 0;
        loop {
            tokio::select! {
                () = self.channel.frames.closed() => {}
                // Whoever else delivers the events of this AE title goes first.
                queue = self.ups.queue_of(&self.ae_title) => {
                    if let Err(error) = self.deliver(&queue, &wake, &mut number).await {
                        tracing::warn!(%error, "events of procedure steps could not be read");
                        tokio::time::sleep(LOOK_INTERVAL).await;
                    }
                }
            }
            // Nobody joins meanwhile.
            let mut open = lock(&self.open);
            if self.channel.frames.receiver_count() == 0 {
                open.remove(&self.ae_title);
                return;
            }
        }
    }

    /// Until no connection is left.
    async fn deliver(&self, queue: &EventQueue, wake: &Notify, number: &mut u64) -> Result<()> {
        let gone = self.channel.frames.closed();
        tokio::pin!(gone);
        loop {
            let waiting = queue.next(AT_ONCE).await?;
            if waiting.is_empty() {
                tokio::select! {
                    () = &mut gone => return Ok(()),
                    () = wake.notified() => {}
                    () = tokio::time::sleep(LOOK_INTERVAL) => {}
                }
                continue;
            }
            let first = *number + 1;
            *number += waiting.len() as u64;
            let mut sent = self.channel.sent.subscribe();
            // Those that are told already are passed over by who has sent them.
            for (QueuedEvent { event, .. }, number) in waiting.iter().zip(first..) {
                let text = text(event, number).into();
                // Where nobody is left they stay in the queue.
                if self.channel.frames.send(Frame { number, text }).is_err() {
                    return Ok(());
                }
            }
            let is_left = tokio::select! {
                () = &mut gone => return Ok(()),
                _ = sent.wait_for(|last| *last >= *number) => false,
                () = self.channel.left.notified() => true,
            };
            let mut done = &waiting[..];
            if is_left {
                // The rest is read again, for those who joined since: with the same numbers.
                let last = (*sent.borrow()).clamp(first - 1, *number);
                done = &waiting[..(last + 1 - first) as usize];
                *number = last;
            }
            queue.acknowledge(done).await?;
        }
    }
}

/// An event report (8.10.5, 11.13): the elements of the command, then the event information.
fn text(event: &Event, number: u64) -> String {
    // A message ID has 16 bits.
    let message_id = number % 0xFFFF + 1;
    let mut text = format!(
        "{{\"00000002\":{{\"vr\":\"UI\",\"Value\":[\"{UPS_PUSH}\"]}},\
         \"00000110\":{{\"vr\":\"US\",\"Value\":[{message_id}]}},\
         \"00001000\":{{\"vr\":\"UI\",\"Value\":[\"{}\"]}},\
         \"00001002\":{{\"vr\":\"US\",\"Value\":[{}]}}",
        event.sop_instance,
        event.event_type.id(),
    );
    let attributes = String::from_utf8(to_json(&event.attributes)).unwrap_or_default();
    let attributes = attributes.trim_start_matches('{');
    if attributes.len() > 1 {
        text.push(',');
    }
    text.push_str(attributes);
    text
}

/// `GET /ws/subscribers/{aetitle}`
pub(super) async fn open(
    State(web): State<Arc<Web>>,
    Segments(path): Segments,
    request: Request,
) -> WebResult {
    let ae_title = AeTitle::parse(path.first().map_or("", String::as_str))?;
    let source = source(request.extensions());
    if !origin::is_allowed(request.headers(), &web.options.origins) {
        let why = "a page of this origin may not open an event channel";
        return Err(Problem::new(StatusCode::FORBIDDEN, why));
    }
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade =
        upgrade.map_err(|_| Problem::bad_request("an event channel is a WebSocket over HTTP/1.1"))?;
    let Ok(slot) = Arc::clone(&web.channels.slots).try_acquire_owned() else {
        return Err(Problem::unavailable("too many event channels are open"));
    };
    // Before it is answered: a client that has its answer gets every event from then on.
    let (channel, receiver) = web.channels.join(ups(&web)?, ae_title);
    let upgrade = upgrade
        .max_message_size(MESSAGE_LENGTH_MAX_BYTES)
        .max_frame_size(MESSAGE_LENGTH_MAX_BYTES);
    let leaving = Leaving(Arc::clone(&channel));
    let pacs = web.pacs.clone();
    let may = move || pacs.permit_all(&source, Permission::Work).is_ok();
    let response: Response = upgrade.on_upgrade(move |socket| async move {
        let _leaving = leaving;
        serve(socket, &channel, receiver, slot, may).await;
    });
    Ok(response.into_response())
}

async fn serve(
    mut socket: WebSocket,
    channel: &Channel,
    mut frames: broadcast::Receiver<Frame>,
    _slot: OwnedSemaphorePermit,
    may: impl Fn() -> bool,
) {
    let mut pings = tokio::time::interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first is at once, and says nothing of who is there.
    let mut is_there = true;
    let mut last = 0;
    loop {
        tokio::select! {
            frame = frames.recv() => match frame {
                // One that was sent here already comes again for others.
                Ok(frame) if frame.number <= last => {}
                Ok(frame) => {
                    last = frame.number;
                    if !send(&mut socket, Message::Text(frame.text)).await {
                        return;
                    }
                    channel.sent.send_modify(|last| *last = frame.number.max(*last));
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    tracing::info!("an event channel was closed: its client is too slow");
                    let frame = CloseFrame { code: close_code::AGAIN, reason: Utf8Bytes::from_static("too slow") };
                    send(&mut socket, Message::Close(Some(frame))).await;
                    return;
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
            message = socket.recv() => match message {
                // Pings are answered by the library; what else a client says means nothing.
                Some(Ok(message)) if !matches!(message, Message::Close(_)) => is_there = true,
                _ => return,
            },
            _ = pings.tick() => {
                // Its token may have ended.
                if !may() || !is_there || !send(&mut socket, Message::Ping(Default::default())).await {
                    return;
                }
                is_there = false;
            }
        }
    }
}

/// Whether it went out in time.
async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(
        tokio::time::timeout(SEND_PATIENCE, socket.send(message)).await,
        Ok(Ok(()))
    )
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use dicom_dictionary_std::tags;
    use pacs_core::workflow::ups::{EventType, Subscription};
    use pacs_core::{DataSet, Uid};

    use super::*;

    #[test]
    fn an_event_is_json_with_the_elements_of_its_command() {
        let mut attributes = DataSet::new();
        attributes.put_text(tags::PROCEDURE_STEP_STATE, VR::CS, "SCHEDULED");
        let mut event = Event {
            sop_instance: Uid::constant("1.2.3"),
            event_type: EventType::StateReport,
            attributes,
        };
        let read = |event: &Event| serde_json::from_str::<serde_json::Value>(&text(event, 1)).unwrap();
        let json = read(&event);
        assert_eq!(json["00001000"]["Value"][0], "1.2.3");
        assert_eq!(json["00001002"]["Value"][0], 1);
        assert_eq!(json["00741000"]["Value"][0], "SCHEDULED");
        event.attributes = DataSet::new();
        assert_eq!(read(&event).as_object().unwrap().len(), 4);
    }

    #[tokio::test]
    async fn what_one_connection_leaves_unsent_comes_to_those_that_joined_since() {
        let ups = Ups::new(Arc::new(pacs_store::MemoryLedger::new()));
        let (channels, ae) = (Channels::default(), AeTitle::parse("AE").unwrap());
        let (channel, mut first) = channels.join(&ups, ae);
        let leaving = Leaving(channel);
        ups.subscribe(&ae, &Subscription::Global, false).await.unwrap();
        ups.report_status(false).await.unwrap();
        let next = async |frames: &mut broadcast::Receiver<Frame>| {
            let frame = tokio::time::timeout(Duration::from_secs(60), frames.recv()).await;
            frame.unwrap().unwrap()
        };
        let lost = next(&mut first).await;
        let (_, mut second) = channels.join(&ups, ae);
        drop((first, leaving));
        let again = next(&mut second).await;
        assert_eq!((again.number, again.text), (lost.number, lost.text));
    }
}
