//! Pushing a file: many small calls to one coordinator, gone on with after whatever happened in between.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quorate_common::wire::status::Problem;
use quorate_model::{ArtifactSpec, Reason};
use quorate_proto::v1;
use quorate_proto::v1::artifact_service_client::ArtifactServiceClient;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::source::{Source, signature};
use crate::args::Change;
use crate::client::{Client, is_transient};
use crate::commands::Ctx;
use crate::failure::Failure;
use crate::render::style::safe;
use crate::render::{style, table, talk};

/// How long a push goes on without a byte taken before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it waits for the coordinator that has a part already, before it begins at another one.
const LOYALTY: Duration = Duration::from_secs(5);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest wait for one answer; a coordinator's own limit is 30 s.
const ANSWER: Duration = Duration::from_secs(35);
/// Longest wait when every coordinator is asked how much it has.
const ASK: Duration = Duration::from_secs(3);

/// Pushes a file; gives the artifact as it is catalogued, or as it would be for a dry run.
pub(super) async fn push(
    ctx: &Ctx,
    file: &Path,
    signed: Option<&Path>,
    change: &Change,
) -> Result<v1::Artifact, Failure> {
    let source = Source::open(file)?;
    let signature = signature(file, signed)?;
    let bar = Bar::new("Hashing", source.size());
    let spec = source.spec(signature, |at| bar.set(at))?;
    bar.clear();
    let client = ctx.client()?;
    let upload =
        Upload { client: &client, source: &source, spec: &spec, change, last: Cell::new(Instant::now()) };
    if change.dry_run {
        let request = upload.begin_request(true);
        crate::call!(client, ArtifactServiceClient, begin_upload, request)?;
        let ArtifactSpec { digest, size, file_name, signature } = spec;
        let (digest, signature) = (digest.as_str().to_owned(), signature.unwrap_or_default());
        return Ok(v1::Artifact { digest, size, file_name, signature, ..v1::Artifact::default() });
    }
    upload.run().await
}

/// One push.
struct Upload<'a> {
    client: &'a Client,
    source: &'a Source,
    spec: &'a ArtifactSpec,
    change: &'a Change,
    /// When a byte was taken last.
    last: Cell<Instant>,
}

/// Why a try stopped.
enum Stop {
    /// For good.
    Failed(Failure),
    /// It may go on: the coordinator is away, or has forgotten where it stood.
    Again(Status),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What an answer means for the push. `forgotten`: whether the coordinator may not know any more what was begun.
fn stop(status: Status, forgotten: bool) -> Stop {
    let again = match Problem::from_status(&status).known_reason() {
        // With the same request id the answer is the first one's.
        Some(Reason::OutcomeUnknown) => true,
        Some(Reason::WrongState) => forgotten,
        Some(_) | None => is_transient(&status),
    };
    if again { Stop::Again(status) } else { Stop::Failed(status.into()) }
}

/// The offset that a refused part should have had.
fn expected_offset(status: &Status) -> Option<u64> {
    let problem = Problem::from_status(status);
    (problem.known_reason() == Some(Reason::OffsetMismatch)).then_some(())?;
    problem.why.iter().find(|(subject, _)| subject == "expected")?.1.parse().ok()
}

async fn answered<T>(
    limit: Duration,
    asked: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, asked).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("the coordinator did not answer in time")),
    }
}

impl Upload<'_> {
    fn begin_request(&self, dry: bool) -> v1::BeginUploadRequest {
        let ArtifactSpec { digest, size, file_name, signature } = self.spec;
        let options = v1::ChangeOptions { validate_only: dry, ..v1::ChangeOptions::default() };
        v1::BeginUploadRequest {
            digest: digest.as_str().to_owned(),
            size: *size,
            file_name: file_name.clone(),
            signature: signature.clone().unwrap_or_default(),
            options: Some(options),
        }
    }

    /// Goes on until it is catalogued, refused, or nobody took a byte for long.
    async fn run(&self) -> Result<v1::Artifact, Failure> {
        let bar = Bar::new("Pushing", self.source.size());
        if !bar.is_live() {
            let size = table::bytes(self.source.size());
            talk(&format!("pushing {} ({size}), sha256 {}", safe(&self.spec.file_name), self.spec.digest));
        }
        let options = self.change.options();
        self.choose().await;
        loop {
            let status = match self.once(&bar, &options).await {
                Ok(artifact) => {
                    bar.clear();
                    return Ok(artifact);
                }
                Err(Stop::Failed(failure)) => return Err(failure),
                Err(Stop::Again(status)) => status,
            };
            let idle = self.last.get().elapsed();
            if idle >= PATIENCE {
                return Err(self.client.unreachable(&status));
            }
            if idle >= LOYALTY {
                self.client.advance();
                self.choose().await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes the coordinator that has most of it already. One that does not answer has nothing.
    async fn choose(&self) {
        let asked = self.client.all().map(|(at, channel)| async move {
            let mut client = ArtifactServiceClient::new(channel);
            let begun = answered(ASK, client.begin_upload(self.begin_request(true))).await.ok()?;
            (begun.received_bytes > 0).then_some((begun.received_bytes, at))
        });
        if let Some((_, at)) = join_all(asked).await.into_iter().flatten().max() {
            self.client.choose(at);
        }
    }

    /// One try at the coordinator in use.
    async fn once(&self, bar: &Bar, options: &v1::ChangeOptions) -> Result<v1::Artifact, Stop> {
        let mut client = ArtifactServiceClient::new(self.client.channel());
        let begun = answered(ANSWER, client.begin_upload(self.begin_request(false))).await;
        let begun = begun.map_err(|status| stop(status, false))?;
        if begun.received_bytes > 0 && !begun.complete && !bar.is_live() {
            talk(&format!("going on at {} of {} bytes", begun.received_bytes, self.source.size()));
        }
        self.send(&mut client, &begun, bar).await?;
        self.source.unchanged()?;
        let digest = self.spec.digest.as_str().to_owned();
        let request = v1::FinishUploadRequest { digest, options: Some(options.clone()) };
        let finished = answered(ANSWER, client.finish_upload(request)).await;
        let artifact = finished.map_err(|status| stop(status, true))?.artifact;
        Ok(artifact.unwrap_or_default())
    }

    async fn send(
        &self,
        client: &mut ArtifactServiceClient<Channel>,
        begun: &v1::BeginUploadResponse,
        bar: &Bar,
    ) -> Result<(), Stop> {
        let size = self.source.size();
        let mut offset = begun.received_bytes;
        while offset < size {
            bar.set(offset);
            let data = self.source.part(offset, begun.chunk_bytes.max(1))?;
            let digest = self.spec.digest.as_str().to_owned();
            let request = v1::WriteArtifactRequest { digest, offset, data, options: None };
            match answered(ANSWER, client.write_artifact(request)).await {
                Ok(written) => {
                    offset = written.received_bytes;
                    self.last.set(Instant::now());
                }
                Err(status) => match expected_offset(&status) {
                    Some(expected) => offset = expected,
                    None => return Err(stop(status, true)),
                },
            }
        }
        bar.set(size);
        Ok(())
    }
}

/// A bar on stderr where a person watches, else nothing.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn new(what: &str, size: u64) -> Self {
        if !style::is_live() {
            return Self(None);
        }
        let template = "{msg:8} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
        let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr());
        // A template that cannot be read is a defect; the plain bar tells as much.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self(Some(bar))
    }

    const fn is_live(&self) -> bool {
        self.0.is_some()
    }

    fn set(&self, at: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(at);
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}
