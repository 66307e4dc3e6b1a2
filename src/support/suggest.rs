//! "Did you mean": the nearest of the names that would have been right.

/// The nearest candidate, if it's near enough to be a slip of the pen.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (score(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score >= 0.72)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// From 0, nothing alike, to 1, the same: edits weigh by length; a beginning in common helps, as in `learning` for
/// `learning_rate`.
fn score(name: &str, candidate: &str) -> f64 {
    let edits = strsim::normalized_damerau_levenshtein(name, candidate);
    let (short, long) = if name.len() < candidate.len() { (name, candidate) } else { (candidate, name) };
    let prefix = if short.chars().count() >= 3 && long.starts_with(short) { 0.75 } else { 0.0 };
    let one_off = if strsim::damerau_levenshtein(name, candidate) == 1 && short.len() >= 2 { 0.73 } else { 0.0 };
    edits.max(prefix).max(one_off)
}

/// `did you mean …`, or the list of all names, or nothing if there are none.
pub(crate) fn did_you_mean<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
    what: &str,
) -> Option<String> {
    if let Some(near) = nearest(name, candidates.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let all = list(candidates);
    (!all.is_empty()).then(|| format!("{what}: {all}"))
}

/// Names in backticks, with commas between them.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_finds_none() {
        let names = ["lr", "steps", "warmup_steps", "weight_decay", "dropout"];
        assert_eq!(nearest("warmup_step", names), Some("warmup_steps"));
        assert_eq!(nearest("weigth_decay", names), Some("weight_decay"));
        assert_eq!(nearest("Dropout", names), Some("dropout"));
        assert_eq!(nearest("step", names), Some("steps"));
        assert_eq!(nearest("optimizer", names), None);
    }
}
