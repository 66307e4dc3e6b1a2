use super::*;

const IMPOSSIBLE: f32 = f32::NEG_INFINITY;

fn choose(sampling: Sampling, scores: &[f32], uniform: f64) -> u32 {
    sampling.choose(scores, uniform).unwrap()
}

#[test]
fn choice_follows_the_distribution() {
    // Probabilities of 1/4, 1/2, 0 and 1/4, taken in the order 1, 0, 3.
    let scores = [0.0, 2f32.ln(), IMPOSSIBLE, 0.0];
    let chosen = [0.0, 0.49, 0.51, 0.74, 0.76, 0.999].map(|uniform| choose(Sampling::PLAIN, &scores, uniform));
    assert_eq!(chosen, [1, 1, 0, 0, 3, 3]);
}

#[test]
fn temperature_sharpens_and_flattens() {
    // Odds of 1 to 4 become 1 to 16 at a half and 1 to 2 at two.
    let scores = [0.0, 4f32.ln()];
    let at = |temperature, uniform| choose(Sampling { temperature, ..Sampling::PLAIN }, &scores, uniform);
    assert_eq!([at(1.0, 0.79), at(1.0, 0.81)], [1, 0]);
    assert_eq!([at(0.5, 0.94), at(0.5, 0.942)], [1, 0]);
    assert_eq!([at(2.0, 0.66), at(2.0, 0.67)], [1, 0]);
}

#[test]
fn greedy_takes_the_first_of_the_likeliest() {
    assert_eq!(choose(Sampling::GREEDY, &[1.0, 3.0, 3.0, 2.0], 0.999), 1);
    assert_eq!(choose(Sampling { top_k: 3, top_p: 0.1, ..Sampling::GREEDY }, &[1.0, 2.0], 0.999), 1);
}

#[test]
fn top_k_keeps_the_largest_and_their_equals() {
    let scores = [1.0, 3.0, 2.0, 2.0, IMPOSSIBLE];
    let ids = |kept| likeliest(&scores, kept).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids(1), [1]);
    assert_eq!(ids(2), [1, 2, 3]);
    assert_eq!(ids(3), [1, 2, 3]);
    assert_eq!(ids(4), [1, 2, 3, 0]);
    assert_eq!(ids(0), [1, 2, 3, 0]);
    assert_eq!(ids(9), [1, 2, 3, 0]);
    assert_eq!(choose(Sampling { top_k: 1, ..Sampling::PLAIN }, &scores, 0.999), 1);
    assert_eq!(choose(Sampling { top_k: 2, ..Sampling::PLAIN }, &scores, 0.999), 3);
}

#[test]
fn top_p_keeps_as_few_as_reach_it() {
    let probabilities = [0.5, 0.25, 0.125, 0.125];
    let kept = [0.0, 0.5, 0.500_001, 0.75, 0.751, 0.9, 1.0].map(|share| nucleus(&probabilities, share));
    assert_eq!(kept, [1, 1, 2, 2, 3, 4, 4]);
    let scores = probabilities.map(|weight| (weight as f32).ln());
    assert_eq!(choose(Sampling { top_p: 0.6, ..Sampling::PLAIN }, &scores, 0.999), 1);
}

#[test]
fn top_p_counts_what_top_k_left() {
    // Of 4, 2, 1, 1 top-k leaves 4 and 2, of which the first has two thirds.
    let scores = [4.0, 2.0, 1.0, 1.0].map(|weight: f32| weight.ln());
    assert_eq!(choose(Sampling { top_k: 2, top_p: 0.66, ..Sampling::PLAIN }, &scores, 0.999), 0);
    assert_eq!(choose(Sampling { top_k: 2, top_p: 0.67, ..Sampling::PLAIN }, &scores, 0.999), 1);
}

#[test]
fn scores_without_a_choice_are_refused() {
    for scores in [vec![], vec![IMPOSSIBLE; 3], vec![1.0, f32::NAN]] {
        assert!(Sampling::PLAIN.choose(&scores, 0.5).is_err());
        assert!(Sampling::GREEDY.choose(&scores, 0.5).is_err());
    }
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    assert!(Sampling::default().check().is_ok() && Sampling::GREEDY.check().is_ok());
    let bad = [
        Sampling { temperature: -1.0, ..Sampling::PLAIN },
        Sampling { temperature: f64::NAN, ..Sampling::PLAIN },
        Sampling { top_p: 1.1, ..Sampling::PLAIN },
        Sampling { min_p: -0.1, ..Sampling::PLAIN },
        Sampling { typical_p: 0.0, ..Sampling::PLAIN },
        Sampling { top_h: Some(1.5), ..Sampling::PLAIN },
        Sampling { epsilon_cutoff: 1.0, ..Sampling::PLAIN },
        Sampling { eta_cutoff: f64::NAN, ..Sampling::PLAIN },
    ];
    assert!(bad.iter().all(|sampling| sampling.check().is_err()));
}
