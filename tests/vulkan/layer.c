/* A Vulkan layer between a program and its driver, for tests.
 *
 *   LAYER_MODULES=FOLDER  writes each shader module there, before the driver sees it: NUMBER-HASH.spv; and appends a
 *                         line "create HASH" or "pipeline HASH" to FOLDER/log, so that none is missed and the last
 *                         line tells which module a driver died on.
 *   LAYER_MENDS=1         gives shared memory the type that it's meant to have (docs/mesa.md) before the driver sees it.
 *   LAYER_HANGS=FILE      once that file is there, nothing that is submitted is ever done: the driver that never answers.
 *   LAYER_MEMORY=BYTES    no more memory than that can be had at a time.
 *
 * It's found by its layer.json: VK_LAYER_PATH=FOLDER VK_INSTANCE_LAYERS=VK_LAYER_PIPE_test.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#define EXPORT __attribute__((visibility("default")))
/* One of each is enough: a program that opens several devices has them of one driver. */
static PFN_vkGetInstanceProcAddr next_instance;
static PFN_vkGetDeviceProcAddr next_device;
static VkInstance instance;
static VkDevice opened;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
enum { MODULES = 1 << 16 };
static struct { VkShaderModule module; uint64_t hash; } known[MODULES];
static int count;

/* FNV-1a. */
static uint64_t hash_of(const void *data, size_t size) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return hash;
}

static const char *folder(void) { return getenv("LAYER_MODULES"); }

static void note(const char *what, uint64_t hash) {
    char path[4096], line[64];
    snprintf(path, sizeof path, "%s/log", folder());
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    int size = snprintf(line, sizeof line, "%s %016llx\n", what, (unsigned long long)hash);
    if (file < 0 || write(file, line, size) != size) perror(path);
    if (file >= 0) close(file);
}

static uint64_t keep(const VkShaderModuleCreateInfo *info) {
    char path[4096];
    uint64_t hash = hash_of(info->pCode, info->codeSize);
    snprintf(path, sizeof path, "%s/%016llx.spv", folder(), (unsigned long long)hash);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(info->pCode, 1, info->codeSize, file) != info->codeSize) perror(path);
    if (file) fclose(file);
    note("create", hash);
    return hash;
}

/* Variables in workgroups' memory that are declared as pointers to what they hold: the type within is the right one. */
static void mend(uint32_t *words, size_t size) {
    enum { TYPE_POINTER = 32, VARIABLE = 59, WORKGROUP = 4 };
    uint32_t bound = words[3], *pointee = calloc(bound, sizeof *pointee);
    for (size_t at = 5; pointee && at < size && words[at] >> 16; at += words[at] >> 16) {
        uint32_t *word = words + at, code = word[0] & 0xffff;
        if (code == TYPE_POINTER && word[2] == WORKGROUP && word[1] < bound) pointee[word[1]] = word[3];
        if (code == VARIABLE && word[3] == WORKGROUP && word[1] < bound) {
            uint32_t held = pointee[word[1]];
            if (held < bound && pointee[held]) word[1] = held;
        }
    }
    free(pointee);
}

static VKAPI_ATTR VkResult VKAPI_CALL create_module(VkDevice device, const VkShaderModuleCreateInfo *info,
                                                    const VkAllocationCallbacks *with, VkShaderModule *module) {
    PFN_vkCreateShaderModule next = (PFN_vkCreateShaderModule)next_device(device, "vkCreateShaderModule");
    VkShaderModuleCreateInfo own = *info;
    uint32_t *words = malloc(info->codeSize);
    if (!words) return VK_ERROR_OUT_OF_HOST_MEMORY;
    own.pCode = memcpy(words, info->pCode, info->codeSize);
    if (getenv("LAYER_MENDS")) mend(words, info->codeSize / 4);
    uint64_t hash = folder() ? keep(&own) : 0;
    VkResult result = next(device, &own, with, module);
    free(words);
    if (folder() && result == VK_SUCCESS) {
        pthread_mutex_lock(&lock);
        known[count % MODULES].module = *module;
        known[count++ % MODULES].hash = hash;
        pthread_mutex_unlock(&lock);
    }
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_pipelines(VkDevice device, VkPipelineCache cache, uint32_t number,
                                                       const VkComputePipelineCreateInfo *infos,
                                                       const VkAllocationCallbacks *with, VkPipeline *pipelines) {
    PFN_vkCreateComputePipelines next =
        (PFN_vkCreateComputePipelines)next_device(device, "vkCreateComputePipelines");
    for (uint32_t i = 0; folder() && i < number; i++) {
        pthread_mutex_lock(&lock);
        uint64_t hash = 0;
        /* The newest of that handle: handles are used again. */
        for (int at = 0; at < count && at < MODULES; at++)
            if (known[at].module == infos[i].stage.module) hash = known[at].hash;
        pthread_mutex_unlock(&lock);
        note("pipeline", hash);
    }
    VkResult result = next(device, cache, number, infos, with, pipelines);
    if (folder()) note(result == VK_SUCCESS ? "done" : "refused", 0);
    return result;
}

/* Work that isn't taken up leaves its fences and semaphores as they are. */
static VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue queue, uint32_t number, const VkSubmitInfo *infos, VkFence fence) {
    static PFN_vkQueueSubmit next;
    if (!access(getenv("LAYER_HANGS"), F_OK)) return VK_SUCCESS;
    if (!next) next = (PFN_vkQueueSubmit)next_device(opened, "vkQueueSubmit");
    return next(queue, number, infos, fence);
}

/* What is had of the memory. */
enum { PIECES = 1 << 16 };
static struct { VkDeviceMemory memory; VkDeviceSize size; } had[PIECES];
static VkDeviceSize all_had;

static VKAPI_ATTR VkResult VKAPI_CALL allocate(VkDevice device, const VkMemoryAllocateInfo *info,
                                               const VkAllocationCallbacks *with, VkDeviceMemory *memory) {
    PFN_vkAllocateMemory next = (PFN_vkAllocateMemory)next_device(device, "vkAllocateMemory");
    VkResult result = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    pthread_mutex_lock(&lock);
    int at = 0;
    while (at < PIECES && had[at].size) at++;
    if (at < PIECES && all_had + info->allocationSize <= strtoull(getenv("LAYER_MEMORY"), NULL, 10))
        result = next(device, info, with, memory);
    if (result == VK_SUCCESS) {
        had[at].memory = *memory;
        all_had += had[at].size = info->allocationSize;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static VKAPI_ATTR void VKAPI_CALL give_back(VkDevice device, VkDeviceMemory memory, const VkAllocationCallbacks *with) {
    PFN_vkFreeMemory next = (PFN_vkFreeMemory)next_device(device, "vkFreeMemory");
    pthread_mutex_lock(&lock);
    for (int at = 0; at < PIECES; at++) {
        if (!had[at].size || had[at].memory != memory) continue;
        all_had -= had[at].size;
        had[at].size = 0;
    }
    pthread_mutex_unlock(&lock);
    next(device, memory, with);
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                                    const VkAllocationCallbacks *with, VkDevice *device) {
    VkLayerDeviceCreateInfo *chain = (VkLayerDeviceCreateInfo *)info->pNext;
    while (chain && (chain->sType != VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO || chain->function != VK_LAYER_LINK_INFO))
        chain = (VkLayerDeviceCreateInfo *)chain->pNext;
    if (!chain) return VK_ERROR_INITIALIZATION_FAILED;
    PFN_vkGetInstanceProcAddr get = chain->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    next_device = chain->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    chain->u.pLayerInfo = chain->u.pLayerInfo->pNext;
    VkResult result = ((PFN_vkCreateDevice)get(instance, "vkCreateDevice"))(physical, info, with, device);
    if (result == VK_SUCCESS) opened = *device;
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
                                                      const VkAllocationCallbacks *with, VkInstance *made) {
    VkLayerInstanceCreateInfo *chain = (VkLayerInstanceCreateInfo *)info->pNext;
    while (chain &&
           (chain->sType != VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO || chain->function != VK_LAYER_LINK_INFO))
        chain = (VkLayerInstanceCreateInfo *)chain->pNext;
    if (!chain) return VK_ERROR_INITIALIZATION_FAILED;
    next_instance = chain->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    chain->u.pLayerInfo = chain->u.pLayerInfo->pNext;
    VkResult result = ((PFN_vkCreateInstance)next_instance(NULL, "vkCreateInstance"))(info, with, made);
    if (result == VK_SUCCESS) instance = *made;
    return result;
}

EXPORT VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL layer_device(VkDevice device, const char *name) {
    if (!strcmp(name, "vkGetDeviceProcAddr")) return (PFN_vkVoidFunction)layer_device;
    if (!strcmp(name, "vkCreateShaderModule")) return (PFN_vkVoidFunction)create_module;
    if (!strcmp(name, "vkCreateComputePipelines")) return (PFN_vkVoidFunction)create_pipelines;
    if (!strcmp(name, "vkQueueSubmit") && getenv("LAYER_HANGS")) return (PFN_vkVoidFunction)submit;
    if (!strcmp(name, "vkAllocateMemory") && getenv("LAYER_MEMORY")) return (PFN_vkVoidFunction)allocate;
    if (!strcmp(name, "vkFreeMemory") && getenv("LAYER_MEMORY")) return (PFN_vkVoidFunction)give_back;
    return next_device(device, name);
}

EXPORT VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL layer_instance(VkInstance of, const char *name) {
    if (!strcmp(name, "vkGetInstanceProcAddr")) return (PFN_vkVoidFunction)layer_instance;
    if (!strcmp(name, "vkCreateInstance")) return (PFN_vkVoidFunction)create_instance;
    if (!strcmp(name, "vkCreateDevice")) return (PFN_vkVoidFunction)create_device;
    if (!strcmp(name, "vkGetDeviceProcAddr")) return (PFN_vkVoidFunction)layer_device;
    if (!strcmp(name, "vkCreateShaderModule")) return (PFN_vkVoidFunction)create_module;
    if (!strcmp(name, "vkCreateComputePipelines")) return (PFN_vkVoidFunction)create_pipelines;
    return next_instance(of, name);
}
