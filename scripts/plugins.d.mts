export declare function linkPrograms(target: string, programs: Readonly<Record<string, string>>): void
