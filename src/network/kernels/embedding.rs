//! Indices into the rows of a table.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Row indices, on the host and on the device.
#[derive(Clone, Debug)]
pub struct RowIds {
    /// On the host.
    pub host: Arc<[u32]>,
    /// On the device.
    pub tensor: Tensor<1, Int>,
}

impl RowIds {
    /// Uploads row indices.
    pub fn new(ids: impl Into<Arc<[u32]>>, device: &Device) -> Self {
        let host = ids.into();
        Self { tensor: upload(&host, device), host }
    }
}

/// A vector of integers on the device.
pub(super) fn upload(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.iter().map(|&v| v as i32).collect();
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}
