//! What several devices have computed of a step, brought together: each gets the sums of all their gradients.

use std::{
    panic::resume_unwind,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Result, anyhow, ensure};
use burn::tensor::{
    Device, Tensor,
    distributed::{CollectiveTensor, ReduceOperation, all_reduce},
};

use super::passes::Sum;
use crate::{device::quietly, kernels::moved};

/// Numbers that a collective operation is tried with.
const TRIED: usize = 1024;

/// How the devices' sums are brought together.
pub(super) struct Reduction {
    devices: Vec<Device>,
    /// Whether the devices do it among themselves, with NCCL.
    collective: bool,
}

impl Reduction {
    /// By the devices themselves, where a sum that they try comes out right; or else in the first one's memory. `note` is
    /// told why they can't.
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
    pub(super) fn total(&self, sums: &mut [Sum]) -> Result<()> {
        self.each(sums.iter_mut().map(|sum| &mut sum.gradients.vectors[..]).collect())?;
        self.each(sums.iter_mut().map(|sum| &mut sum.gradients.matrices[..]).collect())?;
        self.each(sums.iter_mut().map(|sum| std::slice::from_mut(&mut sum.loss)).collect())
    }

    /// Adds up what the devices, a row each, have at each place.
    fn each<const D: usize>(&self, mut rows: Vec<&mut [Option<Tensor<D>>]>) -> Result<()> {
        for place in 0..rows.first().map_or(0, |row| row.len()) {
            let tensors: Vec<Option<Tensor<D>>> = rows.iter_mut().map(|row| row[place].take()).collect();
            let Some(shape) = tensors.iter().flatten().map(Tensor::dims).next() else { continue };
            let totals = if self.collective {
                // Every device has to take part.
                let whole = tensors.into_iter().zip(&self.devices);
                let whole = whole.map(|(tensor, device)| tensor.unwrap_or_else(|| Tensor::zeros(shape, device)));
                together(whole.collect(), &self.devices)
            } else {
                in_one_place(tensors, &self.devices)?
            };
            rows.iter_mut().zip(totals).for_each(|(row, total)| row[place] = Some(total));
        }
        Ok(())
    }
}

/// The sum of all devices' tensors on each of them.
fn together<const D: usize>(tensors: Vec<Tensor<D>>, devices: &[Device]) -> Vec<Tensor<D>> {
    // All devices have to meet collective operations in the same order, whichever stages run at the same time.
    static ORDER: Mutex<()> = Mutex::new(());
    let _turn = ORDER.lock().unwrap_or_else(PoisonError::into_inner);
    // The first operation returns before the last one has begun; waiting for it comes after.
    let begun: Vec<CollectiveTensor<D>> =
        tensors.into_iter().map(|tensor| all_reduce(tensor, ReduceOperation::Sum, devices.to_vec())).collect();
    begun.into_iter().map(CollectiveTensor::resolve).collect()
}

/// The same without collective operations: added up on the first device in the devices' order, so that the sum is the same
/// every time.
fn in_one_place<const D: usize>(tensors: Vec<Option<Tensor<D>>>, devices: &[Device]) -> Result<Vec<Tensor<D>>> {
    let mut sum: Option<Tensor<D>> = None;
    for tensor in tensors.into_iter().flatten() {
        let tensor = moved(tensor, &devices[0])?;
        sum = Some(match sum {
            Some(sum) => sum + tensor,
            None => tensor,
        });
    }
    let copies = sum.iter().flat_map(|sum| devices.iter().map(|device| moved(sum.clone(), device)));
    copies.collect()
}

/// # Errors
/// A build or a machine without collective operations, or wrong sums.
fn try_out(devices: &[Device]) -> Result<()> {
    let add_up = || {
        let numbered = devices.iter().zip(1_u8..);
        let tensors = numbered.map(|(device, number)| Tensor::<1>::full([TRIED], f32::from(number), device)).collect();
        let sums = together(tensors, devices).into_iter().map(Tensor::try_into_vec_as);
        sums.collect::<Result<Vec<Vec<f32>>, _>>().map_err(|error| anyhow!("can't read a sum: {error:?}"))
    };
    // On a thread of its own, since backends keep a queue for each: what fails in the middle of one stays there.
    let sums =
        quietly(|| thread::scope(|scope| scope.spawn(add_up).join()).unwrap_or_else(|panic| resume_unwind(panic)))??;
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
        let tensor = |values: [f32; 2]| Some(Tensor::<1>::from_data(values, &Device::flex()));
        let mut rows = [vec![tensor([1.0, 2.0]), None], vec![None, None], vec![tensor([4.0, 8.0]), None]];
        reduction.each(rows.iter_mut().map(|row| &mut row[..]).collect()).unwrap();
        for [sum, nothing] in rows.map(|row| <[_; 2]>::try_from(row).unwrap()) {
            assert_eq!(sum.unwrap().try_into_vec_as::<f32>().unwrap(), [5.0, 10.0]);
            assert!(nothing.is_none());
        }
    }
}
