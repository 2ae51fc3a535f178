//! Where a folder lies and what is left to do about it, from what is seen and what is remembered. Pure.
//!
//! Must never: take a folder for ours that has another number than the one that was written down.

/// Device and number of a folder: what it is, whatever it is called.
pub(super) type Identity = (u64, u64);

/// What the three names of one folder hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// The folder's own name.
    pub(super) here: Option<Identity>,
    /// The name that it has while it is aside.
    pub(super) aside: Option<Identity>,
    /// The name of what came in its place, once the folder is back.
    pub(super) later: Option<Identity>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it was done before.
    Nothing,
    /// Rename it aside; an empty one is made when all are.
    Aside,
    /// It is aside, and nothing is in its place yet.
    Make,
    /// Put what is in its place aside, then rename it back.
    MakeWay,
    /// Rename it back.
    Back,
}

/// Why nothing may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is under neither of its names.
    Lost,
    /// A name that is needed holds something else.
    Occupied,
}

/// What is left of putting it aside.
pub(super) fn aside(folder: Identity, names: Names) -> Result<Next, Refused> {
    match (names.here, names.aside) {
        (None, Some(aside)) if aside == folder => Ok(Next::Make),
        (Some(_), Some(aside)) if aside == folder => Ok(Next::Nothing),
        (Some(here), None) if here == folder => Ok(Next::Aside),
        (Some(here), Some(_)) if here == folder => Err(Refused::Occupied),
        _ => Err(Refused::Lost),
    }
}

/// What is left of putting it back.
pub(super) fn back(folder: Identity, names: Names) -> Result<Next, Refused> {
    if names.here == Some(folder) {
        return Ok(Next::Nothing);
    }
    match (names.here, names.aside, names.later) {
        (None, Some(aside), _) if aside == folder => Ok(Next::Back),
        (Some(_), Some(aside), None) if aside == folder => Ok(Next::MakeWay),
        (Some(_), Some(aside), Some(_)) if aside == folder => Err(Refused::Occupied),
        _ => Err(Refused::Lost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Identity = (1, 10);
    const OTHER: Identity = (1, 11);

    fn every() -> impl Iterator<Item = Names> {
        let any = [None, Some(OURS), Some(OTHER)];
        any.into_iter().flat_map(move |here| {
            any.into_iter()
                .flat_map(move |aside| any.into_iter().map(move |later| Names { here, aside, later }))
        })
    }

    /// What each step leaves behind is a state from which the rest of the same way is known: a crash loses nothing.
    #[test]
    fn each_way_ends_where_it_is_meant_to_from_wherever_it_was_left() {
        for names in every() {
            let (mut now, mut steps) = (names, 0);
            while let Ok(next) = aside(OURS, now) {
                match next {
                    Next::Nothing => break,
                    Next::Aside => (now.here, now.aside) = (None, Some(OURS)),
                    Next::Make => now.here = Some(OTHER),
                    Next::MakeWay | Next::Back => panic!("{now:?}"),
                }
                steps += 1;
                assert!(steps < 4, "{names:?}");
            }
            assert!(aside(OURS, now).is_err() || now.aside == Some(OURS), "{names:?} -> {now:?}");
            let (mut now, mut steps) = (names, 0);
            while let Ok(next) = back(OURS, now) {
                match next {
                    Next::Nothing => break,
                    Next::MakeWay => (now.later, now.here) = (now.here, None),
                    Next::Back => (now.here, now.aside) = (Some(OURS), None),
                    Next::Aside | Next::Make => panic!("{now:?}"),
                }
                steps += 1;
                assert!(steps < 4, "{names:?}");
            }
            assert!(back(OURS, now).is_err() || now.here == Some(OURS), "{names:?} -> {now:?}");
        }
    }

    #[test]
    fn what_is_somebody_elses_is_left() {
        let names = |here, aside, later| Names { here, aside, later };
        assert_eq!(aside(OURS, names(Some(OTHER), None, None)), Err(Refused::Lost));
        assert_eq!(aside(OURS, names(Some(OURS), Some(OTHER), None)), Err(Refused::Occupied));
        assert_eq!(back(OURS, names(Some(OTHER), Some(OURS), Some(OTHER))), Err(Refused::Occupied));
        assert_eq!(back(OURS, names(Some(OTHER), None, None)), Err(Refused::Lost));
        assert_eq!(back(OURS, names(None, Some(OTHER), None)), Err(Refused::Lost));
    }
}
