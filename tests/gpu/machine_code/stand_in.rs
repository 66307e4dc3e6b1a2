//! The stand-in driver of tests/cuda, and what it was given.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::common::{
    Space,
    needs::{Need, Needed},
    run_alone,
};

/// All that a run had the driver load and launch.
pub(super) struct Captured {
    /// Each kernel that was loaded, by the module's digest.
    pub(super) kernels: BTreeMap<String, Kernel>,
    /// In their order.
    pub(super) launches: Vec<Launch>,
    /// What it's called for the assembler, such as `sm_90a`.
    pub(super) architecture: String,
    /// With the modules in it.
    pub(super) space: Space,
}

/// A kernel in a module of its own.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// Its name, with its types, such as `normalize_kernel_f_bf16_n_4`.
    pub(super) name: String,
    /// The same with a digest of its other settings behind it, by which the module knows it.
    pub(super) entry: String,
    /// The module's file, PTX.
    pub(super) file: PathBuf,
}

#[derive(Clone, Debug)]
pub(super) struct Launch {
    /// What was being done.
    pub(super) phase: String,
    /// The digest of the kernel's module.
    pub(super) module: String,
    pub(super) grid: [u32; 3],
    pub(super) block: [u32; 3],
    /// Shared memory of a block that the launch asks for, in bytes.
    pub(super) shared: u32,
}

impl Launch {
    pub(super) fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    pub(super) fn blocks(&self) -> u64 {
        self.grid.iter().map(|&axis| u64::from(axis)).product()
    }
}

/// Runs the steps for a card of this compute capability, in a process of its own.
pub(super) fn capture(capability: &str) -> Needed<Captured> {
    let space = Space::new();
    let (library, folder) = (space.path().join("library"), space.path().join("modules"));
    for folder in [&library, &folder] {
        std::fs::create_dir(folder).expect("a directory");
    }
    build(&library.join("libcuda.so"))?;
    let environment = [
        ("LD_LIBRARY_PATH", library.as_os_str()),
        ("STANDIN_CAPABILITY", OsStr::new(capability)),
        ("STANDIN_FOLDER", folder.as_os_str()),
    ];
    run_alone("machine_code::steps::steps_on_the_stand_in", &environment);
    Ok(read(&folder, space))
}

fn build(library: &Path) -> Needed<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda/driver.c");
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-o"]).arg(library).arg(source);
    match cc.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => Err(Need::Ptxas.unmet(format!("cc: {error}"))),
    }
}

fn read(folder: &Path, space: Space) -> Captured {
    let log = std::fs::read_to_string(folder.join("log")).expect("the driver's log");
    let mut kernels = BTreeMap::<String, Kernel>::new();
    let (mut launches, mut phase) = (Vec::new(), String::new());
    for line in log.lines() {
        let (what, rest) = line.split_once(' ').expect("a word and more");
        let words: Vec<&str> = rest.split(' ').collect();
        match what {
            "phase" => phase = rest.to_owned(),
            "module" => {
                let name = words[1].rsplit_once('_').map_or(words[1], |(name, _)| name).to_owned();
                let (entry, file) = (words[1].to_owned(), folder.join(format!("{}.ptx", words[0])));
                kernels.insert(words[0].to_owned(), Kernel { name, entry, file });
            }
            "launch" => {
                let number = |at: usize| words[at].parse::<u32>().expect("a number");
                launches.push(Launch {
                    phase: phase.clone(),
                    module: words[0].to_owned(),
                    grid: [2, 3, 4].map(number),
                    block: [5, 6, 7].map(number),
                    shared: number(8),
                });
            }
            _ => panic!("{line}"),
        }
    }
    assert_eq!(phase, "end", "not all steps were run");
    let first = kernels.values().next().expect("a kernel");
    let text = std::fs::read_to_string(&first.file).expect("a module");
    let architecture = target(&text).to_owned();
    Captured { kernels, launches, architecture, space }
}

/// The architecture that a module is for.
pub(super) fn target(module: &str) -> &str {
    module.lines().find_map(|line| line.strip_prefix(".target ")).expect("a target").trim()
}
