//! What there is in this build: each is tested on its own.

mod curves;
mod devices;
mod faults;
mod first_step;
mod kernels;
mod recipes;
mod training;

use pipe::{
    network::device::{DeviceChoice, OpenDevice},
    spec,
    support::program,
};

use crate::common::needs::Need;

/// The GPUs of this build, with what to write after `--device`; a note on each that isn't there.
fn gpus() -> Vec<(&'static str, OpenDevice)> {
    program::name(env!("CARGO_BIN_EXE_pipe").into());
    let wanted = std::env::var("PIPE_TEST_DEVICES").ok();
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted.split(',').any(|other| other == name));
    let names: &[(&str, Need)] = &[
        #[cfg(feature = "vulkan")]
        ("vulkan", Need::Vulkan),
        #[cfg(feature = "wgpu")]
        ("wgpu", Need::Wgpu),
        #[cfg(feature = "cuda")]
        ("cuda", Need::Cuda),
    ];
    let open = |(name, need): &(&'static str, Need)| match name.parse::<DeviceChoice>().and_then(DeviceChoice::open) {
        Ok(open) => {
            // Or else only the compositions would be tested here.
            open.check_kernels(spec::Precision::F32).expect("kernels that can be used");
            if let Some(reason) = &open.by_wgsl {
                Need::Spirv.unmet(format!("{} takes WGSL: {reason}", open.name)).tell();
            }
            Some((*name, open))
        }
        Err(error) => {
            need.unmet(format!("{error:#}")).tell();
            None
        }
    };
    names.iter().filter(|(name, _)| is_wanted(name)).filter_map(open).collect()
}
