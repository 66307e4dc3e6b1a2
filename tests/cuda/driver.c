/* A CUDA driver without a GPU, for tests: it takes everything and computes nothing, so that what a program would have a
 * card run can be read.
 *
 *   STANDIN_CAPABILITY=9.0   the card's compute capability
 *   STANDIN_FOLDER=FOLDER    each module is written there, HASH.ptx, and lines are appended to FOLDER/log:
 *                            "module HASH NAME" when a kernel is taken out of one, and
 *                            "launch HASH NAME GRID_X GRID_Y GRID_Z BLOCK_X BLOCK_Y BLOCK_Z SHARED" for each launch
 *
 * Memory is the machine's, at 0 to begin with, and what isn't written takes no room; copies are made. Kernels do nothing.
 * By its clock a kernel takes a nanosecond, and those that CubeCL measures a card by take a twentieth of a second, so that
 * measuring ends.
 *
 * It's found as libcuda.so in LD_LIBRARY_PATH.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define EXPORT __attribute__((visibility("default")))
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500, NOT_SUPPORTED = 801 };
enum { PAGE = 4096 };
typedef struct { double time; } Event;
typedef struct { uint64_t hash; } Module;
typedef struct { uint64_t hash; int measures; char name[256]; } Function;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static double now; /* seconds of the card */
static int context, stream, device_count = 1;
static __thread void *current;

static void capability(int *major, int *minor) {
    const char *text = getenv("STANDIN_CAPABILITY");
    if (!text || sscanf(text, "%d.%d", major, minor) != 2) *major = 9, *minor = 0;
}

/* FNV-1a. */
static uint64_t hash_of(const char *text) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text; text++) hash = (hash ^ (uint8_t)*text) * 0x100000001b3u;
    return hash;
}

static FILE *opened(const char *name, const char *mode) {
    char path[4096];
    if (!getenv("STANDIN_FOLDER")) return NULL;
    snprintf(path, sizeof path, "%s/%s", getenv("STANDIN_FOLDER"), name);
    FILE *file = fopen(path, mode);
    if (!file) perror(path);
    return file;
}

/* Lines are whole, whoever else appends to the file. */
static void note(const char *line) {
    static FILE *log;
    pthread_mutex_lock(&lock);
    if (!log) log = opened("log", "a");
    if (log) fputs(line, log), fflush(log);
    pthread_mutex_unlock(&lock);
}

/* What a driver is asked first. */
EXPORT int cuInit(unsigned flags) { return SUCCESS; }
EXPORT int cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
EXPORT int cuDeviceGetCount(int *count) { return *count = device_count, SUCCESS; }
EXPORT int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, SUCCESS; }
EXPORT int cuDeviceGetName(char *name, int size, int device) {
    int major, minor;
    capability(&major, &minor);
    snprintf(name, size, "stand-in %d.%d", major, minor);
    return SUCCESS;
}
EXPORT int cuDeviceGetUuid_v2(void *id, int device) { return memset(id, 0, 16), SUCCESS; }
EXPORT int cuDeviceGetPCIBusId(char *id, int size, int device) { return snprintf(id, size, "0000:01:00.0"), SUCCESS; }
EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = (size_t)80 << 30, SUCCESS; }
EXPORT int cuMemGetInfo_v2(size_t *left, size_t *all) { return *left = *all = (size_t)80 << 30, SUCCESS; }
EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int major, minor;
    capability(&major, &minor);
    switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break;        /* threads of a block, and along x and y */
    case 4: *value = 64; break;                           /* along z */
    case 5: *value = 2147483647; break;                   /* blocks along x */
    case 6: case 7: *value = 65535; break;
    case 8: *value = 48 << 10; break;                     /* shared memory of a block */
    case 10: *value = 32; break;                          /* warp */
    case 12: case 82: *value = 65536; break;              /* registers of a block, of a multiprocessor */
    case 16: *value = major == 8 ? 108 : major == 9 ? 132 : 170; break; /* multiprocessors */
    case 39: *value = major == 12 ? 1536 : 2048; break;   /* threads of one */
    case 75: *value = major; break;
    case 76: *value = minor; break;
    case 81: *value = (major == 8 ? 164 : major == 9 ? 228 : 100) << 10; break; /* shared memory of one */
    case 97: *value = (major == 8 ? 163 : major == 9 ? 227 : 99) << 10; break;  /* the most for a block */
    case 115: *value = 1; break;                          /* memory pools */
    default: *value = 0;
    }
    return SUCCESS;
}
EXPORT int cuGetErrorName(int error, const char **text) { return *text = "an error of the stand-in", SUCCESS; }
EXPORT int cuGetErrorString(int error, const char **text) { return *text = "an error of the stand-in", SUCCESS; }

/* Contexts and streams: there is one of each. */
EXPORT int cuDevicePrimaryCtxRetain(void **made, int device) { return *made = &context, SUCCESS; }
EXPORT int cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
EXPORT int cuCtxSetCurrent(void *set) { return current = set, SUCCESS; }
EXPORT int cuCtxGetCurrent(void **found) { return *found = current, SUCCESS; }
EXPORT int cuCtxSynchronize(void) { return SUCCESS; }
EXPORT int cuCtxGetStreamPriorityRange(int *least, int *greatest) { return *least = *greatest = 0, SUCCESS; }
EXPORT int cuStreamCreate(void **made, unsigned flags) { return *made = &stream, SUCCESS; }
EXPORT int cuStreamCreateWithPriority(void **made, unsigned flags, int priority) { return *made = &stream, SUCCESS; }
EXPORT int cuStreamDestroy_v2(void *of) { return SUCCESS; }
EXPORT int cuStreamSynchronize(void *of) { return SUCCESS; }
EXPORT int cuStreamWaitEvent(void *of, void *event, unsigned flags) { return SUCCESS; }
EXPORT int cuStreamBeginCapture_v2(void *of, int mode) { return NOT_SUPPORTED; }
EXPORT int cuStreamEndCapture(void *of, void **graph) { return NOT_SUPPORTED; }

/* Events: all that came before is done. */
EXPORT int cuEventCreate(void **made, unsigned flags) { return (*made = calloc(1, sizeof(Event))) ? SUCCESS : OUT_OF_MEMORY; }
EXPORT int cuEventDestroy_v2(void *event) { return free(event), SUCCESS; }
EXPORT int cuEventQuery(void *event) { return SUCCESS; }
EXPORT int cuEventSynchronize(void *event) { return SUCCESS; }
EXPORT int cuEventRecord(Event *event, void *of) {
    pthread_mutex_lock(&lock);
    event->time = now;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}
EXPORT int cuEventElapsedTime(float *milliseconds, Event *start, Event *end) {
    return *milliseconds = (float)(1e3 * (end->time - start->time)), SUCCESS;
}
EXPORT int cuEventElapsedTime_v2(float *milliseconds, Event *start, Event *end) {
    return cuEventElapsedTime(milliseconds, start, end);
}

/* Memory; its size is on a page before it. */
EXPORT int cuMemAlloc_v2(uint64_t *pointer, size_t bytes) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *mapped = mmap(NULL, bytes + PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (mapped == MAP_FAILED) return OUT_OF_MEMORY;
    *(size_t *)mapped = bytes + PAGE;
    *pointer = (uint64_t)(mapped + PAGE);
    return SUCCESS;
}
EXPORT int cuMemFree_v2(uint64_t pointer) {
    char *mapped = (char *)pointer - PAGE;
    return munmap(mapped, *(size_t *)mapped), SUCCESS;
}
EXPORT int cuMemAllocAsync(uint64_t *pointer, size_t bytes, void *of) { return cuMemAlloc_v2(pointer, bytes); }
EXPORT int cuMemFreeAsync(uint64_t pointer, void *of) { return cuMemFree_v2(pointer); }
EXPORT int cuMemAllocHost_v2(void **pointer, size_t bytes) { return cuMemAlloc_v2((uint64_t *)pointer, bytes); }
EXPORT int cuMemFreeHost(void *pointer) { return cuMemFree_v2((uint64_t)pointer); }
EXPORT int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *of) {
    return memcpy((void *)to, from, bytes), SUCCESS;
}
EXPORT int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *of) {
    return memcpy(to, (void *)from, bytes), SUCCESS;
}
EXPORT int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *of) {
    return memmove((void *)to, (void *)from, bytes), SUCCESS;
}
EXPORT int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *of) {
    return memset((void *)to, value, bytes), SUCCESS;
}
/* One side of a copy of rows, as CUDA_MEMCPY2D has it. */
typedef struct { size_t x, y; unsigned type; const char *host; uint64_t device; void *array; size_t pitch; } Side;
typedef struct { Side from, to; size_t width, height; } Copy2D;
EXPORT int cuMemcpy2DAsync_v2(const Copy2D *copy, void *of) {
    enum { HOST = 1 };
    const char *from = copy->from.type == HOST ? copy->from.host : (const char *)copy->from.device;
    char *to = copy->to.type == HOST ? (char *)copy->to.host : (char *)copy->to.device;
    from += copy->from.y * copy->from.pitch + copy->from.x;
    to += copy->to.y * copy->to.pitch + copy->to.x;
    for (size_t row = 0; row < copy->height; row++)
        memcpy(to + row * copy->to.pitch, from + row * copy->from.pitch, copy->width);
    return SUCCESS;
}

/* Descriptions of tensors for the unit that copies tiles, which nobody reads here. */
EXPORT int cuTensorMapEncodeTiled(void *map, int type, uint32_t rank, void *address, const uint64_t *size,
                                  const uint64_t *strides, const uint32_t *box, const uint32_t *steps, int interleave,
                                  int swizzle, int promotion, int fill) {
    return SUCCESS;
}
EXPORT int cuTensorMapEncodeIm2col(void *map, int type, uint32_t rank, void *address, const uint64_t *size,
                                   const uint64_t *strides, const int *lower, const int *upper, uint32_t channels,
                                   uint32_t pixels, const uint32_t *steps, int interleave, int swizzle, int promotion,
                                   int fill) {
    return SUCCESS;
}

/* Kernels. */
EXPORT int cuModuleLoadData(void **made, const char *image) {
    char name[64];
    Module *module = malloc(sizeof *module);
    if (!module) return OUT_OF_MEMORY;
    module->hash = hash_of(image);
    snprintf(name, sizeof name, "%016llx.ptx", (unsigned long long)module->hash);
    FILE *file = opened(name, "w");
    if (file && fputs(image, file) == EOF) perror(name);
    if (file) fclose(file);
    return *made = module, SUCCESS;
}
EXPORT int cuModuleUnload(void *module) { return free(module), SUCCESS; }
EXPORT int cuModuleGetFunction(void **made, Module *module, const char *name) {
    static const char *const measuring[] = {"throughput", "launch_overhead", "prime_buffer"};
    char line[512];
    Function *function = calloc(1, sizeof *function);
    if (!function) return OUT_OF_MEMORY;
    function->hash = module->hash;
    snprintf(function->name, sizeof function->name, "%s", name);
    for (unsigned i = 0; i < sizeof measuring / sizeof *measuring; i++)
        if (strstr(name, measuring[i])) function->measures = 1;
    snprintf(line, sizeof line, "module %016llx %s\n", (unsigned long long)module->hash, function->name);
    note(line);
    return *made = function, SUCCESS;
}
EXPORT int cuFuncSetAttribute(void *function, int attribute, int value) { return SUCCESS; }
EXPORT int cuFuncGetAttribute(int *value, int attribute, void *function) { return *value = 0, SUCCESS; }
EXPORT int cuLaunchKernel(Function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned shared, void *of, void **arguments, void **more) {
    char line[512];
    snprintf(line, sizeof line, "launch %016llx %s %u %u %u %u %u %u %u\n", (unsigned long long)function->hash,
             function->name, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared);
    note(line);
    pthread_mutex_lock(&lock);
    now += function->measures ? 0.05 : 1e-9;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}
