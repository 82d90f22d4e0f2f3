/** Path of bun's real binary, the one that the image is made of. */
export declare function findBun(): string
export declare function build(): void
