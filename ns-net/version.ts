declare const NS_NET_VERSION: string | undefined // defined by scripts/bundle.mjs

/** Of package.json; `development` when the sources run. */
export const version = (): string => (typeof NS_NET_VERSION === 'undefined' ? 'development' : NS_NET_VERSION)
