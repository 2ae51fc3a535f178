//! Does what `plan` decides, folder by folder.

use quorate_model::{ActionOutcome, DataVerb, QuarantineId, Reason, ServiceName};
use tokio::sync::Mutex;

use super::place::{Place, Size};
use super::plan::{self, Next, Refused};
use super::record::{Kept, Phase, Record, Set};
use crate::actions::service::exec::look;
use crate::actions::service::plan::{describe, is_down};
use crate::actions::{ActionContext, ActionError, PortError};
use crate::runner::failpoint;

/// One set of folders at a time: records are read, changed and written whole.
static TURN: Mutex<()> = Mutex::const_new(());

/// Folders and what is known of them.
struct Work<'c> {
    context: &'c ActionContext,
    quarantine: &'c QuarantineId,
    places: Vec<Place>,
    record: Record,
}

/// `data.quarantine` or `data.revert`. With `only_begun` it does nothing unless this very execution began it before a crash.
pub(in crate::actions) async fn part(
    context: &ActionContext,
    service: &ServiceName,
    paths: &[String],
    (quarantine, verb): (&QuarantineId, DataVerb),
    only_begun: bool,
) -> Result<ActionOutcome, ActionError> {
    let _turn = TURN.lock().await;
    let handle = context.service(service)?;
    let places = paths.iter().map(|path| Place::new(context, path, quarantine));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let record = Record::load(&context.releases_dir, service)?;
    let mut work = Work { context, quarantine, places, record };
    if only_begun && !work.is_begun(verb) {
        return Err(ActionError::DeadlineExceeded("waiting to rename the folders"));
    }
    if !only_begun {
        context.check("waiting to rename the folders")?;
    }
    let unit = look(&handle).await?;
    if !is_down(&unit) {
        let why = format!("{service} is {}: its folders stay where they are while it runs", describe(&unit));
        return Err(work.untouched(why));
    }
    let message = match verb {
        DataVerb::Quarantine => {
            work.put_aside()?;
            measured(work.places).await?
        }
        DataVerb::Revert => work.put_back()?,
    };
    Ok(ActionOutcome { message, unit: Some(unit), ..ActionOutcome::default() })
}

/// Where each folder lies, and how much is in it. Counting many files takes a while.
async fn measured(places: Vec<Place>) -> Result<String, ActionError> {
    let counted = tokio::task::spawn_blocking(move || {
        let told = places.iter().map(|place| {
            let Size { bytes, more } = place.size();
            let least = if more { "at least " } else { "" };
            format!(
                "{} is put aside as {}, {least}{bytes} bytes",
                place.path().display(),
                place.aside_path().display()
            )
        });
        told.collect::<Vec<_>>().join("; ")
    });
    counted.await.map_err(|e| ActionError::port("counting", PortError::new(Reason::Internal, e.to_string())))
}

impl Work<'_> {
    /// Whether this execution has begun and not ended it.
    fn is_begun(&self, verb: DataVerb) -> bool {
        let phase = match verb {
            DataVerb::Quarantine => Phase::Begun,
            DataVerb::Revert => Phase::Returning,
        };
        let own = |set: &&Set| set.phase == phase && set.execution == self.context.execution.as_str();
        self.record.get(self.quarantine).filter(own).is_some()
    }

    /// A refusal, unless something of it was done already: then it is told as what it is.
    fn untouched(&self, why: String) -> ActionError {
        match self.record.get(self.quarantine).map(|set| set.phase) {
            None | Some(Phase::Returned) => ActionError::Refused { reason: Reason::WrongState, why },
            Some(Phase::Begun | Phase::Aside | Phase::Returning) => {
                ActionError::Failed { message: why, outcome: Box::default() }
            }
        }
    }

    /// The set as it stands, if its folders are those that are asked for.
    fn known(&self) -> Result<Option<Set>, ActionError> {
        let Some(set) = self.record.get(self.quarantine) else { return Ok(None) };
        let same = set.folders.len() == self.places.len()
            && set
                .folders
                .iter()
                .zip(&self.places)
                .all(|(kept, place)| kept.path == place.path().display().to_string());
        if same {
            return Ok(Some(set.clone()));
        }
        Err(ActionError::invalid("paths", format!("other folders were put aside as {}", self.quarantine)))
    }

    /// Writes down how far it has come.
    fn reach(&mut self, set: &mut Set, phase: Phase) -> Result<(), ActionError> {
        set.phase = phase;
        self.context.execution.as_str().clone_into(&mut set.execution);
        self.record.put(set)
    }

    fn put_aside(&mut self) -> Result<(), ActionError> {
        let mut set = match self.known()? {
            Some(set) => match set.phase {
                Phase::Begun | Phase::Aside => set,
                Phase::Returning | Phase::Returned => {
                    let why = format!("{} was put back: it is not put aside again", self.quarantine);
                    return Err(ActionError::Refused { reason: Reason::WrongState, why });
                }
            },
            None => Set {
                quarantine: self.quarantine.clone(),
                execution: String::new(),
                folders: self.places.iter().map(Place::fit).collect::<Result<_, _>>()?,
                phase: Phase::Begun,
            },
        };
        if set.phase == Phase::Begun {
            self.reach(&mut set, Phase::Begun)?;
            failpoint::hit("data-recorded");
        }
        if let Err(error) = self.rename_all(&set.folders) {
            return Err(self.unwound(&set.folders, error));
        }
        let begun = set.phase == Phase::Begun;
        for (kept, place) in set.folders.iter().zip(&self.places) {
            let made = plan::aside(kept.identity(), place.names()?) != Ok(Next::Make);
            // Until all of it is written down, one that is there may be half made: who made it may have died before it had its owner.
            if begun || !made {
                place.make(kept)?;
                failpoint::hit("data-made");
            }
        }
        self.reach(&mut set, Phase::Aside)
    }

    /// Every folder is aside, or the first that could not be tells why.
    fn rename_all(&self, folders: &[Kept]) -> Result<(), ActionError> {
        for (kept, place) in folders.iter().zip(&self.places) {
            match plan::aside(kept.identity(), place.names()?).map_err(|why| refused(place, why))? {
                Next::Aside => {
                    place.put_aside()?;
                    failpoint::hit("data-renamed");
                }
                Next::Nothing | Next::Make | Next::MakeWay | Next::Back => {}
            }
        }
        Ok(())
    }

    /// One could not be put aside: the others come back, and nothing was done. What can not be put back now is remembered, and put
    /// back when that is asked for.
    fn unwound(&mut self, folders: &[Kept], error: ActionError) -> ActionError {
        for (kept, place) in folders.iter().zip(&self.places) {
            let names = match place.names() {
                Ok(names) => names,
                Err(more) => return more,
            };
            if plan::back(kept.identity(), names) == Ok(Next::Back)
                && let Err(more) = place.put_back()
            {
                return more;
            }
        }
        let home = folders.iter().zip(&self.places).all(|(kept, place)| {
            place.names().is_ok_and(|names| plan::back(kept.identity(), names) == Ok(Next::Nothing))
        });
        match home.then(|| self.record.forget(self.quarantine)) {
            Some(Err(more)) => more,
            Some(Ok(())) => error,
            // Something is still aside: this has begun, and is not refused.
            None => ActionError::Failed { message: error.message(), outcome: Box::default() },
        }
    }

    fn put_back(&mut self) -> Result<String, ActionError> {
        let Some(mut set) = self.known()? else {
            for place in &self.places {
                if place.names()?.aside.is_some() {
                    let why = format!("{} is there, and no record of it", place.aside_path().display());
                    return Err(ActionError::NoWayBack { why });
                }
            }
            return Ok("nothing was put aside: every folder is where it was".to_owned());
        };
        if set.phase != Phase::Returned {
            // All are looked at before the first is touched.
            for (kept, place) in set.folders.iter().zip(&self.places) {
                plan::back(kept.identity(), place.names()?).map_err(|why| refused(place, why))?;
            }
            self.reach(&mut set, Phase::Returning)?;
            failpoint::hit("data-returning");
            for (kept, place) in set.folders.iter().zip(&self.places) {
                self.one_back(kept, place)?;
            }
            self.reach(&mut set, Phase::Returned)?;
        }
        let mut told = Vec::new();
        for place in &self.places {
            let mut text = format!("{} is in place again", place.path().display());
            if place.names()?.later.is_some() {
                text = format!("{text}, what came meanwhile lies in {}", place.later_path().display());
            }
            told.push(text);
        }
        Ok(told.join("; "))
    }

    fn one_back(&self, kept: &Kept, place: &Place) -> Result<(), ActionError> {
        let next = || plan::back(kept.identity(), place.names()?).map_err(|why| refused(place, why));
        if next()? == Next::MakeWay {
            place.make_way()?;
            failpoint::hit("data-way");
        }
        if next()? == Next::Back {
            place.put_back()?;
            failpoint::hit("data-back");
        }
        Ok(())
    }
}

fn refused(place: &Place, why: Refused) -> ActionError {
    let path = place.path().to_path_buf();
    match why {
        Refused::Lost => ActionError::NoWayBack {
            why: format!("neither {} nor {} is what it was", path.display(), place.aside_path().display()),
        },
        Refused::Occupied => {
            ActionError::Occupied { path, why: "another folder has a name that is needed".to_owned() }
        }
    }
}
