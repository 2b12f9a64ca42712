/*
 * A clock that a test moves, by LD_PRELOAD. SANEDGE_TEST_CLOCK names a file with two numbers of nanoseconds: how far the program's
 * clock is ahead, and how much of its next waits is skipped. What is skipped moves the clock as if it had been waited for.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SLICE_MS = 20 };
static const long long SECOND_NS = 1000000000, MILLISECOND_NS = 1000000;
static volatile long long *ahead, *skippable;

__attribute__((constructor)) static void open_clock(void) {
	const char *path = getenv("SANEDGE_TEST_CLOCK");
	int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map = file < 0 ? MAP_FAILED : mmap(NULL, 2 * sizeof *ahead, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (map == MAP_FAILED)
		_exit(99);
	close(file);
	ahead = map;
	skippable = ahead + 1;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
	int failed = (int)syscall(SYS_clock_gettime, clock, time);
	if (failed || (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC))
		return failed;
	long long nanoseconds = time->tv_nsec + *ahead % SECOND_NS;
	time->tv_sec += *ahead / SECOND_NS + nanoseconds / SECOND_NS;
	time->tv_nsec = nanoseconds % SECOND_NS;
	return 0;
}

int epoll_wait(int epoll, struct epoll_event *events, int count, int timeout_ms) {
	for (;;) {
		int slice = timeout_ms < 0 || timeout_ms > SLICE_MS ? SLICE_MS : timeout_ms;
		int ready = (int)syscall(SYS_epoll_pwait, epoll, events, count, slice, NULL, 8);
		if (ready || timeout_ms >= 0 && (timeout_ms -= slice) <= 0)
			return ready;
		if (timeout_ms < 0 || *skippable <= 0)
			continue;
		long long left = timeout_ms * MILLISECOND_NS, skipped = *skippable < left ? *skippable : left;
		*skippable -= skipped;
		*ahead += skipped;
		timeout_ms -= (int)(skipped / MILLISECOND_NS);
		if (timeout_ms <= 0)
			return 0;
	}
}
