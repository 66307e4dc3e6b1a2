//! Attention over intervals, with heads of their own or sharing keys.

use burn::tensor::{Device, Tensor};
use pipe::network::kernels::{self, AttentionSpans, KeyValue, PrefixKeys, reference};
use proptest::prelude::*;

use super::{assert_same, dropout, inputs, tensors::intervals};

/// Checks attention on one ragged row.
#[track_caller]
fn assert_attention(
    what: &str,
    (from, to): (Vec<u32>, Vec<u32>),
    rows: usize,
    hidden: usize,
    heads: usize,
    scale: f32,
) {
    let tokens = from.len();
    let spans = AttentionSpans::new(&from, &to, rows, tokens / rows, &Device::flex()).expect("intervals");
    let inputs = inputs(&[([tokens, 3 * hidden], scale)], &[]);
    for drop in [None, Some(dropout(tokens, 0.25))] {
        assert_same(
            what,
            &inputs,
            |(m, _)| kernels::attention(m[0].clone(), &spans, heads, drop.as_ref()),
            |(m, _)| reference::attention(m[0].clone(), &spans, heads, drop.as_ref()),
            1e-5 * scale.max(1.0),
        );
    }
}

#[test]
fn attention_within_examples() {
    let full = |n: usize| vec![n; n];
    let causal = |n: usize| (1..=n).collect::<Vec<_>>();
    let prefix = |n: usize, p: usize| (1..=n).map(|i| i.max(p)).collect::<Vec<_>>();
    assert_attention("one token", intervals(&[full(1)], 0), 1, 1, 1, 1.0);
    assert_attention("padding only", intervals(&[], 3), 1, 4, 2, 1.0);
    assert_attention("full", intervals(&[full(5), full(1), full(70)], 4), 1, 32, 2, 1.0);
    assert_attention("causal", intervals(&[causal(150), causal(3)], 0), 1, 12, 3, 2.0);
    assert_attention("mixed", intervals(&[prefix(40, 17), full(64), causal(65)], 1), 1, 128, 2, 3.0);
    assert_attention("large", intervals(&[full(20), causal(30)], 0), 1, 16, 1, 20.0);
}

#[test]
fn attention_in_rows_of_equal_width() {
    let (mut from, mut to) = intervals(&[vec![6; 6]], 4);
    let second = intervals(&[vec![3; 3], (1..=5).collect()], 2);
    from.extend(second.0.iter().map(|x| x + 10));
    to.extend(second.1.iter().map(|x| x + 10));
    assert_attention("two rows", (from, to), 2, 16, 2, 1.0);
}

#[test]
fn attention_to_intervals_of_any_kind() {
    // Sliding windows, queries without keys between others, keys before and behind their queries.
    let windows: (Vec<u32>, Vec<u32>) = (0..100u32).map(|q| (q.saturating_sub(9), (q + 3).min(100))).unzip();
    assert_attention("windows", windows, 1, 16, 2, 1.0);
    assert_attention("holes", (vec![0, 1, 0, 3, 3], vec![2, 1, 2, 3, 5]), 1, 8, 2, 1.0);
    assert_attention("elsewhere", (vec![3, 3, 4, 0, 0, 1], vec![5, 6, 6, 1, 2, 3]), 1, 8, 2, 1.0);
    assert_attention("later", (vec![1, 2, 3, 3], vec![2, 3, 4, 3]), 1, 8, 2, 1.0);
}

/// Keys that heads share.
#[derive(Clone, Copy)]
struct Sharing {
    kv_heads: usize,
    /// Query heads of a key/value head.
    together: usize,
    size: usize,
    /// Keys that every query sees.
    prefix: usize,
}

/// Checks attention of queries to other tokens' keys.
#[track_caller]
fn assert_grouped(what: &str, spans: &AttentionSpans, sharing: Sharing, scale: f32) {
    let Sharing { kv_heads, together, size, prefix } = sharing;
    let heads = kv_heads * together;
    let (queries, keys) = (spans.rows * spans.width, spans.rows * spans.keys);
    let [queries, keys, shared] = [[queries, heads * size], [keys, kv_heads * size], [prefix, kv_heads * size]];
    let all = [(queries, scale), (keys, scale), (keys, 1.0), (shared, scale), (shared, 1.0)];
    let inputs = inputs(&all[..if prefix > 0 { 5 } else { 3 }], &[]);
    let pair = |m: &[Tensor<2>], i: usize| KeyValue { key: m[i].clone(), value: m[i + 1].clone() };
    let before = |m: &[Tensor<2>]| (prefix > 0).then(|| PrefixKeys::Beside(pair(m, 3)));
    for drop in [None, Some(dropout(queries[0], 0.25))] {
        let drop = drop.as_ref();
        assert_same(
            what,
            &inputs,
            |(m, _)| kernels::grouped_attention(m[0].clone(), pair(m, 1), before(m), spans, heads, kv_heads, drop),
            |(m, _)| reference::grouped_attention(m[0].clone(), pair(m, 1), before(m), spans, heads, kv_heads, drop),
            1e-5 * scale.max(1.0),
        );
    }
}

const SHARINGS: [Sharing; 5] = [
    Sharing { kv_heads: 1, together: 1, size: 1, prefix: 0 },
    Sharing { kv_heads: 2, together: 3, size: 8, prefix: 0 },
    Sharing { kv_heads: 1, together: 4, size: 17, prefix: 3 },
    Sharing { kv_heads: 3, together: 1, size: 16, prefix: 70 },
    Sharing { kv_heads: 2, together: 2, size: 5, prefix: 1 },
];

#[test]
fn heads_that_share_keys() {
    let batches = [
        intervals(&[vec![1]], 0),
        intervals(&[], 3),
        intervals(&[vec![70; 70], vec![1], (1..=65).collect()], 4),
        // Sliding windows, queries without keys between others, keys before and behind their queries.
        (0..100u32).map(|q| (q.saturating_sub(9), (q + 3).min(100))).unzip(),
        (vec![0, 1, 0, 3, 3], vec![2, 1, 2, 3, 5]),
        (vec![3, 3, 4, 0, 0, 1], vec![5, 6, 6, 1, 2, 3]),
    ];
    for (from, to) in batches {
        let spans = AttentionSpans::new(&from, &to, 1, from.len(), &Device::flex()).expect("intervals");
        for sharing in SHARINGS {
            assert_grouped("shared", &spans, sharing, 1.0);
        }
    }
}

#[test]
fn large_scores() {
    let (from, to) = intervals(&[vec![20; 20], (1..=30).collect()], 0);
    let spans = AttentionSpans::new(&from, &to, 1, 50, &Device::flex()).expect("intervals");
    for sharing in SHARINGS {
        assert_grouped("large", &spans, sharing, 20.0);
    }
}

#[test]
fn queries_beside_a_cache_of_keys() {
    let device = Device::flex();
    // A query at the end of 90 tokens; the last three of each of two rows; a source of which some is seen, some never.
    let one = AttentionSpans::among(&[0], &[90], 1, [1, 90], &device).expect("intervals");
    let two =
        AttentionSpans::among(&[0, 0, 0, 9, 10, 9], &[7, 8, 9, 16, 17, 18], 2, [3, 9], &device).expect("intervals");
    let part = AttentionSpans::among(&[1, 1, 4, 3], &[3, 3, 4, 6], 1, [4, 8], &device).expect("intervals");
    for spans in [one, two, part] {
        for sharing in SHARINGS {
            assert_grouped("cache", &spans, sharing, 1.0);
        }
    }
}

proptest! {
    #![proptest_config(crate::common::cases(48))]

    #[test]
    fn attention_in_random_batches(
        examples in prop::collection::vec(prop::collection::vec(0usize..=100, 1..100), 1..5),
        padding in 0usize..4,
        heads in 1usize..4,
        size in 1usize..40,
    ) {
        let inside = |example: Vec<usize>| {
            let length = example.len();
            example.into_iter().map(|seen| seen * length / 100).collect()
        };
        let examples: Vec<Vec<usize>> = examples.into_iter().map(inside).collect();
        assert_attention("random batch", intervals(&examples, padding), 1, heads * size, heads, 1.0);
    }

    #[test]
    fn shared_keys_in_random_batches(
        examples in prop::collection::vec((1usize..80, 1usize..80, 0usize..=100), 1..5),
        kv_heads in 1usize..3,
        together in 1usize..4,
        size in 1usize..20,
        prefix in 0usize..5,
    ) {
        let (mut from, mut to, mut keys) = (vec![], vec![], 0);
        for (queries, length, seen) in examples {
            from.extend(vec![keys as u32; queries]);
            to.extend((0..queries).map(|i| (keys + (length * seen / 100 + i).min(length)) as u32));
            keys += length;
        }
        let spans = AttentionSpans::among(&from, &to, 1, [from.len(), keys], &Device::flex()).expect("intervals");
        assert_grouped("random batch", &spans, Sharing { kv_heads, together, size, prefix }, 1.0);
    }
}
