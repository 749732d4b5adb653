/* A program for a phone's processor that times some work and prints what benchncnn prints, on stderr as it does.
 *
 *   stub_runner LOOPS THREADS POWERSAVE GPU COOLING param=FILE shape=[W,H,C]
 *
 * Built with a cross compiler, it runs under qemu-user: a smoke test of pushing, starting and reading, no benchmark.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

int main(int argc, char **argv)
{
    double low = 1e30, high = 0, sum = 0;
    volatile float work = 0;
    int loops = argc > 1 ? atoi(argv[1]) : 4;
    if (argc < 7)
        return 255;
    fprintf(stderr, "loop_count = %d\nnum_threads = %s\npowersave = %s\ngpu_device = %s\ncooling_down = %s\n",
            loops, argv[2], argv[3], argv[4], argv[5]);
    for (int loop = 0; loop < loops; loop++) {
        double begin = now_ms(), took;
        for (int i = 0; i < 400000; i++)
            work += i * 0.5f;
        took = now_ms() - begin;
        low = took < low ? took : low;
        high = took > high ? took : high;
        sum += took;
    }
    fprintf(stderr, "%20s  min = %7.2f  max = %7.2f  avg = %7.2f\n", argv[6] + 6, low, high, sum / loops);
    return 0;
}
