/** Blocks the thread: plugins are synchronous, and what they wait for is done by the kernel or another process. */
export function pause(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}
