//! Random numbers, layouts and schedules.

use pipe::{
    network::batch::{BatchSampler, BatchSize, Batching, Example, Layout, SlotRange, Target, batch_ranges, lay_out},
    support::random::{Categorical, Key, shuffle},
};
use proptest::prelude::*;

#[test]
fn random_numbers_are_these_for_good() {
    let key = Key::new(1337).with("test").at(3);
    let mut stream = key.stream();
    let drawn: Vec<u64> = vec![Key::new(0).u64(), key.u64(), key.at(0).u64(), stream.u64(), stream.u64()];
    assert_eq!(
        drawn,
        [12035550249420947055, 15912509953917061029, 1115942251630162769, 15912509953917061029, 16972845426291065335]
    );
    assert_eq!(shuffle(key, 10), [7, 6, 4, 3, 0, 5, 1, 2, 9, 8]);
    assert_eq!((0..8).map(|index| key.at(index).below(6)).collect::<Vec<_>>(), [0, 1, 3, 4, 1, 1, 3, 4]);
    assert_eq!(key.f64(), 0.8626188930867045);
}

#[test]
fn keys_differ_by_seed_purpose_index_and_order() {
    let root = Key::new(1);
    let keys =
        [root, Key::new(2), root.with("a"), root.with("b"), root.at(1), root.at(2), root.at(1).at(2), root.at(2).at(1)];
    for (index, key) in keys.iter().enumerate() {
        assert!(keys[..index].iter().all(|other| other.u64() != key.u64()), "{index}");
    }
}

#[test]
fn draws_have_their_distributions() {
    let key = Key::new(5);
    let n = 20_000;
    let mean = (0..n).map(|index| key.at(index).f64()).sum::<f64>() / n as f64;
    assert!((mean - 0.5).abs() < 0.01, "{mean}");

    let mut counts = [0; 3];
    let weighted = Categorical::new([1.0, 0.0, 3.0]).unwrap();
    (0..n).for_each(|index| counts[weighted.pick(key.at(index).f64())] += 1);
    assert_eq!(counts[1], 0);
    assert!((counts[2] as f64 / n as f64 - 0.75).abs() < 0.02, "{counts:?}");

    // The mean of a Poisson distribution of mean 3 without its zero: 3 / (1 - exp(-3)).
    let poisson = Categorical::poisson(3.0, 39).unwrap();
    let mean = (0..n).map(|index| (poisson.pick(key.at(index).f64()) + 1) as f64).sum::<f64>() / n as f64;
    assert!((mean - 3.157).abs() < 0.05, "{mean}");
}

#[test]
fn outcomes_without_weight_are_never_picked() {
    let choice = Categorical::new([0.0, 1.0, 0.0]).unwrap();
    assert_eq!([0.0, 0.5, 1.0 - f64::EPSILON, 1.0].map(|uniform| choice.pick(uniform)), [1; 4]);
    assert!(Categorical::new([0.0, 0.0]).is_none());
    assert!(Categorical::new([1.0, f64::NAN]).is_none());
    assert!(Categorical::new([1.0, -1.0]).is_none());
}

fn examples(lengths: &[usize]) -> Vec<Example> {
    let example = |(id, &length): (usize, &usize)| {
        let tokens = (0..length as u32).map(|token| 100 * (id as u32 + 1) + token).collect();
        let mut example = Example::sequence(id as u64, tokens, length / 2);
        example.targets.push(Target { at: length as u32 - 1, token: id as u32 });
        example
    };
    lengths.iter().enumerate().map(example).collect()
}

#[test]
fn ragged_batches_have_no_padding() {
    let batch = lay_out(&examples(&[3, 2]), Layout::Ragged, Key::new(0));
    assert_eq!((batch.rows, batch.width), (1, 5));
    assert_eq!(batch.tokens, [100, 101, 102, 200, 201]);
    assert_eq!(batch.positions, [0, 1, 2, 0, 1]);
    assert_eq!(batch.span_starts, [0, 0, 0, 3, 3]);
    assert_eq!(batch.span_ends, [1, 2, 3, 4, 5]);
    assert_eq!(batch.examples, [SlotRange { start: 0, length: 3 }, SlotRange { start: 3, length: 2 }]);
    assert_eq!(batch.targets, [Target { at: 2, token: 0 }, Target { at: 4, token: 1 }]);
    assert_eq!((batch.pairs.len(), batch.classes.len()), (0, 0));
}

#[test]
fn packing_puts_the_longest_first_into_the_first_row_with_room() {
    let batch = lay_out(&examples(&[2, 4, 3, 5]), Layout::Rows { width: 8, packing: true }, Key::new(0));
    assert_eq!((batch.rows, batch.width), (2, 8));
    let starts: Vec<u32> = batch.examples.iter().map(|example| example.start).collect();
    assert_eq!(starts, [12, 8, 5, 0]);
    assert_eq!(batch.tokens[14..], [0, 0]);
    assert_eq!(batch.span_starts[14..], batch.span_ends[14..]);
}

#[test]
fn without_packing_rows_are_as_wide_as_the_longest_example_needs() {
    let batch = lay_out(&examples(&[9, 4]), Layout::Rows { width: 64, packing: false }, Key::new(0));
    assert_eq!((batch.rows, batch.width), (2, 16));
    let batch = lay_out(&examples(&[9, 4]), Layout::Rows { width: 12, packing: false }, Key::new(0));
    assert_eq!((batch.rows, batch.width), (2, 12));
}

#[test]
fn an_example_longer_than_the_width_widens_the_rows() {
    for packing in [true, false] {
        let batch = lay_out(&examples(&[9, 4]), Layout::Rows { width: 4, packing }, Key::new(0));
        assert_eq!(batch.width, 9);
    }
}

#[test]
fn empty_batches_are_empty() {
    let none: [Example; 0] = [];
    for layout in [Layout::Ragged, Layout::Rows { width: 8, packing: true }, Layout::Rows { width: 8, packing: false }]
    {
        assert_eq!(lay_out(&none, layout, Key::new(0)).tokens.len(), 0);
    }
}

proptest! {
    #[test]
    fn every_layout_shows_each_token_the_same(lengths in prop::collection::vec(1_usize..20, 1..12), width in 8_usize..40) {
        let examples = examples(&lengths);
        let layouts = [Layout::Ragged, Layout::Rows { width, packing: true }, Layout::Rows { width, packing: false }];
        for layout in layouts {
            let batch = lay_out(&examples, layout, Key::new(7));
            prop_assert_eq!(batch.tokens.len(), batch.rows * batch.width);
            let mut taken = vec![false; batch.tokens.len()];
            for (example, span) in examples.iter().zip(&batch.examples) {
                let (start, end) = (span.start as usize, (span.start + span.length) as usize);
                prop_assert!(start / batch.width == (end - 1) / batch.width, "an example lies in one row");
                prop_assert_eq!(&batch.tokens[start..end], &example.tokens);
                for (index, place) in (start..end).enumerate() {
                    prop_assert!(!std::mem::replace(&mut taken[place], true));
                    prop_assert_eq!(batch.span_starts[place], span.start);
                    prop_assert_eq!(batch.span_ends[place], span.start + example.span_ends[index]);
                }
            }
            for (place, taken) in taken.iter().enumerate() {
                prop_assert!(*taken || batch.span_starts[place] == batch.span_ends[place]);
            }
            // Dropout is the same whatever the layout.
            let ragged = lay_out(&examples, Layout::Ragged, Key::new(7));
            let keys = |batch: &pipe::network::batch::Batch| -> Vec<u32> {
                let of = |span: &SlotRange| batch.dropout_keys[span.start as usize..][..span.length as usize].to_vec();
                batch.examples.iter().flat_map(of).collect()
            };
            prop_assert_eq!(keys(&batch), keys(&ragged));
        }
    }

    #[test]
    fn every_example_is_seen_once_an_epoch_within_the_budget(
        lengths in prop::collection::vec(1_u32..60, 1..300),
        size in prop_oneof![(1_usize..20).prop_map(BatchSize::Examples), (8_usize..200).prop_map(BatchSize::Tokens)],
        accumulate in 1_usize..4,
        sorted: bool,
    ) {
        let schedule = BatchSampler::new(lengths.clone(), Batching { size, accumulate, sorted }, Key::new(3));
        let mut step = 0;
        for epoch in 0..3 {
            let mut seen = Vec::new();
            for _ in 0..schedule.epoch_steps(epoch) {
                let planned = schedule.step(step);
                prop_assert_eq!(planned.epoch, epoch);
                prop_assert!((1..=accumulate).contains(&planned.batches.len()));
                for batch in &planned.batches {
                    let lengths: Vec<usize> = batch.iter().map(|&index| lengths[index as usize] as usize).collect();
                    let padded = lengths.len() * lengths.iter().max().unwrap();
                    match size {
                        BatchSize::Examples(n) => prop_assert!((1..=n).contains(&batch.len())),
                        BatchSize::Tokens(n) if sorted => prop_assert!(padded <= n || batch.len() == 1),
                        BatchSize::Tokens(n) => prop_assert!(lengths.iter().sum::<usize>() <= n || batch.len() == 1),
                    }
                    seen.extend_from_slice(batch);
                }
                step += 1;
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len() as u32).collect::<Vec<_>>());
        }
        prop_assert_eq!(schedule.steps(3.0), step);
    }

    #[test]
    fn any_step_can_be_had_without_those_before(lengths in prop::collection::vec(1_u32..60, 1..100), step in 0_usize..200) {
        let division = Batching { size: BatchSize::Tokens(64), accumulate: 2, sorted: false };
        let sequential = BatchSampler::new(lengths.clone(), division, Key::new(3));
        let before: Vec<_> = (0..=step).map(|step| sequential.step(step)).collect();
        prop_assert_eq!(&BatchSampler::new(lengths, division, Key::new(3)).step(step), &before[step]);
    }
}

#[test]
fn epochs_and_seeds_have_orders_of_their_own() {
    let division = Batching { size: BatchSize::Examples(100), accumulate: 1, sorted: false };
    let order = |seed, epoch| BatchSampler::new(vec![1; 100], division, Key::new(seed)).step(epoch).batches.concat();
    assert_ne!(order(1, 0), order(1, 1));
    assert_ne!(order(1, 0), order(2, 0));
    assert_eq!(order(1, 0), order(1, 0));
}

#[test]
fn sorted_batches_hold_examples_of_like_length() {
    let lengths: Vec<u32> = (0..1000).map(|index| 1 + index * 7919 % 100).collect();
    let division = Batching { size: BatchSize::Examples(10), accumulate: 1, sorted: true };
    let schedule = BatchSampler::new(lengths.clone(), division, Key::new(0));
    let spread = |step| {
        let of = |index: &u32| lengths[*index as usize];
        let batch = &schedule.step(step).batches[0];
        batch.iter().map(of).max().unwrap() - batch.iter().map(of).min().unwrap()
    };
    assert!((0..100).all(|step| spread(step) <= 5));
}

#[test]
fn accumulating_splits_a_step_without_changing_it() {
    let lengths: Vec<u32> = (1..=100).collect();
    for sorted in [false, true] {
        let of = |n, accumulate| {
            let division = Batching { size: BatchSize::Examples(n), accumulate, sorted };
            let schedule = BatchSampler::new(lengths.clone(), division, Key::new(0));
            (0..20).map(|step| schedule.step(step).batches.concat()).collect::<Vec<_>>()
        };
        assert_eq!(of(16, 1), of(4, 4));
    }
}

#[test]
fn part_of_an_epoch_is_part_of_its_steps() {
    let division = Batching { size: BatchSize::Examples(10), accumulate: 1, sorted: false };
    let schedule = BatchSampler::new(vec![5; 95], division, Key::new(0));
    assert_eq!([1.0, 2.0, 2.5, 0.3, 0.001].map(|epochs| schedule.steps(epochs)), [10, 20, 25, 3, 1]);
}

#[test]
fn batches_by_tokens_close_before_they_overflow() {
    assert_eq!(batch_ranges([4, 4, 3, 9, 1], BatchSize::Tokens(8), false), [0..2, 2..3, 3..4, 4..5]);
    assert_eq!(batch_ranges([2, 2, 5], BatchSize::Tokens(8), true), [0..2, 2..3]);
    assert_eq!(batch_ranges([1, 1, 1], BatchSize::Examples(2), false), [0..2, 2..3]);
}
