import { serve } from '../contract/serve.ts'
import { nat } from './nat.ts'

export const call = (): never => serve(nat)
