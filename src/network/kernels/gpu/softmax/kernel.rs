//! The kernels themselves: a cube has a query of a head, and its units share the row of scores.

use burn_cubecl::cubecl::{self, prelude::*};

use crate::network::kernels::{
    attention_spans::HIDDEN,
    gpu::{
        math::exp,
        rows::{kept, largest, most, places, stream, sum, total},
    },
};

/// Where a query's own visible keys begin and end, and where those that all share end, counted from the first score of
/// its row.
#[derive(CubeType, Clone, Copy)]
struct Span {
    low: i32,
    high: i32,
    common: i32,
}

/// The fields of [`Layout`](super::Layout) that kernels need.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct ScoreLayout {
    pub(super) heads: u32,
    pub(super) queries: u32,
    pub(super) first_query: u32,
    pub(super) width: u32,
    pub(super) keys: u32,
    pub(super) shared: u32,
    pub(super) first_key: u32,
    pub(super) site: u32,
    pub(super) threshold: u32,
    pub(super) scale: f32,
}

/// The token whose query the cube has.
#[cube]
fn token(place: &ScoreLayout) -> u32 {
    let score = CUBE_POS as u32;
    score / (place.heads * place.queries) * place.width + place.first_query + score % place.queries
}

#[cube]
fn span(from: &[i32], to: &[i32], place: &ScoreLayout) -> Span {
    let token = token(place) as usize;
    let row = i32::cast_from(CUBE_POS as u32 / (place.heads * place.queries) * place.keys);
    let own = i32::cast_from(place.shared) - i32::cast_from(place.first_key);
    let (from, to) = (from[token], to[token]);
    let sees = from < to;
    // A query that sees no key sees no shared one either.
    Span {
        low: select(sees, from - row + own, 0i32),
        high: select(sees, to - row + own, 0i32),
        common: select(sees, own, 0i32),
    }
}

/// Whether the keys from `first` on are visible.
#[cube]
fn visible<N: Size>(span: &Span, first: u32) -> Vector<bool, N> {
    let keys = Vector::<i32, N>::cast_from(places::<N>(first));
    let own =
        keys.greater_equal(&Vector::<i32, N>::new(span.low)).vec_and(keys.less_than(&Vector::<i32, N>::new(span.high)));
    own.or(keys.less_than(&Vector::<i32, N>::new(span.common)))
}

/// What the probabilities of keys from `first` on are multiplied by. They're counted from the first that the query sees.
#[cube]
fn multipliers<N: Size>(stream: u32, span: &Span, place: &ScoreLayout, first: u32) -> Vector<f32, N> {
    let keys = places::<N>(first);
    let shift = place.shared - u32::cast_from(span.low);
    let common = Vector::<i32, N>::cast_from(keys).less_than(&Vector::<i32, N>::new(span.common));
    let positions = select_many(common, keys, keys + Vector::<u32, N>::new(shift));
    kept(stream, positions, place.threshold, place.scale)
}

/// Where the random numbers of the cube's query and head begin.
#[cube]
#[allow(clippy::manual_rotate, reason = "kernels have no rotation")]
fn lane_stream(keys: &[u32], place: &ScoreLayout) -> u32 {
    let head = CUBE_POS as u32 / place.queries % place.heads;
    let lane = (head << 16u32) | (head >> 16u32);
    stream(keys[token(place) as usize], place.site ^ lane)
}

/// Scores of the keys from `at` on, those of hidden ones far below any.
#[cube]
fn seen<F: Float, N: Size>(score: Vector<F, N>, at: usize, span: &Span) -> Vector<f32, N> {
    let first = (at * N::value()) as u32;
    let score = Vector::<f32, N>::cast_from(score);
    select_many(visible::<N>(span, first), score, Vector::<f32, N>::new(HIDDEN))
}

/// A unit's scores of a row, each read once and kept in registers: vector `slot` is the unit's among all units', so many
/// times around. Places behind the row's end are hidden.
#[cube]
fn held<F: Float, N: Size>(
    scores: &mut [Vector<F, N>],
    start: usize,
    width: usize,
    span: &Span,
    #[comptime] slots: usize,
) -> Array<Vector<f32, N>> {
    let mut held = Array::<Vector<f32, N>>::new(slots);
    #[unroll]
    for slot in 0..slots {
        let at = UNIT_POS as usize + slot * CUBE_DIM as usize;
        held[slot] = Vector::<f32, N>::new(HIDDEN);
        if at < width {
            held[slot] = seen::<F, N>(scores[start + at], at, span);
        }
    }
    held
}

/// Puts `exp(score - most)` in the place of a unit's scores, which is 0 for hidden ones, and gives 1 over the sum of all
/// units', or 0 where all keys are hidden.
#[cube]
fn raise<N: Size>(held: &mut Array<Vector<f32, N>>, #[comptime] slots: usize, #[comptime] planes: u32) -> f32 {
    let mut highest = Vector::<f32, N>::new(HIDDEN);
    #[unroll]
    for slot in 0..slots {
        highest = highest.max(held[slot]);
    }
    let most = most(largest(highest), planes);
    let mut sums = Vector::<f32, N>::new(0f32);
    #[unroll]
    for slot in 0..slots {
        held[slot] = exp(held[slot] - Vector::<f32, N>::new(most));
        sums += held[slot];
    }
    let all = sum(total(sums), planes);
    select(most > HIDDEN, 1f32 / all, 0f32)
}

/// Probabilities in place of scores.
#[cube(launch)]
pub(super) fn softmax_kernel<F: Float, N: Size>(
    scores: &mut [Vector<F, N>],
    from: &[i32],
    to: &[i32],
    keys: &[u32],
    place: &ScoreLayout,
    rows: usize,
    width: usize,
    #[comptime] dropped: bool,
    #[comptime] slots: usize,
    #[comptime] planes: u32,
    #[define(F)] _numbers: ElemType,
) {
    if CUBE_POS >= rows {
        terminate!();
    }
    let start = CUBE_POS * width;
    let span = span(from, to, place);
    let mut stream = 0u32;
    if dropped {
        stream = lane_stream(keys, place);
    }
    let mut held = held::<F, N>(scores, start, width, &span, slots);
    let factor = raise::<N>(&mut held, slots, planes);
    #[unroll]
    for slot in 0..slots {
        let at = UNIT_POS as usize + slot * CUBE_DIM as usize;
        if at < width {
            let mut probability = held[slot] * Vector::<f32, N>::new(factor);
            if dropped {
                probability *= multipliers::<N>(stream, &span, place, (at * N::value()) as u32);
            }
            scores[start + at] = Vector::<F, N>::cast_from(probability);
        }
    }
}

/// With p the probabilities, m what they're multiplied by and g the gradients of p m: p (m g - Σ p m g).
#[cube(launch)]
pub(super) fn softmax_grads_kernel<F: Float, N: Size>(
    scores: &mut [Vector<F, N>],
    grads: &mut [Vector<F, N>],
    from: &[i32],
    to: &[i32],
    keys: &[u32],
    place: &ScoreLayout,
    rows: usize,
    width: usize,
    #[comptime] dropped: bool,
    #[comptime] slots: usize,
    #[comptime] planes: u32,
    #[define(F)] _numbers: ElemType,
) {
    if CUBE_POS >= rows {
        terminate!();
    }
    let start = CUBE_POS * width;
    let span = span(from, to, place);
    let mut stream = 0u32;
    if dropped {
        stream = lane_stream(keys, place);
    }
    let mut held = held::<F, N>(scores, start, width, &span, slots);
    let factor = raise::<N>(&mut held, slots, planes);
    let mut along = Vector::<f32, N>::new(0f32);
    #[unroll]
    for slot in 0..slots {
        let at = UNIT_POS as usize + slot * CUBE_DIM as usize;
        held[slot] *= Vector::<f32, N>::new(factor);
        if at < width {
            let mut part = held[slot] * Vector::<f32, N>::cast_from(grads[start + at]);
            if dropped {
                part *= multipliers::<N>(stream, &span, place, (at * N::value()) as u32);
            }
            along += part;
        }
    }
    let along = Vector::<f32, N>::new(sum(total(along), planes));
    #[unroll]
    for slot in 0..slots {
        let at = UNIT_POS as usize + slot * CUBE_DIM as usize;
        if at < width {
            let mut multiplied = held[slot];
            let mut grad = Vector::<f32, N>::cast_from(grads[start + at]);
            if dropped {
                let by = multipliers::<N>(stream, &span, place, (at * N::value()) as u32);
                multiplied *= by;
                grad *= by;
            }
            scores[start + at] = Vector::<F, N>::cast_from(multiplied);
            grads[start + at] = Vector::<F, N>::cast_from(held[slot] * (grad - along));
        }
    }
}
