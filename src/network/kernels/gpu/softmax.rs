//! What is between attention's matrix products: softmax over the visible keys and dropout, in place of the scores; a cube for
//! each query of a head.

use std::ops::Range;

use burn::{
    backend::{
        Backend, Dispatch, backend_extension,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{Int, IntDType, Tensor},
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::{
    dropout_add::{Dropping, Drops, OnDevice},
    launch::{Grid, Rows, kind},
    math::exp,
    rows::{kept, largest, most, places, stream, sum, total},
};
use crate::network::kernels::{AttentionSpans, Dropout, attention_spans::HIDDEN, blocked};

/// Which scores lie where. Keys are counted with those that all queries share before those of the row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Heads.
    heads: usize,
    /// Queries of a row that there are scores of.
    queries: usize,
    /// The first of them.
    first_query: usize,
    /// All queries of a row.
    width: usize,
    /// Keys of a row, the shared ones not among them.
    keys: usize,
    /// Keys that all queries share.
    shared: usize,
    /// The first key that there are scores of.
    first_key: usize,
}

/// Softmax over visible keys, wherever attention asks for it.
#[derive(Debug)]
pub(super) struct SpanSoftmax {
    from: Tensor<1, Int>,
    to: Tensor<1, Int>,
    dropout: OnDevice,
    layout: Layout,
}

impl SpanSoftmax {
    /// Over all keys and all queries of each row.
    pub(super) fn new(spans: &AttentionSpans, shared: usize, heads: usize, dropout: Option<&Dropout>) -> Self {
        let AttentionSpans { from, to, width, keys, .. } = spans;
        let (width, keys) = (*width, *keys);
        let device = from.device().inner();
        let signed = |values: &Tensor<1, Int>| values.clone().inner().cast(IntDType::I32);
        let layout = Layout { heads, queries: width, first_query: 0, width, keys, shared, first_key: 0 };
        Self { from: signed(from), to: signed(to), dropout: OnDevice::new(dropout, &device), layout }
    }

    fn layout(&self, queries: &Range<usize>, keys: &Range<usize>) -> Layout {
        Layout { queries: queries.len(), first_query: queries.start, first_key: keys.start, ..self.layout }
    }
}

impl blocked::Softmax for SpanSoftmax {
    fn probabilities(&self, scores: Tensor<4>, queries: Range<usize>, keys: Range<usize>) -> Tensor<4> {
        let layout = self.layout(&queries, &keys);
        let (from, to) = (self.from.clone().into_dispatch(), self.to.clone().into_dispatch());
        let dropping = self.dropout.dropping();
        Tensor::from_dispatch(Dispatch::softmax(scores.into_dispatch(), from, to, dropping, layout))
    }

    fn grads(&self, scores: Tensor<4>, grads: Tensor<4>, queries: Range<usize>, keys: Range<usize>) -> [Tensor<4>; 2] {
        let layout = self.layout(&queries, &keys);
        let (from, to) = (self.from.clone().into_dispatch(), self.to.clone().into_dispatch());
        let dropping = self.dropout.dropping();
        let (dropped, grads) =
            Dispatch::softmax_grads(scores.into_dispatch(), grads.into_dispatch(), from, to, dropping, layout);
        [dropped, grads].map(Tensor::from_dispatch)
    }
}

/// Where a query's own visible keys begin and end, and where those that all share end, counted from the first score of
/// its row.
#[derive(CubeType, Clone, Copy)]
struct Span {
    low: i32,
    high: i32,
    common: i32,
}

/// The fields of [`Layout`] that kernels need.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct ScoreLayout {
    heads: u32,
    queries: u32,
    first_query: u32,
    width: u32,
    keys: u32,
    shared: u32,
    first_key: u32,
    site: u32,
    threshold: u32,
    scale: f32,
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

#[cube(launch)]
fn softmax_kernel<F: Float, N: Size>(
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
fn grads_kernel<F: Float, N: Size>(
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

impl Layout {
    fn place(&self, drops: Drops) -> ScoreLayoutLaunch {
        let Drops { site, threshold, scale } = drops;
        ScoreLayoutLaunch::new(
            self.heads as u32,
            self.queries as u32,
            self.first_query as u32,
            self.width as u32,
            self.keys as u32,
            self.shared as u32,
            self.first_key as u32,
            site,
            threshold,
            scale,
        )
    }
}

/// `softmax` on the device.
fn softmax(
    scores: CubeTensor,
    from: CubeTensor,
    to: CubeTensor,
    dropping: Dropping<CubeBackend>,
    layout: Layout,
) -> CubeTensor {
    let scores = Rows::owned(scores);
    let Grid { count, dim, planes, vector, width, slots } = scores.grid();
    let (keys, drops, dropped) = dropping.or(&from);
    softmax_kernel::launch(
        &scores.client(),
        count,
        dim,
        vector,
        scores.tensor.clone().into_buffer_arg(),
        from.into_buffer_arg(),
        to.into_buffer_arg(),
        keys.into_buffer_arg(),
        layout.place(drops),
        scores.rows,
        width,
        dropped,
        slots,
        planes,
        kind(scores.tensor.dtype),
    );
    scores.tensor
}

/// `softmax_grads` on the device.
fn softmax_grads(
    scores: CubeTensor,
    grads: CubeTensor,
    from: CubeTensor,
    to: CubeTensor,
    dropping: Dropping<CubeBackend>,
    layout: Layout,
) -> (CubeTensor, CubeTensor) {
    let (scores, grads) = (Rows::owned(scores), Rows::owned(grads).tensor);
    let Grid { count, dim, planes, vector, width, slots } = scores.grid();
    let (keys, drops, dropped) = dropping.or(&from);
    grads_kernel::launch(
        &scores.client(),
        count,
        dim,
        vector,
        scores.tensor.clone().into_buffer_arg(),
        grads.clone().into_buffer_arg(),
        from.into_buffer_arg(),
        to.into_buffer_arg(),
        keys.into_buffer_arg(),
        layout.place(drops),
        scores.rows,
        width,
        dropped,
        slots,
        planes,
        kind(scores.tensor.dtype),
    );
    (scores.tensor, grads)
}

/// What enters burn's dispatch; nothing of it is differentiated.
#[backend_extension(Cube, Fusion)]
trait SoftmaxOps: Backend {
    /// Probabilities, dropped where there is dropout, in place of scores `[rows, heads, queries, keys]`.
    #[fusion(dtype = scores, shape = scores)]
    fn softmax(
        scores: FloatTensor<Self>,
        from: IntTensor<Self>,
        to: IntTensor<Self>,
        #[extension_type] dropping: Dropping<Self>,
        layout: Layout,
    ) -> FloatTensor<Self>;

    /// Dropped probabilities in place of scores, and gradients of scores in place of those of dropped probabilities.
    #[fusion(meta = |scores, grads, _from, _to, _dropping, _layout| (scores.clone(), grads.clone()))]
    fn softmax_grads(
        scores: FloatTensor<Self>,
        grads: FloatTensor<Self>,
        from: IntTensor<Self>,
        to: IntTensor<Self>,
        #[extension_type] dropping: Dropping<Self>,
        layout: Layout,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl SoftmaxOps for CubeBackend {
    fn softmax(
        scores: CubeTensor,
        from: CubeTensor,
        to: CubeTensor,
        dropping: Dropping<Self>,
        layout: Layout,
    ) -> CubeTensor {
        softmax(scores, from, to, dropping, layout)
    }

    fn softmax_grads(
        scores: CubeTensor,
        grads: CubeTensor,
        from: CubeTensor,
        to: CubeTensor,
        dropping: Dropping<Self>,
        layout: Layout,
    ) -> (CubeTensor, CubeTensor) {
        softmax_grads(scores, grads, from, to, dropping, layout)
    }
}
