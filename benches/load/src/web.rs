//! The server over HTTP.

use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use twox_hash::XxHash3_128;

use crate::frames::{self, Frames};

type Outcome<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const BOUNDARY: &str = "load-bench";

/// A client of the server that listens there: `127.0.0.1:8080`.
pub(crate) struct Web {
    pub(crate) address: String,
}

impl Web {
    /// Stores the instance, made while it is sent; answers its length.
    pub(crate) async fn store(&self, frames: &Frames) -> Outcome<u64> {
        let head = format!("--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n");
        let end = format!("\r\n--{BOUNDARY}--\r\n");
        let meta = frames.meta()?;
        let length = frames.data_set()?.map(|piece| piece.len() as u64).sum::<u64>() + meta.len() as u64;
        let pieces = [Bytes::from(head), meta]
            .into_iter()
            .chain(frames.data_set()?)
            .chain([Bytes::from(end)]);
        let pieces = stream::iter(pieces.map(|piece| Ok::<_, std::convert::Infallible>(Frame::data(piece))));
        let media_type = format!("multipart/related; type=\"application/dicom\"; boundary={BOUNDARY}");
        let request = Request::post("/dicom-web/studies")
            .header("Host", &self.address)
            .header("Accept", "application/dicom+json")
            .header("Content-Type", media_type)
            .body(StreamBody::new(pieces))?;
        let response = self.ask(request).await?;
        response.into_body().collect().await?;
        Ok(length)
    }

    /// One frame, in a response of its own.
    pub(crate) async fn frame(&self, number: u64, accept: &str) -> Outcome<Bytes> {
        let response = self.get(&format!("/frames/{number}"), accept).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    }

    /// The whole instance: the length of its data set, and its checksum.
    pub(crate) async fn fetch(&self) -> Outcome<(u64, u128)> {
        let response = self.get("", "application/dicom; transfer-syntax=*").await?;
        let mut body = response.into_body();
        let (mut head, mut left) = (BytesMut::new(), None);
        let (mut digest, mut length) = (XxHash3_128::new(), 0);
        while let Some(frame) = body.frame().await {
            let Ok(mut piece) = frame?.into_data() else {
                continue;
            };
            // The group length, behind preamble and prefix, says where the data set begins (PS3.10 7.1).
            if left.is_none() {
                head.extend_from_slice(&piece);
                let Some(says) = head.get(140..144) else { continue };
                let says = u32::from_le_bytes([says[0], says[1], says[2], says[3]]);
                left = Some(144 + says as usize);
                piece = head.split().freeze();
            }
            let skip = left.unwrap_or(0).min(piece.len());
            left = left.map(|left| left - skip);
            digest.write(&piece[skip..]);
            length += (piece.len() - skip) as u64;
        }
        Ok((length, digest.finish_128()))
    }

    /// Deliveries that wait for a destination.
    pub(crate) async fn waiting(&self, destination: &str) -> Outcome<u64> {
        let request = Request::get("/outbox")
            .header("Host", &self.address)
            .body(Empty::<Bytes>::new())?;
        let body = self.ask(request).await?.into_body().collect().await?.to_bytes();
        let each: Vec<serde_json::Value> = serde_json::from_slice(&body)?;
        let one = each.iter().find(|one| one["destination"] == destination);
        Ok(one.and_then(|one| one["waiting"].as_u64()).unwrap_or(0))
    }

    /// `hold` or `release` of a destination.
    pub(crate) async fn tell_outbox(&self, destination: &str, what: &str) -> Outcome<()> {
        let request = Request::post(format!("/outbox/{destination}/{what}"))
            .header("Host", &self.address)
            .body(Empty::<Bytes>::new())?;
        self.ask(request).await.map(drop)
    }

    async fn get(&self, of_instance: &str, accept: &str) -> Outcome<Response<Incoming>> {
        let (study, series, instance) = (frames::STUDY, frames::SERIES, frames::INSTANCE);
        let path = format!("/dicom-web/studies/{study}/series/{series}/instances/{instance}{of_instance}");
        let request = Request::get(path)
            .header("Host", &self.address)
            .header("Accept", accept)
            .body(Empty::<Bytes>::new())?;
        self.ask(request).await
    }

    /// On a connection of its own; anything but 200 and 204 is an error.
    async fn ask<B>(&self, request: Request<B>) -> Outcome<Response<Incoming>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driven = tokio::spawn(connection);
        let asked = format!("{} {}", request.method(), request.uri());
        let response = sender.send_request(request).await?;
        match response.status().as_u16() {
            200 | 204 => Ok(response),
            status => {
                driven.abort();
                Err(format!("{asked} is answered {status}").into())
            }
        }
    }
}

/// Length and checksum of the data set that was sent.
pub(crate) fn sent(frames: &Frames) -> Outcome<(u64, u128)> {
    let (mut digest, mut length) = (XxHash3_128::new(), 0);
    for piece in frames.data_set()? {
        digest.write(&piece);
        length += piece.len() as u64;
    }
    Ok((length, digest.finish_128()))
}
