//! A store that fails.

use std::fmt;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use pacs_core::testkit::random::Random;

/// How a store fails, of 1000 requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Nothing happens.
    pub(crate) refused: u32,
    /// It is done, and the answer is lost.
    pub(crate) unanswered: u32,
    /// It looks as if nothing happened, and is done some requests later.
    pub(crate) late: u32,
    /// It is not given back.
    pub(crate) unread: u32,
}

/// A store in memory that fails.
pub(crate) struct Faulty {
    inside: Arc<dyn ObjectStore>,
    state: Mutex<State>,
}

struct State {
    random: Random,
    faults: Faults,
    late: Vec<(Path, PutPayload, PutOptions)>,
    gets: usize,
}

impl Faulty {
    pub(crate) fn new(inside: Arc<dyn ObjectStore>, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            inside,
            state: Mutex::new(State {
                random: Random::new(seed),
                faults: Faults::default(),
                late: Vec::new(),
                gets: 0,
            }),
        })
    }

    pub(crate) fn set(&self, faults: Faults) {
        self.state.lock().expect("nobody panicked").faults = faults;
    }

    /// How often something was read so far.
    pub(crate) fn gets(&self) -> usize {
        self.state.lock().expect("nobody panicked").gets
    }

    fn happens(&self, rate: impl Fn(&Faults) -> u32) -> bool {
        let mut state = self.state.lock().expect("nobody panicked");
        let rate = rate(&state.faults);
        state.random.below(1000) < u64::from(rate)
    }

    /// What was late arrives, or some of it.
    async fn arrive(&self) {
        loop {
            let next = {
                let mut state = self.state.lock().expect("nobody panicked");
                match state.random.below(3) {
                    0 => state.late.pop(),
                    _ => None,
                }
            };
            let Some((path, payload, options)) = next else {
                return;
            };
            let _ = self.inside.put_opts(&path, payload, options).await;
        }
    }
}

fn away() -> object_store::Error {
    object_store::Error::Generic {
        store: "faulty",
        source: "away".into(),
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.arrive().await;
        if self.happens(|faults| faults.refused) {
            return Err(away());
        }
        // Only what is conditional can be late without harm: a store's client gives up the others when it is closed.
        if matches!(options.mode, PutMode::Create) && self.happens(|faults| faults.late) {
            let mut state = self.state.lock().expect("nobody panicked");
            state.late.push((path.clone(), payload, options));
            return Err(away());
        }
        let done = self.inside.put_opts(path, payload, options).await;
        match self.happens(|faults| faults.unanswered) {
            true => Err(away()),
            false => done,
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        if self.happens(|faults| faults.refused) {
            return Err(away());
        }
        self.inside.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.arrive().await;
        if self.happens(|faults| faults.refused) || self.happens(|faults| faults.unread) {
            return Err(away());
        }
        self.state.lock().expect("nobody panicked").gets += 1;
        self.inside.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        match self.happens(|faults| faults.refused) {
            true => futures::stream::once(std::future::ready(Err(away()))).boxed(),
            false => self.inside.delete_stream(paths),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.happens(|faults| faults.refused) {
            true => futures::stream::once(std::future::ready(Err(away()))).boxed(),
            false => self.inside.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        match self.happens(|faults| faults.refused) {
            true => Err(away()),
            false => self.inside.list_with_delimiter(prefix).await,
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inside.copy_opts(from, to, options).await
    }
}
