//! What CUDA cards would be given, read down to the machine code, on a machine without one.
//!
//! Our kernels, and burn's products beside them with all candidates that autotune tries, run on the stand-in driver of
//! tests/cuda, which keeps the modules; NVIDIA's assembler, which needs no card, makes machine code of them.
//! `PIPE_MACHINE_CODE` names a file for a table of it, from which docs/performance.md has its figures; products are compiled for
//! all architectures then, and for Hopper alone otherwise.

mod assembler;
mod occupancy;
mod ours;
mod sass;
mod stand_in;
mod steps;
mod table;

use std::{collections::BTreeMap, io::Write};

use assembler::{Machine, Tools};
use stand_in::{Captured, Launch};

use crate::common::{need, needs::Needed};

#[test]
fn kernels_for_ampere_have_the_machine_code_they_are_meant_to_have() {
    need!(examine("8.0"));
}

#[test]
fn kernels_for_hopper_have_the_machine_code_they_are_meant_to_have() {
    need!(examine("9.0"));
}

#[test]
fn kernels_for_blackwell_have_the_machine_code_they_are_meant_to_have() {
    need!(examine("12.0"));
}

fn examine(capability: &str) -> Needed<()> {
    let tools = Tools::find()?;
    let captured = stand_in::capture(capability)?;
    // All of it assembles, or this fails.
    let machines = tools.assemble(&captured.architecture, &captured.kernels, captured.space.path());
    write_table(&captured, &machines);
    let with_products = has_products(capability);
    ours::assert_all_are_there(&captured, with_products);
    if with_products {
        assert_products_use_tensor_cores(&captured, &machines);
        let untuned = products(&captured, steps::UNTUNED).count();
        assert_eq!(untuned, 1, "launches of a product for which nothing is timed");
    }
    let faults = ours::faults(&captured, &machines);
    assert!(faults.is_empty(), "{capability}:\n{}", faults.join("\n"));
    Ok(())
}

/// Whether products are compiled for this capability: autotune has a dozen candidates for each, which takes a while.
fn has_products(capability: &str) -> bool {
    std::env::var_os("PIPE_MACHINE_CODE").is_some() || capability == "9.0"
}

/// Of burn's products of matrices in bf16, each has candidates that multiply tiles on tensor cores.
fn assert_products_use_tensor_cores(captured: &Captured, machines: &BTreeMap<String, Machine>) {
    for phase in ["bf16 attention", "bf16 loss of 50257", "bf16 loss of 30528"] {
        let tiles: Vec<u32> =
            products(captured, phase).map(|launch| sass::Shape::of(&machines[&launch.module]).all.tiles).collect();
        assert!(tiles.iter().any(|&tiles| tiles > 0), "{phase}: {} launches, none on tensor cores", tiles.len());
    }
}

/// The products of matrices in bf16 that were launched in a phase.
fn products<'a>(captured: &'a Captured, phase: &'a str) -> impl Iterator<Item = &'a Launch> {
    captured.launches.iter().filter(move |launch| {
        let name = &captured.kernels[&launch.module].name;
        launch.phase == phase && name.contains("matmul") && name.contains("lhs_bf16")
    })
}

/// Where somebody wants it.
fn write_table(captured: &Captured, machines: &BTreeMap<String, Machine>) {
    let Some(path) = std::env::var_os("PIPE_MACHINE_CODE") else { return };
    let mut phases: Vec<&str> = captured.launches.iter().map(|launch| launch.phase.as_str()).collect();
    phases.dedup();
    let mut file = std::fs::File::options().append(true).create(true).open(path).expect("PIPE_MACHINE_CODE");
    for phase in phases {
        writeln!(file, "{}", table::of(captured, machines, phase)).expect("PIPE_MACHINE_CODE");
    }
}
