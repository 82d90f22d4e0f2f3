import { serve } from '../contract/serve.ts'
import { bridgeWith } from './verbs.ts'

declare const require: (path: string) => unknown // Bun's loads modules of every kind, at once

export const call = (): never =>
  serve(bridgeWith(() => require('./anti-spoofing.ts') as typeof import('./anti-spoofing.ts')))
