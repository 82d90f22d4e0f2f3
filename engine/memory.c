/*
 * Memory for a process that lives some milliseconds: blocks are cut from chunks one behind the other, and what is freed
 * waits, by its size, to be given out again. Nothing goes back to the kernel before the process ends. The C library's
 * malloc, and the faults of pages that are fetched together here, took an eighth of a call.
 */
#include "engine.h"

#include <string.h>
#include <sys/mman.h>

struct block {
  size_t size; /* with this header; a multiple of 16 up to small, a power of two beyond */
  struct block *next; /* where free: the data of a used block begins here */
};

enum { header = sizeof(size_t), small = 1024, first_chunk = 512 << 10, later_chunk = 1 << 20 };

static struct block *free_blocks[small / 16 + 64];
static char *unused, *end;

static size_t rounded(size_t size)
{
  size_t whole = (size + header + 15) & ~(size_t)15;
  return whole <= small ? whole : (size_t)1 << (64 - __builtin_clzl(whole - 1));
}

static struct block **free_list(size_t rounded_size)
{
  return &free_blocks[rounded_size <= small ? rounded_size / 16 : small / 16 + 63 - __builtin_clzl(rounded_size)];
}

/* A new chunk; what is left of the old one is lost. */
static int make_room(size_t size)
{
  size_t chunk = unused ? later_chunk : first_chunk;
  if (chunk < size) chunk = size;
  void *memory = mmap(0, chunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (unused ? 0 : MAP_POPULATE), -1, 0);
  if (memory == MAP_FAILED) return -1;
  unused = memory;
  end = unused + chunk;
  return 0;
}

static void *allocate(JSMallocState *state, size_t size)
{
  if (size == 0 || size > (size_t)1 << 40) return NULL;
  size_t whole = rounded(size);
  struct block **list = free_list(whole), *block = *list;
  if (block) {
    *list = block->next;
    return &block->next;
  }
  if ((size_t)(end - unused) < whole && make_room(whole) < 0) return NULL;
  block = (struct block *)unused;
  unused += whole;
  block->size = whole;
  return &block->next;
}

static void release(JSMallocState *state, void *data)
{
  if (!data) return;
  struct block *block = (struct block *)((char *)data - header), **list = free_list(block->size);
  block->next = *list;
  *list = block;
}

static void *resize(JSMallocState *state, void *data, size_t size)
{
  if (!data) return allocate(state, size);
  if (size == 0) {
    release(state, data);
    return NULL;
  }
  size_t room = ((struct block *)((char *)data - header))->size - header;
  if (size <= room) return data;
  void *larger = allocate(state, size);
  if (larger) {
    memcpy(larger, data, room);
    release(state, data);
  }
  return larger;
}

const JSMallocFunctions memory = { allocate, release, resize, NULL };
