/*
 * A plugin's process. The bytecode of all plugins is in this one executable; which is run depends on the name that it was
 * started by.
 */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* Whatever is opened must not become a file that somebody takes for stdin, stdout or stderr. */
static void open_standard_files(void)
{
  for (int fd = 0; fd <= 2; fd++)
    if (fcntl(fd, F_GETFD) == -1 && errno == EBADF) open("/dev/null", O_RDWR);
}

int main(int argc, char **argv)
{
  open_standard_files();
  signal(SIGPIPE, SIG_IGN); /* write(2) says it as well */
  const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
  const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "";
  for (const struct program *program = programs; program->name; program++) {
    if (strcmp(program->name, name) != 0) continue;
    JSContext *context = new_context();
    define_engine(context);
    JSValue code = JS_ReadObject(context, program->code, program->end - program->code, JS_READ_OBJ_BYTECODE);
    if (JS_IsException(code) || JS_IsException(JS_EvalFunction(context, code))) return give_up(context);
    return 0;
  }
  fprintf(stderr, "%s: there is no plugin of this name; they are", name);
  for (const struct program *program = programs; program->name; program++) fprintf(stderr, " %s", program->name);
  fprintf(stderr, "\n");
  return 2;
}
