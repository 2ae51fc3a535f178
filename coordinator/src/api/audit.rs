//! AuditService: reads and checks the record.

use quorate_common::wire::Invalid;
use quorate_core::state::audit::verify_kept;
use quorate_proto::v1;
use quorate_proto::v1::audit_service_server::AuditService;
use tonic::{Request, Response, Status};

use super::context::{Api, Served};
use super::operation::read_operation_name;
use super::page::Page;
use super::status::Failure;
use super::view::audit::record as show;
use super::watch::{self, AuditStream};

/// Records on one page when the request says none (proto).
const PAGE: u32 = 100;

impl Api {
    async fn list_records(
        &self,
        request: v1::ListAuditRecordsRequest,
    ) -> Result<Served<v1::ListAuditRecordsResponse>, Failure> {
        let v1::ListAuditRecordsRequest { page_size, page_token, operation, consistency } = request;
        let operation = if operation.is_empty() {
            None
        } else {
            Some(read_operation_name(&operation).map_err(|i| Invalid { field: "operation".into(), ..i })?)
        };
        let page = Page::read(page_size, &page_token, PAGE)?;
        self.fresh(consistency).await?;
        Ok(self.look(|state| {
            let newest = state.audit.records.iter().rev();
            let wanted = newest.filter(|r| operation.is_none() || r.what.operation == operation);
            let (records, next_page_token) = page.cut(wanted, |r| format!("{:020}", u64::MAX - r.seq));
            let records = records.into_iter().map(show).collect();
            let message = v1::ListAuditRecordsResponse { records, next_page_token };
            Served { message, index: state.revision.0 }
        }))
    }

    async fn verify(&self) -> Result<Served<v1::VerifyAuditResponse>, Failure> {
        self.backend().linearize().await?;
        // 20,000 hashes take tens of milliseconds: on a copy, so that applying does not wait for them.
        let (audit, index) = self.look(|state| (state.audit.clone(), state.revision.0));
        let checked = tokio::task::spawn_blocking(move || {
            let verdict = verify_kept(&audit);
            (verdict, audit)
        });
        let (verdict, audit) = checked.await.map_err(|_| Failure::Internal("checking the audit panicked"))?;
        let broken = verdict.err().unwrap_or(0);
        let records = u64::try_from(audit.records.len()).unwrap_or(u64::MAX);
        let message = if broken == 0 {
            format!("{records} records, unbroken")
        } else {
            format!("record {broken} is missing, was moved or was edited")
        };
        let message = v1::VerifyAuditResponse {
            ok: broken == 0,
            records,
            first_sequence: audit.records.front().map_or(0, |r| r.seq),
            last_sequence: audit.head.seq,
            head: audit.head.hash.to_string(),
            broken_sequence: broken,
            message,
        };
        Ok(Served { message, index })
    }
}

#[tonic::async_trait]
impl AuditService for Api {
    async fn list_audit_records(
        &self,
        request: Request<v1::ListAuditRecordsRequest>,
    ) -> Result<Response<v1::ListAuditRecordsResponse>, Status> {
        self.serve(request, |api, _, m| async move { api.list_records(m).await }).await
    }

    type WatchAuditRecordsStream = AuditStream;

    async fn watch_audit_records(
        &self,
        request: Request<v1::WatchAuditRecordsRequest>,
    ) -> Result<Response<AuditStream>, Status> {
        watch::audit(self, request).await
    }

    async fn verify_audit(
        &self,
        request: Request<v1::VerifyAuditRequest>,
    ) -> Result<Response<v1::VerifyAuditResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::VerifyAuditRequest {} = m;
            api.verify().await
        })
        .await
    }
}
