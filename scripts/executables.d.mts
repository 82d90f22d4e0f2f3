export declare const image: string
export declare const pluginNames: readonly string[]
export declare const executableNames: readonly string[]
