//! What is done about a job that ended without its stage's result, and how that is told.

use std::path::Path;

use super::{engine::State, resources::Resources};
use crate::support::Hinted;

/// How often a stage is submitted again for what isn't its own fault.
const LOSSES: u32 = 10;
/// How often it's submitted again when nobody knows why it ended.
const RIDDLES: u32 = 2;
/// By what factor a time limit becomes longer at most.
const LONGEST: u32 = 8;
/// Lines of a job's log that are shown.
const LINES: usize = 8;
/// Bytes of it that are read for them.
const TAIL: usize = 1 << 13;

/// What is known of a stage whose job has ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempt {
    /// How often it was submitted before.
    pub(super) before: u32,
    /// Whether it has come further in this attempt than in those before.
    pub(super) advanced: bool,
    /// Where it is, such as `step 20 of 100`, as far as that's known.
    pub(super) place: Option<String>,
    /// By what factor its time limit was longer than was asked for.
    pub(super) longer: u32,
    /// Whether it said itself that it goes on when it's run again.
    pub(super) again: bool,
    pub(super) resources: Resources,
    /// Bytes of memory by the estimate.
    pub(super) estimate: Option<u64>,
    /// The memory that it has used, as the engine says it.
    pub(super) used: Option<String>,
}

/// What is done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Decision {
    /// It's submitted again, with a time limit that is so many times longer than was asked for; and why.
    Again(u32, String),
    /// It failed.
    Fail(Hinted),
}

/// Decides by how a job has ended; `None` if that isn't known.
pub(super) fn decide(state: Option<&State>, attempt: &Attempt) -> Decision {
    let place = attempt.place.as_ref().map_or_else(String::new, |place| format!(" at {place}"));
    let again = |why: String| Decision::Again(attempt.longer, why);
    let fail = |message: String, hint: &str| Decision::Fail(Hinted::with(message, hint));
    match state {
        Some(State::TimeLimit) => {
            let limit = attempt
                .resources
                .time
                .as_ref()
                .map_or_else(|| "the partition's".to_owned(), |time| format!("`{time}`"));
            let times = if attempt.longer > 1 { format!(", {} times over,", attempt.longer) } else { String::new() };
            if attempt.advanced {
                return again(format!(
                    "its time limit ({limit}{times}) was over{place}; submitted again, it goes on from there"
                ));
            }
            let longer = attempt.longer * 2;
            if longer <= LONGEST && attempt.resources.time.is_some() {
                let why = format!(
                    "its time limit ({limit}{times}) was over before it could keep anything; submitted again with {longer} times as much"
                );
                return Decision::Again(longer, why);
            }
            fail(
                format!("its time limit ({limit}{times}) is over before it can keep anything"),
                "give it more `time` in the profile, or save states more often with `checkpoint_every`",
            )
        }
        Some(State::OutOfMemory) => {
            let asked = attempt
                .resources
                .memory
                .as_ref()
                .map_or_else(String::new, |memory| format!(": `{memory}` was asked for"));
            let used = attempt.used.as_ref().map_or_else(String::new, |used| format!(", {used} were used"));
            let estimate =
                attempt.estimate.map_or_else(String::new, |bytes| format!(", the estimate is {} MB", bytes >> 20));
            fail(
                format!("it was ended since it ran out of memory{asked}{used}{estimate}"),
                "give it more `memory` in the profile",
            )
        }
        Some(State::NodeLost) if attempt.before < LOSSES => {
            again(format!("its machine was lost{place}; submitted again"))
        }
        Some(State::Preempted) if attempt.before < LOSSES => {
            again(format!("it made room for another job{place}; submitted again"))
        }
        Some(State::NodeLost) => {
            fail(format!("its machine was lost, {} times by now", attempt.before + 1), "look at the machines")
        }
        Some(State::Evicted(why)) if attempt.before < LOSSES => {
            again(format!("it was evicted{place} ({why}); submitted again"))
        }
        Some(State::Evicted(why)) => fail(
            format!("it was evicted, {} times by now: {why}", attempt.before + 1),
            "what the profile asks for may be less than what it takes",
        ),
        Some(State::Never(Hinted { message, hint })) => {
            Decision::Fail(Hinted { message: format!("it can never run, since {message}"), hint: hint.clone() })
        }
        Some(State::Killed) if attempt.before < LOSSES => again(format!("it was killed{place}; submitted again")),
        Some(State::Killed) => fail(
            format!("it was killed, {} times by now", attempt.before + 1),
            "it may be for lack of memory: `memory` in the profile",
        ),
        Some(State::Cancelled) => fail("its job was cancelled".to_owned(), "run it again when that was no accident"),
        _ if attempt.again && attempt.before < LOSSES => again(format!("it was stopped{place}; submitted again")),
        Some(State::Failed) => fail(
            "its job failed before it could say why".to_owned(),
            "the job's last lines may tell; `pipe doctor --on PROFILE` looks at the machines",
        ),
        _ if attempt.before < RIDDLES => again("its job is gone, and left nothing; submitted again".to_owned()),
        _ => fail(
            "its job is gone, and left nothing, again and again".to_owned(),
            "`pipe doctor --on PROFILE` looks at the machines",
        ),
    }
}

/// The last lines that a job has printed.
pub(super) fn last_lines(log: &Path) -> Option<String> {
    let text = std::fs::read(log).ok()?;
    last_of(&String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL)..]))
}

/// The last lines of a text, as many as are shown.
pub(super) fn last_of(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    (!last.is_empty()).then(|| last.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt() -> Attempt {
        Attempt { longer: 1, ..Attempt::default() }
    }

    fn failure(state: &State, attempt: &Attempt) -> String {
        match decide(Some(state), attempt) {
            Decision::Fail(told) => told.message,
            again => panic!("{again:?}"),
        }
    }

    #[test]
    fn time_limit_is_met_again_while_the_stage_advances_and_else_becomes_longer() {
        let timed = Resources { time: Some("10".into()), ..Resources::default() };
        let place = Some("step 20 of 100".to_owned());
        let advanced = Attempt { advanced: true, before: 99, place, resources: timed.clone(), ..attempt() };
        let Decision::Again(1, why) = decide(Some(&State::TimeLimit), &advanced) else { panic!("it goes on") };
        assert_eq!(why, "its time limit (`10`) was over at step 20 of 100; submitted again, it goes on from there");
        let stuck = Attempt { resources: timed, ..attempt() };
        assert!(matches!(decide(Some(&State::TimeLimit), &stuck), Decision::Again(2, _)));
        assert!(failure(&State::TimeLimit, &Attempt { longer: 8, ..stuck }).contains("8 times over"));
        assert!(failure(&State::TimeLimit, &attempt()).contains("the partition's"));
    }

    #[test]
    fn losses_are_made_good_and_failures_are_told() {
        for state in [State::NodeLost, State::Preempted] {
            assert!(matches!(decide(Some(&state), &attempt()), Decision::Again(1, _)), "{state:?}");
        }
        assert!(failure(&State::NodeLost, &Attempt { before: 10, ..attempt() }).contains("11 times"));
        let asked = Resources { memory: Some("2G".into()), ..Resources::default() };
        let full = Attempt { resources: asked, estimate: Some(3 << 30), used: Some("2097000K".into()), ..attempt() };
        let told =
            "it was ended since it ran out of memory: `2G` was asked for, 2097000K were used, the estimate is 3072 MB";
        assert_eq!(failure(&State::OutOfMemory, &full), told);
        let never = State::Never(Hinted::new("its account may not be used there", None));
        assert_eq!(failure(&never, &attempt()), "it can never run, since its account may not be used there");
        assert!(matches!(decide(Some(&State::Killed), &attempt()), Decision::Again(1, _)));
        let evicted = State::Evicted("the node was low on memory".into());
        let Decision::Again(1, why) = decide(Some(&evicted), &attempt()) else { panic!("it goes on") };
        assert_eq!(why, "it was evicted (the node was low on memory); submitted again");
        assert!(failure(&State::Failed, &attempt()).contains("failed before it could say why"));
        // Status 75 is a failure to the engine, and none to the stage.
        assert!(matches!(decide(Some(&State::Failed), &Attempt { again: true, ..attempt() }), Decision::Again(1, _)));
        assert!(matches!(decide(None, &attempt()), Decision::Again(1, _)));
        assert!(matches!(decide(None, &Attempt { before: 2, ..attempt() }), Decision::Fail(_)));
    }

    #[test]
    fn last_lines_are_those_with_words() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, (0..20).map(|line| format!("line {line}\n\n")).collect::<String>()).unwrap();
        let found = last_lines(&log).unwrap();
        assert!(found.starts_with("line 12\n") && found.ends_with("line 19"), "{found}");
        assert_eq!(last_lines(&dir.path().join("none")), None);
    }
}
