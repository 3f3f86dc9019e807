/* A driver that only says which GPUs there are: LEM_TEST_GPUS is "name:major.minor" joined by commas. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int entry(int index, char *name, int *major, int *minor)
{
    char text[512];
    snprintf(text, sizeof text, "%s", getenv("LEM_TEST_GPUS") ? getenv("LEM_TEST_GPUS") : "");
    int count = 0;
    for (char *rest = text, *part; (part = strsep(&rest, ",")) != NULL;) {
        if (*part == '\0')
            continue;
        if (count++ == index)
            sscanf(part, "%127[^:]:%d.%d", name, major, minor);
    }
    return count;
}

int cuInit(unsigned flags) { return (int)flags; }

int cuDeviceGetCount(int *count)
{
    char name[128];
    int major, minor;
    *count = entry(-1, name, &major, &minor);
    return 0;
}

int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }

int cuDeviceGetName(char *name, int length, int device)
{
    char found[128] = "";
    int major, minor;
    entry(device, found, &major, &minor);
    snprintf(name, (size_t)length, "%s", found);
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    char name[128];
    int major = 0, minor = 0;
    entry(device, name, &major, &minor);
    *value = attribute == 75 ? major : minor;
    return 0;
}
