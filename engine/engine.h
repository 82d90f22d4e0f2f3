#ifndef ENGINE_H
#define ENGINE_H

#include "quickjs.h"

/* A name that the executable may be started by, and the bytecode that it then runs; scripts/plugins.mjs makes the list. */
struct program {
  const char *name;
  const uint8_t *code, *end;
};

/* The last has no name. */
extern const struct program programs[];

/* engine.c */
JSContext *new_context(void);
void define_engine(JSContext *context);
int give_up(JSContext *context);
const uint8_t *bytes_of(JSContext *context, JSValueConst view, size_t *length);

/* memory.c */
extern const JSMallocFunctions memory;

/* program.c: engine.runProgram */
JSValue run_program(JSContext *context, JSValueConst self, int count, JSValueConst *values);

#endif
