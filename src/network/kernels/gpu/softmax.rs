//! What is between attention's matrix products: softmax over the visible keys and dropout, in place of the scores; a cube for
//! each query of a head.

mod kernel;

use std::ops::Range;

use burn::{
    backend::{
        Backend, Dispatch, backend_extension,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{Int, IntDType, Tensor},
};
use burn_cubecl::{CubeBackend, tensor::CubeTensor};

use super::{
    dropout_add::{Dropping, Drops, OnDevice},
    launch::{Grid, Rows, kind},
};
use crate::network::kernels::{AttentionSpans, Dropout, blocked};
use kernel::{ScoreLayoutLaunch, softmax_grads_kernel, softmax_kernel};

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
    softmax_grads_kernel::launch(
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
