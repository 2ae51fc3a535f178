//! The second opinion: Wing and Gong's search with Lowe's memory, one register per key, blind to log indexes.
//!
//! It looks for an order of the calls that real time allows and in which every read gives the last value written. A call
//! with unknown outcome never returns: it may stand anywhere after it was asked for, or nowhere.
//!
//! The search may take exponential time, so it looks at windows of at most [`WINDOW`] calls, cut where no answered call of
//! the key is under way: what came before a cut stands before all that comes after it. A key's first value is taken as it
//! is found; that of a later window is one that the windows before can have left. What gets in no window is counted, and
//! told.

use std::collections::{BTreeMap, BTreeSet};

use super::{Call, Op, Outcome, Violation};

/// Most calls of a window.
pub const WINDOW: usize = 2_000;
/// States looked at before a window is given up; a good history of that many calls needs some thousands.
const STATES_MAX: usize = 400_000;

/// What a check looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Searched {
    /// Windows with an order.
    pub windows: usize,
    /// Calls in them.
    pub calls: usize,
    /// Calls that were in no window, or in one that was given up.
    pub not_judged: usize,
}

/// Searches a whole history. Of the reads of one key only so many are taken that windows stay small: leaving a read out never
/// makes a bad order good for the others.
///
/// # Errors
/// The first window without an order.
pub fn check(ops: &[Op]) -> Result<Searched, Violation> {
    let mut keys: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    for op in ops.iter().filter(|op| op.outcome != Outcome::Refused) {
        keys.entry(op.key.as_str()).or_default().push(op);
    }
    let mut searched = Searched::default();
    for ops in keys.into_values() {
        let known: BTreeSet<&str> = ops.iter().filter_map(|op| value_read(op)).collect();
        // An unknown write that nobody has seen can always stand nowhere; an unknown read says nothing.
        let (unknown, mut answered): (Vec<&Op>, Vec<&Op>) = ops
            .into_iter()
            .filter(|op| op.outcome != Outcome::Unknown || written(op).is_some_and(|v| known.contains(v)))
            .partition(|op| op.outcome == Outcome::Unknown);
        answered.sort_by_key(|op| op.invoked_us);
        let mut first: First<'_> = None;
        for window in cut(&answered) {
            let seen: BTreeSet<&str> = window.iter().filter_map(|op| value_read(op)).collect();
            let open = unknown.iter().copied().filter(|op| written(op).is_some_and(|v| seen.contains(v)));
            let calls: Vec<&Op> = window.iter().copied().chain(open).collect();
            let verdict = if calls.len() > WINDOW { None } else { Search::new(&calls, first.as_ref()).run() };
            first = left_by(&window, &unknown).or(first);
            match verdict {
                Some(true) => {
                    searched.windows += 1;
                    searched.calls += calls.len();
                }
                Some(false) => {
                    return Err(Violation::of("no order explains it", &calls[..calls.len().min(20)]));
                }
                None => searched.not_judged += calls.len(),
            }
        }
    }
    Ok(searched)
}

fn value_read(op: &Op) -> Option<&str> {
    if let Outcome::Found { value, .. } = &op.outcome { value.as_deref() } else { None }
}

fn written(op: &Op) -> Option<&str> {
    if let Call::Write(value) = &op.call { Some(value) } else { None }
}

/// Splits answered calls, in the order in which they were asked, where none is under way, near [`WINDOW`] / 2.
fn cut<'a>(answered: &[&'a Op]) -> Vec<Vec<&'a Op>> {
    let (mut windows, mut window, mut busy_until) = (Vec::new(), Vec::new(), 0);
    for op in answered {
        if window.len() >= WINDOW / 2 && op.invoked_us > busy_until {
            windows.push(std::mem::take(&mut window));
        }
        busy_until = busy_until.max(op.returned_us);
        window.push(*op);
    }
    windows.push(window);
    windows.retain(|window| !window.is_empty());
    windows
}

/// What a register may hold when a window begins; `None`: anything.
type First<'a> = Option<BTreeSet<Option<&'a str>>>;

/// What the answered writes of a window can have left: those after whose answer no other was asked for, or an unknown one.
fn left_by<'a>(window: &[&'a Op], unknown: &[&'a Op]) -> First<'a> {
    let writes = || window.iter().filter(|op| written(op).is_some());
    let newest = writes().map(|op| op.invoked_us).max()?;
    let last = writes().filter(|op| op.returned_us >= newest).chain(unknown);
    Some(last.map(|op| written(op)).collect())
}

/// What a register holds; `None` until the first read of a window tells.
type Value<'a> = Option<Option<&'a str>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Ask(usize),
    Answer(usize),
}

/// The events of a window as a doubly linked list, from which ordered calls are taken out.
struct Search<'a> {
    calls: &'a [&'a Op],
    events: Vec<Event>,
    next: Vec<usize>,
    prev: Vec<usize>,
    /// Place of each call's two events (0 is the list's head); `None` for an answer that never came.
    places: Vec<(usize, Option<usize>)>,
    /// Reads of each value that are not in the order yet. While there are some, the value must stand: it never comes back.
    unread: BTreeMap<Option<&'a str>, usize>,
    first: Option<&'a BTreeSet<Option<&'a str>>>,
}

impl<'a> Search<'a> {
    fn new(calls: &'a [&'a Op], first: Option<&'a BTreeSet<Option<&'a str>>>) -> Self {
        let mut timed: Vec<(u64, bool, Event)> = Vec::new();
        for (i, op) in calls.iter().enumerate() {
            timed.push((op.invoked_us, false, Event::Ask(i)));
            if op.outcome != Outcome::Unknown {
                timed.push((op.returned_us, true, Event::Answer(i)));
            }
        }
        // At one moment questions come first: nothing tells that one was after the other.
        timed.sort_by_key(|(at, answer, _)| (*at, *answer));
        let mut places = vec![(0, None); calls.len()];
        for (at, (_, _, event)) in (1..).zip(&timed) {
            match event {
                Event::Ask(i) => places[*i].0 = at,
                Event::Answer(i) => places[*i].1 = Some(at),
            }
        }
        let events: Vec<Event> =
            std::iter::once(Event::Ask(0)).chain(timed.into_iter().map(|t| t.2)).collect();
        let next = (1..=events.len()).collect();
        let prev = (0..=events.len()).map(|at| at.saturating_sub(1)).collect();
        let mut search = Self { calls, events, next, prev, places, unread: BTreeMap::new(), first };
        (0..calls.len()).for_each(|call| search.count(call, true));
        search
    }

    /// Counts a read as missing, or not.
    fn count(&mut self, call: usize, missing: bool) {
        if let Outcome::Found { value, .. } = &self.calls[call].outcome {
            let unread = self.unread.entry(value.as_deref()).or_default();
            *unread = if missing { *unread + 1 } else { *unread - 1 };
        }
    }

    fn take(&mut self, at: usize) {
        let (before, after) = (self.prev[at], self.next[at]);
        self.next[before] = after;
        self.prev[after] = before;
    }

    fn put_back(&mut self, at: usize) {
        let (before, after) = (self.prev[at], self.next[at]);
        self.next[before] = at;
        self.prev[after] = at;
    }

    /// The register after the call, if the call can come now.
    fn step(&self, value: Value<'a>, call: usize) -> Option<Value<'a>> {
        let op: &'a Op = self.calls[call];
        match (&op.call, &op.outcome) {
            (Call::Write(new), _) => {
                let wanted = value.is_some_and(|value| self.unread.get(&value).is_some_and(|left| *left > 0));
                (!wanted).then_some(Some(Some(new)))
            }
            (Call::Read, Outcome::Found { value: found, .. }) => {
                let found = found.as_deref();
                let begins = || self.first.is_none_or(|first| first.contains(&found));
                value.map_or_else(begins, |value| value == found).then_some(Some(found))
            }
            (Call::Read, Outcome::Written { .. } | Outcome::Unknown | Outcome::Refused) => Some(value),
        }
    }

    /// Whether there is an order; `None` when the search became too long.
    fn run(mut self) -> Option<bool> {
        let mut missing = self.calls.iter().filter(|op| op.outcome != Outcome::Unknown).count();
        let mut ordered = vec![0_u64; self.calls.len().div_ceil(64)];
        let mut value: Value<'a> = None;
        let mut seen: BTreeSet<(Vec<u64>, Value<'a>)> = BTreeSet::new();
        let mut taken: Vec<(usize, Value<'a>)> = Vec::new();
        let mut at = self.next[0];
        while missing > 0 {
            let back = match self.events.get(at) {
                Some(Event::Ask(call)) => {
                    let call = *call;
                    let after = self.step(value, call);
                    ordered[call / 64] |= 1 << (call % 64);
                    if let Some(after) = after
                        && seen.insert((ordered.clone(), after))
                    {
                        if seen.len() > STATES_MAX {
                            return None;
                        }
                        taken.push((call, value));
                        value = after;
                        let (ask, answer) = self.places[call];
                        self.count(call, false);
                        self.take(ask);
                        if let Some(answer) = answer {
                            self.take(answer);
                            missing -= 1;
                        }
                        at = self.next[0];
                    } else {
                        ordered[call / 64] &= !(1 << (call % 64));
                        at = self.next[at];
                    }
                    false
                }
                // An answer whose call is not in the order yet: some choice before was wrong.
                Some(Event::Answer(_)) | None => true,
            };
            if back {
                let Some((call, before)) = taken.pop() else { return Some(false) };
                value = before;
                ordered[call / 64] &= !(1 << (call % 64));
                let (ask, answer) = self.places[call];
                self.count(call, true);
                if let Some(answer) = answer {
                    self.put_back(answer);
                    missing += 1;
                }
                self.put_back(ask);
                at = self.next[ask];
            }
        }
        Some(true)
    }
}

#[cfg(test)]
mod tests;
