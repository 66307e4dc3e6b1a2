//! Attention with shared keys, as loops.

use burn::tensor::{DType, Device, Tensor};
use pipe::network::kernels::{self, AttentionSpans, Dropout, KeyValue, PrefixKeys, reference};

use super::{assert_right, dropout, input, kept, tensors::intervals};

/// What attends to what.
struct Case {
    spans: AttentionSpans,
    /// Keys that every query sees.
    shared: usize,
    heads: usize,
    kv_heads: usize,
    size: usize,
    dropout: Option<Dropout>,
}

impl Case {
    /// The definition; `x` is queries, keys, values and, where keys are shared, those and their values.
    fn reference(&self, x: &[Vec<f64>]) -> Vec<f64> {
        let (heads, kv_heads, size) = (self.heads, self.kv_heads, self.size);
        let [from, to] = [&self.spans.from, &self.spans.to].map(|ends| {
            let ends: Vec<i32> = ends.clone().into_data().try_to_vec().expect("integers");
            ends.into_iter().map(|end| end as usize).collect::<Vec<_>>()
        });
        let mut out = vec![0.0; from.len() * heads * size];
        for (query, head) in (0..from.len()).flat_map(|q| (0..heads).map(move |h| (q, h))) {
            if from[query] == to[query] {
                continue;
            }
            let column = head / (heads / kv_heads) * size;
            let shared = (0..self.shared).map(|key| (3, key));
            let seen: Vec<(usize, usize)> = shared.chain((from[query]..to[query]).map(|key| (1, key))).collect();
            let part = |table: usize, key: usize| &x[table][key * kv_heads * size + column..][..size];
            let asked = &x[0][(query * heads + head) * size..][..size];
            let score = |&(table, key): &(usize, usize)| -> f64 {
                let product: f64 = asked.iter().zip(part(table, key)).map(|(q, k)| q * k).sum();
                (product / (size as f64).sqrt()).exp()
            };
            let total: f64 = seen.iter().map(score).sum();
            for (i, place) in seen.iter().enumerate() {
                let drop = self.dropout.as_ref().map_or(1.0, |d| kept(d, query, head as u32, i));
                let p = score(place) / total * drop;
                for (j, v) in part(place.0 + 1, place.1).iter().enumerate() {
                    out[(query * heads + head) * size + j] += p * v;
                }
            }
        }
        out
    }

    #[track_caller]
    fn assert_right(&self, what: &str) {
        let (queries, keys) = (self.spans.rows * self.spans.width, self.spans.rows * self.spans.keys);
        let width = self.kv_heads * self.size;
        let mut inputs = vec![
            input(1, queries, self.heads * self.size, 1.5),
            input(2, keys, width, 1.5),
            input(3, keys, width, 1.5),
        ];
        if self.shared > 0 {
            inputs.extend([input(4, self.shared, width, 1.5), input(5, self.shared, width, 1.5)]);
        }
        assert_right(
            what,
            &inputs,
            |x| {
                let pair = |i: usize| KeyValue { key: x[i].clone(), value: x[i + 1].clone() };
                let prefix = (self.shared > 0).then(|| PrefixKeys::Beside(pair(3)));
                let (heads, kv_heads) = (self.heads, self.kv_heads);
                let dropout = self.dropout.as_ref();
                kernels::grouped_attention(x[0].clone(), pair(1), prefix, &self.spans, heads, kv_heads, dropout)
            },
            |x| self.reference(x),
        );
    }
}

#[test]
fn heads_of_a_group_share_keys_and_values() {
    let (from, to) = intervals(&[vec![3, 3, 3], vec![1, 2, 3, 4, 5], vec![1]], 2);
    let tokens = from.len();
    let spans = AttentionSpans::new(&from, &to, 1, tokens, &Device::flex()).expect("intervals");
    for (heads, kv_heads) in [(1, 1), (2, 2), (4, 2), (3, 1)] {
        for dropout in [None, Some(dropout(tokens))] {
            Case { spans: spans.clone(), shared: 0, heads, kv_heads, size: 3, dropout }.assert_right("grouped");
        }
    }
}

#[test]
fn every_query_that_sees_a_key_sees_the_prefix() {
    let (from, to) = intervals(&[vec![3, 3, 3], vec![1, 2]], 2);
    let tokens = from.len();
    let spans = AttentionSpans::new(&from, &to, 1, tokens, &Device::flex()).expect("intervals");
    for dropout in [None, Some(dropout(tokens))] {
        Case { spans: spans.clone(), shared: 4, heads: 4, kv_heads: 2, size: 2, dropout }.assert_right("prefix");
    }
}

#[test]
fn queries_attend_to_other_tokens_than_themselves() {
    // Two rows of three queries and five keys: a cache of which all is seen, and a source of which some is.
    let (from, to) = ([0, 0, 0, 5, 7, 6], [3, 4, 5, 8, 7, 10]);
    let spans = AttentionSpans::among(&from, &to, 2, [3, 5], &Device::flex()).expect("intervals");
    for shared in [0, 2] {
        Case { spans: spans.clone(), shared, heads: 2, kv_heads: 1, size: 4, dropout: Some(dropout(6)) }
            .assert_right("among others");
    }
}

/// A cache in bf16 is attended to as the numbers that it holds, whichever heads and blocks of queries share them.
#[test]
fn keys_and_values_of_a_cache_are_what_it_holds() {
    let device = Device::flex();
    for (queries, keys, shared, heads, kv_heads) in
        [(1, 9, 0, 4, 2), (1, 70, 3, 3, 1), (150, 200, 0, 2, 2), (150, 200, 2, 4, 2)]
    {
        let from = vec![0; queries];
        let to: Vec<u32> = (0..queries).map(|query| (keys - queries + query + 1) as u32).collect();
        let spans = AttentionSpans::among(&from, &to, 1, [queries, keys], &device).expect("intervals");
        let size = 5;
        let matrix = |seed, rows: usize, columns: usize| {
            let values: Vec<f32> = input(seed, rows, columns, 1.5).0.iter().map(|&value| value as f32).collect();
            Tensor::<1>::from_floats(&values[..], &device).reshape([rows, columns])
        };
        let pair = |seed, rows| {
            let [key, value] = [0_u64, 1].map(|at| matrix(seed + at, rows, kv_heads * size).cast(DType::BF16));
            KeyValue { key, value }
        };
        let widened = |pair: &KeyValue| {
            let [key, value] = [&pair.key, &pair.value].map(|x| x.clone().cast(DType::F32));
            KeyValue { key, value }
        };
        let (query, held, prefix) = (matrix(1, queries, heads * size), pair(2, keys), pair(4, shared.max(1)));
        let attend = |keys: KeyValue, prefix: PrefixKeys| -> Vec<f32> {
            let prefix = (shared > 0).then_some(prefix);
            let out = kernels::grouped_attention(query.clone(), keys, prefix, &spans, heads, kv_heads, None);
            out.into_data().try_to_vec().expect("f32")
        };
        let beside = || PrefixKeys::Beside(widened(&prefix));
        let expected = attend(widened(&held), beside());
        let found = attend(held.clone(), beside());
        if shared > 0 {
            // A cache has the prefix in front of the rest.
            let behind = |first: &Tensor<2>, rest: &Tensor<2>| Tensor::cat(vec![first.clone(), rest.clone()], 0);
            let all = KeyValue { key: behind(&prefix.key, &held.key), value: behind(&prefix.value, &held.value) };
            let first = Some(PrefixKeys::First(shared));
            let composed =
                reference::grouped_attention(query.clone(), all.clone(), first, &spans, heads, kv_heads, None);
            assert_eq!(attend(all, PrefixKeys::First(shared)), found);
            let composed: Vec<f32> = composed.into_data().try_to_vec().expect("f32");
            let furthest = composed.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(furthest < 1e-5, "composed, {queries} queries, {keys} keys, {heads} heads: {furthest:e}");
        }
        let furthest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(furthest < 1e-6, "{queries} queries, {keys} keys, {heads} heads: {furthest:e}");
    }
}
