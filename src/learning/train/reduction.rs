//! All-reduce: each device gets the sum of all devices' gradients.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, mpsc::channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use burn::tensor::{
    Device, Tensor,
    distributed::{CollectiveTensor, ReduceOperation, all_reduce},
};
use parking_lot::Mutex;

use super::{accumulated::Accumulated, gradients::Gradient};
use crate::{
    network::{kernels::moved, model::AnyTensor},
    support::panics::caught_everywhere,
};

/// Elements that a collective operation is tried with.
const TRIED: usize = 1024;
/// How long devices may take for that.
const PATIENCE: Duration = Duration::from_secs(60);
/// Elements sent at a time: enough for bandwidth to matter more than latency.
const BUCKET: usize = 1 << 24;

/// How gradients are summed over devices.
pub(super) struct Reduction {
    devices: Vec<Device>,
    /// Whether the devices do it among themselves, with NCCL.
    collective: bool,
}

impl Reduction {
    /// A collective operation, where a trial sum comes out right; or else sums on the first device. `note` gets the reason
    /// why collective operations can't be used.
    pub(super) fn new(devices: Vec<Device>, note: &mut dyn FnMut(&str)) -> Self {
        let apart = devices.iter().enumerate().all(|(at, device)| !devices[..at].contains(device));
        let tried = if apart { try_out(&devices) } else { Ok(()) };
        if let Err(error) = &tried {
            note(&format!("gradients go through the host's memory, since the devices can't add them up: {error:#}"));
        }
        Self { devices, collective: apart && tried.is_ok() }
    }

    /// Puts the sum over all devices in the place of each gradient and loss. What none of them has stays away.
    ///
    /// # Errors
    /// The devices'.
    pub(super) fn total(&self, sums: &mut [Accumulated]) -> Result<()> {
        let parameters = sums.first().map_or(0, |sum| sum.gradients.0.len());
        let rows: Vec<Option<Arc<[u32]>>> = (0..parameters).map(|at| all_rows(sums, at)).collect();
        for sum in &mut *sums {
            for (gradient, rows) in sum.gradients.0.iter_mut().zip(&rows) {
                if let Some(rows) = rows {
                    *gradient = gradient.take().map(|gradient| gradient.among(rows));
                }
            }
        }
        let shape = |at: usize| sums.iter().find_map(|sum| sum.gradients.0[at].as_ref()).map(|one| one.value.shape());
        let shapes: Vec<Option<Vec<usize>>> = (0..parameters).map(shape).collect();
        let taken = sums.iter_mut().map(|Accumulated { gradients, loss, .. }| {
            let gradients =
                gradients.0.iter_mut().map(|gradient| gradient.take().map(|gradient| gradient.value.flat()));
            gradients.chain([loss.take()]).collect()
        });
        let totals = self.each(taken.collect())?;
        for (sum, totals) in sums.iter_mut().zip(totals) {
            let mut totals = totals.into_iter();
            for (((gradient, shape), rows), total) in
                sum.gradients.0.iter_mut().zip(&shapes).zip(&rows).zip(&mut totals)
            {
                let value = total.zip(shape.as_ref()).map(|(total, shape)| AnyTensor::folded(total, shape));
                *gradient = value.map(|value| Gradient { value, rows: rows.clone() });
            }
            sum.loss = totals.next().flatten();
        }
        Ok(())
    }

    /// The sums of what the devices, a row each, have at each place; in buckets, since sending has its price each time.
    fn each(&self, mut rows: Vec<Vec<Option<Tensor<1>>>>) -> Result<Vec<Vec<Option<Tensor<1>>>>> {
        let places = rows.first().map_or(0, Vec::len);
        let found = |place: usize| rows.iter().find_map(|row| row[place].as_ref());
        let sizes: Vec<Option<usize>> = (0..places).map(|place| found(place).map(|tensor| tensor.dims()[0])).collect();
        let mut totals: Vec<Vec<Option<Tensor<1>>>> = rows.iter().map(|_| vec![None; places]).collect();
        for bucket in buckets(&sizes) {
            let pack = |row: &mut Vec<Option<Tensor<1>>>, device: &Device| {
                // Every device has to take part.
                let zeros = |size: usize| Tensor::zeros([size], device);
                let parts = bucket.iter().filter_map(|&place| Some((row[place].take(), sizes[place]?)));
                Tensor::cat(parts.map(|(part, size)| part.unwrap_or_else(|| zeros(size))).collect(), 0)
            };
            let packed = rows.iter_mut().zip(&self.devices).map(|(row, device)| pack(row, device)).collect();
            let sums =
                if self.collective { together(packed, &self.devices) } else { in_one_place(packed, &self.devices)? };
            for (total, sum) in totals.iter_mut().zip(sums) {
                let mut start = 0;
                for &place in &bucket {
                    let length = sizes[place].unwrap_or(0);
                    total[place] = Some(sum.clone().narrow(0, start, length));
                    start += length;
                }
            }
        }
        Ok(totals)
    }
}

/// The rows of a parameter that any device has gradients of, where it's one whose gradients are of rows.
fn all_rows(sums: &[Accumulated], at: usize) -> Option<Arc<[u32]>> {
    let gradients = sums.iter().filter_map(|sum| sum.gradients.0[at].as_ref());
    let mut all: Vec<&Arc<[u32]>> = gradients.filter_map(|gradient| gradient.rows.as_ref()).collect();
    all.dedup();
    match all[..] {
        [] => None,
        [one] => Some(Arc::clone(one)),
        _ => {
            let all: BTreeSet<u32> = all.iter().flat_map(|rows| rows.iter().copied()).collect();
            Some(all.into_iter().collect())
        }
    }
}

/// Places whose tensors travel together: in a row, and of [`BUCKET`] elements at most or one tensor.
fn buckets(sizes: &[Option<usize>]) -> Vec<Vec<usize>> {
    let mut buckets: Vec<Vec<usize>> = Vec::new();
    let mut filled = 0;
    for (place, size) in sizes.iter().enumerate() {
        let Some(size) = size else { continue };
        match buckets.last_mut().filter(|_| filled + size <= BUCKET) {
            Some(bucket) => bucket.push(place),
            None => {
                filled = 0;
                buckets.push(vec![place]);
            }
        }
        filled += size;
    }
    buckets
}

/// The sum of all devices' tensors on each of them.
fn together(tensors: Vec<Tensor<1>>, devices: &[Device]) -> Vec<Tensor<1>> {
    // All devices have to meet collective operations in the same order, whichever stages run at the same time.
    static ORDER: Mutex<()> = Mutex::new(());
    let _in_order = ORDER.lock();
    // The first operation returns before the last one has begun; waiting for it comes after.
    let begun: Vec<CollectiveTensor<1>> =
        tensors.into_iter().map(|tensor| all_reduce(tensor, ReduceOperation::Sum, devices.to_vec())).collect();
    begun.into_iter().map(CollectiveTensor::resolve).collect()
}

/// The same without collective operations: added up on the first device in the devices' order, so that the sum is the same
/// every time.
fn in_one_place(tensors: Vec<Tensor<1>>, devices: &[Device]) -> Result<Vec<Tensor<1>>> {
    let mut sum: Option<Tensor<1>> = None;
    for tensor in tensors {
        let tensor = moved(tensor, &devices[0])?;
        sum = Some(match sum {
            Some(sum) => sum + tensor,
            None => tensor,
        });
    }
    let sum = sum.context("no device takes part")?;
    devices.iter().map(|device| moved(sum.clone(), device)).collect()
}

/// # Errors
/// A build or a machine without collective operations, wrong sums, or none within [`PATIENCE`].
fn try_out(devices: &[Device]) -> Result<()> {
    let on = devices.to_vec();
    let add_up = move || {
        let numbered = on.iter().zip(1_u8..);
        let tensors = numbered.map(|(device, number)| Tensor::<1>::full([TRIED], f32::from(number), device)).collect();
        let sums = together(tensors, &on).into_iter().map(Tensor::try_into_vec_as);
        sums.collect::<Result<Vec<Vec<f32>>, _>>().map_err(|error| anyhow!("can't read a sum: {error:?}"))
    };
    // On a thread of its own, since backends keep a queue for each: what fails in the middle of one stays there. And devices
    // that can't reach each other wait forever, so that the thread is left to itself then.
    let (sender, receiver) = channel();
    let waited = caught_everywhere(|| {
        thread::spawn(move || sender.send(catch_unwind(AssertUnwindSafe(add_up))));
        receiver.recv_timeout(PATIENCE)
    })?;
    let sums = waited.map_err(|_| anyhow!("they don't answer each other"))?;
    let sums = caught_everywhere(|| sums.unwrap_or_else(|panic| resume_unwind(panic)))??;
    let right = (devices.len() * (devices.len() + 1) / 2) as f32;
    ensure!(sums.iter().flatten().all(|&sum| sum == right), "a sum of theirs is wrong");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_lack_collective_operations_are_found_out() {
        let error = try_out(&[Device::flex(), Device::flex()]).unwrap_err().to_string();
        assert!(error.contains("not supported"), "{error}");
    }

    #[test]
    fn what_some_devices_lack_is_the_sum_of_the_others() {
        let devices = vec![Device::flex(); 3];
        let reduction = Reduction::new(devices, &mut |text| panic!("{text}"));
        let tensor = |values: &[f32]| Some(Tensor::<1>::from_floats(values, &Device::flex()));
        let rows = vec![
            vec![tensor(&[1.0, 2.0]), None, tensor(&[3.0])],
            vec![None, None, None],
            vec![tensor(&[4.0, 8.0]), None, None],
        ];
        for sums in reduction.each(rows).unwrap() {
            let sums: Vec<Option<Vec<f32>>> =
                sums.into_iter().map(|sum| sum.map(|sum| sum.try_into_vec_as().unwrap())).collect();
            assert_eq!(sums, [Some(vec![5.0, 10.0]), None, Some(vec![3.0])]);
        }
    }

    #[test]
    fn tensors_travel_together_up_to_a_bucket() {
        let half = Some(BUCKET / 2);
        let sizes = [half, None, half, half, Some(7), Some(BUCKET + 1), half];
        assert_eq!(buckets(&sizes), [vec![0, 2], vec![3, 4], vec![5], vec![6]]);
        assert!(buckets(&[None]).is_empty());
    }
}
