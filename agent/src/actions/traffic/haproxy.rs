//! Reads what HAProxy's runtime API answers. Pure.
//!
//! Two answers are needed: `show servers state` has what people and we ordered (the `status` of the statistics hides a drain
//! behind a failed check), `show stat` has sessions and checks. Columns are found by their names, never by their place.

use std::collections::BTreeMap;

use super::plan::{Check, Place, View};

/// Bits of `srv_admin_state` that mean a drain (forced, inherited); every other one is a maintenance.
const DRAIN_BITS: u32 = 0x08 | 0x10;

type Row<'a> = BTreeMap<&'a str, String>;

/// The questions about a pool, in the order of [`view`]'s answers.
pub(super) fn questions(backend: &str) -> [String; 2] {
    [format!("show servers state {backend}"), format!("show stat {backend} 4 -1")]
}

/// The order that moves a server.
pub(super) fn order(backend: &str, server: &str, state: &str) -> String {
    format!("set server {backend}/{server} state {state}")
}

/// Whether an order was carried out: HAProxy says nothing then.
pub(super) fn obeyed(answer: &str) -> Result<(), String> {
    match answer.trim() {
        "" => Ok(()),
        said => Err(first_line(said)),
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    quorate_common::wire::text::printable(line.trim(), 120)
}

/// The pool as one HAProxy tells it.
pub(super) fn view(backend: &str, server: &str, state: &str, stat: &str) -> Result<View, String> {
    let ordered = states(state)?;
    let seen = statistics(stat)?;
    let mut own = None;
    let mut others_up: u32 = 0;
    let mut count = 0_usize;
    for row in seen.iter().filter(|row| is(row, "pxname", backend)) {
        let name = text(row, "svname")?;
        let admin = ordered.iter().find(|r| is(r, "be_name", backend) && is(r, "srv_name", name));
        let admin = admin.ok_or_else(|| format!("its two answers differ: {name} is only in one"))?;
        let admin: u32 = number(admin, "srv_admin_state")?;
        let serves = serves(row, admin)?;
        count = count.saturating_add(1);
        if name == server {
            own = Some(View {
                place: place(admin),
                serves,
                check: check(row)?,
                others_up: 0,
                connections: Some(number::<u64>(row, "scur")?.saturating_add(number(row, "qcur")?)),
            });
        } else if serves && !is(row, "bck", "1") {
            others_up = others_up.saturating_add(1);
        }
    }
    if count != ordered.len() {
        return Err("its two answers differ in their number of servers".to_owned());
    }
    let own = own.ok_or_else(|| format!("the pool {backend} has no server {server}"))?;
    Ok(View { others_up, ..own })
}

fn place(admin: u32) -> Place {
    match (admin & !DRAIN_BITS, admin & DRAIN_BITS) {
        (0, 0) => Place::In,
        (0, _) => Place::Out,
        _ => Place::Maintenance,
    }
}

/// Gets new connections now: nobody ordered it out, it has weight, and its check has not taken it out. `UP 1/2` is on its way
/// down and still serves, `DOWN 1/2` is on its way up and does not.
fn serves(row: &Row<'_>, admin: u32) -> Result<bool, String> {
    let status = text(row, "status")?;
    let up = status == "UP" || status.starts_with("UP ") || status == "no check";
    Ok(admin == 0 && up && number::<u64>(row, "weight")? > 0)
}

fn check(row: &Row<'_>) -> Result<Check, String> {
    let said = text(row, "check_status")?;
    // A star: the next check is under way, the last one said this.
    let said = said.strip_prefix("* ").unwrap_or(said);
    if said.is_empty() {
        return Ok(Check::None);
    }
    let (rise, fall): (u64, u64) = (number(row, "check_rise")?, number(row, "check_fall")?);
    let full = rise.saturating_add(fall).saturating_sub(1);
    let passing = matches!(said, "L4OK" | "L6OK" | "L7OK") && number::<u64>(row, "check_health")? >= full;
    Ok(if passing { Check::Passing } else { Check::Failing(first_line(said)) })
}

fn is(row: &Row<'_>, column: &str, value: &str) -> bool {
    row.get(column).is_some_and(|found| found == value)
}

fn text<'r>(row: &'r Row<'_>, column: &str) -> Result<&'r str, String> {
    row.get(column).map(String::as_str).ok_or_else(|| format!("its answer has no column {column}"))
}

fn number<T: std::str::FromStr>(row: &Row<'_>, column: &str) -> Result<T, String> {
    text(row, column)?.parse().map_err(|_| format!("its answer has no number in column {column}"))
}

/// The lines of a whole answer: HAProxy ends one with an empty line, so one that was cut off is told from a short pool.
fn whole(answer: &str) -> Result<std::str::Lines<'_>, String> {
    match answer.strip_suffix("\n\n") {
        Some(body) if !body.trim().is_empty() => Ok(body.lines()),
        Some(_) => Err("its answer is empty".to_owned()),
        None => Err(format!("its answer is cut off or none: {}", first_line(answer))),
    }
}

fn states(answer: &str) -> Result<Vec<Row<'_>>, String> {
    let mut lines = whole(answer)?;
    match lines.next() {
        Some("1") => {}
        other => return Err(first_line(other.unwrap_or_default())),
    }
    let header = header(lines.next(), ' ')?;
    lines.map(|line| row(&header, line.split(' ').map(str::to_owned).collect())).collect()
}

fn statistics(answer: &str) -> Result<Vec<Row<'_>>, String> {
    let mut lines = whole(answer)?;
    let header = match lines.next() {
        first @ Some(line) if line.starts_with("# ") => header(first, ',')?,
        other => return Err(first_line(other.unwrap_or_default())),
    };
    lines.map(|line| row(&header, fields(line))).collect()
}

fn header(line: Option<&str>, between: char) -> Result<Vec<&str>, String> {
    let line = line.and_then(|line| line.strip_prefix("# ")).ok_or("its answer has no heading")?;
    Ok(line.split(between).collect())
}

fn row<'a>(header: &[&'a str], values: Vec<String>) -> Result<Row<'a>, String> {
    if values.len() != header.len() {
        return Err(format!("its answer has a line of {} fields, not {}", values.len(), header.len()));
    }
    Ok(header.iter().copied().zip(values).collect())
}

/// The fields of a line of comma-separated values: one in quotes may hold commas, and quotes twice.
fn fields(line: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    all.push(field);
    all
}
