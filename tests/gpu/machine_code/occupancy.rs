//! How many threads a multiprocessor has room for.

use super::{assembler::Machine, stand_in::Launch};

/// A multiprocessor, as the CUDA C++ programming guide's table of compute capabilities has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Multiprocessor {
    pub(super) threads: u32,
    blocks: u32,
    /// Bytes of shared memory for all blocks; each block takes 1 KiB more than it asks for.
    shared: u32,
}

const REGISTERS: u32 = 65_536;
const WARP: u32 = 32;
/// Registers of a warp are given out by so many, that is 8 of a thread.
const GRAIN: u32 = 256;
const RESERVED: u32 = 1024;

impl Multiprocessor {
    /// That of an architecture, such as `sm_90a`.
    pub(super) fn of(architecture: &str) -> Self {
        match architecture.trim_end_matches('a') {
            "sm_80" => Self { threads: 2048, blocks: 32, shared: 164 << 10 },
            "sm_90" => Self { threads: 2048, blocks: 32, shared: 228 << 10 },
            "sm_120" => Self { threads: 1536, blocks: 24, shared: 100 << 10 },
            other => panic!("{other}"),
        }
    }

    /// Threads of this kernel that are there at a time.
    pub(super) fn resident(self, machine: &Machine, launch: &Launch) -> u32 {
        let warps = launch.threads().div_ceil(WARP);
        let registers = warps * (machine.registers * WARP).next_multiple_of(GRAIN);
        let shared = machine.shared.max(launch.shared) + RESERVED;
        let blocks = [self.threads / launch.threads(), self.blocks, REGISTERS / registers, self.shared / shared];
        blocks.into_iter().min().unwrap_or(0) * launch.threads()
    }
}
