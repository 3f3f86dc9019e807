/* A CUDA driver of one device, as much of it as holding a context takes. Declared from the documented signatures. */
#include <stdio.h>
#include <stdlib.h>

typedef int CUdevice;
typedef struct context *CUcontext;

int cuInit(unsigned flags) { return flags == 0 ? (getenv("CUDA_STUB_FAILS") ? 100 : 0) : 1; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(CUdevice *device, int index) { *device = index; return index == 0 ? 0 : 101; }
int cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  (void)device;
  *context = (CUcontext)(void *)1;
  return 0;
}
