// libc-calls.ts as a plugin is compiled.
import '../engine/globals.ts'
import './libc-calls.ts'
