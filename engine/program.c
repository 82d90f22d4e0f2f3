/* Runs another program to its end: what it is given on stdin, what it prints, how it ends (types: globals.ts). */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct text {
  char *bytes;
  size_t length, room;
};

static long milliseconds(void)
{
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* Reads what is there. 0 at the end, -1 when memory is out. */
static int read_some(int fd, struct text *into)
{
  if (into->length == into->room) {
    size_t room = into->room ? into->room * 2 : 65536;
    char *bytes = realloc(into->bytes, room);
    if (!bytes) return -1;
    into->bytes = bytes;
    into->room = room;
  }
  ssize_t size = read(fd, into->bytes + into->length, into->room - into->length);
  if (size < 0) return errno == EINTR || errno == EAGAIN ? 1 : 0;
  into->length += size;
  return size > 0;
}

static void close_end(int *fd)
{
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

/*
 * Feeds the input and collects both outputs until all are closed. Returns 0, or the errno of what went wrong: EPIPE when
 * the program closed its stdin early, ETIMEDOUT when it was still there at the deadline.
 */
static int converse(int ends[3], const uint8_t *input, size_t left, struct text outputs[2], long deadline)
{
  int failure = 0;
  while (ends[0] >= 0 || ends[1] >= 0 || ends[2] >= 0) {
    if (ends[0] >= 0 && left == 0) {
      close_end(&ends[0]);
      continue;
    }
    struct pollfd waiting[3] = { { ends[0], POLLOUT, 0 }, { ends[1], POLLIN, 0 }, { ends[2], POLLIN, 0 } };
    long rest = deadline < 0 ? -1 : deadline - milliseconds();
    if (deadline >= 0 && rest <= 0) return ETIMEDOUT;
    if (poll(waiting, 3, rest) < 0 && errno != EINTR) return errno;
    if (waiting[0].revents) {
      ssize_t size = write(ends[0], input, left);
      if (size >= 0) {
        input += size;
        left -= size;
      } else if (errno != EAGAIN && errno != EINTR) {
        failure = errno;
        close_end(&ends[0]);
      }
    }
    for (int i = 1; i <= 2; i++) {
      if (!waiting[i].revents) continue;
      int more = read_some(ends[i], &outputs[i - 1]);
      if (more < 0) return ENOMEM;
      if (more == 0) close_end(&ends[i]);
    }
  }
  return failure;
}

/* The texts of an array, with a NULL at the end; NULL with an exception when memory is out. */
static char **texts_of(JSContext *context, JSValueConst array)
{
  int32_t length = 0;
  JSValue size = JS_GetPropertyStr(context, array, "length");
  if (JS_ToInt32(context, &length, size)) return NULL;
  char **texts = calloc(length + 1, sizeof *texts);
  for (int32_t i = 0; texts && i < length; i++) {
    JSValue element = JS_GetPropertyUint32(context, array, i);
    const char *text = JS_ToCString(context, element);
    texts[i] = text ? strdup(text) : NULL;
    JS_FreeCString(context, text);
    JS_FreeValue(context, element);
    if (!texts[i]) return NULL;
  }
  if (!texts) JS_ThrowOutOfMemory(context);
  return texts;
}

static void free_texts(char **texts)
{
  for (char **text = texts; text && *text; text++) free(*text);
  free(texts);
}

static int number(JSContext *context, JSValueConst object, const char *name)
{
  int32_t value = -1;
  JSValue property = JS_GetPropertyStr(context, object, name);
  JS_ToInt32(context, &value, property);
  return value;
}

/* Starts the program with three pipes; ends[] are ours. Returns 0 or an errno. */
static int start(pid_t *pid, const char *file, char **arguments, char **environment, int pass_stderr, int keep, int ends[3])
{
  int pipes[3][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 } }, failure = 0;
  for (int i = 0; i < (pass_stderr ? 2 : 3) && !failure; i++)
    if (pipe2(pipes[i], O_CLOEXEC) < 0) failure = errno;
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_adddup2(&actions, pipes[0][0], 0);
  posix_spawn_file_actions_adddup2(&actions, pipes[1][1], 1);
  if (!pass_stderr) posix_spawn_file_actions_adddup2(&actions, pipes[2][1], 2);
  if (keep >= 0) posix_spawn_file_actions_adddup2(&actions, keep, 3); /* last: a pipe may have been 3 */
  sigset_t ours;
  sigemptyset(&ours);
  sigaddset(&ours, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &ours);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  if (!failure) failure = posix_spawn(pid, file, &actions, &attributes, arguments, environment);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  for (int i = 0; i < 3; i++) {
    int theirs = i == 0 ? 0 : 1;
    close_end(&pipes[i][theirs]);
    if (failure) close_end(&pipes[i][1 - theirs]);
    ends[i] = pipes[i][1 - theirs];
  }
  if (!failure) fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return failure;
}

JSValue run_program(JSContext *context, JSValueConst self, int count, JSValueConst *values)
{
  JSValueConst given = values[0];
  JSValue arguments = JS_GetPropertyStr(context, given, "command"), variables = JS_GetPropertyStr(context, given, "environment");
  JSValue input = JS_GetPropertyStr(context, given, "input");
  char **command = texts_of(context, arguments), **environment = texts_of(context, variables);
  size_t size;
  const uint8_t *bytes = bytes_of(context, input, &size);
  JSValue answer = JS_EXCEPTION;
  if (!command || !environment || !bytes) goto done;

  int ends[3], timeout = number(context, given, "timeoutMs"), status = 0;
  pid_t pid;
  struct text outputs[2] = { 0 };
  int failure = start(&pid, command[0], command, environment, number(context, given, "passStderr"),
                      number(context, given, "keepFd"), ends);
  if (!failure) {
    failure = converse(ends, bytes, size, outputs, timeout < 0 ? -1 : milliseconds() + timeout);
    for (int i = 0; i < 3; i++) close_end(&ends[i]);
    if (failure && failure != EPIPE) kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  }
  answer = JS_NewObject(context);
  JS_SetPropertyStr(context, answer, "errno", JS_NewInt32(context, failure));
  JS_SetPropertyStr(context, answer, "status", JS_NewInt32(context, WIFEXITED(status) ? WEXITSTATUS(status) : -1));
  JS_SetPropertyStr(context, answer, "signal", JS_NewInt32(context, WIFSIGNALED(status) ? WTERMSIG(status) : 0));
  JS_SetPropertyStr(context, answer, "stdout", JS_NewStringLen(context, outputs[0].bytes, outputs[0].length));
  JS_SetPropertyStr(context, answer, "stderr", JS_NewStringLen(context, outputs[1].bytes, outputs[1].length));
  free(outputs[0].bytes);
  free(outputs[1].bytes);
done:
  free_texts(command);
  free_texts(environment);
  JS_FreeValue(context, arguments);
  JS_FreeValue(context, variables);
  JS_FreeValue(context, input);
  return answer;
}
