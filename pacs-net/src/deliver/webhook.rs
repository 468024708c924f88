//! [`ToWebhook`]: what happened, as signed JSON over HTTP.

use axum::body::Body;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use hmac::{Hmac, Mac as _};
use http::{Request, header};
use pacs_core::dataset::base64;
use pacs_core::route::{Line, Waiting, What};
use pacs_core::{Error, ErrorKind, Result, Timestamp};
use sha2::Sha256;

use super::http::not_taken;
use super::{Destination, Recipient, Tried, in_order};
use crate::tls::Connector;
use crate::web::http::client::Caller;

/// Tells what happened by POST: a JSON object with `event`, `study`, `instance` or `series` and `at` (milliseconds since
/// 1970), which names nobody. It is signed as Standard Webhooks has it: `webhook-id` (the same when it is told again),
/// `webhook-timestamp` (seconds), and `webhook-signature`, `v1,` and the base64 of the HMAC-SHA256 over the two and the body, with
/// dots between them. A secret that begins with `whsec_` goes on with the base64 of the key; of any other one its bytes
/// are the key.
#[derive(Clone)]
pub struct ToWebhook {
    caller: Caller,
    secret: Vec<u8>,
}

impl std::fmt::Debug for ToWebhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToWebhook")
            .field("uri", self.caller.uri())
            .finish_non_exhaustive()
    }
}

impl ToWebhook {
    /// To this URL, signed with this secret.
    ///
    /// # Errors
    /// `Invalid` when the URL is none, or the secret begins with `whsec_` and no base64 follows.
    pub fn new(url: &str, secret: &str, connector: &Connector) -> Result<Self> {
        let secret = match secret.strip_prefix("whsec_") {
            Some(key) => base64::decode(key).ok_or_else(|| {
                let why = "behind whsec_ the secret is no base64";
                Error::new(ErrorKind::Invalid, "deliver.webhook", why)
            })?,
            None => secret.as_bytes().to_vec(),
        };
        Ok(Self {
            caller: Caller::new(url, connector)?,
            secret,
        })
    }

    async fn tell(&self, line: &Line, waiting: &Waiting) -> Tried {
        let (event, of, at, number) = match waiting.what {
            What::Occasion(trigger, of, at) => (trigger.as_str(), of, at, at.0),
            What::Instance(instance) => {
                let recorded = &waiting.recorded;
                ("instance-stored", instance, recorded.at, recorded.sequence.0)
            }
        };
        let study = line.study();
        let mut body = serde_json::json!({"event": event, "study": study.as_str(), "at": at.0});
        match event {
            "series-stable" => body["series"] = of.as_str().into(),
            "study-stable" | "study-changed" | "order-placed" => {}
            _ => body["instance"] = of.as_str().into(),
        }
        let body = body.to_string();
        let id = format!("{event}-{of}-{number}");
        let sent = Timestamp::now().0 / 1000;
        let request = Request::post(self.caller.uri().clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", sent)
            .header("webhook-signature", self.signature(&id, sent, &body))
            .body(Body::from(body));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Tried::Refused(error.to_string()),
        };
        match self.caller.call(request).await {
            Ok((status, _)) if status.is_success() => Tried::Delivered(String::new()),
            Ok((status, _)) => not_taken(status),
            Err(none) => none.into(),
        }
    }

    fn signature(&self, id: &str, sent: u64, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{sent}.{body}").as_bytes());
        let mut signature = b"v1,".to_vec();
        base64::encode(&mac.finalize().into_bytes(), &mut signature);
        String::from_utf8(signature).expect("base64 is ASCII")
    }
}

impl Destination for ToWebhook {
    /// What it is told names nobody.
    fn recipient(&self) -> Recipient {
        Recipient::Nobody
    }

    fn deliver<'a>(&'a self, line: &'a Line, batch: Vec<Waiting>) -> BoxStream<'a, (Waiting, Tried)> {
        let each = stream::iter(batch).then(move |waiting| async move {
            let tried = self.tell(line, &waiting).await;
            (waiting, tried)
        });
        in_order(each).boxed()
    }
}
