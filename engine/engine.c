/*
 * QuickJS, and what JavaScript cannot do by itself, which is the object `engine` (its types: engine.ts). What a plugin does
 * is written in TypeScript; nothing here knows of CNI.
 */
#include "engine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* The C library, as netlink-lib/libc.ts asks for it; every call has at most six arguments and returns an int's worth. */
typedef long call(long, long, long, long, long, long);

/* The two that not every C library has. */
static long system_getdents64(long fd, long entries, long size)
{
  return syscall(SYS_getdents64, fd, entries, size);
}
static long system_statx(long directory, long path, long flags, long mask, long status)
{
  return syscall(SYS_statx, directory, path, flags, mask, status);
}

static const struct { const char *name; call *function; } calls[] = {
#define CALL(name) { #name, (call *)(void *)name }
  CALL(access), CALL(bind), CALL(close), CALL(flock), CALL(ftruncate), CALL(getsockopt), CALL(ioctl),
  CALL(mkdir), CALL(mount), CALL(nanosleep), CALL(open), CALL(read), CALL(recv), CALL(rename), CALL(rmdir), CALL(send),
  CALL(sendto), CALL(setns), CALL(setsockopt), CALL(socket), CALL(umount2), CALL(unlink), CALL(unshare),
  CALL(utimensat), CALL(write),
  { "getdents64", (call *)(void *)system_getdents64 }, { "statx", (call *)(void *)system_statx },
};

/* errno of the last call that failed: what runs between that call and the question may change errno itself. */
static int last_errno;

/* The bytes behind a typed array; NULL with an exception for anything else. */
const uint8_t *bytes_of(JSContext *context, JSValueConst view, size_t *length)
{
  size_t offset, width, size;
  JSValue buffer = JS_GetTypedArrayBuffer(context, view, &offset, length, &width);
  if (JS_IsException(buffer)) return NULL;
  const uint8_t *bytes = JS_GetArrayBuffer(context, &size, buffer);
  JS_FreeValue(context, buffer); /* the view keeps it alive */
  return bytes + offset;
}

/* Integers are passed as they are, texts and typed arrays as pointers, null as 0. */
static JSValue call_libc(JSContext *context, JSValueConst this, int count, JSValueConst *values, int which)
{
  long arguments[6] = { 0 };
  const char *texts[6] = { 0 };
  JSValue result = JS_EXCEPTION;
  if (count > 6) return JS_ThrowRangeError(context, "%s: too many arguments", calls[which].name);
  for (int i = 0; i < count; i++) {
    size_t length;
    int64_t integer;
    if (JS_IsNull(values[i])) continue;
    if (JS_IsString(values[i])) {
      texts[i] = JS_ToCStringLen(context, &length, values[i]);
      if (!texts[i]) goto done;
      if (strlen(texts[i]) != length) { /* for C it would end at the zero and be another text */
        last_errno = EINVAL;
        result = JS_NewInt32(context, -1);
        goto done;
      }
      arguments[i] = (long)texts[i];
    } else if (JS_IsObject(values[i])) {
      const uint8_t *bytes = bytes_of(context, values[i], &length);
      if (!bytes) goto done;
      arguments[i] = (long)bytes;
    } else {
      if (JS_ToInt64(context, &integer, values[i])) goto done;
      arguments[i] = integer;
    }
  }
  int returned = (int)calls[which].function(arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
  if (returned == -1) last_errno = errno;
  result = JS_NewInt32(context, returned);
done:
  for (int i = 0; i < count; i++) if (texts[i]) JS_FreeCString(context, texts[i]);
  return result;
}

static JSValue get_errno(JSContext *context, JSValueConst this, int count, JSValueConst *values)
{
  return JS_NewInt32(context, last_errno);
}

/* Without any cleaning up: the kernel does it faster. */
static JSValue exit_now(JSContext *context, JSValueConst this, int count, JSValueConst *values)
{
  int status = 0;
  if (JS_ToInt32(context, &status, values[0])) return JS_EXCEPTION;
  _exit(status);
}

/* Milliseconds of the clock that nobody sets. */
static JSValue now(JSContext *context, JSValueConst this, int count, JSValueConst *values)
{
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return JS_NewFloat64(context, time.tv_sec * 1e3 + time.tv_nsec / 1e6);
}

static JSValue encode_utf8(JSContext *context, JSValueConst this, int count, JSValueConst *values)
{
  size_t length;
  const char *text = JS_ToCStringLen(context, &length, values[0]);
  if (!text) return JS_EXCEPTION;
  JSValue buffer = JS_NewArrayBufferCopy(context, (const uint8_t *)text, length);
  JS_FreeCString(context, text);
  return buffer;
}

static JSValue decode_utf8(JSContext *context, JSValueConst this, int count, JSValueConst *values)
{
  size_t length;
  const uint8_t *bytes = bytes_of(context, values[0], &length);
  return bytes ? JS_NewStringLen(context, (const char *)bytes, length) : JS_EXCEPTION;
}

/* JSON.parse without its second argument. QuickJS parses by recursion, so what is nested too deeply must not reach it. */
static JSValue parse_json(JSContext *context, JSValueConst this, int count, JSValueConst *values)
{
  const int deepest = 5000;
  size_t length;
  const char *text = JS_ToCStringLen(context, &length, values[0]);
  if (!text) return JS_EXCEPTION;
  int depth = 0, in_text = 0;
  for (size_t i = 0; i < length && depth <= deepest; i++) {
    if (in_text) {
      if (text[i] == '\\') i++;
      else if (text[i] == '"') in_text = 0;
    } else if (text[i] == '"') in_text = 1;
    else if (text[i] == '[' || text[i] == '{') depth++;
    else if (text[i] == ']' || text[i] == '}') depth--;
  }
  JSValue value = depth > deepest ? JS_ThrowSyntaxError(context, "nested more than %d levels deep", deepest)
                                  : JS_ParseJSON(context, text, length, "<JSON>");
  JS_FreeCString(context, text);
  return value;
}

static void define(JSContext *context, JSValueConst object, const char *name, JSCFunction *function, int length)
{
  JS_SetPropertyStr(context, object, name, JS_NewCFunction(context, function, name, length));
}

static JSValue environment(JSContext *context)
{
  JSValue object = JS_NewObjectProto(context, JS_NULL);
  for (char **variable = environ; *variable; variable++) {
    const char *equals = strchr(*variable, '=');
    if (!equals) continue;
    JSAtom name = JS_NewAtomLen(context, *variable, equals - *variable);
    /* Of a name that is there twice the first counts, as for getenv(3). */
    if (!JS_HasProperty(context, object, name))
      JS_DefinePropertyValue(context, object, name, JS_NewString(context, equals + 1), JS_PROP_C_W_E);
    JS_FreeAtom(context, name);
  }
  return object;
}

void define_engine(JSContext *context)
{
  JSValue global = JS_GetGlobalObject(context), engine = JS_NewObject(context), libc = JS_NewObject(context);
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
    JS_SetPropertyStr(context, libc, calls[i].name,
                      JS_NewCFunctionMagic(context, call_libc, calls[i].name, 0, JS_CFUNC_generic_magic, i));
  JS_SetPropertyStr(context, engine, "libc", libc);
  JS_SetPropertyStr(context, engine, "environment", environment(context));
  JS_SetPropertyStr(context, engine, "pid", JS_NewInt32(context, getpid()));
  define(context, engine, "errno", get_errno, 0);
  define(context, engine, "exit", exit_now, 1);
  define(context, engine, "now", now, 0);
  define(context, engine, "encodeUtf8", encode_utf8, 1);
  define(context, engine, "decodeUtf8", decode_utf8, 1);
  define(context, engine, "parseJson", parse_json, 1);
  define(context, engine, "runProgram", run_program, 1);
  char path[4096];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  JS_SetPropertyStr(context, engine, "path", JS_NewStringLen(context, path, length < 0 ? 0 : length));
  JS_SetPropertyStr(context, global, "engine", engine);
  JS_FreeValue(context, global);
}

/* What our code uses of the language; an intrinsic that is not made is 30 to 100 µs less to wait for. */
JSContext *new_context(void)
{
  JSRuntime *runtime = JS_NewRuntime2(&memory, NULL);
  JSContext *context = runtime ? JS_NewContextRaw(runtime) : NULL;
  if (!context) {
    fprintf(stderr, "out of memory\n");
    exit(1);
  }
  JS_SetGCThreshold(runtime, 64 << 20); /* few calls make as much that cycles are worth looking for */
  JS_SetMaxStackSize(runtime, 4 << 20);
  JS_AddIntrinsicBaseObjects(context);
  JS_AddIntrinsicDate(context);
  JS_AddIntrinsicEval(context);
  JS_AddIntrinsicRegExpCompiler(context);
  JS_AddIntrinsicRegExp(context);
  JS_AddIntrinsicJSON(context);
  JS_AddIntrinsicMapSet(context);
  JS_AddIntrinsicTypedArrays(context);
  JS_AddIntrinsicPromise(context); /* AggregateError comes with it */
  JS_AddIntrinsicBigInt(context);
  return context;
}

/* Ends the process with what JavaScript threw and nobody caught. */
int give_up(JSContext *context)
{
  JSValue thrown = JS_GetException(context), stack = JS_GetPropertyStr(context, thrown, "stack");
  const char *text = JS_ToCString(context, thrown), *places = JS_ToCString(context, stack);
  fprintf(stderr, "%s\n%s", text ? text : "unknown error", places ? places : "");
  return 70; /* EX_SOFTWARE of sysexits.h */
}
