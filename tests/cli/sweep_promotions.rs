//! Who is promoted by `successive_halving`, by tables that were worked out by hand.

use crate::common;

use super::sweep_halving::recipe;
use common::tiny;
use pipe::{
    recipe::{Document, Overrides},
    session::sweep::{Halving, Measurements, Planner, Promotions, Space as Cells, Standing},
    spec::Source,
    stages::{Measured, catalog},
};

fn none(_: &Source, _: &pipe::recipe::DataFiles) -> Option<Vec<String>> {
    None
}

/// Judges a sweep's cells by dev metrics after 2, 6 and 18 steps, as far as a cell has them.
fn judged(sweep: &str, metrics: &[&[f64]], failed: &[usize]) -> Promotions {
    let space = tiny();
    let text = recipe(sweep).replace("steps: 8, evaluate_every: 1,", "steps: 18, evaluate_every: 2,");
    space.write("recipe.yaml", text);
    let document = Document::read(&space.path().join("recipe.yaml"), catalog()).expect("a recipe");
    let overrides = Overrides::default();
    let checked = document.check(&overrides, &none).expect("a good recipe");
    let halving = Halving::new(&checked).expect("a halving");
    let mut planner = Planner::new(&document, &overrides, &none);
    let mut space = Cells::new(&checked).expect("a space").expect("a sweep");
    assert!(planner.add(&space.next(&checked).expect("cells")).expect("a plan").is_empty());
    let task = |number: usize| halving.task(&planner.cells()[number - 1]).expect("a task").to_owned();
    let mut known =
        Measurements { failed: failed.iter().map(|number| task(*number)).collect(), ..Measurements::default() };
    for (number, metrics) in (1..).zip(metrics) {
        let evaluations: Vec<_> = [2, 6, 18]
            .into_iter()
            .zip(*metrics)
            .map(|(step, metric)| (step, [("accuracy".to_owned(), *metric)].into()))
            .collect();
        let Some((step, _)) = evaluations.last() else { continue };
        known.measured.insert(task(number), Measured { step: *step, steps: 18, ended: *step == 18, evaluations });
    }
    halving.decide(planner.cells(), planner.tasks(), &known)
}

fn numbers(promotions: &Promotions, stopped: bool) -> Vec<usize> {
    promotions.standings.iter().filter(|(_, one)| one.stopped == stopped).map(|(number, _)| *number).collect()
}

/// Nine settings with two seeds each, in three thirds: after 2 of 18 steps, after 6, and at the end.
const THIRDS: &str = "
sweep:
  grid:
    stages.topics.train.lr: [1.0e-4, 2.0e-4, 3.0e-4, 4.0e-4, 5.0e-4, 6.0e-4, 7.0e-4, 8.0e-4, 9.0e-4]
  repeat: { seeds: [1, 2], over: [stages.topics.train.seed] }
  maximize: stages.test.metrics.accuracy
  successive_halving: {}
";

#[test]
fn promotions_follow_a_table_that_was_worked_out_by_hand() {
    // The means after 2 steps are .50 .35 .60 .70 .70 .20 .70 .10 .65, so that settings 4, 5 and 7 go on.
    let first: [&[f64]; 18] = [
        &[0.4],
        &[0.6],
        &[0.3],
        &[0.4],
        &[0.9],
        &[0.3],
        &[0.7],
        &[0.7],
        &[0.6],
        &[0.8],
        &[0.2],
        &[0.2],
        &[0.5],
        &[0.9],
        &[0.1],
        &[0.1],
        &[0.6],
        &[0.7],
    ];
    let promotions = judged(THIRDS, &first, &[]);
    assert_eq!(promotions.decided, [(9, 3)]);
    let open = promotions.open.as_ref().expect("a second rung");
    assert_eq!((open.number, open.rung.part, open.tasks.len()), (1, 3, 6));
    assert_eq!(numbers(&promotions, false), [7, 8, 9, 10, 13, 14]);
    // All 18 cells have done 2 of their 18 steps.
    assert_eq!(promotions.steps, (36, 324));
    let stopped = Standing { compared: 1, stopped: true, step: 2, steps: 18, dev_metric: Some(0.9) };
    assert_eq!(promotions.standings[&5], stopped, "one good seed doesn't make a setting good");

    // After 6 steps the means of these are .60, .55 and .80: setting 7 alone is trained to the end.
    let mut second = first;
    second[6] = &[0.7, 0.5];
    second[7] = &[0.7, 0.7];
    second[8] = &[0.6, 0.6];
    second[9] = &[0.8, 0.5];
    second[12] = &[0.5, 0.7];
    second[13] = &[0.9, 0.9];
    let promotions = judged(THIRDS, &second, &[]);
    assert_eq!((promotions.decided.as_slice(), &promotions.open), (&[(9, 3), (3, 1)][..], &None));
    assert_eq!(numbers(&promotions, false), [13, 14]);
    assert_eq!(promotions.steps, (12 * 2 + 6 * 6, 324));

    // At the end nothing changes but how far they are.
    second[12] = &[0.5, 0.7, 0.1];
    second[13] = &[0.9, 0.9, 0.1];
    let promotions = judged(THIRDS, &second, &[]);
    assert_eq!(numbers(&promotions, false), [13, 14]);
    assert_eq!(promotions.steps, (12 * 2 + 4 * 6 + 2 * 18, 324));
    let done = Standing { compared: 2, stopped: false, step: 18, steps: 18, dev_metric: Some(0.1) };
    assert_eq!(promotions.standings[&13], done);
}

#[test]
fn of_equal_settings_the_first_goes_on() {
    let same: [&[f64]; 18] = [&[0.5]; 18];
    assert_eq!(numbers(&judged(THIRDS, &same, &[]), false), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn failed_cells_are_not_waited_for_and_settings_without_a_figure_go_no_further() {
    let mut first: [&[f64]; 18] = [&[0.5]; 18];
    // Setting 1 loses a seed and has the better one left, setting 2 loses both.
    first[0] = &[];
    first[1] = &[0.9];
    (first[2], first[3]) = (&[], &[]);
    let promotions = judged(THIRDS, &first, &[1, 3, 4]);
    assert_eq!(promotions.decided, [(9, 3)]);
    assert_eq!(numbers(&promotions, false), [2, 5, 6, 7, 8]);
    // One that is only missing is waited for.
    assert_eq!(judged(THIRDS, &first, &[1, 3]).open.expect("a rung").tasks.len(), 1);
    // A later failure doesn't change what was decided before.
    let mut second = first;
    second[1] = &[0.9, 0.4];
    for at in [4, 5, 6] {
        second[at] = &[0.5, 0.5];
    }
    let promotions = judged(THIRDS, &second, &[1, 3, 4, 8]);
    assert_eq!(promotions.decided, [(9, 3), (3, 1)]);
    assert_eq!(numbers(&promotions, false), [5, 6, 8]);
}

#[test]
fn what_is_kept_best_so_far_is_compared_and_less_loss_is_better() {
    let best = THIRDS.replace("successive_halving: {}", "successive_halving: { rungs: 1 }");
    let mut metrics: [&[f64]; 18] = [&[0.5, 0.6]; 18];
    for at in [0, 1, 2, 3, 4, 5] {
        metrics[at] = &[0.9, 0.1];
    }
    assert_eq!(numbers(&judged(&best, &metrics, &[]), false), [7, 8, 9, 10, 11, 12]);
    let kept = best.replace("  grid:\n", "  grid:\n    stages.topics.train.keep_best: [accuracy]\n");
    assert_eq!(numbers(&judged(&kept, &metrics, &[]), false), [1, 2, 3, 4, 5, 6]);
    // All of what was measured is called accuracy here, so that there is no loss to compare.
    let loss = judged(&best.replace("rungs: 1", "rungs: 1, metric: loss"), &metrics, &[]);
    assert_eq!((loss.decided.as_slice(), numbers(&loss, false).len()), (&[(9, 0)][..], 0));
}
