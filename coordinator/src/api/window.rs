//! Windows as ScheduleService serves them.
//!
//! Whether there is such a zone and such a day is judged here, before the proposal, because zone data differ from host to host
//! and replicas must agree.

use quorate_common::wire::Invalid;
use quorate_common::wire::calendar::read_etag;
use quorate_common::wire::text::read_name;
use quorate_common::wire::window::read_window;
use quorate_core::Command;
use quorate_core::command::CalendarCommand;
use quorate_model::WindowName;
use quorate_proto::v1;

use super::caller::Caller;
use super::context::{Api, Served};
use super::page::Page;
use super::status::Failure;
use super::view::window::window as show;
use crate::zones::{self, Nonsense};

/// Windows on one page when the request says none (proto): all there may be.
const PAGE: u32 = 200;

fn invalid(nonsense: Nonsense) -> Invalid {
    let Nonsense { field, why } = nonsense;
    Invalid::new(field, why).within("spec")
}

impl Api {
    fn window_view(&self, name: &WindowName) -> Result<(v1::Window, u64), Failure> {
        let now = self.backend().now();
        self.look(|state| {
            let none = || Failure::not_found("window", name.as_str(), state.revision.0);
            let found = state.windows.get(name).ok_or_else(none)?;
            Ok((show(found, now), state.revision.0))
        })
    }

    pub(super) async fn list_windows(
        &self,
        request: v1::ListWindowsRequest,
    ) -> Result<Served<v1::ListWindowsResponse>, Failure> {
        let v1::ListWindowsRequest { page_size, page_token, consistency } = request;
        let page = Page::read(page_size, &page_token, PAGE)?;
        self.fresh(consistency).await?;
        let now = self.backend().now();
        Ok(self.look(|state| {
            let key = |w: &&quorate_core::state::Window| w.spec.name.as_str().to_owned();
            let (windows, next_page_token) = page.cut(state.windows.values(), key);
            let windows = windows.into_iter().map(|w| show(w, now)).collect();
            Served { message: v1::ListWindowsResponse { windows, next_page_token }, index: state.revision.0 }
        }))
    }

    pub(super) async fn get_window(
        &self,
        request: v1::GetWindowRequest,
    ) -> Result<Served<v1::GetWindowResponse>, Failure> {
        let v1::GetWindowRequest { name, consistency } = request;
        let name = read_name("name", name)?;
        self.fresh(consistency).await?;
        let (window, index) = self.window_view(&name)?;
        Ok(Served { message: v1::GetWindowResponse { window: Some(window) }, index })
    }

    pub(super) async fn apply_window(
        &self,
        caller: &Caller,
        request: v1::ApplyWindowRequest,
    ) -> Result<Served<v1::ApplyWindowResponse>, Failure> {
        let v1::ApplyWindowRequest { spec, options, etag } = request;
        let change = self.change(caller, options)?;
        let spec = spec.ok_or_else(|| Invalid::missing("spec"))?;
        let mut spec = read_window(spec).map_err(|i| i.within("spec"))?;
        spec.zone = zones::written(&spec.zone).map_err(invalid)?;
        let expect = read_etag("etag", &etag)?;
        let name = spec.name.clone();
        self.backend().linearize().await?;
        let before = self.look(|state| state.windows.get(&name).map(|w| w.spec.clone()));
        let changed = before.as_ref() != Some(&spec);
        let nonsense = zones::check(&spec, self.backend().now()).err();
        let command = Command::Calendar(Box::new(CalendarCommand::ApplyWindow { spec, expect }));
        // As for freezes: a file that declared it when its day was still to come may be applied again, and so may a request
        // whose answer was lost.
        if let Some(nonsense) = nonsense
            && changed
            && self.given(caller, &change, &command)?.is_none()
        {
            return Err(invalid(nonsense).into());
        }
        let (index, _) = self.propose(caller, &change, command).await?;
        let window = self.window_view(&name).ok().map(|(window, _)| window);
        Ok(Served { message: v1::ApplyWindowResponse { window, changed }, index })
    }

    pub(super) async fn delete_window(
        &self,
        caller: &Caller,
        request: v1::DeleteWindowRequest,
    ) -> Result<Served<v1::DeleteWindowResponse>, Failure> {
        let v1::DeleteWindowRequest { name, options, etag } = request;
        let change = self.change(caller, options)?;
        let (name, expect) = (read_name("name", name)?, read_etag("etag", &etag)?);
        let command = Command::Calendar(Box::new(CalendarCommand::DeleteWindow { name, expect }));
        let (index, _) = self.propose(caller, &change, command).await?;
        Ok(Served { message: v1::DeleteWindowResponse {}, index })
    }
}
