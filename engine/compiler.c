/* A program for the build: JavaScript on stdin, bytecode on stdout. */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>

int main(void)
{
  size_t size = 0, room = 1 << 20, got;
  char *text = malloc(room + 1);
  while (text && (got = fread(text + size, 1, room - size, stdin)) > 0)
    if ((size += got) == room) text = realloc(text, (room *= 2) + 1);
  if (!text) return 1;
  text[size] = 0;
  JSContext *context = new_context();
  JSValue code = JS_Eval(context, text, size, "plugin", JS_EVAL_FLAG_COMPILE_ONLY | JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_STRIP);
  if (JS_IsException(code)) return give_up(context);
  const uint8_t *bytecode = JS_WriteObject(context, &size, code, JS_WRITE_OBJ_BYTECODE);
  return bytecode && fwrite(bytecode, 1, size, stdout) == size && fflush(stdout) == 0 ? 0 : 1;
}
