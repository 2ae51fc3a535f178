//! I-5: a request id has its effect once, and every further send gets the same answer; another content under it is refused.

use crate::world::evidence::{End, Evidence};

/// Breaches. How often it took effect is I-3's.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let judged = evidence.repeats.iter().filter_map(|repeat| match (repeat.same, &repeat.end) {
        (true, End::Refused(why)) => {
            Some(format!("{} was acknowledged, then refused: {why}", repeat.request))
        }
        (false, End::Acked(index)) => {
            Some(format!("{} was acknowledged with another content at {index}", repeat.request))
        }
        (true, End::Acked(_) | End::Unknown) | (false, End::Refused(_) | End::Unknown) => None,
    });
    let retried = evidence.writes.iter().filter_map(|write| match &write.end {
        End::Refused(why) => {
            Some(format!("{} asks for nothing forbidden and was refused: {why}", write.request))
        }
        End::Acked(_) | End::Unknown => None,
    });
    judged.chain(retried).collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use crate::world::evidence::Repeat;

    #[test]
    fn another_answer_and_an_accepted_other_content_are_found() {
        let mut run = samples::good();
        let repeat = |same, end| Repeat { request: "w1".to_owned(), same, end };
        run.repeats = vec![
            repeat(true, End::Acked(20)),
            repeat(true, End::Unknown),
            repeat(false, End::Refused("conflict".to_owned())),
        ];
        assert_eq!(check(&run), Vec::<String>::new());
        run.repeats = vec![repeat(true, End::Refused("conflict".to_owned())), repeat(false, End::Acked(21))];
        assert_eq!(check(&run).len(), 2);
        run.repeats.clear();
        run.writes[0].end = End::Refused("conflict".to_owned());
        assert_eq!(check(&run).len(), 1);
    }
}
