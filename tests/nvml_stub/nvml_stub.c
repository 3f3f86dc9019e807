/* A stand-in for libnvidia-ml.so.1: the functions that lemctl calls, on a model of up to four GPUs.
 *
 * The model is a pure function of time and of a file that all processes map (LEM_NVML_STUB), so several processes agree
 * without talking: power = idle + loaded step + load + leakage (T - ambient) + noise, and the temperature follows power
 * with one time constant. It is integrated in steps of 1 ms of model time, which runs `scale` times as fast as the clock.
 * The layout of `struct state` is mirrored in nvml_stub.py. Declarations are this file's own.
 */
#define _GNU_SOURCE /* dladdr */
#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
       DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };
enum { FI_MEMORY_TEMP = 82, FI_POLICY_POWER = 74, FI_POLICY_THERMAL = 75, FI_POWER_AVERAGE = 185, FI_POWER_INSTANT = 186 };
enum { MAX_GPUS = 4, MAX_SEGMENTS = 64, MAX_PROCESSES = 8 };
#define STEP_S 0.001

struct segment { double at_s, load_w; };
struct gpu {
    double idle_w, loaded_w, leakage_w_per_c, ambient_c, c_per_w, tau_s, tick_s, noise_w;
    double counter_gain, counter_lag_s, counter_stop_s, counter_reset_s;      /* < 0: never */
    double thermal_share;
    uint64_t event_reasons;
    int32_t lost, hang, mig, no_counter, no_power_fields, module_only, zero_power, no_processes_call;
    int32_t processes, segments;
    uint32_t pids[MAX_PROCESSES];
    struct segment segment[MAX_SEGMENTS];
};
struct state { int64_t t0_ns; double scale; int32_t driver_gone, gpus; struct gpu gpu[MAX_GPUS]; };

struct field_value {
    uint32_t field, scope;
    int64_t timestamp, latency_us;
    uint32_t type, ret;
    union { double d; uint32_t u; uint64_t ull; } value;
};
struct utilization { uint32_t gpu, memory; };
struct memory { uint64_t total, free, used; };
struct process { uint32_t pid; uint64_t used; uint32_t gpu_instance, compute_instance; };

struct integral { int64_t step; double temp_c, energy_j, power_w; };
static struct state *shared;
static struct integral now_of[MAX_GPUS], shown_of[MAX_GPUS], true_of[MAX_GPUS];

static double noise(int64_t step, int gpu) {
    uint64_t x = (uint64_t)(step / 10) * 0x9E3779B97F4A7C15ull + (uint64_t)gpu * 0xD1B54A32D192ED03ull + 1;
    x ^= x >> 30; x *= 0xBF58476D1CE4E5B9ull; x ^= x >> 27; x *= 0x94D049BB133111EBull; x ^= x >> 31;
    return ((double)(x >> 11) / 4503599627370496.0 - 1.0) * 1.7320508;           /* rectangular, sd 1 */
}

static double load_at(const struct gpu *g, double t_s) {
    double load_w = 0;
    for (int i = 0; i < g->segments && g->segment[i].at_s <= t_s; i++) load_w = g->segment[i].load_w;
    return load_w;
}

static void advance(struct integral *at, int index, double until_s) {
    const struct gpu *g = &shared->gpu[index];
    int64_t until = (int64_t)floor(until_s / STEP_S);
    if (at->temp_c == 0 || until < at->step) {
        double idle_w = g->idle_w + g->loaded_w;
        at->step = 0; at->energy_j = 0;
        at->temp_c = g->ambient_c + g->c_per_w * idle_w / (1 - g->c_per_w * g->leakage_w_per_c);
        at->power_w = idle_w;
    }
    for (; at->step < until; at->step++) {
        at->power_w = g->idle_w + g->loaded_w + load_at(g, (double)at->step * STEP_S)
                    + g->leakage_w_per_c * (at->temp_c - g->ambient_c) + g->noise_w * noise(at->step, index);
        at->energy_j += at->power_w * STEP_S;
        at->temp_c += (g->ambient_c + g->c_per_w * at->power_w - at->temp_c) * STEP_S / g->tau_s;
    }
}

static double model_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return ((double)(t.tv_sec * 1000000000ll + t.tv_nsec - shared->t0_ns)) / 1e9 * shared->scale;
}

/* The model's own integral up to a moment: what a perfect meter would have counted. */
double stub_energy_j(int index, int64_t t_mono_ns) {
    struct integral *at = &true_of[index];
    double until_s = (double)(t_mono_ns - shared->t0_ns) / 1e9 * shared->scale;
    advance(at, index, until_s);
    return at->energy_j + at->power_w * (until_s - (double)at->step * STEP_S);
}

static int enter(void *handle, int *index, struct gpu **g) {
    *index = (int)(intptr_t)handle - 1;
    *g = &shared->gpu[*index];
    while ((*g)->hang) usleep(2000);
    if (shared->driver_gone) return DRIVER_NOT_LOADED;
    return (*g)->lost ? GPU_IS_LOST : OK;
}
#define ENTER int index, ret; struct gpu *g; if ((ret = enter(handle, &index, &g)) != OK) return ret
static struct integral *now(int index) { advance(&now_of[index], index, model_s()); return &now_of[index]; }

int stub_open(const char *path) {
    int fd = open(path, O_RDWR);
    if (fd < 0) return -1;
    shared = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return shared == MAP_FAILED ? -1 : 0;
}
/* For processes whose environment passes on LD_LIBRARY_PATH alone: `nvml-state` in the library's own folder. */
static const char *state_beside_library(void) {
    static char path[4096];
    Dl_info info;
    if (!dladdr((void *)&shared, &info) || !info.dli_fname) return NULL;
    const char *slash = strrchr(info.dli_fname, '/');
    if (!slash) return NULL;
    snprintf(path, sizeof path, "%.*s/nvml-state", (int)(slash - info.dli_fname), info.dli_fname);
    return path;
}
int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    const char *path = getenv("LEM_NVML_STUB");
    if (!path) path = state_beside_library();
    if (!path || stub_open(path) != 0) return DRIVER_NOT_LOADED;
    return shared->driver_gone ? DRIVER_NOT_LOADED : OK;
}
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) {
    static char text[32];
    switch (code) {
    case NOT_SUPPORTED: return "Not Supported";
    case GPU_IS_LOST: return "GPU is lost";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    default: snprintf(text, sizeof text, "NVML error %d", code); return text;
    }
}
int nvmlDeviceGetCount_v2(unsigned *n) { *n = (unsigned)shared->gpus; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (index >= (unsigned)shared->gpus) return INVALID_ARGUMENT;
    *handle = (void *)(intptr_t)(index + 1);
    return OK;
}
static void uuid_of(int index, char *out, size_t size) { snprintf(out, size, "GPU-00000000-0000-0000-0000-%012d", index); }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    for (int i = 0; i < shared->gpus; i++) {
        char name[96];
        uuid_of(i, name, sizeof name);
        if (strcmp(name, uuid) == 0) { *handle = (void *)(intptr_t)(i + 1); return OK; }
    }
    return NOT_FOUND;
}
int nvmlDeviceGetUUID(void *handle, char *out, unsigned size) { ENTER; uuid_of(index, out, size); return OK; }
int nvmlDeviceGetIndex(void *handle, unsigned *out) { ENTER; *out = (unsigned)index; return OK; }
int nvmlDeviceGetName(void *handle, char *out, unsigned size) { ENTER; snprintf(out, size, "NVIDIA Model GPU"); return OK; }
int nvmlDeviceGetVbiosVersion(void *handle, char *out, unsigned size) { ENTER; snprintf(out, size, "00.01.02.03.04"); return OK; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { snprintf(out, size, "580.1"); return OK; }
int nvmlSystemGetCudaDriverVersion(int *out) { *out = 13000; return OK; }
int nvmlDeviceGetPowerManagementLimit(void *handle, unsigned *out) { ENTER; *out = 700000; return OK; }
int nvmlDeviceGetPowerManagementDefaultLimit(void *handle, unsigned *out) { ENTER; *out = 700000; return OK; }
int nvmlDeviceGetPowerManagementLimitConstraints(void *handle, unsigned *low, unsigned *high) {
    ENTER; *low = 200000; *high = 700000; return OK;
}
int nvmlDeviceGetEccMode(void *handle, unsigned *current, unsigned *pending) { ENTER; *current = *pending = 1; return OK; }
int nvmlDeviceGetPersistenceMode(void *handle, unsigned *out) { ENTER; *out = 1; return OK; }
int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    ENTER; *current = *pending = (unsigned)g->mig; return OK;
}
int nvmlDeviceGetMaxPcieLinkGeneration(void *handle, unsigned *out) { ENTER; *out = 5; return OK; }
int nvmlDeviceGetMaxPcieLinkWidth(void *handle, unsigned *out) { ENTER; *out = 16; return OK; }
int nvmlDeviceGetTemperatureThreshold(void *handle, unsigned kind, unsigned *out) { ENTER; *out = kind ? 89 : 92; return OK; }
int nvmlDeviceGetMaxClockInfo(void *handle, unsigned kind, unsigned *out) { ENTER; *out = kind == 2 ? 2619 : 1980; return OK; }
int nvmlDeviceGetClockInfo(void *handle, unsigned kind, unsigned *out) { ENTER; *out = kind == 2 ? 2619 : 1755; return OK; }
int nvmlDeviceGetMemoryInfo(void *handle, struct memory *out) {
    ENTER; out->total = 80ull << 30; out->used = g->loaded_w > 0 ? 16ull << 30 : 1ull << 29; out->free = out->total - out->used;
    return OK;
}
int nvmlDeviceGetUtilizationRates(void *handle, struct utilization *out) {
    ENTER; out->gpu = load_at(g, model_s()) > 0 ? 99 : 0; out->memory = out->gpu / 2; return OK;
}
int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *out) {
    ENTER; (void)sensor; *out = (unsigned)lround(now(index)->temp_c); return OK;
}
int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *mj) {
    ENTER;
    if (g->no_counter) return NOT_SUPPORTED;
    double t_s = model_s() - g->counter_lag_s, base_j = 0;
    if (g->counter_stop_s >= 0 && t_s > g->counter_stop_s) t_s = g->counter_stop_s;
    t_s = fmax(0, floor(t_s / g->tick_s) * g->tick_s);
    if (g->counter_reset_s >= 0 && t_s >= g->counter_reset_s) {
        advance(&shown_of[index], index, g->counter_reset_s);
        base_j = shown_of[index].energy_j + 1e6;
    }
    advance(&shown_of[index], index, t_s);
    *mj = (unsigned long long)llround((shown_of[index].energy_j - base_j) * g->counter_gain * 1e3 + 1e9);
    return OK;
}
int nvmlDeviceGetPowerUsage(void *handle, unsigned *mw) {
    ENTER; *mw = g->zero_power ? 0 : (unsigned)lround(now(index)->power_w * 1e3); return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *n, struct process *out) {
    ENTER;
    if (g->no_processes_call) return NOT_SUPPORTED;
    if (g->processes == 0) { *n = 0; return OK; }
    if (!out || *n < (unsigned)g->processes) { *n = (unsigned)g->processes; return INSUFFICIENT_SIZE; }
    *n = (unsigned)g->processes;
    for (int i = 0; i < g->processes; i++) {
        memset(&out[i], 0, sizeof out[i]);
        out[i].pid = g->pids[i];
        out[i].used = 1ull << 30;
    }
    return OK;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *n, struct process *out) {
    ENTER; (void)out; *n = 0; return OK;
}
#ifndef STUB_WITHOUT_NEW_FUNCTIONS
int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *bits) { ENTER; *bits = g->event_reasons; return OK; }
int nvmlDeviceGetFieldValues(void *handle, int n, struct field_value *values) {
    ENTER;
    for (int i = 0; i < n; i++) {
        struct field_value *v = &values[i];
        int is_power = v->field == FI_POWER_INSTANT || v->field == FI_POWER_AVERAGE;
        v->ret = OK; v->type = 3; v->timestamp = 0; v->latency_us = 0;
        if (is_power && (g->no_power_fields || (v->scope == 0 && g->module_only) || v->scope > 1)) v->ret = NOT_SUPPORTED;
        else if (is_power) { v->type = 1; v->value.ull = 0; v->value.u = g->zero_power ? 0 : (uint32_t)lround(now(index)->power_w * 1e3); }
        else if (v->field == FI_MEMORY_TEMP) { v->type = 1; v->value.ull = 0; v->value.u = (uint32_t)lround(now(index)->temp_c) + 5; }
        else if (v->field == FI_POLICY_THERMAL) v->value.ull = (uint64_t)(fmax(0, model_s() / shared->scale) * 1e9 * g->thermal_share);
        else if (v->field == FI_POLICY_POWER) v->value.ull = 0;
        else v->ret = INVALID_ARGUMENT;
    }
    return OK;
}
#else
int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *bits) { ENTER; *bits = g->event_reasons; return OK; }
#endif
