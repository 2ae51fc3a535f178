//! `quorate context`: which fleet.

use clap::Subcommand;

use super::{Ctx, Outcome};
use crate::context;
use crate::failure::{Failure, exit};
use crate::render;
use crate::render::table::Columns;

/// Fleets this command line knows
#[derive(Subcommand, Clone, Debug)]
pub enum ContextCommand {
    /// Every context
    #[command(alias = "ls")]
    List,
    /// Uses another context from now on
    Use {
        /// Its name
        name: String,
    },
}

/// Runs it.
///
/// # Errors
/// When the configuration cannot be read or written.
pub fn run(ctx: &Ctx, command: ContextCommand) -> Outcome {
    let (path, mut config) = context::load()?.ok_or_else(|| {
        Failure::failed("there is no configuration file").with_code(exit::NOT_FOUND).with_hint(format!(
            "looked for {}",
            context::paths().iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
        ))
    })?;
    match command {
        ContextCommand::List => {
            if !ctx.global.output.is_table() {
                let contexts: Vec<_> = config
                    .contexts
                    .iter()
                    .map(|(name, c)| serde_json::json!({"name": name, "addresses": c.addresses, "current": *name == config.current_context}))
                    .collect();
                render::structured(
                    ctx.global.output,
                    serde_json::json!({"contexts": contexts}),
                    Some("contexts"),
                )?;
                return Ok(exit::DONE);
            }
            let mut columns = Columns::new(&["", "context", "addresses"]);
            for (name, context) in &config.contexts {
                let mark = if *name == config.current_context { "*" } else { "" };
                columns.row([mark.to_owned(), name.clone(), context.addresses.join(", ")]);
            }
            render::print(&columns.finish("No contexts."))?;
            Ok(exit::DONE)
        }
        ContextCommand::Use { name } => {
            if !config.contexts.contains_key(&name) {
                return Err(Failure::failed(format!("there is no context {name:?} in {}", path.display()))
                    .with_code(exit::NOT_FOUND));
            }
            config.current_context.clone_from(&name);
            let text = toml::to_string(&config).map_err(|e| Failure::failed(e.to_string()))?;
            let dir = path.parent().unwrap_or_else(|| std::path::Path::new("."));
            let fail =
                |e: std::io::Error| Failure::failed(format!("{} cannot be written: {e}", path.display()));
            let mut temp = tempfile::NamedTempFile::new_in(dir).map_err(fail)?;
            std::io::Write::write_all(&mut temp, text.as_bytes()).map_err(fail)?;
            temp.as_file().sync_all().map_err(fail)?;
            temp.persist(&path).map_err(|e| fail(e.error))?;
            render::print(&format!("using {name}"))?;
            Ok(exit::DONE)
        }
    }
}
