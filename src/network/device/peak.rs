//! How fast a device could be at best: what the share that training reaches is measured against.

use std::{sync::OnceLock, time::Instant};

use burn::tensor::{Device, Distribution, Tensor};

use super::hardware_name;
use crate::spec::Precision;

/// Floating-point operations a second: with bf16 or f16 factors and f32 sums in tensor cores without sparsity, and with
/// f32 outside of them. By the makers' data sheets; the first name that occurs in the device's counts.
const PEAKS: [(&str, f64, f64); 20] = [
    ("B200", 2250e12, 75e12),
    ("H200 NVL", 835e12, 60e12),
    ("H200", 989e12, 67e12),
    ("H100 PCIe", 756e12, 51e12),
    ("H100 NVL", 835e12, 60e12),
    ("H100", 989e12, 67e12),
    ("H800", 989e12, 67e12),
    ("H20", 148e12, 44e12),
    ("A100", 312e12, 19.5e12),
    ("A800", 312e12, 19.5e12),
    ("L40S", 362e12, 91.6e12),
    ("L40", 181e12, 90.5e12),
    ("L4", 121e12, 30.3e12),
    ("A10G", 70e12, 35e12),
    ("A10", 125e12, 31.2e12),
    ("A6000", 155e12, 38.7e12),
    ("RTX 4090", 165e12, 82.6e12),
    ("RTX 3090", 71e12, 35.6e12),
    ("V100", 125e12, 15.7e12),
    ("T4", 65e12, 8.1e12),
];

/// The most floating-point operations a second that a device is made for in this precision; of the CPU, what a product
/// of matrices reaches. `None` for hardware that isn't in the table.
pub fn peak(device: &Device, precision: Precision) -> Option<f64> {
    if device.clone().without_autodiff() == Device::flex() {
        // The kernels compute in f32 in any precision.
        return Some(measured());
    }
    by_name(&hardware_name(device)?, precision)
}

/// Of devices that work together. The CPU in several roles is still one.
pub fn peak_together(devices: &[Device], precision: Precision) -> Option<f64> {
    let once = devices.iter().enumerate().filter(|(at, device)| !devices[..*at].contains(device));
    once.map(|(_, device)| peak(device, precision)).sum()
}

fn by_name(name: &str, precision: Precision) -> Option<f64> {
    let has = |part: &str| {
        // As a word of its own: `A10` isn't `A100`.
        name.match_indices(part).any(|(at, _)| {
            let (before, after) = (name[..at].chars().next_back(), name[at + part.len()..].chars().next());
            [before, after].into_iter().flatten().all(|sign| !sign.is_alphanumeric())
        })
    };
    let (_, half, single) = PEAKS.iter().find(|(part, ..)| has(part))?;
    Some(if precision == Precision::F32 { *single } else { *half })
}

/// Of a large product on the CPU, the best of a few; measured once.
fn measured() -> f64 {
    const SIZE: usize = 768;
    static PEAK: OnceLock<f64> = OnceLock::new();
    *PEAK.get_or_init(|| {
        let device = Device::flex();
        let [a, b] = [(); 2].map(|()| Tensor::<2>::random([SIZE, SIZE], Distribution::Default, &device));
        let times = (0..6).map(|_| {
            let began = Instant::now();
            drop(a.clone().matmul(b.clone()).into_data());
            began.elapsed().as_secs_f64()
        });
        2.0 * (SIZE as f64).powi(3) / times.fold(f64::INFINITY, f64::min)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_found_by_the_names_that_drivers_give() {
        let half = |name| by_name(name, Precision::Bf16);
        assert_eq!(half("NVIDIA H200"), Some(989e12));
        assert_eq!(half("NVIDIA H100 80GB HBM3"), Some(989e12));
        assert_eq!(half("NVIDIA H100 PCIe"), Some(756e12));
        assert_eq!(half("NVIDIA A100-SXM4-80GB"), Some(312e12));
        assert_eq!(half("NVIDIA A10"), Some(125e12));
        assert_eq!(half("Tesla V100-SXM2-16GB"), Some(125e12));
        assert_eq!(by_name("NVIDIA L40S", Precision::F32), Some(91.6e12));
        assert_eq!(half("SwiftShader Device (LLVM 10.0.0)"), None);
    }

    #[test]
    fn cpu_has_the_peak_that_its_products_reach() {
        assert!(peak(&Device::flex(), Precision::F32).unwrap() > 1e8);
    }
}
