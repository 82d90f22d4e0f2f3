import * as antiSpoofing from './anti-spoofing.ts'
import { bridgeWith } from './verbs.ts'

/** The plugin with everything loaded. */
export const bridge = bridgeWith(() => antiSpoofing)
