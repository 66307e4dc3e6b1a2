//! Kernels as WGSL on a Vulkan driver, which is what `wgpu` means here.
//!
//! A build that has CubeCL's compiler to SPIR-V gives its modules to every Vulkan driver, and there's no setting against that.
//! So the server of such a device is put together here as cubecl-wgpu 0.11 does it (`try_create_server`), without that
//! compiler: wgpu's own translation then checks each kernel, and asks less of the driver.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use burn::tensor::DeviceKind;
use burn_cubecl::cubecl::{
    WgpuCompilationOptions,
    client::Client,
    future::block_on,
    ir::{
        AddressType, DeviceIdentity, DeviceProperties, ElemType, FloatKind, HardwareProperties, IntKind,
        MemoryDeviceProperties, TargetProperties, Type, UIntKind,
        features::{AtomicUsage, Plane, TypeUsage},
    },
    logging::ServerLogger,
    profile::TimingMethod,
    server::ServerUtilities,
    wgpu::{
        AutoCompiler, RuntimeOptions, WgpuDevice, WgpuDeviceKind, WgpuServer,
        wgpu::{
            Adapter, AdapterInfo, Backend, Backends, DeviceDescriptor, DeviceType, Features, Instance,
            InstanceDescriptor, Limits, MemoryHints,
        },
    },
};
use cubecl_common::device::{Device as _, ServiceId};
use cubecl_server::allocator::ContiguousMemoryLayoutPolicy;
use parking_lot::Mutex;

/// Devices whose servers run, with what keeps their driver loaded.
static RUNNING: Mutex<Vec<(DeviceKind, Instance)>> = Mutex::new(Vec::new());

/// The GPU of this kind that Vulkan reaches, if it's one of the kinds that are looked for.
pub(super) fn adapter(kind: &DeviceKind) -> Option<(Instance, Adapter)> {
    let (sort, index) = match *kind {
        DeviceKind::DiscreteGpu(index) => (DeviceType::DiscreteGpu, index),
        DeviceKind::IntegratedGpu(index) => (DeviceType::IntegratedGpu, index),
        DeviceKind::VirtualGpu(index) => (DeviceType::VirtualGpu, index),
        DeviceKind::Cpu => (DeviceType::Cpu, 0),
        _ => return None,
    };
    let backends = Backends::VULKAN;
    let instance = Instance::new(InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() });
    let adapters = block_on(instance.enumerate_adapters(backends)).into_iter();
    let adapter = adapters.filter(|adapter| adapter.get_info().device_type == sort).nth(index)?;
    Some((instance, adapter))
}

/// Has burn's `Device::wgpu` of this kind take WGSL, from before its first use. A GPU that Vulkan doesn't reach takes it
/// anyway.
///
/// # Errors
/// A driver that refuses.
pub(super) fn open(kind: &DeviceKind) -> Result<()> {
    let mut running = RUNNING.lock();
    if running.iter().any(|(other, _)| other == kind) {
        return Ok(());
    }
    let Some((instance, adapter)) = adapter(kind) else { return Ok(()) };
    serve(&WgpuDevice::new(named(kind)?), &adapter)?;
    running.push((kind.clone(), instance));
    Ok(())
}

fn named(kind: &DeviceKind) -> Result<WgpuDeviceKind> {
    Ok(match *kind {
        DeviceKind::DiscreteGpu(index) => WgpuDeviceKind::DiscreteGpu(index),
        DeviceKind::IntegratedGpu(index) => WgpuDeviceKind::IntegratedGpu(index),
        DeviceKind::VirtualGpu(index) => WgpuDeviceKind::VirtualGpu(index),
        DeviceKind::Cpu => WgpuDeviceKind::Cpu,
        _ => return Err(anyhow!("no adapter is called {kind:?}")),
    })
}

fn serve(device: &WgpuDevice, adapter: &Adapter) -> Result<()> {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    ensure!(limits.max_storage_buffers_per_shader_stage >= 2, "{} gives kernels too few buffers", info.name);
    let request = adapter.request_device(&DeviceDescriptor {
        required_features: features - Features::MAPPABLE_PRIMARY_BUFFERS - Features::all_experimental_mask(),
        required_limits: limits.clone(),
        // CubeCL allocates in blocks itself.
        memory_hints: MemoryHints::MemoryUsage,
        ..DeviceDescriptor::default()
    });
    let (opened, queue) = block_on(request).with_context(|| format!("{} refuses to be opened", info.name))?;
    let options = RuntimeOptions::try_default()?;
    let timing = if features.contains(Features::TIMESTAMP_QUERY) { TimingMethod::Device } else { TimingMethod::System };
    let properties = properties(&info, features, &limits, timing);
    let memory = properties.memory.clone();
    let supports_u64 = features.contains(Features::SHADER_INT64);
    let compilation = WgpuCompilationOptions { supports_u64, ..WgpuCompilationOptions::default() };
    let id = device.to_id();
    let (utilities, captures) = ServerUtilities::init(
        ServiceId::of::<WgpuServer<AutoCompiler>>(id),
        "wgpu<wgsl>",
        properties,
        TargetProperties { mma: Default::default() },
        Arc::new(ServerLogger::default()),
        ContiguousMemoryLayoutPolicy::new(memory.alignment as usize),
    );
    let server = WgpuServer::<AutoCompiler>::new(
        memory,
        options.memory_config,
        compilation,
        opened,
        queue,
        options.tasks_max,
        Backend::Vulkan,
        timing,
        utilities,
        captures,
    );
    Client::try_init(id, server).map_err(|error| anyhow!("{} is in use already: {error:?}", info.name))?;
    Ok(())
}

/// What kernels may ask of a device that is given WGSL.
fn properties(info: &AdapterInfo, features: Features, limits: &Limits, timing: TimingMethod) -> DeviceProperties {
    let alignment = limits.min_uniform_buffer_offset_alignment.max(limits.min_storage_buffer_offset_alignment);
    let memory = MemoryDeviceProperties::new(
        limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        u64::from(alignment),
    );
    let most = limits.max_compute_workgroups_per_dimension;
    let hardware = HardwareProperties {
        load_width: 128,
        vector_register_count: None,
        plane_size_min: info.subgroup_min_size,
        plane_size_max: info.subgroup_max_size,
        // wgpu keeps one for the lengths of the others.
        max_bindings: limits.max_storage_buffers_per_shader_stage - 1,
        max_shared_memory_size: limits.max_compute_workgroup_storage_size as usize,
        max_cube_count: (most, most, most),
        max_units_per_cube: limits.max_compute_invocations_per_workgroup,
        max_cube_dim: (
            limits.max_compute_workgroup_size_x,
            limits.max_compute_workgroup_size_y,
            limits.max_compute_workgroup_size_z,
        ),
        num_streaming_multiprocessors: None,
        num_cpu_cores: None,
        last_level_cache_size: None,
        num_tensor_cores: None,
        min_tensor_cores_dim: None,
        max_vector_size: 4,
        cube_mma_reserved_shared_memory: 0,
    };
    let identity = DeviceIdentity {
        name: info.name.clone(),
        // What is measured of its kernels is kept apart from what is measured of those in SPIR-V.
        fingerprint: format!("wgsl_{}_{}", info.vendor, info.device),
        physical: None,
    };
    let mut properties = DeviceProperties::new(Default::default(), memory, hardware, timing, identity);
    if features.contains(Features::SUBGROUP) && info.device_type != DeviceType::Cpu {
        properties.features.plane.insert(Plane::Ops);
    }
    register_types(&mut properties, features);
    properties
}

fn register_types(properties: &mut DeviceProperties, features: Features) {
    properties.register_address_type(AddressType::U32);
    let (i32, u32) = (ElemType::Int(IntKind::I32), ElemType::UInt(UIntKind::U32));
    let (f16, f32) = (ElemType::Float(FloatKind::F16), ElemType::Float(FloatKind::F32));
    let always = [ElemType::Index, u32, i32, f32, ElemType::Float(FloatKind::Flex32), ElemType::Bool];
    let int64 = [ElemType::Int(IntKind::I64), ElemType::UInt(UIntKind::U64)];
    let optional: [(Features, &[ElemType]); 3] = [
        (Features::SHADER_INT64, &int64),
        (Features::SHADER_F64, &[ElemType::Float(FloatKind::F64)]),
        (Features::SHADER_F16, &[f16]),
    ];
    let there = optional.into_iter().filter(|(feature, _)| features.contains(*feature));
    for element in always.into_iter().chain(there.flat_map(|(_, elements)| elements.iter().copied())) {
        properties.register_type_usage(element, TypeUsage::all());
    }
    // CubeCL converts them in software, four to a word.
    for kind in [FloatKind::E4M3, FloatKind::E5M2, FloatKind::UE8M0] {
        properties.register_type_usage(ElemType::Float(kind), TypeUsage::Conversion);
    }
    let float = features.contains(Features::SHADER_FLOAT32_ATOMIC).then_some(f32);
    for element in [i32, u32].into_iter().chain(float) {
        let usage = AtomicUsage::LoadStore | AtomicUsage::Exchange | AtomicUsage::Add;
        properties.register_atomic_type_usage(Type::atomic(element), usage);
    }
}
