/** Path of bun's real binary, the one that ns-net is made of. */
export declare function findBun(): string
export declare function bundle(entry: string, ...options: readonly string[]): void
