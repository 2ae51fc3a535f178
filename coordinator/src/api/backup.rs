//! BackupService: the catalogue of stored copies.

use quorate_common::wire::text::{read_name, read_optional_name};
use quorate_model::{BackupId, NodeName, ServiceName};
use quorate_proto::v1;
use quorate_proto::v1::backup_service_server::BackupService;
use tonic::{Request, Response, Status};

use super::context::{Api, Served};
use super::page::{Page, newest_first};
use super::status::Failure;
use super::view::backup::backup as show;

/// Backups on one page when the request says none (proto).
const PAGE: u32 = 200;

#[tonic::async_trait]
impl BackupService for Api {
    async fn list_backups(
        &self,
        request: Request<v1::ListBackupsRequest>,
    ) -> Result<Response<v1::ListBackupsResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::ListBackupsRequest { service, node, page_size, page_token, consistency } = m;
            let service: Option<ServiceName> = read_optional_name("service", service)?;
            let node: Option<NodeName> = read_optional_name("node", node)?;
            let page = Page::read(page_size, &page_token, PAGE)?;
            api.fresh(consistency).await?;
            Ok(api.look(|state| {
                let key = |b: &&quorate_core::state::Backup| newest_first(b.created_at.0, b.id.as_str());
                let wanted = |b: &&quorate_core::state::Backup| {
                    service.as_ref().is_none_or(|s| b.instance.service == *s)
                        && node.as_ref().is_none_or(|n| b.instance.node == *n)
                };
                let mut found: Vec<_> = state.backups.values().filter(wanted).collect();
                found.sort_by_key(key);
                let (found, next_page_token) = page.cut(found.into_iter(), key);
                let backups = found.into_iter().map(show).collect();
                let message = v1::ListBackupsResponse { backups, next_page_token };
                Served { message, index: state.revision.0 }
            }))
        })
        .await
    }

    async fn get_backup(
        &self,
        request: Request<v1::GetBackupRequest>,
    ) -> Result<Response<v1::GetBackupResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::GetBackupRequest { backup_id, consistency } = m;
            let id: BackupId = read_name("backup_id", backup_id)?;
            api.fresh(consistency).await?;
            api.look(|state| {
                let none = || Failure::not_found("backup", id.as_str(), state.revision.0);
                let found = state.backups.get(&id).ok_or_else(none)?;
                let message = v1::GetBackupResponse { backup: Some(show(found)) };
                Ok(Served { message, index: state.revision.0 })
            })
        })
        .await
    }
}
