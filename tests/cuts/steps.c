/* Preloaded into dpkg and its scripts by tests/cuts/package: counts what changes the disk or begins a program, and makes the cut. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int number_in(const char *path) {
  char text[16] = "";
  int file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0), number = 0;
  if (file < 0) return -1;
  if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
  close(file);
  for (char *at = text; *at >= '0' && *at <= '9'; at++) number = number * 10 + *at - '0';
  return number;
}

static void append(const char *path, const char *text, int flags) {
  int file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
  if (file < 0) return;
  if (write(file, text, strlen(text)) < 0) _exit(99);
  close(file);
}

/* One step, before it is made. Its number is under a lock, for what runs beside each other. */
static void step(const char *call, const char *path) {
  char text[300], program[64] = "";
  int saved = errno, lock, at, file;
  if (syscall(SYS_faccessat, AT_FDCWD, "/state/counting", F_OK) != 0) return;
  lock = syscall(SYS_openat, AT_FDCWD, "/state/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  flock(lock, LOCK_EX);
  at = number_in("/state/count") + 1;
  snprintf(text, sizeof text, "%d", at);
  append("/state/count", text, O_TRUNC);
  file = syscall(SYS_openat, AT_FDCWD, "/proc/self/comm", O_RDONLY | O_CLOEXEC, 0);
  if (file >= 0 && read(file, program, sizeof program - 1) > 0) program[strcspn(program, "\n")] = 0;
  if (file >= 0) close(file);
  snprintf(text, sizeof text, "%s: %s %s\n", program, call, path ? path : "");
  append("/state/steps", text, O_APPEND);
  close(lock);
  if (at == number_in("/state/cut-at")) {
    pid_t cut = fork();
    if (cut == 0) {
      char *const words[] = {"cut", NULL}, *const none[] = {"PATH=/host/usr/bin:/host/bin", NULL};
      syscall(SYS_execve, "/state/cut", words, none);
      _exit(99);
    }
    waitpid(cut, NULL, 0);
  }
  errno = saved;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int rename(const char *from, const char *to) { step("rename to", to); return REAL(rename)(from, to); }
int renameat(int a, const char *from, int b, const char *to) { step("rename to", to); return REAL(renameat)(a, from, b, to); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
  step("rename to", to);
  return REAL(renameat2)(a, from, b, to, flags);
}
int link(const char *from, const char *to) { step("link", to); return REAL(link)(from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags) { step("link", to); return REAL(linkat)(a, from, b, to, flags); }
int symlink(const char *from, const char *to) { step("symlink", to); return REAL(symlink)(from, to); }
int symlinkat(const char *from, int at, const char *to) { step("symlink", to); return REAL(symlinkat)(from, at, to); }
int unlink(const char *path) { step("remove", path); return REAL(unlink)(path); }
int unlinkat(int at, const char *path, int flags) { step("remove", path); return REAL(unlinkat)(at, path, flags); }
int rmdir(const char *path) { step("remove", path); return REAL(rmdir)(path); }
int mkdir(const char *path, mode_t mode) { step("mkdir", path); return REAL(mkdir)(path, mode); }
int chmod(const char *path, mode_t mode) { step("chmod", path); return REAL(chmod)(path, mode); }
int fsync(int file) { step("fsync", NULL); return REAL(fsync)(file); }
int fdatasync(int file) { step("fsync", NULL); return REAL(fdatasync)(file); }
void sync(void) { step("sync", NULL); REAL(sync)(); }
int syncfs(int file) { step("sync", NULL); return REAL(syncfs)(file); }

#define OPENS(name)                                                         \
  int name(const char *path, int flags, ...) {                              \
    va_list more;                                                           \
    va_start(more, flags);                                                  \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
    va_end(more);                                                           \
    if (flags & O_CREAT) step("create", path);                              \
    return REAL(name)(path, flags, mode);                                   \
  }
OPENS(open)
OPENS(open64)
#define OPENS_AT(name)                                                      \
  int name(int at, const char *path, int flags, ...) {                      \
    va_list more;                                                           \
    va_start(more, flags);                                                  \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
    va_end(more);                                                           \
    if (flags & O_CREAT) step("create", path);                              \
    return REAL(name)(at, path, flags, mode);                               \
  }
OPENS_AT(openat)
OPENS_AT(openat64)

/* The stand-ins are not part of what is cut: they run without this library. */
int execve(const char *path, char *const words[], char *const environment[]) {
  char *kept[256];
  int count = 0;
  if (syscall(SYS_faccessat, AT_FDCWD, path, X_OK) == 0) {
    char text[200] = "";
    for (int at = 0; words[at] && at < 5; at++) {
      strncat(text, words[at], sizeof text - strlen(text) - 2);
      strcat(text, " ");
    }
    step("run", text);
  }
  if (strncmp(path, "/state/", 7) != 0) return REAL(execve)(path, words, environment);
  for (int at = 0; environment[at] && count < 255; at++)
    if (strncmp(environment[at], "LD_PRELOAD=", 11) != 0) kept[count++] = environment[at];
  kept[count] = NULL;
  return REAL(execve)(path, words, kept);
}
