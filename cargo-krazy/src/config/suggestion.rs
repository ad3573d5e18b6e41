//! "Did you mean": the candidate closest to what was written.

/// The `help:` text for an unknown `name`: the closest of `candidates`, or else all of them, introduced by
/// `plural` (such as `keys`).
pub(crate) fn did_you_mean<'a>(
    name: &str,
    plural: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> String {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    match closest(name, candidates.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None if candidates.is_empty() => format!("there are no {plural}"),
        None => format!("the {plural} are {}", quoted(candidates)),
    }
}

/// `a`, `b`, `c` in backticks.
pub(crate) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The candidate at the least edit distance, if at most a third of the name is wrong. Case and the difference
/// of `_` and `-` do not count.
pub(crate) fn closest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('_', "-");
    let name = plain(name);
    let allowed = (name.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&name, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_offered_and_far_ones_listed() {
        let keys = ["hostname", "boot-size", "init"];
        assert_eq!(did_you_mean("hostnam", "keys", keys), "did you mean `hostname`?");
        assert_eq!(did_you_mean("Boot_Size", "keys", keys), "did you mean `boot-size`?");
        assert_eq!(did_you_mean("intt", "keys", keys), "did you mean `init`?");
        assert_eq!(did_you_mean("colour", "keys", keys), "the keys are `hostname`, `boot-size`, `init`");
        assert_eq!(did_you_mean("x", "binaries", []), "there are no binaries");
    }
}
