export declare const image: string
export declare const pluginImage: string
export declare const pluginFolders: Readonly<Record<string, string>>
export declare const pluginNames: readonly string[]
export declare const executableNames: readonly string[]
